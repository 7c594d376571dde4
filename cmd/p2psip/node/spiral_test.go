package node

import (
	"strings"
	"testing"
	"time"

	"p2psip/interwork/account"
	"p2psip/interwork/locate/locatetest"
	"p2psip/interwork/phone"
)

// TestSpiral has alice call bob's public number. The call leaves through one proxy peer, bob's provider (Kamailio) finds that
// the number is registered with his overlay address, and it comes back in: through the other proxy peer, and through the same.
func TestSpiral(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	for _, back := range []string{"through the other proxy peer", "through the same"} {
		t.Run(back, func(t *testing.T) {
			w := newBorderWorld(t, false)
			ctx := testContext(t)
			c := w.config(w.home("bob"))
			c.Trace = trace{"bob's node", w.log}.event
			far := w.start(c)
			store, err := account.Open(far.cfg.DataDir, testID)
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Add(account.Account{AOR: "sip:bob@provider.example", User: "bob", Password: "secret", Added: time.Now()}); err != nil {
				t.Fatal(err)
			}
			bob := w.universe.phone(far, "bob", phone.AnswerAfter(0))
			alice := w.universe.phone(w.node, "alice", phone.AnswerAfter(0))
			until(t, "the registration with the provider", func() bool {
				a := far.Status().Accounts
				return len(a) == 1 && a[0].State == account.Registered
			})
			until(t, "a proxy peer", func() bool { return len(w.node.Status().Border.Known) > 0 })
			out, in := 0, 1
			if w.node.Status().Border.Known[0] == w.pp[1].ID().String() {
				out, in = 1, 0
			}
			if back == "through the same" {
				in = out
			}
			bind := locatetest.StartBIND(t, w.out.zones(in, 1-in)) // what the provider is told; it has not asked yet
			w.out.relay.Store(&bind.Addr)

			call := talk(t, alice, "sip:bob@provider.example")
			until(t, "bob's end of the call", func() bool { return len(bob.Calls()) == 1 })
			if _, err := bob.Calls()[0].Wait(ctx, phone.Answered); err != nil {
				t.Fatal(err)
			}
			leaves, enters := []string{"pp1", "pp2"}[out], []string{"pp1", "pp2"}[in]
			ms := w.log.follows(t, "node in from phone: INVITE", leaves+" in from node: INVITE", leaves+" out to outside: INVITE",
				enters+" in from outside: INVITE", "bob's node in from node: INVITE", "bob's node out to phone: INVITE",
				"node out to phone: 200 INVITE")
			if from := "From: <sip:alice@" + testID + ">"; !strings.Contains(ms[5], from) && !strings.Contains(ms[5], strings.Trim(from, ">")) {
				t.Errorf("bob's phone does not see who calls:\n%s", ms[5])
			}
			if err := call.Hold(ctx); err != nil {
				t.Errorf("re-INVITE: %v", err)
			}
			if err := bob.Calls()[0].Hangup(ctx); err != nil {
				t.Errorf("BYE: %v", err)
			}
			if _, err := call.Wait(ctx, phone.Ended); err != nil {
				t.Errorf("the end: %v", err)
			}
			w.log.crossing(t)
		})
	}
}
