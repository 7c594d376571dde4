package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun"

	"p2psip/overlay"
	"p2psip/relaypeer/credential"
)

const (
	// minLifetime is the shortest lifetime of an allocation that is worth keeping; RFC 8656 §7.2 makes it ten minutes.
	minLifetime = 30 * time.Second
	// maxPermissions and maxTargets bound the addresses that one allocation sends to: the candidates of a few far sides.
	maxPermissions = 64
	maxTargets     = 128
	// maxChannels bounds its channels: a far side has one address for each stream that is really used.
	maxChannels = 16
	// channelAfter is how many packets go to an address before it gets a channel: checks of ICE are no reason for one.
	channelAfter = 8
	// aliveWithin is how long Alive waits for an answer.
	aliveWithin = 1500 * time.Millisecond
)

// Errors of an allocation.
var (
	errFamily      = errors.New("the relayed address is of the other address family")
	errTooManyTo   = errors.New("the allocation sends to too many addresses")
	errNoUDPAddr   = errors.New("the address is no UDP address")
	errNoAddress   = errors.New("the relay peer gave no address that could be used")
	errLifetime    = errors.New("the relay peer gave an allocation that ends at once")
	errForgotten   = errors.New("the relay peer knows nothing of the allocation any more")
	errPermitted   = errors.New("the relay peer does not permit that address")
	errNotPeerAddr = errors.New("no address that data can be sent to")
)

// Allocation is one relayed address at a relay peer (RFC 8656 §2.2). Its methods may be called by several goroutines.
type Allocation struct {
	relay    overlay.NodeID
	at       endpoint
	session  *session
	link     *link
	now      func() time.Time
	ended    func(*Allocation, error) // told once, from a goroutine without locks
	relayed  netip.AddrPort
	mapped   netip.AddrPort
	inbox    *queue
	reading  deadline
	wishes   chan netip.AddrPort // that get a channel
	suspect  chan struct{}       // capacity 1: an ICMP error came
	began    chan struct{}       // capacity 1: data is sent again after a pause
	busy     atomic.Bool         // data is sent, and tend knows it
	frames   sync.Pool           // *[]byte: outgoing messages
	done     chan struct{}
	wg       sync.WaitGroup
	sent     atomic.Uint64
	received atomic.Uint64
	out, in  atomic.Uint64 // octets
	strange  atomic.Uint64 // packets from addresses without permission

	mu       sync.Mutex
	err      error                      // guarded by mu: why done is closed
	lifetime time.Duration              // guarded by mu
	until    time.Time                  // guarded by mu: when the allocation ends unless it is refreshed
	perms    map[netip.Addr]*permission // guarded by mu
	targets  map[netip.AddrPort]*target // guarded by mu
	channels map[uint16]*target         // guarded by mu: bound, or asked for
	next     uint16                     // guarded by mu: the channel number to give next
}

var _ net.PacketConn = (*Allocation)(nil)

// permission lets an address send to the relayed one, and be sent to (RFC 8656 §9).
type permission struct {
	state permState
	used  time.Time // when it was last sent to
	keep  bool      // asked for by Permit: refreshed whether it is used or not
	err   error     // why it was refused
	done  chan struct{}
}

type permState int

const (
	permAsked permState = iota
	permGiven
	permRefused
)

// target is an address that data goes to.
type target struct {
	addr    netip.AddrPort
	number  uint16 // of its channel, 0: none was asked for
	bound   bool   // the channel may be used
	packets int    // sent
	used    time.Time
}

// Stats counts what has passed an allocation.
type Stats struct {
	Sent, Received           uint64 // packets
	BytesSent, BytesReceived uint64 // of their data
	Dropped                  uint64 // packets received that nobody read in time
	Strange                  uint64 // packets from addresses that nothing was sent to
	RTT                      time.Duration
}

// newAllocation asks for an allocation over a fresh link. On failure the link is the caller's to close.
func newAllocation(ctx context.Context, conn net.Conn, node overlay.NodeID, at endpoint, g credential.Grant, hint challenge, p *Pool) (_ *Allocation, err error) {
	a := &Allocation{
		relay: node, at: at, now: p.now, ended: p.ended, inbox: newQueue(),
		wishes: make(chan netip.AddrPort, maxChannels), suspect: make(chan struct{}, 1), began: make(chan struct{}, 1), done: make(chan struct{}),
		perms: map[netip.Addr]*permission{}, targets: map[netip.AddrPort]*target{}, channels: map[uint16]*target{}, next: minChannel,
	}
	a.link = newLink(conn, at.transport != UDP, a)
	defer func() {
		if err != nil {
			a.link.close()
		}
	}()
	a.session = newSession(a.link, g, hint)
	// IPv4 is the family that most far sides have, and what is given where none is asked for (RFC 8656 §7.2).
	wish, otherwise := []stun.Setter{requestedUDP()}, []stun.Setter{requestedUDP(), requestedIPv6()}
	if at.only6 {
		wish, otherwise = otherwise, wish
	}
	m, err := a.session.request(ctx, stun.MethodAllocate, wish...)
	if codeOf(err) == codeFamily {
		m, err = a.session.request(ctx, stun.MethodAllocate, otherwise...)
	}
	if err != nil {
		if ctx.Err() != nil {
			a.abandon()
		}
		return nil, err
	}
	// From here on there is something to give back.
	if err := a.take(m, p.cfg.Permit); err != nil {
		a.release()
		return nil, err
	}
	if err := p.register(a); err != nil {
		a.release()
		return nil, err
	}
	a.wg.Go(a.tend)
	return a, nil
}

// take reads the response to Allocate (RFC 8656 §7.3).
func (a *Allocation) take(m *stun.Message, permit func(netip.Addr) bool) (err error) {
	if a.relayed, err = addressIn(m, attrRelayedAddress); err != nil {
		return fmt.Errorf("%w: %w", errNoAddress, err)
	}
	if a.relayed.Port() == 0 || !permit(a.relayed.Addr()) {
		return fmt.Errorf("%w: %s", errNoAddress, a.relayed)
	}
	if a.mapped, err = addressIn(m, stun.AttrXORMappedAddress); err != nil {
		return fmt.Errorf("%w: %w", errNoAddress, err)
	}
	return a.extended(m)
}

// extended reads LIFETIME of a success response.
func (a *Allocation) extended(m *stun.Message) error {
	d := lifetimeIn(m)
	if d < minLifetime {
		return fmt.Errorf("%w: %s", errLifetime, d)
	}
	d = min(d, time.Hour)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lifetime, a.until = d, a.now().Add(d)
	return nil
}

// Relay is the relay peer.
func (a *Allocation) Relay() overlay.NodeID { return a.relay }

// Server is where the relay peer is talked to, as in "192.0.2.7:3478"; Transport says how.
func (a *Allocation) Server() string { return a.at.addr.String() }

// Transport is the one between this node and the relay peer. What is relayed is always UDP.
func (a *Allocation) Transport() Transport { return a.at.transport }

// LocalAddr is the relayed address, a *net.UDPAddr.
func (a *Allocation) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(a.relayed) }

// Relayed is the relayed address.
func (a *Allocation) Relayed() netip.AddrPort { return a.relayed }

// Mapped is the address from which the relay peer sees this node: the related address of a relayed candidate (RFC 8839
// §5.1). It belongs to the socket of this allocation, so that no other traffic comes through it.
func (a *Allocation) Mapped() netip.AddrPort { return a.mapped }

// Done is closed when the allocation has ended; Err tells why.
func (a *Allocation) Done() <-chan struct{} { return a.done }

// Err is why the allocation has ended: net.ErrClosed after Close, nil as long as it lives.
func (a *Allocation) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// Stats gives the counts.
func (a *Allocation) Stats() Stats {
	return Stats{
		Sent: a.sent.Load(), Received: a.received.Load(), BytesSent: a.out.Load(), BytesReceived: a.in.Load(),
		Dropped: a.inbox.drops(), Strange: a.strange.Load(), RTT: a.link.roundTrip(),
	}
}

// Close gives the allocation back. It does not wait for the relay peer's answer.
func (a *Allocation) Close() error {
	if !a.end(net.ErrClosed) {
		return net.ErrClosed
	}
	return nil
}

// end ends the allocation; the first reason counts. The pool does what remains to be done.
func (a *Allocation) end(err error) bool {
	a.mu.Lock()
	if a.err != nil {
		a.mu.Unlock()
		return false
	}
	a.err = err
	close(a.done)
	a.mu.Unlock()
	a.ended(a, err)
	return true
}

// bury gives the allocation back to a relay peer that may live, and ends all that runs.
func (a *Allocation) bury() {
	if errors.Is(a.Err(), net.ErrClosed) {
		a.release()
	}
	a.link.end(ErrClosed)
	a.wg.Wait()
	a.link.close()
}

// release tells the relay peer that the allocation is not needed any more (RFC 8656 §8).
func (a *Allocation) release() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	_, _ = a.session.request(ctx, stun.MethodRefresh, lifetimeOf(0))
}

// abandon tells a relay peer, whose answer is not waited for, not to keep what it may be making. Over a stream, closing the
// connection says so.
func (a *Allocation) abandon() {
	if m, key, err := a.session.build(stun.MethodRefresh, []stun.Setter{lifetimeOf(0)}); err == nil && key != nil && !a.link.stream {
		_ = a.link.write(m.Raw)
	}
}

// Permit asks for permission for an address to send to the relayed address and waits for the answer. The permission is kept
// up until the allocation ends, whether anything is sent there or not.
func (a *Allocation) Permit(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	a.mu.Lock()
	if a.err != nil {
		defer a.mu.Unlock()
		return a.err
	}
	p, err := a.permission(addr)
	if err != nil {
		a.mu.Unlock()
		return err
	}
	p.keep = true
	done := p.done
	a.mu.Unlock()
	select {
	case <-done:
	case <-a.done:
		return a.Err()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return p.err
}

// permission gives the permission for an address, asking for it if there is none. a.mu is held; it is released and taken
// again while the request is sent.
func (a *Allocation) permission(addr netip.Addr) (*permission, error) {
	p := a.perms[addr]
	now := a.now()
	switch {
	case !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast():
		return nil, errNotPeerAddr
	case addr.Is4() != a.relayed.Addr().Is4():
		return nil, errFamily
	case p != nil && (p.state != permRefused || now.Sub(p.used) < refusedFor):
		if p.state != permRefused {
			p.used = now
		}
		return p, nil
	case p == nil && len(a.perms) >= maxPermissions && !a.forgetPermission():
		return nil, errTooManyTo
	}
	p = &permission{used: now, done: make(chan struct{})}
	a.perms[addr] = p
	attrs := []stun.Setter{peerAddress(netip.AddrPortFrom(addr, 0))}
	a.mu.Unlock()
	// It is sent before what is sent next, and the relay peer works one after the other: no data need wait for the answer.
	t, err := a.session.begin(stun.MethodCreatePermission, attrs)
	a.mu.Lock()
	if err != nil || a.err != nil {
		a.refuse(p, err)
		return p, nil
	}
	a.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), requestTime)
		defer cancel()
		_, err := a.session.finish(ctx, t, a.link.rto(), false, stun.MethodCreatePermission, attrs)
		a.mu.Lock()
		defer a.mu.Unlock()
		switch {
		case err == nil:
			p.state = permGiven
			close(p.done)
		case codeOf(err) != 0:
			a.refuse(p, err)
		default: // no answer: that is about the relay peer, and whoever sends there next asks again
			a.refuse(p, err)
			if a.perms[addr] == p {
				delete(a.perms, addr)
			}
			a.suspicious()
		}
	})
	return p, nil
}

// refuse notes that a permission was not given. a.mu is held.
func (a *Allocation) refuse(p *permission, err error) {
	if err == nil {
		err = a.err
	}
	p.state, p.used, p.err = permRefused, a.now(), fmt.Errorf("%w: %w", errPermitted, err)
	close(p.done)
}

// forgetPermission makes room for another permission: the one that was not used for longest goes. It expires by itself.
// a.mu is held.
func (a *Allocation) forgetPermission() bool {
	var oldest netip.Addr
	for addr, p := range a.perms {
		if !p.keep && p.state != permAsked && (!oldest.IsValid() || p.used.Before(a.perms[oldest].used)) {
			oldest = addr
		}
	}
	if !oldest.IsValid() {
		return false
	}
	delete(a.perms, oldest)
	return true
}

// SetDeadline is SetReadDeadline: writing never waits for long.
func (a *Allocation) SetDeadline(t time.Time) error { return a.SetReadDeadline(t) }

// SetReadDeadline bounds ReadFrom, also a call under way.
func (a *Allocation) SetReadDeadline(t time.Time) error {
	a.reading.set(t)
	return nil
}

// SetWriteDeadline does nothing.
func (a *Allocation) SetWriteDeadline(time.Time) error { return nil }
