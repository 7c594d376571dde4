package network

import (
	"crypto/rand"
	"encoding/binary"
	"io"
	"sync"
	"time"
)

// Seeded replaces crypto/rand's source for what runs in virtual time, until the returned function is called. What is read
// depends on the seed, the virtual time, and how much was read at this very instant before; so a draw more or less does
// not shift those that come later. Outside of a bubble the true source goes on serving, so that a program that simulates
// does nothing else with guessable numbers. It must be called where no other goroutine reads crypto/rand.
func Seeded(seed uint64) (restore func()) {
	before := rand.Reader
	rand.Reader = &seeded{seed: seed, real: before}
	return func() { rand.Reader = before }
}

type seeded struct {
	seed uint64
	real io.Reader

	mu   sync.Mutex
	at   int64  // guarded by mu
	draw uint64 // guarded by mu: since at
}

// Read gives numbers without pattern to who lives in the year 2000, and random ones to others.
func (s *seeded) Read(b []byte) (int, error) {
	now := time.Now()
	if now.Year() > 2020 {
		return s.real.Read(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := now.UnixNano(); at != s.at {
		s.at, s.draw = at, 0
	}
	for i := 0; i < len(b); i += 8 {
		var w [8]byte
		binary.BigEndian.PutUint64(w[:], hash(s.seed, 0xc0ffee, uint64(s.at), s.draw))
		s.draw++
		copy(b[i:], w[:])
	}
	return len(b), nil
}
