package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// maxDomain is the longest domain name in text form (RFC 1035 §3.1).
const maxDomain = 253

// ID is the P2PSIP overlay identifier (draft §2.1): the domain name that is the host part of every URI in the overlay,
// in lower case and without a trailing dot. Make one with ParseID.
type ID string

// ErrBadID is wrapped by every error that ParseID returns.
var ErrBadID = errors.New("not an overlay identifier")

// ParseID checks and normalises an overlay identifier.
//
// An overlay that wants to be reached from the public SIP network needs an identifier that the DNS can carry, so it has
// to be a fully qualified domain name (draft §2.1): an IP address or a single label is refused. An isolated overlay
// promises never to interconnect; only then a single label will do. An IP address is refused there too, because SIP
// elements on the way would take it for a place to send to.
func ParseID(s string, isolated bool) (ID, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	if name == "" {
		return "", fmt.Errorf("%w: it is empty", ErrBadID)
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return "", fmt.Errorf("%w: %q is an IP address; an overlay is named by a domain name such as p2psip.example", ErrBadID, s)
	}
	if len(name) > maxDomain {
		return "", fmt.Errorf("%w: %d characters, a domain name has at most %d", ErrBadID, len(name), maxDomain)
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if err := checkLabel(l); err != nil {
			return "", fmt.Errorf("%w: %q: %v", ErrBadID, s, err)
		}
	}
	last := labels[len(labels)-1]
	if strings.Trim(last, "0123456789") == "" {
		return "", fmt.Errorf("%w: %q ends in digits only, which reads as an IP address", ErrBadID, s)
	}
	if len(labels) == 1 && !isolated {
		return "", fmt.Errorf("%w: %q is a single label, which the public DNS cannot carry; use a domain name such as %s.example, or declare the overlay isolated", ErrBadID, s, name)
	}
	return ID(name), nil
}

// checkLabel applies the host name syntax of RFC 1123 §2.1, the one that SIP's hostname uses (RFC 3261 §25.1).
func checkLabel(l string) error {
	switch {
	case l == "":
		return errors.New("it has an empty label")
	case len(l) > 63:
		return fmt.Errorf("the label %.10s… has %d characters, 63 are allowed", l, len(l))
	case l[0] == '-' || l[len(l)-1] == '-':
		return fmt.Errorf("the label %q begins or ends with a hyphen", l)
	}
	for i := range len(l) {
		c := l[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("the character %q does not belong in a domain name", rune(c))
		}
	}
	return nil
}

// AOR gives the address of record of a user of this overlay.
func (id ID) AOR(user string) (AOR, error) { return newAOR(user, id) }

// String gives the identifier as a domain name.
func (id ID) String() string { return string(id) }
