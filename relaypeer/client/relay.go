package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"p2psip/overlay"
	"p2psip/relaypeer/credential"
)

const (
	// credentialTime bounds asking for a credential.
	credentialTime = 3 * time.Second
	// credentialSpare is how long a credential has to be good for yet to be used.
	credentialSpare = 10 * time.Second
	// minRetry and maxRetry bound how long a relay peer that failed is left alone, twice as long each time.
	minRetry = 5 * time.Second
	maxRetry = 10 * time.Minute
	// nearRTT is a round trip that counts as no distance, unknownRTT is assumed where none was measured.
	nearRTT    = 50 * time.Millisecond
	unknownRTT = 100 * time.Millisecond
)

// relay is what is known of one relay peer. It is guarded by Pool.mu.
type relay struct {
	advert   overlay.Advert
	grant    credential.Grant
	got      time.Time // when the grant came, zero: there is none
	renew    time.Time // when the next one is asked for while the pool is warm
	fetching chan struct{}
	fetchErr error // of the last fetch, as long as there is no grant
	hint     challenge
	rtt      time.Duration // 0: not measured
	measure  time.Time     // when it is measured again
	pinging  bool
	draw     float64 // chance, so that not all nodes choose the same relay peer
	failures int
	until    time.Time // it is left alone until then
	trouble  error     // why
	open     int       // allocations
	filling  int       // attempts under way for ready ones
	via      Transport // of the last allocation
}

func (r *relay) good(now time.Time) bool {
	return !r.got.IsZero() && now.Before(r.got.Add(r.grant.Lifetime-min(credentialSpare, r.grant.Lifetime/4)))
}

// ends gives where the relay peer serves.
func (r *relay) ends(permit func(netip.Addr) bool) []endpoint {
	return endpoints(permit, r.grant.URIs, r.advert.Services)
}

// groups gives the parts of the Internet it is in.
func (r *relay) groups(permit func(netip.Addr) bool) (out []string) {
	for _, e := range r.ends(permit) {
		if g := addressGroup(e.addr.Addr()); g != "" && !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	return out
}

// cost is what relay peers are ordered by: distance, the room left, and chance.
func (r *relay) cost(now time.Time) float64 {
	rtt := r.rtt
	if rtt == 0 {
		rtt = unknownRTT
	}
	c := float64(nearRTT+rtt) / float64(1000-min(r.advert.Load, 990)) * r.draw
	if r.good(now) {
		c *= 0.7 // it has been asked already
	}
	return c
}

// choose gives the known relay peers that may be asked, best first: those in networks of their own before those beside
// another one. p.mu is held.
func (p *Pool) choose(without map[overlay.NodeID]bool, networks []string) []*relay {
	now := p.now()
	var list []*relay
	for node, r := range p.relays {
		if !without[node] && !now.Before(r.until) && now.Before(r.advert.Expires) {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b *relay) int {
		switch x, y := a.cost(now), b.cost(now); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	seen := map[string]bool{}
	for _, g := range networks {
		seen[g] = true
	}
	var first, beside []*relay
	for _, r := range list {
		groups := r.groups(p.cfg.Permit)
		if slices.ContainsFunc(groups, func(g string) bool { return seen[g] }) {
			beside = append(beside, r)
			continue
		}
		for _, g := range groups {
			seen[g] = true
		}
		first = append(first, r)
	}
	return append(first, beside...)
}

// learn takes adverts that the overlay gave. p.mu is held.
func (p *Pool) learn(list []overlay.Advert) {
	now := p.now()
	for _, a := range list {
		if r := p.relays[a.Node]; r != nil {
			if a.Sequence >= r.advert.Sequence {
				r.advert = a
			}
			continue
		}
		p.relays[a.Node] = &relay{advert: a, draw: 0.8 + 0.4*rand.Float64()}
	}
	for node, r := range p.relays {
		if !now.Before(r.advert.Expires) && r.open == 0 {
			delete(p.relays, node)
		}
	}
	for len(p.relays) > maxRelays {
		var worst overlay.NodeID
		for node, r := range p.relays {
			w := p.relays[worst]
			if w == nil || r.failures > w.failures || r.failures == w.failures && r.cost(now) > w.cost(now) {
				worst = node
			}
		}
		delete(p.relays, worst)
	}
}

// granted gives a credential of a relay peer that is good, asking for one if there is none. Those who ask at one time share
// the answer.
func (p *Pool) granted(ctx context.Context, r *relay) (credential.Grant, challenge, error) {
	for {
		p.mu.Lock()
		if r.good(p.now()) {
			defer p.mu.Unlock()
			return r.grant, r.hint, nil
		}
		if err := p.fetch(r); err != nil {
			p.mu.Unlock()
			return credential.Grant{}, challenge{}, err
		}
		wait := r.fetching
		p.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return credential.Grant{}, challenge{}, fmt.Errorf("asking for a credential: %w", ctx.Err())
		}
		p.mu.Lock()
		err := r.fetchErr
		p.mu.Unlock()
		if err != nil {
			return credential.Grant{}, challenge{}, err
		}
	}
}

// fetch begins to ask for a credential unless that is going on. p.mu is held.
func (p *Pool) fetch(r *relay) error {
	if r.fetching != nil {
		return nil
	}
	if p.closed {
		return ErrClosed
	}
	done, advert := make(chan struct{}), r.advert
	r.fetching = done
	p.counts.Credentials++
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, credentialTime)
		defer cancel()
		g, err := p.cfg.Credentials(ctx, advert)
		if err == nil && g.Lifetime <= 0 {
			err = fmt.Errorf("%w: its credential has run out already", errUseless)
		}
		if err != nil {
			err = fmt.Errorf("%w: %w", errAsking, err)
		}
		p.mu.Lock()
		r.fetching, r.fetchErr = nil, err
		if now := p.now(); err == nil {
			r.grant, r.got = g, now
			r.renew = now.Add(g.Lifetime * time.Duration(70+rand.IntN(15)) / 100)
			r.hint = challenge{g.Realm, g.Nonce}
		} else {
			r.renew = now.Add(spread(minRetry))
		}
		p.mu.Unlock()
		if err != nil {
			p.failed(advert.Node, err)
		}
		close(done)
		p.kick()
	})
	return nil
}

// errAsking: there is no credential. Whoever asked for it has dealt with that.
var errAsking = errors.New("asking for a credential")

// worked notes that a relay peer did what it offers. p.mu is held.
func (r *relay) worked() { r.failures, r.until, r.trouble = 0, time.Time{}, nil }

// failed notes that it did not, and tells the overlay unless it only declined or the fault is this machine's.
func (p *Pool) failed(node overlay.NodeID, err error) {
	var no *credential.Refusal
	refused := errors.As(err, &no) || errors.Is(err, ErrRefused)
	local := isLocal(err)
	p.mu.Lock()
	r := p.relays[node]
	if r == nil || p.closed || p.now().Before(r.until) { // that it is to be left alone is known
		p.mu.Unlock()
		return
	}
	wait := min(minRetry<<min(r.failures, 8), maxRetry)
	if local {
		wait = minRetry
	} else {
		r.failures++
	}
	if no != nil && no.Retry > 0 {
		wait = min(max(wait, no.Retry), maxRetry)
	}
	r.until, r.trouble, r.rtt = p.now().Add(spread(wait)), err, 0
	if codeOf(err) == codeUnauthorized {
		r.got = time.Time{} // another credential may be taken
	}
	p.counts.Failures++
	p.mu.Unlock()
	if !refused && !local {
		p.cfg.Overlay.Failed(overlay.RoleRelay, node)
	}
	p.log.Debug("a relay peer does not serve", "node", node, "error", err)
	p.kick()
}

// troubles tells why nobody can be asked.
func (p *Pool) troubles() (out []error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, r := range p.relays {
		if r.trouble != nil && len(out) < maxWant {
			out = append(out, fmt.Errorf("relay peer %s failed lately: %w", node, r.trouble))
		}
	}
	return append(out, p.findErr)
}

// isLocal says whether the error is about this machine: its network is gone, or it has no sockets left.
func isLocal(err error) bool {
	for _, e := range []error{syscall.ENETUNREACH, syscall.EADDRNOTAVAIL, syscall.ENETDOWN, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.EPERM, context.Canceled, ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
