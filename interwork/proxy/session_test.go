package proxy

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
)

// header is the one value of a header, "" for none.
func header(m sip.Message, name string) string { return strings.Join(values(m, name), " and ") }

// TestSessionInterval is §8 of RFC 4028 at a proxy peer, for calls out of the overlay and into it.
func TestSessionInterval(t *testing.T) {
	for _, c := range []struct {
		name          string
		sent          []string // header lines of the INVITE
		expires, min  string   // as it arrives; "" for none
		status        int      // 0: it arrives
		answer        string   // Session-Expires of the 200
		gets, require string   // what the caller gets of it
	}{
		{name: "nobody knows them", expires: "1800"},
		{name: "the callee knows them", expires: "1800", answer: "1800;refresher=uas", gets: "1800;refresher=uas"},
		{name: "the caller knows them", sent: []string{"Supported: 100rel, timer"}, expires: "1800", gets: "1800;refresher=uac", require: "timer"},
		{name: "the caller asks for one", sent: []string{"k: timer", "x: 600;refresher=uac"}, expires: "600;refresher=uac", gets: "600;refresher=uac", require: "timer"},
		{name: "the caller asks for one at least", sent: []string{"Supported: timer", "Min-SE: 3600"}, expires: "3600", min: "3600", gets: "3600;refresher=uac", require: "timer"},
		{name: "too small", sent: []string{"Supported: timer", "Session-Expires: 60"}, status: 422},
		{name: "too small, and no use to say so", sent: []string{"Session-Expires: 60"}, expires: "90", min: "90"},
		{name: "too small, with a minimum", sent: []string{"Session-Expires: 60", "Min-SE: 120"}, expires: "120", min: "120"},
		{name: "no number", sent: []string{"Session-Expires: soon"}, expires: "1800"},
	} {
		for _, out := range []bool{true, false} {
			name := "in: " + c.name
			if out {
				name = "out: " + c.name
			}
			t.Run(name, func(t *testing.T) {
				newWorld(t, func(w *world) {
					p, side := w.proxyPeer(8)
					a := w.node(1, func(c *Config) { c.Proxies = &through{nodes: []*node{p}} })
					alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
					h := side.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com")
					side.hops["example.com"] = []Hop{h}
					carol := side.outsider("sip:carol@example.com", h)
					caller, callee := alice, carol.phone
					inv := alice.out("INVITE", "sip:carol@example.com", c.sent...)
					if !out {
						caller, callee = carol.phone, alice
						inv = carol.invite("INVITE", "sip:alice@p2psip.example", c.sent...)
					}
					caller.send(inv)
					if c.status != 0 {
						callee.expect("")
						if got := caller.got(); !strings.HasSuffix(got, "422") {
							t.Fatalf("the caller got %q", got)
						}
						if got := header(caller.response("422"), "Min-SE"); got != "90" {
							t.Errorf("Min-SE %q", got)
						}
						return
					}
					callee.expect("INVITE")
					at := callee.request("INVITE")
					if e, m := header(at, "Session-Expires"), header(at, "Min-SE"); e != c.expires || m != c.min {
						t.Errorf("Session-Expires %q and Min-SE %q, want %q and %q", e, m, c.expires, c.min)
					}
					res := callee.answer(at, 200)
					if c.answer != "" {
						res.AppendHeader(sip.NewHeader("Session-Expires", c.answer))
					}
					callee.send(res)
					caller.expect("100 200")
					ok := caller.response("200")
					if e, r := header(ok, "Session-Expires"), header(ok, "Require"); e != c.gets || r != c.require {
						t.Errorf("the caller gets Session-Expires %q, Require %q; want %q, %q", e, r, c.gets, c.require)
					}
				})
			})
		}
	}
}

// TestSessionInside: what stays in the overlay is the phones' own business.
func TestSessionInside(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, topQ), b.phone("bob", flow.TransportUDP, 6001, topQ)
		alice.send(alice.out("INVITE", "sip:bob@p2psip.example", "Supported: timer", "Session-Expires: 60"))
		bob.expect("INVITE")
		if got := header(bob.request("INVITE"), "Session-Expires"); got != "60" {
			t.Errorf("Session-Expires %q", got)
		}
	})
}

// TestCallsBySession: a call whose session runs out without a refresh is forgotten; one without a session interval is
// not, but soon counts as load no more.
func TestCallsBySession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalls(8, 12*time.Hour, 10*time.Minute)
		see := func(method, id string, interval time.Duration) {
			r, h := dialogRequest(t, method, id, "a", "b")
			c.seen(r, 200, h, interval)
		}
		want := func(when string, all, carried int) {
			t.Helper()
			if a, l := c.count(); a != all || l != carried || len(c.list()) != all {
				t.Errorf("%s: %d calls and %d that count, want %d and %d", when, a, l, all, carried)
			}
		}
		see("INVITE", "plain", 0)
		see("INVITE", "dies", 90*time.Second)
		see("INVITE", "lives", 90*time.Second)
		see("INVITE", "long", 30*time.Minute)
		see("UPDATE", "unknown", 90*time.Second)
		want("at first", 4, 4)
		time.Sleep(80 * time.Second)
		see("UPDATE", "lives", 90*time.Second)
		time.Sleep(50 * time.Second)
		want("after one interval", 3, 3)
		time.Sleep(80 * time.Second)
		want("after two", 2, 2)
		time.Sleep(8 * time.Minute)
		want("after the idle age", 2, 1)
		see("INVITE", "plain", 0)
		want("after a sign of life", 2, 2)
		see("INVITE", "long", 0) // a refresh without: the session timer is off
		time.Sleep(time.Hour)
		want("an hour later", 2, 0)
		time.Sleep(12 * time.Hour)
		want("after the age limit", 0, 0)
	})
}

// TestProxyPeerLoad: a proxy peer that carried the beginning of a call, and not its end, is not loaded with it for long.
func TestProxyPeerLoad(t *testing.T) {
	newWorld(t, func(w *world) {
		p1, out1 := w.proxyPeer(8)
		p2, out2 := w.proxyPeer(9)
		ways := &through{nodes: []*node{p1, p2}}
		a := w.node(1, func(c *Config) { c.Proxies = ways })
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		h := out1.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com")
		out1.hops["example.com"] = []Hop{h}
		carol := out1.outsider("sip:carol@example.com", h)
		carried := func() int { return p1.core.Stats().Carried }
		// one call with a session interval, and one without
		for i, supported := range []string{"Supported: timer", "Supported: 100rel"} {
			inv := alice.out("INVITE", "sip:carol@example.com", supported)
			alice.send(inv)
			carol.expect("INVITE")
			at := carol.request("INVITE")
			carol.send(carol.answer(at, 200))
			alice.expect("100 200")
			alice.send(alice.within("ACK", inv, alice.response("200"), true, 1))
			carol.expect("ACK")
			if got := carried(); got != i+1 {
				t.Errorf("%d calls count after the call %d", got, i+1)
			}
			// carol hangs up through the other one
			again := out2.outsider("sip:carol@example.com", out2.hop(flow.TransportUDP, "192.0.2.7:5060", ""))
			again.send(again.within("BYE", at, carol.answer(at, 200), false, 2))
			alice.expect("BYE")
			alice.send(alice.answer(alice.request("BYE"), 200))
			again.expect("200")
		}
		if got := carried(); got != 2 {
			t.Errorf("%d calls count: the proxy peer cannot know of the end", got)
		}
		time.Sleep(10*time.Minute + 1)
		if got := carried(); got != 1 {
			t.Errorf("%d calls count after the idle age", got)
		}
		time.Sleep(21 * time.Minute)
		if got := carried(); got != 0 {
			t.Errorf("%d calls count after the session interval", got)
		}
	})
}
