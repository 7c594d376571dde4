package edge

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// maxSources bounds the table of addresses that gave wrong passwords; a full one forgets who failed longest ago.
	maxSources = 1024
	// freeFailures are answered at once: people mistype.
	freeFailures = 3
	// failureDelay is the first delay; it doubles with every further failure up to maxFailureDelay.
	failureDelay    = 250 * time.Millisecond
	maxFailureDelay = 4 * time.Second
	// forgiveEvery is how soon one failure is forgotten.
	forgiveEvery = 10 * time.Second
	// maxDelayed bounds the wrong answers of one address that wait for their 403. Further ones get none.
	maxDelayed = 8
)

// throttle slows down who guesses passwords. Only the answer to a wrong password is held back, so nobody is locked out:
// not the phone that shares its address with the guesser, nor the one whose password was corrected. Guessing is hopeless
// by the length of the passwords; this keeps it from costing anything.
type throttle struct {
	now func() time.Time

	mu      sync.Mutex // guards what follows
	sources map[netip.Prefix]*failures
}

type failures struct {
	count   int
	last    time.Time
	delayed int
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, sources: make(map[netip.Prefix]*failures)}
}

// whose gives what counts as one source: an IPv4 address, or the /64 that an IPv6 host can choose its addresses from.
func whose(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap()
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// failed notes a wrong answer and says how long to hold the response back. ok is false when too many are held back for
// this source already: then there is no response at all. With a delay above zero, released has to be called after it.
func (t *throttle) failed(ip netip.Addr) (delay time.Duration, ok bool) {
	now := t.now()
	key := whose(ip)
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.sources[key]
	if f == nil {
		if len(t.sources) >= maxSources {
			t.evict()
		}
		f = &failures{last: now}
		t.sources[key] = f
	}
	if forgiven := int(now.Sub(f.last) / forgiveEvery); forgiven > 0 {
		f.count = max(0, f.count-forgiven)
	}
	f.count++
	f.last = now
	if f.count <= freeFailures {
		return 0, true
	}
	if f.delayed >= maxDelayed {
		return 0, false
	}
	f.delayed++
	return min(failureDelay<<min(f.count-freeFailures-1, 10), maxFailureDelay), true
}

func (t *throttle) released(ip netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.sources[whose(ip)]; f != nil && f.delayed > 0 {
		f.delayed--
	}
}

func (t *throttle) evict() {
	var oldest netip.Prefix
	var when time.Time
	for k, f := range t.sources {
		if when.IsZero() || f.last.Before(when) {
			oldest, when = k, f.last
		}
	}
	delete(t.sources, oldest)
}
