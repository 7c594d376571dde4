package phone

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/transaction"
)

// maxGlare is how often a change of the session is tried when both sides try at once (491).
const maxGlare = 3

// Hold stops the far side from being heard and tells it so (a=sendonly, RFC 3264 §8.4), and returns when it has agreed.
func (c *Call) Hold(ctx context.Context) error { return c.modify(ctx, true) }

// Resume takes the far side back from Hold.
func (c *Call) Resume(ctx context.Context) error { return c.modify(ctx, false) }

// modify changes the session by an INVITE inside the dialog (§14.1). When it is refused, the session stays as it was.
func (c *Call) modify(ctx context.Context, hold bool) error {
	what := "resume"
	if hold {
		what = "hold"
	}
	if err := c.settled(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	c.modifying = true
	before := c.held
	c.held = hold
	c.mu.Unlock()

	err := c.reinvite(ctx)

	c.mu.Lock()
	c.modifying = false
	if err != nil {
		c.held = before
	}
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// settled waits for the ACK of an INVITE this side has accepted, before which it may not send its own (§14.1). On success
// c.mu is held.
func (c *Call) settled(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.dlg == nil || c.states.over() || c.modifying {
			c.mu.Unlock()
			return ErrState
		}
		if c.unacked == nil {
			return nil
		}
		acked := c.unacked.done
		c.mu.Unlock()
		select {
		case <-acked:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *Call) reinvite(ctx context.Context) error {
	var auth []string
	for challenges, glares := 0, 0; ; {
		h := &changer{c: c, done: make(awaited, 1), auth: auth}
		if err := h.send(); err != nil {
			return err
		}
		var r result
		select {
		case r = <-h.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.p.ctx.Done():
			return ErrClosed
		}
		if r.err != nil {
			return r.err
		}
		err := statusError("INVITE", r.res)
		switch status := r.res.StatusCode; {
		case err == nil:
			return nil
		case challenged(r.res) && challenges < maxTries-1:
			challenges++
			again, noAnswer := c.p.authorize(h.req, r.res)
			if noAnswer != nil {
				return err
			}
			auth = again
		case status == 491 && glares < maxGlare:
			glares++
			if !sleep(ctx, c.glareWait()) {
				return context.Cause(ctx)
			}
		case status == 481 || status == 408: // §12.2.1.2: the dialog is gone
			c.mu.Lock()
			c.p.leave(c.dlg)
			c.endLocked(State{Kind: Ended, Status: status, Reason: r.res.Reason})
			c.mu.Unlock()
			return err
		default:
			return err
		}
	}
}

// glareWait is how long to wait after a 491 (§14.1): whoever made the Call-ID waits longer.
func (c *Call) glareWait() time.Duration {
	if c.outgoing {
		return 2100*time.Millisecond + rand.N(1900*time.Millisecond)
	}
	return rand.N(2 * time.Second)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// changer is one INVITE inside the dialog.
type changer struct {
	c    *Call
	done awaited
	auth []string
	req  *sip.Request

	once sync.Once
	ack  *sip.Request // set in once
}

func (h *changer) send() error {
	c := h.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.states.over() {
		return ErrOver
	}
	req, err := c.p.inDialog(c.dlg, "INVITE", 0, h.auth, c.describe(nil))
	if err != nil {
		return err
	}
	h.req = req
	_, err = c.p.layer.Request(c.p.hop(c.dlg), req, h)
	return err
}

// HandleResponse acknowledges a 2xx each time it comes and takes the answer in it once.
func (h *changer) HandleResponse(_ *transaction.Client, res *sip.Response) {
	if res.StatusCode < 200 {
		return
	}
	if res.StatusCode >= 300 {
		h.done.post(result{res: res})
		return
	}
	c := h.c
	c.mu.Lock()
	defer c.mu.Unlock()
	first := false
	h.once.Do(func() {
		first = true
		c.dlg.refresh(res)
		h.ack = c.p.acknowledge(c.dlg, h.req.CSeq().SeqNo, h.auth)
	})
	if !first {
		c.p.send(c.p.hop(c.dlg), h.ack)
		return
	}
	answer, err := c.p.parseAnswer(res.Body())
	if err != nil || !usable(answer.addr) {
		h.done.post(result{err: fmt.Errorf("the answer cannot be used: %w", err)})
		return
	}
	if !c.states.over() {
		c.direct(answer)
	}
	h.done.post(result{res: res})
}

// HandleTimeout says that nobody answered.
func (h *changer) HandleTimeout(tx *transaction.Client) { h.done.HandleTimeout(tx) }

// HandleTransportError says that it could not be sent.
func (h *changer) HandleTransportError(tx *transaction.Client, err error) {
	h.done.HandleTransportError(tx, err)
}

// reinvited takes an INVITE inside the dialog: the far side holds, resumes, moves, or asks anew. c.mu is held.
func (c *Call) reinvited(tx *transaction.Server, req *sip.Request) {
	if c.modifying || c.unacked != nil {
		c.p.respond(tx, c.response(req, 491)) // §14.2
		return
	}
	var offer *description
	if len(req.Body()) > 0 {
		d, err := c.p.parseSDP(req.Body())
		if err != nil || !usable(d.addr) {
			c.p.respond(tx, c.response(req, 488)) // the session stays as it was
			return
		}
		offer = &d
	}
	c.dlg.refresh(req)
	if err := c.respond2xx(tx, offer); err != nil {
		c.p.log.Debug("session not changed", "call", c.callID, "err", err)
		return
	}
	if offer == nil {
		return // the ACK tells
	}
	before := c.theirs
	c.direct(*offer)
	switch {
	case before.recv && !offer.dir.recv:
		c.states.push(State{Kind: Held, Reason: "held by the far side"})
	case !before.recv && offer.dir.recv:
		c.states.push(State{Kind: Resumed, Reason: "resumed by the far side"})
	}
}
