package edge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ParseTrust reads which source addresses need no password: "loopback" (the default, also for ""), "none", or addresses
// and prefixes such as "127.0.0.1,192.168.1.0/24", among which "loopback" may stand too.
//
// Trust by address is as good as the network: over UDP anybody who can send a packet with a forged source is taken for
// whoever he likes. Nobody is trusted with the whole of the internet, so /0 is refused.
func ParseTrust(s string) (func(netip.Addr) bool, error) {
	switch s {
	case "", "loopback":
		return netip.Addr.IsLoopback, nil
	case "none":
		return func(netip.Addr) bool { return false }, nil
	}
	var prefixes []netip.Prefix
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "loopback" {
			prefixes = append(prefixes, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			ip, err := netip.ParseAddr(part)
			if err != nil || ip.Zone() != "" {
				return nil, fmt.Errorf("%q is not loopback, none, an IP address or a prefix such as 192.168.1.0/24", clip(part))
			}
			p = netip.PrefixFrom(ip, ip.BitLen())
		}
		if p.Addr().Is4In6() { // sources are compared in their IPv4 form
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if !p.IsValid() || p.Bits() == 0 {
			return nil, fmt.Errorf("%s would let in everybody without a password", clip(part))
		}
		prefixes = append(prefixes, p.Masked())
	}
	return func(ip netip.Addr) bool {
		ip = ip.Unmap().WithZone("")
		return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
	}, nil
}
