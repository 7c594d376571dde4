package network_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	lib "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"p2psip/sim/network"
)

const echo = "/echo/1"

// virtual runs f with n hosts 100 ms of round trip apart, each of which sends back what it gets.
func virtual(t *testing.T, n int, c network.Config, nat func(i int) network.NAT, f func(net *network.Network, h []*network.Host)) {
	t.Helper()
	if c.Latency == nil {
		c.Latency = network.Constant(100 * time.Millisecond)
	}
	err := network.RunVirtual(func() {
		net, err := network.New(c)
		if err != nil {
			t.Error(err)
			return
		}
		defer net.Close()
		var hosts []*network.Host
		for i := range n {
			seed := sha256.Sum256(fmt.Append(nil, i))
			key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
			if err != nil {
				t.Error(err)
				return
			}
			kind := network.NoNAT
			if nat != nil {
				kind = nat(i)
			}
			h, err := net.AddHost(key, kind)
			if err != nil {
				t.Error(err)
				return
			}
			h.SetStreamHandler(echo, func(s lib.Stream) {
				b := make([]byte, 100)
				for {
					k, err := s.Read(b)
					if err != nil {
						s.Close()
						return
					}
					s.Write(b[:k])
				}
			})
			defer h.Close()
			hosts = append(hosts, h)
		}
		f(net, hosts)
	})
	if err != nil {
		t.Error(err)
	}
}

func info(h *network.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// about compares durations up to jitter and ties.
func about(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if d := got - want; d < -5*time.Millisecond || d > 5*time.Millisecond {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}

func since(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}

func TestDelays(t *testing.T) {
	virtual(t, 2, network.Config{}, nil, func(_ *network.Network, h []*network.Host) {
		ctx := context.Background()
		sub, err := h[1].EventBus().Subscribe([]any{new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerConnectednessChanged)})
		if err != nil {
			t.Error(err)
			return
		}
		defer sub.Close()
		if err := h[0].Connect(ctx, peer.AddrInfo{ID: h[1].ID()}); !errors.Is(err, network.ErrNoAddress) {
			t.Errorf("without an address: %v", err)
		}
		about(t, "connecting (handshake, identify)", since(func() {
			if err := h[0].Connect(ctx, info(h[1])); err != nil {
				t.Error(err)
			}
		}), 200*time.Millisecond)
		if e := (<-sub.Out()).(event.EvtPeerConnectednessChanged); e.Peer != h[0].ID() || e.Connectedness != lib.Connected {
			t.Errorf("%+v", e)
		}
		about(t, "the other side's identify", since(func() {
			if e := (<-sub.Out()).(event.EvtPeerIdentificationCompleted); e.Peer != h[0].ID() || !slices.Contains(e.Protocols, echo) {
				t.Errorf("%+v", e)
			}
		}), 50*time.Millisecond)
		var s lib.Stream
		about(t, "a stream of a known protocol", since(func() {
			if s, err = h[0].NewStream(ctx, h[1].ID(), echo); err != nil {
				t.Error(err)
			}
		}), 0)
		for range 2 {
			about(t, "an echo", since(func() {
				s.Write([]byte("hel"))
				s.Write([]byte("lo"))
				b := make([]byte, 5)
				if _, err := io.ReadFull(s, b); err != nil || string(b) != "hello" {
					t.Errorf("%q, %v", b, err)
				}
			}), 100*time.Millisecond)
		}
		if c := h[0].Counts(); c.Sent[echo].Messages != 2 || c.Sent[echo].Bytes != 2*(5+80) || c.Dials != 1 {
			t.Errorf("%+v", c)
		}
		s.SetReadDeadline(time.Now().Add(time.Second))
		about(t, "a read with a deadline", since(func() {
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		}), time.Second)
		s.SetReadDeadline(time.Time{})
		go func() { time.Sleep(time.Second); h[1].Close() }()
		about(t, "learning that the other has left", since(func() {
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, lib.ErrReset) {
				t.Error(err)
			}
		}), 1050*time.Millisecond)
		about(t, "a refusal", since(func() {
			if err := h[0].Connect(ctx, info(h[1])); !errors.Is(err, network.ErrRefused) {
				t.Error(err)
			}
		}), 100*time.Millisecond)
		about(t, "another dial at once", since(func() {
			if err := h[0].Connect(ctx, info(h[1])); !errors.Is(err, network.ErrBackoff) {
				t.Error(err)
			}
		}), 0)
	})
}

func TestSilence(t *testing.T) {
	virtual(t, 3, network.Config{}, nil, func(n *network.Network, h []*network.Host) {
		ctx := context.Background()
		if err := h[0].Connect(ctx, info(h[1])); err != nil {
			t.Error(err)
			return
		}
		n.Silence(h[1])
		s, err := h[0].NewStream(ctx, h[1].ID(), echo)
		if err != nil {
			t.Error(err)
			return
		}
		s.Write([]byte("anybody?"))
		d := since(func() {
			if _, err := s.Read(make([]byte, 1)); err == nil {
				t.Error("a silent host answered")
			}
		})
		if d < 10*time.Second || d > 31*time.Second {
			t.Errorf("the connection was given up after %v", d)
		}
		if got := h[0].Network().Connectedness(h[1].ID()); got != lib.NotConnected {
			t.Error(got)
		}
		about(t, "dialling a silent host", since(func() {
			if err := h[2].Connect(ctx, info(h[1])); !errors.Is(err, network.ErrTimeout) {
				t.Error(err)
			}
		}), 2*time.Second)
	})
}

func TestPartition(t *testing.T) {
	virtual(t, 4, network.Config{}, nil, func(n *network.Network, h []*network.Host) {
		ctx := context.Background()
		n.Partition(func(x *network.Host) int { return x.Index() / 2 })
		if err := h[0].Connect(ctx, info(h[1])); err != nil {
			t.Errorf("on one side: %v", err)
		}
		if err := h[0].Connect(ctx, info(h[2])); !errors.Is(err, network.ErrTimeout) {
			t.Errorf("across: %v", err)
		}
		n.Heal()
		time.Sleep(10 * time.Second) // back-off
		if err := h[0].Connect(ctx, info(h[2])); err != nil {
			t.Errorf("healed: %v", err)
		}
	})
}

// TestNAT: who can dial whom follows from the behaviours of RFC 4787.
func TestNAT(t *testing.T) {
	kinds := []network.NAT{network.NoNAT, network.FullCone, network.AddressCone, network.PortCone, network.SymmetricCone}
	virtual(t, 6, network.Config{}, func(i int) network.NAT { return kinds[i%5] }, func(_ *network.Network, h []*network.Host) {
		ctx := context.Background()
		if err := h[0].Connect(ctx, info(h[1])); !errors.Is(err, network.ErrTimeout) {
			t.Errorf("a NAT without a mapping let a stranger in: %v", err)
		}
		for i := 1; i < 5; i++ {
			if err := h[i].Connect(ctx, info(h[0])); err != nil {
				t.Errorf("from behind %+v: %v", kinds[i], err)
			}
			err := h[5].Connect(ctx, info(h[i]))
			if (err == nil) != (i == 1) {
				t.Errorf("to %+v: %v", kinds[i], err)
			}
		}
	})
}

func TestLossAndBandwidth(t *testing.T) {
	measure := func(c network.Config) (took time.Duration) {
		virtual(t, 2, c, nil, func(_ *network.Network, h []*network.Host) {
			if err := h[0].Connect(context.Background(), info(h[1])); err != nil {
				t.Error(err)
				return
			}
			s, err := h[0].NewStream(context.Background(), h[1].ID(), echo)
			if err != nil {
				t.Error(err)
				return
			}
			b := make([]byte, 100)
			took = since(func() {
				for range 50 {
					s.Write(b)
					io.ReadFull(s, b)
				}
			})
		})
		return took
	}
	plain := measure(network.Config{})
	about(t, "50 round trips", plain, 5*time.Second)
	if lossy := measure(network.Config{Loss: 0.2}); lossy < plain+3*time.Second {
		t.Errorf("with loss %v", lossy)
	}
	about(t, "50 round trips at 1800 B/s", measure(network.Config{Bandwidth: 1800}), plain+10*time.Second)
}

// TestTrim: more than ConnHigh connections are reduced to ConnLow, those of value stay.
func TestTrim(t *testing.T) {
	virtual(t, 30, network.Config{ConnLow: 10, ConnHigh: 20}, nil, func(_ *network.Network, h []*network.Host) {
		for i := 1; i < 30; i++ {
			if i == 1 {
				h[0].ConnManager().Protect(h[1].ID(), "x")
				h[0].ConnManager().TagPeer(h[2].ID(), "x", 5)
			}
			if err := h[0].Connect(context.Background(), info(h[i])); err != nil {
				t.Error(err)
			}
			time.Sleep(11 * time.Second)
		}
		if n := h[0].Connections(); n < 10 || n > 20 {
			t.Errorf("%d connections", n)
		}
		for _, i := range []int{1, 2, 29} {
			if h[0].Network().Connectedness(h[i].ID()) != lib.Connected {
				t.Errorf("the connection to host %d was closed", i)
			}
		}
	})
}

func TestLatency(t *testing.T) {
	for name, l := range map[string]network.Latency{
		"constant":     network.Constant(80 * time.Millisecond),
		"clustered":    network.Clustered(7, 80*time.Millisecond),
		"heavy-tailed": network.HeavyTailed(7, 80*time.Millisecond),
	} {
		var all []float64
		for a := range 120 {
			for b := range a {
				d := l.OneWay(a, b)
				if d != l.OneWay(b, a) || d <= 0 {
					t.Errorf("%s: %v one way, %v back", name, d, l.OneWay(b, a))
				}
				all = append(all, 2*d.Seconds())
			}
		}
		slices.Sort(all)
		median, p95 := all[len(all)/2], all[len(all)*95/100]
		if math.Abs(median-0.080) > 0.012 {
			t.Errorf("%s: the median is %.3f s", name, median)
		}
		if name == "heavy-tailed" && (p95 < 0.15 || p95 > 0.4) {
			t.Errorf("%s: 95 %% are within %.3f s", name, p95)
		}
	}
}

func TestSeeded(t *testing.T) {
	read := func(seed uint64) (a, b [16]byte) {
		defer network.Seeded(seed)()
		if err := network.RunVirtual(func() {
			rand.Read(a[:])
			time.Sleep(time.Second)
			rand.Read(b[:])
		}); err != nil {
			t.Error(err)
		}
		return a, b
	}
	a, b := read(1)
	c, d := read(1)
	e, _ := read(2)
	if a != c || b != d || a == b || a == e {
		t.Error("not a sequence of its own for each seed")
	}
	restore := network.Seeded(1)
	var x, y [16]byte
	rand.Read(x[:])
	restore()
	restore = network.Seeded(1)
	rand.Read(y[:])
	restore()
	if x == y {
		t.Error("outside of virtual time the numbers can be guessed")
	}
}
