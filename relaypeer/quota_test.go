package relaypeer

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pion/stun"

	"p2psip/overlay"
)

func TestAllocationsAreCounted(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits = Limits{Allocations: 5, PerMember: 2, PerSource: 4} })
	alice, bob, carol := newMember(t), newMember(t), newMember(t)
	var first *rawClient
	for i, c := range []struct {
		member overlay.NodeID
		from   string
		want   stun.ErrorCode
	}{
		{alice, "127.0.0.1", 0},
		{alice, "127.0.0.1", 0},
		{alice, "127.0.0.1", stun.CodeAllocQuotaReached}, // her third
		{alice, "127.0.0.2", stun.CodeAllocQuotaReached}, // from wherever
		{bob, "127.0.0.1", 0},
		{bob, "127.0.0.1", 0},
		{carol, "127.0.0.1", stun.CodeInsufficientCapacity}, // the fifth from there
		{carol, "127.0.0.2", 0},
		{carol, "127.0.0.2", stun.CodeInsufficientCapacity}, // the sixth in all
	} {
		r := w.rawFrom(t, c.member, netip.AddrPortFrom(netip.MustParseAddr(c.from), 0))
		if got := r.ask(stun.MethodAllocate, transport(17)); got != c.want {
			t.Errorf("%d: code %d, want %d", i, got, c.want)
		}
		if i == 0 {
			first = r
		}
	}
	if s := w.Status(); s.Allocations != 5 || s.Members != 3 {
		t.Errorf("%+v", s)
	}
	if got := first.ask(stun.MethodRefresh, lifetime(0)); got != 0 {
		t.Errorf("giving one back: %d", got)
	}
	eventually(t, "it is counted no more", func() bool { return w.Allocations() == 4 })
	if got := w.rawFrom(t, carol, netip.MustParseAddrPort("127.0.0.3:0")).ask(stun.MethodAllocate, transport(17)); got != 0 {
		t.Errorf("in its place: %d", got)
	}
}

// TestChurn: who makes and drops allocations all the time is told to slow down.
func TestChurn(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Made = 5 })
	m := newMember(t)
	made := 0
	for range 8 {
		c := w.raw(t, m)
		switch code := c.ask(stun.MethodAllocate, transport(17)); code {
		case 0:
			made++
			c.ask(stun.MethodRefresh, lifetime(0))
		case stun.CodeInsufficientCapacity, stun.CodeAllocQuotaReached:
		default:
			t.Errorf("code %d", code)
		}
	}
	if made != 5 {
		t.Errorf("%d were made", made)
	}
	w.clock.advance(time.Minute)
	if code := w.raw(t, m).ask(stun.MethodAllocate, transport(17)); code != 0 {
		t.Errorf("a minute later: %d", code)
	}
}

// relayTo sends packets through an allocation to a peer, and gives how many octets came there.
func relayTo(t *testing.T, a net.PacketConn, p net.PacketConn, n, size int) (got int) {
	t.Helper()
	done := make(chan int)
	go func() {
		b, sum := make([]byte, 2000), 0
		for {
			_ = p.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			n, _, err := p.ReadFrom(b)
			if err != nil {
				done <- sum
				return
			}
			sum += n
		}
	}()
	for range n {
		if _, err := a.WriteTo(make([]byte, size), p.LocalAddr()); err != nil {
			t.Error(err)
			break
		}
	}
	return <-done
}

func TestBandwidth(t *testing.T) {
	// What may pass at once is 64 KiB for each member, and here for all together.
	w := newWorld(t, func(c *Config) { c.Limits.MemberRate = 1000; c.Limits.Rate = 2000 })
	a, p := allocate(t, w.client(t, UDP, newMember(t))), udpPeer(t)
	if err := a.(interface{ CreatePermissions(...net.Addr) error }).CreatePermissions(p.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if got := relayTo(t, a, p, 130, 1000); got < 60_000 || got > 65_536+3000 {
		t.Errorf("%d octets came through", got)
	}
	if s := w.Status(); s.OverBudget < 30 || s.Month > 65_536+3000 {
		t.Errorf("%+v", s)
	}
}

func TestMonth(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usage.json")
	alice, bob := newMember(t), newMember(t)
	limits := Limits{MemberMonth: 50_000, Month: 1 << 30}
	w := newWorld(t, func(c *Config) { c.UsageFile, c.Limits = file, limits })
	a, p := allocate(t, w.client(t, UDP, alice)), udpPeer(t)
	if err := a.(interface{ CreatePermissions(...net.Addr) error }).CreatePermissions(p.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	relayTo(t, a, p, 60, 1000)
	eventually(t, "she is cut off", func() bool {
		_, err := a.WriteTo(make([]byte, 1000), p.LocalAddr())
		return err != nil || w.raw(t, alice).ask(stun.MethodAllocate, transport(17)) == stun.CodeAllocQuotaReached
	})
	if code := w.raw(t, bob).ask(stun.MethodAllocate, transport(17)); code != 0 {
		t.Errorf("somebody else: %d", code)
	}
	if err := w.members.mayHave(alice.String(), time.Now()); err == nil {
		t.Error("she gets another credential")
	}
	used := w.Status().Month
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi, err)
	}
	// After a restart it is known, and forgotten when the month is over.
	again := newWorld(t, func(c *Config) { c.UsageFile, c.Limits = file, limits })
	if got := again.Status().Month; got < used {
		t.Errorf("%d octets are known, %d were used", got, used)
	}
	again.members.tick(again.clock.Now())
	if code := again.raw(t, alice).ask(stun.MethodAllocate, transport(17)); code != stun.CodeAllocQuotaReached {
		t.Errorf("after a restart: %d", code)
	}
	again.clock.advance(32 * 24 * time.Hour)
	again.members.tick(again.clock.Now())
	if code := again.raw(t, alice).ask(stun.MethodAllocate, transport(17)); code != 0 {
		t.Errorf("next month: %d", code)
	}
	// A damaged file is no reason not to start.
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	newWorld(t, func(c *Config) { c.UsageFile, c.Logger = file, slog.New(slog.DiscardHandler) })
}

func TestMonthOfAll(t *testing.T) {
	now := time.Date(2026, 11, 30, 23, 59, 0, 0, time.UTC)
	m := newMembers(Limits{Month: 1000, Rate: -1, MemberRate: -1}.withDefaults(), now)
	e, err := m.allocate("alice", "", now)
	if err != nil {
		t.Fatal(err)
	}
	if !m.take(e, 999) || !m.take(e, 1) {
		t.Error("it is cut off too early")
	}
	m.tick(now)
	if m.take(e, 1) {
		t.Error("it is not cut off")
	}
	if err := m.mayAllocate("bob", "", now); err == nil {
		t.Error("others may begin")
	}
	m.tick(now.Add(2 * time.Minute))
	if !m.take(e, 1) {
		t.Error("it is cut off in the next month")
	}
}

// TestMembersAreBounded: strangers with ever new names do not make a member that has used up its month a new one.
func TestMembersAreBounded(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	m := newMembers(Limits{Members: 10, MemberMonth: 1000}.withDefaults(), now)
	greedy, err := m.allocate("greedy", "", now)
	if err != nil {
		t.Fatal(err)
	}
	m.take(greedy, 2000)
	m.release(greedy, "")
	for i := range 100 {
		now = now.Add(10 * time.Minute)
		m.tick(now)
		e, err := m.allocate(string(rune('a'+i)), "", now)
		if err != nil {
			t.Fatal(err)
		}
		m.release(e, "")
	}
	if len(m.table) > 10 {
		t.Errorf("%d members are remembered", len(m.table))
	}
	if err := m.mayAllocate("greedy", "", now); err == nil {
		t.Error("who had used up the month was forgotten")
	}
}

func TestDrain(t *testing.T) {
	w := newWorld(t, nil)
	a, p := allocate(t, w.client(t, UDP, newMember(t))), udpPeer(t)
	allocate(t, w.client(t, TCP, newMember(t))) // one without a call
	if err := a.(interface{ CreatePermissions(...net.Addr) error }).CreatePermissions(p.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	echo(t, p, a)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := w.Drain(ctx); err == nil {
		t.Error("it did not wait for the call")
	}
	if code := w.raw(t, newMember(t)).ask(stun.MethodAllocate, transport(17)); code != stun.CodeInsufficientCapacity {
		t.Errorf("a new allocation: %d", code)
	}
	if s := w.Status(); !s.Draining || s.Allocations != 2 || s.InUse != 1 {
		t.Errorf("%+v", s)
	}
	echo(t, p, a) // what is there goes on
	w.clock.advance(inUse + time.Second)
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.Drain(ctx); err != nil {
		t.Errorf("with nothing in use: %v", err)
	}
}
