package dnsreg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"p2psip/overlay"
)

// ProberConfig makes a Prober. A zero field means its default.
type ProberConfig struct {
	OID overlay.ID
	// Every is the pause between probes of an endpoint that answers, plus up to a quarter by chance: 20 s. With Again, Timeout and
	// Failures it is bounded how long a dead one counts as alive: 25 + 3·2 + 2·5 = 41 s by default.
	Every time.Duration
	// Again is the pause after a failure: 5 s. It doubles, up to MaxPause, for what has never answered or is dead.
	Again, MaxPause time.Duration
	Timeout         time.Duration // of one probe: 2 s
	Failures        int           // in a row make an endpoint dead: 3
	Successes       int           // in a row make a dead one alive again: 2
	AtOnce          int           // probes under way, of endpoints that answer; and as many of others: 32
	Dial            Dial
	Chance          func() float64 // from 0 to 1
}

func (c ProberConfig) withDefaults() ProberConfig {
	duration := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	number := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	duration(&c.Every, 20*time.Second)
	duration(&c.Again, 5*time.Second)
	duration(&c.MaxPause, 5*time.Minute)
	duration(&c.Timeout, 2*time.Second)
	number(&c.Failures, 3)
	number(&c.Successes, 2)
	number(&c.AtOnce, 32)
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Chance == nil {
		c.Chance = rand.Float64
	}
	return c
}

// maxWatched is how many endpoints are probed at most.
const maxWatched = 2048

// Prober finds out which endpoints of proxy peers answer from here. Make one with NewProber, end it with Close.
type Prober struct {
	c      ProberConfig
	news   chan struct{}
	slots  [2]chan struct{} // of those that do not answer, and those that do: so the dead do not hold up the living
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex // guards all below
	m    map[overlay.NodeID]map[Endpoint]*pulse
	size int // endpoints in m
	sent uint64
}

type watched struct {
	node overlay.NodeID
	at   Endpoint
}

// pulse is how one endpoint stands.
type pulse struct {
	stop      context.CancelFunc
	state     State
	failures  int // in a row
	successes int
	detail    string
	since     time.Time // it answers, or does not
}

// NewProber makes a Prober that has nothing to probe yet.
func NewProber(c ProberConfig) *Prober {
	p := &Prober{c: c.withDefaults(), news: make(chan struct{}, 1), m: map[overlay.NodeID]map[Endpoint]*pulse{}}
	for i := range p.slots {
		p.slots[i] = make(chan struct{}, p.c.AtOnce)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Close ends all probes and waits for them.
func (p *Prober) Close() {
	p.mu.Lock()
	p.cancel()
	p.mu.Unlock()
	p.wg.Wait()
}

// News tells that some endpoint answers that did not, or the other way round.
func (p *Prober) News() <-chan struct{} { return p.news }

// Watch replaces what is probed. What was probed before goes on as it is.
func (p *Prober) Watch(peers []Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return
	}
	want := map[watched]bool{}
	for _, peer := range peers {
		for _, e := range peer.Endpoints {
			want[watched{peer.Node, e}] = true
		}
	}
	for n, list := range p.m {
		for e, q := range list {
			if !want[watched{n, e}] {
				q.stop()
				p.size--
				delete(list, e)
			}
		}
		if len(list) == 0 {
			delete(p.m, n)
		}
	}
	for w := range want {
		if p.m[w.node][w.at] != nil || p.size >= maxWatched {
			continue
		}
		ctx, stop := context.WithCancel(p.ctx)
		q := &pulse{stop: stop}
		if p.m[w.node] == nil {
			p.m[w.node] = map[Endpoint]*pulse{}
		}
		p.m[w.node][w.at] = q
		p.size++
		p.wg.Go(func() { p.keep(ctx, w, q) })
	}
}

// keep probes one endpoint until ctx ends.
func (p *Prober) keep(ctx context.Context, w watched, q *pulse) {
	for ctx.Err() == nil {
		p.mu.Lock()
		slots := p.slots[0]
		if q.state == Alive {
			slots = p.slots[1]
		}
		p.mu.Unlock()
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		once, cancel := context.WithTimeout(ctx, p.c.Timeout)
		err := probe(once, p.c.Dial, p.c.OID, w.at)
		cancel()
		<-slots
		if ctx.Err() != nil {
			return
		}
		t := time.NewTimer(p.note(q, err))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// note takes the outcome of a probe in, and gives the pause until the next.
func (p *Prober) note(q *pulse, err error) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	before := q.state
	if err == nil {
		q.failures, q.detail = 0, ""
		q.successes++
		if q.state == Unknown || q.state == Dead && q.successes >= p.c.Successes {
			q.state = Alive
		}
	} else {
		q.successes, q.detail = 0, err.Error()
		q.failures++
		if q.failures >= p.c.Failures {
			q.state = Dead
		}
	}
	if q.state != before {
		q.since = time.Now()
		select {
		case p.news <- struct{}{}:
		default:
		}
	}
	jittered := func(d time.Duration) time.Duration { return d + time.Duration(p.c.Chance()*float64(d)/4) }
	switch {
	case err == nil && q.state == Alive:
		return jittered(p.c.Every)
	case q.failures > p.c.Failures:
		return jittered(min(p.c.Again<<min(q.failures-p.c.Failures, 10), p.c.MaxPause))
	}
	return p.c.Again
}

// Health gives how a peer stands: it is alive if one of its endpoints answers, and dead if none does.
func (p *Prober) Health(n overlay.NodeID) Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	var h Health
	unknown := false
	var details []string
	for e, q := range p.m[n] {
		switch q.state {
		case Alive:
			h.Alive = append(h.Alive, e)
		case Unknown:
			unknown = true
		case Dead:
			details = append(details, fmt.Sprintf("%s %s: %s", e.Transport, e.Addr, q.detail))
		}
	}
	slices.Sort(details)
	h.Detail = strings.Join(details, "; ")
	switch {
	case len(h.Alive) > 0:
		h.State = Alive
	case !unknown && len(details) > 0:
		h.State = Dead
	}
	return h
}

// Settled says whether everything that is watched has been found to answer, or not.
func (p *Prober) Settled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range p.m {
		for _, q := range list {
			if q.state == Unknown {
				return false
			}
		}
	}
	return true
}

// Sent counts probes.
func (p *Prober) Sent() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

// Try probes every endpoint of a peer once, now; the error says which do not answer and why.
func (p *Prober) Try(ctx context.Context, peer Peer) error {
	errs := make([]error, len(peer.Endpoints))
	var wg sync.WaitGroup
	for i, e := range peer.Endpoints[:min(len(peer.Endpoints), maxEndpoints)] {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, p.c.Timeout)
			defer cancel()
			if err := probe(ctx, p.c.Dial, p.c.OID, e); err != nil {
				errs[i] = fmt.Errorf("%s %s: %w", e.Transport, e.Addr, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
