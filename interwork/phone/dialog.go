package phone

import (
	"net/netip"
	"slices"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

// defaultPort of SIP over UDP.
const defaultPort = 5060

// dialog is what RFC 3261 §12 keeps between the two ends of a call. Whoever holds it guards it.
type dialog struct {
	callID    string
	local     string // From of what this phone sends, with its tag
	remote    string // To of what it sends, with the other's tag
	remoteTag string
	localSeq  uint32
	remoteSeq uint32
	target    sip.Uri   // the other's Contact
	routes    []sip.Uri // in the order in which this phone uses them
}

// dialogFromResponse is the caller's side (§12.1.2): the Record-Route values in reverse.
func dialogFromResponse(callID, local string, seq uint32, res *sip.Response) *dialog {
	d := &dialog{callID: callID, local: local, localSeq: seq, remote: res.To().Value(), remoteTag: toTag(res.To())}
	d.target = res.To().Address
	d.refresh(res)
	d.routes = message.Routes(res, "Record-Route")
	slices.Reverse(d.routes)
	return d
}

// dialogFromRequest is the callee's side (§12.1.1): the Record-Route values as they are.
func dialogFromRequest(localTag string, req *sip.Request) *dialog {
	d := &dialog{
		callID: req.CallID().Value(), local: req.To().Value() + ";tag=" + localTag, remote: req.From().Value(),
		remoteSeq: req.CSeq().SeqNo,
	}
	d.remoteTag, _ = req.From().Params.Get("tag")
	d.target = req.From().Address
	d.refresh(req)
	d.routes = message.Routes(req, "Record-Route")
	return d
}

func toTag(to *sip.ToHeader) string {
	tag, _ := to.Params.Get("tag")
	return tag
}

// refresh takes the far side's Contact over, which an INVITE and its 2xx may change (§12.2).
func (d *dialog) refresh(m sip.Message) {
	if c := message.Contacts(m); len(c) == 1 && !c[0].Address.Wildcard {
		d.target = *c[0].Address.Clone()
	}
}

// address gives the Request-URI and the Route values of a request inside the dialog (§12.2.1.1).
func (d *dialog) address() (uri string, routes []string) {
	for _, r := range d.routes {
		routes = append(routes, r.String())
	}
	uri = d.target.String()
	if len(d.routes) > 0 && !d.routes[0].UriParams.Has("lr") { // a strict router (RFC 2543) wants to be in the Request-URI
		uri, routes = routes[0], append(routes[1:], uri)
	}
	return uri, routes
}

// hop is where such a request is sent: the first route, else the contact. What is no IP address, the outbound proxy has
// to find.
func (p *Phone) hop(d *dialog) flow.Flow {
	next := d.target
	if len(d.routes) > 0 {
		next = d.routes[0]
	}
	ip, err := netip.ParseAddr(trimBrackets(next.Host))
	if err != nil {
		return p.out
	}
	port := next.Port
	if port <= 0 || port > 65535 {
		port = defaultPort
	}
	return p.udp.To(netip.AddrPortFrom(ip, uint16(port)))
}

func trimBrackets(host string) string {
	if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
		return host[1 : n-1]
	}
	return host
}

// inDialog writes a request inside the dialog. A cseq of 0 takes the next number.
func (p *Phone) inDialog(d *dialog, method string, cseq uint32, auth []string, sdp []byte) (*sip.Request, error) {
	if cseq == 0 {
		d.localSeq++
		cseq = d.localSeq
	}
	uri, routes := d.address()
	r := parts{
		method: method, uri: uri, routes: routes, from: d.local, to: d.remote,
		callID: d.callID, cseq: cseq, headers: auth, sdp: sdp,
	}
	if method == "INVITE" {
		r.contact = p.contact
	}
	return p.build(r)
}
