package overlay

import (
	"context"
	"crypto/sha256"
	"slices"
	"strconv"
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
	// fillTo is how many nodes of a far bucket are looked for. Those that found us in the same way come on top, about as
	// many, so a bucket has room for both, and most neighbours know each other: neither side then drops the connection.
	fillTo = 6
	// fillExtra is how many more questions than needed filling a bucket may take.
	fillExtra = 3
	maxLost   = 128
	// checkSoon is until a node is asked for a sign of life after its connection has gone; it doubles each time that
	// happens to the same node.
	checkSoon   = 10 * time.Second
	checkLatest = 30 * time.Minute
)

// upkeep keeps the routing table true, in place of kad-dht's refresh, which walks to exhaustion for each bucket whether
// anything has changed or not.
//
// The connection is the proof of life: libp2p finds out within half a minute that the other side of one is gone, and keeping
// one for a quarter of an hour costs less than making one. So a node in the table is one that is connected. One that is no
// longer leaves the table where its bucket has enough others, and is asked for a sign of life where it does not. What else
// is to be found out, who is new nearby, a single question every few minutes to one neighbour tells.
//
// A node comes into the table by answering, or by asking: every member is a server, and libp2p has proven its name.
type upkeep struct {
	o    *Peer
	rt   *kb.RoutingTable
	self kb.ID
	near atomic.Int64 // the common prefix of the k-th nearest neighbour: buckets before it are far
	wake chan struct{}

	mu     sync.Mutex
	checks map[NodeID]*check // guarded by mu: nodes of the table that are to show a sign of life
	lost   []peer.AddrInfo   // guarded by mu: nodes that left the table, the latest last
}

// check is a question for a sign of life to come.
type check struct {
	at   time.Time // zero: none is due, the entry remembers wait
	wait time.Duration
}

func newUpkeep(o *Peer) *upkeep {
	u := &upkeep{
		o: o, rt: o.dht.RoutingTable(), self: kb.ConvertPeerID(o.host.ID()),
		wake: make(chan struct{}, 1), checks: map[NodeID]*check{},
	}
	o.host.Network().Notify(&network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) {
		u.disconnected(c.RemotePeer())
	}})
	return u
}

func (u *upkeep) connected(p NodeID) bool {
	return u.o.host.Network().Connectedness(p) == network.Connected
}

// bucket gives the bucket a node belongs to: how many bits its place has in common with ours.
func (u *upkeep) bucket(p NodeID) int { return kb.CommonPrefixLen(u.self, kb.ConvertPeerID(p)) }

// heard is called when a node has answered or asked: it is alive, and known in the overlay's own protocol.
func (u *upkeep) heard(p NodeID) {
	added, err := u.rt.TryAddPeer(p, true, false)
	switch {
	case err != nil:
		return // the bucket is full of others that are connected
	case !added:
		u.rt.UpdateLastSuccessfulOutboundQueryAt(p, time.Now())
		return
	}
	u.o.join.lookAgain()
}

// failed is called when a node has not answered.
func (u *upkeep) failed(p NodeID) {
	u.o.suspects.add(p, u.o.now())
	if !u.connected(p) {
		u.drop(p)
	}
}

// drop takes a node out of the table.
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
	if b := u.bucket(p); b < int(u.near.Load()) && u.connectedIn(b) >= fillTo {
		u.drop(p)
		return
	}
	u.mu.Lock()
	c := u.checks[p]
	if c == nil {
		c = &check{wait: checkSoon}
		u.checks[p] = c
	}
	c.at = time.Now().Add(u.o.random.of("check " + string(p)).jitter(c.wait))
	c.wait = min(2*c.wait, checkLatest)
	u.mu.Unlock()
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
	next := time.Now().Add(u.o.random.of("upkeep").jitter(u.o.timing.Upkeep))
	for {
		u.forget()
		wait := time.Until(next)
		if at := u.nextCheck(); !at.IsZero() {
			wait = min(wait, time.Until(at))
		}
		t := time.NewTimer(max(wait, 0))
		select {
		case <-t.C:
		case <-u.wake:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return
		}
		u.checkDue(ctx)
		if !time.Now().Before(next) {
			next = time.Now().Add(u.o.random.of("upkeep").jitter(u.o.timing.Upkeep))
			u.look(ctx)
		}
	}
}

// forget drops what is remembered of nodes that have left the table by other ways.
func (u *upkeep) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for p := range u.checks {
		if u.rt.Find(p) == "" {
			delete(u.checks, p)
		}
	}
}

// nextCheck gives the time of the first check to come, zero if there is none.
func (u *upkeep) nextCheck() (at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.checks {
		if !c.at.IsZero() && (at.IsZero() || c.at.Before(at)) {
			at = c.at
		}
	}
	return at
}

// checkDue asks those whose time has come for a sign of life.
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
	u.mu.Unlock()
	slices.Sort(due)
	for _, p := range due {
		if ctx.Err() == nil && !u.connected(p) && u.rt.Find(p) != "" {
			u.o.forgiveDial(p)
			u.ask(ctx, p, string(u.o.host.ID()))
		}
	}
}

// join gets to know the neighbourhood and somebody in every direction, and is called when the node has come among others.
func (u *upkeep) join(ctx context.Context) {
	u.walkHome(ctx)
	u.fill(ctx)
}

// walkHome goes to the nodes nearest to this one, which thereby learn of it.
func (u *upkeep) walkHome(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, u.o.timing.Walk)
	defer cancel()
	self := u.o.host.ID()
	u.o.newWalk(string(self), func(ctx context.Context, p NodeID, _ int) ([]*peer.AddrInfo, error) {
		return u.o.messenger.GetClosestPeers(ctx, p, self)
	}).run(ctx)
	u.measureNear()
}

// measureNear finds out which buckets are far ones.
func (u *upkeep) measureNear() {
	k := u.o.doc.DHT.BucketSize
	nearest := u.rt.NearestPeers(u.self, k)
	if len(nearest) < k {
		u.near.Store(0)
		return
	}
	u.near.Store(int64(u.bucket(nearest[k-1])))
}

// fill looks for nodes in the far buckets that have too few, all such buckets at a time.
func (u *upkeep) fill(ctx context.Context) {
	var wg sync.WaitGroup
	for b := range int(u.near.Load()) {
		if u.rt.NPeersForCpl(uint(b)) < fillTo {
			wg.Go(func() { u.fillBucket(ctx, b) })
		}
	}
	wg.Wait()
}

// fillBucket asks its way through one bucket: each question is about another place in it, and goes to a node that the
// answer before named and that is not in the table yet, which it is when it has answered. So the nodes found are spread over the
// bucket, which a walk to one place in it would not give.
func (u *upkeep) fillBucket(ctx context.Context, b int) {
	need := fillTo - u.rt.NPeersForCpl(uint(b))
	d := u.o.random.of("bucket " + strconv.Itoa(b))
	var to NodeID
	for range need + fillExtra {
		if ctx.Err() != nil || u.rt.NPeersForCpl(uint(b)) >= fillTo {
			return
		}
		key, ok := u.place(b, d)
		if !ok {
			return
		}
		if to == "" {
			list := u.rt.NearestPeers(kadID(key), 1)
			if len(list) == 0 {
				return
			}
			to = list[0]
		}
		named := u.ask(ctx, to, key)
		to = ""
		for _, ai := range named {
			if u.bucket(ai.ID) == b && u.rt.Find(ai.ID) == "" && !u.o.suspects.has(ai.ID, u.o.now()) {
				to = ai.ID
				break
			}
		}
	}
}

// place gives a key whose place in the key space is in a bucket.
func (u *upkeep) place(bucket int, d *dice) (string, bool) {
	for range 1 << min(bucket+5, 18) {
		var b [32]byte
		d.read(b[:])
		key := string(b[:])
		if kb.CommonPrefixLen(u.self, kadID(key)) == bucket {
			return key, true
		}
	}
	return "", false
}

// look asks one neighbour who is near, and gets to know those who are new.
func (u *upkeep) look(ctx context.Context) {
	u.measureNear()
	k := u.o.doc.DHT.BucketSize
	self := string(u.o.host.ID())
	nearest := u.rt.NearestPeers(u.self, k)
	if len(nearest) == 0 {
		return
	}
	target := sha256.Sum256([]byte(self))
	farthest := kadDistance(target, nearest[len(nearest)-1])
	news := 0
	for _, ai := range u.ask(ctx, nearest[u.o.random.of("upkeep").intN(len(nearest))], self) {
		d := kadDistance(target, ai.ID)
		if len(nearest) >= k && slices.Compare(d[:], farthest[:]) >= 0 || u.rt.Find(ai.ID) != "" || u.o.suspects.has(ai.ID, u.o.now()) {
			continue
		}
		if news++; news <= 3 {
			u.ask(ctx, ai.ID, self)
		}
	}
	if news > 3 {
		u.walkHome(ctx)
	}
	u.measureNear()
	u.fill(ctx)
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
			o.host.Peerstore().AddAddrs(ai.ID, ai.Addrs[:min(len(ai.Addrs), maxAddrs)], peerstore.TempAddrTTL)
		}
		out = append(out, ai)
	}
	return out
}
