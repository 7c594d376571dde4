package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"p2psip/overlay"
)

// Pool finds relay peers and keeps allocations. Make one with New, end it with Close.
type Pool struct {
	cfg  Config
	log  *slog.Logger
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup // everything that runs, allocations included
	wake chan struct{}  // capacity 1: keep has something to look at

	mu       sync.Mutex // guards all below
	closed   bool
	warm     bool      // Warm or Allocate was called
	used     time.Time // when Allocate was last called
	relays   map[overlay.NodeID]*relay
	networks networks
	open     map[*Allocation]string // with the network they were made in
	ready    []*Allocation
	trying   int // attempts under way
	filling  int // of those, for ready
	finding  chan struct{}
	findErr  error
	searched time.Time // when the overlay was asked last
	find     time.Time // when it is asked next
	lonely   int       // searches in a row that found too few
	counts   Counts
}

// Counts count since the start.
type Counts struct {
	Searches    uint64 // of the overlay
	Credentials uint64 // asked for
	Allocations uint64 // made
	Ready       uint64 // handed out without anybody's waiting
	Failures    uint64 // attempts at a relay peer, and allocations, that failed
}

const (
	// searchTime bounds one search of the overlay.
	searchTime = 8 * time.Second
	// findEvery is how often the overlay is asked while the pool is warm; an advertisement lasts a quarter of an hour.
	findEvery = 5 * time.Minute
	// findSoon is the pause after a search that found too few, twice as long each time.
	findSoon = 20 * time.Second
	// measureEvery is how often the round trip to a relay peer without a ready allocation is measured.
	measureEvery = 90 * time.Second
	// pingTime bounds that.
	pingTime = 1500 * time.Millisecond
	// idleWait is how long keep sleeps at most.
	idleWait = time.Minute
)

// New makes a Pool. It does nothing until Warm or Allocate is called.
func New(c Config) (*Pool, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	p := &Pool{
		cfg: c, log: c.Logger, wake: make(chan struct{}, 1),
		relays: map[overlay.NodeID]*relay{}, open: map[*Allocation]string{},
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.wg.Go(p.keep)
	return p, nil
}

func (p *Pool) now() time.Time { return p.cfg.Now() }

// Close gives back all allocations, in a second at most, and waits for all that runs.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	var list []*Allocation
	for a := range p.open {
		list = append(list, a)
	}
	p.mu.Unlock()
	p.stop()
	for _, a := range list {
		_ = a.Close()
	}
	p.wg.Wait()
}

// Warm looks for relay peers, asks those that would be used for credentials and measures the way to them, so that Allocate
// takes a round trip or two. From then on the pool keeps that fresh by itself. The error says why Allocate would not work.
func (p *Pool) Warm(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	p.warm = true
	wait := p.search()
	enough := len(p.choose(nil, nil)) >= p.cfg.Want
	p.mu.Unlock()
	p.kick()
	if !enough {
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	list := p.choose(nil, nil)
	err := p.findErr
	p.mu.Unlock()
	if len(list) == 0 {
		return noRelay(err)
	}
	list = list[:min(len(list), p.cfg.Want)]
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, r := range list {
		wg.Go(func() {
			if _, _, errs[i] = p.granted(ctx, r); errs[i] != nil {
				return
			}
			p.mu.Lock()
			known := r.rtt > 0
			p.mu.Unlock()
			if !known {
				errs[i] = p.ping(ctx, r)
			}
		})
	}
	wg.Wait()
	if slices.Contains(errs, nil) {
		return nil
	}
	return noRelay(errors.Join(errs...))
}

func noRelay(err error) error {
	if err == nil {
		return ErrNoRelay
	}
	return fmt.Errorf("%w: %w", ErrNoRelay, err)
}

// search begins to ask the overlay for relay peers, unless that is going on, and gives what is closed at its end. p.mu is
// held.
func (p *Pool) search() chan struct{} {
	if p.finding != nil || p.closed {
		if p.finding == nil {
			done := make(chan struct{})
			close(done)
			return done
		}
		return p.finding
	}
	done := make(chan struct{})
	p.finding = done
	p.counts.Searches++
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, searchTime)
		defer cancel()
		list, err := p.cfg.Overlay.Find(ctx, overlay.RoleRelay, min(2*p.cfg.Want, maxRelays))
		p.mu.Lock()
		p.learn(list)
		p.finding, p.findErr = nil, err
		now := p.now()
		p.searched = now
		if len(p.choose(nil, nil)) < p.cfg.Want {
			p.find = now.Add(spread(min(findSoon<<min(p.lonely, 6), 2*findEvery)))
			p.lonely++
		} else {
			p.find, p.lonely = now.Add(spread(findEvery)), 0
		}
		p.mu.Unlock()
		close(done)
		p.kick()
	})
	return done
}

// kick has keep look around.
func (p *Pool) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// keep is the goroutine that keeps a warm pool warm.
func (p *Pool) keep() {
	timer := time.NewTimer(idleWait)
	defer timer.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		timer.Reset(p.upkeep())
	}
}

// upkeep begins what is due and gives the time until something is due again.
func (p *Pool) upkeep() time.Duration {
	network := p.network()
	p.mu.Lock()
	if !p.warm || p.closed {
		p.mu.Unlock()
		return idleWait
	}
	now := p.now()
	next := now.Add(idleWait)
	due := func(t time.Time) bool {
		if now.Before(t) {
			if t.Before(next) {
				next = t
			}
			return false
		}
		return true
	}
	if p.finding == nil && due(p.find) {
		p.search()
	}
	list := p.choose(nil, nil)
	for _, r := range list[:min(len(list), p.cfg.Want)] {
		if r.fetching == nil && due(r.renew) {
			_ = p.fetch(r)
		}
		if !r.pinging && r.good(now) && due(r.measure) && !p.measured(r) {
			p.beginPing(r)
		}
	}
	for _, r := range p.relays {
		due(r.until)
	}
	idle := p.used.IsZero() || due(p.used.Add(p.cfg.Idle))
	drop := p.sift(network, idle)
	if !idle {
		p.fill()
	}
	p.mu.Unlock()
	for _, a := range drop {
		_ = a.Close()
	}
	return max(next.Sub(now), 50*time.Millisecond)
}

// measured takes the round trip from a ready allocation at a relay peer. p.mu is held.
func (p *Pool) measured(r *relay) bool {
	for _, a := range p.ready {
		if rtt := a.link.roundTrip(); a.relay == r.advert.Node && rtt > 0 && a.link.quiet() < 2*quietFor {
			r.rtt, r.measure = rtt, p.now().Add(spread(measureEvery))
			return true
		}
	}
	return false
}

// beginPing measures the way to a relay peer in the background. p.mu is held.
func (p *Pool) beginPing(r *relay) {
	if p.closed {
		return
	}
	r.pinging = true
	p.wg.Go(func() { _ = p.ping(p.ctx, r) })
}

// ping measures the round trip to a relay peer, by the first of its addresses and transports that answers.
func (p *Pool) ping(ctx context.Context, r *relay) (err error) {
	network := p.network()
	p.mu.Lock()
	r.pinging = true
	node, keys, heats := r.advert.Node, r.grant.Keys, p.heats(r, network)
	p.mu.Unlock()
	rtt, by := time.Duration(0), UDP
	var errs []error
	for _, h := range heats[:min(len(heats), 3)] {
		by = h.transport
		if rtt, err = p.pingAt(ctx, node, h.endpoint, keys); err == nil || ctx.Err() != nil {
			break
		}
		errs = append(errs, fmt.Errorf("%s: %w", h.endpoint, err))
	}
	p.mu.Lock()
	r.pinging = false
	r.measure = p.now().Add(spread(measureEvery))
	if rtt > 0 {
		r.rtt = rtt
		p.networks.worked(network, by, p.now())
	}
	p.mu.Unlock()
	switch {
	case rtt > 0:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case len(heats) == 0:
		err = fmt.Errorf("%w: it offers no address and transport that can be used from here", errUseless)
	default:
		err = errors.Join(errs...)
	}
	p.failed(node, err)
	return err
}

func (p *Pool) pingAt(ctx context.Context, node overlay.NodeID, at endpoint, keys [][]byte) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	conn, err := p.connect(ctx, node, at, keys)
	if err != nil {
		return 0, err
	}
	l := newLink(conn, at.transport != UDP, nil)
	defer l.close()
	begun := time.Now()
	if _, err := binding(ctx, l); err != nil {
		return 0, err
	}
	if rtt := l.roundTrip(); rtt > 0 {
		return rtt, nil
	}
	return max(time.Since(begun), 1), nil // it was asked more than once
}

// network tells which network this machine is in. It asks the system, so p.mu is better not held.
func (p *Pool) network() string { return networkKey(p.cfg.LocalAddrs()) }

// heats gives the places to try at a relay peer, in order. p.mu is held.
func (p *Pool) heats(r *relay, network string) []heat {
	return lineup(r.ends(p.cfg.Permit), p.networks.best(network, p.now()))
}

// RelayState is how one relay peer stands.
type RelayState struct {
	Node        overlay.NodeID
	Servers     []string      // "udp 192.0.2.7:3478", in the order in which they are tried
	RTT         time.Duration // 0: not measured
	Load        uint16        // thousandths, as it says itself
	Credential  time.Time     // until when there is one, zero: there is none
	Allocations int           // held there, the ready ones included
	Ready       int           // of those, waiting for a call
	Transport   Transport     // by which the last one was made
	Chosen      bool          // the next call would get an allocation there
	Trouble     error         // why it is left alone, nil if it is not
}

// Status gives the relay peers that are known, those that would be used first in front.
func (p *Pool) Status() []RelayState {
	network := p.network()
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	chosen := p.choose(nil, nil)
	place := map[*relay]int{}
	for i, r := range chosen {
		place[r] = i + 1
	}
	out := make([]RelayState, 0, len(p.relays))
	order := map[overlay.NodeID]int{}
	for node, r := range p.relays {
		s := RelayState{
			Node: node, RTT: r.rtt, Load: r.advert.Load, Allocations: r.open, Transport: r.via,
			Chosen: place[r] > 0 && place[r] <= p.cfg.Want,
		}
		for _, h := range p.heats(r, network) {
			s.Servers = append(s.Servers, h.endpoint.String())
		}
		if r.good(now) {
			s.Credential = r.got.Add(r.grant.Lifetime)
		}
		if now.Before(r.until) {
			s.Trouble = r.trouble
		}
		for _, a := range p.ready {
			if a.relay == node {
				s.Ready++
			}
		}
		order[node] = cmp.Or(place[r], len(p.relays)+1)
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b RelayState) int {
		return cmp.Or(order[a.Node]-order[b.Node], cmp.Compare(a.Node, b.Node))
	})
	return out
}

// Counts gives the counts.
func (p *Pool) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}
