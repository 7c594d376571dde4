package datapath

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// RelayedConn is the socket of a relayed transport address: what peers of one allocation send to. pion reads from it what the
// short cut does not take, and closes it when the allocation ends.
type RelayedConn struct {
	noDeadlines
	loop      *Loop
	s         socket
	o         *observer // nil: nobody tells whose it is
	announced netip.AddrPort
	addr      *net.UDPAddr

	client netip.AddrPort // guarded by o.mu

	mu     sync.RWMutex // held for reading while meter is asked, for writing by Close
	meter  Meter
	closed bool
	once   sync.Once
	err    error // of closing, written in once
}

var _ net.PacketConn = (*RelayedConn)(nil)

// take asks the meter.
func (r *RelayedConn) take(n int) bool {
	r.mu.RLock()
	ok := !r.closed && r.meter.Take(n)
	r.mu.RUnlock()
	if !ok {
		r.loop.count.lostMeter.Add(1)
	}
	return ok
}

// ReadFrom gives a datagram of a peer, *net.UDPAddr; pion asks the allocation's permissions. The error is net.ErrClosed.
func (r *RelayedConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := r.s.read(b)
		if err != nil {
			return 0, nil, err
		}
		// What strangers send does not count; the front counts what goes on to the client. Where there is none, count all.
		if r.o == nil && !r.take(n) {
			continue
		}
		return n, net.UDPAddrFromAddrPort(from), nil
	}
}

// WriteTo sends a datagram to a peer that pion has permitted. One that the meter forbids or the kernel does not take is lost
// without an error, which pion would log.
func (r *RelayedConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if !r.take(len(b)) {
		return len(b), nil
	}
	if err := r.s.write(b, addrPort(to)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// LocalAddr gives the socket's own address, *net.UDPAddr; not what is announced where these differ.
func (r *RelayedConn) LocalAddr() net.Addr { return r.addr }

// Close ends the allocation's part here: channels, queue, meter.
func (r *RelayedConn) Close() error {
	r.once.Do(func() {
		r.err = r.s.close()
		if r.o != nil {
			r.o.closed(r)
		}
		r.mu.Lock()
		r.closed = true
		m := r.meter
		r.mu.Unlock()
		m.Close()
		r.loop.count.allocations.Add(-1)
	})
	return r.err
}

// attach is told, with o.mu held, whose allocation it is; bind, of a channel of it. Only sockets with a short cut care.
func (r *RelayedConn) attach(client netip.AddrPort) {
	if s, ok := r.s.(shortCut); ok {
		s.attach(client)
	}
}

func (r *RelayedConn) bind(number uint16, peer netip.AddrPort, until time.Time) {
	if s, ok := r.s.(shortCut); ok {
		s.bind(number, peer, until)
	}
}

// shortCut is a relayed socket that can forward without pion.
type shortCut interface {
	// attach says which client the allocation is of.
	attach(client netip.AddrPort)
	// bind says that a channel of the allocation is bound to peer until then at least.
	bind(number uint16, peer netip.AddrPort, until time.Time)
}
