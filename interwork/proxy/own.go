package proxy

import (
	"net/netip"
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
)

// own is what this node calls itself: its name towards other nodes, its socket addresses towards phones, and the overlay
// itself as the domain it serves. It stamps Via and Record-Route and recognises what it stamped.
type own struct {
	oid       string
	node      string
	advertise string
	addrs     map[flow.Addr]bool
}

func newOwn(c *Config) own {
	o := own{oid: string(c.OID), node: c.NodeName, advertise: c.Advertise, addrs: make(map[flow.Addr]bool)}
	for _, a := range c.Own {
		o.addrs[a] = true
		ip, err := netip.ParseAddr(a.Host)
		switch {
		case err != nil:
		case ip.IsUnspecified():
			o.addrs[flow.Addr{Host: o.advertise, Port: a.Port}] = true
			o.addrs[flow.Addr{Host: "127.0.0.1", Port: a.Port}] = true
			o.addrs[flow.Addr{Host: "::1", Port: a.Port}] = true
			fallthrough
		case ip.IsLoopback():
			o.addrs[flow.Addr{Host: "localhost", Port: a.Port}] = true
		}
	}
	return o
}

// stamp gives the address that this node writes for its side of f.
func (o *own) stamp(f flow.Flow) flow.Addr {
	if !f.Edge() {
		return flow.Addr{Host: o.node}
	}
	a := f.Local()
	if d, ok := f.(flow.Dialled); ok {
		a = d.Reach()
	}
	if o.advertise != "" && (a.Host == "0.0.0.0" || a.Host == "::") {
		a.Host = o.advertise
	}
	return a
}

// is says whether a host and port, as they stand in a URI or a Via, mean this node; f is the flow they arrived on.
func (o *own) is(host string, port int, secure bool, f flow.Flow) bool {
	if o.domain(host) || strings.EqualFold(host, o.node) {
		return true
	}
	a := flow.Addr{Host: cleanHost(host), Port: port}
	if a.Port == 0 {
		a.Port = 5060
		if secure {
			a.Port = 5061
		}
	}
	return o.addrs[a] || f != nil && f.Edge() && o.stamp(f) == a
}

// domain says whether host is the overlay's identifier.
func (o *own) domain(host string) bool {
	return strings.EqualFold(strings.TrimSuffix(host, "."), o.oid)
}

// uri is is for a URI.
func (o *own) uri(u *sip.Uri, f flow.Flow) bool {
	secure := u.Scheme == "sips"
	if !secure {
		tr, _ := u.UriParams.Get("transport")
		secure = strings.EqualFold(tr, "tls")
	}
	return o.is(u.Host, u.Port, secure, f)
}

// cleanHost brings a host to the spelling of flow.Addr: no brackets, lower case, IPv6 in canonical form.
func cleanHost(h string) string {
	if strings.IndexByte(h, ':') >= 0 {
		if ip, err := netip.ParseAddr(strings.Trim(h, "[]")); err == nil {
			return ip.Unmap().String()
		}
	}
	return strings.ToLower(h)
}

// bracket is the inverse for a URI.
func bracket(h string) string {
	if strings.IndexByte(h, ':') >= 0 && h[0] != '[' {
		return "[" + h + "]"
	}
	return h
}
