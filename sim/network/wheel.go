package network

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// wheel does things at their time, in one goroutine, each at an instant of its own: what one has set in motion has come to
// rest before the next is done, and with Config.Settle also what the timers of that instant have. So it does not matter in
// which order the scheduler runs the goroutines of one instant.
//
// Things due at the same time are done a nanosecond apart, in the order of their keys, then of their tags.
type wheel struct {
	start  time.Time
	settle func() // nil in real time
	watch  func(Event)
	wake   chan struct{} // capacity 1: the first of the queue has changed
	done   chan struct{}

	mu     sync.Mutex
	queue  happenings // guarded by mu
	armed  int64      // guarded by mu: when the goroutine wakes by itself
	count  uint64     // guarded by mu: done so far
	closed bool       // guarded by mu
}

// happening is something that will be done.
type happening struct {
	at  int64 // nanoseconds since start
	key uint64
	tag func() uint64 // decides between equal keys when its time has come; nil: they are interchangeable
	do  func()
}

const never = int64(1<<63 - 1)

func newWheel(settle func(), watch func(Event)) *wheel {
	w := &wheel{start: time.Now(), settle: settle, watch: watch, wake: make(chan struct{}, 1), done: make(chan struct{}), armed: never}
	go w.run()
	return w
}

func (w *wheel) now() int64 { return int64(time.Since(w.start)) }

// after has do called when d has passed. It must not block.
func (w *wheel) after(d time.Duration, key uint64, do func()) {
	w.at(happening{at: w.now() + int64(d), key: key, do: do})
}

func (w *wheel) at(h happening) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.queue.push(h)
	if h.at < w.armed {
		w.armed = h.at
		w.poke()
	}
}

// poke makes the goroutine look again. w.mu is held.
func (w *wheel) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *wheel) run() {
	defer close(w.done)
	timer := time.NewTimer(0)
	defer func() { timer.Stop() }()
	last := int64(-1) // the instant of what was done last
	for {
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			return
		}
		now, wait := w.now(), time.Duration(-1)
		w.armed = never
		if len(w.queue) > 0 {
			next := max(w.queue[0].at, last+1)
			if next <= now {
				w.mu.Unlock()
				if w.settle != nil {
					w.settle()
				}
				last = now
				w.one(now)
				continue
			}
			w.armed, wait = next, time.Duration(next-now)
		}
		w.mu.Unlock()
		if wait < 0 {
			<-w.wake
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-w.wake:
			// Setting a timer that somebody waits for to an earlier time makes the runtime look through all of its timers
			// when that time has come; a new one costs nothing of that kind.
			timer.Stop()
			timer = time.NewTimer(time.Hour)
		}
	}
}

// one does what comes first now.
func (w *wheel) one(now int64) {
	w.mu.Lock()
	if len(w.queue) == 0 || w.queue[0].at > now || w.closed {
		w.mu.Unlock()
		return
	}
	h := w.queue.pop()
	var equal []happening
	for h.tag != nil && len(w.queue) > 0 && w.queue[0].at == h.at && w.queue[0].key == h.key {
		equal = append(equal, w.queue.pop())
	}
	w.count++
	w.mu.Unlock()
	if equal != nil {
		h = w.decide(h, equal)
	}
	if w.watch != nil {
		w.watch(Event{At: time.Duration(now), What: Happens, From: int(h.key >> 32), To: int(h.key & (1<<32 - 1)), Tag: h.tagged()})
	}
	h.do()
}

// decide finds which of those of one time and key comes first and puts the others back.
func (w *wheel) decide(h happening, equal []happening) happening {
	equal = append(equal, h)
	slices.SortStableFunc(equal, func(a, b happening) int { return cmp.Compare(a.tagged(), b.tagged()) })
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range equal[1:] {
		w.queue.push(o)
	}
	return equal[0]
}

func (h *happening) tagged() uint64 {
	if h.tag == nil {
		return 0
	}
	return h.tag()
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
	w.poke()
	w.mu.Unlock()
	<-w.done
}

// events gives the number of things done so far.
func (w *wheel) events() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// happenings is a heap, the next one first. (container/heap would allocate for each.)
type happenings []happening

func (q happenings) less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].key < q[j].key
}

func (q *happenings) push(h happening) {
	*q = append(*q, h)
	s := *q
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if !s.less(i, up) {
			return
		}
		s[i], s[up] = s[up], s[i]
		i = up
	}
}

func (q *happenings) pop() happening {
	s := *q
	first, last := s[0], len(s)-1
	s[0], s[last] = s[last], happening{}
	s = s[:last]
	*q = s
	for i := 0; ; {
		least := 2*i + 1
		if least >= last {
			return first
		}
		if right := least + 1; right < last && s.less(right, least) {
			least = right
		}
		if !s.less(least, i) {
			return first
		}
		s[i], s[least] = s[least], s[i]
		i = least
	}
}
