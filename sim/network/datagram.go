package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// lanDelay is how long a datagram takes between two sockets of one place: a phone in the house and the node beside it, over
// a wireless network that is not busy.
const lanDelay = time.Millisecond

// socketQueue is how many datagrams wait for their reader before further ones are lost.
const socketQueue = 256

// Place is where sockets for datagrams are opened: the house of a Host and its phones, or somewhere in the public network.
type Place struct {
	n     *Network
	index int
	ip    netip.Addr
	host  *Host // nil in the public network
}

// Place gives the host's own place. It falls silent with the host and is cut off with it.
func (h *Host) Place() *Place { return &Place{n: h.net, index: h.index, ip: hostIP(h.index), host: h} }

// At gives another address of the same place: the one by which the public network knows a node that stands in it.
func (p *Place) At(ip netip.Addr) *Place {
	q := *p
	q.ip = ip
	return &q
}

// AddPlace makes a place in the public network, as far from the hosts as they are from each other. It never falls silent
// and is cut off from no host but those that a partition has cut off from most.
func (n *Network) AddPlace(ip netip.Addr) *Place {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := &Place{n: n, index: n.next, ip: ip}
	n.next++
	n.all = append(n.all, nil)
	return p
}

// PublicIP gives the address of the i-th place in the public network, from 198.18.0.0/15 (RFC 2544).
func PublicIP(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 198<<24+18<<16+uint32(i))
	return netip.AddrFrom4(b)
}

// IP gives the place's address.
func (p *Place) IP() netip.Addr { return p.ip }

func (p *Place) group() int32 {
	if p.host == nil {
		return 0
	}
	return p.host.group.Load()
}

func (p *Place) silent() bool { return p.host != nil && p.host.silent.Load() }

// reaches says whether datagrams get from one place to another at present.
func (p *Place) reaches(q *Place) bool {
	return !p.silent() && !q.silent() && (p.index == q.index || p.group() == q.group())
}

// ListenPacket opens a socket that exists in memory only. Its datagrams take the time that the Network calculates, and the
// Network's share of them is lost between two places.
func (p *Place) ListenPacket(port uint16) (*PacketConn, error) {
	at := netip.AddrPortFrom(p.ip, port)
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	if p.n.sockets[at] != nil && !p.n.sockets[at].place.silent() {
		return nil, fmt.Errorf("%v: %w", at, errInUse)
	}
	c := &PacketConn{place: p, at: at, news: make(chan struct{}, 1), gone: make(chan struct{})}
	p.n.sockets[at] = c
	return c, nil
}

var errInUse = errors.New("the address is in use")

// PacketConn is a socket for datagrams.
type PacketConn struct {
	place *Place
	at    netip.AddrPort
	news  chan struct{} // capacity 1: something has arrived
	gone  chan struct{} // closed with the socket

	mu     sync.Mutex
	queue  []datagram // guarded by mu
	closed bool       // guarded by mu
}

type datagram struct {
	b    []byte
	from netip.AddrPort
}

var _ net.PacketConn = (*PacketConn)(nil)

// LocalAddr gives the socket's address, a *net.UDPAddr.
func (c *PacketConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.at) }

// WriteTo sends a datagram. Nobody tells whether it arrives.
func (c *PacketConn) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("%v is no UDP address", to)
	}
	at := udp.AddrPort()
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	c.mu.Unlock()
	n := c.place.n
	far := n.socket(at)
	if far == nil {
		return len(b), nil
	}
	h := hash(n.c.Seed, 0xda7a, addrHash(c.at), addrHash(at), uint64(n.wheel.now()), uint64(len(b)))
	base := lanDelay
	if far.place.index != c.place.index {
		base = n.c.Latency.OneWay(c.place.index, far.place.index)
		if n.c.Loss > 0 && unit(mix(h+1)) < n.c.Loss {
			return len(b), nil
		}
	}
	d := base + time.Duration(float64(base)*n.c.Jitter*exponential(h))
	m := datagram{append([]byte(nil), b...), c.at}
	n.wheel.at(happening{at: n.wheel.now() + int64(max(d, time.Microsecond)), key: mix(h + 2), tag: func() uint64 { return content(m.b) }, do: func() {
		if c.place.reaches(far.place) {
			far.deliver(m)
		}
	}})
	return len(b), nil
}

func (c *PacketConn) deliver(m datagram) {
	c.mu.Lock()
	if !c.closed && len(c.queue) < socketQueue {
		c.queue = append(c.queue, m)
	}
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// ReadFrom waits for a datagram.
func (c *PacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return 0, nil, net.ErrClosed
		}
		if len(c.queue) > 0 {
			m := c.queue[0]
			c.queue = c.queue[1:]
			c.mu.Unlock()
			return copy(b, m.b), net.UDPAddrFromAddrPort(m.from), nil
		}
		c.queue = nil
		c.mu.Unlock()
		select {
		case <-c.news:
		case <-c.gone:
		}
	}
}

// Close ends the socket. What is under way to it is lost.
func (c *PacketConn) Close() error {
	c.mu.Lock()
	was := c.closed
	c.closed, c.queue = true, nil
	c.mu.Unlock()
	if was {
		return net.ErrClosed
	}
	close(c.gone)
	n := c.place.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sockets[c.at] == c {
		delete(n.sockets, c.at)
	}
	return nil
}

// SetDeadline is part of net.PacketConn; there are no deadlines here.
func (c *PacketConn) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline is like SetDeadline.
func (c *PacketConn) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline is like SetDeadline.
func (c *PacketConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

func (n *Network) socket(at netip.AddrPort) *PacketConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sockets[at]
}

func addrHash(a netip.AddrPort) uint64 {
	b := a.Addr().As16()
	return mix(binary.BigEndian.Uint64(b[:8])) ^ binary.BigEndian.Uint64(b[8:])<<16 ^ uint64(a.Port())
}

// Quiet is a listener for connections at a place where nobody ever connects: phones here speak UDP.
func (p *Place) Quiet(port uint16) net.Listener {
	return &quiet{at: net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.ip, port)), gone: make(chan struct{})}
}

type quiet struct {
	at   *net.TCPAddr
	gone chan struct{}
	once sync.Once
}

func (q *quiet) Accept() (net.Conn, error) {
	<-q.gone
	return nil, net.ErrClosed
}

func (q *quiet) Close() error {
	q.once.Do(func() { close(q.gone) })
	return nil
}

func (q *quiet) Addr() net.Addr { return q.at }
