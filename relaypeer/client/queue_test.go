package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestQueueKeepsOrder(t *testing.T) {
	q, in, out := newQueue(), 0, 0
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 100)
	for range 20000 {
		if rng.IntN(2) == 0 && q.waiting() < maxQueued {
			q.put(netip.AddrPort{}, fmt.Append(nil, in))
			in++
			continue
		}
		if q.waiting() == 0 {
			continue
		}
		n, _, err := q.get(b, nil, nil, nil)
		if err != nil || string(b[:n]) != fmt.Sprint(out) {
			t.Fatalf("%q, %v where %d was expected", b[:n], err, out)
		}
		out++
	}
	if cap(q.list) > 2*maxQueued {
		t.Errorf("room for %d packets", cap(q.list))
	}
	left := 0
	for _, p := range q.list[q.head:] {
		left += len(p.b)
	}
	if left != q.bytes || in-out != q.waiting() {
		t.Errorf("%d bytes are counted, %d wait", q.bytes, left)
	}
}

func TestQueueWithManyReaders(t *testing.T) {
	q, done := newQueue(), make(chan struct{})
	const n = 5000
	var got sync.Map
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			b := make([]byte, 100)
			for {
				k, _, err := q.get(b, done, nil, func() error { return net.ErrClosed })
				if err != nil {
					return
				}
				got.Store(string(b[:k]), true)
			}
		})
	}
	for i := range n {
		for { // as fast as they are read, so that none gives way
			q.mu.Lock()
			w := q.waiting()
			q.mu.Unlock()
			if w < maxQueued-1 {
				break
			}
			time.Sleep(time.Microsecond)
		}
		q.put(netip.AddrPort{}, fmt.Append(nil, i))
	}
	waitFor(t, "all to be read", func() bool {
		c := 0
		got.Range(func(any, any) bool { c++; return true })
		return c == n
	})
	close(done)
	wg.Wait()
}

// Deadlines may be moved at any time, also for a read under way, and the past ends reads at once.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, done := newQueue(), make(chan struct{})
		var d deadline
		b := make([]byte, 10)
		read := func() (time.Duration, error) {
			begun := time.Now()
			_, _, err := q.get(b, done, d.passed(), func() error { return net.ErrClosed })
			return time.Since(begun), err
		}
		d.set(time.Now().Add(time.Second))
		for i, want := range []time.Duration{time.Second, 0, 0} {
			if took, err := read(); took != want || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read %d: %v after %v", i, err, took)
			}
		}
		d.set(time.Time{})
		time.AfterFunc(time.Hour, func() { q.put(netip.AddrPort{}, []byte("x")) })
		if took, err := read(); took != time.Hour || err != nil {
			t.Errorf("without a deadline: %v after %v", err, took)
		}
		d.set(time.Now().Add(time.Hour))
		time.AfterFunc(time.Minute, func() { d.set(time.Now().Add(-time.Second)) })
		if took, err := read(); took != time.Minute || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a deadline that is moved: %v after %v", err, took)
		}
		d.set(time.Now().Add(time.Second))
		d.set(time.Now().Add(3 * time.Second))
		if took, _ := read(); took != 3*time.Second {
			t.Errorf("a later deadline: after %v", took)
		}
		close(done)
		d.set(time.Time{})
		if _, err := read(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}
