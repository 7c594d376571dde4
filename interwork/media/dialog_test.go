package media

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"p2psip/interwork/media/sdp"
	"p2psip/overlay"
)

// Two phones of bob ring. Both answers go to alice with the same transport, and the one that picks up is connected.
func TestOneFarSideRingsTwoPhones(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "forked")
	desk, cell := newPlainPhone(t, 0xde5c), newPlainPhone(t, 0xce11)
	c.exA = c.a.Open(c.atA)
	c.between = request(t, c.exA, c.alice.body())
	x1, x2 := c.b.Open(c.atB), c.b.Open(c.atB)
	to1, to2 := request(t, x1, c.between), request(t, x2, c.between)
	desk.learn(to1)
	cell.learn(to2)
	if desk.to == cell.to {
		t.Fatal("two phones share a port")
	}
	// Early media from the desk phone, as from a machine that says something before it answers.
	early, err := x1.Response(183, "desk", false, desk.body())
	if err != nil {
		t.Fatal(err)
	}
	toAlice, err := c.exA.Response(183, "desk", false, early)
	if err != nil {
		t.Fatal(err)
	}
	c.alice.learn(toAlice)
	speak(t, desk, c.alice, "please wait", 5*time.Second)
	// The cell phone answers.
	final, err := x2.Response(200, "cell", true, cell.body())
	if err != nil {
		t.Fatal(err)
	}
	s1, _ := sdp.Parse(early)
	s2, _ := sdp.Parse(final)
	i1, i2 := s1.Media[0].Transport(), s2.Media[0].Transport()
	if i1.ICE.Ufrag != i2.ICE.Ufrag || i1.Fingerprints[0] != i2.Fingerprints[0] {
		t.Error("two transports for one offer")
	}
	if toAlice, err = c.exA.Response(200, "cell", true, final); err != nil {
		t.Fatal(err)
	}
	c.alice.learn(toAlice)
	x1.Close() // cancelled
	speak(t, cell, c.alice, "this is bob", 5*time.Second)
	speak(t, c.alice, cell, "hello", 5*time.Second)
	if desk.hears("hello", 30*time.Millisecond) {
		t.Error("the phone that did not answer hears")
	}
	desk.say("eavesdropping")
	if c.alice.hears("eavesdropping", 50*time.Millisecond) {
		t.Error("the phone that did not answer is heard")
	}
	eventually(t, "the other session is gone", 3*time.Second, func() bool { st := c.b.Status(); return st.Sessions == 1 && st.PortsUsed == 1 })
	c.a.End("forked", "alice", "cell")
	c.b.End("forked", "alice", "cell")
	eventually(t, "all is free", 3*time.Second, func() bool {
		return c.a.Status().Sessions+c.b.Status().Sessions == 0 && c.b.trunkOf("forked") == nil
	})
}

// Two phones of bob pick up in the same moment. alice's phone keeps one of the two and hangs up on the other, whichever that is; the
// one that she keeps is connected.
func TestTwoPhonesAnswer(t *testing.T) {
	for _, kept := range []string{"desk", "cell"} {
		t.Run(kept, func(t *testing.T) {
			w := newWorld(t)
			w.node("a", Config{Warm: -1})
			w.node("b", Config{Warm: -1})
			c := newCall(w, "a", "b", "both")
			desk, cell := newPlainPhone(t, 0xde5c), newPlainPhone(t, 0xce11)
			c.exA = c.a.Open(c.atA)
			c.between = request(t, c.exA, c.alice.body())
			x1, x2 := c.b.Open(c.atB), c.b.Open(c.atB)
			desk.learn(request(t, x1, c.between))
			cell.learn(request(t, x2, c.between))
			for _, a := range []struct {
				x     Exchange
				tag   string
				phone *plainPhone
			}{{x1, "desk", desk}, {x2, "cell", cell}} {
				body, err := a.x.Response(200, a.tag, true, a.phone.body())
				if err != nil {
					t.Fatal(err)
				}
				if body, err = c.exA.Response(200, a.tag, true, body); err != nil {
					t.Fatal(err)
				}
				if a.tag == kept {
					c.alice.learn(body)
				}
			}
			other, phone := "cell", desk
			if kept == "cell" {
				other, phone = "desk", cell
			}
			c.a.End("both", "alice", other)
			c.b.End("both", "alice", other)
			eventually(t, "the other session is gone", 3*time.Second, func() bool { return c.b.Status().Sessions == 1 })
			speak(t, phone, c.alice, "this is bob", 5*time.Second)
			speak(t, c.alice, phone, "hello", 5*time.Second)
		})
	}
}

// A call that is cancelled leaves nothing behind.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "cancelled")
	c.invite()
	if st := c.a.Status(); st.Sessions != 1 || st.PortsUsed != 1 {
		t.Errorf("status: %+v", st)
	}
	c.exA.Close()
	c.exA.Close()
	c.exB.Close()
	eventually(t, "all is free", 3*time.Second, func() bool {
		a, b := c.a.Status(), c.b.Status()
		return a.Sessions+b.Sessions+a.PortsUsed+b.PortsUsed == 0
	})
}

// reinvite carries an INVITE inside the dialog from alice's phone to bob's and the answer back.
func (c *call) reinvite(offer, answer []byte) (toBob, toAlice []byte) {
	t := c.w.t
	t.Helper()
	c.cseq++
	d, e := c.atA, c.atB
	d.ToTag, d.CSeq, d.Transaction = "bob", c.cseq, fmt.Sprint("again", c.cseq)
	e.ToTag, e.CSeq, e.Transaction = "bob", c.cseq, fmt.Sprint("again", c.cseq)
	x := c.a.Open(d)
	y := c.b.Open(e)
	between := request(t, x, offer)
	toBob = request(t, y, between)
	back, err := y.Response(200, "bob", true, answer)
	if err != nil {
		t.Fatal(err)
	}
	if toAlice, err = x.Response(200, "bob", true, back); err != nil {
		t.Fatal(err)
	}
	c.between, c.betweenBack = between, back
	return toBob, toAlice
}

func version(body []byte, n int) []byte {
	return []byte(strings.Replace(string(body), " 1 1 IN", fmt.Sprintf(" 1 %d IN", n), 1))
}

func TestHoldAndResume(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "hold")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "hello", 5*time.Second)
	before := stream(t, c.b)
	offered := ufrag(t, c.between)

	toBob, _ := c.reinvite(version(c.alice.body("a=sendonly"), 2), version(c.bob.body("a=recvonly"), 2))
	if !bytes.Contains(toBob, []byte("a=sendonly")) {
		t.Errorf("hold is not told:\n%s", toBob)
	}
	if ufrag(t, c.between) != offered {
		t.Error("ICE is restarted for nothing")
	}
	speak(t, c.alice, c.bob, "music", 5*time.Second)
	// The old way to hold: nothing is sent to the phone.
	c.reinvite(version([]byte(strings.Replace(string(c.alice.body()), "c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0", 1)), 3), version(c.bob.body("a=recvonly"), 3))
	for c.alice.hears("nothing", 10*time.Millisecond) {
	}
	c.bob.say("nothing")
	if c.alice.hears("nothing", 50*time.Millisecond) {
		t.Error("sent to a phone on hold")
	}
	_, toAlice := c.reinvite(version(c.alice.body(), 4), version(c.bob.body(), 4))
	c.alice.learn(toAlice)
	speak(t, c.alice, c.bob, "back again", 5*time.Second)
	speak(t, c.bob, c.alice, "back again", 5*time.Second)
	after := stream(t, c.b)
	if after.FarCrypto != before.FarCrypto || after.FromFar.Packets <= before.FromFar.Packets || after.FromFar.Strange != 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func ufrag(t *testing.T, body []byte) string {
	t.Helper()
	s, err := sdp.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	return s.Media[0].Transport().ICE.Ufrag
}

// A second stream comes and goes; data that is not RTP is refused on its own.
func TestMoreStreams(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "video")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "hello", 5*time.Second)
	va, vb := newPlainPhone(t, 0xca3a), newPlainPhone(t, 0xca3b)
	video := func(p *plainPhone) string {
		return fmt.Sprintf("m=video %d RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\nm=application 9 TCP/BFCP *\r\n", p.addr().Port())
	}
	toBob, toAlice := c.reinvite(version(append(c.alice.body(), video(va)...), 2), version(append(c.bob.body(), strings.Replace(video(vb), "application 9", "application 0", 1)...), 2))
	for _, x := range []struct {
		p    *plainPhone
		body []byte
	}{{va, toAlice}, {vb, toBob}} {
		s, err := sdp.Parse(x.body)
		if err != nil || len(s.Media) != 3 || s.Media[1].Port == 0 || s.Media[2].Port != 0 {
			t.Fatalf("%v\n%s", err, x.body)
		}
		x.p.to = s.Media[1].Transport().RTP
	}
	speak(t, va, vb, "picture", 5*time.Second)
	speak(t, c.alice, c.bob, "and sound", 5*time.Second)
	if st := c.a.Status(); len(st.Calls[0].Streams) != 2 || st.Calls[0].Streams[1].Codec != "H264/90000" || st.PortsUsed != 2 {
		t.Errorf("status: %+v", st)
	}
	gone := strings.NewReplacer(fmt.Sprintf("m=video %d", va.addr().Port()), "m=video 0", fmt.Sprintf("m=video %d", vb.addr().Port()), "m=video 0", "application 9", "application 0")
	c.reinvite(version([]byte(gone.Replace(string(append(c.alice.body(), video(va)...)))), 3), version([]byte(gone.Replace(string(append(c.bob.body(), video(vb)...)))), 3))
	if st := c.a.Status(); st.PortsUsed != 1 {
		t.Errorf("ports in use: %d", st.PortsUsed)
	}
	speak(t, c.alice, c.bob, "sound goes on", 5*time.Second)
}

// An INVITE without offer: the offer comes with the 200, the answer with the ACK.
func TestLateOffer(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "late")
	x, y := c.a.Open(c.atA), c.b.Open(c.atB)
	if out := request(t, x, nil); out != nil {
		t.Fatalf("a body from nowhere: %s", out)
	}
	if out := request(t, y, nil); out != nil {
		t.Fatalf("a body from nowhere: %s", out)
	}
	between, err := y.Response(200, "bob", true, c.bob.body())
	if err != nil || !bytes.Contains(between, []byte("a=candidate")) {
		t.Fatalf("%v\n%s", err, between)
	}
	eventually(t, "candidates are gathered", 3*time.Second, func() bool { tr := c.a.trunkOf("late"); return tr != nil && tr.far(0) != nil })
	toAlice, err := x.Response(200, "bob", true, between)
	if err != nil {
		t.Fatal(err)
	}
	c.alice.learn(toAlice)
	// The ACK finds its exchange by the dialog.
	d, e := c.atA, c.atB
	d.ToTag, d.Transaction, e.ToTag, e.Transaction = "bob", "", "bob", ""
	x, y = c.a.Find(d), c.b.Find(e)
	if x == nil || y == nil {
		t.Fatal("the ACK finds nothing")
	}
	ack, err := x.Ack("bob", c.alice.body())
	if err != nil {
		t.Fatal(err)
	}
	toBob, err := y.Ack("bob", ack)
	if err != nil {
		t.Fatal(err)
	}
	c.bob.learn(toBob)
	speak(t, c.alice, c.bob, "late but here", 5*time.Second)
	speak(t, c.bob, c.alice, "late but here", 5*time.Second)
	if c.a.Find(Dialog{CallID: "nobody's", Method: "INVITE", CSeq: 1}) != nil {
		t.Error("an ACK of nobody's finds something")
	}
}

// Phones that do ICE are left alone, in both directions and inside the dialog.
func TestPhonesWithICEPassUntouched(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", Config{Warm: -1})
	b := w.node("b", Config{Warm: -1})
	web := func(n int) []byte {
		cert, _ := newCertificate()
		return []byte(fmt.Sprintf("v=0\r\no=- 1 %d IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n"+
			"a=ice-ufrag:abcd\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\na=fingerprint:%s\r\na=setup:actpass\r\na=rtcp-mux\r\n", n, cert.fingerprint))
	}
	d := Dialog{CallID: "web", FromTag: "alice", Method: "INVITE", CSeq: 1, FromPhone: true, Transaction: "1", Phone: loopback4, PhoneHost: loopback4, Node: "b"}
	e := d
	e.FromPhone, e.Node, e.ICE = false, "a", true
	offer := web(1)
	x, y := a.Open(d), b.Open(e)
	for _, z := range []Exchange{x, y} {
		if out := request(t, z, offer); !bytes.Equal(out, offer) {
			t.Fatalf("changed:\n%s", out)
		}
		if out, err := z.Response(200, "bob", true, offer); err != nil || !bytes.Equal(out, offer) {
			t.Fatalf("changed: %v\n%s", err, out)
		}
		z.Close()
	}
	// bob's side asks for something in the dialog: at alice's node it comes from afar, to a phone that never registered as one with ICE.
	f := Dialog{CallID: "web", FromTag: "bob", ToTag: "alice", Method: "INVITE", CSeq: 7, Transaction: "2", Phone: loopback4, PhoneHost: loopback4, Node: "b"}
	if out := request(t, a.Open(f), web(2)); !bytes.Contains(out, []byte("abcd")) {
		t.Errorf("anchored in the middle:\n%s", out)
	}
	if st := a.Status(); st.Sessions != 0 || st.PortsUsed != 0 {
		t.Errorf("status: %+v", st)
	}
	a.End("web", "alice", "bob")
	if a.isPassing(f) {
		t.Error("still remembered")
	}
}

func TestSilenceEndsASession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.node("a", Config{Warm: -1, SilenceTimeout: 300 * time.Millisecond})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "silent")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "hello", 5*time.Second)
	for range 12 { // it does not end while somebody speaks
		c.alice.say("and so on")
		<-time.After(50 * time.Millisecond)
	}
	if c.a.Status().Sessions != 1 {
		t.Fatal("ended in the middle of a word")
	}
	eventually(t, "it ends", 5*time.Second, func() bool { st := c.a.Status(); return st.Sessions == 0 && st.PortsUsed == 0 })
	if st := c.a.Status(); st.Silent != 1 || st.Ended != 0 {
		t.Errorf("status: %+v", st)
	}
}

// After a restart of its node a call is anchored anew by the next request.
func TestRequestInAnUnknownDialog(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "reborn")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "hello", 5*time.Second)
	// bob's node forgets everything. bob's phone asks for something.
	c.b.End("reborn", "alice", "bob")
	eventually(t, "it is forgotten", 3*time.Second, func() bool { return c.b.Status().Sessions == 0 })
	d := Dialog{CallID: "reborn", FromTag: "bob", ToTag: "alice", Method: "INVITE", CSeq: 20, FromPhone: true, Transaction: "x",
		Phone: loopback4, PhoneHost: loopback4, Node: "a"}
	e := d
	e.FromPhone, e.Node = false, "b"
	x, y := c.b.Open(d), c.a.Open(e)
	c.alice.learn(request(t, y, request(t, x, version(c.bob.body(), 2))))
	back, err := y.Response(200, "alice", true, version(c.alice.body(), 2))
	if err != nil {
		t.Fatal(err)
	}
	if ufrag(t, back) == ufrag(t, c.between) {
		t.Error("ICE that begins anew is answered with the old credentials (RFC 8839 §4.4.3.1.2)")
	}
	toBob, err := x.Response(200, "alice", true, back)
	if err != nil {
		t.Fatal(err)
	}
	c.bob.learn(toBob)
	speak(t, c.alice, c.bob, "once more", 5*time.Second)
	speak(t, c.bob, c.alice, "once more", 5*time.Second)
}

// moving is the addresses of a machine that changes networks.
type moving struct {
	mu sync.Mutex
	as []netip.Addr
}

func (m *moving) addresses() []netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.as
}

func (m *moving) to(a string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.as = []netip.Addr{netip.MustParseAddr(a)}
}

func TestNetworkIsSwitched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	home := &moving{}
	home.to("127.0.0.41")
	w.node("a", Config{Warm: -1, Addresses: home.addresses})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "moving")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "from home", 5*time.Second)
	if at := stream(t, c.a).Local.Addr().String(); at != "127.0.0.41" {
		t.Fatalf("begins at %s", at)
	}
	begin := time.Now()
	home.to("127.0.0.42")
	for stream(t, c.a).Local.Addr().String() != "127.0.0.42" {
		c.alice.say("on the way")
		<-time.After(20 * time.Millisecond)
		if time.Since(begin) > 5*time.Second {
			t.Fatalf("still at %v", stream(t, c.a).Local)
		}
	}
	speak(t, c.alice, c.bob, "from the train", 5*time.Second)
	speak(t, c.bob, c.alice, "from the train", 5*time.Second)
	t.Logf("moved after %v", time.Since(begin))
	if testing.Short() {
		return
	}
	// Nothing is left of the first generation a while later.
	f := c.a.trunkOf("moving").fars[0]
	eventually(t, "the old sockets are closed", 10*time.Second, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.retired) == 0
	})
	speak(t, c.alice, c.bob, "still there", 5*time.Second)
}

// Both sides begin a restart at the same moment; one of them wins, and the call goes on.
func TestBothSidesRestart(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "glare")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "hello", 5*time.Second)
	first := stream(t, c.a).Local
	for round := range maxRetired { // more at once are put off
		eventually(t, "the restart", 5*time.Second, func() bool {
			a, b := stream(t, c.a), stream(t, c.b)
			if c.a.trunkOf("glare").mending() || c.b.trunkOf("glare").mending() {
				return false
			}
			if a.Local != first {
				return a.Remote == b.Local && b.Remote == a.Local
			}
			c.a.trunkOf("glare").kick() // nothing hurts here, so an attempt that came too soon is not repeated
			c.b.trunkOf("glare").kick()
			return false
		})
		first = stream(t, c.a).Local
		speak(t, c.alice, c.bob, fmt.Sprint("round ", round), 5*time.Second)
		speak(t, c.bob, c.alice, fmt.Sprint("round ", round), 5*time.Second)
	}
}

func (t *trunk) mending() bool {
	t.repair.mu.Lock()
	defer t.repair.mu.Unlock()
	return t.repair.running
}

// A restart is for the other node of the call only.
func TestRestartByAStranger(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "stranger")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "hello", 5*time.Second)
	token := c.b.trunkOf("stranger").token
	if token == "" || token != c.a.trunkOf("stranger").token {
		t.Fatalf("tokens %q, %q", token, c.a.trunkOf("stranger").token)
	}
	good := string(restartBody([MaxStreams]*bundle{c.a.trunkOf("stranger").fars[0].gen.bundle}))
	for _, x := range []struct {
		node  overlay.NodeID
		token string
		offer string
	}{{"c", token, good}, {"a", "no such", "v=0"}, {"a", token, "rubbish"}, {"a", token, "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\na=mid:9\r\n"}, {"a", "", ""}} {
		if out, err := c.b.Renegotiated(context.Background(), x.node, x.token, []byte(x.offer)); err == nil {
			t.Errorf("%v was answered: %s", x, out)
		}
	}
	speak(t, c.alice, c.bob, "still here", 5*time.Second)
}

// A node that restarts again and again gets no more than a few generations for it, and the call goes on.
func TestRestartsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "again and again")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "hello", 5*time.Second)
	tr := c.b.trunkOf("again and again")
	offer := restartBody([MaxStreams]*bundle{c.a.trunkOf("again and again").fars[0].gen.bundle})
	taken := 0
	for begin := time.Now(); time.Since(begin) < 1500*time.Millisecond; {
		if _, err := c.b.Renegotiated(context.Background(), "a", tr.token, offer); err == nil {
			taken++
		}
	}
	tr.fars[0].mu.Lock()
	n := len(tr.fars[0].retired)
	tr.fars[0].mu.Unlock()
	if taken == 0 || n > maxRetired {
		t.Errorf("%d restarts, %d generations are kept", taken, n)
	}
}

// While restarts do not get through, they are tried again.
func TestRestartIsRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	home := &moving{}
	home.to("127.0.0.43")
	w.node("a", Config{Warm: -1, Addresses: home.addresses})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "repeated")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "hello", 5*time.Second)
	w.mu.Lock()
	w.cut = true
	w.mu.Unlock()
	home.to("127.0.0.44")
	c.a.AddressesChanged()
	eventually(t, "attempts fail", 5*time.Second, func() bool { return c.a.Status().RestartsBad >= 2 })
	w.mu.Lock()
	w.cut = false
	w.mu.Unlock()
	eventually(t, "one succeeds", 5*time.Second, func() bool { return stream(t, c.a).Local.Addr().String() == "127.0.0.44" })
	speak(t, c.alice, c.bob, "moved", 5*time.Second)
}

// With candidates kept warm, an INVITE does not wait.
func TestWarm(t *testing.T) {
	w := newWorld(t)
	var asked atomic.Int32
	a := w.node("a", Config{Warm: 1, Relays: slowRelays{&asked, relays{newRelay("r", "127.0.0.51")}}})
	a.Warm()
	eventually(t, "something is warm", 3*time.Second, func() bool { return a.Status().Warm == 1 })
	d := Dialog{CallID: "w", FromTag: "x", Method: "INVITE", CSeq: 1, FromPhone: true, Transaction: "1", Phone: loopback4, PhoneHost: loopback4, Node: "b"}
	x := a.Open(d)
	_, now, err := x.Request(newPlainPhone(t, 1).body(), func([]byte, error) { t.Error("called though it was ready") })
	if err != nil || !now {
		t.Fatalf("now %v, err %v", now, err)
	}
	eventually(t, "it is warm again", 3*time.Second, func() bool { return a.Status().Warm == 1 })
	x.Close()
}

type slowRelays struct {
	asked *atomic.Int32
	relays
}

func (s slowRelays) Allocate(ctx context.Context, n int) ([]Allocation, error) {
	s.asked.Add(1)
	if !wait(ctx, 100*time.Millisecond) {
		return nil, ctx.Err()
	}
	return s.relays.Allocate(ctx, n)
}
