package datapath

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// frontBuffer is what a front asks of the kernel for its receive buffer: a few milliseconds at 200,000 packets/s. The kernel
// gives what it may.
const frontBuffer = 4 << 20

// endpoint is a socket of an engine.
type endpoint struct {
	e  *engine
	at netip.AddrPort
	q  *queue

	slot int  // in e.slots; guarded by e.mu
	open bool // likewise

	mu sync.RWMutex // held for reading while the socket is written to outside the loop, for writing to close it
	fd int          // -1 when closed; read with mu, or in the loop with e.mu while open

	front *frontSocket // one of these
	relay *relaySocket
}

// newEndpoint opens a socket.
func newEndpoint(e *engine, at netip.AddrPort, reuse bool, q *queue) (*endpoint, error) {
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	fail := func(call string, err error) (*endpoint, error) {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError(call, err)
	}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fail("setsockopt", err)
		}
	}
	if reuse {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fail("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, name(at)); err != nil {
		return fail("bind", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return fail("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		at = netip.AddrPortFrom(at.Addr(), uint16(sa.Port))
	case *unix.SockaddrInet6:
		at = netip.AddrPortFrom(at.Addr(), uint16(sa.Port))
	default:
		return fail("getsockname", fmt.Errorf("an address of type %T", sa))
	}
	return &endpoint{e: e, at: at, q: q, fd: fd}, nil
}

func (p *endpoint) read(b []byte) (int, netip.AddrPort, error) { return p.q.pop(b) }

func (p *endpoint) local() netip.AddrPort { return p.at }

func (p *endpoint) write(b []byte, to netip.AddrPort) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fd < 0 {
		return net.ErrClosed
	}
	if !to.IsValid() || unix.Sendto(p.fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, name(to)) != nil {
		p.e.count.lostSending.Add(1)
	}
	return nil
}

func (p *endpoint) close() error {
	p.e.mu.Lock()
	p.e.forget(p)
	p.e.mu.Unlock() // the loop does not touch it any more
	p.q.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd < 0 {
		return nil
	}
	err := unix.Close(p.fd) // which takes it out of the epoll set
	p.fd = -1
	return os.NewSyscallError("close", err)
}

// frontSocket is the socket of a ServerConn.
type frontSocket struct {
	endpoint
	clients map[key]*relaySocket // guarded by e.mu
	out     *outbox              // the loop's; empty between rounds
}

// relaySocket is the socket of a RelayedConn. What follows the endpoint is guarded by e.mu.
type relaySocket struct {
	endpoint
	conn     *RelayedConn
	via      *frontSocket // where its client comes in; nil: unknown, there is no short cut
	client   sockaddr     // size 0: unknown
	key      key          // client's
	channels []channel

	burst     int    // how many datagrams are read at once
	lastRound uint64 // in which there was something to read

	first, last int // of those in the batch that go out here; first is -1 if there are none
}

// channel is one binding of an allocation.
type channel struct {
	number uint16
	until  int64 // in the engine's time
	peer   key
	name   sockaddr
}

var (
	_ socket   = (*frontSocket)(nil)
	_ socket   = (*relaySocket)(nil)
	_ shortCut = (*relaySocket)(nil)
)

func (r *relaySocket) attach(client netip.AddrPort) {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	if r.via == nil || !r.open || !r.via.open {
		return
	}
	r.client = sockaddrOf(client)
	r.key = keyOf(&r.client.raw)
	r.via.clients[r.key] = r
}

func (r *relaySocket) bind(number uint16, peer netip.AddrPort, until time.Time) {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	if r.client.size == 0 || !r.open || peer.Addr().Is4() != r.at.Addr().Is4() {
		return
	}
	to := sockaddrOf(peer)
	c := channel{number: number, until: r.e.time(until), peer: keyOf(&to.raw), name: to}
	now := r.e.time(r.e.now())
	kept := r.channels[:0]
	for _, old := range r.channels {
		// pion has judged: a number has one peer and a peer one number, so an old binding that contradicts the new one is no more.
		if old.until > now && old.number != c.number && old.peer != c.peer {
			kept = append(kept, old)
		}
	}
	clear(r.channels[len(kept):])
	r.channels = kept
	if len(kept) < maxChannels {
		r.channels = append(kept, c)
	}
}

// byNumber gives the binding of a channel that is in force; nil if there is none. Called in the loop.
func (r *relaySocket) byNumber(number uint16, now int64) *channel {
	for i := range r.channels {
		if c := &r.channels[i]; c.number == number {
			if c.until <= now {
				return nil
			}
			return c
		}
	}
	return nil
}

// byPeer gives the binding to a peer that is in force; nil if there is none. Called in the loop.
func (r *relaySocket) byPeer(peer key, now int64) *channel {
	for i := range r.channels {
		if c := &r.channels[i]; c.peer == peer {
			if c.until <= now {
				return nil
			}
			return c
		}
	}
	return nil
}

// reusePort sets SO_REUSEPORT on a socket of package net.
func reusePort(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); e != nil {
		return e
	}
	return os.NewSyscallError("setsockopt", err)
}
