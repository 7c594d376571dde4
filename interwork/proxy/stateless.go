package proxy

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/overlay"
)

// HandleAck carries an ACK for a 2xx (§16.11): along its routes, without state and without an answer to anything. An ACK
// that leads nowhere, such as a late one for a transaction that is gone, is dropped.
func (c *Core) HandleAck(f flow.Flow, req *sip.Request) {
	r, ok := readRequest(f, req)
	if !ok || r.maxForwards == 0 || len(r.proxyRequire) > 0 || !sipScheme(req.Recipient.Scheme) {
		return
	}
	c.unroute(r)
	r.loop = c.branches.loop(r)
	if c.branches.looped(r.vias, r.loop) {
		return
	}
	w := c.takeLine(r, c.decide(r))
	if r.kind == flow.KindPeer && !(w.kind == toDomain && c.admitLeaving(r)) && !(w.kind != toDomain && c.admitPeer(r)) {
		return
	}
	var t Target
	switch w.kind {
	case toTarget:
		t = w.target
	case toDomain:
		c.ackOut(r)
		return
	case toUser:
		// A Contact that is a GRUU or an address of record, without routes: the phone itself when there is just one.
		var here []Target
		for _, b := range w.device(c.cfg.Edge.Bindings(w.aor)) {
			if b.Flow != nil {
				here = append(here, b)
			}
		}
		switch {
		case r.toTag == "" || len(here) > 1:
			return
		case len(here) == 1:
			t = here[0]
		default:
			if w.lookup {
				c.ackUser(r, w)
			}
			return
		}
	default:
		return
	}
	c.ackTo(r, t)
}

// ackOut sends an ACK out of the overlay, to the first of the places that the INVITE was offered to.
func (c *Core) ackOut(r *request) {
	next := r.nextHop()
	if !c.goesOut() || !sipScheme(next.Scheme) || hasParam(&next, "maddr") || hasParam(&r.uri, "maddr") {
		return
	}
	r.leaves = true
	first := func(ts []Target, err error) {
		if err == nil && len(ts) > 0 {
			c.ackTo(r, ts[0])
		}
	}
	if now, ok, err := c.wayOut(r, next, first); err == nil && ok {
		first(now, nil)
	}
}

// ackUser sends an ACK to the node where a user's phone is: one from the public side finds its way by the GRUU alone.
func (c *Core) ackUser(r *request, w way) {
	source, most := c.source(r)
	if !c.searches.acquire(source, most) {
		c.stats.lookupsRefused.Add(1)
		return
	}
	c.stats.lookups.Add(1)
	gone := c.acks.add(r.callID)
	_, _, err := c.ways.to("ACK "+w.aor.String()+" "+w.gruu, nil, func(ctx context.Context) ([]Target, error) {
		s := c.cfg.Locator.Locate(ctx, w.aor)
		defer s.Stop()
		rec, err := s.Next(ctx)
		if err != nil {
			return nil, err
		}
		x := responseContext{c: c, w: w}
		if w.hasGRUU {
			return x.deviceNodes(rec, time.Now()), nil
		}
		return x.userNodes(rec, time.Now()), nil
	}, func(ts []Target, err error) {
		defer gone()
		c.searches.release(source)
		if err == nil && len(ts) > 0 {
			c.ackTo(r, ts[0])
		}
	})
	if err != nil {
		gone()
		c.searches.release(source)
	}
}

// acks are the calls of which an ACK looks for its way. What comes after it in the call waits until it has gone: a re-INVITE
// that overtook it would be answered 491, a BYE would leave the callee without the ACK. Searches are bounded, and so are they.
type acks struct {
	mu      sync.Mutex // guards waiting
	waiting map[string]*ackPending
}

type ackPending struct {
	n    int
	gone chan struct{} // closed when n is 0 again
}

// add notes an ACK of a call, until done is called.
func (a *acks) add(call string) (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = make(map[string]*ackPending)
	}
	p := a.waiting[call]
	if p == nil {
		p = &ackPending{gone: make(chan struct{})}
		a.waiting[call] = p
	}
	p.n++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if p.n--; p.n == 0 {
			delete(a.waiting, call)
			close(p.gone)
		}
	}
}

// wait waits until the ACKs of a call that came before have gone.
func (a *acks) wait(ctx context.Context, call string) {
	a.mu.Lock()
	p := a.waiting[call]
	a.mu.Unlock()
	if p == nil {
		return
	}
	select {
	case <-p.gone:
	case <-ctx.Done():
	}
}

// ackTo sends an ACK to a target, over a connection to be opened if need be.
func (c *Core) ackTo(r *request, t Target) {
	uri := t.URI
	then := func(f flow.Flow, err error) {
		if err == nil {
			c.sendAck(r, f, &uri)
		}
	}
	var now flow.Flow
	ok, err := true, error(nil)
	switch {
	case t.Node != "":
		now, ok, err = c.stream(t, r.leaves, then)
	case t.Hop.Transport != "":
		now, ok, err = c.connection(t.Hop, then)
	default:
		now = t.Flow
	}
	if ok && err == nil && now != nil {
		c.sendAck(r, now, &uri)
	}
}

func (c *Core) sendAck(r *request, f flow.Flow, uri *sip.Uri) {
	if !secureEnough(r, f) {
		return
	}
	if err := c.layer.Send(f, c.rewrite(r, f, uri, 0, c.describeAck(r, f))); err != nil {
		c.log.Debug("ack not sent", "err", err)
	}
}

// HandleResponse carries a response without transaction (§16.7 step 1, §16.11): a 2xx repeated after everything here is
// forgotten, or the answer to a request forwarded before a restart. It goes to the Via below ours, but only when our
// branch proves that this node put it above exactly that Via.
func (c *Core) HandleResponse(f flow.Flow, res *sip.Response) {
	top := res.Via()
	if res.StatusCode < 101 || top == nil || !c.own.is(top.Host, top.Port, strings.EqualFold(top.Transport, "TLS"), f) {
		return
	}
	branch, _ := top.Params.Get("branch")
	if !message.PopVia(res) {
		return
	}
	c.restore(res)
	below := res.Via()
	public := false
	if below == nil || !c.branches.proves(branch, below, false) {
		if public = below != nil && c.cfg.Border != nil && c.branches.proves(branch, below, true); !public {
			c.stats.strays.Add(1)
			return
		}
	}
	out, ok := c.flowOf(below, public)
	if !ok {
		c.stats.strays.Add(1)
		return
	}
	c.describeStray(res, f, out)
	if f.Edge() && c.crosses(res) {
		c.leaving(res, f, overlay.AOR{})
	}
	if out.Edge() {
		c.arriving(res, out)
	}
	if err := c.layer.Send(out, res); err != nil {
		c.log.Debug("response not sent", "err", err)
	}
}

// flowOf finds where the element that wrote a Via is: a node by its name, a phone by the address it was seen at (§18.2.2,
// RFC 3581).
func (c *Core) flowOf(v *sip.ViaHeader, public bool) (flow.Flow, bool) {
	if node, ok := overlay.ParseNodeName(v.Host, c.cfg.OID); ok {
		return c.cfg.Peers.Living(node)
	}
	a := flow.Addr{Host: cleanHost(v.Host), Port: v.Port}
	if h, ok := v.Params.Get("received"); ok && h != "" {
		a.Host = cleanHost(h)
	}
	if p, ok := v.Params.Get("rport"); ok && p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err == nil {
			a.Port = int(n)
		}
	}
	if a.Port == 0 {
		a.Port = 5060
		if strings.EqualFold(v.Transport, "TLS") {
			a.Port = 5061
		}
	}
	ap, ok := a.AddrPort()
	if !ok || ap.Addr().IsMulticast() || ap.Addr().IsUnspecified() || ap.Addr().String() == "255.255.255.255" {
		return nil, false
	}
	e := Endpoint{Transport: flow.Transport(strings.ToUpper(v.Transport)), Remote: a}
	if public {
		return c.cfg.Border.Back(e)
	}
	return c.cfg.Sockets.Flow(e)
}

// crosses says that a response of a phone leaves the overlay: above this node's value for the phone, the route begins with
// the overlay's.
func (c *Core) crosses(res *sip.Response) bool {
	n := 0
	for _, h := range res.Headers() {
		if u, ok := recordRouteURI(h); ok {
			if n++; n == 2 {
				return c.own.overlayRoute(&u)
			}
		}
	}
	return false
}
