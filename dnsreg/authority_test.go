package dnsreg

import (
	"context"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"p2psip/interwork/locate/locatetest"
	"p2psip/overlay"
)

// serve runs an Authority for example.org on loopback.
func serve(t *testing.T, l RateLimit, records []dns.RR) (*Authority, string) {
	t.Helper()
	a, err := NewAuthority(AuthorityConfig{OID: "example.org", Servers: []string{"ns1.example.org", "ns.example.net"},
		Hosts: map[string][]netip.Addr{"ns1.example.org": {netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}}, Limit: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if err := a.Publish(records); err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		pc.Close()
		t.Skip("the port is taken for TCP")
	}
	if err := a.ServeUDP(pc); err != nil {
		t.Fatal(err)
	}
	if err := a.ServeTCP(ln); err != nil {
		t.Fatal(err)
	}
	return a, pc.LocalAddr().String()
}

func ask(t *testing.T, server, network, name string, kind uint16, change func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, kind)
	if change != nil {
		change(m)
	}
	c := &dns.Client{Net: network, Timeout: 5 * time.Second}
	r, _, err := c.Exchange(m, server)
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[kind], err)
	}
	return r
}

func many(t *testing.T, n int) []dns.RR {
	var peers []Peer
	for i := range n {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 5060)
		b := netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i + 1)}), 5060)
		peers = append(peers, Peer{Node: overlay.NodeID(rune('A' + i)), Capacity: 10, Endpoints: []Endpoint{{UDP, a}, {UDP, b}, {TCP, a}, {TLS, a}}})
	}
	return setOf(t, Config{MaxPeers: 64}, peers...).Records
}

func TestAuthorityAnswers(t *testing.T) {
	_, server := serve(t, RateLimit{PerSecond: 1e6, Burst: 1e6}, many(t, 3))
	for _, network := range []string{"udp", "tcp"} {
		for _, c := range []struct {
			name   string
			kind   uint16
			change func(*dns.Msg)
			code   int
			n      int
		}{
			{"example.org.", dns.TypeNAPTR, nil, dns.RcodeSuccess, 3},
			{"EXAMPLE.org.", dns.TypeNAPTR, nil, dns.RcodeSuccess, 3},
			{"_sip._udp.example.org.", dns.TypeSRV, nil, dns.RcodeSuccess, 3},
			{"_sip._udp.example.org.", dns.TypeSRV, func(m *dns.Msg) { m.SetEdns0(4096, true) }, dns.RcodeSuccess, 3},
			{"ns1.example.org.", dns.TypeA, nil, dns.RcodeSuccess, 1},
			{"example.org.", dns.TypeNS, nil, dns.RcodeSuccess, 2},
			{"example.org.", dns.TypeSOA, nil, dns.RcodeSuccess, 1},
			{"example.org.", dns.TypeMX, nil, dns.RcodeSuccess, 0},
			{"_tcp.example.org.", dns.TypeSRV, nil, dns.RcodeSuccess, 0},
			{"nobody.example.org.", dns.TypeA, nil, dns.RcodeNameError, 0},
			{"example.com.", dns.TypeA, nil, dns.RcodeRefused, 0},
			{"example.org.", dns.TypeAXFR, nil, dns.RcodeRefused, 0},
			{"example.org.", dns.TypeANY, nil, dns.RcodeSuccess, 1},
			{"example.org.", dns.TypeSOA, func(m *dns.Msg) { m.SetEdns0(4096, false); m.IsEdns0().SetVersion(1) }, dns.RcodeBadVers, 0},
			{"example.org.", dns.TypeSOA, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, dns.RcodeNotImplemented, 0},
			{"example.org.", dns.TypeSOA, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented, 0},
			{"example.org.", dns.TypeSOA, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError, 0},
			{"example.org.", dns.TypeSOA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused, 0},
		} {
			if c.kind == dns.TypeAXFR && network == "udp" {
				continue
			}
			r := ask(t, server, network, c.name, c.kind, c.change)
			if r.Rcode != c.code || len(r.Answer) != c.n || r.RecursionAvailable {
				t.Errorf("%s %s %s: %s with %d records, want %s with %d", network, c.name, dns.TypeToString[c.kind],
					dns.RcodeToString[r.Rcode], len(r.Answer), dns.RcodeToString[c.code], c.n)
			}
			if none := c.n == 0 && c.code != dns.RcodeRefused && c.code != dns.RcodeNotImplemented && c.code != dns.RcodeFormatError && c.code != dns.RcodeBadVers; none {
				if len(r.Ns) != 1 || r.Ns[0].Header().Rrtype != dns.TypeSOA || !r.Authoritative {
					t.Errorf("%s %s: \"there is none\" without SOA: %v", c.name, dns.TypeToString[c.kind], r)
				}
			}
		}
	}
}

// An answer that does not fit is truncated over UDP and whole over TCP.
func TestAuthorityTruncates(t *testing.T) {
	_, server := serve(t, RateLimit{}, many(t, 40))
	r := ask(t, server, "udp", "_sip._udp.example.org.", dns.TypeSRV, func(m *dns.Msg) { m.SetEdns0(1232, false) })
	r.Compress = true // as it came
	if !r.Truncated || r.Len() > 1232 {
		t.Errorf("%d octets, truncated: %v", r.Len(), r.Truncated)
	}
	if r := ask(t, server, "tcp", "_sip._udp.example.org.", dns.TypeSRV, nil); len(r.Answer) != 40 || r.Truncated {
		t.Errorf("%d records over TCP", len(r.Answer))
	}
}

// The serial number rises with every change and with none else.
func TestAuthoritySerial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := NewAuthority(AuthorityConfig{OID: "example.org", Servers: []string{"ns.example.net"}})
		if err != nil {
			t.Fatal(err)
		}
		first := a.Stats().Serial
		for i, c := range []struct {
			n      int
			change bool
		}{{1, true}, {1, false}, {2, true}, {1, true}, {0, true}, {0, false}} {
			before := a.Stats().Serial
			if err := a.Publish(many(t, c.n)); err != nil {
				t.Fatal(err)
			}
			if got := a.Stats().Serial; got > before != c.change || got < before {
				t.Errorf("step %d: %d after %d", i, got, before)
			}
		}
		time.Sleep(time.Hour) // virtual: a restart an hour later goes on above
		b, err := NewAuthority(AuthorityConfig{OID: "example.org", Servers: []string{"ns.example.net"}})
		if err != nil || b.Stats().Serial <= a.Stats().Serial || first == 0 {
			t.Errorf("%d after %d, %v", b.Stats().Serial, a.Stats().Serial, err)
		}
	})
}

// Whatever comes, the server lives, says at most as much as an error, and answers the next question.
func TestAuthorityMalformed(t *testing.T) {
	a, server := serve(t, RateLimit{PerSecond: 1e6, Burst: 1e6}, many(t, 1))
	conn, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	header := "12340000000100000000 0000"
	for _, c := range []string{"", "12", "123400000001000000", header, "1234800000010000000000000000010001",
		header + "c00c00010001", header + "3f61", header + "0161" + strings.Repeat("0161", 130) + "0000010001",
		"1234000000ff000000000000" + "0161000001" + "0001", "12340000000000000000ffff", "1234280000010000000000000000060001",
		strings.Repeat("ff", 600)} {
		b, err := hex.DecodeString(strings.ReplaceAll(c, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if r := ask(t, server, "udp", "_sip._udp.example.org.", dns.TypeSRV, nil); len(r.Answer) != 1 {
		t.Errorf("after the malformed ones: %v", r)
	}
	if s := a.Stats(); s.Dropped == 0 {
		t.Errorf("%+v", s)
	}
	// The same over TCP, where a connection ends and the next one serves.
	for _, c := range []string{"0000", "0001ff", "ffff", "000cffffffffffffffffffffffff"} {
		tcp, err := net.Dial("tcp", server)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := hex.DecodeString(c)
		_, _ = tcp.Write(b)
		tcp.Close()
	}
	if r := ask(t, server, "tcp", "example.org.", dns.TypeNAPTR, nil); len(r.Answer) != 3 {
		t.Errorf("after the malformed ones: %v", r)
	}
}

func FuzzAuthority(f *testing.F) {
	a, err := NewAuthority(AuthorityConfig{OID: "example.org", Servers: []string{"ns.example.net"}})
	if err != nil {
		f.Fatal(err)
	}
	for _, q := range []uint16{dns.TypeNAPTR, dns.TypeANY, dns.TypeAXFR} {
		b, _ := new(dns.Msg).SetQuestion("example.org.", q).SetEdns0(4096, true).Pack()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := a.judge("udp", b)
		if m == nil {
			return
		}
		if _, err := m.Pack(); err != nil {
			t.Errorf("%x: the answer %v cannot be sent: %v", b, m, err)
		}
		if m.Rcode == dns.RcodeFormatError && m.Len() > max(len(b), 12) {
			t.Errorf("%x: an error of %d octets", b, m.Len())
		}
	})
}

// Somebody who writes a victim's address into queries: the victim gets little, and a real resolver there still gets its answer.
func TestLimiter(t *testing.T) {
	l := newLimiter(RateLimit{PerSecond: 10, Burst: 10, Slip: 2, Networks: 100})
	victim := netip.MustParseAddr("192.0.2.7")
	counts := [3]int{}
	for i := range 10_000 {
		counts[l.allow(victim, noon.Add(time.Duration(i)*time.Millisecond))]++
	}
	if counts[pass] < 100 || counts[pass] > 120 || counts[slip] < 4000 || counts[drop] < 4000 {
		t.Errorf("in 10 s: %d answered, %d truncated, %d dropped", counts[pass], counts[slip], counts[drop])
	}
	if l.allow(netip.MustParseAddr("192.0.3.7"), noon.Add(10*time.Second)) != pass {
		t.Error("another network pays for it")
	}
	for i := range 100_000 {
		l.allow(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), noon)
	}
	if n := len(l.young) + len(l.old); n > 101 {
		t.Errorf("%d networks remembered", n)
	}
}

// A real resolver that asks the built-in server finds the proxy peers.
func TestAuthorityThroughUnbound(t *testing.T) {
	a, server := serve(t, RateLimit{}, many(t, 2))
	cache := locatetest.StartUnbound(t, map[string]string{"example.org": server})
	r := new(net.Resolver)
	r.PreferGo = true
	r.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", cache.Addr)
	}
	_, srv, err := r.LookupSRV(context.Background(), "sip", "udp", "example.org")
	if err != nil || len(srv) != 2 {
		t.Fatalf("%v, %v", srv, err)
	}
	var all []string
	for _, s := range srv {
		hosts, err := r.LookupHost(context.Background(), s.Target)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, hosts...)
	}
	slices.Sort(all)
	if want := []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"}; !slices.Equal(all, want) {
		t.Errorf("got %q", all)
	}
	if a.Stats().Answered == 0 {
		t.Error("nobody asked")
	}
}
