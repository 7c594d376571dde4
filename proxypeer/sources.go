package proxypeer

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// sources remembers who talks to this proxy peer from outside: how much, how well it went, and whether a UDP source has
// shown that it is where it says. An IPv4 address is a source, and a /64 of IPv6. The table is bounded; the source that was
// heard of longest ago is forgotten first, which a flood of forged addresses can bring about: what protects against that
// is that nobody is trusted for being unknown.
type sources struct {
	l Limits

	mu    sync.Mutex // guards both
	table map[netip.Addr]*list.Element
	order *list.List // of *source, the one heard of last in front
}

type source struct {
	key netip.Addr

	tokens float64 // requests that it may send now
	filled time.Time
	faults float64 // of its requests that were refused lately
	paid   time.Time
	told   time.Time // when it was last told to slow down
	good   time.Time // when a request of it was last served

	verified time.Time // until then it is known to hear what is sent to it
	size     int       // of its largest request lately
	credit   int       // octets that may be sent to it
	larger   int       // responses sent that were larger, since window began
	window   time.Time
	tags     [4]string // To tags that were sent to it last
	tag      int
}

func newSources(l Limits) *sources {
	return &sources{l: l, table: make(map[netip.Addr]*list.Element), order: list.New()}
}

func sourceKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// get gives the entry of an address, making one. Called under s.mu.
func (s *sources) get(a netip.Addr, now time.Time) *source {
	key := sourceKey(a)
	if e := s.table[key]; e != nil {
		s.order.MoveToFront(e)
		return e.Value.(*source)
	}
	for s.order.Len() >= s.l.Sources {
		last := s.order.Back()
		delete(s.table, last.Value.(*source).key)
		s.order.Remove(last)
	}
	e := &source{key: key, tokens: float64(s.l.Burst), filled: now, paid: now}
	s.table[key] = s.order.PushFront(e)
	return e
}

func (s *sources) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.order.Len()
}

// verdict is what the gate does with a request.
type verdict uint8

const (
	let    verdict = iota // in
	slow                  // answered 503 with Retry-After
	silent                // not answered
)

// trusted is how much more a source may do whose requests are served: a provider has many users, and some dial wrong numbers.
const trusted = 10

// ask takes a request of a source into account. A request inside a dialog, and one that ends something, costs less.
func (s *sources) ask(host string, req *sip.Request, now time.Time) verdict {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return let
	}
	cost := 1.0
	switch tag, inside := req.To().Params.Get("tag"); {
	case req.Method == sip.ACK, req.Method == sip.CANCEL:
		cost = 0.1
	case inside && tag != "":
		cost = 0.3
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.get(a, now)
	factor := 1.0
	if now.Sub(e.good) < time.Hour {
		factor = trusted
	}
	e.tokens = min(float64(s.l.Burst)*factor, e.tokens+now.Sub(e.filled).Seconds()*float64(s.l.Rate)*factor)
	e.filled = now
	if e.pay(now, s.l); cost == 1 && e.faults > float64(s.l.Faults)*factor {
		cost = float64(s.l.Rate) * factor * 5 // one request in five seconds
		e.tokens = min(e.tokens, cost)
	}
	if e.tokens < cost {
		if req.Method == sip.ACK || e.faults > float64(s.l.Faults)*factor || now.Sub(e.told) < time.Second {
			return silent
		}
		e.told = now
		return slow
	}
	e.tokens -= cost
	return let
}

// pay forgives faults as time goes by.
func (e *source) pay(now time.Time, l Limits) {
	e.faults = max(0, e.faults-now.Sub(e.paid).Seconds()/l.Forgive.Seconds())
	e.paid = now
}

// answered takes an answer into account. What asks for a password, or says that one was wrong, is no fault of this kind: the
// first request of everybody who has one is answered so.
func (s *sources) answered(host string, udp bool, method sip.RequestMethod, status int, now time.Time) {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.get(a, now)
	switch {
	case status < 300 && method != sip.OPTIONS:
		e.good = now
	case status == 401, status == 407, status == 480, status == 486, status == 487, status == 488, status >= 500:
	case status >= 400:
		e.pay(now, s.l)
		e.faults++
	}
}

// heard notes a datagram.
func (s *sources) heard(from netip.AddrPort, size int) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.get(from.Addr(), now)
	if now.Before(e.verified) {
		return
	}
	e.size = max(e.size, size)
	e.credit = min(e.credit+3*size, 64<<10)
}

// believes notes that a request of a source shows a To tag that it can only know from what was sent to it.
func (s *sources) believes(host, tag string, now time.Time) {
	a, err := netip.ParseAddr(host)
	if err != nil || tag == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.get(a, now)
	for _, t := range e.tags {
		if t == tag {
			e.verified = now.Add(s.l.Verified)
			e.tags, e.size, e.credit = [4]string{}, 0, 0
			return
		}
	}
}

// mayRespond says whether a response of some size may go to a UDP source, and takes it into account.
func (s *sources) mayRespond(a netip.Addr, status, size int, tag func() string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.get(a, now)
	if now.Before(e.verified) {
		return true
	}
	if size > e.size || size > e.credit {
		if now.Sub(e.window) > time.Minute {
			e.window, e.larger = now, 0
		}
		if status < 180 || status >= 300 || e.larger >= s.l.Larger {
			return false
		}
		e.larger++
	}
	e.credit = max(0, e.credit-size)
	if t := tag(); t != "" {
		e.tags[e.tag] = t
		e.tag = (e.tag + 1) % len(e.tags)
	}
	return true
}
