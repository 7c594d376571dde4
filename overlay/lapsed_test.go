package overlay

import (
	"errors"
	"io"
	"testing"
	"time"
)

// TestLookupKeepsBackWhatTellsOfNoPhone: copies left behind with nodes that were once responsible tell of phones whose time
// is over. They neither come first nor agree among themselves, and are handed out when there is nothing else.
func TestLookupKeepsBackWhatTellsOfNoPhone(t *testing.T) {
	b := newBench(t, 1)
	lapsed, current, left := b.value(0, -2*time.Hour, 24*time.Hour, 1), b.value(0, -time.Minute, 24*time.Hour, 1), b.value(0, 0, time.Hour, 0)
	start := func() *Lookup {
		return &Lookup{cancel: func() {}, done: make(chan struct{}), news: make(chan struct{}, 1)}
	}
	take := func(l *Lookup, v []byte, hops int) bool {
		es, err := b.v.record(v, true)
		if err != nil {
			t.Fatal(err)
		}
		return l.take(es, hops, time.Duration(1+hops)*time.Millisecond, b.now)
	}
	l := start()
	for range 5 {
		if take(l, lapsed, 0) {
			t.Error("a copy that tells of no phone counts as the first")
		}
	}
	if _, ok := l.pending(); ok || l.agreed() != 0 {
		t.Errorf("it was handed out, or %d copies are taken for proof", l.agreed())
	}
	if !take(l, current, 2) || l.Stats().Hops != 2 || l.Stats().First != 3*time.Millisecond {
		t.Errorf("the first that tells of a phone does not count as such: %+v", l.Stats())
	}
	if r, ok := l.pending(); !ok || len(r.Live(b.now)) != 1 || l.agreed() != 1 {
		t.Error("it was not handed out")
	}
	// The user leaves meanwhile: that is news.
	take(l, left, 2)
	if r, ok := l.pending(); !ok || len(r.Live(b.now)) != 0 {
		t.Error("that the user has left was not handed out")
	}

	// With nothing else it comes at the end, once.
	l = start()
	take(l, lapsed, 0)
	l.finish(nil, b.user, walkResult{}, time.Second, Cost{})
	if r, err := l.Next(t.Context()); err != nil || len(r.Nodes) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := l.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("then %v", err)
	}
}
