package datapath

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// Loop moves the datagrams of all sockets made with it, with one goroutine and one thread. A second Loop uses a second core:
// give each a front with Options.ReusePort.
type Loop struct {
	o      LoopOptions
	count  counters
	engine *engine // nil: plain sockets
}

// NewLoop starts a Loop; Close ends it.
func NewLoop(o LoopOptions) (*Loop, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	l := &Loop{o: o.withDefaults()}
	if o.Plain {
		return l, nil
	}
	e, err := newEngine(l)
	if err != nil {
		return nil, fmt.Errorf("starting a relay's data path: %w", err)
	}
	l.engine = e
	return l, nil
}

// Stats gives what has been counted.
func (l *Loop) Stats() Stats { return l.count.stats() }

// Close ends the Loop and waits for it. Sockets that are still open are closed.
func (l *Loop) Close() error {
	if l.engine == nil {
		return nil
	}
	return l.engine.close()
}

// Listen opens a server transport address; network is udp4, udp6 or udp, the address numeric, an IPv6 one for IPv6 only.
func (l *Loop) Listen(network, address string, o Options) (*ServerConn, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("listening for TURN clients: %w", err)
	}
	switch six := at.Addr().Is6(); {
	case network == "udp", network == "udp4" && !six, network == "udp6" && six:
	default:
		return nil, fmt.Errorf("listening for TURN clients on %v: that is no address of network %q", at, network)
	}
	s, err := l.server(at, o)
	if err != nil {
		return nil, fmt.Errorf("listening for TURN clients on %v: %w", at, err)
	}
	c := &ServerConn{loop: l, s: s, o: newObserver(o, l.o.Now), admit: o.Admit, addr: net.UDPAddrFromAddrPort(s.local())}
	return c, nil
}

func (l *Loop) server(at netip.AddrPort, o Options) (socket, error) {
	if l.engine != nil {
		return l.engine.server(at, o)
	}
	return l.plain(at, o.ReusePort)
}

// socket opens the socket of a relayed address; start joins it with what it belongs to.
func (l *Loop) socket(at netip.AddrPort) (socket, error) {
	if l.engine != nil {
		return l.engine.relayed(at)
	}
	return l.plain(at, false)
}

func (l *Loop) start(r *RelayedConn, front Front) error {
	if l.engine != nil {
		return l.engine.start(r, front)
	}
	return nil
}

func (l *Loop) plain(at netip.AddrPort, reuse bool) (socket, error) {
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	lc := net.ListenConfig{}
	if reuse {
		lc.Control = reusePort
	}
	c, err := lc.ListenPacket(context.Background(), network, at.String())
	if err != nil {
		return nil, err
	}
	return &plainSocket{c: c.(*net.UDPConn), stats: &l.count}, nil
}
