package datapath

import (
	"net"
	"net/netip"
	"sync"
)

// queue holds packets until pion takes them.
type queue struct {
	mu     sync.Mutex // guards what follows
	filled sync.Cond
	ring   []packet // grows up to max; nil while empty, unless keep
	head   int
	n      int
	max    int
	keep   bool // keep the memory
	closed bool
}

type packet struct {
	b    []byte
	from netip.AddrPort
}

func newQueue(limit int, keep bool) *queue {
	q := &queue{max: limit, keep: keep}
	q.filled.L = &q.mu
	return q
}

// push copies b; false: there is no room. The last quarter is for who is known.
func (q *queue) push(b []byte, from netip.AddrPort, known bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.n == q.max || !known && q.n >= q.max-q.max/4 {
		return false
	}
	if q.n == len(q.ring) {
		bigger := make([]packet, min(q.max, max(4, 2*len(q.ring))))
		for i := range q.n {
			bigger[i] = q.ring[(q.head+i)%len(q.ring)]
		}
		q.ring, q.head = bigger, 0
	}
	p := &q.ring[(q.head+q.n)%len(q.ring)]
	p.b, p.from = append(p.b[:0], b...), from
	q.n++
	q.filled.Signal()
	return true
}

// pop waits for a packet and copies what fits into b; the error is net.ErrClosed.
func (q *queue) pop(b []byte) (int, netip.AddrPort, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.n == 0 && !q.closed {
		q.filled.Wait()
	}
	if q.closed {
		return 0, netip.AddrPort{}, net.ErrClosed
	}
	p := &q.ring[q.head]
	n, from := copy(b, p.b), p.from
	q.head = (q.head + 1) % len(q.ring)
	if q.n--; q.n == 0 && !q.keep {
		q.ring, q.head = nil, 0
	}
	return n, from, nil
}

// close ends the waiting of all, at once.
func (q *queue) close() {
	q.mu.Lock()
	q.closed, q.ring, q.n = true, nil, 0
	q.mu.Unlock()
	q.filled.Broadcast()
}
