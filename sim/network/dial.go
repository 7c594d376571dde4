package network

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// dial is one attempt to connect to a peer; all who want to reach it wait for the same one.
type dial struct {
	h  *Host
	to peer.ID

	mu      sync.Mutex
	waiting int   // guarded by mu; with nobody left the attempt is given up
	over    bool  // guarded by mu
	c       *conn // set before done is closed
	err     error // set before done is closed
	done    chan struct{}
}

func (d *dial) finish(c *conn, err error) {
	d.h.mu.Lock()
	if d.h.dials[d.to] == d {
		delete(d.h.dials, d.to)
	}
	d.h.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return
	}
	d.over, d.c, d.err = true, c, err
	close(d.done)
}

// wanted says whether anybody still waits.
func (d *dial) wanted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting > 0 && !d.over
}

// leave is called by one who no longer waits.
func (d *dial) leave() {
	d.mu.Lock()
	d.waiting--
	last := d.waiting == 0 && !d.over
	d.mu.Unlock()
	if last {
		d.finish(nil, context.Canceled)
	}
}

// dial gives a connection to p, the one there is or a new one. It takes a moment to find out that there will be none, and
// not the same one for any two peers: so what follows from that happens at instants of their own.
func (h *Host) dial(ctx context.Context, p peer.ID) (*conn, error) {
	c, err := h.reach(ctx, p)
	if errors.Is(err, ErrBackoff) || errors.Is(err, ErrNoAddress) {
		time.Sleep(time.Microsecond + time.Duration(hashString(string(p))%uint64(time.Microsecond)))
	}
	return c, err
}

func (h *Host) reach(ctx context.Context, p peer.ID) (*conn, error) {
	if p == h.id {
		return nil, network.ErrNoConn
	}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, ErrClosed
	}
	if list := h.conns[p]; len(list) > 0 {
		h.mu.Unlock()
		return list[len(list)-1], nil
	}
	if no, _ := network.GetNoDial(ctx); no {
		h.mu.Unlock()
		return nil, network.ErrNoConn
	}
	d := h.dials[p]
	if d != nil && d.join() {
		h.mu.Unlock()
		return d.wait(ctx)
	}
	if b := h.backoff[p]; b != nil && h.net.wheel.now() < b.until {
		h.mu.Unlock()
		return nil, ErrBackoff
	}
	addrs := h.store.Addrs(p)
	if len(addrs) == 0 {
		h.mu.Unlock()
		return nil, ErrNoAddress
	}
	d = &dial{h: h, to: p, waiting: 1, done: make(chan struct{})}
	h.dials[p] = d
	h.mu.Unlock()
	h.count.mu.Lock()
	h.count.dials++
	h.count.mu.Unlock()
	d.begin(addrs)
	return d.wait(ctx)
}

// join adds one who waits, unless it is over.
func (d *dial) join() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return false
	}
	d.waiting++
	return true
}

func (d *dial) wait(ctx context.Context) (*conn, error) {
	select {
	case <-d.done:
		if d.c == nil {
			return nil, d.err
		}
		return d.c, nil
	case <-ctx.Done():
		d.leave()
		return nil, ctx.Err()
	}
}

// begin sends the first packet.
func (d *dial) begin(addrs []multiaddr.Multiaddr) {
	h, n := d.h, d.h.net
	to := n.host(d.to)
	place, known := n.place(d.to)
	if !known {
		place = int(hashString(string(d.to)) >> 32)
	}
	key := uint64(h.index)<<32 | uint64(place)
	n.note("dials", h, place)
	if to == nil || !slices.ContainsFunc(addrs, to.addrs[0].Equal) {
		// Nobody of that name there; a machine that is up says so.
		if known {
			n.wheel.after(2*n.c.Latency.OneWay(h.index, place), key, func() { d.fail(ErrRefused) })
		} else {
			n.wheel.after(n.c.DialTimeout, key, func() { d.fail(ErrTimeout) })
		}
		return
	}
	h.count.add(Transport, 0, n.c.HandshakeBytes)
	if !n.passes(h, to) || !to.dialable(h) {
		n.wheel.after(n.c.DialTimeout, key, func() { d.fail(ErrTimeout) })
		return
	}
	there := n.delay(h, to, 1200)
	back := n.delay(to, h, 1200)
	trips := there + back
	for i := 1; i < n.c.HandshakeTrips; i++ {
		trips += n.OneWay(h, to) * 2
	}
	if trips > n.c.DialTimeout {
		n.wheel.after(n.c.DialTimeout, key, func() { d.fail(ErrTimeout) })
		return
	}
	n.wheel.after(trips, key, func() { d.established(to, key) })
}

// place gives the index an identity has or had.
func (n *Network) place(p peer.ID) (int, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i, ok := n.index[p]
	return i, ok
}

func (d *dial) fail(err error) {
	h := d.h
	h.mu.Lock()
	b := h.backoff[d.to]
	if b == nil {
		b = &backoff{}
		h.backoff[d.to] = b
	}
	wait := min(backoffBase+backoffCoef*time.Duration(b.tries*b.tries), backoffMax)
	b.tries++
	b.until = h.net.wheel.now() + int64(wait)
	h.mu.Unlock()
	h.count.mu.Lock()
	h.count.failed++
	h.count.mu.Unlock()
	d.finish(nil, err)
}

// established ends the handshake on the dialling side; the other side follows half a round trip later, both identify each
// other for one more.
func (d *dial) established(to *Host, key uint64) {
	h, n := d.h, d.h.net
	if !d.wanted() {
		d.finish(nil, context.Canceled)
		return
	}
	to.mu.Lock()
	gone := to.closed
	to.mu.Unlock()
	if gone {
		d.fail(ErrRefused)
		return
	}
	if !n.passes(h, to) {
		d.fail(ErrTimeout)
		return
	}
	near, far := newLink(h, to)
	if !near.up() {
		d.finish(nil, ErrClosed)
		return
	}
	h.mu.Lock()
	delete(h.backoff, d.to)
	h.mu.Unlock()
	n.wheel.after(n.delay(h, to, 100), key, func() {
		if near.closed() || near.link.lost.Load() || !n.passes(h, to) {
			near.link.lose()
			return
		}
		to.count.add(Transport, 0, n.c.HandshakeBytes)
		if !far.up() {
			near.close()
			return
		}
		far.identify()
	})
	near.identify()
	d.finish(near, nil)
}

// ForgiveDial makes the host forget that a peer could not be reached, as swarm's Backoff().Clear does.
func (s swarm) ForgiveDial(p peer.ID) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	delete(s.h.backoff, p)
}
