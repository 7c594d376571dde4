package relaypeer

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/pion/stun"
)

// forbiddenPeers are addresses that a relay peer on the Internet sends nothing to, in all the notations that an IPv6 address
// has for an IPv4 one, with a word that the reason has to have.
var forbiddenPeers = []struct{ addr, why string }{
	{"127.0.0.1", "loopback"},
	{"127.255.255.254", "loopback"},
	{"0.0.0.0", "this network"},
	{"0.1.2.3", "this network"},
	{"10.0.0.1", "private"},
	{"10.255.255.255", "private"},
	{"172.16.0.1", "private"},
	{"172.31.255.255", "private"},
	{"192.168.0.1", "private"},
	{"192.168.255.255", "private"},
	{"100.64.0.1", "shared"},
	{"100.127.255.255", "shared"},
	{"100.100.100.200", "shared"}, // Alibaba's metadata
	{"169.254.1.1", "link-local"},
	{"169.254.169.254", "link-local"}, // most clouds' metadata
	{"169.254.170.2", "link-local"},   // of containers at Amazon
	{"168.63.129.16", "metadata"},     // Azure's
	{"192.0.0.192", "protocol"},       // Oracle's metadata
	{"192.0.2.1", "documentation"},
	{"198.51.100.1", "documentation"},
	{"203.0.113.1", "documentation"},
	{"198.18.0.1", "benchmarking"},
	{"198.19.255.255", "benchmarking"},
	{"192.88.99.1", "6to4"},
	{"224.0.0.1", "multicast"},
	{"239.255.255.250", "multicast"},
	{"240.0.0.1", "reserved"},
	{"255.255.255.255", "broadcast"},
	{"::", "unspecified"},
	{"::1", "loopback"},
	{"fe80::1", "link-local"},
	{"fec0::1", "not a global"},
	{"fc00::1", "unique-local"},
	{"fd00:ec2::254", "unique-local"}, // Amazon's metadata
	{"fd20:ce::254", "unique-local"},  // Google's
	{"ff02::1", "multicast"},
	{"ff0e::1", "multicast"},
	{"2001:db8::1", "documentation"},
	{"3fff::1", "documentation"},
	{"2001:2::1", "benchmarking"},
	{"2001:10::1", "ORCHID"},
	{"2001:2f:ffff::1", "ORCHID"},
	{"100::1", "not a global"},    // discard
	{"5f00::1", "not a global"},   // SRv6
	{"::7f00:1", "not a global"},  // IPv4-compatible
	{"::8.8.8.8", "not a global"}, // the same of a public one
	{"64:ff9b:1::a00:1", "not a global"},
	{"::ffff:0:127.0.0.1", "not a global"}, // IPv4-translated
	{"::ffff:127.0.0.1", "loopback"},
	{"::ffff:10.0.0.1", "private"},
	{"::ffff:169.254.169.254", "link-local"},
	{"::ffff:192.168.1.1", "private"},
	{"::ffff:255.255.255.255", "broadcast"},
	{"2002:7f00:1::1", "loopback inside"},
	{"2002:a00:1::1", "private inside"},
	{"2002:c0a8:101::1", "private inside"},
	{"2002:a9fe:a9fe::", "link-local inside"},
	{"64:ff9b::127.0.0.1", "loopback inside"},
	{"64:ff9b::10.0.0.1", "private inside"},
	{"64:ff9b::a9fe:a9fe", "link-local inside"},
	{"2001:0:7f00:1::8080:8080", "loopback inside"},               // Teredo: the server
	{"2001:0:808:808:0:0:80ff:fffe", "loopback inside"},           // Teredo: the client, inverted
	{"2001:0:808:808:0:0:5601:5601", "link-local inside"},         // 169.254.169.254, inverted
	{"2a00:1450:4001:81b:0:5efe:a00:1", "private inside"},         // ISATAP
	{"2a00:1450:4001:81b:200:5efe:192.168.1.1", "private inside"}, // the same with the u bit
	{"2002:cb00:7101::1", "documentation inside"},                 // 203.0.113.1
	{"64:ff9b::224.0.0.1", "multicast inside"},
	{"fe80::1%lo", "is no address"}, // with a zone
	{"::ffff:100.64.1.1", "shared"},
	{"2002:a9fe:a9fe:0:0:5efe:8.8.8.8", "link-local inside"}, // two at once
	{"64:ff9b::0.0.0.0", "this network inside"},
	{"2001:0:808:808:0:0:3f57:fefe", "private inside"}, // 192.168.1.1
	{"2001:0:808:808:0:0:9bbf:fefe", "shared"},         // 100.64.1.1
	{"2002:6440:1::", "shared"},                        // 100.64.0.1
	{"2a00:1450:4001:81b:0:5efe:169.254.169.254", "link-local inside IPv6"},
}

var publicPeers = []string{
	"8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.1", "192.0.1.1", "198.17.255.255", "198.20.0.1",
	"223.255.255.255", "2a00:1450:4001:81b::200e", "2001:4860:4860::8888", "::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::8.8.8.8",
	"2001:0:808:808::f7f7:f7f7", "2a00:1450::5efe:808:808", "3ffe::1",
}

func TestForbiddenPeers(t *testing.T) {
	if len(forbiddenPeers) < 30 {
		t.Fatal("too few")
	}
	p := &Peers{}
	p.setOwn(nil)
	for _, c := range forbiddenPeers {
		a := netip.MustParseAddr(c.addr)
		for _, err := range []error{p.Permit(a), p.Send(netip.AddrPortFrom(a, 4000))} {
			if !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%s: %v, want %q", c.addr, err, c.why)
			}
		}
	}
	for _, s := range publicPeers {
		a := netip.MustParseAddr(s)
		if err := errors.Join(p.Permit(a), p.Send(netip.AddrPortFrom(a, 4000))); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for to, good := range map[string]bool{"8.8.8.8:53": false, "8.8.8.8:123": false, "8.8.8.8:443": true, "8.8.8.8:1023": false, "8.8.8.8:1024": true} {
		if err := p.Send(netip.MustParseAddrPort(to)); (err == nil) != good {
			t.Errorf("%s: %v", to, err)
		}
	}
	if p.Permit(netip.Addr{}) == nil || p.Send(netip.AddrPortFrom(netip.MustParseAddr("8.8.8.8"), 0)) == nil {
		t.Error("no address, or no port, is permitted")
	}
}

// TestThisMachine is about the addresses of the relay peer itself.
func TestThisMachine(t *testing.T) {
	addr, port := netip.MustParseAddr, netip.MustParseAddrPort
	p := &Peers{
		relays: []netip.Addr{addr("198.20.0.1"), addr("2a00::1")}, services: map[uint16]bool{3478: true}, media: func(a netip.AddrPort) bool { return a == port("198.20.0.1:20050") },
		relayed: func(a netip.AddrPort) bool { return a == port("198.20.0.1:50000") },
	}
	p.setOwn([]netip.Prefix{netip.MustParsePrefix("198.20.0.1/24"), netip.MustParsePrefix("198.20.9.9/32"), netip.MustParsePrefix("2a00::2/64")})
	for to, good := range map[string]bool{
		"198.20.0.1:50000":          true,  // another allocation
		"[::ffff:198.20.0.1]:50000": true,  // the same
		"198.20.0.1:50001":          false, // nobody's
		"198.20.0.1:3478":           false, // the relay peer itself
		"198.20.0.1:22":             false,
		"198.20.0.1:20050":          true, // the node's own media
		"198.20.0.1:20051":          false,
		"198.20.9.9:50000":          false, // another address of the machine
		"[2a00::2]:50000":           false,
		"[2002:c614:1::1]:50000":    false, // 198.20.0.1 by 6to4
		"[64:ff9b::c614:1]:3478":    false, // and by NAT64
		"198.20.0.255:4000":         false, // broadcast
		"198.20.0.2:3478":           true,  // somebody else's relay peer
	} {
		if err := p.Send(port(to)); (err == nil) != good {
			t.Errorf("%s: %v", to, err)
		}
	}
	for a, good := range map[string]bool{"198.20.0.1": true, "2a00::1": true, "198.20.9.9": false, "2a00::2": false, "198.20.0.255": false, "198.20.1.255": true} {
		if err := p.Permit(addr(a)); (err == nil) != good {
			t.Errorf("%s: %v", a, err)
		}
	}
}

// TestAllowList is for closed networks: it lets in what it names, and nothing that is only written like it.
func TestAllowList(t *testing.T) {
	p := &Peers{allow: loopback, services: map[uint16]bool{5060: true}}
	p.setOwn([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("10.0.0.1/8")})
	for to, good := range map[string]bool{
		"127.0.0.1:4000": true, "[::1]:4000": true, "[::ffff:127.0.0.1]:4000": true,
		"127.0.0.1:5060": false, // the node's own service, where loopback is believed
		"10.0.0.1:4000":  false, "[2002:7f00:1::1]:4000": false, "[64:ff9b::7f00:1]:4000": false, "169.254.169.254:80": false,
	} {
		if err := p.Send(netip.MustParseAddrPort(to)); (err == nil) != good {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// TestForbiddenOverTheWire asks a relay peer for permissions and channels, and sends, to every forbidden address of the family
// that an allocation has.
func TestForbiddenOverTheWire(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Allow = nil })
	for _, six := range []bool{false, true} {
		c := w.raw(t, newMember(t))
		c.allocate(six)
		asked := 0
		for _, f := range forbiddenPeers {
			a := netip.MustParseAddr(f.addr).WithZone("")
			if a.Is4() == six || a == localhost || a == localhost6 { // there are other allocations at those, see TestTwoMembersOnOneRelay
				continue
			}
			if a = netip.AddrFrom16(a.As16()); !six { // sixteen octets, as written, or four
				a = a.Unmap()
			}
			asked++
			peer := xorPeer{netip.AddrPortFrom(a, 4000)}
			want := stun.CodeForbidden
			if six && a.Is4In6() {
				want = stun.CodePeerAddrFamilyMismatch // it is an IPv4 address however it is written
			}
			if got := c.ask(stun.MethodCreatePermission, peer); got != want {
				t.Errorf("permission for %s: %d", a, got)
			}
			if got := c.ask(stun.MethodChannelBind, channel(0x4001), peer); got != want {
				t.Errorf("channel to %s: %d", a, got)
			}
			before := w.Status()
			c.send(stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication), peer, stun.RawAttribute{Type: stun.AttrData, Value: []byte("x")}).Raw)
			eventually(t, "it is counted", func() bool {
				s := w.Status()
				return s.Forbidden > before.Forbidden || s.Malformed > before.Malformed
			})
		}
		if asked < 25 {
			t.Errorf("only %d were asked for", asked)
		}
		// One forbidden address spoils a request with others.
		good, bad := "8.8.8.8:1", "10.0.0.1:1"
		if six {
			good, bad = "[2a00::8]:1", "[fd00::1]:1"
		}
		if got := c.ask(stun.MethodCreatePermission, peerOf(good)); got != 0 {
			t.Errorf("a good one: %d", got)
		}
		if got := c.ask(stun.MethodCreatePermission, peerOf(good), peerOf(bad)); got != stun.CodeForbidden {
			t.Errorf("a good one and a bad one: %d", got)
		}
	}
}
