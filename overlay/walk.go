package overlay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Bounds on one walk.
const (
	maxCandidates = 256 // nodes heard of
	maxAsked      = 96  // nodes asked
	maxSuspects   = 1024
	suspectTime   = time.Minute
)

// askFunc asks one node about the key of a walk and returns the nodes it names as nearer. hops is how many nodes stood
// between this one and the routing table.
type askFunc func(ctx context.Context, p NodeID, hops int) (closer []*peer.AddrInfo, err error)

// walk is one iterative Kademlia search for the k nodes nearest to a key.
//
// It differs from kad-dht's own search in what it does about nodes that do not answer, which is where the time goes: a
// request that takes longer than Timing.Hedge no longer holds up its slot, and the walk is settled without it as soon as
// a majority of the nearest has answered. Two majorities of the same k nodes overlap, so a write that a majority
// confirmed is seen by a read that a majority answered.
type walk struct {
	o      *Peer
	key    string
	target [32]byte
	ask    askFunc
	hedge  time.Duration // Timing.Hedge and up to a microsecond: two walks begun at one instant do not go on at one instant

	list     []*candidate // in the order of their distance to the key
	index    map[NodeID]*candidate
	asked    int
	answered int
	firstErr error
}

type candidate struct {
	id    NodeID
	dist  [32]byte
	hops  int // how many nodes away from the routing table it was learnt
	state candState
	since time.Time

	by     []*candidate // who named it; none: it is from this node's own routing table
	credit credit       // of those it named
}

type candState int

const (
	fresh    candState = iota
	asking             // within Timing.Hedge
	slow               // beyond Timing.Hedge, still running
	answered           // good
	failed             // refused, unreachable or too late
)

type walkReply struct {
	c      *candidate
	closer []*peer.AddrInfo
	err    error
}

// walkResult is what a walk ends with.
type walkResult struct {
	Nearest  []NodeID // the nodes that answered, nearest first, at most k
	Asked    int
	Answered int
	Complete bool  // a majority of the nearest nodes known answered
	Err      error // why the first node that failed did so, nil if none did
}

// kadDistance gives the XOR distance of a node to a key in Kademlia's space (SHA-256 of both).
func kadDistance(target [32]byte, p NodeID) [32]byte {
	h := sha256.Sum256([]byte(p))
	for i := range h {
		h[i] ^= target[i]
	}
	return h
}

func (o *Peer) newWalk(key string, ask askFunc) *walk {
	w := &walk{o: o, key: key, target: sha256.Sum256([]byte(key)), ask: ask, index: map[NodeID]*candidate{}}
	w.hedge = o.timing.Hedge + apart(w.target)
	for _, p := range o.dht.RoutingTable().NearestPeers(kadID(key), o.doc.DHT.BucketSize) {
		w.add(p, 0, nil)
	}
	return w
}

func (w *walk) add(p NodeID, hops int, by *candidate) {
	if c := w.index[p]; c != nil {
		if len(c.by) > 0 && c.state == fresh { // what it is worth is booked when it is asked
			c.named(by)
		}
		return
	}
	if p == w.o.host.ID() || len(w.list) >= maxCandidates {
		return
	}
	c := &candidate{id: p, dist: kadDistance(w.target, p), hops: hops}
	c.named(by)
	if w.o.suspects.has(p, w.o.now()) {
		c.state = failed
	}
	i, _ := slices.BinarySearchFunc(w.list, c, func(a, b *candidate) int { return bytes.Compare(a.dist[:], b.dist[:]) })
	w.list = slices.Insert(w.list, i, c)
	w.index[p] = c
}

// run walks until the nearest nodes are known or the context ends. Requests that are still running then are cancelled
// and waited for.
func (w *walk) run(ctx context.Context) walkResult {
	ctx, cancel := context.WithCancel(ctx)
	replies := make(chan walkReply, maxAsked)
	var running sync.WaitGroup
	w.loop(ctx, replies, &running)
	result := w.result()
	cancel()
	running.Wait()
	close(replies)
	for r := range replies {
		if r.err == nil {
			w.take(r) // too late to matter here, but worth knowing for the next walk
			result.Answered++
		}
	}
	return result
}

func (w *walk) loop(ctx context.Context, replies chan walkReply, running *sync.WaitGroup) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	w.reviveIfNeeded()
	for ctx.Err() == nil { // an answer may come with the end: nobody else is asked then
		next := w.step(ctx, replies, running)
		if w.settled() {
			return
		}
		timer.Reset(next)
		select {
		case r := <-replies:
			w.take(r)
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// reviveIfNeeded asks the suspects after all where there is nobody else.
func (w *walk) reviveIfNeeded() {
	for _, c := range w.list {
		if c.state == fresh {
			return
		}
	}
	for _, c := range w.list {
		c.state = fresh
	}
}

// step starts requests while slots are free, and gives the time until the next request turns slow.
func (w *walk) step(ctx context.Context, replies chan<- walkReply, running *sync.WaitGroup) time.Duration {
	now := time.Now()
	active, next := 0, time.Hour
	for _, c := range w.list {
		if c.state != asking {
			continue
		}
		if left := w.hedge - now.Sub(c.since); left > 0 {
			active++
			next = min(next, left)
		} else {
			c.become(slow)
		}
	}
	for active < w.o.timing.Alpha && w.asked < maxAsked {
		c := w.nextFresh()
		if c == nil {
			break
		}
		c.become(asking)
		c.since = now
		active++
		w.asked++
		next = min(next, w.hedge)
		running.Add(1)
		go func() {
			defer running.Done()
			closer, err := w.ask(ctx, c.id, c.hops)
			replies <- walkReply{c, closer, err}
		}()
	}
	return next
}

// nextFresh gives the nearest node not yet asked among the k nearest hopeful ones, of those whose turn it is; see credit.
func (w *walk) nextFresh() *candidate {
	n := 0
	var doubtful *candidate // the nearest that nobody who is believed has named
	for _, c := range w.list {
		switch c.state {
		case fresh:
			if c.turn() {
				return c
			}
			if doubtful == nil && !c.credible() {
				doubtful = c
			}
		case asking, answered:
			if n++; n >= w.o.doc.DHT.BucketSize {
				return nil
			}
		}
	}
	if w.desperate() {
		return doubtful
	}
	return nil
}

// desperate says that so few have answered that nobody can be left out.
func (w *walk) desperate() bool { return w.answered < w.o.doc.DHT.BucketSize/4 }

// take works an answer in.
func (w *walk) take(r walkReply) {
	if r.err != nil {
		r.c.become(failed)
		if w.firstErr == nil {
			w.firstErr = r.err
		}
		w.o.upkeep.failed(r.c.id)
		return
	}
	r.c.become(answered)
	w.answered++
	w.o.suspects.remove(r.c.id)
	w.o.upkeep.heard(r.c.id)
	for _, ai := range w.o.learn(r.closer) {
		w.add(ai.ID, r.c.hops+1, r.c)
	}
}

// settled says whether the walk can end: nobody hopeful is left to ask among the nearest k, none of those asked is still
// within its time, and those that have answered are a majority with the slow ones counted against them.
func (w *walk) settled() bool {
	k := w.o.doc.DHT.BucketSize
	good, late, desperate := 0, 0, w.desperate()
	for _, c := range w.list {
		if good >= k {
			break
		}
		switch c.state {
		case fresh:
			if w.asked < maxAsked && (desperate || c.credible()) {
				return false
			}
		case asking:
			return false
		case slow:
			if c.credible() {
				late++
			}
		case answered:
			good++
		}
	}
	return late == 0 || good > 0 && good >= min(good+late, k)/2+1
}

func (w *walk) result() walkResult {
	r := walkResult{Asked: w.asked, Answered: w.answered, Err: w.firstErr}
	for _, c := range w.list {
		if c.state == answered && len(r.Nearest) < w.o.doc.DHT.BucketSize {
			r.Nearest = append(r.Nearest, c.id)
		}
	}
	r.Complete = w.answered > 0 && w.settled()
	return r
}

// suspects remembers for a short time which nodes did not answer, so that the next walk does not wait for them again.
type suspects struct {
	mu sync.Mutex
	m  map[NodeID]time.Time // guarded by mu; until when
}

func (s *suspects) add(p NodeID, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[NodeID]time.Time{}
	}
	if len(s.m) >= maxSuspects {
		var oldest NodeID
		for q, until := range s.m {
			if now.After(until) {
				delete(s.m, q)
			} else if at, ok := s.m[oldest]; !ok || until.Before(at) || until.Equal(at) && q < oldest {
				oldest = q
			}
		}
		if len(s.m) >= maxSuspects {
			delete(s.m, oldest)
		}
	}
	s.m[p] = now.Add(suspectTime)
}

func (s *suspects) remove(p NodeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, p)
}

func (s *suspects) has(p NodeID, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.m[p]
	return ok && now.Before(until)
}
