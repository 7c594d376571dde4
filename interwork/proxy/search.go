package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"p2psip/interwork/flow"
	"p2psip/overlay"
)

// searches bounds what is under way, such as lookups, in all and for one source, so that a single phone that dials numbers at random
// leaves room for the others.
type searches struct {
	max int

	mu     sync.Mutex // guards both
	total  int
	source map[string]int
}

// acquire takes a place, or says that there is none.
func (s *searches) acquire(source string, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.max || s.source[source] >= most {
		return false
	}
	s.total++
	s.source[source]++
	return true
}

func (s *searches) release(source string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.source[source]--; s.source[source] <= 0 {
		delete(s.source, source)
	}
}

// search looks a user up on a goroutine of its own and posts what it finds into x. It returns what stops it, or nil when
// there is no place for another lookup. first, when not nil, runs before and may post something else instead.
func (c *Core) search(x *responseContext, first func(context.Context) (done bool)) (stop func()) {
	source, most := c.source(x.r)
	if !c.searches.acquire(source, most) {
		c.stats.lookupsRefused.Add(1)
		return nil
	}
	c.stats.lookups.Add(1)
	ctx, cancel := context.WithTimeout(c.base, c.limits.LookupTime)
	if !c.goes(func() {
		defer c.searches.release(source)
		defer cancel()
		if first != nil && first(ctx) {
			return
		}
		c.progress(StepSearch, x.r, "", nil)
		err := c.follow(ctx, x)
		c.progress(StepSearched, x.r, "", err)
		x.searched(err)
	}) {
		cancel()
		c.searches.release(source)
		return nil
	}
	return cancel
}

// source says for whom a lookup counts, and how many he may have under way.
func (c *Core) source(r *request) (source string, most int) {
	if r.kind == flow.KindPublic { // another port is not another caller, but a provider has many callers
		most = c.limits.LookupsPerHost
		if t, ok := c.cfg.Border.(Truster); ok && t.Trusts(r.flow) {
			most = max(most, c.limits.Lookups*3/4) // the rest is for members
		}
		return r.flow.Remote().Host, most
	}
	return r.flow.Remote().String(), c.limits.LookupsPerFlow
}

// follow passes the records of one search on until it ends.
func (c *Core) follow(ctx context.Context, x *responseContext) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.stats.panics.Add(1)
			err = fmt.Errorf("lookup of %s: panic: %v", x.w.aor, p)
		}
	}()
	s := c.cfg.Locator.Locate(ctx, x.w.aor)
	defer s.Stop()
	for found := false; ; found = true {
		rec, err := s.Next(ctx)
		switch {
		case err == nil:
			if !found {
				c.progress(StepFound, x.r, "", nil)
			}
			x.record(rec)
		case errors.Is(err, io.EOF), found:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("lookup of %s: %w: %w", x.w.aor, overlay.ErrUnreachable, err)
		default:
			return fmt.Errorf("lookup of %s: %w", x.w.aor, err)
		}
	}
}
