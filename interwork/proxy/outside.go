package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
	"p2psip/overlay"
)

// What leaves the overlay is offered to one place after the other: to proxy peers by a node that is none, to the hops of
// RFC 3263 by a proxy peer. The next one is tried when a place cannot be reached, is silent or says 503, and for no other
// answer (RFC 3263 §4.3).

// maxUDP is the largest request that goes over UDP where the MTU is not known (§18.1.1).
const maxUDP = 1300

// errNoAnswer is why a hop counts as failed that was silent, errUnavailable for one that said so.
var (
	errNoAnswer    = errors.New("no answer")
	errUnavailable = errors.New("503 Service Unavailable")
)

// toHop sends the branch to a place outside, connecting if need be. Called under x.mu.
func (b *branch) toHop(h Hop) {
	x := b.x
	border := x.c.cfg.Border
	if h.Transport == flow.TransportUDP && !b.plain {
		f, ok := border.Living(h)
		if !ok || !secureEnough(x.r, f) {
			b.lost(flow.ErrClosed)
			return
		}
		fwd := x.c.rewrite(x.r, f, &b.target.URI, b.breadth, b.body())
		if !x.c.large(fwd) {
			b.leave(f, fwd)
			return
		}
		h.Transport = flow.TransportTCP
	}
	now, ok, err := x.c.connection(h, func(f flow.Flow, err error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if b.done {
			return
		}
		b.connected(f, err)
		x.advance()
	})
	switch {
	case err != nil:
		b.fail(503, "Service Unavailable")
	case ok:
		b.connected(now, nil)
	}
}

// connected goes on with the flow to the branch's hop. Called under x.mu.
func (b *branch) connected(f flow.Flow, err error) {
	x := b.x
	switch {
	case err == nil:
		b.send(f)
	case b.target.Hop.Transport == flow.TransportUDP && !b.plain: // no TCP there: as large as it is (§18.1.1)
		b.plain = true
		b.toHop(b.target.Hop)
	default:
		x.c.log.Debug("hop not reached", "hop", b.target.Hop, "err", err)
		b.lost(err)
	}
}

// unreached tells the caller why a place outside did not get the request, such as a certificate with another name.
func (h Hop) unreached(err error) string {
	text := fmt.Sprintf("%s was not reached: %v", h, err)
	if len(text) > maxWarning {
		text = strings.ToValidUTF8(text[:maxWarning], "") + "..."
	}
	return text
}

// maxWarning bounds a text that others had a part in, in bytes.
const maxWarning = 200

// large says whether a request is too large for UDP.
func (c *Core) large(req *sip.Request) bool {
	buf := message.Encode(req)
	defer buf.Free()
	return len(buf.B) > maxUDP
}

// hurry gives a hop up that is silent while there are others to try. Called under x.mu.
func (x *responseContext) hurry(b *branch) {
	time.AfterFunc(x.c.limits.HopTime, func() {
		x.c.guard(func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			if b.done || b.heard || len(x.pending) == 0 || x.cancelled {
				return
			}
			b.client.Abandon()
			b.tried(errNoAnswer)
			b.fail(408, "Request Timeout")
			x.advance()
		})
	})
}

// answers is the first response of a branch.
func (b *branch) answers(status int) {
	if b.x.serial && status != 503 {
		b.tried(nil)
	}
}

// failed503 is a place outside that is there and cannot serve.
func (b *branch) failed503() { b.tried(errUnavailable) }

// tried tells whoever chose the place what came of it.
func (b *branch) tried(err error) {
	c := b.x.c
	switch {
	case b.target.Hop.Transport != "":
		c.cfg.Border.Tried(b.target.Hop, err)
	case b.x.serial && b.target.Node != "" && err != nil && c.cfg.Proxies != nil:
		c.cfg.Proxies.Failed(b.target.Node)
	}
}

// stream gives the flow to a node, now or later; see outbox.to. quick is for a caller who has waited already, or has
// somewhere else to go.
func (c *Core) stream(t Target, quick bool, then func(flow.Flow, error)) (flow.Flow, bool, error) {
	return c.outbox.to(t.Node, func() (flow.Flow, bool) {
		f, ok := c.cfg.Peers.Living(t.Node)
		return f, ok && alive(f)
	}, func(ctx context.Context) (flow.Flow, error) {
		if quick {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, c.limits.RedialTime)
			defer cancel()
		}
		return c.cfg.Peers.Flow(ctx, t.Node, t.Addrs)
	}, then)
}

// connection gives the flow to a hop, now or later; see outbox.to.
func (c *Core) connection(h Hop, then func(flow.Flow, error)) (flow.Flow, bool, error) {
	return c.hops.to(h, func() (flow.Flow, bool) {
		f, ok := c.cfg.Border.Living(h)
		return f, ok && alive(f)
	}, func(ctx context.Context) (flow.Flow, error) {
		return c.cfg.Border.Open(ctx, h)
	}, then)
}

// drop gives up the connection with a node that does not answer.
func (c *Core) drop(node overlay.NodeID) {
	c.log.Info("a node does not answer; its connection is given up", "node", node)
	c.stats.silent.Add(1)
	if d, ok := c.cfg.Peers.(Dropper); ok {
		d.Drop(node)
	} else if f, ok := c.cfg.Peers.Living(node); ok {
		_ = f.Close()
	}
}

// alive says that a flow has not ended.
func alive(f flow.Flow) bool {
	select {
	case <-f.Done(): // nil for UDP: never
		return false
	default:
		return true
	}
}

// mend changes a response on its way back across the border of the overlay, from the transaction that it belongs to.
// Called under x.mu.
func (x *responseContext) mend(res *sip.Response, client *transaction.Client) {
	if x.r.enters || x.r.kind == flow.KindPublic {
		if client != nil && client.Flow().Edge() {
			x.c.leaving(res, client.Flow(), x.w.aor)
		}
	}
	if x.r.leaves && x.r.kind == flow.KindEdge {
		x.c.arriving(res, x.r.flow)
	}
}

// leaving changes the response of a phone that leaves the overlay: the phone's side of the route is nobody's business
// outside, nor is its address.
func (c *Core) leaving(res *sip.Response, phone flow.Flow, aor overlay.AOR) {
	if u, ok := firstRecordRoute(res.Headers()); ok && !c.own.domain(u.Host) && c.own.uri(&u, phone) {
		res.RemoveHeader("Record-Route")
	}
	for i, h := range res.Headers() {
		if contact, ok := message.ReadContact(h); ok {
			if res.StatusCode >= 300 && cleanHost(contact.Address.Host) != phone.Remote().Host {
				continue // a redirection elsewhere
			}
			res.Headers()[i] = c.outsideContact(contact, aor, phone, res.To(), res.From())
		}
	}
}

// arriving changes a response from outside for the phone that it goes to: its route begins at this node.
func (c *Core) arriving(res *sip.Response, phone flow.Flow) {
	if res.StatusCode <= 100 || res.StatusCode >= 300 {
		return
	}
	u, ok := lastRecordRoute(res.Headers())
	if !ok || !c.own.overlayRoute(&u) {
		return
	}
	token := c.tokens.make(EndpointOf(phone), partyOf(&res.To().Address), string(*res.CallID()))
	res.AppendHeaderAfter(sip.NewHeader("Record-Route", c.phoneSide(phone, token)), "Record-Route")
}

// outsideContact gives the Contact that the public side sees of a phone: its GRUU (RFC 5627), or at least the address of
// its user. It is never where the phone is.
func (c *Core) outsideContact(h *sip.ContactHeader, aor overlay.AOR, phone flow.Flow, parties ...partyHeader) sip.Header {
	if h.Address.Wildcard || c.own.domain(h.Address.Host) && h.Address.User != "" {
		return h
	}
	if aor.IsZero() {
		aor = c.partyOf(&h.Address, parties)
	}
	uri, ok := c.cfg.Edge.GRUU(aor, phone, h.Address)
	if !ok {
		uri = sip.Uri{Scheme: "sip", User: aor.User(), Host: string(c.cfg.OID)}
	}
	return &sip.ContactHeader{DisplayName: h.DisplayName, Address: uri, Params: h.Params}
}

// partyHeader is a From or To.
type partyHeader interface{ Value() string }

// partyOf finds out which of this node's users a phone speaks for: one of the parties, or the user part of its Contact.
func (c *Core) partyOf(contact *sip.Uri, parties []partyHeader) overlay.AOR {
	for _, p := range parties {
		var u *sip.Uri
		switch p := p.(type) {
		case *sip.FromHeader:
			u = &p.Address
		case *sip.ToHeader:
			u = &p.Address
		}
		if u == nil || !c.own.domain(u.Host) {
			continue
		}
		if aor, err := c.cfg.OID.AOR(u.User); err == nil && c.cfg.Edge.Owns(aor) {
			return aor
		}
	}
	if aor, err := c.cfg.OID.AOR(contact.User); err == nil && c.cfg.Edge.Owns(aor) {
		return aor
	}
	return overlay.AOR{}
}

// firstRecordRoute and lastRecordRoute give the topmost and the lowest value.
func firstRecordRoute(hs []sip.Header) (u sip.Uri, ok bool) {
	for _, h := range hs {
		if u, ok = recordRouteURI(h); ok {
			return u, true
		}
	}
	return u, false
}

func lastRecordRoute(hs []sip.Header) (u sip.Uri, ok bool) {
	for i := len(hs) - 1; i >= 0; i-- {
		if u, ok = recordRouteURI(hs[i]); ok {
			return u, true
		}
	}
	return u, false
}

func recordRouteURI(h sip.Header) (u sip.Uri, ok bool) {
	if rr, ok := h.(*sip.RecordRouteHeader); ok {
		return rr.Address, true
	}
	if h.Name() != "Record-Route" {
		return u, false
	}
	_, err := sip.ParseAddressValue(h.Value(), &u, nil)
	return u, err == nil
}
