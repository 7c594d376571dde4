package account

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
	"p2psip/overlay"
)

const (
	// DefaultExpires is asked for when nothing else is said (RFC 3261 §10.2.1.1).
	DefaultExpires = time.Hour
	// MinExpires and MaxExpires bound what is asked for, and what a provider's Min-Expires may raise it to.
	MinExpires = time.Minute
	MaxExpires = 7 * 24 * time.Hour

	maxText = 256 // bytes of a name, password or URI
)

// Contact says what is registered with the provider as the contact of the public address.
type Contact string

// Kinds of Contact.
const (
	// ContactOverlay is the overlay URL, sip:alice@p2psip.example (draft §4.2): calls come in through any proxy peer.
	ContactOverlay Contact = "overlay"
	// ContactAddress is the public address of the proxy peer that the REGISTER goes through, for providers that take no
	// domain: calls come in through that one only, and are lost from its death until the next REGISTER, which follows within
	// seconds where the node notices. Inside a call the provider still has to follow a route that names the overlay, as
	// proxy peers record nothing else (draft §3.1).
	ContactAddress Contact = "address"
)

// Account is a user's account with a SIP provider.
type Account struct {
	AOR       string        `json:"aor"`                 // the public address: "sip:alice@provider.example"
	User      string        `json:"user"`                // whose phones it belongs to: the user part in the overlay
	AuthUser  string        `json:"auth_user,omitempty"` // for digest; "": the user part of AOR
	Password  string        `json:"password"`
	Realm     string        `json:"realm,omitempty"`     // the only one to answer; "": that of the first registration
	Registrar string        `json:"registrar,omitempty"` // URI that REGISTER is sent to; "": "sip:" and the domain of AOR
	Proxy     string        `json:"proxy,omitempty"`     // URI of the provider's proxy, the first hop outside; "": none
	Expires   time.Duration `json:"expires_ns,omitempty"`
	Contact   Contact       `json:"contact,omitempty"` // "": ContactOverlay
	Prefix    string        `json:"prefix,omitempty"`  // a call that is dialled with it goes out as AOR
	Default   bool          `json:"default,omitempty"` // every call that leaves the overlay goes out as AOR
	Added     time.Time     `json:"added"`
}

// ErrBadAccount is wrapped by every error about the content of an account.
var ErrBadAccount = errors.New("not an account")

// Check says what is wrong with an account of a user of the overlay oid, and brings it into its canonical form.
func (a *Account) Check(oid overlay.ID) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrBadAccount}, args...)...)
	}
	uri, err := ParseAddress(a.AOR)
	if err != nil {
		return bad("%w", err)
	}
	if strings.EqualFold(uri.Host, string(oid)) {
		return bad("%s is an address of this overlay; an account is for an address at a provider", clip(a.AOR))
	}
	a.AOR = uri.String()
	user, err := oid.AOR(a.User)
	if err != nil {
		return bad("the user it belongs to: %w", err)
	}
	a.User = user.User()
	for _, t := range []struct{ what, text string }{
		{"the name for the password", a.AuthUser}, {"the password", a.Password}, {"the realm", a.Realm},
	} {
		if len(t.text) > maxText || strings.ContainsFunc(t.text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return bad("%s has more than %d bytes, or control characters", t.what, maxText)
		}
	}
	if a.Password == "" {
		return bad("the password is empty")
	}
	for _, t := range []struct {
		what string
		uri  *string
	}{{"the registrar", &a.Registrar}, {"the proxy", &a.Proxy}} {
		if *t.uri != "" {
			u, err := parseServer(*t.uri, oid)
			if err != nil {
				return bad("%s: %w", t.what, err)
			}
			*t.uri = u.String()
		}
	}
	if a.Expires != 0 && (a.Expires < MinExpires || a.Expires > MaxExpires || a.Expires%time.Second != 0) {
		return bad("it would be registered for %v; from %v to %v is possible", a.Expires, MinExpires, MaxExpires)
	}
	if a.Contact != "" && a.Contact != ContactOverlay && a.Contact != ContactAddress {
		return bad("the contact is %q, not %s or %s", clip(string(a.Contact)), ContactOverlay, ContactAddress)
	}
	if len(a.Prefix) > 16 || strings.Trim(a.Prefix, "0123456789*#+-.abcdefghijklmnopqrstuvwxyz") != "" {
		return bad("the prefix %q is not up to 16 digits, lower-case letters, * # + - or .", clip(a.Prefix))
	}
	return nil
}

// ParseAddress reads a public address, "sip:user@domain", without anything else.
func ParseAddress(s string) (sip.Uri, error) {
	u, err := message.ParseURI(s)
	switch {
	case len(s) > maxText || err != nil || u.Scheme != "sip" && u.Scheme != "sips":
		return u, fmt.Errorf("%q is no address such as sip:alice@provider.example", clip(s))
	case u.User == "" || u.Password != "" || strings.Contains(u.User, ":"):
		return u, fmt.Errorf("%q has to have a user part, and no password in it", clip(s))
	case u.Port != 0 || len(u.UriParams) > 0 || len(u.Headers) > 0:
		return u, fmt.Errorf("%q has a port, parameters or headers; the provider's server can be named with --registrar or --proxy", clip(s))
	}
	u.Host = strings.ToLower(strings.TrimSuffix(u.Host, "."))
	return u, nil
}

// parseServer reads the URI of a provider's server. "sip:" may be left out.
func parseServer(s string, oid overlay.ID) (sip.Uri, error) {
	if !strings.HasPrefix(strings.ToLower(s), "sip:") && !strings.HasPrefix(strings.ToLower(s), "sips:") {
		s = "sip:" + s
	}
	u, err := message.ParseURI(s)
	switch {
	case len(s) > maxText || err != nil:
		return u, fmt.Errorf("%q is no server such as sip.provider.example or sip:sip.provider.example:5061;transport=tls", clip(s))
	case u.User != "" || u.Password != "" || len(u.Headers) > 0:
		return u, fmt.Errorf("%q has a user part or headers; a server has none", clip(s))
	case strings.EqualFold(u.Host, string(oid)) || strings.HasSuffix(strings.ToLower(u.Host), "."+string(oid)):
		return u, fmt.Errorf("%q is in this overlay", clip(s))
	}
	u.UriParams = u.UriParams.Clone()
	u.UriParams.Remove("lr") // added where it belongs
	return u, nil
}

// uri gives the public address as a URI. The account has been checked.
func (a *Account) uri() sip.Uri {
	u, _ := ParseAddress(a.AOR)
	return u
}

// registrar gives the Request-URI of a REGISTER.
func (a *Account) registrar(oid overlay.ID) sip.Uri {
	if a.Registrar != "" {
		u, _ := parseServer(a.Registrar, oid)
		return u
	}
	u := a.uri()
	return sip.Uri{Scheme: u.Scheme, Host: u.Host}
}

// route gives the value of the Route header that leads to the provider's proxy, "" for none.
func (a *Account) route() string { return loose(a.Proxy) }

// loose writes a URI of this package's making as a Route value (RFC 3261 §20.34).
func loose(uri string) string {
	if uri == "" {
		return ""
	}
	return "<" + uri + ";lr>"
}

func (a *Account) authUser() string {
	if a.AuthUser != "" {
		return a.AuthUser
	}
	return a.uri().User
}

func (a *Account) expires() time.Duration {
	if a.Expires != 0 {
		return a.Expires
	}
	return DefaultExpires
}

// clip keeps hostile text out of errors and status.
func clip(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
}
