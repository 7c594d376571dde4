package overlay

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// secondAnswer is how long a search waits, after the first node has answered with advertisements, for another one's
	// word: one node could hide all advertisements but its friends'.
	secondAnswer = 150 * time.Millisecond
	// wantAnswers is how many nodes' words end a search.
	wantAnswers = 2
	// askNeighbours is how many nodes are asked at random before a walk is begun.
	askNeighbours = 4
	// wanderEvery is how many searches there are for one that goes elsewhere than home.
	wanderEvery = 4
	// emptyFor is the pause after a search that found nobody.
	emptyFor = 10 * time.Second
	// maxEmpty is the longest pause between searches that nobody has asked for, while all of them find nobody.
	maxEmpty = 10 * time.Minute
)

// whereabouts is what a node has learnt about where a role is found.
type whereabouts struct {
	known bool
	level int // under which those found write
	few   int // how many were found, less than enough, the last time that all levels were tried; 0: enough
	age   int // searches since the beginning
}

// fetch searches the overlay once for nodes with the role and puts them into the cache.
func (c *roleCache) fetch(f *fetch) {
	o := c.r.o
	ctx, cancel := context.WithTimeout(o.ctx, o.timing.Walk)
	defer cancel()
	all := c.own()
	complete := true
	keys := c.plan()
	for i, k := range keys {
		if c.suffices(all) {
			break
		}
		s, ok := c.r.fetchSet(ctx, k, wantAnswers, func(s adverts) { c.add(s) })
		complete = complete && ok
		all = union(all, s)
		if i == len(keys)-1 {
			c.mu.Lock()
			c.where.few = 0
			if n := all.others(o.host.ID()); n < enough {
				c.where.few = n
			}
			c.mu.Unlock()
		}
		if ctx.Err() != nil {
			break
		}
	}
	found := all.others(o.host.ID())
	now := o.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if level, ok := all.level(o.host.ID()); ok {
		c.where.known, c.where.level = true, level
	} else {
		c.where = whereabouts{}
	}
	if found > 0 {
		c.due, c.empty = now.Add(o.random.jitter(freshFor)), 0
	} else {
		c.due = now.Add(o.random.jitter(emptyFor))
		c.empty++
		f.err = c.nobody(complete)
	}
	c.running = nil
	close(f.done)
}

// union is the advertisements of several keys, the newer of each node.
func union(a, b adverts) adverts {
	out := slices.Clone(a)
	for _, x := range b {
		i := slices.IndexFunc(out, func(y *advert) bool { return y.Node == x.Node })
		switch {
		case i < 0:
			out = append(out, x)
		case x.Sequence > out[i].Sequence:
			out[i] = x
		}
	}
	return out
}

// suffices says whether enough have been found to end a search.
func (c *roleCache) suffices(s adverts) bool {
	n := s.others(c.r.o.host.ID())
	c.mu.Lock()
	defer c.mu.Unlock()
	return n >= enough || n > 0 && n >= c.where.few && c.where.few > 0
}

// own gives what this node itself stores for its part of the key space. Whoever offers the role has written it here, so
// there is nobody who could have left something out.
func (c *roleCache) own() adverts {
	o := c.r.o
	var all adverts
	c.mu.Lock()
	c.where.age++
	wander := c.where.age%wanderEvery == 0
	c.mu.Unlock()
	if wander {
		return nil
	}
	for level := range maxLevel + 1 {
		if level > 0 && !c.r.finding().sharded() {
			break
		}
		if s := c.r.store.under(home(c.role, level, o.host.ID())); len(s) > 0 {
			all = union(all, s)
		}
	}
	c.add(all)
	return all
}

// nobody is why nobody was found.
func (c *roleCache) nobody(complete bool) error {
	o := c.r.o
	if !complete && !o.alone() {
		return fmt.Errorf("%w: too few nodes answered to tell whether anybody offers the role %s", ErrUnreachable, c.role)
	}
	return fmt.Errorf("%w: %s", ErrNoRole, c.role.URI(o.doc.ID))
}

// plan gives the keys to try: the home shard of the level that others write under, as far as is known, or that the size of
// the overlay suggests; then of the levels beside it; in the end the well-known key itself. Now and then it begins with a
// shard anywhere else, to know more nodes than those at home, and from others than the neighbours.
func (c *roleCache) plan() []roleKey {
	o := c.r.o
	root := roleKey{role: c.role}
	if !c.r.finding().sharded() {
		return []roleKey{root}
	}
	level := int(math.Round(levelFor(o.network(), o.doc.DHT.BucketSize)))
	c.mu.Lock()
	w := c.where
	c.mu.Unlock()
	levels := []int{level, level - 1, level + 1}
	if w.known {
		levels = []int{w.level}
	}
	var keys []roleKey
	if w.known && w.level > 0 && w.age%wanderEvery == 0 {
		keys = append(keys, roleKey{role: c.role, level: w.level, index: uint32(o.random.intN(1 << w.level))})
	}
	for _, l := range levels {
		if l >= 1 && l <= maxLevel {
			keys = append(keys, home(c.role, l, o.host.ID()))
		}
	}
	return append(keys, root)
}

// gathering is asking for the set under one key, until so many nodes have answered with advertisements.
type gathering struct {
	r      *roles
	k      roleKey
	key    string
	want   int
	each   func(adverts) // is given every answer
	enough func()
	wait   *time.Timer // for a second answer

	mu    sync.Mutex
	all   adverts // guarded by mu: what was answered, merged
	heard int     // guarded by mu
}

// fetchSet asks the nodes that store under a key until so many have answered with advertisements, each of which each is
// given, and gives all of them merged, and whether enough nodes were heard to tell that there is nothing. A node that stores
// there itself is one of them.
func (r *roles) fetchSet(ctx context.Context, k roleKey, answers int, each func(adverts)) (adverts, bool) {
	r.fetches.Add(1)
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	g := &gathering{r: r, k: k, key: k.key(r.o.doc.ID), want: answers, each: each, enough: enough, wait: time.AfterFunc(time.Hour, enough)}
	defer g.wait.Stop()
	if s := r.store.under(k); s != nil {
		g.take(s)
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	if ctx.Err() == nil && k.level > 0 {
		g.neighbours(ctx, &asking)
	}
	if ctx.Err() != nil || g.answered() {
		return g.result(), true
	}
	res := r.o.newWalk(g.key, g.ask).run(ctx)
	return g.result(), res.Complete || g.answered()
}

// take works one answer in.
func (g *gathering) take(s adverts) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = mergeAdverts(g.k, g.all, s, g.r.o.now())
	if s.others(g.r.o.host.ID()) == 0 {
		return
	}
	if g.each != nil {
		g.each(s)
	}
	g.heard++
	if g.heard == 1 {
		g.wait.Reset(secondAnswer)
	}
	if g.heard >= g.want {
		g.enough()
	}
}

func (g *gathering) answered() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.heard > 0
}

func (g *gathering) result() adverts {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all
}

// ask asks one node.
func (g *gathering) ask(ctx context.Context, p NodeID, _ int) ([]*peer.AddrInfo, error) {
	rec, closer, err := g.r.o.messenger.GetValue(ctx, p, g.key)
	if err != nil {
		return nil, err
	}
	if s, err := g.r.read(g.k, rec.GetValue()); err == nil {
		g.take(s)
	}
	return closer, nil
}

// neighbours asks a few nodes of the shard's part of the key space, at random, as far as this node knows any: most of them
// store the set, and a walk would put all the work on those nearest to the key. It returns when it has come to an end or
// takes long; asking is done when no request runs any more.
func (g *gathering) neighbours(ctx context.Context, asking *sync.WaitGroup) {
	o := g.r.o
	var list []NodeID
	for _, p := range o.dht.RoutingTable().NearestPeers(kadID(g.key), o.doc.DHT.BucketSize) {
		if g.k.holds(sha256.Sum256([]byte(p))) && !o.suspects.has(p, o.now()) {
			list = append(list, p)
		}
	}
	o.random.shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	next := make(chan NodeID, askNeighbours)
	for _, p := range list[:min(len(list), askNeighbours)] {
		next <- p
	}
	close(next)
	var workers sync.WaitGroup
	for range g.want {
		workers.Add(1)
		asking.Add(1)
		go func() {
			defer asking.Done()
			defer workers.Done()
			for p := range next {
				if ctx.Err() != nil {
					return
				}
				g.ask(ctx, p, 0)
			}
		}()
	}
	done := make(chan struct{})
	asking.Add(1)
	go func() {
		defer asking.Done()
		workers.Wait()
		close(done)
	}()
	t := time.NewTimer(2 * o.timing.Hedge)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-ctx.Done():
	}
}

// findAnew is Find without a cache, for comparison.
func (c *roleCache) findAnew(ctx context.Context, n int) ([]Advert, error) {
	complete := true
	var all adverts
	if c.r.finding().sharded() {
		all = c.own()
	}
	for _, k := range c.plan() {
		if all.others(c.r.o.host.ID()) > 0 {
			break
		}
		s, ok := c.r.fetchSet(ctx, k, 1, nil)
		complete = complete && ok
		all = union(all, s)
	}
	if level, ok := all.level(c.r.o.host.ID()); ok {
		c.mu.Lock()
		c.where.known, c.where.level = true, level
		c.mu.Unlock()
	}
	var list []*offerer
	for _, a := range all {
		if !a.withdrawn && a.Node != c.r.o.host.ID() {
			list = append(list, &offerer{advert: a})
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("looking for the role %s: %w", c.role, ctx.Err())
	}
	if len(list) == 0 {
		return nil, c.nobody(complete)
	}
	var out []Advert
	for _, e := range c.r.order(list) {
		if len(out) < n {
			out = append(out, e.advert.Advert)
		}
	}
	return out, nil
}
