package proxy

import (
	"container/list"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Call is a call in progress that passes this node: from the 2xx to its INVITE until its BYE.
type Call struct {
	CallID   string
	From, To string // URIs as the parties wrote them
	Since    time.Time
}

// calls is the bounded table of calls, for people to look at: nothing is decided by it.
type calls struct {
	max  int
	over func(callKey) // hears of a call whose session interval has run out; may be nil. It is called under mu
	age  time.Duration // the longest without a sign of life
	idle time.Duration // and the longest to count as load, for a call without a session interval

	mu    sync.Mutex // guards all below
	table map[callKey]*list.Element
	order *list.List // of *callEntry, the one without a sign of life for longest in front
	next  time.Time  // no call ends by itself before
}

// sessionGrace is how long after the end of its session interval (RFC 4028 §10) a call is forgotten: a BYE may be under way.
const sessionGrace = 32 * time.Second

// callKey names a dialog from either side.
type callKey struct{ id, a, b string }

type callEntry struct {
	Call
	key      callKey
	last     time.Time     // sign of life
	interval time.Duration // of the session (RFC 4028), since last; 0: none agreed on
}

func newCalls(max int, age, idle time.Duration) *calls {
	return &calls{max: max, age: age, idle: idle, table: make(map[callKey]*list.Element), order: list.New()}
}

func callKeyOf(id, from, to string) callKey {
	if from > to {
		from, to = to, from
	}
	return callKey{id, from, to}
}

// clone gives the key in memory of its own: what a message was read from should not live as long as a call.
func (k callKey) clone() callKey {
	text := k.id + k.a + k.b
	return callKey{text[:len(k.id)], text[len(k.id) : len(k.id)+len(k.a)], text[len(k.id)+len(k.a):]}
}

// has says whether a request belongs to a call in progress.
func (t *calls) has(r *request) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.table[callKeyOf(r.callID, r.fromTag, r.toTag)] != nil
}

// seen takes note of a final response; to is its To header, interval the session interval that it agrees on.
func (t *calls) seen(r *request, status int, to *sip.ToHeader, interval time.Duration) {
	method := r.method
	switch {
	case method == sip.INVITE && status < 300:
	case method == sip.UPDATE && status < 300:
	case method == sip.BYE && status != 401 && status != 407:
	default:
		return
	}
	toTag := r.toTag
	if to != nil {
		toTag, _ = to.Params.Get("tag")
	}
	key := callKeyOf(r.callID, r.fromTag, toTag)
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.table[key]
	if method == sip.BYE {
		if e != nil {
			t.drop(e)
		}
		return
	}
	t.prune(now)
	if e = t.table[key]; e != nil { // a sign of life
		entry := e.Value.(*callEntry)
		entry.last, entry.interval = now, interval
		t.expires(entry)
		t.order.MoveToBack(e)
		return
	}
	if method == sip.UPDATE { // perhaps before the 2xx of its INVITE
		return
	}
	if len(t.table) >= t.max {
		t.drop(t.order.Front())
	}
	key = key.clone()
	entry := &callEntry{key: key, last: now, interval: interval, Call: Call{CallID: key.id, Since: now}}
	entry.From, entry.To = r.addresses()
	t.expires(entry)
	t.table[key] = t.order.PushBack(entry)
}

// end is when a call is forgotten of which nothing more is heard.
func (t *calls) end(e *callEntry) time.Time {
	if e.interval > 0 && e.interval+sessionGrace < t.age {
		return e.last.Add(e.interval + sessionGrace)
	}
	return e.last.Add(t.age)
}

// expires keeps next true for an entry that is new or has changed. Called under t.mu.
func (t *calls) expires(e *callEntry) {
	if end := t.end(e); len(t.table) == 0 || end.Before(t.next) {
		t.next = end
	}
}

// prune forgets calls whose end nobody told us of: their session has run out without a refresh, or nothing was heard for
// too long. Called under t.mu.
func (t *calls) prune(now time.Time) {
	if !now.After(t.next) {
		return
	}
	t.next = now.Add(t.age)
	for e := t.order.Front(); e != nil; {
		entry, after := e.Value.(*callEntry), e.Next()
		if end := t.end(entry); now.After(end) {
			if t.over != nil && entry.interval > 0 {
				t.over(entry.key)
			}
			t.drop(e)
		} else if end.Before(t.next) {
			t.next = end
		}
		e = after
	}
}

// count gives the number of calls, and of those that count as load. A proxy peer may carry the beginning of a call and never
// hear of its end, because another one carried that; so a call without a session interval counts for a while only.
func (t *calls) count() (all, carried int) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prune(now)
	for e := t.order.Front(); e != nil; e = e.Next() {
		if entry := e.Value.(*callEntry); entry.interval > 0 || now.Sub(entry.last) <= t.idle {
			carried++
		}
	}
	return t.order.Len(), carried
}

func (t *calls) drop(e *list.Element) {
	delete(t.table, e.Value.(*callEntry).key)
	t.order.Remove(e)
}

func (t *calls) list() []Call {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prune(time.Now())
	out := make([]Call, 0, t.order.Len())
	for e := t.order.Front(); e != nil; e = e.Next() {
		out = append(out, e.Value.(*callEntry).Call)
	}
	return out
}
