package phone

import (
	"strings"
	"testing"
	"time"

	"p2psip/interwork/phonetest"
)

// The phone has to get on with phones that nobody here wrote; otherwise it would prove little about a node.

func TestCallsSIPp(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	bob := phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: bobAOR, Proxy: "127.0.0.1:9"})
	alice := startPhone(t, aliceAOR, bob.Addr(), listen(t), nil)

	run := bob.Start(phonetest.Answer{Ring: 50 * time.Millisecond})
	out, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, out, Ringing)
	wait(t, out, Answered)
	if _, err := out.WaitHeard(ctx, DefaultToneHz, 10); err != nil { // SIPp echoes
		t.Error(err)
	}
	if err := out.Hold(ctx); err != nil {
		t.Fatal(err)
	}
	if err := out.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := out.WaitHeard(ctx, DefaultToneHz, out.Media().Received+10); err != nil {
		t.Error(err)
	}
	if err := out.Hangup(ctx); err != nil {
		t.Error(err)
	}
	if err := run.Wait(ctx); err != nil {
		t.Error(err)
	}

	for _, tc := range []struct {
		scenario phonetest.Scenario
		status   int
	}{{phonetest.Refuse{}, 486}, {phonetest.NoAnswer{}, 487}} {
		run := bob.Start(tc.scenario)
		out, err := alice.Call(ctx, bobAOR)
		if err != nil {
			t.Fatal(err)
		}
		if tc.status == 487 {
			wait(t, out, Ringing)
			out.Cancel()
		}
		if st := wait(t, out, Failed); st.Status != tc.status {
			t.Errorf("ended in %s, want %d", st, tc.status)
		}
		if err := run.Wait(ctx); err != nil {
			t.Error(err)
		}
	}

	run = bob.Start(phonetest.Answer{HoldAfter: 50 * time.Millisecond, HoldFor: 50 * time.Millisecond, HangUp: 50 * time.Millisecond})
	if out, err = alice.Call(ctx, bobAOR); err != nil {
		t.Fatal(err)
	}
	wait(t, out, Held)
	wait(t, out, Resumed)
	wait(t, out, Ended)
	if err := run.Wait(ctx); err != nil {
		t.Error(err)
	}
}

func TestSIPpCalls(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	calls := make(chan *Call, 1)
	alice := startPhone(t, aliceAOR, "127.0.0.1:9", listen(t), func(c *Config) {
		policy := AnswerAfter(20 * time.Millisecond)
		c.Incoming = func(call *Call) { policy(call); calls <- call }
	})
	bob := phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: bobAOR, Proxy: alice.host})
	for _, sc := range []phonetest.Scenario{
		phonetest.Call{To: aliceAOR, HoldAfter: 50 * time.Millisecond, HoldFor: 50 * time.Millisecond, HangUp: 50 * time.Millisecond},
		phonetest.Fail{To: "sip:carol@p2psip.example", Status: 404},
	} {
		if err := bob.Start(sc).Wait(ctx); err != nil {
			t.Error(err)
		}
	}
	in := next(t, calls)
	wait(t, in, Resumed)
	wait(t, in, Ended)

	run := bob.Start(phonetest.Call{To: aliceAOR})
	in = next(t, calls)
	wait(t, in, Answered)
	if err := in.Hangup(ctx); err != nil {
		t.Error(err)
	}
	if err := run.Wait(ctx); err != nil {
		t.Error(err)
	}
}

func TestBaresip(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	calls := make(chan *Call, 1)
	pc := listen(t)
	bob := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: bobAOR, Proxy: pc.LocalAddr().String(), ToneHz: bobHz})
	alice := startPhone(t, aliceAOR, bob.Addr(), pc, func(c *Config) {
		policy := AnswerAfter(20 * time.Millisecond)
		c.Incoming = func(call *Call) { policy(call); calls <- call }
	})
	bob.Ready(ctx)

	out, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	call, err := bob.WaitIncoming(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := call.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	wait(t, out, Answered)
	if _, err := out.WaitHeard(ctx, bobHz, 10); err != nil {
		t.Error(err)
	}
	if err := bob.WaitHeard(ctx, aliceHz); err != nil {
		t.Error(err)
	}
	if err := call.Hold(ctx); err != nil {
		t.Fatal(err)
	}
	wait(t, out, Held)
	if err := call.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	wait(t, out, Resumed)
	if _, err := out.WaitHeard(ctx, bobHz, out.Media().Received+10); err != nil {
		t.Error(err)
	}
	if err := out.Hangup(ctx); err != nil {
		t.Error(err)
	}
	if reason, err := call.WaitClosed(ctx); err != nil {
		t.Error(reason, err)
	}

	call = bob.Dial(ctx, aliceAOR)
	if err := call.WaitEstablished(ctx); err != nil {
		t.Fatal(err)
	}
	in := next(t, calls)
	if _, err := in.WaitHeard(ctx, bobHz, 10); err != nil {
		t.Error(err)
	}
	if err := in.Hold(ctx); err != nil {
		t.Error(err)
	}
	if err := call.WaitReoffer(ctx, 1); err != nil {
		t.Error(err)
	}
	if err := call.Hangup(ctx); err != nil {
		t.Error(err)
	}
	wait(t, in, Ended)

	call = bob.Dial(ctx, "sip:carol@p2psip.example")
	if err := call.WaitEstablished(ctx); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("calling nobody: %v", err)
	}
}
