package overlay

import (
	"errors"
	"fmt"
	"strings"
)

// Role is a service that a node may offer to the others (draft §3). A plain node has none.
type Role string

// The roles of the draft.
const (
	RoleProxy Role = "proxy" // P2PSIP proxy peer, draft §3.1
	RoleRelay Role = "relay" // relay agent peer that speaks TURN, draft §3.2
)

// wellKnownScheme is the URI scheme under which a role is found (draft §3.3.1, §3.3.2; turn is RFC 7065). Other schemes
// may be asked for; nobody is found under them.
var wellKnownScheme = map[Role]string{RoleProxy: "sip", RoleRelay: "turn"}

// Roles gives the roles that this program knows.
func Roles() []Role { return []Role{RoleProxy, RoleRelay} }

// ParseRole reads "proxy" or "relay".
func ParseRole(s string) (Role, error) {
	r := Role(s)
	if _, ok := wellKnownScheme[r]; !ok {
		return "", fmt.Errorf("unknown role %q; the roles are proxy and relay", clip(s))
	}
	return r, nil
}

// URI gives the well-known URI of the role in an overlay: "sip:p2psip.example" or "turn:p2psip.example". A member
// credential that permits the role carries this URI as a subject alternative name, which for a proxy peer is also what
// RFC 5922 §7.1 asks of a domain certificate.
func (r Role) URI(id ID) string { return wellKnownScheme[r] + ":" + string(id) }

// roleOfURI is the inverse of URI.
func roleOfURI(uri string, id ID) (Role, bool) {
	for r := range wellKnownScheme {
		if r.URI(id) == uri {
			return r, true
		}
	}
	return "", false
}

// ErrBadWellKnown: a URI does not have the form of a well-known one.
var ErrBadWellKnown = errors.New("not the well-known URI of a role")

// ParseWellKnown reads the well-known URI of a role: a scheme and the overlay identifier, nothing else (draft §3.3.1). A
// URI of that form with a scheme that stands for no role, such as teredo, ends in ErrNoRole: one may ask, and nobody
// offers it (draft §3.3.2). Anything else ends in ErrBadWellKnown.
func ParseWellKnown(uri string, id ID) (Role, error) {
	scheme, host, ok := strings.Cut(uri, ":")
	if !ok || !validScheme(scheme) {
		return "", fmt.Errorf("%w: %q has no scheme", ErrBadWellKnown, clip(uri))
	}
	got, err := ParseID(host, true)
	if err != nil {
		return "", fmt.Errorf("%w: %q has more than a scheme and a domain name", ErrBadWellKnown, clip(uri))
	}
	if got != id {
		return "", fmt.Errorf("%w: %q names another overlay than %s", ErrBadWellKnown, clip(uri), id)
	}
	r, ok := roleOfURI(strings.ToLower(scheme)+":"+string(got), id)
	if !ok {
		return "", fmt.Errorf("%w: nothing is known under the scheme %s", ErrNoRole, clip(scheme))
	}
	return r, nil
}

// validScheme applies RFC 3986 §3.1.
func validScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		letter := c >= 'a' && c <= 'z'
		other := s[i] >= '0' && s[i] <= '9' || strings.IndexByte("+-.", s[i]) >= 0
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != ""
}
