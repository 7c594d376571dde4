package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/pion/stun"
)

const (
	// refreshEvery is how often an allocation is refreshed, however long it would last: that is also how a relay peer that was
	// started anew is noticed.
	refreshEvery = 2 * time.Minute
	// permitEvery is how often permissions and channels are asked for again; a permission lasts five minutes (RFC 8656 §9).
	permitEvery = 3 * time.Minute
	// keepPermission is how long one is kept up after the last packet.
	keepPermission = 10 * time.Minute
	// refusedFor is how long a permission that was refused is not asked for again.
	refusedFor = 30 * time.Second
	// quietFor is how long nothing need come from a relay peer before it is asked for a sign of life, which keeps the
	// mapping of a NAT open as well (RFC 4787 REQ-5 has two minutes, many have thirty seconds).
	quietFor = 20 * time.Second
	// quietBusy is the same while data is sent: somebody would have answered.
	quietBusy = 3 * time.Second
	// doubtEvery bounds how often somebody who forges ICMP errors has the relay peer asked.
	doubtEvery = time.Second
	// requestTime bounds one request of an allocation's upkeep.
	requestTime = 4 * time.Second
	// releaseTime bounds giving an allocation back.
	releaseTime = time.Second
	// permitAtOnce is how many addresses one CreatePermission names.
	permitAtOnce = 16
)

// spread gives d, a tenth more or less, so that what began together does not go on together.
func spread(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// tend is the goroutine that keeps an allocation alive and notices its end.
func (a *Allocation) tend() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	now := a.now()
	refresh, permit, doubt := now.Add(a.refreshIn()), now.Add(spread(permitEvery)), now
	quiet, sent := spread(quietFor), uint64(0)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := a.now()
		patience := quiet
		if a.busy.Load() {
			patience = min(quiet, quietBusy)
		}
		wait := min(refresh.Sub(now), permit.Sub(now), patience-a.link.quiet())
		suspect := a.suspect
		if w := doubt.Sub(now); w > 0 {
			suspect, wait = nil, min(wait, w)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-a.done:
			return
		case <-a.link.done:
			a.end(a.link.reason())
			return
		case to := <-a.wishes:
			ctx, cancel := context.WithTimeout(ctx, requestTime)
			_ = a.bind(ctx, to)
			cancel()
			continue
		case <-suspect:
			if a.Alive(ctx) != nil {
				return
			}
			doubt = a.now().Add(doubtEvery)
			continue
		case <-a.began:
			continue
		case <-timer.C:
		}
		now = a.now()
		moved := a.sent.Load() != sent
		if sent = a.sent.Load(); !moved {
			a.busy.Store(false)
		}
		var err error
		switch {
		case !now.Before(refresh):
			if err = a.refresh(ctx); err == nil {
				refresh = a.now().Add(a.refreshIn())
			} else {
				refresh = now.Add(spread(retryRefresh))
			}
		case !now.Before(permit):
			a.permitAgain(ctx)
			permit = a.now().Add(spread(permitEvery))
		case a.link.quiet() >= quiet, moved && a.link.quiet() >= quietBusy:
			if err = a.sign(ctx); err == nil {
				quiet = spread(quietFor)
			}
		}
		if err != nil && a.fatal(err) {
			return
		}
	}
}

// retryRefresh is the pause after a refresh that the relay peer answered with an error that may pass.
const retryRefresh = 15 * time.Second

// refreshIn is the time until the next refresh.
func (a *Allocation) refreshIn() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return spread(min(a.lifetime/2, refreshEvery))
}

// fatal ends the allocation if err says that it is lost, and says so.
func (a *Allocation) fatal(err error) bool {
	switch code := codeOf(err); {
	case code == codeMismatch:
		err = fmt.Errorf("%w: %w", errForgotten, err)
	case code == codeUnauthorized, code == codeWrongCredential, code == 0:
	default: // an error that may pass, as long as the allocation lasts
		a.mu.Lock()
		left := a.until.After(a.now())
		a.mu.Unlock()
		if left {
			return false
		}
	}
	a.end(err)
	return true
}

// refresh asks for more time (RFC 8656 §8.1).
func (a *Allocation) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	m, err := a.session.request(ctx, stun.MethodRefresh, lifetimeOf(a.wish()))
	if err != nil {
		return err
	}
	return a.extended(m)
}

// wish is the lifetime to ask for.
func (a *Allocation) wish() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lifetime
}

// sign asks the relay peer for a sign of life.
func (a *Allocation) sign(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	_, err := binding(ctx, a.link)
	return err
}

// permitAgain renews the permissions and channels in use (RFC 8656 §9.2, §12.3) and drops the others. What fails is
// dropped as well: it is asked for again when something is to be sent.
func (a *Allocation) permitAgain(ctx context.Context) {
	now := a.now()
	var addrs []netip.Addr
	var bound []netip.AddrPort
	a.mu.Lock()
	for to, x := range a.targets {
		switch idle := now.Sub(x.used) > keepPermission; {
		case x.number != 0 && !idle:
			bound = append(bound, to)
		case idle:
			delete(a.targets, to)
			// Its number cannot be used for another address for now (RFC 8656 §12.1), so it is not used again at all.
			delete(a.channels, x.number)
		}
	}
	for addr, p := range a.perms {
		switch {
		case p.state == permAsked:
		case p.keep || p.state == permGiven && now.Sub(p.used) <= keepPermission:
			addrs = append(addrs, addr)
		default:
			delete(a.perms, addr)
		}
	}
	a.mu.Unlock()
	for len(addrs) > 0 {
		some := addrs[:min(len(addrs), permitAtOnce)]
		addrs = addrs[len(some):]
		if err := a.permitAll(ctx, some); err != nil && len(some) > 1 {
			for _, one := range some { // one that is refused takes the others with it (RFC 8656 §10.2)
				_ = a.permitAll(ctx, []netip.Addr{one})
			}
		}
	}
	for _, to := range bound {
		ctx, cancel := context.WithTimeout(ctx, requestTime)
		_ = a.bind(ctx, to)
		cancel()
	}
}

func (a *Allocation) permitAll(ctx context.Context, addrs []netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var attrs []stun.Setter
	for _, x := range addrs {
		attrs = append(attrs, peerAddress(netip.AddrPortFrom(x, 0)))
	}
	_, err := a.session.request(ctx, stun.MethodCreatePermission, attrs...)
	if err != nil && len(addrs) == 1 {
		a.mu.Lock()
		if p := a.perms[addrs[0]]; p != nil && p.state == permGiven {
			p.state, p.used, p.err = permRefused, a.now(), fmt.Errorf("%w: %w", errPermitted, err)
		}
		a.mu.Unlock()
	}
	return err
}

// Alive asks the relay peer whether it still has the allocation, for who has a reason to doubt it. It gives nil after an
// answer that says so; otherwise the allocation has ended, at the latest after a second and a half, and the error says why.
// When ctx ends first, nothing is decided.
func (a *Allocation) Alive(ctx context.Context) error {
	if err := a.Err(); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, aliveWithin)
	defer cancel()
	m, err := a.session.probe(within, stun.MethodRefresh, lifetimeOf(a.wish()))
	if err == nil {
		if err = a.extended(m); err == nil {
			return nil
		}
	}
	if over := ctx.Err(); over != nil {
		return over
	}
	select {
	case <-a.link.done:
		err = a.link.reason()
	default:
	}
	if a.fatal(err) {
		return a.Err()
	}
	return nil // it answered
}

// usable says whether the allocation can be handed out: it lives, and was heard lately.
func (a *Allocation) usable() bool {
	select {
	case <-a.done:
		return false
	default:
		return a.link.quiet() < 2*quietFor
	}
}
