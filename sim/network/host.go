package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
)

// Errors of a dial.
var (
	ErrNoAddress = errors.New("no address of the peer is known")
	ErrRefused   = errors.New("connection refused")
	ErrTimeout   = errors.New("nobody answered")
	ErrBackoff   = errors.New("it failed a moment ago")
	ErrClosed    = errors.New("the host is closed")
)

// libp2p's pauses between attempts to reach a peer (swarm.BackoffBase, BackoffCoef, BackoffMax).
const (
	backoffBase = 5 * time.Second
	backoffCoef = time.Second
	backoffMax  = 5 * time.Minute
)

// Host is a libp2p host without sockets. See the package comment for what it does and does not do.
type Host struct {
	net   *Network
	index int
	id    peer.ID
	key   crypto.PubKey
	addrs []multiaddr.Multiaddr
	nat   NAT

	store *Peerstore
	bus   *bus
	tags  *connManager
	mux   *mux
	count counter

	silent atomic.Bool
	group  atomic.Int32

	mu        sync.Mutex
	closed    bool                 // guarded by mu
	conns     map[peer.ID][]*conn  // guarded by mu: newest last
	total     int                  // guarded by mu: connections
	dials     map[peer.ID]*dial    // guarded by mu: under way
	backoff   map[peer.ID]*backoff // guarded by mu
	notifiees []network.Notifiee   // guarded by mu
	uplink    int64                // guarded by mu: when what was sent so far has left
	wg        sync.WaitGroup       // handlers
}

var _ host.Host = (*Host)(nil)

type backoff struct {
	tries int
	until int64
}

// AddHost puts a host with the given key into the network. An identity that was there before must have been closed or
// silenced; it gets its old place and address again.
func (n *Network) AddHost(key crypto.PrivKey, nat NAT) (*Host, error) {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.hosts[id]; old != nil && !old.silent.Load() {
		return nil, fmt.Errorf("host %s is there already", id)
	}
	i, known := n.index[id]
	if !known {
		i = n.next
		n.next++
		n.index[id] = i
		n.all = append(n.all, nil)
	}
	addr, err := address(i)
	if err != nil {
		return nil, err
	}
	h := &Host{
		net: n, index: i, id: id, key: key.GetPublic(), addrs: []multiaddr.Multiaddr{addr}, nat: nat,
		conns: map[peer.ID][]*conn{}, dials: map[peer.ID]*dial{}, backoff: map[peer.ID]*backoff{},
	}
	h.store = newPeerstore(n)
	h.bus = &bus{h: h}
	h.tags = &connManager{h: h}
	h.mux = &mux{}
	n.hosts[id], n.all[i] = h, h
	return h, nil
}

// address gives host i its place in 10.0.0.0/8.
func address(i int) (multiaddr.Multiaddr, error) {
	return multiaddr.NewMultiaddr("/ip4/" + hostIP(i).String() + "/udp/5080/quic-v1")
}

func hostIP(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24+uint32(i)+1)
	return netip.AddrFrom4(b)
}

// Silent says whether the host has vanished.
func (h *Host) Silent() bool { return h.silent.Load() }

// Index gives the host's number, by which Latency knows it.
func (h *Host) Index() int { return h.index }

// Counts gives what the host has sent so far.
func (h *Host) Counts() Counts {
	c := h.count.get()
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.net.wheel.now()
	open := h.count.openFor
	for _, list := range h.conns {
		for _, e := range list {
			open += time.Duration(now - e.opened)
		}
	}
	packets := int(open / h.net.c.KeepAlive)
	t := c.Sent[Transport]
	t.add(0, packets*keepAliveBytes)
	c.Sent[Transport] = t
	return c
}

// Connections gives the number of connections.
func (h *Host) Connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// ID is part of host.Host.
func (h *Host) ID() peer.ID { return h.id }

// Peerstore is part of host.Host.
func (h *Host) Peerstore() peerstore.Peerstore { return h.store }

// Addrs is part of host.Host.
func (h *Host) Addrs() []multiaddr.Multiaddr { return slices.Clone(h.addrs) }

// Network is part of host.Host.
func (h *Host) Network() network.Network { return swarm{h} }

// Mux is part of host.Host.
func (h *Host) Mux() protocol.Switch { return h.mux }

// ConnManager is part of host.Host.
func (h *Host) ConnManager() connmgr.ConnManager { return h.tags }

// EventBus is part of host.Host.
func (h *Host) EventBus() event.Bus { return h.bus }

// SetStreamHandler is part of host.Host.
func (h *Host) SetStreamHandler(p protocol.ID, f network.StreamHandler) { h.mux.set(p, nil, f) }

// SetStreamHandlerMatch is part of host.Host.
func (h *Host) SetStreamHandlerMatch(p protocol.ID, match func(protocol.ID) bool, f network.StreamHandler) {
	h.mux.set(p, match, f)
}

// RemoveStreamHandler is part of host.Host.
func (h *Host) RemoveStreamHandler(p protocol.ID) { h.mux.remove(p) }

// Connect is part of host.Host: it returns when the far side is connected and identified.
func (h *Host) Connect(ctx context.Context, ai peer.AddrInfo) error {
	h.store.AddAddrs(ai.ID, ai.Addrs, peerstore.TempAddrTTL)
	c, err := h.dial(ctx, ai.ID)
	if err != nil {
		return fmt.Errorf("failed to dial %s: %w", ai.ID, err)
	}
	return c.waitIdentified(ctx)
}

// NewStream is part of host.Host. A protocol that identification has told of, or an earlier stream, costs no time.
func (h *Host) NewStream(ctx context.Context, p peer.ID, protos ...protocol.ID) (network.Stream, error) {
	c, err := h.dial(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("failed to dial %s: %w", p, err)
	}
	if err := c.waitIdentified(ctx); err != nil {
		return nil, err
	}
	if known, _ := h.store.FirstSupportedProtocol(p, protos...); known != "" {
		return c.open(known)
	}
	c.mu.Lock()
	down := c.changing()
	c.mu.Unlock()
	if down == nil {
		return nil, network.ErrReset
	}
	// Asking takes a round trip.
	answer := make(chan protocol.ID, 1)
	c.send(Transport, 50, func() {
		var found protocol.ID
		for _, proto := range protos {
			if c.far.mux.handler(proto) != nil {
				found = proto
				break
			}
		}
		c.twin.send(Transport, 50, func() { answer <- found })
	})
	select {
	case found := <-answer:
		if found == "" {
			return nil, fmt.Errorf("peer %s speaks none of %v", p, protos)
		}
		h.store.AddProtocols(p, found)
		return c.open(found)
	case <-ctx.Done():
		return nil, fmt.Errorf("negotiating a protocol: %w", ctx.Err())
	case <-down:
		return nil, network.ErrReset
	}
}

// Close is part of host.Host. The far sides learn of it.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	dials := make([]*dial, 0, len(h.dials))
	for _, d := range h.dials {
		dials = append(dials, d)
	}
	h.mu.Unlock()
	for _, d := range dials {
		d.finish(nil, ErrClosed)
	}
	h.net.mu.Lock()
	if h.net.hosts[h.id] == h {
		delete(h.net.hosts, h.id)
		h.net.all[h.index] = nil
	}
	h.net.mu.Unlock()
	for _, c := range h.connections() {
		c.close()
	}
	h.wg.Wait()
	h.bus.close()
	return nil
}

// connections gives all connections, in an order that does not depend on chance.
func (h *Host) connections() []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*conn, 0, h.total)
	for _, list := range h.conns {
		out = append(out, list...)
	}
	slices.SortFunc(out, compareConns)
	return out
}

// start runs f in a goroutine that Close waits for.
func (h *Host) start(f func()) bool {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return false
	}
	h.wg.Add(1)
	h.mu.Unlock()
	go func() {
		defer h.wg.Done()
		f()
	}()
	return true
}
