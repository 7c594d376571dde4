package network

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
)

// link is what the two ends of a connection share.
type link struct {
	ends [2]*conn
	lost atomic.Bool // nothing gets through any more; each end finds out by itself
}

// conn is one end of a connection.
type conn struct {
	host, far *Host
	link      *link
	twin      *conn
	dir       network.Direction
	opened    int64 // on the wheel's clock

	mu         sync.Mutex
	streams    []*stream     // guarded by mu
	identified bool          // guarded by mu
	down       bool          // guarded by mu
	changed    chan struct{} // guarded by mu: made when somebody waits; closed when one of the two above has become true
}

var _ network.Conn = (*conn)(nil)

func newLink(from, to *Host) (near, far *conn) {
	l := &link{}
	now := from.net.wheel.now()
	end := func(h, far *Host, d network.Direction) *conn {
		return &conn{host: h, far: far, link: l, dir: d, opened: now}
	}
	near, far = end(from, to, network.DirOutbound), end(to, from, network.DirInbound)
	near.twin, far.twin = far, near
	l.ends = [2]*conn{near, far}
	return near, far
}

func compareConns(a, b *conn) int {
	return cmp.Or(cmp.Compare(a.opened, b.opened), strings.Compare(string(a.far.id), string(b.far.id)), cmp.Compare(a.dir, b.dir))
}

// up enters the end into its host's table and tells who wants to know.
func (c *conn) up() bool {
	h := c.host
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return false
	}
	c.opened = h.net.wheel.now()
	list := h.conns[c.far.id]
	h.conns[c.far.id] = append(list, c)
	h.total++
	trim := h.total > h.net.c.ConnHigh
	notifiees := h.notifiees
	h.mu.Unlock()
	h.store.connected(c.far.id, c.far.addrs)
	if len(list) == 0 {
		h.bus.emit(event.EvtPeerConnectednessChanged{Peer: c.far.id, Connectedness: network.Connected})
	}
	for _, f := range notifiees {
		f.Connected(swarm{h}, c)
	}
	if trim {
		h.tags.trim()
	}
	return true
}

// identify asks the far side for its addresses and protocols, which takes a round trip.
func (c *conn) identify() {
	n := c.host.net
	trip := n.delay(c.host, c.far, 100) + n.delay(c.far, c.host, 700)
	c.after(trip, func() {
		if c.closed() || c.link.lost.Load() || !n.passes(c.host, c.far) {
			return // the idle time-out will end it
		}
		protos := c.far.mux.Protocols()
		c.host.store.SetProtocols(c.far.id, protos...)
		c.mu.Lock()
		c.identified = true
		c.tell()
		c.mu.Unlock()
		c.host.bus.emit(event.EvtPeerIdentificationCompleted{Peer: c.far.id, Conn: c, ListenAddrs: c.far.addrs, Protocols: protos})
	})
}

func (c *conn) waitIdentified(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.identified {
			c.mu.Unlock()
			return nil
		}
		changed := c.changing()
		c.mu.Unlock()
		if changed == nil {
			return network.ErrReset
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// changing gives a channel that is closed when the connection is identified or down, if that is still to come; nil if it is
// down. c.mu is held.
func (c *conn) changing() <-chan struct{} {
	if c.down {
		return nil
	}
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// tell wakes those who wait for a change. c.mu is held.
func (c *conn) tell() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// key orders this connection's events among those of one instant.
func (c *conn) key() uint64 { return uint64(c.host.index)<<32 | uint64(c.far.index) }

// tag tells this connection from others between the same hosts; see happening.
func (c *conn) tag() uint64 { return mix(uint64(c.opened)<<2 | uint64(c.dir)) }

// after has something done that concerns this end alone.
func (c *conn) after(d time.Duration, do func()) {
	w := c.host.net.wheel
	w.at(happening{at: w.now() + int64(d), key: c.key(), tag: c.tag, do: do})
}

// packet is something on its way from one end of a connection to the other.
type packet struct {
	c    *conn
	size func() int    // bytes; asked when it leaves
	last *atomic.Int64 // when the one before it on the same stream arrives; nil: its order does not matter
	tag  func() uint64 // see happening
	do   func()        // at the far side
}

// send lets do happen at the far side when a packet has got there. bytes are counted with the overhead.
func (c *conn) send(p protocol.ID, bytes int, do func()) {
	c.host.count.add(p, 0, bytes+c.host.net.c.Overhead)
	c.carry(packet{c: c, size: func() int { return bytes }, tag: c.tag, do: do})
}

// carry takes a packet to the far side. Where the uplink is narrow, packets of one instant leave in an order that does not
// depend on that of the goroutines which sent them.
func (c *conn) carry(p packet) {
	w := c.host.net.wheel
	if c.host.net.c.Bandwidth == 0 {
		p.leave()
		return
	}
	w.at(happening{at: w.now(), key: c.key(), tag: p.tag, do: p.leave})
}

func (p packet) leave() {
	c := p.c
	n, size := c.host.net, p.size()
	at := n.wheel.now() + int64(n.delay(c.host, c.far, size)) + int64(c.host.queue(size+n.c.Overhead))
	if p.last != nil {
		at = max(at, p.last.Load()+1)
		p.last.Store(at)
	}
	if c.link.lost.Load() {
		return
	}
	n.wheel.at(happening{at: at, key: c.key(), tag: p.tag, do: func() {
		if c.link.lost.Load() {
			return
		}
		if !n.passes(c.host, c.far) {
			c.link.lose()
			return
		}
		if !c.twin.closed() {
			p.do()
		}
	}})
}

// queue gives the time bytes wait for the host's uplink and take on it.
func (h *Host) queue(bytes int) time.Duration {
	if h.net.c.Bandwidth == 0 {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.net.wheel.now()
	h.uplink = max(h.uplink, now) + int64(bytes)*int64(time.Second)/int64(h.net.c.Bandwidth)
	return time.Duration(h.uplink - now)
}

// lose makes nothing get through any more. Each end gives the connection up when nothing has come for the idle time-out,
// at the latest; how much of that has passed is chance.
func (l *link) lose() {
	if l.lost.Swap(true) {
		return
	}
	for _, c := range l.ends {
		n := c.host.net
		h := hash(n.c.Seed, 0x1d1e, c.key(), c.tag(), uint64(n.wheel.now()))
		c.after(time.Duration(float64(n.c.IdleTimeout)*(0.5+0.5*unit(h))), func() { c.shut() })
	}
}

// close ends the connection; the far side learns of it.
func (c *conn) close() {
	if c.shut() {
		c.send(Transport, 0, func() { c.twin.shut() })
	}
}

// shut takes this end down.
func (c *conn) shut() bool {
	c.mu.Lock()
	if c.down {
		c.mu.Unlock()
		return false
	}
	c.down = true
	streams := c.streams
	c.streams = nil
	c.tell()
	c.mu.Unlock()
	for _, s := range streams {
		s.broken()
	}
	h := c.host
	h.mu.Lock()
	list := h.conns[c.far.id]
	was := len(list)
	for i, e := range list {
		if e == c {
			list = append(append([]*conn(nil), list[:i]...), list[i+1:]...)
			break
		}
	}
	entered := len(list) < was
	if entered {
		h.total--
		h.count.mu.Lock()
		h.count.openFor += time.Duration(h.net.wheel.now() - c.opened)
		h.count.mu.Unlock()
		if len(list) == 0 {
			delete(h.conns, c.far.id)
		} else {
			h.conns[c.far.id] = list
		}
	}
	notifiees, closed := h.notifiees, h.closed
	h.mu.Unlock()
	if !entered || closed {
		return true
	}
	if len(list) == 0 {
		h.store.disconnected(c.far.id)
		h.bus.emit(event.EvtPeerConnectednessChanged{Peer: c.far.id, Connectedness: network.NotConnected})
	}
	for _, f := range notifiees {
		f.Disconnected(swarm{h}, c)
	}
	return true
}

func (c *conn) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.down
}

// open makes a stream. The far side sees it with the first bytes.
func (c *conn) open(p protocol.ID) (*stream, error) {
	near, far := newStreams(c, p)
	for _, s := range []*stream{near, far} {
		if !s.conn.enter(s) {
			return nil, network.ErrReset
		}
	}
	return near, nil
}

// enter notes a stream, so that it ends with the connection. The far end may not be up yet.
func (c *conn) enter(s *stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return s.far // a stream to an end that is gone just stays without answer
	}
	c.streams = append(c.streams, s)
	return true
}

func (c *conn) leave(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.streams, s); i >= 0 {
		last := len(c.streams) - 1
		c.streams[i], c.streams[last] = c.streams[last], nil
		c.streams = c.streams[:last]
	}
}

// Close is part of network.Conn.
func (c *conn) Close() error { c.close(); return nil }

// CloseWithError is part of network.Conn.
func (c *conn) CloseWithError(network.ConnErrorCode) error { c.close(); return nil }

// ID is part of network.Conn.
func (c *conn) ID() string {
	return strconv.Itoa(c.host.index) + "-" + strconv.Itoa(c.far.index) + "-" + strconv.FormatInt(c.opened, 36)
}

// NewStream is part of network.Conn.
func (c *conn) NewStream(context.Context) (network.Stream, error) { return c.open("") }

// GetStreams is part of network.Conn.
func (c *conn) GetStreams() []network.Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []network.Stream
	for _, s := range c.streams {
		out = append(out, s)
	}
	return out
}

// IsClosed is part of network.Conn.
func (c *conn) IsClosed() bool { return c.closed() }

// As is part of network.Conn.
func (c *conn) As(any) bool { return false }

// LocalPeer is part of network.Conn.
func (c *conn) LocalPeer() peer.ID { return c.host.id }

// RemotePeer is part of network.Conn.
func (c *conn) RemotePeer() peer.ID { return c.far.id }

// RemotePublicKey is part of network.Conn.
func (c *conn) RemotePublicKey() crypto.PubKey { return c.far.key }

// ConnState is part of network.Conn.
func (c *conn) ConnState() network.ConnectionState {
	return network.ConnectionState{Transport: "simulated"}
}

// LocalMultiaddr is part of network.Conn.
func (c *conn) LocalMultiaddr() multiaddr.Multiaddr { return c.host.addrs[0] }

// RemoteMultiaddr is part of network.Conn.
func (c *conn) RemoteMultiaddr() multiaddr.Multiaddr { return c.far.addrs[0] }

// Stat is part of network.Conn.
func (c *conn) Stat() network.ConnStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return network.ConnStats{Stats: network.Stats{Direction: c.dir, Opened: c.host.net.wheel.start.Add(time.Duration(c.opened))}, NumStreams: len(c.streams)}
}

// Scope is part of network.Conn.
func (c *conn) Scope() network.ConnScope { return &network.NullScope{} }
