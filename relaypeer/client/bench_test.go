package client

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/pion/stun"

	"p2psip/relaypeer"
)

// sound is a packet of G.711 with its RTP and SRTP overhead.
const sound = 160 + 12 + 10

// BenchmarkSend is what a packet costs that leaves over a channel, without the system call.
func BenchmarkSend(b *testing.B) {
	a, _, err := fuzzed()
	if err != nil {
		b.Fatal(err)
	}
	defer a.link.close()
	to := netip.MustParseAddrPort("203.0.113.1:4000")
	a.targets[to] = &target{addr: to, number: minChannel, bound: true}
	p := make([]byte, sound)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.WriteToAddrPort(p, to); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReceive is what a packet costs that comes over a channel and is read.
func BenchmarkReceive(b *testing.B) {
	a, _, err := fuzzed()
	if err != nil {
		b.Fatal(err)
	}
	defer a.link.close()
	m := make([]byte, 4+sound)
	binary.BigEndian.PutUint16(m, minChannel)
	binary.BigEndian.PutUint16(m[2:], sound)
	in, p := stun.New(), make([]byte, 1500)
	b.ReportAllocs()
	for b.Loop() {
		if !a.link.take(in, m) {
			b.Fatal("not taken")
		}
		if _, _, err := a.ReadFromAddrPort(p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRoundTrip sends a packet through this project's relay peer to an echo and back, all in one process.
func BenchmarkRoundTrip(b *testing.B) {
	s := startServer(b, func(c *relaypeer.Config) { c.Limits.Rate, c.Limits.MemberRate = -1, -1 })
	w := newWorld(b)
	w.relay(s.grant(b, time.Hour, "udp"))
	a := one(b, w.pool())
	to := echo(b, "127.0.0.1:0").LocalAddr().(*net.UDPAddr).AddrPort()
	p, q := make([]byte, sound), make([]byte, 1500)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.WriteToAddrPort(p, to); err != nil {
			b.Fatal(err)
		}
		_ = a.SetReadDeadline(time.Now().Add(time.Second))
		if _, _, err := a.ReadFromAddrPort(q); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHeld is what an idle allocation costs in memory: the client's side of it, without its socket.
func BenchmarkHeld(b *testing.B) {
	r := newFakeRelay(0)
	w := newWorld(b)
	w.relay(r.grant())
	p := w.pool(func(c *Config) { c.Dial, c.MaxAllocations = dialer(r), 1<<20 })
	one(b, p)
	const n = 1000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		held := make([]*Allocation, n)
		for i := range held {
			held[i] = one(b, p)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		used := after.HeapAlloc + after.StackInuse - before.HeapAlloc - before.StackInuse
		b.ReportMetric(float64(used)/n/1024, "KiB/allocation")
		for _, a := range held {
			_ = a.Close()
		}
	}
}
