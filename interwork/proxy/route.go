package proxy

import (
	"p2psip/interwork/flow"
	"p2psip/overlay"
)

// unroute prepares the routing decision (§16.4): it undoes strict routing, takes this node's own Route values off the top
// and remembers the flow token among them that leads away from where the request came from.
func (c *Core) unroute(r *request) {
	// A strict router put our Record-Route value into the Request-URI and the real target at the end of the routes.
	if n := len(r.routes); n > 0 && hasParam(&r.uri, "lr") && c.own.uri(&r.uri, r.flow) {
		own := r.uri
		ours := route{uri: &own}
		r.uri = *r.routes[n-1].uri
		r.routes = append([]route{ours}, r.routes[:n-1]...)
		r.strict = true
	}
	var in Endpoint
	if r.kind == flow.KindEdge {
		in = EndpointOf(r.flow)
	}
	for len(r.routes) > 0 && c.own.uri(r.routes[0].uri, r.flow) {
		r.overOID = c.own.overlayRoute(r.routes[0].uri)
		if user := r.routes[0].uri.User; user != "" && r.kind != flow.KindPublic {
			// The values of the sender's side come first, so the last token that is not his own is the far side's.
			if tok, ok := c.tokens.read(user, r.callID); ok {
				r.trusted = true
				if !r.hasTo || tok.to != in {
					r.to, r.party, r.token = tok.to, tok.party, user
				}
				r.hasTo = r.hasTo || tok.to != in
			}
		}
		r.routes = r.routes[1:]
		r.popped++
	}
	r.enters = c.enters(r)
}

// way is a routing decision: where the request goes, or how it is answered.
type way struct {
	kind    wayKind
	target  Target      // toTarget
	aor     overlay.AOR // toUser
	gruu    string      // toUser: only the device with this identifier
	hasGRUU bool
	known   bool // toUser with gruu: the device has been at this node
	lookup  bool // toUser: other nodes may be asked
	status  int  // refuse
	reason  string
	warning string
}

type wayKind uint8

const (
	refuse   wayKind = iota // answer with status
	toSelf                  // this node is the target
	toTarget                // one known place
	toUser                  // a user of the overlay
	toDomain                // another domain
)

// decide finds the way of a request that has passed unroute (§16.5). It changes r.uri only to bring a request addressed to
// one of this node's sockets into the overlay's domain.
func (c *Core) decide(r *request) way {
	if r.kind == flow.KindPublic {
		return c.decidePublic(r)
	}
	edge := r.kind == flow.KindEdge
	if len(r.routes) > 0 {
		return c.decideRoute(r, edge)
	}
	if r.hasTo && !(r.overOID && edge) {
		if f, ok := c.cfg.Sockets.Flow(r.to); ok {
			return way{kind: toTarget, target: Target{Flow: f}}
		}
		if t, ok := c.cfg.Edge.Contact(r.uri); ok && t.Flow != nil {
			return way{kind: toTarget, target: Target{Flow: t.Flow}}
		}
		return way{kind: refuse, status: 480, reason: "Temporarily Unavailable", warning: "the flow to the phone has ended"}
	}
	switch {
	case c.own.domain(r.uri.Host):
		if r.uri.User == "" {
			return way{kind: toSelf}
		}
		return c.decideUser(r, edge)
	case c.own.uri(&r.uri, r.flow):
		if r.uri.User == "" {
			return way{kind: toSelf}
		}
		if !edge {
			return way{kind: refuse, status: 404, reason: "Not Found"}
		}
		// A phone that knows its registrar by address only: the domain we are responsible for is the overlay's (§16.5).
		r.uri.Host, r.uri.Port = string(c.cfg.OID), 0
		return c.decideUser(r, edge)
	}
	if edge || r.trusted {
		if t, ok := c.cfg.Edge.Contact(r.uri); ok {
			if t.Flow == nil {
				return way{kind: refuse, status: 480, reason: "Temporarily Unavailable", warning: "the flow to the phone has ended"}
			}
			return way{kind: toTarget, target: Target{Flow: t.Flow}}
		}
	}
	if r.trusted && !r.overOID { // both ends of the dialog are at one address: the token is the way back
		if f, ok := c.cfg.Sockets.Flow(r.to); ok {
			return way{kind: toTarget, target: Target{Flow: f}}
		}
	}
	if !edge && c.cfg.Border == nil {
		if r.toTag != "" {
			return way{kind: refuse, status: 481, reason: "Call/Transaction Does Not Exist"}
		}
		return way{kind: refuse, status: 403, reason: "Forbidden", warning: "this node delivers to its own phones only"}
	}
	return way{kind: toDomain}
}

// decideRoute follows the topmost Route value that is not ours.
func (c *Core) decideRoute(r *request, edge bool) way {
	next := r.routes[0].uri
	node, ok := overlay.ParseNodeName(next.Host, c.cfg.OID)
	switch {
	case !edge && (ok || c.cfg.Border == nil):
		return way{kind: refuse, status: 403, reason: "Forbidden", warning: "this node is no relay between other nodes"}
	case ok:
		return way{kind: toTarget, target: Target{Node: node}}
	case c.goesOut():
		return way{kind: toDomain}
	}
	return way{kind: refuse, status: 404, reason: "Not Found", warning: "no way out of the overlay to the next Route"}
}

func (c *Core) decideUser(r *request, edge bool) way {
	if hasParam(&r.uri, "gr") {
		return c.decideGRUU(r, edge)
	}
	aor, err := c.cfg.OID.AOR(r.uri.User)
	if err != nil {
		return way{kind: refuse, status: 404, reason: "Not Found"}
	}
	return way{kind: toUser, aor: aor, lookup: edge}
}

// secureEnough says whether a sips request may use a flow: TLS to a phone or outside, the authenticated stream to a node
// (RFC 5630 §3).
func secureEnough(r *request, f flow.Flow) bool {
	return r.uri.Scheme != "sips" || f.Transport() == flow.TransportTLS || f.Transport() == flow.TransportP2P
}
