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
	max int
	age time.Duration

	mu    sync.Mutex // guards both
	table map[callKey]*list.Element
	order *list.List // of *callEntry, the one without a sign of life for longest in front
}

// callKey names a dialog from either side.
type callKey struct{ id, a, b string }

type callEntry struct {
	Call
	key  callKey
	last time.Time
}

func newCalls(max int, age time.Duration) *calls {
	return &calls{max: max, age: age, table: make(map[callKey]*list.Element), order: list.New()}
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

// seen takes note of a final response; to is its To header.
func (t *calls) seen(r *request, status int, to *sip.ToHeader) {
	method := r.method
	switch {
	case method == sip.INVITE && status < 300:
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
	if e = t.table[key]; e != nil { // a re-INVITE: a sign of life
		e.Value.(*callEntry).last = now
		t.order.MoveToBack(e)
		return
	}
	if len(t.table) >= t.max {
		t.drop(t.order.Front())
	}
	key = key.clone()
	entry := &callEntry{key: key, last: now, Call: Call{CallID: key.id, Since: now}}
	entry.From, entry.To = r.addresses()
	t.table[key] = t.order.PushBack(entry)
}

// prune forgets calls whose end nobody told us of. Called under t.mu.
func (t *calls) prune(now time.Time) {
	for e := t.order.Front(); e != nil && now.Sub(e.Value.(*callEntry).last) > t.age; e = t.order.Front() {
		t.drop(e)
	}
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
