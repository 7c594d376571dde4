package relaypeer

import (
	"testing"
	"time"
)

// BenchmarkTake is what accounting costs a packet.
func BenchmarkTake(b *testing.B) {
	now := time.Now()
	m := newMembers(Limits{Rate: 1 << 50, MemberRate: 1 << 50, Month: 1 << 60, MemberMonth: 1 << 60}.withDefaults(), now)
	e, err := m.allocate("alice", "", now)
	if err != nil {
		b.Fatal(err)
	}
	g := &gate{s: &Server{members: m}}
	a := &allocation{g: g, member: e}
	for b.Loop() {
		if !a.Take(172) {
			b.Fatal("refused")
		}
	}
}

// TestBudgetsFillUp: a member gets its rate, and all together theirs.
func TestBudgetsFillUp(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	m := newMembers(Limits{Rate: 1_500_000, MemberRate: 1_000_000}.withDefaults(), now)
	alice, err := m.allocate("alice", "", now)
	if err != nil {
		t.Fatal(err)
	}
	bob, err := m.allocate("bob", "", now)
	if err != nil {
		t.Fatal(err)
	}
	drain := func(e *member) (n int64) {
		for m.take(e, 1000) {
			n += 1000
		}
		return n
	}
	drain(alice)
	drain(bob)
	var one, other int64
	for range 20 * 10 { // ten seconds
		now = now.Add(tickBusy)
		m.tick(now)
		for range 50 { // both all the time
			if m.take(alice, 1000) {
				one += 1000
			}
			if m.take(bob, 1000) {
				other += 1000
			}
		}
	}
	if all := one + other; all < 14_500_000 || all > 15_200_000 {
		t.Errorf("%d octets in ten seconds", all)
	}
	if one < 6_000_000 || other < 6_000_000 {
		t.Errorf("%d and %d octets: one keeps the other out", one, other)
	}
	one = drain(alice)
	for range 20 * 10 {
		now = now.Add(tickBusy)
		m.tick(now)
		one += drain(alice)
	}
	if one < 9_500_000 || one > 10_200_000 {
		t.Errorf("%d octets of one member in ten seconds", one)
	}
	if m.month != "2026-11" || m.bytes.Load() < 24_000_000 {
		t.Errorf("%s: %d", m.month, m.bytes.Load())
	}
}
