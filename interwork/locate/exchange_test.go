package locate

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"p2psip/interwork/locate/zone"
)

// dialogue runs a name server by hand: answer is called with each query over UDP and writes what it likes.
func dialogue(t *testing.T, answer func(pc net.PacketConn, from net.Addr, query *dns.Msg)) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(b[:n]) == nil {
				answer(pc, from, q)
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

func send(t *testing.T, pc net.PacketConn, to net.Addr, m *dns.Msg) {
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	pc.WriteTo(b, to)
}

const small = "example.com. 60 SOA ns hostmaster 1 3600 600 86400 60\na.example.com. 60 A 192.0.2.1\nb.example.com. 60 A 192.0.2.66"

// TestForgeriesArePassedOver: what is no answer to the question is not taken for one, and the true answer behind it still is.
func TestForgeriesArePassedOver(t *testing.T) {
	z := parse(t, small)
	other, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	lie := func(q *dns.Msg) *dns.Msg {
		m := z.Answer("udp", q)
		m.Answer[0].(*dns.A).A = net.IPv4(192, 0, 2, 66)
		return m
	}
	for name, forge := range map[string]func(pc net.PacketConn, from net.Addr, q *dns.Msg){
		"wrong identifier": func(pc net.PacketConn, from net.Addr, q *dns.Msg) {
			m := lie(q)
			m.Id ^= 1
			send(t, pc, from, m)
		},
		"wrong name": func(pc net.PacketConn, from net.Addr, q *dns.Msg) {
			m := lie(q)
			m.Question[0].Name = "b.example.com."
			send(t, pc, from, m)
		},
		"wrong type": func(pc net.PacketConn, from net.Addr, q *dns.Msg) {
			m := lie(q)
			m.Question[0].Qtype = dns.TypeAAAA
			send(t, pc, from, m)
		},
		"wrong case": func(pc net.PacketConn, from net.Addr, q *dns.Msg) {
			m := lie(q)
			m.Question[0].Name = "A.example.com."
			send(t, pc, from, m)
		},
		"no question": func(pc net.PacketConn, from net.Addr, q *dns.Msg) {
			m := lie(q)
			m.Question = nil
			send(t, pc, from, m)
		},
		"a query": func(pc net.PacketConn, from net.Addr, q *dns.Msg) {
			m := lie(q)
			m.Response = false
			send(t, pc, from, m)
		},
		"rubbish": func(pc net.PacketConn, from net.Addr, q *dns.Msg) {
			m, _ := lie(q).Pack()
			pc.WriteTo(m[:len(m)-3], from)
			pc.WriteTo(m[:5], from)
			pc.WriteTo(nil, from)
		},
		"wrong source": func(_ net.PacketConn, from net.Addr, q *dns.Msg) { send(t, other, from, lie(q)) },
	} {
		t.Run(name, func(t *testing.T) {
			server := dialogue(t, func(pc net.PacketConn, from net.Addr, q *dns.Msg) {
				forge(pc, from, q)
				send(t, pc, from, z.Answer("udp", q))
			})
			r := resolver(t, ResolverConfig{Servers: []string{server.String()}, Attempt: 10 * time.Second, Timeout: 20 * time.Second})
			a, _, err := r.Lookup(t.Context(), "a.example.com", dns.TypeA)
			if err != nil {
				t.Fatal(err)
			}
			if addr, _ := address(a.Records[0]); addr != netip.MustParseAddr("192.0.2.1") || a.Network != "udp" {
				t.Errorf("%v over %s", addr, a.Network)
			}
		})
	}
}

// TestGuessingLeadsToTCP: a flood of wrong identifiers is answered by asking where nobody can guess.
func TestGuessingLeadsToTCP(t *testing.T) {
	z := parse(t, small)
	server := dialogue(t, func(pc net.PacketConn, from net.Addr, q *dns.Msg) {
		m := z.Answer("udp", q)
		m.Answer[0].(*dns.A).A = net.IPv4(192, 0, 2, 66)
		for range 2 * maxStrays {
			m.Id++
			send(t, pc, from, m)
		}
	})
	ln, err := net.Listen("tcp4", server.String())
	if err != nil {
		t.Skipf("the port is taken for TCP: %v", err)
	}
	s := zone.Serve(nil, ln, z, nil)
	defer s.Close()
	r := resolver(t, ResolverConfig{Servers: []string{server.String()}, Attempt: 10 * time.Second, Timeout: 20 * time.Second})
	a, _, err := r.Lookup(t.Context(), "a.example.com", dns.TypeA)
	if err != nil || a.Network != "tcp" {
		t.Fatalf("%+v, %v", a, err)
	}
}

func TestClosedPortIsKnownAtOnce(t *testing.T) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := pc.LocalAddr().String()
	pc.Close()
	s := serve(t, small, nil)
	r := resolver(t, ResolverConfig{Servers: []string{closed, s.addr}, Attempt: time.Minute, Timeout: 2 * time.Minute})
	a, _, err := r.Lookup(t.Context(), "a.example.com", dns.TypeA)
	if err != nil || a.Server.String() != s.addr {
		t.Fatalf("%+v, %v", a, err)
	}
}

func TestExchangeEndsWithItsContext(t *testing.T) {
	got := make(chan struct{})
	server := dialogue(t, func(net.PacketConn, net.Addr, *dns.Msg) { close(got) })
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("hung up")
	go func() { <-got; cancel(why) }()
	q := new(dns.Msg).SetQuestion("a.example.com.", dns.TypeA)
	if _, err := (&Wire{}).Exchange(ctx, server, "udp", q); !errors.Is(err, why) {
		t.Fatal(err)
	}
}
