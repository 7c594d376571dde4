package dnsreg

import (
	"net/netip"
	"slices"
)

// special are ranges of addresses that not everybody on the Internet reaches (the registries of RFC 6890).
var special = []struct {
	prefix netip.Prefix
	why    string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "of this network"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared behind a carrier's NAT"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "for protocol assignments"},
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "for 6to4 relays"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks"},
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fc00::/7"), "private"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("2001::/32"), "of Teredo"}, // leads to an IPv4 address behind a NAT
	{netip.MustParsePrefix("2001:2::/48"), "for benchmarks"},
	{netip.MustParsePrefix("2001:10::/28"), "of ORCHID"},
	{netip.MustParsePrefix("2001:20::/28"), "of ORCHID"},
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation"},
	{netip.MustParsePrefix("2002::/16"), "of 6to4"},
	{netip.MustParsePrefix("3fff::/20"), "for documentation"},
}

var global6 = netip.MustParsePrefix("2000::/3")

// NotPublic says why an address cannot stand in a public zone, as in "private"; "" if it can.
func NotPublic(a netip.Addr) string {
	a = a.Unmap()
	if !a.IsValid() || a.Zone() != "" || a.IsUnspecified() {
		return "no address of a host"
	}
	for _, s := range special {
		if s.prefix.Contains(a) {
			return s.why
		}
	}
	if a.Is6() && !global6.Contains(a) {
		return "not a global one"
	}
	return ""
}

// GroupOf gives the address group of an address: those who can choose addresses within a group freely count as one. It is the
// /24 of an IPv4 and the /48 of an IPv6 address.
func GroupOf(a netip.Addr) netip.Prefix {
	bits := 48
	if a = a.Unmap().WithZone(""); a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits)
	return p
}

// groupsOf gives the address groups of a peer, each once.
func groupsOf(list []Endpoint) (out []netip.Prefix) {
	for _, e := range list {
		if g := GroupOf(e.Addr.Addr()); !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	return out
}
