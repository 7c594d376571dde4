package media

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"p2psip/interwork/media/sdp"
)

// outside makes a dialog between alice's phone and somebody outside the overlay.
func outside(w *world, node *Manager, id string, fromPhone bool) (Dialog, *plainPhone, *plainPhone) {
	d := Dialog{CallID: id, FromTag: "caller", Method: "INVITE", CSeq: 1, FromPhone: fromPhone, Transaction: id,
		Phone: loopback4, PhoneHost: loopback4, Outside: true}
	return d, newPlainPhone(w.t, 0xa11ce), newPlainPhone(w.t, 0xca401)
}

// To the outside, which answers with plain RTP: it goes through the relay whose address was offered.
func TestOutsideWithoutICE(t *testing.T) {
	w := newWorld(t)
	r := newRelay("r1", "127.0.0.31")
	a := w.node("a", Config{Warm: -1, Relays: relays{r}})
	d, alice, carol := outside(w, a, "out", true)
	x := a.Open(d)
	offer := request(t, x, alice.body())
	s, err := sdp.Parse(offer)
	if err != nil {
		t.Fatal(err)
	}
	tr := s.Media[0].Transport()
	if tr.Profile != sdp.AVP || tr.RTP.Addr() != r.addr || tr.RTCP != tr.RTP || len(tr.Fingerprints) == 0 || !tr.ICE.Usable() || tr.Misled() {
		t.Errorf("the offer to the outside:\n%s", offer)
	}
	carol.learn(offer)
	answer, err := x.Response(200, "carol", true, carol.body())
	if err != nil {
		t.Fatal(err)
	}
	alice.learn(answer)
	speak(t, alice, carol, "hello outside", 5*time.Second)
	speak(t, carol, alice, "hello inside", 5*time.Second)
	st := stream(t, a)
	if st.Path != "relayed" || st.Relay != "r1" || st.FarCrypto != "none" || st.NodeToNode || st.Local != tr.RTP {
		t.Errorf("status: %+v", st)
	}
	// RTCP goes to the port that the answer means, from the one that was offered.
	report := []byte{0x80, 201, 0, 1, 0, 0, 0, 7}
	alice.rtcp.WriteToUDPAddrPort(report, alice.toRTCP)
	if !hears(carol.rtcp, string(report), time.Second) {
		t.Error("no RTCP outside")
	}
	carol.rtcp.WriteToUDPAddrPort(report, carol.toRTCP)
	if !hears(alice.rtcp, string(report), time.Second) {
		t.Error("no RTCP inside")
	}
	// A stranger on another host is not heard.
	stranger := listen(t, "127.0.0.66")
	stranger.WriteToUDPAddrPort(append(rtpPacket(1, 0, 0xbad, 0), "i am carol"...), tr.RTP)
	if alice.hears("i am carol", 50*time.Millisecond) {
		t.Error("a stranger was heard")
	}
}

// From the outside, plain RTP as most of it is.
func TestFromOutsideWithoutICE(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", Config{Warm: -1, Relays: relays{newRelay("r1", "127.0.0.31")}})
	d, alice, carol := outside(w, a, "in", false)
	x := a.Open(d)
	alice.learn(request(t, x, carol.body()))
	answer, err := x.Response(200, "alice", true, alice.body())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(answer, []byte("candidate")) || bytes.Contains(answer, []byte("fingerprint")) {
		t.Errorf("more than was offered:\n%s", answer)
	}
	carol.learn(answer)
	speak(t, alice, carol, "hello outside", 5*time.Second)
	speak(t, carol, alice, "hello inside", 5*time.Second)
}

// The outside does ICE and DTLS: it is another node's Manager here, told that it talks to the outside as well.
func TestOutsideWithICE(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", Config{Warm: -1})
	b := w.node("b", Config{Warm: -1})
	d, alice, carol := outside(w, a, "ice", true)
	e := d
	e.FromPhone, e.Transaction = false, "other side"
	x, y := a.Open(d), b.Open(e)
	carol.learn(request(t, y, request(t, x, alice.body())))
	back, err := y.Response(200, "carol", true, carol.body())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := x.Response(200, "carol", true, back)
	if err != nil {
		t.Fatal(err)
	}
	alice.learn(answer)
	speak(t, alice, carol, "hello outside", 5*time.Second)
	speak(t, carol, alice, "hello inside", 5*time.Second)
	st := stream(t, a)
	if !strings.HasPrefix(st.FarCrypto, "DTLS-SRTP") || st.RemoteType != "host" || st.NodeToNode {
		t.Errorf("status: %+v", st)
	}
}

// securePhone speaks SRTP with keys from its description (RFC 4568).
type securePhone struct {
	*plainPhone
	keys sdp.Crypto
	in   *opener
	out  *sealer
}

func newSecurePhone(t testing.TB, suite string) *securePhone {
	p := &securePhone{plainPhone: newPlainPhone(t, 0x5ec), keys: newCrypto(7, suite)}
	p.seq = 65534 // it rolls over at once, so that a counter that is lost shows
	k, _ := secretOf(p.keys)
	var err error
	if p.out, err = newSealer(k); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *securePhone) body() []byte {
	return []byte(strings.Replace(string(p.plainPhone.body("a=crypto:"+p.keys.String())), "RTP/AVP", "RTP/SAVP", 1))
}

func (p *securePhone) learn(body []byte) {
	p.t.Helper()
	p.plainPhone.learn(body)
	s, _ := sdp.Parse(body)
	tr := s.Media[0].Transport()
	if len(tr.Crypto) != 1 || tr.Crypto[0].Tag != 7 || tr.Crypto[0].Suite != p.keys.Suite {
		p.t.Fatalf("keys of the answer:\n%s", body)
	}
	k, _ := secretOf(tr.Crypto[0])
	var err error
	if p.in, err = newOpener(k); err != nil {
		p.t.Fatal(err)
	}
}

func (p *securePhone) exchange(other *plainPhone, word string) {
	p.t.Helper()
	buf := make([]byte, 2000)
	heard, told := false, false
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && !(heard && told); {
		p.seq++
		b, err := p.out.seal(nil, append(rtpPacket(p.seq, uint32(p.seq)*160, p.ssrc, 0), word...), false)
		if err != nil {
			p.t.Fatal(err)
		}
		p.rtp.WriteToUDPAddrPort(b, p.to)
		told = told || other.hears(word, 10*time.Millisecond)
		other.say(word)
		p.rtp.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if n, _, err := p.rtp.ReadFromUDPAddrPort(buf); err == nil {
			if bytes.Contains(buf[:n], []byte(word)) {
				p.t.Fatal("in clear to a phone that wants SRTP")
			}
			out, err := p.in.open(buf[:n], false)
			heard = heard || err == nil && bytes.HasSuffix(out, []byte(word))
		}
	}
	if !heard || !told {
		p.t.Fatalf("heard %v, told %v", heard, told)
	}
}

func TestPhoneWithSDES(t *testing.T) {
	for _, suite := range []string{"AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM"} {
		t.Run(suite, func(t *testing.T) {
			w := newWorld(t)
			w.node("a", Config{Warm: -1})
			w.node("b", Config{Warm: -1})
			c := newCall(w, "a", "b", "sdes")
			p := newSecurePhone(t, suite)
			c.exA = c.a.Open(c.atA)
			c.between = request(t, c.exA, p.body())
			if bytes.Contains(c.between, []byte("a=crypto")) {
				t.Errorf("keys of a phone leave the node:\n%s", c.between)
			}
			c.exB = c.b.Open(c.atB)
			c.bob.learn(request(t, c.exB, c.between))
			back, err := c.exB.Response(200, "bob", true, c.bob.body())
			if err != nil {
				t.Fatal(err)
			}
			answer, err := c.exA.Response(200, "bob", true, back)
			if err != nil {
				t.Fatal(err)
			}
			p.learn(answer)
			p.exchange(c.bob, "by SDES")
			if s := stream(t, c.a); s.NearCrypto != "SDES "+suite || s.FarCrypto != "DTLS-SRTP AEAD_AES_128_GCM" {
				t.Errorf("status: %+v", s)
			}
			// A re-INVITE with the same keys goes on with the same roll-over counter.
			d := c.atA
			d.ToTag, d.CSeq, d.Transaction = "bob", 2, "again"
			x := c.a.Open(d)
			again := strings.Replace(string(p.body()), "1 1 IN", "1 2 IN", 1)
			e := c.atB
			e.ToTag, e.CSeq, e.Transaction = "bob", 2, "again"
			y := c.b.Open(e)
			request(t, y, request(t, x, []byte(again)))
			back, err = y.Response(200, "bob", true, []byte(strings.Replace(string(c.bob.body()), "1 1 IN", "1 2 IN", 1)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = x.Response(200, "bob", true, back); err != nil {
				t.Fatal(err)
			}
			p.exchange(c.bob, "and again")
		})
	}
}

// dtlsPhone does DTLS-SRTP without ICE.
func TestPhoneWithDTLS(t *testing.T) {
	for _, setup := range []string{"actpass", "active", "passive"} {
		t.Run(setup, func(t *testing.T) {
			w := newWorld(t)
			w.node("a", Config{Warm: -1})
			w.node("b", Config{Warm: -1})
			c := newCall(w, "a", "b", "dtls "+setup)
			cert, err := newCertificate()
			if err != nil {
				t.Fatal(err)
			}
			offer := strings.Replace(string(c.alice.body(fmt.Sprintf("a=setup:%s\r\na=fingerprint:%s", setup, cert.fingerprint))),
				"RTP/AVP", "UDP/TLS/RTP/SAVP", 1)
			c.exA = c.a.Open(c.atA)
			c.between = request(t, c.exA, []byte(offer))
			c.exB = c.b.Open(c.atB)
			c.bob.learn(request(t, c.exB, c.between))
			back, err := c.exB.Response(200, "bob", true, c.bob.body())
			if err != nil {
				t.Fatal(err)
			}
			answer, err := c.exA.Response(200, "bob", true, back)
			if err != nil {
				t.Fatal(err)
			}
			c.alice.learn(answer)
			s, _ := sdp.Parse(answer)
			tr := s.Media[0].Transport()
			// The phone's end: a leg of ours on the phone's socket.
			end := &phoneEnd{p: c.alice}
			l := &leg{carrier: end}
			heard := make(chan string, 100)
			sink := &leg{carrier: sinkCarrier(heard), clearOut: true}
			l.peer.Store(sink)
			l.startDTLS(dtlsParams{cert: cert, client: tr.Setup == sdp.SetupPassive, peer: tr.Fingerprints})
			done := make(chan struct{})
			go func() {
				defer close(done)
				buf := make([]byte, 2000)
				for {
					n, _, err := c.alice.rtp.ReadFromUDPAddrPort(buf)
					if err != nil {
						return
					}
					l.receive(buf[:n])
				}
			}()
			eventually(t, "the phone has keys", 5*time.Second, func() bool { n, _ := l.cryptoStatus(); return n != "" })
			eventually(t, "the node has keys", 5*time.Second, func() bool { return stream(t, c.a).NearCrypto != "" })
			begin := time.Now()
			for ok := false; !ok && time.Since(begin) < 5*time.Second; {
				c.alice.seq++
				l.send(append(rtpPacket(c.alice.seq, 0, 1, 0), "by DTLS"...), false)
				ok = c.bob.hears("by DTLS", 20*time.Millisecond)
				c.bob.say("back")
			}
			select {
			case w := <-heard:
				if w != "back" {
					t.Errorf("heard %q", w)
				}
			case <-time.After(5 * time.Second):
				t.Error("the phone hears nothing")
			}
			l.stopDTLS()
			c.alice.rtp.SetReadDeadline(time.Now())
			<-done
		})
	}
}

type phoneEnd struct{ p *plainPhone }

func (e *phoneEnd) write(b []byte, _ bool) { e.p.rtp.WriteToUDPAddrPort(b, e.p.to) }

type sinkCarrier chan string

func (s sinkCarrier) write(b []byte, _ bool) {
	select {
	case s <- string(b[12:]):
	default:
	}
}

// What comes from outside must not make the node send to itself or to its neighbours.
func TestOutsideMayNotNameLoopback(t *testing.T) {
	for _, at := range []string{"127.0.0.1:4000", "224.0.0.1:4000", "0.0.0.0:1", "169.254.1.1:1", "[::1]:5", "[fe80::1]:5", "255.255.255.255:7", "192.0.2.1:0"} {
		if sendable(netip.MustParseAddrPort(at), false) {
			t.Errorf("%s may be sent to", at)
		}
	}
	if !sendable(netip.MustParseAddrPort("192.0.2.1:4000"), false) || !sendable(netip.MustParseAddrPort("10.0.0.1:4000"), false) {
		t.Error("nobody may be sent to")
	}
}
