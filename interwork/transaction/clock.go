package transaction

import (
	"sync"
	"time"
)

// clock runs the timers of all transactions. There are few different durations (T1 and its doublings, T2, T4, 64*T1) and
// very many timers, nearly all of which are stopped or forgotten before their time. Timers of one duration end in the
// order in which they were set, so each duration has a list, to whose end a timer is added, and one runtime timer, for
// its head. Setting and stopping cost a few pointers and no memory.
type clock struct {
	start time.Time

	mu      sync.Mutex // guards all below and the alarms
	lists   map[time.Duration]*alarms
	stopped bool
}

// alarms are the timers of one duration, the next to end first.
type alarms struct {
	head, tail *alarm
	timer      *time.Timer
	running    bool // timer will call run, or run is at work
}

// alarm is one timer, part of what it belongs to. Setting, stopping and claiming it are all done under the lock of that.
type alarm struct {
	bell       bell
	due        time.Duration // since clock.start
	in         *alarms       // nil when it is not set
	prev, next *alarm
	rang       bool // its time has come and nobody has claimed, stopped or set it since
}

// bell is what an alarm belongs to. ring is called without any lock; it takes its own and then claims the alarm.
type bell interface{ ring(a *alarm) }

func newClock() *clock { return &clock{start: time.Now(), lists: make(map[time.Duration]*alarms)} }

// set starts an alarm, or starts it anew.
func (c *clock) set(a *alarm, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(a)
	if c.stopped {
		return
	}
	q := c.lists[d]
	if q == nil {
		q = new(alarms)
		c.lists[d] = q
	}
	a.due = time.Since(c.start) + d
	a.in, a.prev = q, q.tail
	if q.tail == nil {
		q.head = a
	} else {
		q.tail.next = a
	}
	q.tail = a
	switch {
	case q.running:
	case q.timer == nil:
		q.timer = time.AfterFunc(d, func() { c.run(q) })
	default:
		q.timer.Reset(d)
	}
	q.running = true
}

// unset stops an alarm. One that is ringing already cannot be claimed any more.
func (c *clock) unset(a *alarm) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(a)
}

// claim says that an alarm rings rightly: nobody has stopped it or set it anew in the meantime.
func (c *clock) claim(a *alarm) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	rang := a.rang
	a.rang = false
	return rang
}

// remove takes an alarm out of its list.
func (c *clock) remove(a *alarm) {
	a.rang = false
	q := a.in
	if q == nil {
		return
	}
	if a.prev == nil {
		q.head = a.next
	} else {
		a.prev.next = a.next
	}
	if a.next == nil {
		q.tail = a.prev
	} else {
		a.next.prev = a.prev
	}
	a.in, a.prev, a.next = nil, nil, nil
}

// run rings what is due in a list and sets the runtime timer for the rest.
func (c *clock) run(q *alarms) {
	for a := c.due(q); a != nil; a = c.due(q) {
		a.bell.ring(a)
	}
}

// due takes the head of a list if its time has come. Otherwise it sets the runtime timer.
func (c *clock) due(q *alarms) *alarm {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := q.head
	if a == nil || c.stopped {
		q.running = false
		return nil
	}
	if wait := a.due - time.Since(c.start); wait > 0 {
		q.timer.Reset(wait)
		return nil
	}
	c.remove(a)
	a.rang = true
	return a
}

// stop ends all timers.
func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	for _, q := range c.lists {
		q.timer.Stop()
		for q.head != nil {
			c.remove(q.head)
		}
	}
}
