package relaypeer

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// sources decides how much is answered to who has shown no credential: so much that a real client always gets through in the
// end, so little that nobody can hurt a third party by writing its address into a question. An IPv4 address is a source,
// and a /64 of IPv6. The table is bounded; the source heard of longest ago is forgotten first, and a new one has no more than
// a few answers to gain.
type sources struct {
	l Limits

	mu     sync.Mutex // guards all below
	table  map[netip.Addr]*list.Element
	order  *list.List               // of *source, the one heard of last in front
	larger bucket                   // of answers that are larger than their question, to all
	known  map[netip.Addr]time.Time // until when a member is known to be at a source; forged addresses do not push it out
}

type source struct {
	key     netip.Addr
	answers bucket
	larger  bucket
}

// knownFactor is how much more often a source is answered where a member is known to be: there may be many members behind a NAT.
const knownFactor = 10

// bucket is a token bucket. The zero value is full at the first take.
type bucket struct {
	tokens float64
	at     time.Time
}

// take takes n tokens if there are as many; rate a second come back, up to burst.
func (b *bucket) take(now time.Time, n, rate, burst float64) bool {
	if b.at.IsZero() {
		b.tokens = burst
	} else if d := now.Sub(b.at).Seconds(); d > 0 {
		b.tokens = min(burst, b.tokens+d*rate)
	}
	b.at = now
	if b.tokens < n {
		return false
	}
	b.tokens -= n
	return true
}

func newSources(l Limits) *sources {
	return &sources{l: l, table: map[netip.Addr]*list.Element{}, order: list.New(), known: map[netip.Addr]time.Time{}}
}

// sourceKey gives what counts as one source.
func sourceKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// get gives the entry of an address, making one. s.mu is held.
func (s *sources) get(a netip.Addr) *source {
	key := sourceKey(a)
	if el := s.table[key]; el != nil {
		s.order.MoveToFront(el)
		return el.Value.(*source)
	}
	for s.order.Len() >= s.l.Sources {
		last := s.order.Back()
		delete(s.table, last.Value.(*source).key)
		s.order.Remove(last)
	}
	e := &source{key: key}
	s.table[key] = s.order.PushFront(e)
	return e
}

// member notes that a member is at an address: it has been talked to over a connection.
func (s *sources) member(a netip.Addr, now, until time.Time) {
	if !a.IsValid() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= s.l.Members {
		for k, end := range s.known {
			if now.After(end) {
				delete(s.known, k)
			}
		}
	}
	if len(s.known) < s.l.Members {
		s.known[sourceKey(a)] = until
	}
}

// mayAnswer says whether an answer of so many octets may go to an address that has asked with so many, and takes it into
// account.
func (s *sources) mayAnswer(a netip.Addr, question, answer int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.get(a)
	rate := float64(s.l.Answers)
	known := now.Before(s.known[e.key])
	if known {
		rate *= knownFactor
	}
	if !e.answers.take(now, 1, rate, 3*rate) {
		return false
	}
	if answer <= question || known {
		return true
	}
	const burst = 10 // a client behind a new address, with retransmissions, on a few ports
	return e.larger.take(now, 1, 1./3, burst) && s.larger.take(now, 1, float64(s.l.Larger), float64(2*s.l.Larger))
}

func (s *sources) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.order.Len()
}
