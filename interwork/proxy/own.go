package proxy

import (
	"net/netip"
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
)

// own is what this node calls itself: its name towards other nodes, its socket addresses towards phones and the
// public side, and the overlay itself as the domain it serves. It stamps Via and Record-Route and recognises what it stamped.
type own struct {
	oid       string
	node      string
	advertise string
	addrs     map[flow.Addr]bool
	public    map[flow.Addr]flow.Addr // sockets of the public side, and their names there
}

func newOwn(c *Config) own {
	o := own{oid: string(c.OID), node: c.NodeName, advertise: c.Advertise, addrs: make(map[flow.Addr]bool),
		public: make(map[flow.Addr]flow.Addr)}
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
	for _, a := range c.Public {
		o.addrs[a.Socket], o.addrs[a.Name] = true, true
		o.public[a.Socket] = a.Name
	}
	return o
}

// stamp gives the address that this node writes for its side of f.
func (o *own) stamp(f flow.Flow) flow.Addr {
	kind := flow.KindOf(f)
	if kind == flow.KindPeer {
		return flow.Addr{Host: o.node}
	}
	a := f.Local()
	if d, ok := f.(flow.Dialled); ok {
		a = d.Reach()
	}
	if kind == flow.KindPublic {
		return o.outside(a)
	}
	if o.advertise != "" && (a.Host == "0.0.0.0" || a.Host == "::") {
		a.Host = o.advertise
	}
	return a
}

// outside gives the name of a socket of the public side; a connection's own address is not that of a wildcard socket.
func (o *own) outside(a flow.Addr) flow.Addr {
	if name, ok := o.public[a]; ok {
		return name
	}
	for _, any := range [...]string{"0.0.0.0", "::"} {
		if name, ok := o.public[flow.Addr{Host: any, Port: a.Port}]; ok {
			return name
		}
	}
	return a
}

// overlayRoute says whether a URI is the value that stands for the overlay in Route and Record-Route: any proxy peer.
func (o *own) overlayRoute(u *sip.Uri) bool {
	return o.domain(u.Host) && u.User == "" && u.Port == 0 && hasParam(u, "lr")
}

// overlayValue is that value (draft §3.1).
func (o *own) overlayValue() string { return "<sip:" + o.oid + ";lr>" }

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
	return o.addrs[a] || f != nil && flow.KindOf(f) != flow.KindPeer && o.stamp(f) == a
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
