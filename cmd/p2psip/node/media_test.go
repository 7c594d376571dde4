package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"p2psip/interwork/phonetest"
)

// mediaWorld is two nodes or more through which the sound of their phones passes, each with a few ports.
type mediaWorld struct {
	*universe
	nodes []*Node
}

// newMediaWorld starts a node for each of users, several at one node with a space between them.
func newMediaWorld(t *testing.T, users ...string) *mediaWorld {
	t.Helper()
	w := &mediaWorld{universe: newUniverse(t)}
	for i, names := range users {
		c := w.config(w.home(strings.Fields(names)...))
		c.Media = &MediaConfig{PortMin: uint16(21000 + 200*i), PortMax: uint16(21199 + 200*i)}
		w.nodes = append(w.nodes, w.start(c))
	}
	return w
}

// idle waits until no node has anything left of a call.
func (w *mediaWorld) idle() {
	w.t.Helper()
	ctx := testContext(w.t)
	for {
		left := ""
		for i, n := range w.nodes {
			if m := n.Status().Media; m.Sessions != 0 || m.PortsUsed != 0 {
				left += fmt.Sprintf("node %d: %d sessions, %d pairs of ports; ", i, m.Sessions, m.PortsUsed)
			}
		}
		if left == "" {
			return
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("left of the calls: %s", left)
		case <-time.After(20 * time.Millisecond): // sessions end a moment after the answer to the BYE
		}
	}
}

// call waits for the one call in the status of a node that has sound both ways.
func (w *mediaWorld) call(n *Node) *CallMedia {
	w.t.Helper()
	ctx := testContext(w.t)
	for {
		s := n.Status()
		if len(s.Calls) == 1 && s.Calls[0].Media != nil && s.Calls[0].Media.Path != "" {
			return s.Calls[0].Media
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("the calls of the node: %+v", s.Calls)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// anchored says that a description was made by the node beside a phone: the node's address and one of its ports, plain RTP and
// nothing of ICE or keys.
func (w *mediaWorld) anchored(i int, description []byte) {
	w.t.Helper()
	at := mediaAt(w.t, description)
	lo := uint16(21000 + 200*i)
	if at.Addr().String() != "127.0.0.1" || at.Port() < lo || at.Port() > lo+199 {
		w.t.Errorf("sound is wanted at %s, not at a port of node %d:\n%s", at, i, description)
	}
	for _, no := range []string{"a=candidate", "a=ice-", "a=fingerprint", "a=crypto", "SAVP", "a=rtcp-mux"} {
		if strings.Contains(string(description), no) {
			w.t.Errorf("%s in what is for a plain phone:\n%s", no, description)
		}
	}
}

// hears has two phones talk until each has heard a second of the other.
func hears(t *testing.T, a *plainPhone, forA []byte, b *plainPhone, forB []byte, codec byte) {
	t.Helper()
	say, reply := phonetest.Speech(1, 4*time.Second), phonetest.Speech(2, 4*time.Second)
	a.forget()
	b.forget()
	defer a.play(forA, codec, say)()
	defer b.play(forB, codec, reply)()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	if err := errors.Join(b.waitHeard(ctx, say), a.waitHeard(ctx, reply)); err != nil {
		t.Error(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.codec != codec || b.codec != codec {
		t.Errorf("payload types %d and %d arrived, %d was sent", a.codec, b.codec, codec)
	}
}

// TestMediaCall is a call between plain phones of two nodes: early media, sound both ways, hold and resume, another codec, and
// the end.
func TestMediaCall(t *testing.T) {
	w := newMediaWorld(t, "alice", "bob")
	alice, bob := newPlainPhone(t, w.nodes[0], "alice"), newPlainPhone(t, w.nodes[1], "bob")
	bob.register("")
	out := alice.invite("sip:bob@"+testID, alice.offer("0 8", "sendrecv", 1))
	inv := bob.request("INVITE")
	w.anchored(1, inv.Body())
	if !strings.Contains(string(inv.Body()), "RTP/AVP 0 8") {
		t.Errorf("codecs at bob's phone:\n%s", inv.Body())
	}
	in := bob.rung(inv)
	bob.respond(in, inv, 183, bob.offer("0", "sendrecv", 1))
	early := alice.response("INVITE", 183)
	w.anchored(0, early.Body())
	announce := phonetest.Speech(3, 4*time.Second)
	stop := bob.play(inv.Body(), 0, announce)
	ctx := testContext(t)
	if err := alice.waitHeard(ctx, announce); err != nil {
		t.Errorf("before the answer: %v", err)
	}
	stop()
	bob.respond(in, inv, 200, bob.offer("0", "sendrecv", 1))
	ok := alice.response("INVITE", 200)
	if string(ok.Body()) != string(early.Body()) {
		t.Errorf("the answer is another than the early one:\n%s\n%s", ok.Body(), early.Body())
	}
	alice.answered(out, ok)
	alice.ask(out, "ACK", "")
	bob.request("ACK")
	hears(t, alice, ok.Body(), bob, inv.Body(), 0)
	for _, n := range w.nodes {
		if m := w.call(n); m.Path != "host" || m.Encrypted != encryptedNodes || m.Phone != encryptedNot || len(m.Relays) != 0 || m.Trouble != "" {
			t.Errorf("status: %+v", m)
		}
	}

	// Hold and resume by alice, another codec by bob.
	for i, dir := range []string{"sendonly", "sendrecv"} {
		alice.ask(out, "INVITE", alice.offer("0", dir, 2+i))
		re := bob.request("INVITE")
		if !strings.Contains(string(re.Body()), "a="+dir) {
			t.Errorf("%s at bob's phone:\n%s", dir, re.Body())
		}
		w.anchored(1, re.Body())
		bob.respond(in, re, 200, bob.offer("0", map[string]string{"sendonly": "recvonly", "sendrecv": "sendrecv"}[dir], 2+i))
		ok = alice.response("INVITE", 200)
		w.anchored(0, ok.Body())
		alice.ask(out, "ACK", "")
		bob.request("ACK")
		if dir == "sendrecv" {
			hears(t, alice, ok.Body(), bob, re.Body(), 0)
		}
	}
	bob.ask(in, "INVITE", bob.offer("8", "sendrecv", 4))
	re := alice.request("INVITE")
	w.anchored(0, re.Body())
	if !strings.Contains(string(re.Body()), "RTP/AVP 8\r\n") {
		t.Errorf("codecs at alice's phone:\n%s", re.Body())
	}
	alice.respond(out, re, 200, alice.offer("8", "sendrecv", 4))
	ok = bob.response("INVITE", 200)
	bob.ask(in, "ACK", "")
	alice.request("ACK")
	hears(t, alice, re.Body(), bob, ok.Body(), 8)

	alice.ask(out, "BYE", "")
	bye := bob.request("BYE")
	bob.respond(in, bye, 200, "")
	alice.response("BYE", 200)
	w.idle()
}

// TestMediaNoCall frees the ports of calls that come to nothing: bob is busy, nobody is there, alice gives up while it rings.
func TestMediaNoCall(t *testing.T) {
	w := newMediaWorld(t, "alice", "bob")
	alice, bob := newPlainPhone(t, w.nodes[0], "alice"), newPlainPhone(t, w.nodes[1], "bob")
	bob.register("")
	out := alice.invite("sip:bob@"+testID, alice.offer("0", "sendrecv", 1))
	inv := bob.request("INVITE")
	if m := w.nodes[1].Status().Media; m.Sessions != 1 || m.PortsUsed == 0 {
		t.Errorf("while it rings: %+v", m)
	}
	bob.respond(bob.rung(inv), inv, 486, "")
	bob.request("ACK")
	alice.response("INVITE", 486)
	alice.ask(out, "ACK", "")
	w.idle()

	out = alice.invite("sip:bob@"+testID, alice.offer("0", "sendrecv", 1))
	inv = bob.request("INVITE")
	in := bob.rung(inv)
	bob.respond(in, inv, 180, "")
	alice.response("INVITE", 180)
	alice.ask(out, "CANCEL", "")
	bob.respond(in, bob.request("CANCEL"), 200, "")
	bob.respond(in, inv, 487, "")
	bob.request("ACK")
	alice.response("INVITE", 487)
	w.idle()

	alice.invite("sip:nobody@"+testID, alice.offer("0", "sendrecv", 1))
	alice.response("INVITE", 404)
	w.idle()
}

// TestMediaLateOffer has the callee offer in its 2xx and the caller answer in the ACK.
func TestMediaLateOffer(t *testing.T) {
	w := newMediaWorld(t, "alice", "bob")
	alice, bob := newPlainPhone(t, w.nodes[0], "alice"), newPlainPhone(t, w.nodes[1], "bob")
	bob.register("")
	out := alice.invite("sip:bob@"+testID, "")
	inv := bob.request("INVITE")
	if len(inv.Body()) != 0 {
		t.Errorf("a description from nowhere:\n%s", inv.Body())
	}
	in := bob.rung(inv)
	bob.respond(in, inv, 200, bob.offer("8 0", "sendrecv", 1))
	ok := alice.response("INVITE", 200)
	w.anchored(0, ok.Body())
	alice.answered(out, ok)
	alice.ask(out, "ACK", alice.offer("0", "sendrecv", 1))
	ack := bob.request("ACK")
	w.anchored(1, ack.Body())
	hears(t, alice, ok.Body(), bob, ack.Body(), 0)
	bob.ask(in, "BYE", "")
	alice.respond(out, alice.request("BYE"), 200, "")
	bob.response("BYE", 200)
	w.idle()
}

// TestMediaForked rings phones at two nodes, with early media from the one that loses.
func TestMediaForked(t *testing.T) {
	w := newMediaWorld(t, "alice", "bob", "bob")
	alice, desk, mobile := newPlainPhone(t, w.nodes[0], "alice"), newPlainPhone(t, w.nodes[1], "bob"), newPlainPhone(t, w.nodes[2], "bob")
	desk.register("")
	mobile.register("")
	out := alice.invite("sip:bob@"+testID, alice.offer("0", "sendrecv", 1))
	atDesk, atMobile := desk.request("INVITE"), mobile.request("INVITE")
	w.anchored(1, atDesk.Body())
	w.anchored(2, atMobile.Body())
	one, two := desk.rung(atDesk), mobile.rung(atMobile)
	desk.respond(one, atDesk, 183, desk.offer("0", "sendrecv", 1))
	early := alice.response("INVITE", 183)
	announce := phonetest.Speech(3, 4*time.Second)
	stop := desk.play(atDesk.Body(), 0, announce)
	if err := alice.waitHeard(testContext(t), announce); err != nil {
		t.Errorf("before the answer: %v", err)
	}
	stop()
	mobile.respond(two, atMobile, 200, mobile.offer("0", "sendrecv", 1))
	ok := alice.response("INVITE", 200)
	w.anchored(0, ok.Body())
	if mediaAt(t, ok.Body()) == mediaAt(t, early.Body()) {
		t.Log("both phones at one port of alice's node") // allowed: the far side is another all the same
	}
	alice.answered(out, ok)
	alice.ask(out, "ACK", "")
	mobile.request("ACK")
	desk.respond(one, desk.request("CANCEL"), 200, "")
	desk.respond(one, atDesk, 487, "")
	hears(t, alice, ok.Body(), mobile, atMobile.Body(), 0)
	alice.ask(out, "BYE", "")
	mobile.respond(two, mobile.request("BYE"), 200, "")
	alice.response("BYE", 200)
	w.idle()
}

// iceOffer is what a phone says that does ICE by itself, in clear, and secretOffer what one says that encrypts as well.
const (
	iceOffer = "v=0\r\no=- 4711 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=ice-ufrag:F7gI\r\na=ice-pwd:x9cml/YzichV2+XlhiMu8g\r\n" +
		"m=audio 45664 RTP/AVP 0\r\na=rtcp:45665\r\na=candidate:1 1 UDP 2130706431 127.0.0.1 45664 typ host\r\na=candidate:1 2 UDP 2130706430 127.0.0.1 45665 typ host\r\n"
	secretOffer = "v=0\r\no=- 4711 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=ice-ufrag:F7gI\r\na=ice-pwd:x9cml/YzichV2+XlhiMu8g\r\n" +
		"m=audio 45664 UDP/TLS/RTP/SAVP 0\r\na=rtcp-mux\r\na=candidate:1 1 UDP 2130706431 127.0.0.1 45664 typ host\r\na=setup:actpass\r\n" +
		"a=fingerprint:sha-256 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB:4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF\r\n"
)

// TestMediaICE leaves phones alone that do all by themselves: every octet of what they say arrives.
func TestMediaICE(t *testing.T) {
	w := newMediaWorld(t, "alice", "bob")
	alice, bob := newPlainPhone(t, w.nodes[0], "alice"), newPlainPhone(t, w.nodes[1], "bob")
	bob.register(";+sip.ice")
	out := alice.invite("sip:bob@"+testID, secretOffer)
	inv := bob.request("INVITE")
	if string(inv.Body()) != secretOffer {
		t.Errorf("the offer arrives as\n%s", inv.Body())
	}
	in := bob.rung(inv)
	answer := strings.NewReplacer("4566", "4766", "F7gI", "aB3d", "actpass", "active").Replace(secretOffer)
	bob.respond(in, inv, 200, answer)
	ok := alice.response("INVITE", 200)
	if string(ok.Body()) != answer {
		t.Errorf("the answer arrives as\n%s", ok.Body())
	}
	alice.answered(out, ok)
	alice.ask(out, "ACK", "")
	bob.request("ACK")
	for _, n := range w.nodes {
		if s := n.Status(); s.Media.Sessions != 0 || len(s.Calls) != 1 || s.Calls[0].Media != nil {
			t.Errorf("a call of phones that do all by themselves: %+v, %+v", s.Media, s.Calls)
		}
	}
	bob.ask(in, "INVITE", answer)
	re := alice.request("INVITE")
	if string(re.Body()) != answer {
		t.Errorf("the re-INVITE arrives as\n%s", re.Body())
	}
	alice.respond(out, re, 200, secretOffer)
	if ok := bob.response("INVITE", 200); string(ok.Body()) != secretOffer {
		t.Errorf("the answer to the re-INVITE arrives as\n%s", ok.Body())
	}
	bob.ask(in, "ACK", "")
	alice.request("ACK")
	alice.ask(out, "BYE", "")
	bob.respond(in, bob.request("BYE"), 200, "")
	alice.response("BYE", 200)

	// A plain phone that is called by one with ICE is spoken for by its node. What the caller would send in clear is carried by
	// its own node as well.
	plain := newPlainPhone(t, w.nodes[1], "bob")
	bob.register(";expires=0")
	plain.register("")
	for _, offer := range []string{secretOffer, iceOffer} {
		out = alice.invite("sip:bob@"+testID, offer)
		inv = plain.request("INVITE")
		w.anchored(1, inv.Body())
		in = plain.rung(inv)
		plain.respond(in, inv, 200, plain.offer("0", "sendrecv", 1))
		ok = alice.response("INVITE", 200)
		for _, line := range []string{"a=candidate:", "a=ice-ufrag:", "a=fingerprint:sha-256 ", "UDP/TLS/RTP/SAVP"} {
			if strings.Contains(string(ok.Body()), line) != (offer == secretOffer) {
				t.Errorf("%s in the answer to\n%s is\n%s", line, offer, ok.Body())
			}
		}
		alice.answered(out, ok)
		alice.ask(out, "ACK", "")
		plain.request("ACK")
		alice.ask(out, "BYE", "")
		plain.respond(in, plain.request("BYE"), 200, "")
		alice.response("BYE", 200)
		w.idle()
	}
}

// TestMediaOff passes everything untouched.
func TestMediaOff(t *testing.T) {
	u := newUniverse(t)
	a, b := u.start(u.config(u.home("alice"))), u.start(u.config(u.home("bob")))
	alice, bob := newPlainPhone(t, a, "alice"), newPlainPhone(t, b, "bob")
	bob.register("")
	offer := alice.offer("0", "sendrecv", 1)
	alice.invite("sip:bob@"+testID, offer)
	inv := bob.request("INVITE")
	if string(inv.Body()) != offer {
		t.Errorf("the offer arrives as\n%s", inv.Body())
	}
	if s := a.Status(); s.Media != nil {
		t.Errorf("status: %+v", s.Media)
	}
	bob.respond(bob.rung(inv), inv, 486, "")
	alice.response("INVITE", 486)
}

// TestMediaTwoPhonesOfOneNode leaves the sound of a call inside one house alone.
func TestMediaTwoPhonesOfOneNode(t *testing.T) {
	w := newMediaWorld(t, "alice bob")
	alice, bob := newPlainPhone(t, w.nodes[0], "alice"), newPlainPhone(t, w.nodes[0], "bob")
	bob.register("")
	offer := alice.offer("0", "sendrecv", 1)
	alice.invite("sip:bob@"+testID, offer)
	inv := bob.request("INVITE")
	if string(inv.Body()) != offer {
		t.Errorf("the offer arrives as\n%s", inv.Body())
	}
	bob.respond(bob.rung(inv), inv, 486, "")
	alice.response("INVITE", 486)
	w.idle()
}

// TestMediaAfterRestart ends alice's node in a call and starts it again: what it knew of the sound is gone, and a re-INVITE of
// either phone brings it back.
func TestMediaAfterRestart(t *testing.T) {
	for _, who := range []string{"alice", "bob"} {
		t.Run("re-INVITE of "+who, func(t *testing.T) {
			w := newMediaWorld(t, "carol", "alice", "bob")
			alice, bob := newPlainPhone(t, w.nodes[1], "alice"), newPlainPhone(t, w.nodes[2], "bob")
			bob.register("")
			out := alice.invite("sip:bob@"+testID, alice.offer("0", "sendrecv", 1))
			inv := bob.request("INVITE")
			in := bob.rung(inv)
			bob.respond(in, inv, 200, bob.offer("0", "sendrecv", 1))
			ok := alice.response("INVITE", 200)
			alice.answered(out, ok)
			alice.ask(out, "ACK", "")
			bob.request("ACK")
			hears(t, alice, ok.Body(), bob, inv.Body(), 0)

			c := w.nodes[1].cfg
			c.SIP = w.nodes[1].SIP().String()
			if err := w.nodes[1].Close(); err != nil {
				t.Fatal(err)
			}
			w.nodes[1] = w.start(c)
			from, to, fromCall, toCall := alice, bob, out, in
			if who == "bob" {
				from, to, fromCall, toCall = bob, alice, in, out
			}
			from.ask(fromCall, "INVITE", from.offer("0", "sendrecv", 2))
			re := to.request("INVITE")
			to.respond(toCall, re, 200, to.offer("0", "sendrecv", 2))
			ok = from.response("INVITE", 200)
			from.ask(fromCall, "ACK", "")
			to.request("ACK")
			hears(t, from, ok.Body(), to, re.Body(), 0)
			from.ask(fromCall, "BYE", "")
			to.respond(toCall, to.request("BYE"), 200, "")
			from.response("BYE", 200)
			w.idle()
		})
	}
}

// TestMediaTwoPhones rings two phones of one user at one node: each has a place of its own for sound, the one that answers is
// heard, and the other one's ports are free again at once.
func TestMediaTwoPhones(t *testing.T) {
	w := newMediaWorld(t, "alice", "bob")
	alice, desk, mobile := newPlainPhone(t, w.nodes[0], "alice"), newPlainPhone(t, w.nodes[1], "bob"), newPlainPhone(t, w.nodes[1], "bob")
	desk.register("")
	mobile.register("")
	out := alice.invite("sip:bob@"+testID, alice.offer("0", "sendrecv", 1))
	atDesk, atMobile := desk.request("INVITE"), mobile.request("INVITE")
	if mediaAt(t, atDesk.Body()) == mediaAt(t, atMobile.Body()) {
		t.Errorf("two phones are told one place, %s", mediaAt(t, atDesk.Body()))
	}
	one, two := desk.rung(atDesk), mobile.rung(atMobile)
	desk.respond(one, atDesk, 180, "")
	mobile.respond(two, atMobile, 200, mobile.offer("0", "sendrecv", 1))
	ok := alice.response("INVITE", 200)
	alice.answered(out, ok)
	alice.ask(out, "ACK", "")
	mobile.request("ACK")
	desk.respond(one, desk.request("CANCEL"), 200, "")
	desk.respond(one, atDesk, 487, "")
	desk.request("ACK")
	hears(t, alice, ok.Body(), mobile, atMobile.Body(), 0)
	if m := w.nodes[1].Status().Media; m.PortsUsed != 1 {
		t.Errorf("while they talk: %+v", m)
	}
	mobile.ask(two, "BYE", "")
	alice.respond(out, alice.request("BYE"), 200, "")
	mobile.response("BYE", 200)
	w.idle()
}

// TestMediaReliable has early media agreed on with PRACK (RFC 3262), changed with UPDATE (RFC 3311) before the answer.
func TestMediaReliable(t *testing.T) {
	w := newMediaWorld(t, "alice", "bob")
	alice, bob := newPlainPhone(t, w.nodes[0], "alice"), newPlainPhone(t, w.nodes[1], "bob")
	bob.register("")
	out := alice.invite("sip:bob@"+testID, alice.offer("0 8", "sendrecv", 1), "Supported: 100rel")
	inv := bob.request("INVITE")
	in := bob.rung(inv)
	bob.respond(in, inv, 183, bob.offer("0", "sendrecv", 1), "Require: 100rel", "RSeq: 7")
	early := alice.response("INVITE", 183)
	w.anchored(0, early.Body())
	alice.answered(out, early)
	alice.ask(out, "PRACK", "", "RAck: 7 1 INVITE")
	bob.respond(in, bob.request("PRACK"), 200, "")
	alice.response("PRACK", 200)
	announce := phonetest.Speech(3, 4*time.Second)
	stop := bob.play(inv.Body(), 0, announce)
	if err := alice.waitHeard(testContext(t), announce); err != nil {
		t.Errorf("before the answer: %v", err)
	}
	stop()
	alice.ask(out, "UPDATE", alice.offer("8", "sendrecv", 2))
	up := bob.request("UPDATE")
	w.anchored(1, up.Body())
	bob.respond(in, up, 200, bob.offer("8", "sendrecv", 2))
	changed := alice.response("UPDATE", 200)
	w.anchored(0, changed.Body())
	bob.respond(in, inv, 200, "")
	alice.response("INVITE", 200)
	out.cseq = 1 // of the INVITE
	alice.ask(out, "ACK", "")
	out.cseq = 3
	bob.request("ACK")
	hears(t, alice, changed.Body(), bob, up.Body(), 8)
	alice.ask(out, "BYE", "")
	bob.respond(in, bob.request("BYE"), 200, "")
	alice.response("BYE", 200)
	w.idle()
}
