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
	heard  bool   // a response has come
	rang   bool   // and one above 100
	again  bool   // sent a second time, over another stream
	plain  bool   // too large for UDP, but TCP is not to be had there
	tag    string // the To tag of the last 2xx: another one with it is only a repetition

	exchange *exchange // with Media; nil: bodies pass untouched
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
	if x.c.cfg.Media == nil || b.described() {
		b.depart()
	}
}

// depart sends the branch where its target is. Called under x.mu.
func (b *branch) depart() {
	t := &b.target
	switch {
	case t.Node != "":
		b.toNode()
	case t.Hop.Transport != "":
		b.toHop(t.Hop)
	case t.Flow == nil:
		b.fail(480, "Temporarily Unavailable")
	default:
		b.send(t.Flow)
	}
}

// toNode sends the branch over the stream to its node, opening one if need be. Called under x.mu.
func (b *branch) toNode() {
	x, node := b.x, b.target.Node
	x.c.progress(StepConnect, x.r, node, nil)
	now, ok, err := x.c.stream(b.target, x.serial || b.again, func(f flow.Flow, err error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if b.done {
			return
		}
		x.c.progress(StepConnected, x.r, node, err)
		if err != nil {
			x.c.log.Debug("node not reached", "node", node, "err", err)
			b.lost(err)
		} else {
			b.send(f)
		}
		x.advance()
	})
	switch {
	case err != nil:
		x.c.progress(StepConnected, x.r, node, err)
		b.fail(503, "Service Unavailable")
	case ok:
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
	fwd := x.c.rewrite(x.r, f, &b.target.URI, breadth, b.body())
	b.leave(f, fwd)
}

// leave sends the copy made for a flow. Called under x.mu.
func (b *branch) leave(f flow.Flow, fwd *sip.Request) {
	x := b.x
	client, err := x.c.layer.Request(f, fwd, b)
	if err != nil {
		x.c.log.Debug("branch not sent", "err", err)
		switch {
		case errors.Is(err, transaction.ErrFull):
			b.fail(503, "Service Unavailable")
		case b.target.Node != "" && !b.again: // the flow has ended between two glances
			b.again = true
			b.toNode()
		default:
			b.lost(err)
		}
		return
	}
	x.c.stats.forwarded.Add(1)
	x.c.progress(StepSent, x.r, b.target.Node, nil)
	b.client = client
	if x.r.tx.Invite() {
		client.LimitRinging()
	}
	if x.serial && len(x.pending) > 0 && b.target.Node == "" {
		x.hurry(b)
	}
}

// finished takes the branch out of the count. Called under x.mu, once.
func (b *branch) finished() {
	b.done = true
	b.x.running--
	b.x.avail += b.breadth
	if b.exchange != nil {
		b.exchange.release()
	}
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
	x.c.restore(res)
	if x.r.line != nil {
		x.r.line.Undress(res)
	}
	status := res.StatusCode
	invite := x.r.tx.Invite()
	if !b.heard {
		b.heard = true
		b.answers(status)
	}
	switch {
	case status == 100:
		return
	case status < 200:
		b.rang = true
		if !x.answered && !b.done {
			b.describe(res)
			x.mend(res, b.client)
			_ = x.r.tx.Respond(res)
		}
		return
	case status < 300:
		b.describe(res)
		x.mend(res, b.client)
		x.r.session.answer(res)
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
			x.c.calls.seen(x.r, status, res.To(), sessionOf(res))
			x.c.over(x.r, status, true)
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
	res, again := b.challenged(res)
	if again {
		return
	}
	status = res.StatusCode
	b.describe(res)
	b.finished()
	if status == 401 || status == 407 {
		x.auth = append(x.auth, res.GetHeaders("WWW-Authenticate")...)
		x.auth = append(x.auth, res.GetHeaders("Proxy-Authenticate")...)
	}
	x.mend(res, b.client)
	if x.serial {
		x.best = result{} // what came before was no answer
		if status == 503 {
			b.failed503()
		} else {
			x.pending = nil // an answer: nobody else is asked
		}
	}
	x.offer(result{status: status, reason: res.Reason, res: res})
	if (status >= 600 || x.w.hasGRUU && !absent(status)) && !x.declined {
		x.declined = true // step 5; and the one device there is has spoken
		x.abandon()
	}
	x.advance()
}

// HandleTimeout is timer B or F: the branch counts as answered 408 (§16.8).
func (b *branch) HandleTimeout(*transaction.Client) {
	x := b.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if b.done {
		return
	}
	if b.heard {
		x.pending = nil // somebody is there
	} else {
		b.tried(errNoAnswer)
	}
	b.fail(408, "Request Timeout")
	x.advance()
}

// HandleTransportError is a dead flow, or a node that does not say a word (§16.9).
func (b *branch) HandleTransportError(_ *transaction.Client, err error) {
	x := b.x
	x.c.log.Debug("branch lost", "err", err)
	x.mu.Lock()
	defer x.mu.Unlock()
	if b.target.Node != "" && errors.Is(err, transaction.ErrSilent) {
		x.c.drop(b.target.Node)
	}
	switch {
	case b.done:
		return
	case b.target.Node != "" && !x.serial && !b.again && !b.rang && !x.cancelled:
		b.again, b.heard = true, false // the node may have come back, or only the connection have gone
		b.toNode()
	default:
		if b.rang && x.r.tx.Invite() {
			x.pending = nil // a phone rings: a second copy would meet the first one there
		}
		b.lost(err)
	}
	x.advance()
}

// lost ends a branch that could not be sent, or whose flow has gone: for the caller the phone is away at present, which
// another branch may better; what leads out of the overlay has failed as such. Called under x.mu.
func (b *branch) lost(err error) {
	b.tried(err)
	switch {
	case !b.x.serial:
		b.fail(480, "Temporarily Unavailable")
	case b.target.Node != "":
		b.fail(503, "Proxy Peer Lost")
	default:
		b.finished()
		b.x.offer(result{status: 502, reason: "Bad Gateway", warning: b.target.Hop.unreached(err)})
	}
}
