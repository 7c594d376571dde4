package network

import (
	"container/heap"
	"runtime"
	"sync"
	"time"
)

// wheel does things at their time, one after the other, in one goroutine. Things of the same instant are ordered by their
// key, so that the order in which they were put in does not show.
type wheel struct {
	start time.Time
	timer *time.Timer
	stop  chan struct{}
	done  chan struct{}

	mu     sync.Mutex
	queue  eventQueue // guarded by mu
	armed  int64      // guarded by mu: when the timer fires
	count  uint64     // guarded by mu: done so far
	closed bool       // guarded by mu
}

type wheelEvent struct {
	at  int64 // nanoseconds since start
	key uint64
	do  func()
}

const never = int64(1<<63 - 1)

func newWheel() *wheel {
	w := &wheel{start: time.Now(), timer: time.NewTimer(time.Hour), stop: make(chan struct{}), done: make(chan struct{}), armed: never}
	go w.run()
	return w
}

func (w *wheel) now() int64 { return int64(time.Since(w.start)) }

// after has do called when d has passed. It must not block.
func (w *wheel) after(d time.Duration, key uint64, do func()) { w.at(w.now()+int64(d), key, do) }

func (w *wheel) at(at int64, key uint64, do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	heap.Push(&w.queue, wheelEvent{at, key, do})
	if at < w.armed {
		w.armed = at
		w.timer.Reset(time.Duration(at - w.now()))
	}
}

func (w *wheel) run() {
	defer close(w.done)
	for {
		// At this point nearly always everybody else waits. Going through the scheduler begins a new slice of time for
		// what comes now, so that it is not interrupted at a moment that is chance.
		runtime.Gosched()
		w.mu.Lock()
		now := w.now()
		if len(w.queue) > 0 && w.queue[0].at <= now && !w.closed {
			e := heap.Pop(&w.queue).(wheelEvent)
			w.count++
			w.mu.Unlock()
			e.do()
			continue
		}
		w.armed = never
		if len(w.queue) > 0 {
			w.armed = w.queue[0].at
			w.timer.Reset(time.Duration(w.armed - now))
		}
		w.mu.Unlock()
		select {
		case <-w.timer.C:
		case <-w.stop:
			return
		}
	}
}

// close ends the wheel; what is still to come does not happen.
func (w *wheel) close() {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.closed = true
	w.queue = nil
	w.mu.Unlock()
	close(w.stop)
	<-w.done
	w.timer.Stop()
}

// events gives the number of things done so far.
func (w *wheel) events() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

type eventQueue []wheelEvent

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	if q[i].at != q[j].at {
		return q[i].at < q[j].at
	}
	return q[i].key < q[j].key
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(wheelEvent)) }
func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = wheelEvent{}
	*q = old[:len(old)-1]
	return e
}
