package phonetest

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

const (
	aliceAOR = "sip:alice@p2psip.example"
	bobAOR   = "sip:bob@p2psip.example"
)

// pair is two SIPp phones that have each other for outbound proxy.
func pair(t *testing.T, transport string) (alice, bob *SIPp) {
	bob = NewSIPp(t, SIPpConfig{AOR: bobAOR, Proxy: "127.0.0.1:9", Transport: transport})
	alice = NewSIPp(t, SIPpConfig{AOR: aliceAOR, Proxy: bob.Addr(), Transport: transport})
	return alice, bob
}

func TestSIPpCalls(t *testing.T) {
	const short = 50 * time.Millisecond
	for _, tc := range []struct {
		name   string
		caller Scenario
		callee Scenario
		sees   []string // what the callee receives, in order
	}{
		{"caller hangs up", Call{To: bobAOR, HangUp: short}, Answer{Ring: short}, []string{"INVITE", "ACK", "BYE"}},
		{"callee hangs up", Call{To: bobAOR}, Answer{HangUp: short}, []string{"INVITE", "ACK", "200 BYE"}},
		{"caller holds", Call{To: bobAOR, HoldAfter: short, HoldFor: short, HangUp: short}, Answer{},
			[]string{"INVITE", "ACK", "INVITE", "ACK", "INVITE", "ACK", "BYE"}},
		{"callee holds", Call{To: bobAOR}, Answer{HoldAfter: short, HoldFor: short, HangUp: short},
			[]string{"INVITE", "ACK", "200 INVITE", "200 INVITE", "200 BYE"}},
		{"busy", Fail{To: bobAOR, Status: 486}, Refuse{}, []string{"INVITE", "ACK"}},
		{"declined after ringing", Fail{To: bobAOR, Status: 603}, Refuse{Status: 603, Ring: short}, []string{"INVITE", "ACK"}},
		{"cancelled", Cancel{To: bobAOR, Ring: short}, NoAnswer{}, []string{"INVITE", "CANCEL", "ACK"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			alice, bob := pair(t, "udp")
			callee := bob.Start(tc.callee)
			caller := alice.Start(tc.caller)
			if err := caller.Wait(ctx); err != nil {
				t.Error(err)
			}
			if err := callee.Wait(ctx); err != nil {
				t.Error(err)
			}
			var got []Message
			for _, m := range callee.Messages() {
				if !m.Sent {
					got = append(got, m)
				}
			}
			if len(got) != len(tc.sees) {
				t.Fatalf("the callee received %d messages, want %v", len(got), tc.sees)
			}
			for i, m := range got {
				if !m.Is(tc.sees[i]) {
					t.Errorf("message %d is not %s:\n%s", i, tc.sees[i], m.Text)
				}
			}
		})
	}
}

// A harness that never fails proves nothing: these runs must not pass.
func TestSIPpTellsFailure(t *testing.T) {
	for _, tc := range []struct {
		name           string
		caller, callee Scenario
	}{
		{"wrong status", Fail{To: bobAOR, Status: 404}, Refuse{Status: 486}},
		{"answered instead of busy", Fail{To: bobAOR, Status: 486}, Answer{}},
		{"busy instead of answered", Call{To: bobAOR, HangUp: time.Millisecond}, Refuse{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			alice, bob := pair(t, "udp")
			bob.Start(tc.callee)
			if err := alice.Start(tc.caller).Wait(ctx); err == nil {
				t.Error("the caller is content")
			} else {
				t.Log(err)
			}
		})
	}
}

func TestSIPpOverTCP(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	alice, bob := pair(t, "tcp")
	callee := bob.Start(Answer{})
	caller := alice.Start(Call{To: bobAOR, HangUp: 50 * time.Millisecond})
	if err := caller.Wait(ctx); err != nil {
		t.Error(err)
	}
	if err := callee.Wait(ctx); err != nil {
		t.Error(err)
	}
}
