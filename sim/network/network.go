package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Config says what the network is like. The zero value of a field means its default.
type Config struct {
	Seed    uint64
	Latency Latency // nil: Constant(DefaultRTT)
	Jitter  float64 // mean of an exponential addition to each packet's time, as a share of that time; 0: none
	Loss    float64 // share of packets lost; a stream gets them again after a round trip and RetransmitTimeout
	// Bandwidth bounds what one host sends, in bytes a second, all links together; 0: no bound.
	Bandwidth int
	// Overhead is what a packet costs besides what was written: IPv4, UDP, QUIC's short header, its tag, the other side's
	// acknowledgement. Default 80 bytes.
	Overhead int
	// HandshakeTrips is how many round trips a connection takes before it can be used: 1 for QUIC (default), 3 for TCP with
	// multistream and Noise. Identification takes one more before the dial returns, as with libp2p.
	HandshakeTrips int
	// HandshakeBytes is what handshake and identification cost each side, counted under Transport. Default 3,500: QUIC's
	// padded first packets, a certificate, signed peer record and the list of protocols.
	HandshakeBytes int
	DialTimeout    time.Duration // of a dial that nobody answers; default 2 s, the overlay's
	IdleTimeout    time.Duration // until a connection is given up on which nothing comes any more; default 30 s, QUIC's
	KeepAlive      time.Duration // between two packets of 60 bytes that each side of an idle connection sends; default 15 s
	ConnLow        int           // connections kept when trimmed; default 96, the overlay's
	ConnHigh       int           // connections from which on they are trimmed; default 160
	// Stateless tells protocols whose handler keeps nothing between two requests on a stream. They get each request as a
	// stream of its own, so that a stream that waits for the next one costs no goroutine. Default: Kademlia.
	Stateless func(protocol.ID) bool
	// Settle returns when every other goroutine waits and no timer is due. In a bubble in which nobody else calls it that is
	// synctest.Wait; nil, for real time, means that things of one nanosecond may mix.
	Settle func()
	// Watch, if set, is told of everything as it is done, by the goroutine that does it: for tests which compare two runs or
	// disturb the order of goroutines.
	Watch func(Event)
}

// Event is something that happens in a network.
type Event struct {
	At       time.Duration
	What     string // Happens, or what a host does: dials, sends, closes, resets, emits
	From, To int    // indices of hosts
	Tag      uint64 // depends on what was sent
}

// Happens is what an Event is called that the network itself brings about, such as a message that arrives. There is one at
// a time, and with the same seed they come in the same order.
const Happens = "happens"

// note tells Config.Watch.
func (n *Network) note(what string, from *Host, to int) {
	if n.c.Watch != nil {
		n.c.Watch(Event{At: time.Duration(n.wheel.now()), What: what, From: from.index, To: to})
	}
}

// DefaultRTT is the round trip where none is given.
const DefaultRTT = 80 * time.Millisecond

const (
	keepAliveBytes    = 60
	retransmitTimeout = 200 * time.Millisecond
	// statelessIdle is how long kad-dht keeps a stream open on which nothing comes.
	statelessIdle = time.Minute
)

func (c Config) withDefaults() Config {
	if c.Latency == nil {
		c.Latency = Constant(DefaultRTT)
	}
	number := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	duration := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	number(&c.Overhead, 80)
	number(&c.HandshakeTrips, 1)
	number(&c.HandshakeBytes, 3500)
	number(&c.ConnLow, 96)
	number(&c.ConnHigh, 160)
	duration(&c.DialTimeout, 2*time.Second)
	duration(&c.IdleTimeout, 30*time.Second)
	duration(&c.KeepAlive, 15*time.Second)
	if c.Stateless == nil {
		c.Stateless = func(p protocol.ID) bool { return strings.HasSuffix(string(p), "/kad/1.0.0") }
	}
	return c
}

// Validate tells what is out of bounds.
func (c Config) Validate() error {
	var errs []error
	if c.Jitter < 0 || c.Jitter > 10 {
		errs = append(errs, fmt.Errorf("jitter %g: 0 to 10", c.Jitter))
	}
	if c.Loss < 0 || c.Loss > 0.9 {
		errs = append(errs, fmt.Errorf("loss %g: 0 to 0.9", c.Loss))
	}
	if c.Bandwidth < 0 {
		errs = append(errs, fmt.Errorf("bandwidth %d", c.Bandwidth))
	}
	return errors.Join(errs...)
}

// Network is where hosts meet. Make, use and close it within one bubble of RunVirtual or of testing/synctest; in real time
// it works as well.
type Network struct {
	c     Config
	wheel *wheel

	mu    sync.Mutex
	hosts map[peer.ID]*Host // guarded by mu; those that are not closed
	all   []*Host           // guarded by mu; those that are not closed, by index
	next  int               // guarded by mu: index of the next new identity
	index map[peer.ID]int   // guarded by mu: an identity that comes back keeps its place

	sockets map[netip.AddrPort]*PacketConn // guarded by mu
}

// New makes a network without hosts.
func New(c Config) (*Network, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Network{c: c.withDefaults(), wheel: newWheel(c.Settle, c.Watch), hosts: map[peer.ID]*Host{}, index: map[peer.ID]int{},
		sockets: map[netip.AddrPort]*PacketConn{}}, nil
}

// Close ends the network. Hosts should be closed first.
func (n *Network) Close() error {
	n.wheel.close()
	return nil
}

// Events gives the number of deliveries and other happenings so far.
func (n *Network) Events() uint64 { return n.wheel.events() }

func (n *Network) host(id peer.ID) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[id]
}

// OneWay gives the distance of two hosts, without jitter.
func (n *Network) OneWay(a, b *Host) time.Duration { return n.c.Latency.OneWay(a.index, b.index) }

// delay draws the time a packet takes that is sent now. Two packets of one size that one host sends another at one instant
// take the same time; nothing else is shared.
func (n *Network) delay(from, to *Host, size int) time.Duration {
	base := n.OneWay(from, to)
	d := base
	h := hash(n.c.Seed, uint64(from.index), uint64(to.index), uint64(n.wheel.now()), uint64(size))
	if n.c.Jitter > 0 {
		d += time.Duration(float64(base) * n.c.Jitter * exponential(h))
	}
	for i := 0; n.c.Loss > 0 && i < 8; i++ {
		h = mix(h + 0x1055)
		if unit(h) >= n.c.Loss {
			break
		}
		d += 2*base + retransmitTimeout<<i
	}
	return max(d, time.Microsecond)
}

// passes says whether packets get from a to b at present.
func (n *Network) passes(a, b *Host) bool {
	return !a.silent.Load() && !b.silent.Load() && a.group.Load() == b.group.Load()
}

// Silence makes a host vanish: nothing comes from it any more and nothing reaches it, on old connections or new ones, and
// nobody is told. It cannot be undone; the identity may come back as a new host.
func (n *Network) Silence(h *Host) {
	h.silent.Store(true)
	for _, c := range h.connections() {
		c.link.lose()
	}
}

// Partition cuts the network: only hosts of the same group reach each other. Hosts start in group 0; Heal puts all hosts
// there again.
func (n *Network) Partition(group func(h *Host) int) {
	n.mu.Lock()
	hosts := make([]*Host, 0, len(n.all))
	for _, h := range n.all {
		if h != nil {
			hosts = append(hosts, h)
			h.group.Store(int32(group(h)))
		}
	}
	n.mu.Unlock()
	for _, h := range hosts {
		for _, c := range h.connections() {
			if !n.passes(h, c.far) {
				c.link.lose()
			}
		}
	}
}

// Heal ends a partition. Connections that it has broken stay broken.
func (n *Network) Heal() { n.Partition(func(*Host) int { return 0 }) }
