package proxy

import (
	"errors"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
)

// branch is one copy of the request that left, or waits for its stream.
type branch struct {
	x       *responseContext
	target  Target
	breadth int

	// guarded by x.mu
	client *transaction.Client
	done   bool
	tag    string // the To tag of the last 2xx: another one with it is only a repetition
}

var _ transaction.ClientHandler = (*branch)(nil)

// start makes a branch for a target.
func (x *responseContext) start(t Target, share int) {
	b := &x.first
	if len(x.branches) > 0 {
		b = new(branch)
	}
	*b = branch{x: x, target: t, breadth: share}
	x.branches = append(x.branches, b)
	x.running++
	if t.Node == "" {
		if t.Flow == nil {
			b.fail(480, "Temporarily Unavailable")
			return
		}
		b.send(t.Flow)
		return
	}
	node := t.Node
	x.c.progress(StepConnect, x.r, node, nil)
	now, err := x.c.outbox.to(node, t.Addrs, func(f flow.Flow, err error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if b.done {
			return
		}
		x.c.progress(StepConnected, x.r, node, err)
		if err != nil {
			x.c.log.Debug("node not reached", "node", node, "err", err)
			b.fail(480, "Temporarily Unavailable")
		} else {
			b.send(f)
		}
		x.advance()
	})
	switch {
	case err != nil:
		x.c.progress(StepConnected, x.r, node, err)
		b.fail(503, "Service Unavailable")
	case now != nil:
		x.c.progress(StepConnected, x.r, node, nil)
		b.send(now)
	}
}

// send lets the branch leave on a flow. Called under x.mu.
func (b *branch) send(f flow.Flow) {
	x := b.x
	if !secureEnough(x.r, f) {
		b.fail(480, "Temporarily Unavailable")
		return
	}
	breadth := b.breadth
	fwd := x.c.rewrite(x.r, f, &b.target.URI, breadth)
	client, err := x.c.layer.Request(f, fwd, b)
	if err != nil {
		x.c.log.Debug("branch not sent", "err", err)
		if errors.Is(err, transaction.ErrFull) {
			b.fail(503, "Service Unavailable")
		} else {
			b.fail(480, "Temporarily Unavailable")
		}
		return
	}
	x.c.stats.forwarded.Add(1)
	x.c.progress(StepSent, x.r, b.target.Node, nil)
	b.client = client
	if x.r.tx.Invite() {
		client.LimitRinging()
	}
}

// finished takes the branch out of the count. Called under x.mu, once.
func (b *branch) finished() {
	b.done = true
	b.x.running--
	b.x.avail += b.breadth
}

// fail ends a branch with an answer of our own. Called under x.mu.
func (b *branch) fail(status int, reason string) {
	b.finished()
	b.x.offer(result{status: status, reason: reason})
}

// HandleResponse takes a response of the branch's transaction (§16.7).
func (b *branch) HandleResponse(_ *transaction.Client, res *sip.Response) {
	x := b.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if !message.PopVia(res) || res.Via() == nil { // step 3; a response that was for us alone has nowhere to go
		return
	}
	status := res.StatusCode
	invite := x.r.tx.Invite()
	switch {
	case status == 100:
		return
	case status < 200:
		if !x.answered && !b.done {
			_ = x.r.tx.Respond(res)
		}
		return
	case status < 300:
		if !b.done {
			b.finished()
		}
		if x.answered && !invite {
			return
		}
		first := !x.answered
		x.answered = true
		if tag, _ := res.To().Params.Get("tag"); first || tag != b.tag {
			b.tag = tag
			x.c.calls.seen(x.r, status, res.To())
		}
		x.respond(res)
		if first {
			x.abandon()
			x.settle()
		}
		return
	}
	if b.done {
		return
	}
	b.finished()
	if status == 401 || status == 407 {
		x.auth = append(x.auth, res.GetHeaders("WWW-Authenticate")...)
		x.auth = append(x.auth, res.GetHeaders("Proxy-Authenticate")...)
	}
	x.offer(result{status: status, reason: res.Reason, res: res})
	if (status >= 600 || x.w.hasGRUU && !absent(status)) && !x.declined {
		x.declined = true // step 5; and the one device there is has spoken
		x.abandon()
	}
	x.advance()
}

// HandleTimeout is timer B or F: the branch counts as answered 408 (§16.8).
func (b *branch) HandleTimeout(*transaction.Client) { b.failed(408, "Request Timeout") }

// HandleTransportError is a dead flow (§16.9): for the caller the phone is away at present, which another branch may
// better.
func (b *branch) HandleTransportError(_ *transaction.Client, err error) {
	b.x.c.log.Debug("branch lost", "err", err)
	b.failed(480, "Temporarily Unavailable")
}

func (b *branch) failed(status int, reason string) {
	x := b.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if b.done {
		return
	}
	b.fail(status, reason)
	x.advance()
}
