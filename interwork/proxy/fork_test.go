package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/transaction/transactiontest"
	"p2psip/overlay"
)

const bobURI = "sip:bob@p2psip.example"

// TestForkParallel rings two phones at two nodes; one answers, the other is cancelled.
func TestForkParallel(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b, c := w.node(1), w.node(2), w.node(3)
		alice := a.phone("alice", flow.TransportUDP, 6000, 1000)
		desk, mobile := b.phone("bob", flow.TransportUDP, 7000, 1000), c.phone("bob", flow.TransportTCP, 7001, 1000)
		local := a.phone("bob", flow.TransportTCP, 7002, 1000)
		alice.send(alice.out("INVITE", bobURI))
		for _, p := range []*phone{desk, mobile, local} {
			p.expect("INVITE")
			p.send(p.answer(p.request("INVITE"), 180))
		}
		alice.expect("100 180 180 180")
		mobile.send(mobile.answer(mobile.request("INVITE"), 200))
		alice.expect("200")
		desk.expect("CANCEL")
		local.expect("CANCEL")
		mobile.expect("")
		desk.send(desk.answer(desk.request("CANCEL"), 200))
		// The two cross: the desk phone was picked up before the CANCEL came. The caller hears of both.
		desk.send(desk.answer(desk.request("INVITE"), 200))
		alice.expect("200")
		local.send(local.answer(local.request("CANCEL"), 200))
		local.send(local.answer(local.request("INVITE"), 487))
		local.expect("ACK")
		alice.expect("")
	})
}

// TestForkSerial tries preferences one after the other.
func TestForkSerial(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		first, second := a.phone("bob", flow.TransportTCP, 7000, 800), b.phone("bob", flow.TransportTCP, 7001, 800)
		last := a.phone("bob", flow.TransportTCP, 7002, 100)
		alice.send(alice.out("INVITE", bobURI))
		first.expect("INVITE")
		second.expect("INVITE")
		last.expect("")
		first.send(first.answer(first.request("INVITE"), 486))
		last.expect("")
		second.send(second.answer(second.request("INVITE"), 480))
		w.run()
		last.expect("INVITE")
		last.send(last.answer(last.request("INVITE"), 404))
		alice.expect("100 486") // what a phone said beats that one was not there
	})
}

// TestForkWaitsForPreference holds a local phone of low preference back until the overlay has said who else there is.
func TestForkWaitsForPreference(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		here, there := a.phone("bob", flow.TransportTCP, 7000, 500), b.phone("bob", flow.TransportTCP, 7001, 900)
		a.locate = func(_ context.Context, aor overlay.AOR) []found {
			return []found{{after: 300 * time.Millisecond, rec: w.record(aor)}}
		}
		alice.send(alice.out("INVITE", bobURI))
		here.expect("")
		w.after(300 * time.Millisecond)
		there.expect("INVITE")
		here.expect("")
		there.send(there.answer(there.request("INVITE"), 486))
		here.expect("INVITE")
		alice.expect("100")
	})
}

// TestForkDecline is a 6xx: everything else is cancelled and nothing new starts.
func TestForkDecline(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		one, two := a.phone("bob", flow.TransportTCP, 7000, 1000), a.phone("bob", flow.TransportTCP, 7001, 1000)
		three := a.phone("bob", flow.TransportTCP, 7002, 100)
		alice.send(alice.out("INVITE", bobURI))
		one.expect("INVITE")
		two.expect("INVITE")
		two.send(two.answer(two.request("INVITE"), 180))
		one.send(one.answer(one.request("INVITE"), 603))
		two.expect("CANCEL")
		alice.expect("100 180")
		two.send(two.answer(two.request("INVITE"), 487))
		alice.expect("603")
		three.expect("")
	})
}

// TestForkChallenges collects what all branches ask for.
func TestForkChallenges(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		one, two := a.phone("bob", flow.TransportTCP, 7000, 1000), a.phone("bob", flow.TransportTCP, 7001, 1000)
		alice.send(alice.out("INVITE", bobURI))
		one.expect("INVITE")
		two.expect("INVITE")
		res := one.answer(one.request("INVITE"), 407)
		res.AppendHeader(sip.NewHeader("Proxy-Authenticate", `Digest realm="one", nonce="1"`))
		one.send(res)
		res = two.answer(two.request("INVITE"), 401)
		res.AppendHeader(sip.NewHeader("WWW-Authenticate", `Digest realm="two", nonce="2"`))
		two.send(res)
		alice.expect("100 407")
		got := alice.response("407")
		if len(got.GetHeaders("Proxy-Authenticate")) != 1 || len(got.GetHeaders("WWW-Authenticate")) != 1 {
			t.Errorf("challenges missing or doubled:\n%s", got)
		}
	})
}

func TestBestResponse(t *testing.T) {
	for _, c := range []struct {
		answers []int
		want    string
	}{
		{[]int{404, 486}, "486"}, {[]int{486, 404}, "486"}, {[]int{500, 404}, "404"}, {[]int{404, 302}, "302"},
		{[]int{486, 415}, "415"}, {[]int{486, 600}, "600"}, {[]int{302, 604}, "604"}, {[]int{503, 503}, "500"},
		{[]int{503, 480}, "480"}, {[]int{487, 404}, "404"}, {[]int{500, 501}, "500"},
	} {
		newWorld(t, func(w *world) {
			a := w.node(1)
			alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
			var ps []*phone
			for i := range c.answers {
				ps = append(ps, a.phone("bob", flow.TransportTCP, 7000+i, 1000))
			}
			alice.send(alice.out("INVITE", bobURI))
			for i, p := range ps {
				p.expect("INVITE")
				p.send(p.answer(p.request("INVITE"), c.answers[i]))
			}
			if got := alice.got(); got != "100 "+c.want {
				t.Errorf("%v gives %q, want %s", c.answers, got, c.want)
			}
		})
	}
}

// TestNewerRecord adds the phones of a newer record to a call that rings, and asks nobody twice.
func TestNewerRecord(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b, c := w.node(1), w.node(2), w.node(3)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		bob, mobile := b.phone("bob", flow.TransportTCP, 7000, 1000), c.phone("bob", flow.TransportTCP, 7001, 1000)
		a.locate = func(_ context.Context, aor overlay.AOR) []found {
			e1, _ := b.entry(aor)
			e2, _ := c.entry(aor)
			return []found{
				{rec: overlay.Record{Nodes: []overlay.NodeEntry{e1}}},
				{after: time.Second, rec: overlay.Record{Nodes: []overlay.NodeEntry{e2, e1}}},
				{after: time.Second, rec: overlay.Record{Nodes: []overlay.NodeEntry{e2, e1}}},
			}
		}
		alice.send(alice.out("INVITE", bobURI))
		bob.expect("INVITE")
		bob.send(bob.answer(bob.request("INVITE"), 180))
		w.after(3 * time.Second)
		mobile.expect("INVITE")
		bob.expect("")
		mobile.send(mobile.answer(mobile.request("INVITE"), 200))
		bob.expect("CANCEL")
		alice.expect("100 180 200")
	})
}

// TestSearchGrace answers soon after all targets failed, although the lookup would go on.
func TestSearchGrace(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), b.phone("bob", flow.TransportTCP, 7000, 1000)
		a.locate = func(_ context.Context, aor overlay.AOR) []found {
			return []found{{rec: w.record(aor)}, {after: time.Hour}}
		}
		alice.send(alice.out("INVITE", bobURI))
		bob.expect("INVITE")
		bob.send(bob.answer(bob.request("INVITE"), 486))
		alice.expect("100")
		w.after(time.Second)
		alice.expect("486")
	})
}

// TestDeadNodes has one node that cannot be reached beside one that can, and then none at all.
func TestDeadNodes(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b, c := w.node(1), w.node(2), w.node(3)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		bob, mobile := b.phone("bob", flow.TransportTCP, 7000, 1000), c.phone("bob", flow.TransportTCP, 7001, 1000)
		a.dial = func(ctx context.Context, to overlay.NodeID) error {
			if to == b.id {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		alice.send(alice.out("INVITE", bobURI))
		bob.expect("")
		mobile.expect("INVITE")
		w.after(4 * time.Second)
		mobile.send(mobile.answer(mobile.request("INVITE"), 486))
		alice.expect("100 486")

		a.mu.Lock()
		a.dial = func(context.Context, overlay.NodeID) error { return errors.New("no route") }
		a.links = map[overlay.NodeID]*transactiontest.Flow{}
		a.mu.Unlock()
		alice.send(alice.out("INVITE", bobURI))
		w.after(time.Second)
		alice.expect("100 480")
	})
}

// TestStaleRecord: the node that the record names has no such phone any more.
func TestStaleRecord(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b, c := w.node(1), w.node(2), w.node(3)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		bob := b.phone("bob", flow.TransportTCP, 7000, 1000)
		a.locate = func(_ context.Context, aor overlay.AOR) []found {
			e, _ := b.entry(aor)
			stale := e
			stale.Node = c.id
			return []found{{rec: overlay.Record{Nodes: []overlay.NodeEntry{stale, e}}}}
		}
		alice.send(alice.out("INVITE", bobURI))
		bob.expect("INVITE")
		bob.send(bob.answer(bob.request("INVITE"), 200))
		alice.expect("100 200")
	})
}

// TestDeadPhone: a connection that ended before or during ringing.
func TestDeadPhone(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), a.phone("bob", flow.TransportTCP, 7000, 1000)
		alice.send(alice.out("INVITE", bobURI))
		bob.expect("INVITE")
		bob.f.Close()
		a.core.Layer().HandleClosed(bob.f)
		w.after(2 * time.Second)
		alice.expect("100 480")
		alice.send(alice.out("INVITE", bobURI))
		w.after(2 * time.Second)
		alice.expect("100 480")
		a.bindings[bob.aor][0].Flow = nil
		alice.send(alice.out("INVITE", bobURI))
		w.after(2 * time.Second)
		alice.expect("100 480")
	})
}

// TestGRUU reaches one device and forks to nobody else.
func TestGRUU(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		one, two := b.phone("bob", flow.TransportTCP, 7000, 1000), b.phone("bob", flow.TransportTCP, 7001, 1000)
		local := a.phone("bob", flow.TransportTCP, 7002, 1000)
		alice.send(alice.out("INVITE", bobURI+";gr=dev7001"))
		two.expect("INVITE")
		one.expect("")
		local.expect("")
		lookups := a.core.Stats().Lookups
		alice.send(alice.out("INVITE", bobURI+";gr=dev7002"))
		local.expect("INVITE")
		two.expect("")
		if a.core.Stats().Lookups != lookups {
			t.Error("a lookup for a device that is here")
		}
		b.known = map[string]bool{"gone": true}
		alice.send(alice.out("MESSAGE", bobURI+";gr=gone"))
		w.after(time.Second)
		alice.expect("100 100 480")
	})
}

// TestCancel gives a call up in each of its phases.
func TestCancel(t *testing.T) {
	cancel := func(p *phone, inv *sip.Request) sip.Message {
		text := strings.Replace(inv.String(), "INVITE sip:", "CANCEL sip:", 1)
		return parse(p.n.w.t, strings.Replace(text, "CSeq: 1 INVITE", "CSeq: 1 CANCEL", 1))
	}
	ack := func(p *phone, inv *sip.Request) sip.Message {
		text := strings.Replace(inv.String(), "INVITE sip:", "ACK sip:", 1)
		return parse(p.n.w.t, strings.Replace(text, "CSeq: 1 INVITE", "CSeq: 1 ACK", 1))
	}
	setup := func(t *testing.T, test func(w *world, a *node, alice, bob *phone)) {
		newWorld(t, func(w *world) {
			a, b := w.node(1), w.node(2)
			test(w, a, a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 7000, 1000))
		})
	}
	t.Run("while the lookup runs", func(t *testing.T) {
		setup(t, func(w *world, a *node, alice, bob *phone) {
			a.locate = func(_ context.Context, aor overlay.AOR) []found {
				return []found{{after: time.Second, rec: w.record(aor)}}
			}
			inv := alice.out("INVITE", bobURI)
			alice.send(inv)
			alice.send(cancel(alice, inv))
			alice.expect("100 200 487")
			alice.send(ack(alice, inv))
			w.after(time.Minute)
			alice.expect("")
			bob.expect("")
		})
	})
	t.Run("while the stream opens", func(t *testing.T) {
		setup(t, func(w *world, a *node, alice, bob *phone) {
			a.dial = slowDial(time.Second)
			inv := alice.out("INVITE", bobURI)
			alice.send(inv)
			alice.send(cancel(alice, inv))
			alice.expect("100 200 487")
			alice.send(ack(alice, inv))
			w.after(time.Minute)
			bob.expect("")
		})
	})
	t.Run("before a provisional response", func(t *testing.T) {
		setup(t, func(w *world, a *node, alice, bob *phone) {
			bob2 := a.phone("bob", flow.TransportUDP, 7001, 1000) // at the caller's node: no 100 comes by itself
			inv := alice.out("INVITE", bobURI)
			alice.send(inv)
			alice.send(cancel(alice, inv))
			bob2.expect("INVITE")
			bob.expect("INVITE") // its node knows of the CANCEL, but the phone has not said anything either
			alice.expect("100 200")
			bob.send(bob.answer(bob.request("INVITE"), 180))
			bob.expect("CANCEL")
			bob2.send(bob2.answer(bob2.request("INVITE"), 100))
			bob2.expect("CANCEL")
			bob2.send(bob2.answer(bob2.request("INVITE"), 487))
			bob.send(bob.answer(bob.request("INVITE"), 487))
			alice.expect("180 487")
			alice.send(ack(alice, inv))
		})
	})
	t.Run("while it rings", func(t *testing.T) {
		setup(t, func(w *world, a *node, alice, bob *phone) {
			inv := alice.out("INVITE", bobURI)
			alice.send(inv)
			bob.expect("INVITE")
			bob.send(bob.answer(bob.request("INVITE"), 180))
			alice.send(cancel(alice, inv))
			alice.expect("100 180 200")
			bob.expect("CANCEL")
			bob.send(bob.answer(bob.request("CANCEL"), 200))
			bob.send(bob.answer(bob.request("INVITE"), 487))
			bob.expect("ACK")
			alice.expect("487")
			alice.send(ack(alice, inv))
			bob.expect("")
		})
	})
	t.Run("after the answer", func(t *testing.T) {
		setup(t, func(w *world, a *node, alice, bob *phone) {
			inv := alice.out("INVITE", bobURI)
			alice.send(inv)
			bob.expect("INVITE")
			bob.send(bob.answer(bob.request("INVITE"), 200))
			alice.send(cancel(alice, inv))
			alice.expect("100 200 200")
			bob.expect("")
		})
	})
	t.Run("a phone that ignores it", func(t *testing.T) {
		setup(t, func(w *world, a *node, alice, bob *phone) {
			inv := alice.out("INVITE", bobURI)
			alice.send(inv)
			bob.send(bob.answer(mustInvite(bob), 180))
			alice.send(cancel(alice, inv))
			alice.expect("100 180 200")
			w.after(33 * time.Second)
			if got := strings.Fields(alice.got()); len(got) == 0 || got[0] != "487" {
				t.Errorf("got %v, want 487", got)
			}
		})
	})
}

func mustInvite(p *phone) *sip.Request {
	p.n.w.t.Helper()
	p.got()
	return p.request("INVITE")
}

// TestTimerC ends a call that rings for too long.
func TestTimerC(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), a.phone("bob", flow.TransportTCP, 7000, 1000)
		alice.send(alice.out("INVITE", bobURI))
		bob.send(bob.answer(mustInvite(bob), 180))
		w.after(150 * time.Second)
		bob.send(bob.answer(bob.request("INVITE"), 180)) // starts timer C anew
		w.after(185*time.Second - 1)
		bob.expect("")
		w.after(1)
		bob.expect("CANCEL")
		bob.send(bob.answer(bob.request("INVITE"), 487))
		alice.expect("100 180 180 487")
	})
}

// TestNoAnswerAtAll is a phone on UDP that is gone.
func TestNoAnswerAtAll(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), a.phone("bob", flow.TransportUDP, 7000, 1000)
		alice.send(alice.out("INVITE", bobURI))
		w.after(32 * time.Second)
		bob.expect("INVITE INVITE INVITE INVITE INVITE INVITE INVITE")
		alice.expect("100 408")
		alice.send(alice.out("MESSAGE", bobURI))
		w.after(time.Minute)
		alice.expect("100") // RFC 4320: no 408
		if n := a.core.Stats().Transactions; n.Servers+n.Clients != 0 {
			t.Errorf("left over: %+v", n)
		}
	})
}

// TestCallerGone cancels the branches when the caller's connection ends.
func TestCallerGone(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), b.phone("bob", flow.TransportTCP, 7000, 1000)
		alice.send(alice.out("INVITE", bobURI))
		bob.send(bob.answer(mustInvite(bob), 180))
		alice.f.Close()
		a.core.Layer().HandleClosed(alice.f)
		w.run()
		bob.expect("CANCEL")
	})
}

// TestMaxBreadth hands the limit of RFC 5393 out among the branches.
func TestMaxBreadth(t *testing.T) {
	breadth := func(p *phone) string {
		p.n.w.t.Helper()
		v := values(mustInvite(p), "Max-Breadth")
		return strings.Join(v, ",")
	}
	newWorld(t, func(w *world) {
		a := w.node(1)
		a.locate = func(context.Context, overlay.AOR) []found { return []found{{err: overlay.ErrUnknownUser}} }
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		var bobs []*phone
		for i := range 3 {
			bobs = append(bobs, a.phone("bob", flow.TransportTCP, 7000+i, 1000))
		}
		alice.send(alice.out("INVITE", bobURI, "Max-Breadth: 2"))
		for i, p := range bobs {
			if i < 2 {
				if got := breadth(p); got != "1" {
					t.Errorf("branch %d has Max-Breadth %q", i, got)
				}
			} else {
				p.expect("")
			}
		}
		bobs[0].send(bobs[0].answer(bobs[0].request("INVITE"), 486)) // its share is free again
		if got := breadth(bobs[2]); got != "1" {
			t.Errorf("the third branch has Max-Breadth %q", got)
		}
		alice.expect("100")
		alice.send(alice.out("INVITE", bobURI, "Max-Breadth: 0"))
		alice.expect("100 440")
		alice.send(alice.out("INVITE", bobURI))
		sum := 0
		for _, p := range bobs {
			n := 0
			_, _ = fmt.Sscan(breadth(p), &n)
			sum += n
		}
		if sum == 0 || sum > 60 {
			t.Errorf("the branches share %d of 60", sum)
		}
	})
}

// TestBranchBound limits how many places one request is sent to.
func TestBranchBound(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1, func(c *Config) { c.Limits.Branches = 2 })
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		rung := 0
		var bobs []*phone
		for i := range 5 {
			bobs = append(bobs, a.phone("bob", flow.TransportTCP, 7000+i, 1000))
		}
		alice.send(alice.out("INVITE", bobURI))
		for _, p := range bobs {
			if p.got() != "" {
				rung++
			}
		}
		if rung != 2 {
			t.Errorf("%d phones rang", rung)
		}
	})
}

// TestDialBounds fills the queue for one stream and the number of streams being opened.
func TestDialBounds(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b, c := w.node(1, func(c *Config) { c.Limits.Dials, c.Limits.DialQueue = 1, 1 }), w.node(2), w.node(3)
		b.phone("bob", flow.TransportTCP, 7000, 1000)
		c.phone("carol", flow.TransportTCP, 7000, 1000)
		a.dial = slowDial(time.Second)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		alice.send(alice.out("MESSAGE", bobURI))
		alice.send(alice.out("MESSAGE", bobURI))
		alice.send(alice.out("MESSAGE", "sip:carol@p2psip.example")) // one stream too many
		w.after(2 * time.Second)
		alice.expect("503 503 100")
	})
}

// TestDeadStream has the stream to a node be dead although nobody has said so yet: another one is opened.
func TestDeadStream(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), b.phone("bob", flow.TransportTCP, 7000, 1000)
		a.link(b).Close()
		alice.send(alice.out("MESSAGE", bobURI))
		bob.expect("MESSAGE")
	})
}

// TestContactHeaders has a phone be registered with headers in its Contact: they are not applied.
func TestContactHeaders(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), a.phone("bob", flow.TransportTCP, 7000, 1000)
		a.bindings[bob.aor][0].URI.Headers = sip.HeaderParams{{K: "Subject", V: "x"}}
		alice.send(alice.out("MESSAGE", bobURI))
		bob.expect("MESSAGE")
		if got := bob.request("MESSAGE").Recipient.String(); got != "sip:bob@127.0.1.9:7000" {
			t.Errorf("Request-URI %s", got)
		}
	})
}

// TestOutbound uses the seam for other domains.
func TestOutbound(t *testing.T) {
	newWorld(t, func(w *world) {
		gate := transactiontest.New(flow.TransportTCP, flow.Addr{Host: "127.0.1.1", Port: 5060}, flow.Addr{Host: "127.0.9.9", Port: 5060})
		a := w.node(1, func(c *Config) {
			c.Outbound = outbound(func(uri sip.Uri) ([]Target, bool) {
				return []Target{{Flow: gate, Q: 1000}}, uri.Host == "elsewhere.example"
			})
		})
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		alice.send(alice.out("INVITE", "sip:x@elsewhere.example"))
		if got := gate.Lines(); got != "INVITE" {
			t.Errorf("the gate got %q", got)
		}
		alice.send(alice.out("INVITE", "sip:x@nowhere.example"))
		alice.expect("100 100 404")
	})
}

type outbound func(uri sip.Uri) ([]Target, bool)

func (o outbound) Targets(_ context.Context, uri sip.Uri) ([]Target, bool) { return o(uri) }
