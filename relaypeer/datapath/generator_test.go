package datapath

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/pion/stun"
)

func TestGeneratorValidate(t *testing.T) {
	loop := &Loop{}
	six := RelayAddress{netip.IPv6Loopback(), netip.IPv6Loopback()}
	four := RelayAddress{localhost, localhost}
	for _, c := range []struct {
		name string
		g    Generator
		ok   bool
	}{
		{"IPv4", Generator{Loop: loop, Relay4: four}, true},
		{"IPv6", Generator{Loop: loop, Relay6: six}, true},
		{"both, with ports", Generator{Loop: loop, Relay4: four, Relay6: six, MinPort: 1, MaxPort: 1}, true},
		{"no loop", Generator{Relay4: four}, false},
		{"no address", Generator{Loop: loop}, false},
		{"families mixed up", Generator{Loop: loop, Relay4: six}, false},
		{"and the other way", Generator{Loop: loop, Relay6: four}, false},
		{"nothing to announce", Generator{Loop: loop, Relay4: RelayAddress{Listen: localhost}}, false},
		{"no address to announce", Generator{Loop: loop, Relay4: RelayAddress{localhost, netip.IPv4Unspecified()}}, false},
		{"ports upside down", Generator{Loop: loop, Relay4: four, MinPort: 2, MaxPort: 1}, false},
		{"half a range", Generator{Loop: loop, Relay4: four, MaxPort: 1}, false},
	} {
		if err := c.g.Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestGeneratorPorts(t *testing.T) {
	kinds(t, func(t *testing.T, o LoopOptions) {
		loop, err := NewLoop(o)
		if err != nil {
			t.Fatal(err)
		}
		defer loop.Close()
		taken := udp(t)
		port := addrPort(taken.LocalAddr()).Port()
		g := &Generator{Loop: loop, Relay4: RelayAddress{localhost, netip.MustParseAddr("192.0.2.7")}, MinPort: port, MaxPort: port}
		if _, _, err := g.AllocatePacketConn("udp4", 0); !errors.Is(err, ErrNoPort) {
			t.Errorf("with the only port taken: %v", err)
		}
		taken.Close()
		c, a, err := g.AllocatePacketConn("udp4", 0)
		if err != nil {
			t.Fatal(err)
		}
		if want := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.7"), port).String(); a.String() != want || c.LocalAddr().String() != netip.AddrPortFrom(localhost, port).String() {
			t.Errorf("%v announced as %v", c.LocalAddr(), a)
		}
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Error(err)
		}
		if _, _, err := c.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading what is closed: %v", err)
		}
		if _, err := c.WriteTo([]byte("x"), a); loop.Stats().LostMeter != 1 {
			t.Errorf("writing to what is closed: %v, %+v", err, loop.Stats())
		}
		refused := errors.New("no more for you")
		g.Open = func(Request) (Meter, error) { return nil, refused }
		if _, _, err := g.AllocatePacketConn("udp4", 0); !errors.Is(err, refused) {
			t.Errorf("refused: %v", err)
		}
		g.Open = nil
		if c, _, err = g.AllocatePacketConn("udp4", int(port)); err != nil { // the refused one was closed
			t.Fatal(err)
		}
		defer c.Close()
		if n := loop.Stats().Allocations; n != 1 {
			t.Errorf("%d allocations", n)
		}
	})
}

// TestIPv6 asks pion, which knows nothing of it, for an IPv6 address.
func TestIPv6(t *testing.T) {
	peer, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Skip("no IPv6 on this machine: ", err)
	}
	defer peer.Close()
	kinds(t, func(t *testing.T, o LoopOptions) {
		w := newWorld(t, o, Options{}, nil)
		s := w.script(t, raw(stun.AttrRequestedAddressFamily, 2, 0, 0, 0))
		if !s.relayed.Addr().Is6() {
			t.Fatalf("relayed as %v", s.relayed)
		}
		s.mustBind(0x4000, addrPort(peer.LocalAddr()))
		s.send(channelMessage(0x4000, "six"))
		if got := next(t, peer); string(got) != "six" {
			t.Fatalf("got %q", got)
		}
		if _, err := peer.WriteToUDPAddrPort([]byte("back"), s.relayed); err != nil {
			t.Fatal(err)
		}
		s.expectChannel(0x4000, "back")
		if n := w.loop.Stats().Short; !o.Plain && n != 2 && w.loop.engine != nil {
			t.Errorf("%d packets took the short cut", n)
		}
		// Without an IPv6 address there is no allocation.
		w = newWorld(t, o, Options{}, nil, func(g *Generator) { g.Relay6 = RelayAddress{} })
		x := &scripted{t: t, w: w, c: udp(t)}
		udpTransport := raw(stun.AttrRequestedTransport, 17, 0, 0, 0)
		m := x.ask(stun.MethodAllocate, udpTransport)
		_, _ = x.nonce.GetFrom(m), x.realm.GetFrom(m)
		m = x.signed(stun.MethodAllocate, udpTransport, raw(stun.AttrRequestedAddressFamily, 2, 0, 0, 0))
		if m.Type.Class != stun.ClassErrorResponse {
			t.Errorf("an allocation of no family: %v", m)
		}
	})
}

func TestListen(t *testing.T) {
	loop, err := NewLoop(LoopOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ network, address string }{{"udp6", "127.0.0.1:0"}, {"udp4", "[::1]:0"}, {"tcp", "127.0.0.1:0"}, {"udp", "localhost:0"}, {"udp", "192.0.2.1:0"}} {
		if f, err := loop.Listen(c.network, c.address, Options{}); err == nil {
			t.Errorf("%s %s: %v", c.network, c.address, f.LocalAddr())
		}
	}
	f, err := loop.Listen("udp", "127.0.0.1:0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loop.Listen("udp", f.LocalAddr().String(), Options{}); err == nil {
		t.Error("one port for two")
	}
	if err := errors.Join(f.SetDeadline(loop.o.Now()), f.Close()); !errors.Is(err, ErrNoDeadline) {
		t.Error(err)
	}
	f2, err := loop.Listen("udp", "127.0.0.1:0", Options{}) // closed with the loop
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(loop.Close(), loop.Close()); err != nil {
		t.Error(err)
	}
	if _, _, err := f2.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := loop.Listen("udp", "127.0.0.1:0", Options{}); loop.engine != nil && !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
