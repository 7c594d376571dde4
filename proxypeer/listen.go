package proxypeer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"p2psip/interwork/flow"
	"p2psip/interwork/proxy"
)

// socket is one public socket, from New on, and its readers from Start on.
type socket struct {
	transport   flow.Transport
	given       Socket
	local, name flow.Addr
	udp         *flow.UDP
	stream      *flow.Stream
}

func (p *Peer) newSocket(s Socket) socket {
	k := socket{transport: s.Transport, given: s}
	var a net.Addr
	if s.Packet != nil {
		a = s.Packet.LocalAddr()
	} else {
		a = s.Listener.Addr()
	}
	if ap, err := netip.ParseAddrPort(a.String()); err == nil {
		k.local = flow.AddrFrom(ap)
	}
	k.name = k.local
	if s.Name.IsValid() {
		k.name = flow.AddrFrom(s.Name)
	}
	return k
}

func (k *socket) start(p *Peer, g *gate) {
	o := flow.Options{
		Public: true, Logger: p.log, MaxConns: p.limits.Conns, MaxConnsPerIP: p.limits.PerHost, IdleTimeout: 10 * time.Minute,
		DialTimeout: p.limits.Open, HandshakeTimeout: p.limits.Open, ReplyRate: 20, Dial: p.cfg.Dial, Heard: p.sources.heard,
	}
	if o.Dial == nil {
		o.Dial = k.dial
	}
	switch k.transport {
	case flow.TransportUDP:
		k.udp = flow.ListenUDP(k.given.Packet, g, o)
	case flow.TransportTCP:
		k.stream = flow.ListenTCP(k.given.Listener, g, o)
	default:
		o.TLS = p.clientTLS("")
		ln := k.given.Listener
		if k.given.TLS != nil {
			ln = tls.NewListener(ln, k.given.TLS)
		}
		k.stream = flow.ListenTCP(ln, g, o)
	}
}

// dial connects from the socket's own address where it has one, so that the far side sees the same host both ways.
func (k *socket) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	if ap, ok := k.local.AddrPort(); ok && !ap.Addr().IsUnspecified() {
		d.LocalAddr = &net.TCPAddr{IP: ap.Addr().AsSlice()}
	}
	return d.DialContext(ctx, network, addr)
}

func (k *socket) close(started bool) error {
	var err error
	switch {
	case k.udp != nil:
		err = k.udp.Close()
	case k.stream != nil:
		err = k.stream.Close()
	case k.given.Packet != nil:
		err = k.given.Packet.Close()
	default:
		err = k.given.Listener.Close()
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (k *socket) conns() int {
	if k.stream == nil {
		return 0
	}
	return k.stream.Len()
}

// reaches says whether a socket can send to an address of that family.
func (k *socket) reaches(a netip.Addr) bool {
	local, ok := k.local.AddrPort()
	if !ok {
		return true
	}
	here := local.Addr()
	if here.IsUnspecified() {
		return here.Is6() || a.Unmap().Is4() // [::] has both families
	}
	return here.Is4() == a.Unmap().Is4()
}

// socketFor gives the socket that a hop is reached from.
func (p *Peer) socketFor(h proxy.Hop) *socket {
	for i := range p.sockets {
		if k := &p.sockets[i]; k.transport == h.Transport && k.reaches(h.Addr.Addr()) {
			return k
		}
	}
	return nil
}

// speaks says whether there is a socket for a hop.
func (p *Peer) speaks(h proxy.Hop) bool { return p.socketFor(h) != nil }

// own says that a hop is this proxy peer itself.
func (p *Peer) own(h proxy.Hop) bool {
	at := flow.AddrFrom(h.Addr)
	for _, k := range p.sockets {
		if k.local == at || k.name == at {
			return true
		}
	}
	return false
}

// Permits says whether an address outside is one that this proxy peer may be sent to by a stranger's zone: of the public
// Internet, or of the kind of network that its own sockets are in.
func (p *Peer) Permits(a netip.Addr) bool { return permits(p.sockets, a) }

// Loopback says that all public sockets are on loopback, as in a test.
func (p *Peer) Loopback() bool {
	return !slices.ContainsFunc(p.sockets, func(k socket) bool {
		ap, ok := k.name.AddrPort()
		return !ok || !ap.Addr().IsLoopback()
	})
}

func permits(sockets []socket, a netip.Addr) bool {
	a = a.Unmap()
	if a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return false
	}
	for _, k := range sockets {
		for _, at := range []flow.Addr{k.local, k.name} {
			ap, ok := at.AddrPort()
			if !ok || ap.Addr().IsUnspecified() {
				continue
			}
			switch here := ap.Addr(); {
			case a.IsLoopback():
				if here.IsLoopback() {
					return true
				}
			case a.IsPrivate() || a.IsLinkLocalUnicast():
				if here.IsPrivate() {
					return true
				}
			}
		}
	}
	return !a.IsLoopback() && !a.IsPrivate() && !a.IsLinkLocalUnicast()
}

// Living implements proxy.Border.
func (p *Peer) Living(h proxy.Hop) (flow.Flow, bool) {
	k := p.socketFor(h)
	switch {
	case k == nil:
		return nil, false
	case k.udp != nil:
		return p.guarded(k.udp.To(h.Addr)), true
	case k.stream != nil:
		return k.stream.FindAs(flow.AddrFrom(h.Addr), h.Name)
	}
	return nil, false
}

// Open implements proxy.Border.
func (p *Peer) Open(ctx context.Context, h proxy.Hop) (flow.Flow, error) {
	if f, ok := p.Living(h); ok {
		return f, nil
	}
	k := p.socketFor(h)
	if k == nil || k.stream == nil {
		return nil, fmt.Errorf("open %s: this proxy peer has no %s socket", h, h.Transport)
	}
	ctx, cancel := context.WithTimeout(ctx, p.limits.Open)
	defer cancel()
	if h.Transport != flow.TransportTLS {
		return k.stream.DialAs(ctx, flow.AddrFrom(h.Addr), h.Name, nil)
	}
	return k.stream.DialAs(ctx, flow.AddrFrom(h.Addr), h.Name, p.clientTLS(h.Name))
}

// Back implements proxy.Border.
func (p *Peer) Back(e proxy.Endpoint) (flow.Flow, bool) {
	remote, ok := e.Remote.AddrPort()
	if !ok {
		return nil, false
	}
	for i := range p.sockets {
		k := &p.sockets[i]
		if k.transport != e.Transport || !k.reaches(remote.Addr()) {
			continue
		}
		if k.udp != nil {
			return p.guarded(k.udp.To(remote)), true
		}
		if k.stream != nil {
			if f, ok := k.stream.Find(e.Remote); ok {
				return f, true
			}
		}
	}
	return nil, false
}

func lower(t flow.Transport) string { return strings.ToLower(string(t)) }
