package overlay

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

const (
	// maxCached is how many nodes are remembered for each role.
	maxCached = 64
	// freshFor is how long what was found is good without asking again. Together with readvertise it stays within
	// AdvertLifetime, so that what is in use never runs out.
	freshFor = 4 * time.Minute
	// warmFor is how long after it was last used a cache is still renewed.
	warmFor = 10 * time.Minute
	// aliveFor is how long a node counts as there after it was heard: after it has answered, or signed what it offers. After
	// an answer, and while the connection is open, it is connectedFor: libp2p notices within a minute or so when the far side
	// is gone.
	aliveFor     = 5 * time.Minute
	connectedFor = 9 * time.Minute
	// minRenewal is the pause between two looks at whether the cache is due.
	minRenewal = time.Second
	// enough is how many nodes to choose from make a search unnecessary.
	enough = 3
	// failedFor is how long a node that failed is not given again; it doubles with each failure.
	failedFor    = time.Minute
	maxFailedFor = AdvertLifetime
)

// roleCache is what this node knows of those that offer one role.
type roleCache struct {
	r    *roles
	role Role

	mu      sync.Mutex
	m       map[NodeID]*offerer // guarded by mu
	due     time.Time           // guarded by mu: when to search again
	empty   int                 // guarded by mu: searches in a row that found nobody
	used    time.Time           // guarded by mu: when somebody last asked
	running *fetch              // guarded by mu: the search under way
	keeping bool                // guarded by mu: upkeep runs
	where   whereabouts         // guarded by mu
}

// offerer is one node that offers the role.
type offerer struct {
	advert   *advert   // nil: only its failures are remembered
	heard    time.Time // when it signed, or answered
	answered time.Time
	rtt      time.Duration // 0: not known
	failures int
	failed   time.Time // not given before this
}

// fetch is a search under way.
type fetch struct {
	news chan struct{} // closed and replaced, under roleCache.mu, when something was found
	done chan struct{}
	err  error // set before done is closed
}

func newRoleCache(r *roles, role Role) *roleCache {
	return &roleCache{r: r, role: role, m: map[NodeID]*offerer{}}
}

func (c *roleCache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m, c.due, c.where = map[NodeID]*offerer{}, time.Time{}, whereabouts{}
}

// size counts those that can be given now.
func (c *roleCache) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.usable(nil))
}

// add takes a set in, and gives how many of it are offered.
func (c *roleCache) add(s adverts) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, a := range s {
		if a.Node == c.r.o.host.ID() {
			continue
		}
		if !a.withdrawn {
			n++
		}
		e := c.m[a.Node]
		if e == nil {
			if len(c.m) >= maxCached && !c.makeRoom(a) {
				continue
			}
			e = &offerer{}
			c.m[a.Node] = e
		}
		if e.advert == nil || a.Sequence > e.advert.Sequence {
			e.advert = a
			if now := c.r.o.now(); a.Issued.After(e.heard) && !a.Issued.After(now) {
				e.heard = a.Issued
			}
		}
	}
	if c.running != nil && n > 0 {
		close(c.running.news)
		c.running.news = make(chan struct{})
	}
	return n
}

// makeRoom drops what has expired, or what expires before a does and is not in use; c.mu is held.
func (c *roleCache) makeRoom(a *advert) bool {
	now := c.r.o.now()
	var oldest NodeID
	at := a.Expires
	for n, e := range c.m {
		if e.advert == nil || !now.Before(e.advert.Expires) {
			if now.After(e.failed) {
				delete(c.m, n)
			}
			continue
		}
		if e.advert.Expires.Before(at) && now.Sub(e.heard) > aliveFor {
			oldest, at = n, e.advert.Expires
		}
	}
	if len(c.m) >= maxCached && oldest != "" {
		delete(c.m, oldest)
	}
	return len(c.m) < maxCached
}

// usable gives those that can be given now and are not in skip; c.mu is held.
func (c *roleCache) usable(skip map[NodeID]bool) []*offerer {
	now := c.r.o.now()
	var out []*offerer
	for n, e := range c.m {
		if e.advert != nil && !e.advert.withdrawn && now.Before(e.advert.Expires) && !now.Before(e.failed) && !skip[n] {
			out = append(out, e)
		}
	}
	return out
}

// failed keeps a node out for a while.
func (c *roleCache) failed(n NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.m[n]
	if e == nil {
		return // never given by this cache, so nobody can have tried it because of it
	}
	now := c.r.o.now()
	e.heard, e.answered = time.Time{}, time.Time{}
	e.failed = now.Add(min(failedFor<<min(e.failures, 8), maxFailedFor))
	e.failures++
	if len(c.usable(nil)) < enough {
		c.due = now
	}
}

// alive says whether a node was heard so lately that it need not be asked.
func (c *roleCache) alive(e *offerer, now time.Time) bool {
	return now.Sub(e.heard) < aliveFor || now.Sub(e.answered) < connectedFor && c.r.o.host.Network().Connectedness(e.advert.Node) == network.Connected
}

// answered notes that a node has answered.
func (c *roleCache) answered(n NodeID, rtt time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.m[n]; e != nil {
		now := c.r.o.now()
		e.heard, e.answered, e.rtt, e.failures = now, now, rtt, 0
	}
}

// find is Find with a cache.
func (c *roleCache) find(ctx context.Context, n int) ([]Advert, error) {
	c.use()
	p := newPicker(c, n)
	defer p.stop()
	for round := 0; ; round++ {
		f := c.search(n, round > 0)
		if f != nil && !c.waitFirst(ctx, f, max(n, enough)) {
			return nil, fmt.Errorf("looking for the role %s: %w", c.role, ctx.Err())
		}
		got, err := p.pick(ctx, f)
		if len(got) > 0 {
			return got, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("looking for the role %s: %w", c.role, ctx.Err())
		}
		if f != nil {
			if f.err != nil {
				return nil, f.err
			}
			return nil, err
		}
		// Nobody in the cache answered: search at once, whatever its age.
	}
}

// use notes that somebody asks, and has the cache kept warm from now on.
func (c *roleCache) use() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = c.r.o.now()
	if !c.keeping {
		c.keeping = c.r.o.start(c.keep)
	}
}

// keep renews the cache while it is used.
func (c *roleCache) keep() {
	for {
		c.mu.Lock()
		now := c.r.o.now()
		if c.r.o.ctx.Err() != nil || now.Sub(c.used) > warmFor {
			c.keeping = false
			c.mu.Unlock()
			return
		}
		next := c.due.Add(c.patience())
		f := c.running
		if f == nil && !now.Before(next) {
			f = c.start(false)
		}
		wait := max(next.Sub(now), minRenewal)
		c.mu.Unlock()
		if f == nil {
			sleep(c.r.o.ctx, wait)
			continue
		}
		select {
		case <-f.done:
			sleep(c.r.o.ctx, minRenewal)
		case <-c.r.o.ctx.Done():
		}
	}
}

// patience is how long, beyond the time when a search may begin, the cache waits to renew itself where nobody offers the role: an
// overlay may have none for years. Whoever asks is not held up by it. c.mu is held.
func (c *roleCache) patience() time.Duration {
	if c.empty == 0 {
		return 0
	}
	return min(emptyFor<<min(c.empty, 10), maxEmpty)
}

// start gives the search under way. If there is none, it starts one if it is time for it or force is set; otherwise it gives
// nil. c.mu is held.
func (c *roleCache) start(force bool) *fetch {
	if c.running != nil || !force && c.r.o.now().Before(c.due) {
		return c.running
	}
	f := &fetch{news: make(chan struct{}), done: make(chan struct{})}
	if !c.r.o.start(func() { c.fetch(f) }) {
		f.err = ErrClosed
		close(f.done)
		return f
	}
	c.running = f
	return f
}

// search starts a search if there is need of one, or force is set, and gives the one under way if the caller has to wait for
// it.
func (c *roleCache) search(n int, force bool) *fetch {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.start(force)
	if f != nil && (force || len(c.usable(nil)) < max(1, min(n, enough))) {
		return f
	}
	return nil
}

// waitFirst waits until there are enough to choose from or the search has ended. It says whether the context lasted.
func (c *roleCache) waitFirst(ctx context.Context, f *fetch, want int) bool {
	for {
		c.mu.Lock()
		have, news := len(c.usable(nil)), f.news
		c.mu.Unlock()
		if have >= want {
			return true
		}
		select {
		case <-news:
		case <-f.done:
			return true
		case <-ctx.Done():
			return false
		}
	}
}
