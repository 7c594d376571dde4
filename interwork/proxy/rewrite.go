package proxy

import (
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/overlay"
)

// defaultMaxForwards is what a request without Max-Forwards gets (§16.6 step 3).
const defaultMaxForwards = 70

// rewrite makes the copy of r that leaves on out (§16.6). uri replaces the Request-URI when it has a host; breadth is the
// branch's share of Max-Breadth, 0 for none; body is that of r, or what Media made of it. Header values are shared with the original: nobody changes them in place.
func (c *Core) rewrite(r *request, out flow.Flow, uri *sip.Uri, breadth int, body []byte) *sip.Request {
	routes := r.routes
	target := r.uri
	if uri.Host != "" {
		target = *uri
		target.Headers = nil // a Contact's headers are not applied (§19.1.5)
	}
	if len(routes) > 0 && !hasParam(routes[0].uri, "lr") { // the next hop is a strict router (§16.6 step 6)
		last := route{text: "<" + target.String() + ">"}
		target = *routes[0].uri
		routes = append(append(make([]route, 0, len(routes)), routes[1:]...), last)
	}
	fwd := sip.NewRequest(r.method, target)
	fwd.AppendHeader(c.via(r, out))

	stamps := c.recordRoutes(r, out)
	stamped, routed := len(stamps) == 0, r.popped == 0 && !r.strict && r.line == nil && sameRoutes(routes, r.routes)
	keepRoutes := routed
	putRoutes := func() {
		for i := range routes {
			fwd.AppendHeader(sip.NewHeader("Route", routes[i].value()))
		}
		routed = true
	}
	hops, wide := false, breadth == 0
	hides, hidden := c.hides(r, out), false
	for _, h := range r.req.Headers() {
		if _, ok := h.(*sip.ViaHeader); ok {
			switch {
			case !hides:
				fwd.AppendHeader(h)
			case !hidden:
				fwd.AppendHeader(c.hide(r.vias))
				hidden = true
			}
			continue
		}
		if !stamped {
			for _, s := range stamps {
				fwd.AppendHeader(sip.NewHeader("Record-Route", s))
			}
			stamped = true
		}
		switch name := h.Name(); {
		case len(name) == len("Route") && strings.EqualFold(name, "Route"):
			if keepRoutes {
				fwd.AppendHeader(h)
			} else if !routed {
				putRoutes()
			}
		case len(name) == len("Max-Forwards") && strings.EqualFold(name, "Max-Forwards"):
			if !hops {
				fwd.AppendHeader(r.nextMaxForwards())
				hops = true
			}
		case len(name) == len("Max-Breadth") && strings.EqualFold(name, "Max-Breadth"):
			if !wide {
				fwd.AppendHeader(sip.NewHeader("Max-Breadth", strconv.Itoa(breadth)))
				wide = true
			}
		case name == "Contact" && r.leaves && r.kind == flow.KindEdge:
			if contact, ok := message.ReadContact(h); ok {
				h = c.outsideContact(contact, overlay.AOR{}, r.flow, r.req.From(), r.req.To())
			}
			fwd.AppendHeader(h)
		case r.session.rewrites(name):
		case asserts(name) && !r.mayAssert():
			// §5 of RFC 3325: what somebody says of himself is no assertion
		default:
			fwd.AppendHeader(h)
		}
	}
	if !routed {
		putRoutes()
	}
	if !hops {
		fwd.AppendHeader(r.nextMaxForwards())
	}
	if !wide {
		fwd.AppendHeader(sip.NewHeader("Max-Breadth", strconv.Itoa(breadth)))
	}
	r.session.put(fwd)
	if len(body) == 0 && len(r.req.Body()) > 0 {
		body = nil
		fwd.RemoveHeader("Content-Type")
	}
	fwd.SetBody(body)
	if r.line != nil {
		r.line.Dress(fwd)
	}
	touch(fwd)
	c.vouch(r, fwd, out)
	return fwd
}

// sameRoutes says that two route lists are one, not merely alike.
func sameRoutes(a, b []route) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// touch has the lazily read fields of m read now, while only one goroutine knows m.
func touch(m sip.Message) {
	m.Via()
	m.From()
	m.To()
	m.CallID()
	m.CSeq()
	m.ContentLength()
}

func (r *request) nextMaxForwards() *sip.MaxForwardsHeader {
	n := defaultMaxForwards
	if r.maxForwards >= 0 {
		n = r.maxForwards - 1
	}
	h := sip.MaxForwardsHeader(n)
	return &h
}

// via makes this node's Via for a request that leaves on out.
func (c *Core) via(r *request, out flow.Flow) *sip.ViaHeader {
	at := c.own.stamp(out)
	transport := string(out.Transport())
	if flow.KindOf(out) == flow.KindPeer {
		transport = "TLS" // the stream is authenticated and encrypted; every SIP stack knows this token
	}
	v := new(struct {
		sip.ViaHeader
		params [1]sip.HeaderKV
	})
	v.params[0] = sip.HeaderKV{K: "branch", V: c.branches.make(r.vias[0], r.kind == flow.KindPublic, r.loop)}
	v.ViaHeader = sip.ViaHeader{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: transport, Host: at.Host, Port: at.Port, Params: v.params[:],
	}
	return &v.ViaHeader
}

// formsDialog says whether this node wants to stay on the path of what the request begins.
func (r *request) formsDialog() bool {
	switch r.method {
	case sip.INVITE, sip.SUBSCRIBE, sip.REFER:
		return r.toTag == ""
	case sip.NOTIFY:
		return true // it forms the dialog when it overtakes the 200 to the SUBSCRIBE (RFC 6665 §4.4.1)
	}
	return false
}

// recordRoutes gives the two Record-Route values (RFC 5658), the one for the side where the request leaves first. The
// side of another node carries the token of the phone beside this node; between two phones of this node each side carries
// the token of its own phone.
func (c *Core) recordRoutes(r *request, out flow.Flow) []string {
	if over := r.kind == flow.KindPublic || flow.KindOf(out) == flow.KindPublic; over || r.enters || r.leaves {
		return c.borderRoutes(r, out, over)
	}
	if !r.formsDialog() {
		return nil
	}
	in := r.flow
	// The far party of the phone that a token leads to: the caller's is the one he called, the callee's is the caller.
	caller := func() string {
		return c.tokens.make(EndpointOf(in), partyOf(&r.req.To().Address), r.callID)
	}
	callee := func() string {
		return c.tokens.make(EndpointOf(out), partyOf(&r.req.From().Address), r.callID)
	}
	switch {
	case in.Edge() && out.Edge():
		return []string{c.phoneSide(out, callee()), c.phoneSide(in, caller())}
	case in.Edge():
		return []string{c.peerSide(caller()), c.phoneSide(in, "")}
	case out.Edge():
		return []string{c.phoneSide(out, ""), c.peerSide(callee())}
	}
	return nil
}

// borderRoutes gives the Record-Route values of a request that crosses the border of the overlay. Outside, the overlay is
// one element, and every proxy peer is it (draft §3.1): the one that carries the request over adds that value, also inside
// a dialog, which tells the callee's node that the request has come in. A node puts its phone's side there for the phone
// only: into the request that it delivers, and into the response to what its phone sent (arriving), never into what leaves.
func (c *Core) borderRoutes(r *request, out flow.Flow, over bool) (routes []string) {
	if out.Edge() && r.formsDialog() {
		routes = append(routes, c.phoneSide(out, c.tokens.make(EndpointOf(out), partyOf(&r.req.From().Address), r.callID)))
	}
	if over && r.method != sip.REGISTER {
		routes = append(routes, c.own.overlayValue())
	}
	return routes
}

func (c *Core) phoneSide(f flow.Flow, token string) string {
	at := c.own.stamp(f)
	var buf [256]byte
	b := append(buf[:0], "<sip:"...)
	if token != "" {
		b = append(append(b, token...), '@')
	}
	b = append(b, bracket(at.Host)...)
	if at.Port != 0 {
		b = strconv.AppendInt(append(b, ':'), int64(at.Port), 10)
	}
	b = append(b, ";transport="...)
	b = append(b, strings.ToLower(string(f.Transport()))...)
	return string(append(b, ";lr>"...))
}

func (c *Core) peerSide(token string) string {
	if token == "" {
		return "<sip:" + c.cfg.NodeName + ";lr>"
	}
	return "<sip:" + token + "@" + c.cfg.NodeName + ";lr>"
}
