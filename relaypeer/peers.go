package relaypeer

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
)

// ErrForbidden is wrapped by every refusal to send somewhere.
var ErrForbidden = errors.New("this relay does not send there")

// Peers says where relayed data may go: to public addresses, to what Allow names, and to other relayed addresses here.
// Everything an IPv6 address can carry an IPv4 address in is judged by that address too.
type Peers struct {
	allow    []netip.Prefix
	services map[uint16]bool           // ports of this machine that are never reached
	media    func(netip.AddrPort) bool // sockets of this machine that are, nil: none
	relays   []netip.Addr              // where relayed addresses are made, as they are announced and as they are bound
	relayed  func(netip.AddrPort) bool
	own      atomic.Pointer[machine]
}

// lowestPort is the lowest port that media is sent to: those below it are for name servers, clocks and other things that answer
// to anybody, which is not what a relay peer is for. Port 443 is where media servers go that hide from firewalls.
const lowestPort = 1024

// machine is the addresses of this machine at one time.
type machine struct {
	addrs     map[netip.Addr]bool
	broadcast map[netip.Addr]bool
}

// setOwn tells the addresses of this machine, with the networks they are in.
func (p *Peers) setOwn(list []netip.Prefix) {
	m := &machine{addrs: map[netip.Addr]bool{}, broadcast: map[netip.Addr]bool{}}
	for _, n := range list {
		a := n.Addr().Unmap().WithZone("")
		m.addrs[a] = true
		if a.Is4() && n.Bits() < 31 {
			b := a.As4()
			for i := n.Bits(); i < 32; i++ {
				b[i/8] |= 0x80 >> (i % 8)
			}
			m.broadcast[netip.AddrFrom4(b)] = true
		}
	}
	p.own.Store(m)
}

// isOwn says whether an address is one of this machine.
func (p *Peers) isOwn(a netip.Addr) bool {
	m := p.own.Load()
	return slices.Contains(p.relays, a) || m != nil && m.addrs[a]
}

func (p *Peers) allowed(a netip.Addr) bool {
	return slices.ContainsFunc(p.allow, func(n netip.Prefix) bool { return n.Contains(a) })
}

// Permit judges an address alone, as CreatePermission brings it (RFC 8656 §9). The error wraps ErrForbidden and says why.
func (p *Peers) Permit(a netip.Addr) error {
	a, err := plain(a)
	if err != nil {
		return err
	}
	m := p.own.Load()
	switch {
	case slices.Contains(p.relays, a), p.allowed(a):
		return nil // of ports, Send says more
	case p.isOwn(a):
		return forbidden(a, "it is this machine")
	case m != nil && m.broadcast[a]:
		return forbidden(a, "it is a broadcast address")
	}
	if why := Forbidden(a); why != "" {
		return forbidden(a, why)
	}
	for _, in := range embedded(a) {
		if p.isOwn(in) {
			return forbidden(a, "it holds an address of this machine")
		}
	}
	return nil
}

// Send judges where a packet may go. The error wraps ErrForbidden and says why.
func (p *Peers) Send(to netip.AddrPort) error {
	a, err := plain(to.Addr())
	if err != nil {
		return err
	}
	if to.Port() == 0 {
		return forbidden(a, "there is no port 0")
	}
	if !p.isOwn(a) {
		if to.Port() < lowestPort && to.Port() != 443 && !p.allowed(a) {
			return forbidden(a, fmt.Sprintf("port %d is for other services than media", to.Port()))
		}
		return p.Permit(a)
	}
	switch to = netip.AddrPortFrom(a, to.Port()); {
	case p.relayed != nil && p.relayed(to):
		return nil // another allocation
	case p.services[to.Port()]:
		return forbidden(a, fmt.Sprintf("this machine has a service at port %d", to.Port()))
	case p.media != nil && p.media(to), p.allowed(a):
		return nil
	}
	return forbidden(a, fmt.Sprintf("it is this machine, and nothing is relayed at port %d", to.Port()))
}

func forbidden(a netip.Addr, why string) error {
	return fmt.Errorf("%w: %s: %s", ErrForbidden, a, why)
}

// plain gives an address in its one form.
func plain(a netip.Addr) (netip.Addr, error) {
	if !a.IsValid() || a.Zone() != "" {
		return a, fmt.Errorf("%w: %q is no address on the Internet", ErrForbidden, a)
	}
	return a.Unmap(), nil
}

// special4 is what of IPv4 is not for everybody (the registries of RFC 6890, and more).
var special4 = prefixes(
	"0.0.0.0/8", "this network",
	"10.0.0.0/8", "private",
	"100.64.0.0/10", "shared behind carriers' NAT",
	"127.0.0.0/8", "loopback",
	"168.63.129.16/32", "a cloud's metadata",
	"169.254.0.0/16", "link-local",
	"172.16.0.0/12", "private",
	"192.0.0.0/24", "protocol assignments",
	"192.0.2.0/24", "documentation",
	"192.88.99.0/24", "6to4 relays",
	"192.168.0.0/16", "private",
	"198.18.0.0/15", "benchmarking",
	"198.51.100.0/24", "documentation",
	"203.0.113.0/24", "documentation",
	"224.0.0.0/4", "multicast",
	"255.255.255.255/32", "broadcast",
	"240.0.0.0/4", "reserved",
)

// special6 is what of 2000::/3 is not for everybody; outside of it, only NAT64 is.
var special6 = prefixes(
	"2001:2::/48", "benchmarking",
	"2001:10::/28", "ORCHID",
	"2001:20::/28", "ORCHID",
	"2001:db8::/32", "documentation",
	"3fff::/20", "documentation",
)

var (
	global6 = netip.MustParsePrefix("2000::/3")
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	teredo  = netip.MustParsePrefix("2001::/32")
	sixTo4  = netip.MustParsePrefix("2002::/16")
)

type special struct {
	prefix netip.Prefix
	why    string
}

func prefixes(list ...string) (out []special) {
	for i := 0; i < len(list); i += 2 {
		out = append(out, special{netip.MustParsePrefix(list[i]), list[i+1]})
	}
	return out
}

// Forbidden says why an address is not one that everybody may send to, "" if it is. It knows nothing of this machine.
func Forbidden(a netip.Addr) string {
	a = a.Unmap()
	table := special4
	if a.Is6() {
		table = special6
		if !global6.Contains(a) && !nat64.Contains(a) {
			switch {
			case a.IsLoopback():
				return "loopback"
			case a.IsUnspecified():
				return "unspecified"
			case a.IsMulticast():
				return "multicast"
			case a.IsLinkLocalUnicast():
				return "link-local"
			case a.IsPrivate():
				return "unique-local"
			}
			return "not a global address"
		}
	}
	for _, s := range table {
		if s.prefix.Contains(a) {
			return s.why
		}
	}
	for _, in := range embedded(a) {
		if why := Forbidden(in); why != "" {
			return why + " inside IPv6 (" + in.String() + ")"
		}
	}
	return ""
}

// embedded gives the IPv4 addresses that packets to an IPv6 address may end up at: by NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo
// (RFC 4380: the server's and the client's, which is inverted) and ISATAP (RFC 5214).
func embedded(a netip.Addr) (out []netip.Addr) {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	four := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	switch {
	case nat64.Contains(a):
		out = append(out, four(12))
	case sixTo4.Contains(a):
		out = append(out, four(2))
	case teredo.Contains(a):
		out = append(out, four(4), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	}
	if (b[8] == 0 || b[8] == 2) && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		out = append(out, four(12))
	}
	return out
}
