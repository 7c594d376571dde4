package relaypeer

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Reasons for refusing an allocation, each for one of TURN's codes.
var (
	errQuota    = errors.New("the member has as much as it may have")   // 486
	errFull     = errors.New("the relay peer has as much as it can do") // 508
	errDraining = errors.New("the relay peer is about to stop")         // 508
)

// members accounts for what is used, by whom.
//
// A packet costs one subtraction from the budget of its member and one from that of all; tick fills them up. What was relayed
// in a month follows from the budgets too, so the path of a packet counts nothing else.
type members struct {
	l Limits

	budget atomic.Int64 // octets that all may relay before the next tick
	bytes  atomic.Int64 // relayed this month, by all
	cut    atomic.Bool  // the month's bytes are used up

	mu      sync.Mutex // guards all below
	table   map[string]*member
	sources map[string]int // allocations from one address
	count   int            // allocations
	month   string         // "2026-11"
	ticked  time.Time
}

// member is one member's use of this relay peer.
type member struct {
	name   string
	budget atomic.Int64
	bytes  atomic.Int64 // this month
	cut    atomic.Bool
	lost   atomic.Uint64 // packets that were over the budget

	allocations int // guarded by members.mu, as all below
	made        bucket
	requests    bucket
	grants      bucket
	used        time.Time
}

func newMembers(l Limits, now time.Time) *members {
	m := &members{l: l, table: map[string]*member{}, sources: map[string]int{}, month: monthOf(now), ticked: now}
	m.budget.Store(burst(l.Rate))
	return m
}

func monthOf(t time.Time) string { return t.UTC().Format("2006-01") }

// burst is what may be relayed at once: a tenth of a second's share, which is two ticks', or a few dozen large packets.
func burst(rate int64) int64 { return max(rate/10, 64<<10) }

// get gives a member's entry, making one; nil if there are too many members with something to remember. m.mu is held.
func (m *members) get(name string, now time.Time) *member {
	if e := m.table[name]; e != nil {
		e.used = now
		return e
	}
	if len(m.table) >= m.l.Members && !m.forget(now) {
		return nil
	}
	e := &member{name: name, used: now}
	e.budget.Store(burst(m.l.MemberRate))
	m.table[name] = e
	return e
}

// forget makes room for a member: the one goes that has no allocation and has relayed least this month. One that has used up
// its month stays, so nobody is forgotten for the sake of a fresh start. m.mu is held.
func (m *members) forget(now time.Time) bool {
	var worst *member
	for _, e := range m.table {
		if e.allocations > 0 || e.cut.Load() || now.Sub(e.used) < time.Minute {
			continue
		}
		if worst == nil || e.bytes.Load() < worst.bytes.Load() || e.bytes.Load() == worst.bytes.Load() && e.used.Before(worst.used) {
			worst = e
		}
	}
	if worst == nil {
		return false
	}
	delete(m.table, worst.name)
	return true
}

// mayAsk takes a request of a member into account; false: it asks too much and is not answered.
func (m *members) mayAsk(name string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.get(name, now)
	return e == nil || e.requests.take(now, 1, float64(m.l.Requests), float64(2*m.l.Requests))
}

// mayHave says why a member may have no new credential; nil if it may.
func (m *members) mayHave(name string, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.get(name, now)
	switch {
	case e == nil:
		return errFull
	case !e.grants.take(now, 1, float64(m.l.Grants)/60, float64(m.l.Grants)):
		return fmt.Errorf("%w: %d credentials a minute", errQuota, m.l.Grants)
	case e.cut.Load():
		return fmt.Errorf("%w: %s this month", errQuota, Size(m.l.MemberMonth))
	case m.cut.Load():
		return fmt.Errorf("%w: %s this month", errFull, Size(m.l.Month))
	}
	return nil
}

// mayAllocate takes a request for an allocation into account, and says why the member may have none; nil if it may.
func (m *members) mayAllocate(name, source string, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, err := m.room(name, source, now)
	if err == nil && !e.made.take(now, 1, float64(m.l.Made)/60, float64(m.l.Made)) {
		err = errQuota
	}
	return err
}

func (m *members) room(name, source string, now time.Time) (*member, error) {
	e := m.get(name, now)
	switch {
	case e == nil, m.count >= m.l.Allocations, m.cut.Load(), m.sources[source] >= m.l.PerSource:
		return nil, errFull
	case e.allocations >= m.l.PerMember, e.cut.Load():
		return nil, errQuota
	}
	return e, nil
}

// allocate counts an allocation; release it.
func (m *members) allocate(name, source string, now time.Time) (*member, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, err := m.room(name, source, now)
	if err != nil {
		return nil, err
	}
	e.allocations++
	m.count++
	m.sources[source]++
	return e, nil
}

func (m *members) release(e *member, source string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.allocations--
	m.count--
	if m.sources[source]--; m.sources[source] <= 0 {
		delete(m.sources, source)
	}
}

// take asks for the relaying of a packet's data, and counts it.
func (m *members) take(e *member, octets int) bool {
	n := int64(octets)
	if e.cut.Load() || m.cut.Load() {
		e.lost.Add(1)
		return false
	}
	if m.l.MemberRate > 0 && e.budget.Add(-n) < 0 {
		e.budget.Add(n)
		e.lost.Add(1)
		return false
	}
	if m.l.Rate > 0 && m.budget.Add(-n) < 0 {
		m.budget.Add(n)
		e.budget.Add(n)
		e.lost.Add(1)
		return false
	}
	e.bytes.Add(n)
	m.bytes.Add(n)
	return true
}

// tick fills the budgets up, looks at the month and cuts off who has used it up. It is called many times a second.
func (m *members) tick(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	passed := min(max(now.Sub(m.ticked), 0), time.Second)
	m.ticked = now
	if month := monthOf(now); month != m.month {
		m.month = month
		m.bytes.Store(0)
		for _, e := range m.table {
			e.bytes.Store(0)
			e.cut.Store(false)
		}
	}
	fill(&m.budget, m.l.Rate, passed)
	m.cut.Store(m.l.Month > 0 && m.bytes.Load() >= m.l.Month)
	for _, e := range m.table {
		if e.allocations > 0 {
			fill(&e.budget, m.l.MemberRate, passed)
		}
		e.cut.Store(m.l.MemberMonth > 0 && e.bytes.Load() >= m.l.MemberMonth)
	}
}

// using gives how many members have allocations, and how many packets were over a budget.
func (m *members) using() (n int, lost uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.table {
		if e.allocations > 0 {
			n++
		}
		lost += e.lost.Load()
	}
	return n, lost
}

func fill(b *atomic.Int64, rate int64, passed time.Duration) {
	if rate <= 0 {
		return
	}
	most := burst(rate)
	more := int64(passed.Seconds() * float64(rate))
	if over := b.Add(more) - most; over > 0 {
		b.Add(-over)
	}
}

// Size writes a number of octets for people.
func Size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.4g %ciB", f, units[i])
}
