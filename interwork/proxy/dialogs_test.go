package proxy

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/transaction/transactiontest"
)

func dialogRequest(t *testing.T, method, id, from, to string) (*request, *sip.ToHeader) {
	t.Helper()
	req := transactiontest.Parse(fmt.Sprintf(`%s sip:bob@p2psip.example SIP/2.0
		Via: SIP/2.0/UDP 127.0.0.9:6000;branch=z9hG4bK1
		From: <sip:alice@p2psip.example>;tag=%s
		To: <sip:bob@p2psip.example>;tag=%s
		Call-ID: %s
		CSeq: 1 %s
		Content-Length: 0
		`, method, from, to, id, method)).(*sip.Request)
	r, ok := readRequest(fakeFlow(flow.TransportUDP, "127.0.0.1", 5060), req)
	if !ok {
		t.Fatal("not read")
	}
	return r, req.To()
}

func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalls(2, time.Hour, 10*time.Minute)
		see := func(method, id, from, to string, status int) {
			r, h := dialogRequest(t, method, id, from, to)
			c.seen(r, status, h, 0)
		}
		see("INVITE", "1", "a", "b", 200)
		see("INVITE", "1", "a", "b", 200)
		see("INVITE", "1", "a", "c", 200) // another phone of a fork
		see("INVITE", "9", "a", "b", 486)
		see("MESSAGE", "8", "a", "b", 200)
		if n := len(c.list()); n != 2 {
			t.Errorf("%d calls, want 2", n)
		}
		time.Sleep(40 * time.Minute)
		see("INVITE", "1", "b", "a", 200) // a re-INVITE from the other side
		see("INVITE", "2", "a", "b", 200) // the table is full: the one unheard of for longest goes
		got := c.list()
		if len(got) != 2 || got[0].CallID != "1" || got[1].CallID != "2" || got[0].From != "sip:alice@p2psip.example" {
			t.Errorf("calls: %+v", got)
		}
		see("BYE", "1", "b", "a", 401)
		see("BYE", "1", "b", "a", 481)
		if n := len(c.list()); n != 1 {
			t.Errorf("%d calls after a BYE", n)
		}
		time.Sleep(time.Hour + 1)
		if n := len(c.list()); n != 0 {
			t.Errorf("%d calls after the age limit", n)
		}
	})
}

func TestConfigValidate(t *testing.T) {
	newWorld(t, func(w *world) {
		good := w.node(1).cfg
		for name, change := range map[string]func(*Config){
			"no OID":          func(c *Config) { c.OID = "" },
			"foreign name":    func(c *Config) { c.NodeName = "k.elsewhere.example" },
			"no node name":    func(c *Config) { c.NodeName = "x." + string(oid) },
			"short secret":    func(c *Config) { c.Secret = c.Secret[:8] },
			"no edge":         func(c *Config) { c.Edge = nil },
			"no peers":        func(c *Config) { c.Peers = nil },
			"negative limit":  func(c *Config) { c.Limits.Lookups = -1 },
			"negative time":   func(c *Config) { c.Limits.DialTime = -1 },
			"negative timers": func(c *Config) { c.Transactions.Timers.T1 = -1 },
		} {
			bad := good
			change(&bad)
			if _, err := New(bad); err == nil {
				t.Errorf("%s was accepted", name)
			}
		}
	})
}

// TestCallsRepeatedAnswer: a 2xx repeated on the way does not bring a call back that is over.
func TestCallsRepeatedAnswer(t *testing.T) {
	newWorld(t, func(w *world) {
		n := w.node(1)
		alice, bob := n.phone("alice", flow.TransportUDP, 6001, topQ), n.phone("bob", flow.TransportUDP, 6002, topQ)
		inv, ok := call(alice, bob, "sip:bob@p2psip.example;gr=dev6002")
		if got := len(n.core.Calls()); got != 1 {
			t.Fatalf("%d calls", got)
		}
		alice.send(alice.within("BYE", inv, ok, true, 2))
		bob.expect("BYE")
		bob.send(bob.answer(bob.request("BYE"), 200))
		alice.expect("200")
		bob.send(bob.answer(bob.request("INVITE"), 200))
		alice.expect("200")
		if got := n.core.Calls(); len(got) != 0 {
			t.Errorf("calls after the end: %v", got)
		}
	})
}
