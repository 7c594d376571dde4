package account

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// failure is why a registration did not come about, in words for the account's owner.
type failure struct {
	text      string
	hint      string
	permanent bool          // it will not get better by itself
	after     time.Duration // the provider asked to wait so long; 0: it did not
	elsewhere bool          // another proxy peer may do better at once
}

func (f *failure) Error() string { return f.text }

const (
	hintPassword = "remove the account and add it again with the right password; some providers give a user name of its own for this (--auth-user)"
	hintItself   = "it is tried again by itself"
)

// refusals words the responses that a REGISTER may get. A status that is not here is judged by its class.
var refusals = map[int]struct{ text, hint string }{
	400: {"the provider does not understand the registration", "if it takes no domain as a contact, add the account with --contact address"},
	403: {"the provider does not let this address register", "ask the provider whether the account is in use and may register from anywhere; a wrong user name is often answered so, too (--auth-user)"},
	404: {"the provider does not know the address, or there is no such provider", "check the spelling; a provider's registrar may have another name than its addresses (--registrar, --proxy)"},
	405: {"that server does not take registrations", "name the provider's registrar with --registrar"},
	410: {"the provider has given the address up", "ask the provider"},
	416: {"the provider does not take this kind of address", "if it takes no domain as a contact, add the account with --contact address"},
	478: {"the provider cannot resolve the contact", "publish the overlay's domain in the DNS, or add the account with --contact address"},
	501: {"that server does not take registrations", "name the provider's registrar with --registrar"},
}

// maxRetryAfter bounds what a provider may ask to wait.
const maxRetryAfter = time.Hour

// failureOf judges a final response other than 2xx.
func failureOf(res *sip.Response) *failure {
	status := res.StatusCode
	said := fmt.Sprintf("%d %s", status, clip(res.Reason))
	if h := res.GetHeader("Warning"); h != nil {
		if _, text, ok := strings.Cut(h.Value(), `"`); ok {
			said += ": " + clip(strings.TrimSuffix(text, `"`))
		}
	}
	f := &failure{hint: hintItself, after: retryAfter(res)}
	switch r, known := refusals[status]; {
	case known:
		f.text, f.hint, f.permanent = r.text+" ("+said+")", r.hint, true
	case status < 400:
		f.text, f.hint, f.permanent = "the provider wants the registration sent elsewhere ("+said+")", "ask the provider for the name of its registrar, and name it with --registrar", true
	case status == 408 || status == 480 || status == 430:
		f.text, f.elsewhere = "the provider does not answer ("+said+")", true
	case status == 503 || status == 500 || status == 502 || status == 504:
		f.text, f.elsewhere = "the provider has trouble, or cannot be reached ("+said+")", f.after == 0
	case status >= 500 && status < 600:
		f.text = "the provider has trouble (" + said + ")"
	default:
		f.text, f.hint, f.permanent = "the provider refuses the registration ("+said+")", "ask the provider", true
	}
	return f
}

// failureFor words an error met while answering a challenge.
func failureFor(err error, res *sip.Response) *failure {
	f := &failure{text: fmt.Sprintf("%v (%d %s)", err, res.StatusCode, clip(res.Reason)), permanent: true}
	switch {
	case errors.Is(err, errWrong):
		f.hint = hintPassword
	case errors.Is(err, errRealm):
		f.hint = "if the provider has changed, remove the account and add it again; the password is not shown to a realm that did not ask before"
	case errors.Is(err, errWeaker):
		f.hint = "if the provider has changed, remove the account and add it again; somebody on the way may be after the password"
	default:
		f.hint = "ask the provider how its clients log in"
	}
	return f
}

func retryAfter(res *sip.Response) time.Duration {
	h := res.GetHeader("Retry-After")
	if h == nil {
		return 0
	}
	digits, _, _ := strings.Cut(strings.TrimSpace(h.Value()), " ")
	digits, _, _ = strings.Cut(digits, ";")
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxRetryAfter)
}
