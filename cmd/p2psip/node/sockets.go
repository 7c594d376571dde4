package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"

	"p2psip/interwork/edge"
	"p2psip/interwork/flow"
	"p2psip/interwork/proxy"
)

// sockets are the node's side towards phones. They are opened before anything else, because a port that is taken is the
// most likely reason for a node not to start, and are read from only when everything behind them stands.
type sockets struct {
	pc       net.PacketConn
	tcp, tls net.Listener

	live atomic.Pointer[readers]
}

// readers are the sockets once they are read from.
type readers struct {
	udp     *flow.UDP
	streams []*flow.Stream
}

var (
	_ proxy.Sockets = (*sockets)(nil)
	_ edge.Flows    = (*sockets)(nil)
)

// openSockets opens what the configuration asks for, or takes what it gives.
func openSockets(c Config) (*sockets, error) {
	s := &sockets{pc: c.UDP, tcp: c.TCP, tls: c.TLS}
	if s.pc != nil {
		return s, nil
	}
	at, err := ParseSIP(c.sip())
	if err != nil {
		return nil, err
	}
	// A port that the system found free for UDP may be taken for TCP, so several are tried.
	for range 20 {
		if s.pc, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)); err != nil {
			return nil, fmt.Errorf("the address for phones: %w", err)
		}
		port := s.pc.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		if s.tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), port))); err == nil {
			return s, nil
		}
		s.pc.Close()
		if at.Port() != 0 {
			break
		}
	}
	return nil, fmt.Errorf("the address for phones: %w", err)
}

// addrs gives the addresses of the sockets.
func (s *sockets) addrs() []flow.Addr {
	var out []flow.Addr
	for _, a := range []net.Addr{s.pc.LocalAddr(), s.tcp.Addr(), addrOf(s.tls)} {
		if a == nil {
			continue
		}
		if ap, err := netip.ParseAddrPort(a.String()); err == nil {
			out = append(out, flow.AddrFrom(ap))
		}
	}
	return out
}

func addrOf(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// start begins to read.
func (s *sockets) start(h flow.Handler, log *slog.Logger) {
	o := flow.Options{Logger: log}
	r := &readers{udp: flow.ListenUDP(s.pc, h, o)}
	for _, ln := range []net.Listener{s.tcp, s.tls} {
		if ln != nil {
			r.streams = append(r.streams, flow.ListenTCP(ln, h, o))
		}
	}
	s.live.Store(r)
}

// close ends all readers and waits for them.
func (s *sockets) close() error {
	r := s.live.Swap(nil)
	if r == nil {
		err := errors.Join(s.pc.Close(), s.tcp.Close())
		if s.tls != nil {
			err = errors.Join(err, s.tls.Close())
		}
		return err
	}
	errs := []error{r.udp.Close()}
	for _, st := range r.streams {
		errs = append(errs, st.Close())
	}
	return errors.Join(errs...)
}

// Flow finds the way to an endpoint. The local address of a UDP endpoint does not have to match: after a restart with
// another --sip there is one socket still, and the phone has to be reached from it.
func (s *sockets) Flow(e proxy.Endpoint) (flow.Flow, bool) {
	r := s.live.Load()
	if r == nil {
		return nil, false
	}
	if e.Transport == flow.TransportUDP {
		ap, ok := e.Remote.AddrPort()
		if !ok || ap.Port() == 0 {
			return nil, false
		}
		return r.udp.To(ap), true
	}
	for _, st := range r.streams {
		if st.Transport() == e.Transport {
			if f, ok := st.Find(e.Remote); ok {
				return f, true
			}
		}
	}
	return nil, false
}

// Dial connects to a phone.
func (s *sockets) Dial(ctx context.Context, t flow.Transport, to flow.Addr) (flow.Flow, error) {
	if r := s.live.Load(); r != nil {
		for _, st := range r.streams {
			if st.Transport() == t {
				return st.Dial(ctx, to)
			}
		}
	}
	return nil, fmt.Errorf("connecting to a phone: this node has no %s socket", t)
}

// reachable gives an IP address of this machine for phones when a socket is bound to all of them: the one it would use to
// talk to the rest of the world.
func reachable() string {
	// Connecting a UDP socket sends nothing; it only chooses a route.
	c, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return "127.0.0.1"
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().String()
}
