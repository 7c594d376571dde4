package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction/transactiontest"
)

// TestLateResponse has a phone answer a call whose node was restarted while it rang, and a phone repeat its 200 long
// after every transaction is gone.
func TestLateResponse(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), a.phone("bob", flow.TransportUDP, 7000, 1000)
		inv := alice.out("INVITE", bobURI)
		alice.send(inv)
		at := mustInvite(bob)
		bob.send(bob.answer(at, 180))
		alice.expect("100 180")
		a.restart()
		bob.send(bob.answer(at, 200))
		alice.expect("200")
		res := alice.response("200")
		if len(res.GetHeaders("Via")) != 1 || res.Via().Host != "127.0.1.9" {
			t.Errorf("Vias at the caller: %v", values(res, "Via"))
		}
		alice.send(alice.within("ACK", inv, res, true, 1))
		bob.expect("ACK")
	})
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 7000, 1000)
		alice.send(alice.out("INVITE", bobURI))
		ok := bob.answer(mustInvite(bob), 200)
		bob.send(ok)
		w.after(time.Hour)
		alice.expect("100 200")
		bob.send(ok)
		alice.expect("200")
		if n := a.core.Stats().Transactions; n.Servers+n.Clients != 0 {
			t.Errorf("transactions after an hour: %+v", n)
		}
	})
}

// TestRetransmitted2xx passes while the transactions live, too (RFC 6026).
func TestRetransmitted2xx(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 7000, 1000)
		inv := alice.out("INVITE", bobURI)
		alice.send(inv)
		ok := bob.answer(mustInvite(bob), 200)
		bob.send(ok)
		w.after(500 * time.Millisecond)
		bob.send(ok)
		alice.expect("100 200 200")
		ack := alice.within("ACK", inv, alice.response("200"), true, 1)
		alice.send(ack)
		alice.send(ack)
		bob.expect("ACK ACK")
	})
}

// TestReflection tries to have a node send responses to places of the attacker's choice.
func TestReflection(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		mallory, victim := a.phone("mallory", flow.TransportUDP, 6000, 1000), a.phone("victim", flow.TransportUDP, 6001, 1000)
		mallory.send(mallory.out("INVITE", "sip:mallory@p2psip.example"))
		mallory.got()
		inv := mallory.request("INVITE")
		own := inv.Via().Value() // a branch of the node's own making
		for name, vias := range map[string][]string{
			"its own branch over another Via": {own, "SIP/2.0/UDP 127.0.1.9:6001;branch=z9hG4bKx"},
			"a made-up branch":                {"SIP/2.0/UDP 127.0.1.1:5060;branch=z9hG4bK" + strings.Repeat("0", 48), "SIP/2.0/UDP 127.0.1.9:6001;branch=z9hG4bKx"},
			"broadcast":                       {"SIP/2.0/UDP 127.0.1.1:5060;branch=z9hG4bK1", "SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKx"},
			"not our Via":                     {"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", "SIP/2.0/UDP 127.0.1.9:6001;branch=z9hG4bKx"},
			"one Via only":                    {"SIP/2.0/UDP 127.0.1.1:5060;branch=z9hG4bK1"},
		} {
			text := "SIP/2.0 200 OK\n"
			for _, v := range vias {
				text += "Via: " + v + "\n"
			}
			text += "From: <sip:mallory@p2psip.example>;tag=1\nTo: <sip:mallory@p2psip.example>;tag=2\nCall-ID: other\nCSeq: 1 MESSAGE\nContent-Length: 0\n"
			mallory.send(transactiontest.Parse(text))
			victim.expect("")
			if got := mallory.got(); got != "" {
				t.Errorf("%s: %s came back", name, got)
			}
		}
	})
}

// TestAckGoesNowhere drops ACKs that nothing leads on.
func TestAckGoesNowhere(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 7000, 1000)
		inv, ok := call(alice, bob, bobURI)
		for _, change := range []func(string) string{
			func(s string) string { return strings.Replace(s, "Max-Forwards: 70", "Max-Forwards: 0", 1) },
			func(s string) string {
				return strings.Replace(s, "ACK sip:bob@127.0.2.9:7000", "ACK sip:p2psip.example", 1)
			},
			func(s string) string { return strings.Replace(s, "CSeq:", "Proxy-Require: foo\r\nCSeq:", 1) },
		} {
			text := change(alice.within("ACK", inv, ok, true, 1).String())
			if strings.Contains(text, "ACK sip:p2psip.example") {
				text = dropRoutes(text)
			}
			alice.send(parse(t, text))
			alice.expect("")
			bob.expect("")
		}
		if a.core.Stats().Panics != 0 {
			t.Error("a panic")
		}
	})
}

func dropRoutes(text string) string {
	var out []string
	for _, l := range strings.Split(text, "\r\n") {
		if !strings.HasPrefix(l, "Route:") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\r\n")
}

// TestNonInviteForks gives the first 2xx and swallows the rest.
func TestNonInviteForks(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		one, two := a.phone("bob", flow.TransportTCP, 7000, 1000), a.phone("bob", flow.TransportTCP, 7001, 1000)
		alice.send(alice.out("MESSAGE", bobURI))
		one.expect("MESSAGE")
		two.expect("MESSAGE")
		one.send(one.answer(one.request("MESSAGE"), 200))
		two.send(two.answer(two.request("MESSAGE"), 200))
		alice.expect("200")
	})
}

// TestTraceSeesEverything follows a call with the trace hook.
func TestTraceSeesEverything(t *testing.T) {
	newWorld(t, func(w *world) {
		var seen []string
		a := w.node(1, func(c *Config) {
			c.Trace = func(e Event) {
				seen = append(seen, map[bool]string{true: ">", false: "<"}[e.Out]+transactiontest.Line(e.Message)+"@"+e.Flow.Remote().String())
			}
		})
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), a.phone("bob", flow.TransportUDP, 7000, 1000)
		call(alice, bob, bobURI)
		want := "<INVITE@127.0.1.9:6000 >100@127.0.1.9:6000 >INVITE@127.0.1.9:7000 <180@127.0.1.9:7000 >180@127.0.1.9:6000 " +
			"<200@127.0.1.9:7000 >200@127.0.1.9:6000 <ACK@127.0.1.9:6000 >ACK@127.0.1.9:7000"
		if got := strings.Join(seen, " "); got != want {
			t.Errorf("trace\n%s\nwant\n%s", got, want)
		}
	})
}

// TestOriginalStaysAsItWas: what is forwarded shares header values with what arrived; answering must not show that.
func TestOriginalStaysAsItWas(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), a.phone("bob", flow.TransportUDP, 7000, 1000)
		m, err := message.Parse(message.Bytes(alice.out("INVITE", bobURI)), true)
		if err != nil {
			t.Fatal(err)
		}
		before := m.String()
		a.core.Layer().HandleMessage(alice.f, m)
		w.run()
		bob.send(bob.answer(mustInvite(bob), 486))
		if m.String() != before {
			t.Errorf("the request changed from\n%s\nto\n%s", before, m.(*sip.Request))
		}
	})
}
