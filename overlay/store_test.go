package overlay

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// bench is an authority with some nodes that all speak for sip:shared@, and a clock to turn.
type bench struct {
	t    *testing.T
	a    *Authority
	now  time.Time
	user AOR
	v    *verifier
	keys []crypto.PrivKey
	cred []*Credential
}

func newBench(t *testing.T, nodes int) *bench {
	b := &bench{t: t, now: time.Now()}
	var err error
	if b.a, err = NewAuthority(DocumentOptions{ID: "p2psip.example"}, b.now); err != nil {
		t.Fatal(err)
	}
	b.v = newVerifier(b.a.Document(), func() time.Time { return b.now })
	b.user, _ = b.a.Document().ID.AOR("shared")
	for range nodes {
		k, err := NewKey()
		if err != nil {
			t.Fatal(err)
		}
		n, _ := NodeOfKey(k)
		c, err := b.a.Issue(n, []AOR{b.user}, nil, 30*24*time.Hour, b.now)
		if err != nil {
			t.Fatal(err)
		}
		b.keys, b.cred = append(b.keys, k), append(b.cred, c)
	}
	return b
}

// value signs an entry of node i, made at the given offset from now.
func (b *bench) value(i int, at, life time.Duration, devices int) []byte {
	issued := b.now.Add(at)
	e := NodeEntry{Sequence: uint64(issued.UnixMilli()), Expires: issued.Add(life)}
	for d := range devices {
		e.Devices = append(e.Devices, Device{ID: fmt.Sprint("d", d), Q: 1000, Expires: issued.Add(min(life, time.Hour))})
	}
	v, err := signEntry(b.keys[i], b.cred[i], b.a.Document(), b.user, e)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

func TestStoreMergesAndForgets(t *testing.T) {
	b := newBench(t, 3)
	s := newStore(b.v)
	key := userKey(b.user)
	for i, life := range []time.Duration{time.Hour, 2 * time.Hour, 3 * time.Hour} {
		if err := s.putLocal(key, b.value(i, 0, life, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.local(key); len(got) != 3 {
		t.Fatalf("%d entries after three nodes stored", len(got))
	}
	if err := s.putLocal(key, b.value(0, -time.Minute, time.Hour, 1)); !errors.Is(err, ErrStale) {
		t.Errorf("an older entry: %v", err)
	}
	for i, want := range []int{2, 1, 0} {
		b.now = b.now.Add(time.Hour)
		if i == 2 {
			s.sweep()
			if n, bytes := s.size(); n != 0 || bytes != 0 {
				t.Errorf("after the last expiry %d records, %d bytes are left", n, bytes)
			}
		}
		if got := s.local(key); len(got) != want {
			t.Errorf("after %d hours %d entries, want %d", i+1, len(got), want)
		}
	}
}

func TestMergeKeepsWhatMattersWithinItsBounds(t *testing.T) {
	b := newBench(t, MaxEntries+2)
	var all entries
	for i := range MaxEntries + 2 {
		devices := 1
		if i == 0 || i == 1 {
			devices = 0 // tombstones, though the newest
		}
		es, err := b.v.record(b.value(i, -time.Duration(i)*time.Second, time.Hour, devices), false)
		if err != nil {
			t.Fatal(err)
		}
		all = merge(all, es)
	}
	if len(all) != MaxEntries {
		t.Fatalf("%d entries", len(all))
	}
	for _, e := range all {
		if len(e.Devices) == 0 {
			t.Error("a tombstone pushed a living entry out")
		}
	}
	value, err := all.encode()
	if err != nil || len(value) > MaxRecord {
		t.Fatalf("%d bytes, %v", len(value), err)
	}
	if err := (userValidator{b.v}).Validate(userKey(b.user), value); err != nil {
		t.Errorf("the merged record is not valid: %v", err)
	}
}

// TestLookupCorrectsItself: the first copy is old, a newer one comes, then one of another node; the reader hears of each.
func TestLookupCorrectsItself(t *testing.T) {
	b := newBench(t, 2)
	take := func(l *Lookup, v []byte) {
		es, err := b.v.record(v, true)
		if err != nil {
			t.Fatal(err)
		}
		l.take(es, 1, time.Millisecond, b.now)
	}
	l := &Lookup{cancel: func() {}, done: make(chan struct{}), news: make(chan struct{}, 1)}
	old, newer, other := b.value(0, -time.Minute, time.Hour, 1), b.value(0, 0, time.Hour, 2), b.value(1, 0, time.Hour, 1)
	for i, step := range []struct {
		value          []byte
		nodes, devices int
	}{{old, 1, 1}, {newer, 1, 2}, {other, 2, 2}} {
		take(l, step.value)
		r, err := l.Next(t.Context())
		if err != nil || len(r.Nodes) != step.nodes {
			t.Fatalf("step %d: %+v, %v", i, r, err)
		}
		for _, n := range r.Nodes {
			if n.Node == b.cred[0].Node() && len(n.Devices) != step.devices {
				t.Errorf("step %d: %d devices at the first node, want %d", i, len(n.Devices), step.devices)
			}
		}
	}
	// A late copy of the old record changes nothing.
	take(l, old)
	if _, ok := l.pending(); ok {
		t.Error("an older copy was handed out")
	}
	if l.agreed() != 0 {
		t.Error("a copy that lacks something counts as agreeing")
	}
}

func TestSuspectsAreBounded(t *testing.T) {
	var s suspects
	now := time.Now()
	for i := range 3 * maxSuspects {
		s.add(NodeID(fmt.Sprint(i)), now)
	}
	if len(s.m) > maxSuspects {
		t.Errorf("%d suspects", len(s.m))
	}
	last := NodeID(fmt.Sprint(3*maxSuspects - 1))
	if !s.has(last, now) || s.has(last, now.Add(2*suspectTime)) {
		t.Error("a suspect is forgotten at once or never")
	}
}

func TestRenewal(t *testing.T) {
	n := renewal{half: 30 * time.Minute, first: 30 * time.Second}
	for i, want := range []time.Duration{30 * time.Second, 2 * time.Minute, 8 * time.Minute, 30 * time.Minute, 30 * time.Minute} {
		if got := n.after(3, 20); got != want {
			t.Errorf("publication %d by 3 of 20 nodes: again after %v, want %v", i, got, want)
		}
	}
	n.reset()
	if got := n.after(20, 20); got != 30*time.Minute {
		t.Errorf("stored by all: again after %v", got)
	}
	for range 100 {
		if d := newDice(nil).jitter(time.Hour); d < 54*time.Minute || d > 66*time.Minute {
			t.Fatalf("an hour became %v", d)
		}
	}
}
