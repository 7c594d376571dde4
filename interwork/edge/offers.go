package edge

import (
	"container/list"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxTried bounds the challenges remembered until they are answered. Strangers fill this table: see offers.next for
	// what happens when it is full.
	maxTried = 8192
	triedAge = time.Hour // phones that failed come again after half an hour at the latest

	// maxProven bounds the memory of who answered only when MD5 stood alone. Only a right password gets in there.
	maxProven = 4096
	// provenAge is when such a phone is put to the test again: it may have been replaced, or a lost packet may have made a
	// better phone look like one that knows MD5 only.
	provenAge = 24 * time.Hour
)

// offers decides which digest algorithms a phone is offered that may use either.
//
// RFC 8760 §2.4 has a server offer SHA-256 and MD5 side by side and the client take the first it knows. Phones older than
// that RFC do not always: baresip 1.0 gives up when any of the challenges is unknown to it, SIPp 3.6 when the first is. So
// whoever was offered both and comes again without an answer is offered MD5 alone, and the other way round after that.
// A phone is known by its Call-ID, which stays the same for all its REGISTERs (RFC 3261 §10.2) and which nobody else
// knows: it gets in at its second attempt, whatever made the first one fail. A phone that takes a new Call-ID for every
// attempt, or makes a call, is known by its address and user. What others do in that name costs such a phone attempts, but
// chance has a part in what it is offered, so that it does not depend on them alone. And it is over once the phone has
// answered MD5 alone rightly: that is proof, and not forgotten for what strangers send.
type offers struct {
	now  func() time.Time
	seed maphash.Seed

	mu     sync.Mutex       // guards what follows
	tried  memory[trial]    // challenges not answered rightly so far, by asker with and without its Call-ID
	proven memory[struct{}] // by asker without Call-ID
}

// asker is somebody who is challenged.
type asker struct {
	source netip.Prefix
	user   string // canonical, "" if the request names none of this overlay
	call   string // Call-ID; "" for all of the user's phones at source
}

// trial is what a phone was offered last.
type trial struct {
	md5      bool   // MD5 alone
	answered bool   // it answered, if not with the right password: it understood
	request  uint64 // the request that was challenged
}

func newOffers(now func() time.Time) *offers {
	return &offers{now: now, seed: maphash.MakeSeed(), tried: newMemory[trial](maxTried), proven: newMemory[struct{}](maxProven)}
}

func (o *offers) keys(a asker) (phone, place uint64) {
	phone = maphash.Comparable(o.seed, a)
	a.call = ""
	return phone, maphash.Comparable(o.seed, a)
}

// next says what to offer to somebody who brought no credentials: MD5 alone, or both. request tells one request from
// another, so that one that is seen twice gets the same answer twice. A call is never what finds out that a phone has
// learned SHA-256: register says that the request is a REGISTER, which the phone will repeat.
func (o *offers) next(a asker, request string, register bool) (md5 bool) {
	now := o.now()
	phone, place := o.keys(a)
	mark := maphash.String(o.seed, request)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tried.forget(now.Add(-triedAge))
	mine, known := o.tried.get(phone)
	here, met := o.tried.get(place)
	since, proven := o.proven.time(place)
	switch {
	case known:
		md5 = mine.md5
		if mine.request != mark && !mine.answered {
			md5 = !md5
		}
	case proven && (!register || now.Sub(since) < provenAge):
		// Should there be a phone beside it that knows SHA-256 only, it finds both at one of its next attempts.
		md5 = !met || here.answered || !once(4)
	case met && here.answered: // the same again, as it was understood, if it was this phone
		md5 = here.md5 == !once(4)
	case met: // the other one; and when both have failed, one of them, so that nobody can see to it that it is the wrong one
		md5 = !here.md5 || once(2)
	case o.tried.full():
		// Somebody floods this node with requests, perhaps under many addresses, and nobody is remembered for long. One
		// of two attempts is right for every phone even so.
		md5 = once(2)
	}
	t := trial{md5: md5, request: mark}
	o.tried.put(phone, t, now)
	o.tried.put(place, t, now)
	return md5
}

// once is true once in n times.
func once(n int) bool { return rand.IntN(n) == 0 }

// again says what to offer to somebody who brought credentials that were wrong or stale: what he has shown to understand.
func (o *offers) again(a asker, alg algorithm) (md5 bool) {
	now := o.now()
	phone, place := o.keys(a)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tried.forget(now.Add(-triedAge))
	t := trial{md5: alg == algMD5, answered: true}
	o.tried.put(phone, t, now)
	o.tried.put(place, t, now)
	return t.md5
}

// passed notes a right answer. What is proven is proven anew by a REGISTER only, as it is only there put to the test.
func (o *offers) passed(a asker, alg algorithm, register bool) {
	now := o.now()
	phone, place := o.keys(a)
	o.mu.Lock()
	defer o.mu.Unlock()
	t, ok := o.tried.get(phone)
	if !ok {
		t, ok = o.tried.get(place)
	}
	switch {
	case alg != algMD5:
		o.proven.drop(place)
	case ok && t.md5:
		if since, proven := o.proven.time(place); !proven || register && now.Sub(since) >= provenAge {
			o.proven.put(place, struct{}{}, now)
		}
	}
	o.tried.drop(phone)
	o.tried.drop(place)
}

// memory is a table of at most max values; a full one forgets what was put in longest ago.
type memory[V any] struct {
	max   int
	order *list.List // of remembered[V], the oldest in front
	at    map[uint64]*list.Element
}

type remembered[V any] struct {
	key   uint64
	when  time.Time
	value V
}

func newMemory[V any](max int) memory[V] {
	return memory[V]{max: max, order: list.New(), at: make(map[uint64]*list.Element)}
}

func (m *memory[V]) get(key uint64) (v V, ok bool) {
	if el := m.at[key]; el != nil {
		return el.Value.(remembered[V]).value, true
	}
	return v, false
}

// time says when the value was put in.
func (m *memory[V]) time(key uint64) (time.Time, bool) {
	if el := m.at[key]; el != nil {
		return el.Value.(remembered[V]).when, true
	}
	return time.Time{}, false
}

func (m *memory[V]) put(key uint64, v V, now time.Time) {
	m.drop(key)
	if m.full() {
		m.drop(m.order.Front().Value.(remembered[V]).key)
	}
	m.at[key] = m.order.PushBack(remembered[V]{key, now, v})
}

func (m *memory[V]) drop(key uint64) {
	if el := m.at[key]; el != nil {
		m.order.Remove(el)
		delete(m.at, key)
	}
}

// forget drops what was put in before a time.
func (m *memory[V]) forget(before time.Time) {
	for el := m.order.Front(); el != nil && el.Value.(remembered[V]).when.Before(before); el = m.order.Front() {
		m.drop(el.Value.(remembered[V]).key)
	}
}

func (m *memory[V]) full() bool { return len(m.at) >= m.max }
