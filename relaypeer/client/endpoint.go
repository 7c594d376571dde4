package client

import (
	"net/netip"

	"p2psip/relaypeer/credential"
)

// Transport is how a node talks to a relay peer.
type Transport string

// The transports of RFC 7065 that are spoken here, in the order in which they are tried.
const (
	UDP Transport = "udp"
	TCP Transport = "tcp"
	TLS Transport = "tls"
)

// transports gives them in that order.
func transports() []Transport { return []Transport{UDP, TCP, TLS} }

// endpoint is one place where a relay peer serves.
type endpoint struct {
	transport Transport
	addr      netip.AddrPort
	only6     bool // the relay peer has no IPv4 address
}

func (e endpoint) String() string { return string(e.transport) + " " + e.addr.String() }

// endpoints reads the URIs of a relay peer, without those that are not usable, not permitted or there twice.
func endpoints(permit func(netip.Addr) bool, lists ...[]string) (out []endpoint) {
	seen := map[endpoint]bool{}
	has4 := false
	for _, uris := range lists {
		for _, s := range uris {
			u, err := credential.ParseURI(s)
			if err != nil || len(out) == maxEndpoints {
				continue
			}
			e := endpoint{transport: UDP, addr: netip.AddrPortFrom(u.Addr.Addr().Unmap(), u.Addr.Port())}
			switch {
			case u.Secure:
				e.transport = TLS
			case u.Transport == credential.TCP:
				e.transport = TCP
			}
			if !seen[e] && permit(e.addr.Addr()) {
				seen[e] = true
				has4 = has4 || e.addr.Addr().Is4()
				out = append(out, e)
			}
		}
	}
	for i := range out {
		out[i].only6 = !has4
	}
	return out
}

// addressGroup is the part of the Internet an address is in: /16 of IPv4, /32 of IPv6; "" where that says nothing, which
// are private and loopback addresses.
func addressGroup(a netip.Addr) string {
	if !a.IsValid() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return ""
	}
	bits := 16
	if a.Is6() {
		bits = 32
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}
