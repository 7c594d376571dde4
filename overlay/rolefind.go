package overlay

import (
	"context"
	"fmt"
	"math"
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
	// emptyFor is the pause after a search that found nobody.
	emptyFor = 10 * time.Second
)

// whereabouts is what a node has learnt about the levels at which a role is found.
type whereabouts struct {
	known bool
	level int
	most  int // nodes found there the last time that the levels below were tried too
	age   int // searches since
}

// fetch searches the overlay once for nodes with the role and puts them into the cache.
func (c *roleCache) fetch(f *fetch) {
	o := c.r.o
	ctx, cancel := context.WithTimeout(o.ctx, o.timing.Walk)
	defer cancel()
	found, complete := 0, true
	keys := c.plan()
	last := 0
	for i, k := range keys {
		n, ok := c.fetchKey(ctx, k)
		complete = complete && ok
		last = i
		if n > found {
			found = n
			c.learn(k, n)
		}
		if found >= enough || found > 0 && c.thin(k, found) || ctx.Err() != nil {
			break
		}
	}
	if found > 0 && last == len(keys)-1 {
		c.settle(found)
	}
	now := o.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case found > 0:
		c.due = now.Add(o.random.jitter(freshFor))
	default:
		c.due = now.Add(o.random.jitter(emptyFor))
		f.err = c.nobody(complete)
	}
	c.running = nil
	close(f.done)
}

// nobody is why nobody was found.
func (c *roleCache) nobody(complete bool) error {
	o := c.r.o
	if !complete && !o.alone() {
		return fmt.Errorf("%w: too few nodes answered to tell whether anybody offers the role %s", ErrUnreachable, c.role)
	}
	return fmt.Errorf("%w: %s", ErrNoRole, c.role.URI(o.doc.ID))
}

// plan gives the keys to try: a random shard of the level that worked, or that the size of the overlay suggests, then of the
// levels beside it, in the end the well-known key itself.
func (c *roleCache) plan() []roleKey {
	o := c.r.o
	root := roleKey{role: c.role}
	if !c.r.finding().sharded() {
		return []roleKey{root}
	}
	want := int(math.Round(levelFor(o.network(), o.doc.DHT.BucketSize)))
	c.mu.Lock()
	w := &c.where
	w.age++
	if w.known && w.age >= 8 {
		*w = whereabouts{} // the overlay may have grown
	}
	start := want
	if w.known {
		start = w.level
	}
	c.mu.Unlock()
	var keys []roleKey
	for _, level := range []int{start, start - 1, start + 1, start - 2} {
		if level >= 1 && level <= maxLevel && len(keys) < 4 {
			keys = append(keys, roleKey{role: c.role, level: level, index: uint32(o.random.intN(1 << level))})
		}
		if level == 0 && start == 0 {
			break
		}
	}
	if start == 0 {
		return []roleKey{root}
	}
	return append(keys, root)
}

// learn remembers a level at which something was found.
func (c *roleCache) learn(k roleKey, _ int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.where.known || c.where.level != k.level {
		c.where = whereabouts{known: true, level: k.level, most: c.where.most}
	}
}

// thin says whether so few are all there are, as far as is known.
func (c *roleCache) thin(_ roleKey, found int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.where.most > 0 && found >= c.where.most
}

// settle notes that all levels together gave no more than this.
func (c *roleCache) settle(found int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.where.most = found
}

// fetchKey asks the nodes that store under a key, until two of them have answered with advertisements. It gives how many
// nodes offer the role there, and whether enough nodes were heard to tell.
func (c *roleCache) fetchKey(ctx context.Context, k roleKey) (found int, complete bool) {
	set, complete := c.r.fetchSet(ctx, k, wantAnswers, func(s adverts) { c.add(s) })
	return set.living(), complete
}

// fetchSet asks the nodes that store under a key until so many have answered with advertisements, each with its word, and
// gives all of them merged. A node that stores there itself is one of them.
func (r *roles) fetchSet(ctx context.Context, k roleKey, answers int, each func(adverts)) (adverts, bool) {
	o := r.o
	r.fetches.Add(1)
	key := k.key(o.doc.ID)
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	wait := time.AfterFunc(time.Hour, enough)
	defer wait.Stop()
	var mu sync.Mutex
	var all adverts
	heard := 0
	take := func(s adverts) {
		mu.Lock()
		defer mu.Unlock()
		all = mergeAdverts(k, all, s, o.now())
		if s.living() == 0 {
			return
		}
		if each != nil {
			each(s)
		}
		heard++
		if heard == 1 {
			wait.Reset(secondAnswer)
		}
		if heard >= answers {
			enough()
		}
	}
	if s, _ := r.store.get(key); s != nil {
		take(s)
	}
	if ctx.Err() != nil {
		return all, true
	}
	w := o.newWalk(key, func(ctx context.Context, p NodeID, _ int) ([]*peer.AddrInfo, error) {
		rec, closer, err := o.messenger.GetValue(ctx, p, key)
		if err != nil {
			return nil, err
		}
		if s, err := r.read(k, rec.GetValue()); err == nil {
			take(s)
		}
		return closer, nil
	})
	res := w.run(ctx)
	return all, res.Complete || len(all) > 0
}

// findAnew is Find without a cache, for comparison.
func (c *roleCache) findAnew(ctx context.Context, n int) ([]Advert, error) {
	complete := true
	for _, k := range c.plan() {
		set, ok := c.r.fetchSet(ctx, k, 1, nil)
		complete = complete && ok
		var list []*offerer
		for _, a := range set {
			if !a.withdrawn && a.Node != c.r.o.host.ID() {
				list = append(list, &offerer{advert: a})
			}
		}
		if len(list) == 0 {
			continue
		}
		c.learn(k, len(list))
		var out []Advert
		for _, e := range c.r.order(list) {
			if len(out) < n {
				out = append(out, e.advert.Advert)
			}
		}
		return out, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("looking for the role %s: %w", c.role, ctx.Err())
	}
	return nil, c.nobody(complete)
}
