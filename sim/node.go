package sim

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	production "p2psip/cmd/p2psip/node"
	"p2psip/overlay"
	"p2psip/sim/network"
	"p2psip/sim/result"
)

// live is the life of a node: it joins, stays for a session, leaves, comes back.
func (n *node) live(at time.Duration) {
	r := n.r
	// A few microseconds apart, so that no two nodes have their timers at one instant for ever.
	at += time.Duration(1 + n.dice.IntN(int(50*time.Millisecond)))
	for r.sleep(at) {
		gone, err := n.session()
		if err != nil {
			r.fail(err)
			r.stop()
			return
		}
		if gone {
			return
		}
		at = time.Duration(n.dice.ExpFloat64() * float64(r.s.Down))
	}
}

// session is one stay in the overlay. gone says that there will be no other.
func (n *node) session() (gone bool, err error) {
	r := n.r
	p, err := n.up()
	if err != nil {
		return true, err
	}
	n.mu.Lock()
	full := n.full
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	// The part of the life that waits: joined, then users registered once their time has come.
	r.start(func() {
		if p.WaitJoined(ctx) != nil {
			return
		}
		n.arrived()
		n.offer(p)
		if !n.waitForUsers(ctx) {
			return
		}
		for _, u := range n.users {
			if full != nil {
				r.startPhone(ctx, n, full, u)
			} else {
				r.register(ctx, n, p, u, true)
			}
		}
	})
	if n.hostile == falseAdverts {
		r.start(func() { n.plant(ctx) })
	}
	var end <-chan time.Time
	if r.s.Session > 0 && !n.stable {
		t := time.NewTimer(n.sessionLength())
		defer t.Stop()
		end = t.C
	}
	select {
	case <-end:
		silent := n.dice.Float64() < r.s.Silent
		cancel()
		n.down(silent)
		return false, nil
	case <-n.killed:
		cancel()
		n.down(true)
		return true, nil
	case <-r.ctx.Done():
		n.down(true)
		return true, nil
	}
}

func (n *node) sessionLength() time.Duration {
	mean := float64(n.r.s.Session)
	if n.r.s.Churn == HeavyTailed {
		// Pareto with exponent 1.5: the mean is three times the minimum.
		return time.Duration(mean / 3 * math.Pow(1-n.dice.Float64(), -1/1.5))
	}
	return time.Duration(n.dice.ExpFloat64() * mean)
}

// issue gives the node its credential.
func (n *node) issue() error {
	var users []overlay.AOR
	for _, u := range n.users {
		users = append(users, u.aor)
	}
	if len(users) == 0 {
		u, err := n.r.doc.ID.AOR("node" + itoa(n.index))
		if err != nil {
			return err
		}
		users = []overlay.AOR{u}
	}
	var err error
	n.cred, err = n.r.auth.Issue(n.id, users, n.roles(), maxDuration, time.Now())
	return err
}

// up starts the overlay's peer, the production code.
func (n *node) up() (*overlay.Peer, error) {
	r := n.r
	h, err := r.net.AddHost(n.key, n.nat)
	if err != nil {
		return nil, err
	}
	var boot []peer.AddrInfo
	for _, s := range r.nodes[:r.s.Stable] {
		s.mu.Lock()
		if s != n && s.host != nil {
			boot = append(boot, peer.AddrInfo{ID: s.id, Addrs: s.host.Addrs()})
		}
		s.mu.Unlock()
	}
	if len(boot) > 3 {
		n.dice.Shuffle(len(boot), func(i, j int) { boot[i], boot[j] = boot[j], boot[i] })
		boot = boot[:3]
	}
	var p *overlay.Peer
	var full *production.Node
	if r.calls != nil && (len(n.users) > 0 || n.proxy > 0) {
		if full, err = n.startNode(h, boot); err == nil {
			p = full.Overlay()
		}
	} else {
		p, err = overlay.Start(overlay.Config{
			Key: n.key, Document: r.doc, Credential: n.cred, Host: n.wrap(h), Bootstrap: boot,
			Timing: r.s.Timing, Random: rand.NewPCG(r.s.Seed, n.dice.Uint64()),
		})
	}
	if err != nil {
		return nil, err
	}
	if full == nil {
		n.answers(p)
	}
	n.mu.Lock()
	n.host, n.full, n.peer = h, full, p
	n.mu.Unlock()
	r.mu.Lock()
	r.count(+1)
	r.mu.Unlock()
	return p, nil
}

// arrived enters the node among those that others and lookups can use.
func (n *node) arrived() {
	r := n.r
	if n.hostile != "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.peer != nil && n.place < 0 {
		n.place = 0
		at, _ := slices.BinarySearchFunc(r.alive, n, compareNodes)
		r.alive = slices.Insert(r.alive, at, n)
	}
}

// down ends the session.
func (n *node) down(silent bool) {
	r := n.r
	r.mu.Lock()
	r.count(-1)
	if n.place >= 0 {
		if at, ok := slices.BinarySearchFunc(r.alive, n, compareNodes); ok {
			r.alive = slices.Delete(r.alive, at, at+1)
		}
		n.place = -1
	}
	for _, u := range n.users {
		r.unregister(u)
	}
	r.mu.Unlock()
	n.mu.Lock()
	h, full, phones, p := n.host, n.full, n.phones, n.peer
	n.host, n.full, n.phones, n.peer = nil, nil, nil, nil
	for _, u := range n.users {
		u.phone = nil
	}
	n.past = sum(n.past, h.Counts())
	n.mu.Unlock()
	if silent {
		r.net.Silence(h)
	}
	closePhones(phones)
	end := p.Close
	if full != nil {
		end = full.Close
	}
	if err := end(); err != nil && !silent { // a proxy peer cannot withdraw its advertisement any more
		r.fail(err)
	}
}

// counts gives what the node has sent so far, over all its sessions.
func (n *node) counts() network.Counts {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.host == nil {
		return n.past
	}
	return sum(n.past, n.host.Counts())
}

func sum(a, b network.Counts) network.Counts {
	out := network.Counts{Sent: map[protocol.ID]network.Traffic{}, Served: a.Served + b.Served, Dials: a.Dials + b.Dials, Failed: a.Failed + b.Failed}
	for _, c := range []network.Counts{a, b} {
		for p, t := range c.Sent {
			s := out.Sent[p]
			s.Messages += t.Messages
			s.Bytes += t.Bytes
			out.Sent[p] = s
		}
	}
	return out
}

func compareNodes(a, b *node) int { return cmp.Compare(a.index, b.index) }

func compareUsers(a, b *user) int { return cmp.Compare(a.index, b.index) }

// count keeps the number of running nodes and their time. r.mu is held.
func (r *run) count(change int) {
	now := time.Now()
	if !r.measured.IsZero() {
		r.upFor += time.Duration(r.up) * now.Sub(r.upSince)
	}
	r.upSince = now
	r.up += change
}

// waitForUsers waits until users register: a while after the last stretch has begun, another while for each node.
func (n *node) waitForUsers(ctx context.Context) bool {
	r := n.r
	start := r.begin.Add(r.s.joinTime() + r.s.Settle + r.s.hotTime() + r.s.Idle + time.Millisecond)
	wait := time.Until(start)
	if wait > 0 {
		wait += time.Duration(float64(min(publishSpread, r.s.Duration/4)) * float64(n.index) / float64(len(r.nodes)))
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// device is what every user registers.
var device = []overlay.Device{{ID: "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", Q: 1000}}

// register publishes a user and measures it.
func (r *run) register(ctx context.Context, n *node, p *overlay.Peer, u *user, first bool) {
	begin := time.Now()
	c, cancel := context.WithTimeout(ctx, opTimeout)
	err := p.Registrations().Set(c, u.aor, device)
	cancel()
	if ctx.Err() != nil {
		return // the node has gone meanwhile
	}
	m := &measured{Sample: result.Sample{At: begin.Sub(r.measured), Took: time.Since(begin), OK: err == nil}}
	for _, st := range p.Registrations().Status() {
		if st.AOR == u.aor && err == nil {
			m.cost = st.Cost
		}
	}
	r.mu.Lock()
	r.publishes = append(r.publishes, m)
	r.mu.Unlock()
	if !first {
		return
	}
	// A failed publication is tried again by the production code; the user counts from when it has succeeded.
	for err != nil {
		t := time.NewTimer(time.Second)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		if newest(p, u.aor) > 0 {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.peer == p && u.place < 0 {
		r.enter(u)
	}
}

// enter takes a user in among those a caller should find. r.mu is held.
func (r *run) enter(u *user) {
	u.place = 0
	at, _ := slices.BinarySearchFunc(r.registered, u, compareUsers)
	r.registered = slices.Insert(r.registered, at, u)
}

// unregister takes a user out of those a caller should find. r.mu is held.
func (r *run) unregister(u *user) {
	if u.place < 0 {
		return
	}
	if at, ok := slices.BinarySearchFunc(r.registered, u, compareUsers); ok {
		r.registered = slices.Delete(r.registered, at, at+1)
	}
	u.place = -1
}

// newest gives the sequence number of the last confirmed publication of a user, 0 if there is none.
func newest(p *overlay.Peer, a overlay.AOR) uint64 {
	for _, st := range p.Registrations().Status() {
		if st.AOR == a && !st.Published.IsZero() {
			return uint64(st.Published.UnixMilli())
		}
	}
	return 0
}
