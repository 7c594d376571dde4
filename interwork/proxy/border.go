package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/overlay"
)

// Border is the side of a proxy peer that faces the public SIP world; package proxypeer implements it. Enter, Hops and Open
// run on bounded goroutines and may block until ctx ends; the others may not block. An error that is a *Refusal says how the
// request is answered.
type Border interface {
	// Enter judges a request that arrived from the public side for a user of the overlay.
	Enter(ctx context.Context, f flow.Flow, req *sip.Request) error
	// Hops gives where a request leaves to whose next hop is uri (RFC 3263), in the order to be tried. from is the flow on
	// which it came: of a phone beside this node, or of another member.
	Hops(ctx context.Context, uri sip.Uri, from flow.Flow, req *sip.Request) ([]Hop, error)
	// Living gives the flow to a hop where none has to be opened.
	Living(h Hop) (flow.Flow, bool)
	// Open gives the flow to a hop, connecting if need be.
	Open(ctx context.Context, h Hop) (flow.Flow, error)
	// Back gives the flow to a place that a request came from, if there still is one.
	Back(e Endpoint) (flow.Flow, bool)
	// Tried says what came of a hop: nil, or why the next one has to be tried.
	Tried(h Hop, err error)
	// Answered says how a request from the public side was answered.
	Answered(f flow.Flow, method sip.RequestMethod, status int)
}

// Truster is a Border that knows sources which may have more lookups under way than others, as providers whose addresses the
// operator has listed.
type Truster interface {
	Trusts(f flow.Flow) bool
}

// Hop is one place in the public SIP world. Hops are comparable.
type Hop struct {
	Transport flow.Transport // UDP, TCP or TLS; "" for no hop
	Addr      netip.AddrPort
	Name      string // the domain that the certificate has to name (RFC 5922 §7.2)
}

func (h Hop) String() string { return fmt.Sprintf("%s %s", h.Transport, h.Addr) }

// Refusal is an error with the answer that it means.
type Refusal struct {
	Status  int
	Reason  string
	Warning string // for a person; "" for none
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d %s (%s)", r.Status, r.Reason, r.Warning) }

// ProxyPeers finds the nodes that carry requests out of the overlay for others (draft §5.2, steps 5 and 6).
type ProxyPeers interface {
	// Warm gives the proxy peers known at this moment, best first, without asking anybody.
	Warm() []Target
	// Find asks the overlay if need be. Of a Target, Node and Addrs count.
	Find(ctx context.Context) ([]Target, error)
	// Failed says that a proxy peer could not be reached or did not answer.
	Failed(node overlay.NodeID)
}

// Dropper is a Peers that can give a connection up that looks alive and is not.
type Dropper interface {
	// Drop has the next Flow to the node begin with a new connection. It does not block.
	Drop(node overlay.NodeID)
}

// maxHops and maxProxyPeers bound how many places one request is offered to outside, and how many proxy peers.
const (
	maxHops       = 8
	maxProxyPeers = 4
)

// goesOut says that this node can send requests out of the overlay, by itself or through a proxy peer.
func (c *Core) goesOut() bool {
	return c.cfg.Border != nil || c.cfg.Proxies != nil || c.cfg.Outbound != nil
}

// enters says whether a request has come into the overlay through a proxy peer: one hands it to this node, on whose word
// that counts, and has recorded the overlay as the topmost route (see recordRoutes).
func (c *Core) enters(r *request) bool {
	if r.kind != flow.KindPeer || !r.mayAssert() {
		return false
	}
	u, ok := firstRecordRoute(r.req.Headers())
	return ok && c.own.overlayRoute(&u)
}

// decidePublic finds the way of a request from the public side (draft §5.3): to users of the overlay, and nowhere else
// whatever its Route, Request-URI or From say.
func (c *Core) decidePublic(r *request) way {
	if c.claims(r) && len(vouchers(r)) == 0 {
		return way{kind: refuse, status: 403, reason: "Forbidden", warning: c.noneOutside()}
	}
	relay := way{kind: refuse, status: 403, reason: "Forbidden", warning: "this proxy serves " + string(c.cfg.OID) + " only"}
	switch {
	case len(r.routes) > 0, hasParam(&r.uri, "maddr"):
		return relay
	case r.uri.User == "" && c.own.uri(&r.uri, r.flow):
		return way{kind: toSelf}
	case c.own.domain(r.uri.Host):
		return c.decideUser(r, true)
	case c.own.uri(&r.uri, r.flow): // a provider that takes no domain as a Contact
		r.uri.Host, r.uri.Port = string(c.cfg.OID), 0
		return c.decideUser(r, true)
	}
	return relay
}

// carryIn brings a request from the public side to a user of the overlay, once Border.Enter has nothing against it.
func (c *Core) carryIn(r *request, w way) {
	if !c.judgeSession(r) {
		return
	}
	x := c.newContext(r, w)
	claims := c.claims(r)
	ask := func(ctx context.Context) (done bool) {
		if r.toTag != "" {
			c.acks.wait(ctx, r.callID)
		}
		if claims && !c.vouchedFor(ctx, r) {
			x.searched(&Refusal{403, "Forbidden", c.noneOutside()})
			return true
		}
		if err := c.cfg.Border.Enter(ctx, r.flow, r.req); err != nil {
			x.searched(err)
			return true
		}
		if w.kind == toTarget {
			x.arrived([]Target{w.target}, nil)
			return true
		}
		targets := w.device(c.cfg.Edge.Bindings(w.aor))
		if !w.lookup || w.hasGRUU && len(targets) > 0 {
			x.arrived(targets, nil)
			return true
		}
		x.join(targets)
		return false
	}
	x.begin(nil, func() (stop func(), err error) {
		if stop = c.search(x, ask); stop == nil {
			return nil, fmt.Errorf("%w: too many lookups under way", overlay.ErrUnreachable)
		}
		return stop, nil
	})
}

// nextHop is the URI that a request leaving the overlay is to be sent to (§16.6 step 6).
func (r *request) nextHop() sip.Uri {
	if len(r.routes) > 0 {
		return *r.routes[0].uri
	}
	return r.uri
}

// admitLeaving judges a request of another member that is to leave through this proxy peer. Its From has to be a user whom
// the sender's credential covers. A request with another From may pass where it does no harm: inside a call that this
// node has seen; to the servers of the very domain that From is of, which know their users; and a REGISTER when what it
// binds is a user of the sender (draft §4.2).
func (c *Core) admitLeaving(r *request) bool {
	from := r.req.From().Address
	if c.own.domain(from.Host) {
		aor, err := c.cfg.OID.AOR(from.User)
		return err == nil && c.entitled(r, aor)
	}
	if r.toTag != "" && c.calls.has(r) {
		return true
	}
	if r.method == sip.REGISTER {
		return c.bindsOwn(r)
	}
	if next, domain := strings.ToLower(r.nextHop().Host), strings.ToLower(from.Host); next != domain && !strings.HasSuffix(next, "."+domain) {
		r.onlyTo = from.Host // its servers may stand under other names, as in the routes of a dialog
	}
	return from.Host != ""
}

// bindsOwn says that every Contact of a REGISTER is a user of the overlay whom the sender speaks for, be it at the address
// of this proxy peer for a registrar that takes no domain.
func (c *Core) bindsOwn(r *request) bool {
	for _, h := range message.Contacts(r.req) {
		aor, err := c.cfg.OID.AOR(h.Address.User)
		if !h.Address.Wildcard && (err != nil || !c.own.uri(&h.Address, nil) || !c.entitled(r, aor)) {
			return false
		}
	}
	return true
}

// carryOut sends a request to another domain: from a proxy peer straight there, from another node to a proxy peer.
func (c *Core) carryOut(r *request, w way) {
	next := r.nextHop()
	switch {
	case !c.goesOut():
		c.refuseOut(r, 404, "Not Found", "no way out of the overlay to this domain")
		return
	case !sipScheme(next.Scheme), hasParam(&next, "maddr"), hasParam(&r.uri, "maddr"):
		c.refuseOut(r, 403, "Forbidden", "a request leaves by the name of a domain, not by maddr")
		return
	}
	if !c.judgeSession(r) {
		return
	}
	x := c.newContext(r, w)
	x.serial, x.began, r.leaves = true, time.Now(), true
	x.begin(nil, func() (stop func(), err error) {
		return x.seekWay(next)
	})
}

func (c *Core) refuseOut(r *request, status int, reason, warning string) {
	c.stats.refused.Add(1)
	c.answer(r, status, reason, c.warning(warning))
}

// seekWay starts the search for where a request leaves to. Requests to one place leave in the order in which they came.
func (x *responseContext) seekWay(next sip.Uri) (stop func(), err error) {
	c := x.c
	now, ok, err := c.wayOut(x.r, next, x.arrived)
	if err != nil {
		return nil, err
	}
	if ok {
		x.ready = now
	}
	return func() {}, nil
}

// wayOut gives the targets outside for a request at once, or passes them to then later.
func (c *Core) wayOut(r *request, next sip.Uri, then func([]Target, error)) (now []Target, ok bool, err error) {
	switch {
	case c.cfg.Border != nil:
		key := strings.ToLower(next.Scheme + " " + next.HostPort())
		tr, _ := param(&next, "transport")
		from, req, onlyTo := r.flow, r.req, r.onlyTo
		return c.ways.to(key+" "+strings.ToLower(tr), nil, func(ctx context.Context) ([]Target, error) {
			hops, err := c.cfg.Border.Hops(ctx, next, from, req)
			if err == nil && onlyTo != "" && !c.servedBy(ctx, onlyTo, hops, from, req) {
				err = &Refusal{403, "Forbidden", "the node is not entitled to this From"}
			}
			if err != nil {
				return nil, err
			}
			var ts []Target
			for i, h := range hops[:min(len(hops), maxHops)] {
				ts = append(ts, Target{Hop: h, Q: topQ - uint16(i)})
			}
			return ts, nil
		}, then)
	case c.cfg.Proxies != nil:
		return c.ways.to("", func() ([]Target, bool) {
			ts := c.cfg.Proxies.Warm()
			return oneByOne(ts), len(ts) > 0
		}, func(ctx context.Context) ([]Target, error) {
			ts, err := c.cfg.Proxies.Find(ctx)
			return oneByOne(ts), err
		}, then)
	default:
		return c.ways.to(next.HostPort(), nil, func(ctx context.Context) ([]Target, error) {
			ts, ok := c.cfg.Outbound.Targets(ctx, next)
			if !ok {
				return nil, &Refusal{404, "Not Found", "no way out of the overlay to this domain"}
			}
			return ts, nil
		}, then)
	}
}

// askAgainFor is how long after its arrival a request may look for proxy peers a second time: a caller is to hear within 4 s.
const askAgainFor = 2 * time.Second

// askAgain looks for other proxy peers when all that were at hand have failed, once for a request. It says whether there
// is something to wait for. Called under x.mu.
func (x *responseContext) askAgain() bool {
	c := x.c
	if !x.serial || x.asked || time.Since(x.began) > askAgainFor || x.cancelled || x.declined || x.best.res != nil || x.best.status != 503 || c.cfg.Border != nil || c.cfg.Proxies == nil {
		return false
	}
	if slices.ContainsFunc(x.branches, func(b *branch) bool { return b.rang }) {
		return false
	}
	x.asked = true
	now, ok, err := c.wayOut(x.r, x.r.nextHop(), x.arrived)
	if err != nil {
		return false
	}
	if ok {
		now = x.untried(now)
		x.add(now)
		return len(now) > 0
	}
	x.searching = true
	return true
}

// untried leaves out proxy peers that have failed already. Called under x.mu.
func (x *responseContext) untried(ts []Target) []Target {
	return slices.DeleteFunc(ts, func(t Target) bool {
		return slices.ContainsFunc(x.branches, func(b *branch) bool { return b.target.Node == t.Node })
	})
}

// servedBy says that all hops are servers of a domain.
func (c *Core) servedBy(ctx context.Context, domain string, hops []Hop, from flow.Flow, req *sip.Request) bool {
	servers, err := c.cfg.Border.Hops(ctx, sip.Uri{Scheme: "sip", Host: domain}, from, req)
	return err == nil && !slices.ContainsFunc(hops, func(h Hop) bool {
		return !slices.ContainsFunc(servers, func(s Hop) bool { return s.Addr.Addr() == h.Addr.Addr() })
	})
}

// oneByOne gives proxy peers descending preferences.
func oneByOne(ts []Target) []Target {
	out := make([]Target, 0, maxProxyPeers)
	for i, t := range ts[:min(len(ts), maxProxyPeers)] {
		out = append(out, Target{Node: t.Node, Addrs: t.Addrs, Q: topQ - uint16(i)})
	}
	return out
}
