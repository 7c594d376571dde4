package overlay

import (
	"errors"
	"fmt"
	"strings"
)

// maxUser bounds the user part of an address of record, in bytes of its canonical form.
const maxUser = 128

// AOR is a P2PSIP overlay user identifier (draft §4.1): a well-formed SIP URI whose host part is the overlay identifier
// and whose user part is set. It is comparable; two spellings of one address (RFC 3261 §19.1.4) give equal values. The
// zero AOR is no address.
type AOR struct {
	user string // canonical: %-escapes only where they are needed, their digits in upper case
	host ID
}

// ErrBadAOR is wrapped by every error about the form of a user identifier.
var ErrBadAOR = errors.New("not a user identifier of an overlay")

// ParseAOR reads "sip:user@host". The scheme is sip (a record stands for sips too, so it needs no spelling of its own);
// password, port, parameters and headers have no place in a user identifier and are refused.
func ParseAOR(s string) (AOR, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !strings.EqualFold(scheme, "sip") {
		return AOR{}, fmt.Errorf("%w: %q lacks the scheme sip: in front", ErrBadAOR, clip(s))
	}
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return AOR{}, fmt.Errorf("%w: %q has no user part; write sip:user@domain", ErrBadAOR, clip(s))
	}
	user, host := rest[:at], rest[at+1:]
	if i := strings.IndexAny(host, ";?:"); i >= 0 {
		return AOR{}, fmt.Errorf("%w: %q has a port, parameters or headers after the domain", ErrBadAOR, clip(s))
	}
	id, err := ParseID(host, true)
	if err != nil {
		return AOR{}, fmt.Errorf("%w: %w", ErrBadAOR, err)
	}
	return newAOR(user, id)
}

// newAOR canonicalises the user part: an escape of a character that needs none is undone, the others get upper-case
// digits (RFC 3261 §19.1.4 compares them so).
func newAOR(user string, id ID) (AOR, error) {
	if user == "" {
		return AOR{}, fmt.Errorf("%w: the user part is empty; write sip:user@%s", ErrBadAOR, id)
	}
	if len(user) > 3*maxUser {
		return AOR{}, fmt.Errorf("%w: a user part of %d bytes, %d are allowed", ErrBadAOR, len(user), maxUser)
	}
	if id == "" {
		return AOR{}, fmt.Errorf("%w: it has no domain", ErrBadAOR)
	}
	var b strings.Builder
	for i := 0; i < len(user); i++ {
		c := user[i]
		escaped := false
		if c == '%' {
			if i+2 >= len(user) || !isHex(user[i+1]) || !isHex(user[i+2]) {
				return AOR{}, fmt.Errorf("%w: the user part %q has a %% that escapes nothing", ErrBadAOR, clip(user))
			}
			c = unhex(user[i+1])<<4 | unhex(user[i+2])
			escaped = true
			i += 2
		}
		switch {
		case plainUserByte(c):
			b.WriteByte(c)
		case escaped:
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			return AOR{}, fmt.Errorf("%w: the user part %q has the character %q, which must be written %%%02X", ErrBadAOR, clip(user), rune(c), c)
		}
	}
	if b.Len() > maxUser {
		return AOR{}, fmt.Errorf("%w: a user part of %d bytes, %d are allowed", ErrBadAOR, b.Len(), maxUser)
	}
	return AOR{user: b.String(), host: id}, nil
}

// plainUserByte says whether a byte stands for itself in a user part: unreserved and user-unreserved of RFC 3261 §25.1.
func plainUserByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("-_.!~*'()&=+$,;?/", c) >= 0
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

// User gives the user part in canonical form.
func (a AOR) User() string { return a.user }

// Host gives the overlay identifier that the address belongs to.
func (a AOR) Host() ID { return a.host }

// IsZero says that a is no address.
func (a AOR) IsZero() bool { return a == AOR{} }

// String gives the canonical URI, "sip:user@host".
func (a AOR) String() string { return "sip:" + a.user + "@" + string(a.host) }

// clip keeps hostile text from filling a log line.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
