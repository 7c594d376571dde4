package phonetest

import (
	"context"
	"errors"
	"fmt"
)

// BaresipCall is one call of a baresip phone.
type BaresipCall struct {
	b        *Baresip
	from     int    // events before this index are not of this call
	id       string // Call-ID; of an outgoing call it is learnt from the first event
	outgoing bool
}

// ErrCallClosed is wrapped by the error of a wait for something that cannot happen any more because the call is over; the
// text tells baresip's reason, such as "404 Not Found".
var ErrCallClosed = errors.New("the call is closed")

// Dial calls uri and returns without waiting for an answer.
func (b *Baresip) Dial(ctx context.Context, uri string) *BaresipCall {
	b.t.Helper()
	err := b.ready(ctx)
	c := &BaresipCall{b: b, from: b.ctl.count(), outgoing: true}
	if err == nil {
		_, err = b.ctl.command(ctx, "dial", uri)
	}
	if err != nil {
		b.t.Fatalf("baresip %s dials %s: %v", b.cfg.AOR, uri, err)
	}
	return c
}

// WaitIncoming returns the next call that arrives, ringing; a call given out once is not given again.
func (b *Baresip) WaitIncoming(ctx context.Context) (*BaresipCall, error) {
	e, next, err := b.ctl.wait(ctx, b.seen, func(e Event) bool { return e.Type == CallIncoming })
	if err != nil {
		return nil, fmt.Errorf("baresip %s: wait for a call: %w", b.cfg.AOR, err)
	}
	b.seen = next
	return &BaresipCall{b: b, from: next - 1, id: e.ID}, nil
}

// ID is the Call-ID, "" as long as baresip has not told it.
func (c *BaresipCall) ID() string { return c.id }

// mine says whether an event is of this call.
func (c *BaresipCall) mine(e Event) bool {
	if e.ID == "" {
		return false
	}
	if c.id == "" && c.outgoing && e.Direction == "outgoing" {
		c.id = e.ID
	}
	return e.ID == c.id
}

// wait waits for an event of that type in this call, in its past too.
func (c *BaresipCall) wait(ctx context.Context, what string) error {
	return c.waitFrom(ctx, c.from, what, "")
}

// waitFrom waits for an event with index from or later, with that parameter unless it is "".
func (c *BaresipCall) waitFrom(ctx context.Context, from int, what, param string) error {
	e, _, err := c.b.ctl.wait(ctx, from, func(e Event) bool {
		return c.mine(e) && (e.Type == what && (param == "" || e.Param == param) || e.Type == CallClosed)
	})
	switch {
	case err != nil:
		return fmt.Errorf("baresip %s: wait for %s: %w", c.b.cfg.AOR, what, err)
	case e.Type != what:
		return fmt.Errorf("baresip %s: wait for %s: %w: %s", c.b.cfg.AOR, what, ErrCallClosed, e.Param)
	}
	return nil
}

// WaitRinging returns when the far side rings.
func (c *BaresipCall) WaitRinging(ctx context.Context) error { return c.wait(ctx, CallRinging) }

// WaitEstablished returns when the call is answered, or tells how it failed (ErrCallClosed).
func (c *BaresipCall) WaitEstablished(ctx context.Context) error { return c.wait(ctx, CallEstablished) }

// WaitAudio returns when the first audio packet from the far side has arrived.
func (c *BaresipCall) WaitAudio(ctx context.Context) error { return c.wait(ctx, CallRTP) }

// WaitClosed returns when the call is over, with baresip's reason: "404 Not Found", "Connection reset by peer" after a
// BYE from the far side, "Connection reset by user" after Hangup.
func (c *BaresipCall) WaitClosed(ctx context.Context) (reason string, err error) {
	e, _, err := c.b.ctl.wait(ctx, c.from, func(e Event) bool { return c.mine(e) && e.Type == CallClosed })
	if err != nil {
		return "", fmt.Errorf("baresip %s: wait for the end of the call: %w", c.b.cfg.AOR, err)
	}
	return e.Param, nil
}

// Accept answers an incoming call and returns when it is established.
func (c *BaresipCall) Accept(ctx context.Context) error {
	if _, err := c.b.ctl.command(ctx, "accept", ""); err != nil {
		return err
	}
	return c.WaitEstablished(ctx)
}

// Hangup ends the call in whatever state it is (BYE, CANCEL, or 486 for an incoming one that rings) and returns when
// baresip holds it for closed, which is at once: it does not wait for the far side.
func (c *BaresipCall) Hangup(ctx context.Context) error {
	if _, err := c.b.ctl.command(ctx, "hangup", ""); err != nil {
		return err
	}
	_, err := c.WaitClosed(ctx)
	return err
}

// Hold puts the far side on hold and returns when it has agreed.
func (c *BaresipCall) Hold(ctx context.Context) error { return c.reinvite(ctx, "hold") }

// Resume takes the far side from hold and returns when it has agreed.
func (c *BaresipCall) Resume(ctx context.Context) error { return c.reinvite(ctx, "resume") }

func (c *BaresipCall) reinvite(ctx context.Context, command string) error {
	from := c.b.ctl.count()
	if _, err := c.b.ctl.command(ctx, command, ""); err != nil {
		return err
	}
	return c.waitFrom(ctx, from, CallRemoteSDP, "answer")
}

// WaitReoffer returns when the far side has changed the session, as by hold or resume, for the n-th time since the call
// was set up.
func (c *BaresipCall) WaitReoffer(ctx context.Context, n int) error {
	if !c.outgoing {
		n++ // the first offer set the call up
	}
	seen := 0
	_, _, err := c.b.ctl.wait(ctx, c.from, func(e Event) bool {
		if c.mine(e) && e.Type == CallRemoteSDP && e.Param == "offer" {
			seen++
		}
		return seen == n
	})
	if err != nil {
		return fmt.Errorf("baresip %s: wait for a new offer: %w", c.b.cfg.AOR, err)
	}
	return nil
}
