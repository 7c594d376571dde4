package client

import (
	"context"
	"net"
	"testing"
	"time"
)

func TestAllocateAndConverse(t *testing.T) {
	for _, transport := range []Transport{UDP, TCP} {
		t.Run(string(transport), func(t *testing.T) {
			w := newWorld(t)
			g, _ := pionRelay(t)
			if transport == TCP {
				g.URIs = g.URIs[1:]
			}
			node := w.relay(g)
			p := w.pool()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			list, err := p.Allocate(ctx, 3)
			if err != nil || len(list) != 1 {
				t.Fatalf("%d allocations, %v", len(list), err)
			}
			a := list[0]
			if a.Relay() != node || a.Transport() != transport || !a.Mapped().IsValid() || a.Err() != nil {
				t.Errorf("relay %s over %s, mapped %s, error %v", a.Relay(), a.Transport(), a.Mapped(), a.Err())
			}
			e := echo(t, "127.0.0.1:0")
			converse(t, a, e.LocalAddr().(*net.UDPAddr).AddrPort(), 5*channelAfter)
			if err := a.Alive(ctx); err != nil {
				t.Errorf("Alive: %v", err)
			}
			waitFor(t, "a channel", func() bool { return bound(a, e.LocalAddr().(*net.UDPAddr).AddrPort()) })
			if s := a.Stats(); s.Sent != 5*channelAfter || s.Received != s.Sent || s.BytesSent != s.BytesReceived || s.Strange+s.Dropped > 0 {
				t.Errorf("%+v", s)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			if _, err := a.WriteTo([]byte("x"), e.LocalAddr()); err == nil {
				t.Error("a closed allocation takes data")
			}
		})
	}
}

func TestReadyAllocations(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		g, _ := pionRelay(t)
		w.relay(g)
	}
	p := w.pool(func(c *Config) { c.Ready = 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := p.Allocate(ctx, 3); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "three ready allocations", func() bool {
		n := 0
		for _, s := range p.Status() {
			n += s.Ready
		}
		return n == 3
	})
	begun := time.Now()
	list, err := p.Allocate(ctx, 3)
	if err != nil || len(list) != 3 || p.Counts().Ready != 3 {
		t.Fatalf("%d allocations, %d of them ready, %v", len(list), p.Counts().Ready, err)
	}
	t.Logf("three ready allocations in %v", time.Since(begun))
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within ten seconds", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
