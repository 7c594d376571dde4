package proxy

import (
	"context"
	"errors"
	"fmt"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
)

// ErrTimeout says that a request of this node's own making got no answer.
var ErrTimeout = errors.New("no answer came in time")

// Send sends a request of this node's own making, such as the REGISTER of an account (draft §4.2), and gives its final
// response. It leaves over the stream to t.Node; or, on a proxy peer that names itself there, for the hops that its
// Request-URI or topmost Route leads to, one after the other (RFC 3263 §4.3). req has no Via and must not be changed
// afterwards. An error, ErrTimeout or that of ctx among them, means that there was no response.
func (c *Core) Send(ctx context.Context, req *sip.Request, t Target) (*sip.Response, error) {
	if t.Node != c.self {
		f, err := c.open(ctx, func(then func(flow.Flow, error)) (flow.Flow, bool, error) { return c.stream(t, true, then) })
		if err != nil {
			return nil, err
		}
		res, err := c.exchange(ctx, f, req)
		if errors.Is(err, transaction.ErrSilent) {
			c.drop(t.Node)
		}
		return res, err
	}
	if c.cfg.Border == nil {
		return nil, errors.New("this node is no proxy peer")
	}
	next := req.Recipient
	if routes := message.Routes(req, "Route"); len(routes) > 0 {
		next = routes[0]
	}
	hops, err := c.cfg.Border.Hops(ctx, next, nil, req)
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("%s has no servers", next.Host)
	for _, h := range hops[:min(len(hops), maxHops)] {
		var f flow.Flow
		if f, err = c.open(ctx, func(then func(flow.Flow, error)) (flow.Flow, bool, error) { return c.connection(h, then) }); err == nil {
			var res *sip.Response
			if res, err = c.exchange(ctx, f, req); err == nil && res.StatusCode != 503 {
				c.cfg.Border.Tried(h, nil)
				return res, nil
			} else if err == nil {
				err = errUnavailable
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c.cfg.Border.Tried(h, err)
	}
	return nil, err
}

// open waits for a flow that may have to be opened.
func (c *Core) open(ctx context.Context, ask func(func(flow.Flow, error)) (flow.Flow, bool, error)) (flow.Flow, error) {
	type opened struct {
		f   flow.Flow
		err error
	}
	done := make(chan opened, 1)
	f, ok, err := ask(func(f flow.Flow, err error) { done <- opened{f, err} })
	if err != nil || ok {
		return f, err
	}
	select {
	case o := <-done:
		return o.f, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.base.Done():
		return nil, ErrTimeout
	}
}

// exchange sends a copy of a request on a flow and waits for its final response.
func (c *Core) exchange(ctx context.Context, f flow.Flow, req *sip.Request) (*sip.Response, error) {
	at := c.own.stamp(f)
	transport := string(f.Transport())
	if flow.KindOf(f) == flow.KindPeer {
		transport = "TLS"
	}
	out := message.Clone(req)
	via := &sip.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: transport, Host: at.Host, Port: at.Port,
		Params: sip.HeaderParams{{K: "branch", V: sip.GenerateBranch()}}}
	if !f.Reliable() {
		via.Params = append(via.Params, sip.HeaderKV{K: "rport"})
	}
	out.PrependHeader(via)
	touch(out)
	w := waiter{done: make(chan answered, 1)}
	client, err := c.layer.Request(f, out, w)
	if err != nil {
		return nil, err
	}
	select {
	case a := <-w.done:
		return a.res, a.err
	case <-ctx.Done():
		client.Abandon()
		return nil, ctx.Err()
	case <-c.base.Done():
		return nil, ErrTimeout
	}
}

// waiter is the user of a transaction that somebody waits for.
type waiter struct{ done chan answered }

type answered struct {
	res *sip.Response
	err error
}

var _ transaction.ClientHandler = waiter{}

func (w waiter) HandleResponse(_ *transaction.Client, res *sip.Response) {
	if res.StatusCode >= 200 {
		w.end(answered{res: res})
	}
}

func (w waiter) HandleTimeout(*transaction.Client) { w.end(answered{err: ErrTimeout}) }

func (w waiter) HandleTransportError(_ *transaction.Client, err error) { w.end(answered{err: err}) }

func (w waiter) end(a answered) {
	select {
	case w.done <- a:
	default: // a second 2xx
	}
}
