package node

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"

	"p2psip/interwork/edge"
	"p2psip/interwork/flow"
	"p2psip/interwork/proxy"
)

// sockets are the node's side towards phones. They are opened before anything else, because a port that is taken is the
// most likely reason for a node not to start, and are read from only when everything behind them stands.
type sockets struct {
	proxy.Listeners
	pc       net.PacketConn
	tcp, tls net.Listener
	live     []io.Closer // their readers, which own them
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
	udp := flow.ListenUDP(s.pc, h, o)
	s.AddUDP(udp)
	s.live = append(s.live, udp)
	for _, ln := range []net.Listener{s.tcp, s.tls} {
		if ln != nil {
			st := flow.ListenTCP(ln, h, o)
			s.AddStream(st)
			s.live = append(s.live, st)
		}
	}
}

// close ends all readers and waits for them.
func (s *sockets) close() error {
	closers := s.live
	if closers == nil {
		closers = []io.Closer{s.pc, s.tcp}
		if s.tls != nil {
			closers = append(closers, s.tls)
		}
	}
	var errs []error
	for _, c := range closers {
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Flow finds the way to an endpoint. After a restart with another --sip the local address of an endpoint is history, and
// the phone has to be reached from the socket there is.
func (s *sockets) Flow(e proxy.Endpoint) (flow.Flow, bool) {
	if f, ok := s.Listeners.Flow(e); ok {
		return f, true
	}
	e.Local = flow.Addr{}
	return s.Listeners.Flow(e)
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
