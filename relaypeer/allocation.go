package relaypeer

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pion/stun"
	"github.com/pion/turn/v2"

	"p2psip/relaypeer/credential"
	"p2psip/relaypeer/datapath"
)

// Lifetimes that RFC 8656 fixes.
const (
	permissionLifetime = 5 * time.Minute  // §9
	channelLifetime    = 10 * time.Minute // §12
)

// allocation is what is known here of one of pion's, from the moment its address is made until it ends. It is the meter of its
// packets.
type allocation struct {
	g               *gate
	member          *member
	source          string
	client, relayed netip.AddrPort
	made            time.Time
	transaction     [stun.TransactionIDSize]byte // of the request it was made for
	moved           atomic.Int64                 // when data was last relayed, in seconds of the coarse clock

	permissions map[netip.Addr]time.Time // guarded by g.mu: until when
	channels    map[netip.AddrPort]bound // guarded by g.mu: by peer
}

// bound is a channel of an allocation.
type bound struct {
	number uint16
	until  time.Time
}

var _ datapath.Meter = (*allocation)(nil)

// open is asked for every allocation that pion makes.
func (g *gate) open(r datapath.Request) (datapath.Meter, error) {
	_, name, err := credential.ParseUsername(r.Username)
	if err != nil {
		return nil, err
	}
	now := g.s.now()
	a := &allocation{
		g: g, source: sourceName(r.Client), client: r.Client, relayed: r.Relayed, made: now, transaction: g.in.TransactionID,
		permissions: map[netip.Addr]time.Time{}, channels: map[netip.AddrPort]bound{},
	}
	if a.member, err = g.s.members.allocate(name, a.source, now); err != nil {
		return nil, err
	}
	if !g.s.opened(a) {
		g.s.members.release(a.member, a.source)
		return nil, errDraining
	}
	g.mu.Lock()
	g.held5[a.client] = a
	g.mu.Unlock()
	return a, nil
}

// Take implements datapath.Meter.
func (a *allocation) Take(octets int) bool {
	if !a.g.s.members.take(a.member, octets) {
		return false
	}
	if now := a.g.s.coarse.Load(); a.moved.Load() != now {
		a.moved.Store(now)
	}
	return true
}

// Close implements datapath.Meter.
func (a *allocation) Close() {
	g := a.g
	g.mu.Lock()
	if g.held5[a.client] == a {
		delete(g.held5, a.client)
	}
	if len(g.held5) == 0 {
		g.idle = g.s.now()
	}
	g.mu.Unlock()
	g.s.members.release(a.member, a.source)
	g.s.closed(a)
}

// allocation gives that of a client, nil if it has none.
func (g *gate) allocation(client netip.AddrPort) *allocation {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held5[client]
}

// permit counts the addresses that an allocation may send to; false: there would be too many, and none is noted.
func (g *gate) permit(r *request, peers []netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	table := r.alloc.permissions
	for a, until := range table {
		if r.now.After(until) {
			delete(table, a)
		}
	}
	more := map[netip.Addr]bool{}
	for _, a := range peers {
		if _, there := table[a]; !there {
			more[a] = true
		}
	}
	if len(table)+len(more) > g.s.limits.Permissions {
		return false
	}
	for _, a := range peers {
		table[a] = r.now.Add(permissionLifetime)
	}
	return true
}

// channel counts an allocation's channels; a number is one peer's, and a peer has one number (RFC 8656 §12.2).
func (g *gate) channel(r *request, number uint16, peer netip.AddrPort) stun.ErrorCode {
	g.mu.Lock()
	defer g.mu.Unlock()
	table := r.alloc.channels
	for p, b := range table {
		switch {
		case r.now.After(b.until):
			delete(table, p)
		case (p == peer) != (b.number == number):
			return stun.CodeBadRequest
		}
	}
	if _, there := table[peer]; !there && len(table) >= g.s.limits.Permissions {
		return stun.CodeInsufficientCapacity
	}
	table[peer] = bound{number, r.now.Add(channelLifetime)}
	return 0
}

// generator is the datapath's, with even ports for who asks for one (RFC 8656 §7.2).
type generator struct {
	*datapath.Generator
	g *gate
}

var _ turn.RelayAddressGenerator = generator{}

// AllocatePacketConn makes a relayed address.
func (x generator) AllocatePacketConn(network string, port int) (net.PacketConn, net.Addr, error) {
	if !x.g.even {
		c, a, err := x.Generator.AllocatePacketConn(network, port)
		return closing(c, err), a, err
	}
	first, last := int(x.MinPort), int(x.MaxPort)
	if first == 0 {
		first, last = datapath.DefaultMinPort, datapath.DefaultMaxPort
	}
	for range 64 {
		port := (first + rand.IntN(last-first+1)) &^ 1
		if port < first {
			continue
		}
		c, a, err := x.Generator.AllocatePacketConn(network, port)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		return closing(c, err), a, err
	}
	return nil, nil, datapath.ErrNoPort
}

// closes has no error when it is closed: after the first one, pion would leave other allocations open.
type closes struct{ net.PacketConn }

func closing(c net.PacketConn, err error) net.PacketConn {
	if err != nil {
		return nil
	}
	return closes{c}
}

func (c closes) Close() error {
	_ = c.PacketConn.Close()
	return nil
}
