package proxy

import (
	"context"
	"strings"
	"testing"
	"time"

	"p2psip/interwork/flow"
	"p2psip/overlay"
)

// TestCallAcrossNodes follows one call through two nodes and looks at everything they write.
func TestCallAcrossNodes(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportTCP, 7000, 1000)
		inv, ok := call(alice, bob, "sip:bob@p2psip.example")
		at := bob.request("INVITE")

		if got := at.Recipient.String(); got != "sip:bob@127.0.2.9:7000" {
			t.Errorf("Request-URI at the phone: %s", got)
		}
		if got := at.MaxForwards().Val(); got != 68 {
			t.Errorf("Max-Forwards after two nodes: %d", got)
		}
		vias := values(at, "Via")
		if len(vias) != 3 || !strings.HasPrefix(vias[0], "SIP/2.0/TCP 127.0.2.1:5060;branch=z9hG4bK") ||
			!strings.HasPrefix(vias[1], "SIP/2.0/TLS "+a.name+";branch=z9hG4bK") {
			t.Errorf("Vias:\n%s", strings.Join(vias, "\n"))
		}
		rr := values(at, "Record-Route")
		if len(rr) != 4 || rr[0] != "<sip:127.0.2.1:5060;transport=tcp;lr>" || rr[3] != "<sip:127.0.1.1:5060;transport=udp;lr>" ||
			!strings.HasSuffix(rr[1], "@"+b.name+";lr>") || !strings.HasSuffix(rr[2], "@"+a.name+";lr>") {
			t.Errorf("Record-Routes:\n%s", strings.Join(rr, "\n"))
		}
		if len(a.core.Calls()) != 1 || len(b.core.Calls()) != 1 {
			t.Errorf("%d and %d calls in progress", len(a.core.Calls()), len(b.core.Calls()))
		}

		ack := bob.request("ACK")
		if got := ack.Recipient.String(); got != "sip:bob@127.0.2.9:7000" || len(ack.GetHeaders("Route")) != 0 {
			t.Errorf("the ACK at the phone:\n%s", ack)
		}

		// Both sides speak inside the dialog.
		for i, method := range []string{"INVITE", "UPDATE", "INFO", "MESSAGE", "REFER", "NOTIFY", "PRACK", "SUBSCRIBE"} {
			for _, side := range []struct {
				from, to *phone
				caller   bool
			}{{alice, bob, true}, {bob, alice, false}} {
				side.from.send(side.from.within(method, inv, ok, side.caller, 2+i))
				side.to.expect(method)
				req := side.to.request(method)
				if c := side.to.contact(); req.Recipient.String() != c.String() || len(req.GetHeaders("Route")) != 0 {
					t.Errorf("%s arrived as\n%s", method, req)
				}
				side.to.send(side.to.answer(req, 200))
				if method == "INVITE" {
					side.from.expect("100 200")
					side.from.send(side.from.within("ACK", inv, ok, side.caller, 2+i))
					side.to.expect("ACK")
				} else {
					side.from.expect("200")
				}
			}
		}
		if len(a.core.Calls()) != 1 {
			t.Errorf("%d calls after a re-INVITE", len(a.core.Calls()))
		}
		bob.send(bob.within("BYE", inv, ok, false, 90))
		alice.expect("BYE")
		alice.send(alice.answer(alice.request("BYE"), 200))
		bob.expect("200")
		if len(a.core.Calls()) != 0 || len(b.core.Calls()) != 0 {
			t.Errorf("%d and %d calls after the BYE", len(a.core.Calls()), len(b.core.Calls()))
		}
	})
}

func TestCallOnOneNode(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), a.phone("bob", flow.TransportTCP, 7000, 1000)
		inv, ok := call(alice, bob, "sip:bob@p2psip.example")
		if rr := values(bob.request("INVITE"), "Record-Route"); len(rr) != 2 ||
			!strings.HasSuffix(rr[0], "@127.0.1.1:5060;transport=tcp;lr>") || !strings.HasSuffix(rr[1], "@127.0.1.1:5060;transport=udp;lr>") {
			t.Errorf("Record-Routes:\n%s", strings.Join(rr, "\n"))
		}
		alice.send(alice.within("INFO", inv, ok, true, 2))
		bob.expect("INFO")
		bob.send(bob.within("BYE", inv, ok, false, 2))
		alice.expect("BYE")
		if a.dials != 0 {
			t.Error("a stream was opened for a call on one node")
		}
	})
}

// TestOneAddress has both parties at one flow, as a user agent with two accounts.
func TestOneAddress(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), a.phone("bob", flow.TransportUDP, 6000, 1000)
		bob.f = alice.f
		a.bindings[bob.aor][0].Flow = alice.f
		inv := alice.out("INVITE", "sip:bob@p2psip.example")
		alice.send(inv)
		alice.expect("100 INVITE")
		bob.send(bob.answer(alice.request("INVITE"), 200))
		alice.expect("200")
		ok := alice.response("200")
		alice.send(alice.within("ACK", inv, ok, true, 1))
		bob.send(bob.within("BYE", inv, ok, false, 2))
		alice.expect("ACK BYE")
	})
}

// TestRestart kills both nodes during a call: the tokens still lead to the phones.
func TestRestart(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 7000, 1000)
		inv, ok := call(alice, bob, "sip:bob@p2psip.example")
		a.restart()
		b.restart()
		alice.send(alice.within("INFO", inv, ok, true, 2))
		bob.expect("INFO")
		bob.send(bob.answer(bob.request("INFO"), 200))
		alice.expect("200")
		bob.send(bob.within("BYE", inv, ok, false, 2))
		alice.expect("BYE")
	})
}

// TestConnectionReplaced has bob's phone reconnect during the call: its binding serves although the token is dead.
func TestConnectionReplaced(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportTCP, 7000, 1000)
		inv, ok := call(alice, bob, "sip:bob@p2psip.example")
		bob.f.Close()
		b.core.Layer().HandleClosed(bob.f)
		alice.send(alice.within("INFO", inv, ok, true, 2))
		alice.expect("480")
		again := b.phone("bob", flow.TransportTCP, 7001, 1000)
		b.bindings[bob.aor] = []Target{{URI: bob.contact(), Flow: again.f, Q: 1000}}
		alice.send(alice.within("BYE", inv, ok, true, 3))
		again.expect("BYE")
	})
}

// TestPassedOn has carol's node answer a call to bob, as after a diversion by bob's phone: inside the dialog her From is
// bob's address, which her node's credential does not cover.
func TestPassedOn(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b, c := w.node(1), w.node(2), w.node(3)
		alice := a.phone("alice", flow.TransportUDP, 6000, 1000)
		carol := c.phone("carol", flow.TransportUDP, 8000, 1000)
		b.owns[aorOf(t, "bob")] = true
		a.locate = func(_ context.Context, aor overlay.AOR) []found {
			e, _ := c.entry(carol.aor)
			return []found{{rec: overlay.Record{Nodes: []overlay.NodeEntry{e}}}}
		}
		c.bindings[aorOf(t, "bob")] = c.bindings[carol.aor]
		inv, ok := call(alice, carol, "sip:bob@p2psip.example")
		carol.send(carol.within("INFO", inv, ok, false, 2))
		alice.expect("INFO")
		info := carol.within("INFO", inv, ok, false, 3).String()
		carol.send(parse(t, strings.Replace(info, "From: <sip:bob@", "From: <sip:dave@", 1)))
		alice.expect("")
		carol.expect("403")
	})
}

// TestStrictRouter is §16.4: our Record-Route value comes back as the Request-URI.
func TestStrictRouter(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 7000, 1000)
		inv, ok := call(alice, bob, "sip:bob@p2psip.example")
		bye := alice.within("BYE", inv, ok, true, 2)
		routes := values(bye, "Route")
		text := strings.Replace(bye.String(), "BYE sip:bob@127.0.2.9:7000 ", "BYE "+strings.Trim(routes[0], "<>")+" ", 1)
		text = strings.Replace(text, "Route: "+routes[0]+"\r\n", "", 1)
		text = strings.Replace(text, "From:", "Route: <sip:bob@127.0.2.9:7000>\r\nFrom:", 1)
		alice.send(parse(t, text))
		bob.expect("BYE")
		if got := bob.request("BYE"); got.Recipient.String() != "sip:bob@127.0.2.9:7000" || len(got.GetHeaders("Route")) != 0 {
			t.Errorf("arrived as\n%s", got)
		}
	})
}

// TestAckKeepsItsPlace lets the stream between the nodes die after the 200: the ACK and the BYE behind it wait for the
// new one and arrive in order.
func TestAckKeepsItsPlace(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 7000, 1000)
		inv := alice.out("INVITE", "sip:bob@p2psip.example")
		alice.send(inv)
		bob.expect("INVITE")
		bob.send(bob.answer(bob.request("INVITE"), 200))
		alice.expect("100 200")
		ok := alice.response("200")
		a.mu.Lock()
		delete(a.links, b.id)
		a.dial = slowDial(time.Second)
		a.mu.Unlock()
		alice.send(alice.within("ACK", inv, ok, true, 1))
		alice.send(alice.within("INFO", inv, ok, true, 2))
		alice.send(alice.within("BYE", inv, ok, true, 3))
		bob.expect("")
		w.after(time.Second)
		bob.expect("ACK INFO BYE")
		if a.dials != 2 {
			t.Errorf("%d streams opened, want one for the INVITE and one afterwards", a.dials)
		}
	})
}
