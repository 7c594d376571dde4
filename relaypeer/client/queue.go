package client

import (
	"net/netip"
	"os"
	"sync"
	"time"
)

// Bounds of what waits to be read from one allocation: a second and a half of a video call. Older packets give way, since
// sound that comes late is of no use.
const (
	maxQueued      = 512
	maxQueuedBytes = 256 << 10
)

type packet struct {
	from netip.AddrPort
	b    []byte
}

// queue holds relayed packets until they are read.
type queue struct {
	mu      sync.Mutex
	list    []packet // guarded by mu: what waits begins at head
	head    int      // guarded by mu
	bytes   int      // guarded by mu
	dropped uint64   // guarded by mu
	spare   [][]byte // guarded by mu: buffers to use again
	wake    chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) put(from netip.AddrPort, b []byte) {
	q.mu.Lock()
	for q.waiting() > 0 && (q.waiting() >= maxQueued || q.bytes+len(b) > maxQueuedBytes) {
		q.recycle(q.pop().b)
		q.dropped++
	}
	var own []byte
	if n := len(q.spare); n > 0 && cap(q.spare[n-1]) >= len(b) {
		own, q.spare = q.spare[n-1], q.spare[:n-1]
	}
	own = append(own[:0], b...)
	if q.head > 0 && len(q.list) == cap(q.list) {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	q.list = append(q.list, packet{from, own})
	q.bytes += len(b)
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// waiting is how many packets wait. q.mu is held.
func (q *queue) waiting() int { return len(q.list) - q.head }

// pop takes the oldest packet. q.mu is held, and there is one.
func (q *queue) pop() packet {
	p := q.list[q.head]
	q.list[q.head] = packet{}
	if q.head++; q.head == len(q.list) {
		q.list, q.head = q.list[:0], 0
	}
	q.bytes -= len(p.b)
	return p
}

// recycle keeps a buffer for the next packet. q.mu is held.
func (q *queue) recycle(b []byte) {
	if len(q.spare) < 8 && cap(b) <= 2048 {
		q.spare = append(q.spare, b)
	}
}

// get copies the oldest packet into p, waiting for one until done or late is closed.
func (q *queue) get(p []byte, done, late <-chan struct{}, ended func() error) (int, netip.AddrPort, error) {
	for {
		select {
		case <-late:
			return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
		default:
		}
		q.mu.Lock()
		if q.waiting() > 0 {
			x := q.pop()
			n := copy(p, x.b)
			q.recycle(x.b)
			more := q.waiting() > 0
			q.mu.Unlock()
			if more {
				q.signal() // for another reader
			}
			return n, x.from, nil
		}
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-done:
			return 0, netip.AddrPort{}, ended()
		case <-late:
			return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
		}
	}
}

func (q *queue) drops() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// deadline is a time after which reads fail, as net.Conn has it: it may be moved at any moment, also for reads under way.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer   // guarded by mu
	late  chan struct{} // guarded by mu: closed when the time has come
}

// passed gives a channel that is closed when the deadline that is set now has passed.
func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.late == nil {
		d.late = make(chan struct{})
	}
	return d.late
}

// set moves the deadline; the zero time takes it away.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.late // it has fired and closes, or has closed, the channel
	}
	d.timer = nil
	closed := false
	if d.late != nil {
		select {
		case <-d.late:
			closed = true
		default:
		}
	}
	if d.late == nil || closed && (t.IsZero() || time.Until(t) > 0) {
		d.late, closed = make(chan struct{}), false
	}
	switch wait := time.Until(t); {
	case t.IsZero():
	case wait > 0:
		late := d.late
		d.timer = time.AfterFunc(wait, func() { close(late) })
	case !closed:
		close(d.late)
	}
}
