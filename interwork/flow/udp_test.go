package flow

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

func udpPair(t *testing.T, h Handler, o Options) (*UDP, *net.UDPConn) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := ListenUDP(pc, h, o)
	t.Cleanup(func() { u.Close() })
	phone, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addrPort(u.Local())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { phone.Close() })
	return u, phone
}

func addrPort(a Addr) netip.AddrPort {
	ap, _ := a.AddrPort()
	return ap
}

func receive(t *testing.T, c net.Conn) []byte {
	t.Helper()
	buf := make([]byte, 1<<16)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestUDPOrderAndStamp(t *testing.T) {
	h := newRecorder()
	u, phone := udpPair(t, h, Options{})
	for i := range 50 {
		phone.Write(request(i))
	}
	for i := range 50 {
		e := h.next(t)
		if got := callID(e.m); got != strings.TrimSpace(callID(e.m)) || got != itoa(i) {
			t.Fatalf("message %d has Call-ID %s", i, got)
		}
		if i > 0 {
			continue
		}
		from := addrOf(phone.LocalAddr())
		via := e.m.Via()
		if r, _ := via.Params.Get("rport"); r != itoa(from.Port) {
			t.Errorf("rport %q, want %d", r, from.Port)
		}
		if r, _ := via.Params.Get("received"); r != "127.0.0.1" {
			t.Errorf("received %q", r)
		}
		if e.f != u.To(addrPort(from)) || e.f.Remote() != from || e.f.Local() != u.Local() || !e.f.Edge() || e.f.Reliable() {
			t.Errorf("flow %v", e.f)
		}
		if e.m.Source() != from.String() || e.m.Transport() != "UDP" {
			t.Errorf("source %s over %s", e.m.Source(), e.m.Transport())
		}
		if err := e.f.Send([]byte("SIP/2.0 200 OK\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, phone); !bytes.HasPrefix(got, []byte("SIP/2.0 200")) {
			t.Errorf("got %q", got)
		}
	}
}

func itoa(i int) string { return string(appendInt(nil, i)) }

func appendInt(b []byte, i int) []byte {
	if i >= 10 {
		b = appendInt(b, i/10)
	}
	return append(b, byte('0'+i%10))
}

// TestStampReplacesClaims: what the client wrote into received and rport itself is not believed.
func TestStampReplacesClaims(t *testing.T) {
	from := Addr{Host: "192.0.2.7", Port: 4444}
	for via, want := range map[string]string{
		"192.0.2.7:5060;branch=z9hG4bKa":                                   "192.0.2.7:5060;branch=z9hG4bKa",
		"phone;branch=z9hG4bKa":                                            "phone;branch=z9hG4bKa;received=192.0.2.7",
		"192.0.2.7;rport;branch=z9hG4bKa":                                  "192.0.2.7;rport=4444;branch=z9hG4bKa;received=192.0.2.7",
		"192.0.2.7;branch=z9hG4bKa;received=10.0.0.1":                      "192.0.2.7;branch=z9hG4bKa;received=192.0.2.7",
		"192.0.2.7;branch=z9hG4bKa;rport=1;received=10.0.0.1":              "192.0.2.7;branch=z9hG4bKa;rport=4444;received=192.0.2.7",
		"192.0.2.8;branch=z9hG4bKa, SIP/2.0/UDP 10.0.0.2;received=1.1.1.1": "192.0.2.8;branch=z9hG4bKa;received=192.0.2.7",
	} {
		m, err := message.Parse(bytes.Replace(request(1), []byte("phone.invalid:5070;rport;branch=z9hG4bK1"), []byte(via), 1), true)
		if err != nil {
			t.Fatal(err)
		}
		stamp(m, from)
		if got := strings.TrimPrefix(m.Via().Value(), "SIP/2.0/UDP "); got != want {
			t.Errorf("%s: stamped %s, want %s", via, got, want)
		}
		if !strings.Contains(string(message.Bytes(m)), want) {
			t.Errorf("the stamp is not written")
		}
	}
	res, err := message.Parse([]byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;rport;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"+
		"To: <sip:a@b>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"), true)
	if err != nil {
		t.Fatal(err)
	}
	stamp(res, from)
	if got := res.Via().Value(); got != "SIP/2.0/UDP h;rport;branch=z9hG4bK1" {
		t.Errorf("a response was stamped: %s", got)
	}
}

func TestUDPMalformed(t *testing.T) {
	h := newRecorder()
	u, phone := udpPair(t, h, Options{ReplyRate: 3})
	for i := range 10 {
		phone.Write(broken(i))
		h.next(t)
	}
	for range 3 {
		if got := receive(t, phone); !bytes.HasPrefix(got, []byte("SIP/2.0 400 CSeq Method Mismatch\r\n")) {
			t.Fatalf("got %q", got)
		}
	}
	if n := u.Counters().Refused.Load(); n != 3 {
		t.Errorf("%d answers, the rate allows 3", n)
	}
	if n := u.Counters().Malformed.Load(); n != 10 {
		t.Errorf("%d malformed", n)
	}
}

// TestUDPNoAmplification: an answer to a source that may be forged is not larger than what it sent.
func TestUDPNoAmplification(t *testing.T) {
	pc := &fakePacketConn{}
	g := newGuard(newRecorder(), Options{}.withDefaults())
	u := &UDP{pc: pc, g: g}
	small := []byte("OPTIONS sip:b SIP/2.0\r\nVia: x\r\n\r\n")
	_, err := message.Parse(small, true)
	e := err.(*message.Error)
	if len(e.Reply()) <= len(small) {
		t.Fatal("the case tests nothing")
	}
	u.To(netip.MustParseAddrPort("192.0.2.1:5060")).(refuser).refuse(e)
	if pc.sent != 0 {
		t.Error("answered with more than was received")
	}
	u.To(netip.MustParseAddrPort("127.0.0.1:5060")).(refuser).refuse(e)
	if pc.sent != 1 {
		t.Error("no answer on this machine")
	}
}

type fakePacketConn struct {
	net.PacketConn
	sent int
}

func (c *fakePacketConn) WriteTo(b []byte, _ net.Addr) (int, error) { c.sent++; return len(b), nil }

// TestUDPPanic: a handler that panics loses that message only.
func TestUDPPanic(t *testing.T) {
	h := newRecorder()
	h.hook = func(_ Flow, m sip.Message) {
		if callID(m) == "bad" {
			panic("on purpose")
		}
	}
	u, phone := udpPair(t, h, Options{})
	phone.Write(request("bad"))
	phone.Write(request("good"))
	if got := callID(h.next(t).m); got != "good" {
		t.Fatalf("got %s", got)
	}
	if n := u.Counters().Panics.Load(); n != 1 {
		t.Errorf("%d panics counted", n)
	}
}

func TestUDPKeepAliveAndRubbish(t *testing.T) {
	h := newRecorder()
	_, phone := udpPair(t, h, Options{})
	for _, s := range []string{"\r\n\r\n", "\r\n", "\x00\x00\x00\x00", "\x00", "\xff\xfe", "GET / HTTP/1.1\r\n\r\n"} {
		phone.Write([]byte(s))
	}
	phone.Write(request("after"))
	silent := 0
	for {
		e := h.next(t)
		if e.m != nil {
			break
		}
		if e.e.Status != 0 {
			t.Errorf("%v would be answered", e.e)
		}
		silent++
	}
	if silent != 2 {
		t.Errorf("%d malformed, want the two that are neither SIP nor a keep-alive", silent)
	}

	phone.Write(mustHex("000100002112a442000102030405060708090a0b"))
	got := receive(t, phone)
	from := phone.LocalAddr().(*net.UDPAddr)
	want := mustHex("0101000c2112a442000102030405060708090a0b00200008" + "0001")
	if !bytes.HasPrefix(got, want) || len(got) != 32 {
		t.Fatalf("STUN response %x", got)
	}
	if port := (int(got[26])<<8 | int(got[27])) ^ 0x2112; port != from.Port {
		t.Errorf("mapped port %d, want %d", port, from.Port)
	}
	if !bytes.Equal(got[28:], []byte{127 ^ 0x21, 0 ^ 0x12, 0 ^ 0xa4, 1 ^ 0x42}) {
		t.Errorf("mapped address %x", got[28:])
	}
}

func TestSTUNRefuses(t *testing.T) {
	from := netip.MustParseAddrPort("[2001:db8::1]:5060")
	for name, s := range map[string]string{
		"short":               "000100002112a4420001",
		"no cookie":           "0001000000000000000102030405060708090a0b",
		"indication":          "001100002112a442000102030405060708090a0b",
		"length":              "000100042112a442000102030405060708090a0b",
		"attribute to know":   "000100082112a442000102030405060708090a0b0006000461626364",
		"attribute too long":  "000100042112a442000102030405060708090a0b80220010",
		"attribute cut short": "000100022112a442000102030405060708090a0b8022",
	} {
		if got := stunResponse(mustHex(s), from); got != nil {
			t.Errorf("%s: %x", name, got)
		}
	}
	if got := stunResponse(mustHex("000100082112a442000102030405060708090a0b8022000474657374"), from); len(got) != 44 {
		t.Errorf("request with SOFTWARE: %x", got)
	}
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func TestUDPTooLargeAndClosed(t *testing.T) {
	u, phone := udpPair(t, newRecorder(), Options{})
	f := u.To(addrPort(addrOf(phone.LocalAddr())))
	if err := f.Send(make([]byte, 70000)); err != ErrTooLarge {
		t.Error(err)
	}
	u.Close()
	if err := f.Send([]byte("x")); err != ErrClosed {
		t.Error(err)
	}
}
