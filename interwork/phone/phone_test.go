package phone

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/transaction"
)

// quick are timers for tests that wait for a retransmission.
var quick = transaction.Timers{T1: 20 * time.Millisecond, T2: 80 * time.Millisecond, T4: 100 * time.Millisecond}

func TestCall(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	alice, _, calls := pair(t, nil, func(c *Config) { c.Incoming = AnswerAfter(20 * time.Millisecond) })
	out, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, out, Ringing)
	wait(t, out, Answered)
	in := next(t, calls)
	wait(t, in, Answered)
	if in.Peer() != aliceAOR || out.Peer() != bobAOR {
		t.Errorf("peers are %q and %q", in.Peer(), out.Peer())
	}
	if _, err := out.WaitHeard(ctx, bobHz, 10); err != nil {
		t.Error(err)
	}
	heard, err := in.WaitHeard(ctx, aliceHz, 10)
	if err != nil {
		t.Error(err)
	}
	if heard.Lost != 0 {
		t.Errorf("on loopback: %s", heard)
	}
	if err := out.Hangup(ctx); err != nil {
		t.Error(err)
	}
	wait(t, in, Ended)
	wait(t, out, Ended)
	var kinds []Kind
	for st := range out.States() {
		kinds = append(kinds, st.Kind)
	}
	if len(kinds) != 3 || kinds[0] != Ringing || kinds[1] != Answered || kinds[2] != Ended {
		t.Errorf("states %v", kinds)
	}
	if n := len(alice.Calls()); n != 0 {
		t.Errorf("%d calls left", n)
	}
}

func TestCalleeHangsUp(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	alice, _, calls := pair(t, nil, nil)
	out, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, out, Answered)
	if err := next(t, calls).Hangup(ctx); err != nil {
		t.Error(err)
	}
	wait(t, out, Ended)
}

func TestHold(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	alice, _, calls := pair(t, nil, nil)
	out, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, out, Answered)
	in := next(t, calls)
	hears := map[*Call]float64{out: bobHz, in: aliceHz}
	for i, side := range []struct{ holder, held *Call }{{out, in}, {in, out}, {out, in}} {
		if _, err := in.WaitHeard(ctx, aliceHz, 5); err != nil {
			t.Fatal(err)
		}
		n := i/2 + 1 // the third round is the second of its side
		if err := side.holder.Hold(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := side.held.WaitNth(ctx, Held, n); err != nil {
			t.Fatal(err)
		}
		// The side on hold is silent, and hears the other go on, which is the clock here.
		sent := side.held.Media().Sent
		if _, err := side.held.WaitHeard(ctx, hears[side.held], side.held.Media().Received+10); err != nil {
			t.Fatal(err)
		}
		if now := side.held.Media().Sent; now > sent+1 {
			t.Errorf("round %d: the side on hold has sent %d packets", i, now-sent)
		}
		if err := side.holder.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := side.held.WaitNth(ctx, Resumed, n); err != nil {
			t.Fatal(err)
		}
		if _, err := side.holder.WaitHeard(ctx, hears[side.holder], side.holder.Media().Received+10); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Hangup(ctx); err != nil {
		t.Error(err)
	}
	wait(t, in, Ended)
}

func TestCallFails(t *testing.T) {
	for name, tc := range map[string]struct {
		incoming func(*Call)
		to       string
		status   int
	}{
		"busy":            {Busy(), bobAOR, 486},
		"declined":        {func(c *Call) { _ = c.Reject(603) }, bobAOR, 603},
		"another user":    {AnswerAfter(0), "sip:carol@p2psip.example", 404},
		"offline":         {func(c *Call) { _ = c.Reject(480) }, bobAOR, 480},
		"rings, then not": {func(c *Call) { _ = c.Ring(); _ = c.Reject(486) }, bobAOR, 486},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			alice, _, _ := pair(t, nil, func(c *Config) { c.Incoming = tc.incoming })
			out, err := alice.Call(ctx, tc.to)
			if err != nil {
				t.Fatal(err)
			}
			st, err := out.Wait(ctx, Answered)
			var status *StatusError
			if !errors.Is(err, ErrOver) || !errors.As(err, &status) || status.Status != tc.status || st.Status != tc.status {
				t.Errorf("ended in %s, %v; want %d", st, err, tc.status)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	for name, give := range map[string]func(context.CancelFunc, *Call){
		"cancel":  func(_ context.CancelFunc, c *Call) { c.Cancel() },
		"hang up": func(_ context.CancelFunc, c *Call) { _ = c.Hangup(context.Background()) },
		"context": func(cancel context.CancelFunc, _ *Call) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			alice, _, calls := pair(t, nil, func(c *Config) { c.Incoming = RingOnly() })
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			out, err := alice.Call(ctx, bobAOR)
			if err != nil {
				t.Fatal(err)
			}
			wait(t, out, Ringing)
			in := next(t, calls)
			give(cancel, out)
			if st := wait(t, out, Failed); st.Status != 487 {
				t.Errorf("the caller ends in %s", st)
			}
			if st := wait(t, in, Failed); st.Status != 487 {
				t.Errorf("the callee ends in %s", st)
			}
			if err := in.Answer(); !errors.Is(err, ErrState) {
				t.Errorf("answering a cancelled call: %v", err)
			}
		})
	}
}

func TestMaxCalls(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	alice, _, calls := pair(t, nil, func(c *Config) { c.MaxCalls = 1 })
	first, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, first, Answered)
	next(t, calls)
	second, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	if st := wait(t, second, Failed); st.Status != 486 {
		t.Errorf("the second call ends in %s", st)
	}
	if err := first.Hangup(ctx); err != nil {
		t.Error(err)
	}
}

// throughRelay is two phones behind a proxy that records its route twice.
func throughRelay(t *testing.T) (r *relay, alice *Phone, calls <-chan *Call) {
	r = startRelay(t)
	timers := func(c *Config) { c.Timers = quick }
	incoming := make(chan *Call, 16)
	alice = startPhone(t, aliceAOR, r.addr.String(), listen(t), timers)
	bob := startPhone(t, bobAOR, r.addr.String(), listen(t), func(c *Config) {
		timers(c)
		c.Incoming = func(call *Call) { _ = call.Answer(); incoming <- call }
	})
	r.mu.Lock()
	r.users["alice"], r.users["bob"] = alice.host, bob.host
	r.mu.Unlock()
	return r, alice, incoming
}

// Every request of the dialog, from both sides, has to follow the route that the proxy recorded.
func TestRouteSet(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	r, alice, calls := throughRelay(t)
	out, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, out, Answered)
	in := next(t, calls)
	for _, hold := range []func(context.Context) error{out.Hold, out.Resume, in.Hold, in.Resume} {
		if err := hold(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Hangup(ctx); err != nil {
		t.Error(err)
	}
	wait(t, out, Ended)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inside["ACK"] < 5 || r.inside["INVITE"] != 4 || r.inside["BYE"] != 1 {
		t.Errorf("requests that came by the route: %v", r.inside)
	}
}

// The answer is repeated until the ACK comes, and the ACK with every answer that comes again.
func TestLostACK(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	r, alice, calls := throughRelay(t)
	lost, answers := 0, 0
	r.mu.Lock()
	r.drop = func(m sip.Message) bool {
		switch m := m.(type) {
		case *sip.Request:
			if m.Method == "ACK" {
				lost++
				return lost <= 2
			}
		case *sip.Response:
			if m.StatusCode == 200 && m.CSeq().MethodName == "INVITE" {
				answers++
			}
		}
		return false
	}
	r.mu.Unlock()
	out, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, out, Answered)
	in := next(t, calls)
	if err := in.Hold(ctx); err != nil { // it waits for the ACK
		t.Fatal(err)
	}
	r.mu.Lock()
	if answers < 3 {
		t.Errorf("%d answers sent, 2 ACKs lost", answers)
	}
	r.mu.Unlock()
	if err := out.Hangup(ctx); err != nil {
		t.Error(err)
	}
}

func TestNoACK(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	r, alice, calls := throughRelay(t)
	r.mu.Lock()
	r.drop = func(m sip.Message) bool {
		req, ok := m.(*sip.Request)
		return ok && req.Method == "ACK"
	}
	r.mu.Unlock()
	out, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	if st := wait(t, next(t, calls), Ended); st.Reason != errUnacked.Error() {
		t.Errorf("the callee ends in %s", st)
	}
	wait(t, out, Ended) // by the BYE of the callee
}

// A cancel that crosses the answer ends in a call that is hung up, not in one that stays.
func TestCancelCrossesAnswer(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	r, alice, calls := throughRelay(t)
	answered, cancelled, once := make(chan struct{}), make(chan struct{}), sync.Once{}
	r.mu.Lock()
	r.drop = func(m sip.Message) bool {
		if req, ok := m.(*sip.Request); ok {
			return req.Method == "CANCEL" // lost, so the answer wins
		}
		if res := m.(*sip.Response); res.StatusCode != 200 || res.CSeq().MethodName != "INVITE" {
			return false
		}
		once.Do(func() { close(answered) })
		select {
		case <-cancelled:
			return false // one that is repeated
		default:
			return true
		}
	}
	r.mu.Unlock()
	out, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	<-answered
	out.Cancel()
	close(cancelled)
	if st := wait(t, out, Failed); st.Status != 487 {
		t.Errorf("the caller ends in %s", st)
	}
	wait(t, next(t, calls), Ended) // by the caller's BYE
}

func TestCloseWithCalls(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	alice, _, calls := pair(t, nil, nil)
	out, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, out, Answered)
	next(t, calls)
	ringing, err := alice.Call(ctx, "sip:nobody@p2psip.example")
	if err != nil {
		t.Fatal(err)
	}
	_ = ringing
}
