package overlay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
)

// Bounds on the upkeep.
const (
	maxLost = 128
	// checkSoon is until a neighbour whose connection has gone is asked for a sign of life. If it gives one it has too many
	// connections and will drop ours again: the next time is checkAgain, and doubles up to checkLatest.
	checkSoon   = 10 * time.Second
	checkAgain  = 5 * time.Minute
	checkLatest = 30 * time.Minute
	// unrest is the share of the table that must have failed since the last look for the next one to come soon.
	unrest = 4 // one in so many
	// What the connections to nodes of the table are worth when there are too many; others are worth nothing.
	connTag    = "table"
	connNeeded = 20
	connSpare  = 10 // one of a far bucket that has enough others
)

// upkeep keeps the routing table true, in place of kad-dht's refresh, which walks to exhaustion for each bucket whether
// anything has changed or not.
//
// The connection is the proof of life: libp2p finds out within half a minute that the other side of one is gone, and keeping
// one for a quarter of an hour costs less than making one. So a node in the table is one that is connected. One of the k
// nearest that is not connected any more is asked for a sign of life; one of a far bucket leaves the table, and another is looked for if the bucket
// has become thin (acquaint.go). Who is new nearby a question to one neighbour every few minutes tells.
//
// A node comes into the table by answering, or by asking: every member is a server, and libp2p has proven its name. A full
// bucket stays as it is: nodes that have been there for long are those that will be there for long.
type upkeep struct {
	o      *Peer
	rt     *kb.RoutingTable
	self   kb.ID
	random *dice
	near   atomic.Int64  // the bucket of the k-th nearest neighbour: those before it are far
	wake   chan struct{} // capacity 1

	mu        sync.Mutex
	checks    map[NodeID]*check // guarded by mu: neighbours that are to show a sign of life
	thin      time.Time         // guarded by mu: when to look for more nodes for a far bucket, zero: not
	lost      []peer.AddrInfo   // guarded by mu: nodes that left the table, the latest last
	failures  int               // guarded by mu: nodes that left it since the last look because they did not answer
	newcomers []NodeID          // guarded by mu: nodes that have come in nearby, for handOver
}

// check is a question for a sign of life to come.
type check struct {
	at   time.Time // zero: none is due, the entry remembers wait
	wait time.Duration
}

func newUpkeep(o *Peer) *upkeep {
	u := &upkeep{
		o: o, rt: o.dht.RoutingTable(), self: kb.ConvertPeerID(o.host.ID()), random: o.random.of("upkeep"),
		wake: make(chan struct{}, 1), checks: map[NodeID]*check{},
	}
	// kad-dht would protect the connections to the two farthest buckets and give all others the same little value, so that a
	// node with too many drops its nearest neighbours first.
	u.rt.PeerAdded = func(NodeID) {} // see heard
	u.rt.PeerRemoved = func(p NodeID) { o.host.ConnManager().UntagPeer(p, connTag) }
	o.host.Network().Notify(&network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) {
		u.disconnected(c.RemotePeer())
	}})
	return u
}

func (u *upkeep) connected(p NodeID) bool {
	return u.o.host.Network().Connectedness(p) == network.Connected
}

// bucket gives the bucket a node belongs to: how many bits its place in the key space has in common with ours.
func (u *upkeep) bucket(p NodeID) int { return kb.CommonPrefixLen(u.self, kb.ConvertPeerID(p)) }

// isNear says whether a node is one of the k nearest neighbours.
func (u *upkeep) isNear(p NodeID) bool {
	return slices.Contains(u.rt.NearestPeers(u.self, u.o.doc.DHT.BucketSize), p)
}

func (u *upkeep) far(bucket int) bool { return bucket < int(u.near.Load()) }

// heard is called when a node has answered or asked: it is alive, and known to speak the overlay's protocol.
func (u *upkeep) heard(p NodeID) {
	added, err := u.rt.TryAddPeer(p, true, false)
	if err != nil {
		return // its bucket is full
	}
	if !added {
		u.rt.UpdateLastSuccessfulOutboundQueryAt(p, time.Now())
		return
	}
	u.o.join.lookAgain()
	b := u.bucket(p)
	value := connNeeded
	if u.rt.NPeersForCpl(uint(b)) > fillTo && !u.isNear(p) {
		value = connSpare
	}
	u.o.host.ConnManager().TagPeer(p, connTag, value)
	if !u.far(b) {
		u.mu.Lock()
		u.newcomers = append(u.newcomers[max(0, len(u.newcomers)-maxNewcomers+1):], p)
		u.mu.Unlock()
		u.wakeUp()
	}
}

// failed is called when a node has not answered.
func (u *upkeep) failed(p NodeID) {
	u.o.suspects.add(p, u.o.now())
	if u.connected(p) || u.rt.Find(p) == "" {
		return
	}
	u.drop(p)
	u.mu.Lock()
	u.failures++
	u.mu.Unlock()
}

// drop takes a node out of the table and remembers it among the lost.
func (u *upkeep) drop(p NodeID) {
	ai := u.o.host.Peerstore().PeerInfo(p)
	ai.Addrs = boundAddrs(ai.Addrs)
	u.rt.RemovePeer(p)
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.checks, p)
	if len(ai.Addrs) == 0 {
		return
	}
	u.lost = slices.DeleteFunc(u.lost, func(old peer.AddrInfo) bool { return old.ID == p })
	if len(u.lost) >= maxLost {
		u.lost = slices.Delete(u.lost, 0, 1)
	}
	u.lost = append(u.lost, ai)
}

// disconnected is called by libp2p when a connection has ended.
func (u *upkeep) disconnected(p NodeID) {
	if u.o.ctx.Err() != nil || u.connected(p) || u.rt.Find(p) == "" {
		return
	}
	now := time.Now()
	if b := u.bucket(p); !u.isNear(p) && u.connectedIn(b) > 0 {
		u.drop(p)
		if u.rt.NPeersForCpl(uint(b)) >= thinBelow {
			return
		}
		u.mu.Lock()
		if u.thin.IsZero() {
			u.thin = now.Add(checkSoon)
		}
		u.mu.Unlock()
	} else {
		u.mu.Lock()
		c := u.checks[p]
		if c == nil {
			c = &check{wait: checkSoon}
			u.checks[p] = c
		}
		c.at = now.Add(c.wait)
		c.wait = min(max(2*c.wait, checkAgain), checkLatest)
		u.mu.Unlock()
	}
	u.wakeUp()
}

func (u *upkeep) wakeUp() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// connectedIn counts the connected nodes of a bucket.
func (u *upkeep) connectedIn(bucket int) int {
	n := 0
	for _, p := range u.rt.ListPeers() {
		if u.bucket(p) == bucket && u.connected(p) {
			n++
		}
	}
	return n
}

// run looks after the table until the node closes.
func (u *upkeep) run() {
	ctx := u.o.ctx
	look := time.Now().Add(u.random.jitter(u.o.timing.Upkeep))
	for quiet := 0; ; {
		t := time.NewTimer(max(0, time.Until(u.nextCheck(look))))
		select {
		case <-t.C:
		case <-u.wake:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
		u.handOver(ctx)
		u.checkDue(ctx)
		if time.Now().Before(look) {
			continue
		}
		u.look(ctx)
		if quiet++; u.shaken() {
			quiet = 0
		}
		if quiet%2 == 0 {
			u.findLost(ctx)
		}
		next := u.o.timing.Upkeep
		if quiet < 5 {
			next /= 5
		}
		look = time.Now().Add(u.random.jitter(next))
	}
}

// shaken says whether much of the table has failed since it was last asked, as when the network has fallen apart.
func (u *upkeep) shaken() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.failures
	u.failures = 0
	return n*unrest >= u.rt.Size()
}

// nextCheck gives the time of the first thing to do.
func (u *upkeep) nextCheck(at time.Time) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.thin.IsZero() && u.thin.Before(at) {
		at = u.thin
	}
	for p, c := range u.checks {
		switch {
		case u.rt.Find(p) == "":
			delete(u.checks, p) // it has left the table by another way
		case !c.at.IsZero() && c.at.Before(at):
			at = c.at
		}
	}
	return at
}

// checkDue asks the neighbours whose time has come for a sign of life, and fills buckets that have become thin.
func (u *upkeep) checkDue(ctx context.Context) {
	var due []NodeID
	now := time.Now()
	u.mu.Lock()
	for p, c := range u.checks {
		if !c.at.IsZero() && !now.Before(c.at) {
			c.at = time.Time{}
			due = append(due, p)
		}
	}
	fill := !u.thin.IsZero() && !now.Before(u.thin)
	if fill {
		u.thin = time.Time{}
	}
	u.mu.Unlock()
	slices.Sort(due)
	var wg sync.WaitGroup
	for _, p := range due {
		if !u.connected(p) && u.rt.Find(p) != "" {
			u.o.forgiveDial(p)
			wg.Go(func() { u.ask(ctx, p, string(u.o.host.ID())) })
		}
	}
	wg.Wait()
	gone := len(slices.DeleteFunc(due, func(p NodeID) bool { return u.rt.Find(p) != "" }))
	if gone > u.o.doc.DHT.BucketSize/unrest {
		u.walkHome(ctx)
	} else if gone > 0 {
		u.look(ctx) // for those who are among the nearest instead
	}
	if fill {
		u.fill(ctx, thinBelow)
	}
}

// ask asks one node about a key, notes whether it lives and gives the nodes it names, with their addresses noted.
func (u *upkeep) ask(ctx context.Context, p NodeID, key string) []*peer.AddrInfo {
	closer, err := u.o.messenger.GetClosestPeers(ctx, p, peer.ID(key))
	if err != nil {
		if ctx.Err() == nil {
			u.failed(p)
		}
		return nil
	}
	u.o.suspects.remove(p)
	u.heard(p)
	return u.o.learn(closer)
}

// learn notes the addresses of the nodes an answer named and gives those that are worth asking.
func (o *Peer) learn(named []*peer.AddrInfo) []*peer.AddrInfo {
	named = named[:min(len(named), 2*o.doc.DHT.BucketSize)]
	out := named[:0:0]
	for _, ai := range named {
		if ai.ID.Validate() != nil || len(ai.Addrs) == 0 || ai.ID == o.host.ID() {
			continue
		}
		if o.host.Network().Connectedness(ai.ID) != network.Connected {
			o.host.Peerstore().AddAddrs(ai.ID, boundAddrs(ai.Addrs), peerstore.TempAddrTTL)
		}
		out = append(out, ai)
	}
	return out
}

// nearer gives those of the nodes named that are nearer than the k-th nearest neighbour and not in the table.
func (u *upkeep) nearer(named []*peer.AddrInfo) []NodeID {
	k := u.o.doc.DHT.BucketSize
	self := sha256.Sum256([]byte(u.o.host.ID()))
	nearest := u.rt.NearestPeers(u.self, k)
	var out []NodeID
	for _, ai := range named {
		if u.rt.Find(ai.ID) != "" || u.o.suspects.has(ai.ID, u.o.now()) {
			continue
		}
		if len(nearest) >= k {
			d, last := kadDistance(self, ai.ID), kadDistance(self, nearest[len(nearest)-1])
			if bytes.Compare(d[:], last[:]) >= 0 {
				continue
			}
		}
		out = append(out, ai.ID)
	}
	return out
}
