package proxy

import (
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

// leaving sets alice up at a node, and carol outside one proxy peer.
func leavingWorld(w *world, change ...func(*Config)) (p *node, side *outside, alice *phone, carol *outsider) {
	p, side = w.proxyPeer(8)
	for _, f := range change {
		p.core.Close()
		f(&p.cfg)
		p.start()
	}
	a := w.node(1, func(c *Config) { c.Proxies = &through{nodes: []*node{p}} })
	alice = a.phone("alice", flow.TransportUDP, 6000, 1000)
	h := side.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com")
	side.hops["example.com"] = []Hop{h}
	return p, side, alice, side.outsider("sip:carol@example.com", h)
}

// TestViaHiding: what leaves shows one Via for all inside, and the response finds its way by those, also when the proxy
// peer has been started anew meanwhile.
func TestViaHiding(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		newWorld(t, func(w *world) {
			p, _, alice, carol := leavingWorld(w)
			inv := alice.out("INVITE", "sip:carol@example.com")
			alice.send(inv)
			carol.expect("INVITE")
			at := carol.request("INVITE")
			vias := values(at, "Via")
			if len(vias) != 2 || !strings.Contains(vias[0], "127.0.8.2:5060") || !strings.HasPrefix(vias[1], "SIP/2.0/TLS p2psip.example;branch="+hiddenPrefix) {
				t.Fatalf("Vias outside: %q", vias)
			}
			for _, secret := range []string{"127.0.1.", alice.n.name} {
				if strings.Contains(at.String(), secret) {
					t.Errorf("%q is to be seen in\n%s", secret, at)
				}
			}
			if restarted {
				alice.got()
				p.core.Close()
				p.start()
			}
			carol.send(carol.answer(at, 200))
			if got := alice.got(); !strings.HasSuffix(got, "200") {
				t.Fatalf("restarted %v: alice got %q", restarted, got)
			}
			ok := alice.response("200")
			if v := values(ok, "Via"); len(v) != 1 || !strings.Contains(v[0], inv.Via().Params.String()) {
				t.Errorf("Vias of the 200: %q, of the INVITE: %q", v, values(inv, "Via"))
			}
			alice.send(alice.within("ACK", inv, ok, true, 1))
			carol.expect("ACK")
			if v := values(carol.request("ACK"), "Via"); len(v) != 2 || !strings.Contains(v[1], hiddenPrefix) {
				t.Errorf("Vias of the ACK: %q", v)
			}
		})
	}
}

func TestViaHidingOff(t *testing.T) {
	newWorld(t, func(w *world) {
		_, _, alice, carol := leavingWorld(w, func(c *Config) { c.ShowVias = true })
		alice.send(alice.out("INVITE", "sip:carol@example.com"))
		carol.expect("INVITE")
		if v := values(carol.request("INVITE"), "Via"); len(v) != 3 || strings.Contains(strings.Join(v, " "), hiddenPrefix) {
			t.Errorf("Vias outside: %q", v)
		}
	})
}

// TestViaHidingLoop: a request that comes back from outside with nothing changed is a loop for all that its Vias are hidden,
// and one that was sent on to a user of the overlay is not.
func TestViaHidingLoop(t *testing.T) {
	newWorld(t, func(w *world) {
		_, _, alice, carol := leavingWorld(w)
		b := w.node(2)
		bob := b.phone("bob", flow.TransportUDP, 6001, 1000)
		again := func(at *sip.Request, uri string) {
			// carol's server sends it on
			back := at.Clone()
			back.Recipient, _ = message.ParseURI(uri)
			back.RemoveHeader("Max-Forwards")
			back.AppendHeader(sip.NewHeader("Max-Forwards", "60"))
			via := sip.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: "UDP", Host: "192.0.2.7", Port: 5060,
				Params: sip.HeaderParams{{K: "branch", V: branchPrefix + unique()}}}
			back.PrependHeader(&via)
			back.RemoveHeader("Record-Route")
			carol.send(back)
		}
		alice.send(alice.out("INVITE", "sip:carol@example.com"))
		carol.expect("INVITE")
		at := carol.request("INVITE")
		again(at, "sip:bob@p2psip.example") // a diversion: alice's From is believed, because it has left here
		bob.expect("INVITE")
		inside := bob.request("INVITE")
		if n := len(values(inside, "Via")); n < 4 {
			t.Errorf("Vias at bob's phone: %q", values(inside, "Via"))
		}
		carol.got()
		again(carol.request("INVITE"), "sip:bob@p2psip.example")
		carol.got()
		// And what comes back a second time, with the Vias of the first time through, has looped.
		second := inside.Clone()
		var outside []*sip.ViaHeader
		for _, h := range second.Headers() {
			if v, ok := h.(*sip.ViaHeader); ok {
				outside = append(outside, v)
			}
		}
		p := carol.n
		r, _ := readRequest(carol.f, at)
		r.kind = flow.KindPublic
		r.uri, _ = message.ParseURI("sip:bob@p2psip.example")
		if !p.core.branches.looped(outside, p.core.branches.loop(r)) {
			t.Error("the loop is not found")
		}
		if p.core.branches.looped(outside[len(outside)-1:], p.core.branches.loop(r)) {
			t.Error("a hidden Via is taken for one of a loop")
		}
	})
}

// TestHiddenVia takes only what this proxy peer has made.
func TestHiddenVia(t *testing.T) {
	newWorld(t, func(w *world) {
		p, _ := w.proxyPeer(8)
		other, _ := w.proxyPeer(9)
		want := []*sip.ViaHeader{
			{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: "TLS", Host: p.name, Params: sip.HeaderParams{{K: "branch", V: "z9hG4bKa"}}},
			{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: "UDP", Host: "192.168.1.5", Port: 5062, Params: sip.HeaderParams{{K: "rport", V: ""}, {K: "branch", V: "1"}}},
		}
		v := p.core.hide(want)
		got, ok := p.core.hidden(v)
		if !ok || len(got) != 2 || got[0].Value() != want[0].Value() || got[1].Value() != want[1].Value() {
			t.Errorf("%v, %v", got, ok)
		}
		if _, ok := other.core.hidden(v); ok {
			t.Error("another proxy peer reads it")
		}
		if u := p.core.hide(want); u.Value() == v.Value() {
			t.Error("two are alike")
		}
		branch, _ := v.Params.Get("branch")
		for _, bad := range []string{branch[:len(branch)-1], branch + "A", hiddenPrefix, hiddenPrefix + "%", branchPrefix + "1", strings.Replace(branch, branch[40:41], "_", 1) + "x"} {
			if _, ok := p.core.hidden(&sip.ViaHeader{Params: sip.HeaderParams{{K: "branch", V: bad}}}); ok {
				t.Errorf("%q is taken for a hidden Via", bad)
			}
		}
	})
}
