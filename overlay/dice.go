package overlay

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"
)

// dice spreads what nodes would otherwise do at the same time. No secret depends on it. With a source, what it gives follows
// from that, from the instant and from how much was drawn at this instant before; so a draw more or less shifts no other one.
type dice struct {
	seeded bool // otherwise the runtime's generator
	seed   uint64

	mu sync.Mutex
	r  *rand.Rand // guarded by mu; for the instant at
	at int64      // guarded by mu
}

func newDice(src rand.Source) *dice {
	if src == nil {
		return &dice{}
	}
	return &dice{seeded: true, seed: src.Uint64()}
}

// of gives the dice of one purpose. Goroutines that may draw at one instant have different ones, so that it does not matter
// which is first.
func (d *dice) of(purpose string) *dice {
	if !d.seeded {
		return d
	}
	h := fnv.New64a()
	h.Write([]byte(purpose))
	return &dice{seeded: true, seed: d.seed ^ h.Sum64()}
}

// source gives the generator of this instant, nil for the runtime's. d.mu is held.
func (d *dice) source() *rand.Rand {
	if !d.seeded {
		return nil
	}
	if now := time.Now().UnixNano(); d.r == nil || d.at != now {
		d.at, d.r = now, rand.New(rand.NewPCG(d.seed, uint64(now)))
	}
	return d.r
}

// jitter spreads d by a tenth either way, so that nodes that started together do not publish together for ever.
func (d *dice) jitter(t time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := rand.Float64
	if r := d.source(); r != nil {
		f = r.Float64
	}
	return time.Duration(float64(t) * (0.9 + 0.2*f()))
}

// shuffle brings n things into a random order.
func (d *dice) shuffle(n int, swap func(i, j int)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.source(); r != nil {
		r.Shuffle(n, swap)
		return
	}
	rand.Shuffle(n, swap)
}

// intN gives a number from 0 to n-1.
func (d *dice) intN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.source(); r != nil {
		return r.IntN(n)
	}
	return rand.IntN(n)
}

// exp gives a number with the exponential distribution of mean 1.
func (d *dice) exp() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.source(); r != nil {
		return r.ExpFloat64()
	}
	return rand.ExpFloat64()
}

// read fills b, of a length divisible by 8.
func (d *dice) read(b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := rand.Uint64
	if r := d.source(); r != nil {
		f = r.Uint64
	}
	for i := 0; i+8 <= len(b); i += 8 {
		binary.BigEndian.PutUint64(b[i:], f())
	}
}

// perm gives the numbers from 0 to n-1 in a random order.
func (d *dice) perm(n int) []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.source(); r != nil {
		return r.Perm(n)
	}
	return rand.Perm(n)
}
