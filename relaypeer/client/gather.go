package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"p2psip/overlay"
)

const (
	// patience is how long a relay peer that was measured may take beyond four of its round trips: a credential that has to
	// be fetched, a scheduler.
	patience = 100 * time.Millisecond
	// strangerTime is how long one that was not measured may take.
	strangerTime = 500 * time.Millisecond
	// farAway is what one may take that was not measured, when another has answered.
	farAway = 200 * time.Millisecond
	// besides is what the others may take beyond what follows from the first that answered.
	besides = 20 * time.Millisecond
	// searchPause is how long the overlay is not asked again for the sake of one call.
	searchPause = 3 * time.Second
)

// Allocate gives up to n allocations at different relay peers, in different networks where there are such: ready ones at
// once, and otherwise as many as could be had in about the time that living relay peers take; those that are slower are not
// waited for once there is one. The error says why there is none.
func (p *Pool) Allocate(ctx context.Context, n int) ([]*Allocation, error) {
	n = min(max(n, 1), maxWant)
	network := p.network()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	p.warm, p.used = true, p.now()
	drop := p.sift(network, false)
	got := p.takeReady(n)
	p.mu.Unlock()
	defer p.kick()
	for _, a := range drop {
		_ = a.Close()
	}
	if len(got) == n {
		return got, nil
	}
	g := &gathering{p: p, ctx: ctx, want: n, got: got, results: make(chan result, maxRelays), without: map[overlay.NodeID]bool{}}
	return g.run()
}

// result is how one attempt ended.
type result struct {
	node overlay.NodeID
	a    *Allocation
	err  error
}

// gathering is one Allocate that has to ask relay peers.
type gathering struct {
	p        *Pool
	ctx      context.Context
	want     int
	got      []*Allocation
	errs     []error
	without  map[overlay.NodeID]bool // asked already
	running  []running
	results  chan result // room for all
	searched bool
	first    time.Duration // how long the first took that answered
	trips    float64       // how many round trips that was, if that was known

	mu   sync.Mutex
	over bool // guarded by mu: nobody reads results any more
}

type running struct {
	node  overlay.NodeID
	rtt   time.Duration
	begun time.Time
	fair  time.Duration // how long it may take
}

func (g *gathering) run() ([]*Allocation, error) {
	defer g.finish()
	p := g.p
	begun := time.Now()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var finding chan struct{}
	for {
		slow, next := g.slow()
		found := g.start(slow)
		if found != nil {
			finding = found
		}
		waitFind := finding != nil && (len(g.got) == 0 || time.Since(begun) < strangerTime)
		switch {
		case len(g.got) >= g.want:
			return g.got, nil
		case !waitFind && (len(g.running) == 0 || len(g.got) > 0 && slow == len(g.running)):
			if len(g.got) > 0 {
				return g.got, nil
			}
			if len(g.errs) == 0 {
				g.errs = p.troubles()
			}
			return nil, noRelay(errors.Join(g.errs...))
		}
		if waitFind && (next == 0 || next > strangerTime) {
			next = strangerTime
		}
		if next > 0 {
			timer.Reset(next)
		}
		select {
		case r := <-g.results:
			g.take(r)
		case <-finding:
			finding = nil
		case <-timer.C:
		case <-p.ctx.Done():
			return g.stopped(ErrClosed)
		case <-g.ctx.Done():
			return g.stopped(g.ctx.Err())
		}
	}
}

func (g *gathering) stopped(err error) ([]*Allocation, error) {
	if len(g.got) > 0 {
		return g.got, nil
	}
	return nil, noRelay(errors.Join(append(g.errs, err)...))
}

// slow counts the attempts that take longer than is fair, and tells when the next one will. Once there is an allocation, the
// others may take as many round trips as the first and half as many again, and two in any case: a nonce may be stale.
func (g *gathering) slow() (n int, next time.Duration) {
	for _, r := range g.running {
		fair := r.fair
		switch {
		case g.first > 0 && (r.rtt == 0 || g.trips == 0):
			fair = min(max(2*g.first, farAway), g.first+strangerTime) + besides
		case len(g.got) > 0 && r.rtt > 0:
			fair = min(time.Duration(max(2.25, 1.5*g.trips)*float64(r.rtt)), g.first+strangerTime) + besides
		}
		if left := fair - time.Since(r.begun); left <= 0 {
			n++
		} else if next == 0 || left < next {
			next = left
		}
	}
	return n, next
}

// start begins attempts until, slow ones not counted, as many are under way as are wanted. If there are not enough relay
// peers to ask, it looks for more and gives what is closed when that has ended.
func (g *gathering) start(slow int) chan struct{} {
	p := g.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(g.got)+len(g.running)-slow < g.want {
		list := p.choose(g.without, g.groups())
		if len(list) == 0 {
			none := len(g.got)+len(g.running) == 0
			switch {
			case !p.searched.IsZero() && !none: // there are only so many; keep looks for more now and then
				return nil
			case p.finding == nil && (g.searched || p.now().Sub(p.searched) < searchPause):
				return nil
			}
			g.searched = true
			return p.search()
		}
		r := list[0]
		node := r.advert.Node
		g.without[node] = true
		if err := p.try(r, func(x result) { g.deliver(x) }); err != nil {
			g.errs = append(g.errs, err)
			return nil
		}
		fair := strangerTime
		if r.rtt > 0 {
			fair = 4*r.rtt + patience
			if !r.good(p.now()) {
				fair += strangerTime / 2
			}
		}
		g.running = append(g.running, running{node, r.rtt, time.Now(), fair})
	}
	return nil
}

// groups gives the networks of the allocations there are already. p.mu is held.
func (g *gathering) groups() (out []string) {
	for _, a := range g.got {
		g.without[a.relay] = true
		if x := addressGroup(a.at.addr.Addr()); x != "" {
			out = append(out, x)
		}
	}
	for _, x := range g.running {
		if r := g.p.relays[x.node]; r != nil {
			out = append(out, r.groups(g.p.cfg.Permit)...)
		}
	}
	return out
}

// take works a result in.
func (g *gathering) take(r result) {
	i := slices.IndexFunc(g.running, func(x running) bool { return x.node == r.node })
	was := g.running[i]
	g.running = slices.Delete(g.running, i, i+1)
	if r.err != nil {
		g.errs = append(g.errs, fmt.Errorf("relay peer %s: %w", r.node, r.err))
		return
	}
	if len(g.got) == 0 {
		if g.first = max(time.Since(was.begun), 1); was.rtt > 0 {
			g.trips = float64(g.first) / float64(was.rtt)
		}
	}
	g.got = append(g.got, r.a)
}

// deliver is called by attempts; what comes too late is kept ready for the next call.
func (g *gathering) deliver(r result) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		g.results <- r
		return
	}
	if r.a != nil {
		g.p.keepReady(r.a)
	}
}

// finish ends the reading of results.
func (g *gathering) finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	for {
		select {
		case r := <-g.results:
			if r.a != nil {
				g.p.keepReady(r.a)
			}
		default:
			return
		}
	}
}

// try begins an attempt to get an allocation at a relay peer; done is told how it ended. p.mu is held.
func (p *Pool) try(r *relay, done func(result)) error {
	switch {
	case p.closed:
		return ErrClosed
	case p.trying >= maxTries || len(p.open)+p.trying >= p.cfg.MaxAllocations:
		return fmt.Errorf("%w: %d", ErrTooMany, len(p.open))
	}
	p.trying++
	node := r.advert.Node
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, attemptTime)
		defer cancel()
		a, err := p.attempt(ctx, r)
		p.mu.Lock()
		p.trying--
		p.mu.Unlock()
		if err != nil && !errors.Is(err, errAsking) {
			p.failed(node, err)
		}
		done(result{node, a, err})
	})
	return nil
}

// attempt asks one relay peer for an allocation; a credential that it does not take any more is replaced once.
func (p *Pool) attempt(ctx context.Context, r *relay) (*Allocation, error) {
	for again := false; ; again = true {
		grant, hint, err := p.granted(ctx, r)
		if err != nil {
			return nil, err
		}
		network := p.network()
		p.mu.Lock()
		node, heats := r.advert.Node, p.heats(r, network)
		p.mu.Unlock()
		a, err := p.race(ctx, node, heats, grant, hint)
		if err == nil {
			p.made(r, a)
			return a, nil
		}
		if codeOf(err) != codeUnauthorized || again {
			return nil, err
		}
		p.mu.Lock()
		if r.grant.Username == grant.Username && r.grant.Password == grant.Password {
			r.got = time.Time{}
		}
		p.mu.Unlock()
	}
}
