package dnsreg

import (
	"net/netip"
	"sync"
	"time"
)

// RateLimit bounds the answers over UDP to one network (/24, or /56 of IPv6): whoever writes a victim's address into queries gets
// little sent there. A zero field means its default.
type RateLimit struct {
	PerSecond int // 20
	Burst     int // 40
	// Slip is which of the answers over the limit is sent after all, truncated: a resolver that was meant asks again over TCP. 2
	Slip     int
	Networks int // remembered, 10,000; those of longest ago are forgotten
}

func (r RateLimit) withDefaults() RateLimit {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&r.PerSecond, 20)
	set(&r.Burst, 40)
	set(&r.Slip, 2)
	set(&r.Networks, 10_000)
	return r
}

// verdicts of a limiter.
const (
	pass = iota
	slip
	drop
)

// limiter is a bucket for each network. Two generations of buckets bound the memory without a list to keep in order.
type limiter struct {
	r RateLimit

	mu         sync.Mutex // guards all below
	young, old map[netip.Prefix]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
	over   int // answers over the limit since the last that was let through
}

func newLimiter(r RateLimit) *limiter {
	return &limiter{r: r.withDefaults(), young: map[netip.Prefix]*bucket{}}
}

func (l *limiter) allow(a netip.Addr, now time.Time) int {
	bits := 56
	if a = a.Unmap(); a.Is4() {
		bits = 24
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return drop
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.young[p]
	if b == nil {
		if b = l.old[p]; b == nil {
			b = &bucket{tokens: float64(l.r.Burst), at: now}
		}
		if len(l.young) >= l.r.Networks/2 {
			l.old, l.young = l.young, map[netip.Prefix]*bucket{}
		}
		l.young[p] = b
	}
	if d := now.Sub(b.at); d > 0 {
		b.tokens = min(float64(l.r.Burst), b.tokens+d.Seconds()*float64(l.r.PerSecond))
	}
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		b.over = 0
		return pass
	}
	b.over++
	if b.over%l.r.Slip == 0 {
		return slip
	}
	return drop
}
