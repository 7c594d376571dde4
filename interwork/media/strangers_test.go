package media

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun"

	"p2psip/interwork/media/sdp"
)

func listen(t testing.TB, host string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Nobody but the phone is heard on its ports, however much they send there (RTP bleed).
func TestStrangersOnAPhonesPortAreNotHeard(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "bleed")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "hello", 5*time.Second)

	elsewhere, sameHost := listen(t, "127.0.0.66"), listen(t, "127.0.0.1")
	for i := range uint16(20) {
		b := append(rtpPacket(1000+i, 0, 0xbad, 0), "i am alice"...)
		elsewhere.WriteToUDPAddrPort(b, c.alice.to)
		sameHost.WriteToUDPAddrPort(b, c.alice.to)
	}
	speak(t, c.alice, c.bob, "still me", 5*time.Second)
	eventually(t, "the strangers' packets are counted", time.Second, func() bool {
		return stream(t, c.a).FromPhone.Strange >= 40
	})
	if c.bob.hears("i am alice", 50*time.Millisecond) {
		t.Error("a stranger was heard")
	}
	// Nor are they sent anything.
	speak(t, c.bob, c.alice, "for alice only", 5*time.Second)
	if hears(elsewhere, "for alice only", 20*time.Millisecond) || hears(sameHost, "for alice only", 20*time.Millisecond) {
		t.Error("a stranger hears")
	}
}

// A phone behind a NAT sends from another port than it says; it is the only one.
func TestOneOtherSourceOnThePhonesHost(t *testing.T) {
	now := time.Unix(1000, 0)
	s := source{now: func() time.Time { return now }}
	host := netip.MustParseAddr("192.0.2.1")
	said := netip.MustParseAddrPort("10.0.0.5:4000")
	mapped, other := netip.AddrPortFrom(host, 30000), netip.AddrPortFrom(host, 30002)
	s.expect(host, said, true)
	check := func(from netip.AddrPort, want bool) {
		t.Helper()
		if got := s.accept(from); got != want {
			t.Errorf("accept(%v) = %v", from, got)
		}
	}
	check(netip.MustParseAddrPort("192.0.2.2:30000"), false)
	if to, _ := s.to(); to != said {
		t.Errorf("sends to %v", to)
	}
	check(mapped, true)
	check(other, false)
	check(mapped, true)
	if to, _ := s.to(); to != mapped {
		t.Errorf("sends to %v", to)
	}
	now = now.Add(relatchAfter - time.Second)
	check(mapped, true)
	now = now.Add(2 * time.Second)
	check(other, false)
	now = now.Add(relatchAfter)
	check(other, true)
	check(mapped, false)
	check(said, true) // what the description says always counts
	check(other, false)
	s.expect(host, said, true) // a re-INVITE
	check(other, true)
	s.expect(host, netip.MustParseAddrPort("0.0.0.0:4000"), true)
	if to, ok := s.to(); ok {
		t.Errorf("on hold, sends to %v", to)
	}
}

// Who knows no password gets nothing into the far leg: no RTP, no DTLS, no path.
func TestStrangersOnTheFarLeg(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "far")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "hello", 5*time.Second)
	at := stream(t, c.a).Local
	stranger := listen(t, "127.0.0.1")
	s, _ := sdp.Parse(c.between)
	ufrag := s.Media[0].Transport().ICE.Ufrag
	forged, _ := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(ufrag+":abcd"),
		stun.NewShortTermIntegrity("guessed guessed guessed"), stun.Fingerprint)
	hello := append([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4}, 1, 0, 0, 0)
	for range 30 {
		stranger.WriteToUDPAddrPort(append(rtpPacket(1, 0, 0xbad, 0), "i am bob"...), at)
		stranger.WriteToUDPAddrPort(hello, at)
		stranger.WriteToUDPAddrPort(forged.Raw, at)
	}
	speak(t, c.bob, c.alice, "still me", 5*time.Second)
	eventually(t, "they are counted", time.Second, func() bool { return stream(t, c.a).FromFar.Strange >= 60 })
	if st := stream(t, c.a); st.Remote == stranger.LocalAddr().(*net.UDPAddr).AddrPort() {
		t.Errorf("a stranger has the path: %+v", st)
	}
	f := c.a.trunkOf("far").fars[0]
	if n := len(*f.gen.bundle.socks[0].proven.Load()); n != 1 {
		t.Errorf("%d addresses are proven", n)
	}
	if hears(stranger, "", 20*time.Millisecond) {
		t.Error("a stranger was answered")
	}
}

func (m *Manager) trunkOf(callID string) *trunk {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.trunks {
		if t.key.callID == callID {
			return t
		}
	}
	return nil
}

// A certificate that is not the announced one: no media, and the reason is told.
func TestFingerprintMismatch(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "mitm")
	c.invite()
	// Somebody in the signalling puts their own fingerprint into the answer.
	var err error
	c.betweenBack, err = c.exB.Response(200, "bob", true, c.bob.body())
	if err != nil {
		t.Fatal(err)
	}
	s, _ := sdp.Parse(c.betweenBack)
	tr := s.Media[0].Transport()
	sum := []byte(tr.Fingerprints[0].Sum)
	sum[3] ^= 1
	tr.Fingerprints[0].Sum = string(sum)
	s.Media[0].SetTransport(tr)
	if c.toAlice, err = c.exA.Response(200, "bob", true, s.Marshal()); err != nil {
		t.Fatal(err)
	}
	c.alice.learn(c.toAlice)
	for range 50 {
		c.alice.say("secret")
		c.bob.say("secret")
	}
	eventually(t, "the reason is told", 5*time.Second, func() bool { return stream(t, c.a).Trouble != "" })
	for range 20 {
		c.alice.say("secret")
		c.bob.say("secret")
	}
	if c.bob.hears("secret", 50*time.Millisecond) || c.alice.hears("secret", 50*time.Millisecond) {
		t.Error("media in spite of a wrong certificate")
	}
	st := stream(t, c.a)
	if st.FarCrypto != "" || st.NodeToNode || st.FromFar.Packets != 0 {
		t.Errorf("status: %+v", st)
	}
}

// Between nodes nothing goes in clear, whatever is offered or answered.
func TestNeverClearBetweenNodes(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "plain offer")
	x := c.b.Open(c.atB)
	if _, err := tryRequest(x, c.alice.body()); err == nil {
		t.Error("an offer in clear from a node was taken")
	} else if r, ok := err.(*Refusal); !ok || r.Status != 488 {
		t.Errorf("refused with %v", err)
	}
	x.Close()

	c.exA = c.a.Open(c.atA)
	request(t, c.exA, c.alice.body())
	if out, err := c.exA.Response(200, "bob", true, c.bob.body()); err == nil {
		t.Errorf("an answer in clear from a node was taken:\n%s", out)
	}
	c.alice.to = netip.AddrPortFrom(loopback4, c.a.ports.min)
	for range 10 {
		c.alice.say("secret")
	}
	if c.bob.hears("secret", 30*time.Millisecond) {
		t.Error("media in clear")
	}
}

// A relay sees SRTP only: no word, and nothing that is alike in two packets.
func TestRelaysSeeNoSpeech(t *testing.T) {
	w := newWorld(t)
	tap := newRelay("tap", "127.0.0.21")
	w.node("a", Config{Warm: -1, RelayOnly: true, Relays: tapped{relays{tap}, t}})
	w.node("b", Config{Warm: -1, RelayOnly: true, Relays: relays{newRelay("r2", "127.0.0.22")}})
	c := newCall(w, "a", "b", "tapped")
	c.invite()
	c.answer(200)
	for range 20 {
		speak(t, c.alice, c.bob, "the secret word", 5*time.Second)
		speak(t, c.bob, c.alice, "the secret word", 5*time.Second)
	}
}

// tapped fails the test when something passes in clear.
type tapped struct {
	relays
	t testing.TB
}

func (r tapped) Allocate(ctx context.Context, n int) ([]Allocation, error) {
	out, err := r.relays.Allocate(ctx, n)
	for i, a := range out {
		out[i] = &tap{a.(*fakeAllocation), r.t}
	}
	return out, err
}

type tap struct {
	*fakeAllocation
	t testing.TB
}

func (a *tap) look(b []byte) {
	if bytes.Contains(b, []byte("secret")) {
		a.t.Errorf("in clear: %q", b)
	}
}

func (a *tap) WriteTo(b []byte, to net.Addr) (int, error) {
	a.look(b)
	return a.fakeAllocation.WriteTo(b, to)
}

func (a *tap) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := a.fakeAllocation.ReadFrom(b)
	a.look(b[:n])
	return n, from, err
}

func TestSessionsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1, MaxSessions: 3, PortMin: 24000, PortMax: 24099})
	w.node("b", Config{Warm: -1})
	alice := newPlainPhone(t, 1)
	var opened []Exchange
	for i := range 5 {
		c := newCall(w, "a", "b", fmt.Sprint("call", i))
		x := c.a.Open(c.atA)
		_, err := tryRequest(x, alice.body())
		if (err == nil) != (i < 3) {
			t.Errorf("call %d: %v", i, err)
		}
		opened = append(opened, x)
	}
	st := w.nodes["a"].Status()
	if st.Sessions != 3 || st.Refused != 2 || st.PortsUsed != 3 {
		t.Errorf("status: %+v", st)
	}
	// One node gets no more than half of the room of another.
	taken := 0
	between := request(t, w.nodes["b"].Open(Dialog{CallID: "z", FromTag: "z", Method: "INVITE", CSeq: 1, FromPhone: true, Transaction: "z",
		Phone: loopback4, PhoneHost: loopback4, Node: "c"}), alice.body())
	small := w.node("c", Config{Warm: -1, MaxSessions: 6})
	for i := range 6 {
		x := small.Open(Dialog{CallID: fmt.Sprint("from b", i), FromTag: "b", Method: "INVITE", CSeq: 1, Transaction: "t",
			Phone: loopback4, PhoneHost: loopback4, Node: "b"})
		if _, err := tryRequest(x, between); err == nil {
			taken++
		}
	}
	if taken != 3 {
		t.Errorf("%d calls of one node of 6 in all", taken)
	}
	for _, x := range opened {
		x.Close()
	}
	eventually(t, "everything is free", 3*time.Second, func() bool {
		st := w.nodes["a"].Status()
		return st.Sessions == 0 && st.PortsUsed == 0
	})
}

// A far side that is quicker than this one begins DTLS before there is an association: its records are kept, not very many.
func TestEarlyRecordsAreKept(t *testing.T) {
	l := &leg{carrier: nothing{}}
	hello := append([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4}, 1, 0, 0, 0)
	for range 3 * maxHeld {
		l.receive(bytes.Clone(hello))
	}
	a := newAssociation(dtlsParams{}, func([]byte) {})
	defer a.close()
	l.associate(a)
	if n := a.in.Count(); n != maxHeld {
		t.Errorf("%d records are kept", n)
	}
	l.receive(hello)
	if n := a.in.Count(); n != maxHeld+1 {
		t.Errorf("%d records after one more", n)
	}
}
