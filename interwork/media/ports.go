package media

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// errNoPorts: every pair of the range is in use, resting, or taken by another program.
var errNoPorts = errors.New("media: no pair of ports is free; widen the range of media ports or end calls")

// portPool hands out pairs of UDP ports, the even one for RTP and the odd one above it for RTCP (RFC 3550 §11), each address
// of this machine having the whole range for itself. A pair that was given back rests for a while.
type portPool struct {
	min, max uint16
	now      func() time.Time

	mu    sync.Mutex
	used  map[netip.AddrPort]struct{}  // of the RTP port
	rests map[netip.AddrPort]time.Time // until when
	next  map[netip.Addr]uint16        // where to look first, so that a port is used again as late as can be
}

func newPortPool(lo, hi uint16, now func() time.Time) *portPool {
	return &portPool{
		min: lo, max: hi, now: now,
		used:  make(map[netip.AddrPort]struct{}),
		rests: make(map[netip.AddrPort]time.Time),
		next:  make(map[netip.Addr]uint16),
	}
}

// size is the number of pairs for each address.
func (p *portPool) size() int { return (int(p.max)-int(p.min)-1)/2 + 1 }

// inUse counts the pairs handed out.
func (p *portPool) inUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.used)
}

// portPair is two open sockets. Close gives them back.
type portPair struct {
	pool      *portPool
	at        netip.AddrPort // of RTP
	rtp, rtcp *net.UDPConn
	once      sync.Once
}

// open takes a pair at an address of this machine.
func (p *portPool) open(a netip.Addr) (*portPair, error) {
	for range p.size() {
		at, ok := p.claim(a)
		if !ok {
			return nil, errNoPorts
		}
		pair, err := p.bind(at)
		if err == nil {
			return pair, nil
		}
		var op *net.OpError
		p.release(at, errors.As(err, &op)) // another program has it: do not try it again at once
		if errors.Is(err, errNotHere) {
			return nil, err
		}
	}
	return nil, errNoPorts
}

// claim picks the next pair that is neither used nor resting.
func (p *portPool) claim(a netip.Addr) (netip.AddrPort, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for at, until := range p.rests {
		if !now.Before(until) {
			delete(p.rests, at)
		}
	}
	port := p.next[a]
	if port < p.min {
		port = p.min
	}
	for range p.size() {
		if int(port)+1 > int(p.max) {
			port = p.min
		}
		at := netip.AddrPortFrom(a, port)
		port += 2
		_, busy := p.used[at]
		_, rests := p.rests[at]
		if !busy && !rests {
			p.used[at] = struct{}{}
			p.next[a] = port
			return at, true
		}
	}
	return netip.AddrPort{}, false
}

// errNotHere: the address is not one of this machine.
var errNotHere = errors.New("media: cannot listen there")

func (p *portPool) bind(at netip.AddrPort) (*portPair, error) {
	rtp, err := net.ListenUDP(network(at.Addr()), net.UDPAddrFromAddrPort(at))
	if err != nil {
		if isAddressUnknown(err) {
			return nil, fmt.Errorf("%w: %v", errNotHere, err)
		}
		return nil, err
	}
	rtcp, err := net.ListenUDP(network(at.Addr()), net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), at.Port()+1)))
	if err != nil {
		rtp.Close()
		return nil, err
	}
	return &portPair{pool: p, at: at, rtp: rtp, rtcp: rtcp}, nil
}

func (p *portPool) release(at netip.AddrPort, rest bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, at)
	if rest {
		p.rests[at] = p.now().Add(portRest)
	}
}

// Close closes both sockets; the pair rests before it is used again.
func (pp *portPair) Close() {
	pp.once.Do(func() {
		pp.rtp.Close()
		pp.rtcp.Close()
		pp.pool.release(pp.at, true)
	})
}

// network is the name of UDP over the family of an address, so that no socket serves both.
func network(a netip.Addr) string {
	if a.Is4() {
		return "udp4"
	}
	return "udp6"
}
