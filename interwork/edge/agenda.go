package edge

import (
	"container/heap"
	"sync"
	"time"
)

// maxNap bounds how long the agenda sleeps, so that it notices within that time when the wall clock was set or the machine
// was suspended.
const maxNap = time.Minute

// agenda does things at set times on one goroutine, one after the other: expiring bindings, delayed answers, further
// attempts to publish. What it calls must not block.
type agenda struct {
	now  func() time.Time
	wake chan struct{} // capacity 1

	mu      sync.Mutex // guards what follows; never held while calling out
	entries entryHeap
}

// entry is one thing to be done. Its fields belong to the agenda.
type entry struct {
	at    time.Time
	do    func()
	index int // in the heap, -1 when it is not there
}

func newAgenda(now func() time.Time) *agenda {
	return &agenda{now: now, wake: make(chan struct{}, 1)}
}

// add has do called at a time.
func (a *agenda) add(at time.Time, do func()) *entry {
	e := &entry{at: at, do: do}
	a.mu.Lock()
	heap.Push(&a.entries, e)
	first := e.index == 0
	a.mu.Unlock()
	if first {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
	return e
}

// drop takes an entry off; it may be nil, or done already.
func (a *agenda) drop(e *entry) {
	if e == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.index >= 0 {
		heap.Remove(&a.entries, e.index)
	}
}

// run works the agenda off until stop is closed.
func (a *agenda) run(stop <-chan struct{}) {
	t := time.NewTimer(maxNap)
	defer t.Stop()
	for {
		t.Reset(a.due())
		select {
		case <-stop:
			return
		case <-a.wake:
		case <-t.C:
		}
	}
}

// due does what is due and says how long nothing will be.
func (a *agenda) due() time.Duration {
	for {
		a.mu.Lock()
		if len(a.entries) == 0 {
			a.mu.Unlock()
			return maxNap
		}
		wait := a.entries[0].at.Sub(a.now())
		if wait > 0 {
			a.mu.Unlock()
			return min(wait, maxNap)
		}
		e := heap.Pop(&a.entries).(*entry)
		a.mu.Unlock()
		e.do()
	}
}

type entryHeap []*entry

func (h entryHeap) Len() int           { return len(h) }
func (h entryHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h entryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *entryHeap) Push(x any)        { e := x.(*entry); e.index = len(*h); *h = append(*h, e) }
func (h *entryHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
