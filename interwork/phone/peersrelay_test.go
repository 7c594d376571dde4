package phone

import (
	"testing"
	"time"

	"p2psip/interwork/phonetest"
)

// SIPp and baresip call each other through a proxy that records its route twice; each has to send what follows by it.
func TestPeersKeepTheRoute(t *testing.T) {
	const short = 50 * time.Millisecond
	for _, tc := range []struct {
		name   string
		do     func(*testing.T, *phonetest.SIPp, *phonetest.Baresip)
		inside map[string]int // requests by the route, at least
	}{
		{"SIPp calls, holds and hangs up", func(t *testing.T, bob *phonetest.SIPp, alice *phonetest.Baresip) {
			ctx := testContext(t)
			run := bob.Start(phonetest.Call{To: aliceAOR, HoldAfter: short, HoldFor: short, HangUp: short})
			call, err := alice.WaitIncoming(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := call.Accept(ctx); err != nil {
				t.Fatal(err)
			}
			if err := run.Wait(ctx); err != nil {
				t.Error(err)
			}
		}, map[string]int{"ACK": 3, "INVITE": 2, "BYE": 1}},
		{"baresip calls, SIPp holds and hangs up", func(t *testing.T, bob *phonetest.SIPp, alice *phonetest.Baresip) {
			ctx := testContext(t)
			run := bob.Start(phonetest.Answer{HoldAfter: short, HoldFor: short, HangUp: short})
			call := alice.Dial(ctx, bobAOR)
			if _, err := call.WaitClosed(ctx); err != nil {
				t.Fatal(err)
			}
			if err := run.Wait(ctx); err != nil {
				t.Error(err)
			}
		}, map[string]int{"ACK": 3, "INVITE": 2, "BYE": 1}},
		{"baresip calls, holds and hangs up", func(t *testing.T, bob *phonetest.SIPp, alice *phonetest.Baresip) {
			ctx := testContext(t)
			run := bob.Start(phonetest.Answer{})
			call := alice.Dial(ctx, bobAOR)
			if err := call.WaitEstablished(ctx); err != nil {
				t.Fatal(err)
			}
			if err := call.Hold(ctx); err != nil {
				t.Error(err)
			}
			if err := call.Resume(ctx); err != nil {
				t.Error(err)
			}
			if err := call.Hangup(ctx); err != nil {
				t.Error(err)
			}
			if err := run.Wait(ctx); err != nil {
				t.Error(err)
			}
		}, map[string]int{"ACK": 3, "INVITE": 2, "BYE": 1}},
		{"SIPp rings, baresip cancels", func(t *testing.T, bob *phonetest.SIPp, alice *phonetest.Baresip) {
			ctx := testContext(t)
			run := bob.Start(phonetest.NoAnswer{})
			call := alice.Dial(ctx, bobAOR)
			if err := call.WaitRinging(ctx); err != nil {
				t.Fatal(err)
			}
			if err := call.Hangup(ctx); err != nil {
				t.Error(err)
			}
			if err := run.Wait(ctx); err != nil {
				t.Error(err)
			}
		}, nil},
		{"baresip rings, SIPp cancels", func(t *testing.T, bob *phonetest.SIPp, alice *phonetest.Baresip) {
			ctx := testContext(t)
			if err := bob.Start(phonetest.Cancel{To: aliceAOR, Ring: short}).Wait(ctx); err != nil {
				t.Error(err)
			}
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := startRelay(t)
			bob := phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: bobAOR, Proxy: r.addr.String()})
			alice := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: aliceAOR, Proxy: r.addr.String()})
			alice.Ready(testContext(t))
			r.mu.Lock()
			r.users["alice"], r.users["bob"] = alice.Addr(), bob.Addr()
			r.mu.Unlock()
			tc.do(t, bob, alice)
			r.mu.Lock()
			defer r.mu.Unlock()
			for method, n := range tc.inside {
				if r.inside[method] < n {
					t.Errorf("%d %s came by the route, want %d", r.inside[method], method, n)
				}
			}
		})
	}
}
