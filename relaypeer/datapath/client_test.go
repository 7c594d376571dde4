package datapath

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/pion/stun"
)

// scripted is a TURN client that sends what it is told to, right or wrong.
type scripted struct {
	t       *testing.T
	w       *world
	c       *net.UDPConn
	realm   stun.Realm
	nonce   stun.Nonce
	relayed netip.AddrPort
	extra   [][]byte // what came while answers were waited for
}

// raw is an attribute of which the value is at hand.
func raw(t stun.AttrType, v ...byte) stun.Setter { return stun.RawAttribute{Type: t, Value: v} }

type peerAddress netip.AddrPort

func (p peerAddress) AddTo(m *stun.Message) error {
	a := netip.AddrPort(p)
	return stun.XORMappedAddress{IP: a.Addr().AsSlice(), Port: int(a.Port())}.AddToAs(m, stun.AttrXORPeerAddress)
}

// script makes an allocation.
func (w *world) script(t *testing.T, more ...stun.Setter) *scripted {
	t.Helper()
	s := &scripted{t: t, w: w, c: udp(t)}
	udpTransport := raw(stun.AttrRequestedTransport, 17, 0, 0, 0)
	m := s.ask(stun.MethodAllocate, udpTransport)
	if s.nonce.GetFrom(m) != nil || s.realm.GetFrom(m) != nil {
		t.Fatalf("no challenge: %v", m)
	}
	m = s.signed(stun.MethodAllocate, append([]stun.Setter{udpTransport}, more...)...)
	var ok bool
	if s.relayed, ok = xorAddress(m, stun.AttrXORRelayedAddress); !ok {
		t.Fatalf("no allocation: %v", m)
	}
	return s
}

func (s *scripted) send(b []byte) {
	s.t.Helper()
	if _, err := s.c.WriteTo(b, s.w.front.LocalAddr()); err != nil {
		s.t.Fatal(err)
	}
}

// build makes a signed request.
func (s *scripted) build(method stun.Method, set ...stun.Setter) *stun.Message {
	s.t.Helper()
	set = append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, set...)
	m, err := stun.Build(append(set, stun.NewUsername("carol"), s.realm, s.nonce, stun.NewLongTermIntegrity("carol", s.realm.String(), "secret"))...)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (s *scripted) signed(method stun.Method, set ...stun.Setter) *stun.Message {
	s.t.Helper()
	return s.exchange(s.build(method, set...))
}

func (s *scripted) ask(method stun.Method, set ...stun.Setter) *stun.Message {
	s.t.Helper()
	return s.exchange(stun.MustBuild(append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, set...)...))
}

// exchange sends a request and gives the answer; what else comes goes to extra.
func (s *scripted) exchange(m *stun.Message) *stun.Message {
	s.t.Helper()
	s.send(m.Raw)
	for {
		b := s.receive()
		a := &stun.Message{Raw: b}
		if a.Decode() == nil && a.TransactionID == m.TransactionID {
			return a
		}
		s.extra = append(s.extra, b)
	}
}

// quiet fails if anything has come besides answers.
func (s *scripted) quiet() {
	s.t.Helper()
	for _, b := range s.extra {
		s.t.Errorf("got %q", b)
	}
	silence(s.t, s.c)
}

// receive gives the next datagram.
func (s *scripted) receive() []byte { s.t.Helper(); return next(s.t, s.c) }

func next(t *testing.T, c *net.UDPConn) []byte {
	t.Helper()
	b := make([]byte, 4096)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// silence fails if something has come. To be called when what could have come must be there: after a fence.
func silence(t *testing.T, c *net.UDPConn) {
	t.Helper()
	b := make([]byte, 4096)
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %q, %v", b[:n], err)
	}
}

func (s *scripted) bind(number uint16, peer netip.AddrPort) *stun.Message {
	s.t.Helper()
	return s.signed(stun.MethodChannelBind, raw(stun.AttrChannelNumber, byte(number>>8), byte(number), 0, 0), peerAddress(peer))
}

func (s *scripted) mustBind(number uint16, peer netip.AddrPort) {
	s.t.Helper()
	if m := s.bind(number, peer); m.Type.Class != stun.ClassSuccessResponse {
		s.t.Fatalf("binding %#x to %v: %v", number, peer, m)
	}
}

// fence returns when pion has handled everything sent before, and the loop has, too.
func (s *scripted) fence() {
	s.t.Helper()
	for range 2 { // the loop has finished the round of the first when it reads the second
		s.exchange(stun.MustBuild(stun.TransactionID, stun.BindingRequest))
	}
}

// channelMessage is a ChannelData message as it should be.
func channelMessage(number uint16, data string) []byte {
	b := make([]byte, 4, 4+len(data))
	binary.BigEndian.PutUint16(b, number)
	binary.BigEndian.PutUint16(b[2:], uint16(len(data)))
	return append(b, data...)
}

// expectChannel takes a ChannelData message, padded or not.
func (s *scripted) expectChannel(number uint16, data string) {
	s.t.Helper()
	b := s.receive()
	if n, d, ok := channelData(b); !ok || n != number || string(d) != data || len(b) > (len(data)+7)&^3 {
		s.t.Fatalf("got %q, want channel %#x with %q", b, number, data)
	}
}
