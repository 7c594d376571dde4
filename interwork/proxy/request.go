package proxy

import (
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/transaction"
)

// request is a request as it arrived, read once. The sip.Request itself is never changed: retransmissions and responses
// need it as it was.
type request struct {
	req    *sip.Request // nil once it has its final response
	method sip.RequestMethod
	flow   flow.Flow
	kind   flow.Kind
	tx     *transaction.Server // nil for an ACK

	uri     sip.Uri // the Request-URI, after strict routing is undone
	vias    []*sip.ViaHeader
	routes  []route // what is left of the Route values once our own are off
	popped  int     // own Route values taken off
	strict  bool    // §16.4: the last Route value became the Request-URI
	token   string  // the own token that says where the request goes, "" for none
	to      Endpoint
	party   [tokenParty]byte // whose From the token vouches for
	hasTo   bool             // to is valid and is not the flow of arrival
	trusted bool             // at least one valid token was popped
	overOID bool             // the last own Route value was the overlay's: what is left leads out of it, or back in
	enters  bool             // it has come into the overlay through a proxy peer
	leaves  bool             // it goes out of the overlay
	onlyTo  string           // the only domain whose servers may get it

	session *session // at a proxy peer: what it remembers of the session interval; nil: nothing

	line Line // the other address that it leaves as; nil: its own

	fromTag, toTag string
	callID         string
	cseq           uint32
	proxyAuth      string
	proxyRequire   []string
	maxForwards    int // -1: none
	breadth        int // -1: none
	loop           loopHash
	parties        [2]string // From and To as addresses, once somebody has asked for them

	// Room for what most requests have, so that they take no more memory than this.
	viaRoom   [2]*sip.ViaHeader
	routeRoom [3]route
}

// route is one Route value: its URI and its text as it stood, for an unchanged copy. The text of the topmost value is
// made only when it is needed, which it is not for our own.
type route struct {
	uri  *sip.Uri
	text string
	h    *sip.RouteHeader
}

func (r *route) value() string {
	if r.text == "" && r.h != nil {
		r.text = r.h.Value()
	}
	return r.text
}

// maxRoutes and maxVias bound one request: 70 hops with two values each.
const (
	maxRoutes = 140
	maxVias   = 140
)

// readRequest reads what the proxy needs. It touches every accessor once, so that later readers on other goroutines find
// them parsed and change nothing. ok is false for a request that no strict reader lets through.
func readRequest(f flow.Flow, req *sip.Request) (r *request, ok bool) {
	r = &request{req: req, method: req.Method, flow: f, kind: flow.KindOf(f), uri: req.Recipient, maxForwards: -1, breadth: -1}
	r.vias, r.routes = r.viaRoom[:0], r.routeRoom[:0]
	from, to, id, cseq := req.From(), req.To(), req.CallID(), req.CSeq()
	if from == nil || to == nil || id == nil || cseq == nil || req.Via() == nil {
		return r, false
	}
	r.fromTag, _ = from.Params.Get("tag")
	r.toTag, _ = to.Params.Get("tag")
	r.callID = string(*id)
	r.cseq = cseq.SeqNo
	for _, h := range req.Headers() {
		switch h := h.(type) {
		case *sip.ViaHeader:
			r.vias = append(r.vias, h)
			continue
		case *sip.RouteHeader:
			r.routes = append(r.routes, route{uri: &h.Address, h: h})
			continue
		case *sip.MaxForwardsHeader:
			r.maxForwards = int(*h)
			continue
		}
		switch name := h.Name(); len(name) {
		case len("Route"):
			if strings.EqualFold(name, "Route") {
				if r.routes, ok = appendRoutes(r.routes, h.Value()); !ok {
					return r, false
				}
			}
		case len("Max-Breadth"):
			if strings.EqualFold(name, "Max-Breadth") {
				if n, err := strconv.Atoi(strings.TrimSpace(h.Value())); err == nil && n >= 0 {
					r.breadth = n
				}
			}
		case len("Max-Forwards"):
			if strings.EqualFold(name, "Max-Forwards") {
				if n, err := strconv.Atoi(strings.TrimSpace(h.Value())); err == nil && n >= 0 {
					r.maxForwards = n
				}
			}
		case len("Proxy-Require"):
			if strings.EqualFold(name, "Proxy-Require") {
				for _, tag := range splitList(h.Value()) {
					if tag != "" {
						r.proxyRequire = append(r.proxyRequire, tag)
					}
				}
			}
		case len("Proxy-Authorization"):
			if strings.EqualFold(name, "Proxy-Authorization") {
				r.proxyAuth += h.Value()
			}
		}
	}
	return r, len(r.vias) <= maxVias && len(r.routes) <= maxRoutes
}

// addresses gives From and To without parameters.
func (r *request) addresses() (from, to string) {
	if r.parties[0] == "" && r.req != nil {
		r.parties = [2]string{r.req.From().Address.Addr(), r.req.To().Address.Addr()}
	}
	return r.parties[0], r.parties[1]
}

// forget lets go of what nobody needs after the final response, when the request waits only for further 2xx.
func (r *request) forget() {
	r.tx.Forget()
	r.req, r.vias, r.routes = nil, nil, nil
	r.uri = sip.Uri{}
	clear(r.viaRoom[:])
	clear(r.routeRoom[:])
}

// appendRoutes reads the values of one Route line.
func appendRoutes(rs []route, line string) ([]route, bool) {
	for _, text := range splitList(line) {
		if text == "" {
			continue
		}
		u := new(sip.Uri)
		if _, err := sip.ParseAddressValue(text, u, nil); err != nil || u.Host == "" && u.Raw() == "" {
			return rs, false
		}
		rs = append(rs, route{uri: u, text: text})
		if len(rs) > maxRoutes {
			return rs, false
		}
	}
	return rs, true
}

// splitList cuts a header value at its commas, leaving those inside quotes and angle brackets alone.
func splitList(s string) []string {
	var out []string
	quoted, angle, start := false, false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"' && !angle:
			quoted = !quoted
		case quoted:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case c == ',' && !angle:
			out = append(out, strings.TrimSpace(s[start:i]))
			start = i + 1
		}
	}
	return append(out, strings.TrimSpace(s[start:]))
}

// hasParam says whether a URI carries a parameter.
func hasParam(u *sip.Uri, name string) bool {
	for _, p := range u.UriParams {
		if strings.EqualFold(p.K, name) {
			return true
		}
	}
	return false
}

// param gives the value of a URI parameter.
func param(u *sip.Uri, name string) (string, bool) {
	for _, p := range u.UriParams {
		if strings.EqualFold(p.K, name) {
			return p.V, true
		}
	}
	return "", false
}
