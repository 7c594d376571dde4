package locate

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

const (
	// firstPenalty is for how long a target that failed comes last; it doubles with each failure up to maxPenalty.
	firstPenalty = 30 * time.Second
	maxPenalty   = 16 * time.Minute

	// forgetAfter is how long after a penalty has ended the next failure still counts as one more of a row.
	forgetAfter = 30 * time.Minute

	// maxRemembered is how many targets are remembered; the one that failed longest ago is forgotten first.
	maxRemembered = 4096
)

// place is what is remembered: never a domain, so that nobody's bad server harms another at the same domain, and a
// domain that moves starts afresh.
type place struct {
	transport string
	addr      netip.AddrPort
}

// failures remembers the targets that failed.
type failures struct {
	mu     sync.Mutex
	places map[place]*list.Element // guarded by mu
	order  *list.List              // of *failed, the latest in front; guarded by mu
}

type failed struct {
	place   place
	penalty time.Duration
	until   time.Time
}

func newFailures() *failures {
	return &failures{places: make(map[place]*list.Element), order: list.New()}
}

func (f *failures) bad(p place, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	el, ok := f.places[p]
	if !ok {
		f.places[p] = f.order.PushFront(&failed{place: p, penalty: firstPenalty, until: now.Add(firstPenalty)})
		if f.order.Len() > maxRemembered {
			f.remove(f.order.Back())
		}
		return
	}
	e := el.Value.(*failed)
	switch {
	case now.After(e.until.Add(forgetAfter)):
		e.penalty = firstPenalty
	case now.Before(e.until.Add(-e.penalty / 2)):
		return // several calls that failed at the same time are one failure
	default:
		e.penalty = min(2*e.penalty, maxPenalty)
	}
	e.until = now.Add(e.penalty)
	f.order.MoveToFront(el)
}

func (f *failures) good(p place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if el, ok := f.places[p]; ok {
		f.remove(el)
	}
}

// remove forgets; mu is held.
func (f *failures) remove(el *list.Element) {
	delete(f.places, f.order.Remove(el).(*failed).place)
}

// until gives the time up to which a target comes last; the zero time for one in good standing.
func (f *failures) until(p place, now time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	el, ok := f.places[p]
	if !ok {
		return time.Time{}
	}
	e := el.Value.(*failed)
	if !now.Before(e.until) {
		if now.After(e.until.Add(forgetAfter)) {
			f.remove(el)
		}
		return time.Time{}
	}
	return e.until
}

func (f *failures) none() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.places) == 0
}

// Failed notes that t was refused, silent, answered 503 or failed its TLS handshake. For half a minute, and longer each
// time it happens again, it comes after all targets that are in good standing.
func (l *Locator) Failed(t Target) { l.failures.bad(place{t.Transport, t.Addr}, l.now()) }

// Good notes that t has answered.
func (l *Locator) Good(t Target) { l.failures.good(place{t.Transport, t.Addr}) }
