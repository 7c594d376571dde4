package locate

import (
	"container/list"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The bounds of a cache, if its owner sets none.
const (
	DefaultCacheEntries = 4096
	DefaultCacheBytes   = 4 << 20

	// maxFailureKept is how long "the name servers do not say" is kept: long enough that a hundred calls to a broken
	// domain cost one attempt (RFC 9520 §3.2 wants a second at least), short enough that a caller who redials is served.
	maxFailureKept = 5 * time.Second

	entryBytes  = 512 // what an entry costs besides its records
	recordBytes = 128 // what a record costs besides its text
)

// cache keeps answers until they expire; the least recently used ones go first when it is full.
type cache struct {
	maxEntries, maxBytes int

	mu      sync.Mutex
	entries map[Question]*list.Element // guarded by mu
	order   *list.List                 // of *entry, the most recently used in front; guarded by mu
	bytes   int                        // guarded by mu
}

// entry is an answer, or the reason why there is none.
type entry struct {
	q       Question
	answer  *Answer
	err     error
	expires time.Time
	bytes   int
}

func newCache(entries, bytes int) *cache {
	return &cache{maxEntries: entries, maxBytes: bytes, entries: make(map[Question]*list.Element), order: list.New()}
}

// get gives what is known and has not expired.
func (c *cache) get(q Question, now time.Time) (*Answer, error, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[q]
	if !ok {
		return nil, nil, false
	}
	e := el.Value.(*entry)
	if !now.Before(e.expires) {
		c.remove(el)
		return nil, nil, false
	}
	c.order.MoveToFront(el)
	return e.answer, e.err, true
}

// put keeps an answer until it expires, or a failure for maxFailureKept.
func (c *cache) put(q Question, a *Answer, err error, now time.Time) {
	e := &entry{q: q, answer: a, err: err, expires: now.Add(maxFailureKept), bytes: entryBytes + len(q.Name)}
	if a != nil {
		e.expires = a.Expires
		e.bytes = a.bytes
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[q]; ok {
		c.remove(el)
	}
	if !now.Before(e.expires) || e.bytes > c.maxBytes {
		return
	}
	c.entries[q] = c.order.PushFront(e)
	c.bytes += e.bytes
	for len(c.entries) > c.maxEntries || c.bytes > c.maxBytes {
		c.remove(c.order.Back())
	}
}

// remove takes an entry out; mu is held.
func (c *cache) remove(el *list.Element) {
	e := c.order.Remove(el).(*entry)
	delete(c.entries, e.q)
	c.bytes -= e.bytes
}

// flush forgets everything.
func (c *cache) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	c.order.Init()
	c.bytes = 0
}

// weigh counts an answer for the cache.
func weigh(a *Answer) int {
	n := entryBytes + len(a.Question.Name)
	for _, s := range a.Aliases {
		n += len(s) + 16
	}
	for _, list := range [][]dns.RR{a.Records, a.glue} {
		for _, rr := range list {
			n += dns.Len(rr) + recordBytes
		}
	}
	return n
}
