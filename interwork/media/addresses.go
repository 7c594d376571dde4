package media

import (
	"net"
	"net/netip"
	"slices"
)

// interfaceAddresses gives the addresses of the interfaces that are up, as candidates want them (RFC 8445 §5.1.1.1): no
// link-local ones, loopback only if asked for. Sorted, so that two answers can be compared.
func interfaceAddresses(loopback bool) []netip.Addr {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 || (i.Flags&net.FlagLoopback != 0) != loopback {
			continue
		}
		as, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range as {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, ok := netip.AddrFromSlice(n.IP)
			if !ok {
				continue
			}
			ip = ip.Unmap()
			if ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || ip.IsLoopback() != loopback {
				continue
			}
			out = append(out, ip)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	out = slices.Compact(out)
	if len(out) > maxHosts {
		// Of many, as with containers, those must not be left out by which the world is reached.
		for _, world := range []string{"2001:db8::1", "192.0.2.1"} {
			if i := slices.Index(out, addressTowards(netip.MustParseAddr(world))); i > 0 {
				a := out[i]
				out = slices.Insert(slices.Delete(out, i, i+1), 0, a)
			}
		}
	}
	return out
}
