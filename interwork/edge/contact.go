package edge

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

const (
	maxContactBytes = 1024 // one Contact value as it will be stored and listed
	malformedExpiry = time.Hour
)

// claim is one Contact of a REGISTER, read strictly: what the phone asks for, before anything is decided.
type claim struct {
	uri      sip.Uri
	display  string
	params   sip.HeaderParams // without q and expires
	q        uint16           // thousandths
	instance string           // +sip.instance without quotes, "" if none
	regID    int              // reg-id of an outbound flow (RFC 5626 §4.2), 0 if none
	expires  time.Duration    // 0: remove
	asked    bool             // the phone named a time
}

// refusal is a response instead of a registration.
type refusal struct {
	status int
	reason string // "" for the usual phrase
	// warning goes into a Warning header (RFC 3261 §20.43) for the person who sets up the phone.
	warning string
	headers []sip.Header
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%d %s %s", r.status, r.reason, r.warning)
}

func refuse(status int, reason, format string, args ...any) *refusal {
	return &refusal{status: status, reason: reason, warning: fmt.Sprintf(format, args...)}
}

// readClaims reads the Contacts of a REGISTER (RFC 3261 §10.2.1, §10.3 step 6). all is true for "Contact: *", which
// removes every binding. Without any Contact both results are zero: the phone only asks what is registered.
func readClaims(req *sip.Request, def time.Duration, max int) (claims []claim, all bool, bad *refusal) {
	header, hasHeader, bad := expiresHeader(req)
	if bad != nil {
		return nil, false, bad
	}
	contacts := message.Contacts(req)
	for _, h := range contacts {
		if !h.Address.Wildcard {
			continue
		}
		if len(contacts) > 1 {
			return nil, false, refuse(400, "Contact * Not Alone", "Contact: * removes all bindings and stands alone")
		}
		if !hasHeader || header != 0 {
			return nil, false, refuse(400, "Contact * Needs Expires: 0", "Contact: * only goes with Expires: 0")
		}
		return nil, true, nil
	}
	// Twice as many: a phone may take its old contacts out in the request that brings the new ones.
	if len(contacts) > 2*max {
		return nil, false, refuse(403, "Too Many Contacts", "%d contacts in one request, %d are allowed", len(contacts), 2*max)
	}
	for _, h := range contacts {
		if n := len(h.Value()); n > maxContactBytes {
			return nil, false, refuse(400, "Contact Too Long", "a contact of %d bytes, %d are allowed", n, maxContactBytes)
		}
		c, bad := readClaim(h)
		if bad != nil {
			return nil, false, bad
		}
		if !c.asked {
			c.expires = def
			if hasHeader {
				c.expires, c.asked = header, true
			}
		}
		for _, other := range claims {
			if equalURI(other.uri, c.uri) {
				return nil, false, refuse(400, "Contact Twice", "two equal contacts in one request")
			}
		}
		claims = append(claims, c)
	}
	return claims, false, nil
}

func readClaim(h *sip.ContactHeader) (claim, *refusal) {
	c := claim{uri: h.Address, display: h.DisplayName, q: 1000}
	if c.uri.Scheme != "sip" && c.uri.Scheme != "sips" {
		return c, refuse(400, "Contact Is Not a SIP URI", "a contact of the scheme %q cannot be reached here", clip(c.uri.Scheme))
	}
	for _, kv := range h.Params {
		switch strings.ToLower(kv.K) {
		case "q":
			q, ok := parseQ(kv.V)
			if !ok {
				return c, refuse(400, "Malformed q", "q=%s is not between 0 and 1 with at most three digits after the point", clip(kv.V))
			}
			c.q = q
			continue
		case "expires":
			c.expires, c.asked = parseExpires(kv.V), true
			continue
		case "+sip.instance":
			c.instance = strings.Trim(kv.V, `"`)
		case "reg-id":
			n, err := strconv.ParseUint(kv.V, 10, 31)
			if err != nil || n == 0 {
				return c, refuse(400, "Malformed reg-id", "reg-id=%s is not between 1 and 2147483647", clip(kv.V))
			}
			c.regID = int(n)
		case "pub-gruu", "temp-gruu":
			continue // the registrar's to say (RFC 5627 §4.2)
		}
		c.params = append(c.params, kv)
	}
	if c.instance == "" {
		c.regID = 0 // means nothing without one (RFC 5626 §6)
	}
	return c, nil
}

// expiresHeader reads the Expires header, which holds for every Contact without a parameter of its own.
func expiresHeader(req *sip.Request) (d time.Duration, ok bool, bad *refusal) {
	hs := req.GetHeaders("expires")
	switch len(hs) {
	case 0:
		return 0, false, nil
	case 1:
		return parseExpires(hs[0].Value()), true, nil
	}
	return 0, false, refuse(400, "Several Expires Headers", "there may be one Expires header")
}

// parseExpires reads delta-seconds. What is malformed counts as one hour (RFC 3261 §10.2.1.1, §20.10), what is beyond
// 2^32-1 as that.
func parseExpires(s string) time.Duration {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return malformedExpiry
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		n = 1<<32 - 1
	}
	return time.Duration(n) * time.Second
}

// parseQ reads a qvalue (RFC 3261 §25.1): "0" ["." 0*3DIGIT] or "1" ["." 0*3("0")], in thousandths.
func parseQ(s string) (uint16, bool) {
	whole, frac, _ := strings.Cut(s, ".")
	if whole != "0" && whole != "1" || len(frac) > 3 || strings.Trim(frac, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(whole + frac + "000"[len(frac):])
	if err != nil || n > 1000 {
		return 0, false
	}
	return uint16(n), true
}

// formatQ is the inverse of parseQ.
func formatQ(q uint16) string {
	if q >= 1000 {
		return "1"
	}
	s := strings.TrimRight(fmt.Sprintf("0.%03d", q), "0")
	return strings.TrimSuffix(s, ".")
}
