package overlay

import "fmt"

// Role is a service that a node may offer to the others (draft §3). A plain node has none.
type Role string

// The roles of the draft.
const (
	RoleProxy Role = "proxy" // P2PSIP proxy peer, draft §3.1
	RoleRelay Role = "relay" // relay agent peer that speaks TURN, draft §3.2
)

// wellKnownScheme is the URI scheme under which a role is found (draft §3.3.1, §3.3.2; turn is RFC 7065).
var wellKnownScheme = map[Role]string{RoleProxy: "sip", RoleRelay: "turn"}

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
