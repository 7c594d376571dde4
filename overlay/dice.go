package overlay

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"
)

// dice spreads what nodes would otherwise do at the same time. No secret depends on it.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand // guarded by mu; nil: the runtime's generator
}

func newDice(src rand.Source) *dice {
	if src == nil {
		return &dice{}
	}
	return &dice{r: rand.New(src)}
}

// jitter spreads d by a tenth either way, so that nodes that started together do not publish together for ever.
func (d *dice) jitter(t time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := rand.Float64
	if d.r != nil {
		f = d.r.Float64
	}
	return time.Duration(float64(t) * (0.9 + 0.2*f()))
}

// shuffle brings n things into a random order.
func (d *dice) shuffle(n int, swap func(i, j int)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.r != nil {
		d.r.Shuffle(n, swap)
		return
	}
	rand.Shuffle(n, swap)
}

// intN gives a number from 0 to n-1.
func (d *dice) intN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.r != nil {
		return d.r.IntN(n)
	}
	return rand.IntN(n)
}

// exp gives a number with the exponential distribution of mean 1.
func (d *dice) exp() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.r != nil {
		return d.r.ExpFloat64()
	}
	return rand.ExpFloat64()
}

// read fills b, of a length divisible by 8.
func (d *dice) read(b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := rand.Uint64
	if d.r != nil {
		f = d.r.Uint64
	}
	for i := 0; i+8 <= len(b); i += 8 {
		binary.BigEndian.PutUint64(b[i:], f())
	}
}

// perm gives the numbers from 0 to n-1 in a random order.
func (d *dice) perm(n int) []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.r != nil {
		return d.r.Perm(n)
	}
	return rand.Perm(n)
}
