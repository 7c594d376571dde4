package client

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun"

	"p2psip/overlay"
	"p2psip/relaypeer/credential"
)

// virtual is a world with fake relay peers in time that a test moves.
func virtual(t *testing.T, relays ...*fakeRelay) (*world, []overlay.NodeID) {
	w := newWorld(t)
	var nodes []overlay.NodeID
	for _, r := range relays {
		nodes = append(nodes, w.relayFunc(func() (credential.Grant, error) { return r.grant(), nil }, r.grant().URIs...))
	}
	w.lasts = true
	return w, nodes
}

func three() []*fakeRelay { return []*fakeRelay{newFakeRelay(0), newFakeRelay(1), newFakeRelay(2)} }

// An allocation in use lasts for hours: it is refreshed, and so are its permissions and channels.
func TestAllocationLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFakeRelay(0)
		w, _ := virtual(t, r)
		p := w.pool(func(c *Config) { c.Dial = dialer(r) })
		a := one(t, p)
		far, rare := netip.MustParseAddrPort("203.0.113.1:4000"), netip.MustParseAddr("203.0.113.2")
		if err := a.Permit(rare); err != nil {
			t.Fatal(err)
		}
		for range 3 * 60 * 6 {
			if _, err := a.WriteToAddrPort([]byte("x"), far); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		if err := a.Err(); err != nil {
			t.Fatal(err)
		}
		if got := r.asked(stun.MethodRefresh); got < 80 || got > 110 {
			t.Errorf("%d refreshes in three hours, one in two minutes was expected", got)
		}
		// Two addresses go with one request; the one with data has a channel besides.
		if got := r.asked(stun.MethodCreatePermission); got < 54 || got > 70 {
			t.Errorf("%d requests for permissions in three hours, one in three minutes was expected", got)
		}
		if got := r.asked(stun.MethodChannelBind); got < 54 || got > 70 {
			t.Errorf("%d requests for channels in three hours, one in three minutes was expected", got)
		}
		r.do(func() {
			if len(r.data) != 3*60*6 || r.data[len(r.data)-1] != "0x4000 x" || r.data[0] != "203.0.113.1:4000 x" {
				t.Errorf("%d packets, the first %q, the last %q", len(r.data), r.data[0], r.data[len(r.data)-1])
			}
		})
	})
}

// Where nothing is sent any more, permissions and channels are let go.
func TestUnusedPermissionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFakeRelay(0)
		w, _ := virtual(t, r)
		a := one(t, w.pool(func(c *Config) { c.Dial = dialer(r) }))
		far := netip.MustParseAddrPort("203.0.113.1:4000")
		for range 2 * channelAfter {
			_, _ = a.WriteToAddrPort([]byte("x"), far)
		}
		time.Sleep(20 * time.Minute)
		before := r.asked(stun.MethodCreatePermission) + r.asked(stun.MethodChannelBind)
		time.Sleep(20 * time.Minute)
		if got := r.asked(stun.MethodCreatePermission) + r.asked(stun.MethodChannelBind); got != before {
			t.Errorf("%d requests after nothing was sent for twenty minutes", got-before)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.targets)+len(a.perms)+len(a.channels) > 0 {
			t.Errorf("%d targets, %d permissions, %d channels are left", len(a.targets), len(a.perms), len(a.channels))
		}
	})
}

// One that says nothing any more is noticed without anything being sent through it.
func TestSilenceIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFakeRelay(0)
		w, nodes := virtual(t, r)
		a := one(t, w.pool(func(c *Config) { c.Dial = dialer(r) }))
		time.Sleep(time.Hour)
		r.do(func() { r.silent = true })
		begun := time.Now()
		<-a.Done()
		if d := time.Since(begun); d > 2*quietFor {
			t.Errorf("noticed after %v", d)
		}
		if !errors.Is(a.Err(), errNoAnswer) {
			t.Errorf("it ended with %v", a.Err())
		}
		synctest.Wait()
		if w.failures(nodes[0]) == 0 {
			t.Error("the overlay was not told")
		}
	})
}

// While data is sent, silence is noticed sooner; and data that nobody answers costs a question every few seconds.
func TestSilenceInACallIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFakeRelay(0)
		w, _ := virtual(t, r)
		a := one(t, w.pool(func(c *Config) { c.Dial = dialer(r) }))
		far := netip.MustParseAddrPort("203.0.113.1:4000")
		talk := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end) && a.Err() == nil; time.Sleep(20 * time.Millisecond) {
				_, _ = a.WriteToAddrPort([]byte("x"), far)
			}
		}
		time.Sleep(10 * time.Minute)
		before := r.asked(stun.MethodBinding)
		talk(time.Minute)
		if n := r.asked(stun.MethodBinding) - before; n < 10 || n > 25 {
			t.Errorf("%d questions in a minute", n)
		}
		r.do(func() { r.silent = true })
		begun := time.Now()
		talk(time.Minute)
		if d := time.Since(begun); d > quietBusy+requestTime+time.Second {
			t.Errorf("noticed after %v", d)
		}
	})
}

func TestAliveTakesASecondAndAHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFakeRelay(0)
		w, _ := virtual(t, r)
		a := one(t, w.pool(func(c *Config) { c.Dial = dialer(r) }))
		if err := a.Alive(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.do(func() { r.silent = true })
		begun := time.Now()
		err := a.Alive(t.Context())
		if d := time.Since(begun); d != aliveWithin || !errors.Is(err, errNoAnswer) {
			t.Errorf("after %v: %v", d, err)
		}
		select {
		case <-a.Done():
		default:
			t.Error("it has not ended")
		}
	})
}

// A relay peer that died costs an Allocate next to nothing, and one that only takes no more does not either.
func TestOneDeadOfThree(t *testing.T) {
	const rtt = 40 * time.Millisecond
	allocate := func(t *testing.T, spoil func(*fakeRelay)) (int, time.Duration) {
		relays := three()
		for _, r := range relays {
			r.delay = rtt
		}
		w, _ := virtual(t, relays...)
		p := w.pool(func(c *Config) { c.Dial = dialer(relays...) })
		if err := p.Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		spoil(relays[1])
		begun := time.Now()
		list, err := p.Allocate(t.Context(), 3)
		if err != nil {
			t.Fatal(err)
		}
		return len(list), time.Since(begun)
	}
	synctest.Test(t, func(t *testing.T) {
		n, living := allocate(t, func(*fakeRelay) {})
		if n != 3 || living != rtt {
			t.Errorf("all living: %d allocations in %v; one round trip was expected", n, living)
		}
		n, dead := allocate(t, func(r *fakeRelay) { r.silent = true })
		if n != 2 || dead > 9*rtt/4+besides {
			t.Errorf("one dead: %d allocations in %v, all living: %v", n, dead, living)
		}
		t.Logf("all living %v, one of three dead %v", living, dead)
		n, declined := allocate(t, func(r *fakeRelay) {
			r.answer = func(c *fakeConn, m *stun.Message) bool {
				if m.Type.Method == stun.MethodAllocate {
					c.refuse(m, codeQuota, "Allocation Quota Reached")
				}
				return m.Type.Method == stun.MethodAllocate
			}
		})
		if n != 2 || declined != rtt {
			t.Errorf("one declines: %d allocations in %v", n, declined)
		}
	})
}

// A fourth relay peer takes the place of one that does not answer.
func TestAnotherTakesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relays := append(three(), newFakeRelay(3))
		for _, r := range relays {
			r.delay = 10 * time.Millisecond
		}
		w, _ := virtual(t, relays...)
		p := w.pool(func(c *Config) { c.Dial = dialer(relays...) })
		if err := p.Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Status() { // one that would be used
			if s.Chosen {
				for i, r := range relays {
					if w.adverts[i].Node == s.Node {
						r.do(func() { r.silent = true })
					}
				}
				break
			}
		}
		begun := time.Now()
		list, err := p.Allocate(t.Context(), 3)
		if err != nil || len(list) != 3 {
			t.Errorf("%d allocations, %v", len(list), err)
		}
		if d := time.Since(begun); d > 500*time.Millisecond {
			t.Errorf("it took %v", d)
		}
	})
}

// Where there are fewer relay peers than wanted, a call does not wait for the overlay to say so again.
func TestFewerThanWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFakeRelay(0)
		w, _ := virtual(t, r)
		p := w.pool(func(c *Config) { c.Dial = dialer(r) })
		if err := p.Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.do(func() { w.think = time.Minute })
		time.Sleep(time.Hour)
		for range 10 {
			begun := time.Now()
			list, err := p.Allocate(t.Context(), 3)
			if d := time.Since(begun); err != nil || len(list) != 1 || d > 0 {
				t.Errorf("%d allocations after %v, %v", len(list), d, err)
			}
			time.Sleep(time.Minute)
		}
	})
}

// When all are dead, the caller hears of it when the context ends, and the relay peers are left alone for longer each time.
func TestAllDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relays := three()
		for _, r := range relays {
			r.silent = true
		}
		w, nodes := virtual(t, relays...)
		p := w.pool(func(c *Config) { c.Dial = dialer(relays...) })
		ctx, cancel := contextWithin(t, time.Second)
		defer cancel()
		if _, err := p.Allocate(ctx, 3); !errors.Is(err, ErrNoRelay) {
			t.Errorf("got %v", err)
		}
		time.Sleep(10 * time.Second)
		for _, n := range nodes {
			if w.failures(n) == 0 {
				t.Errorf("the overlay was not told of %s", n)
			}
		}
		time.Sleep(24 * time.Hour)
		for i, r := range relays {
			r.do(func() {
				if r.dials > 24*7*2 {
					t.Errorf("relay peer %d was tried %d times in a day", i, r.dials)
				}
			})
		}
	})
}

// What a warm node costs while nobody calls, and with ready allocations for who has just called.
func TestCostOfBeingWarm(t *testing.T) {
	cost := func(t *testing.T, ready int, use bool) float64 {
		relays := three()
		w, _ := virtual(t, relays...)
		p := w.pool(func(c *Config) { c.Dial, c.Ready, c.Idle = dialer(relays...), ready, 24*time.Hour })
		if err := p.Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		if use {
			list, err := p.Allocate(t.Context(), 3)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range list {
				_ = a.Close()
			}
		}
		time.Sleep(time.Minute)
		const hours = 6
		begun, asked, finds := traffic(relays), w.count(&w.asked), w.count(&w.finds)
		time.Sleep(hours * time.Hour)
		perSecond := float64(traffic(relays)-begun) / (hours * 3600)
		t.Logf("ready sets %d, used %v: %.1f B/s to and from three relay peers with UDP/IPv4 headers; %.1f credentials and %.1f searches an hour",
			ready, use, perSecond, float64(w.count(&w.asked)-asked)/hours, float64(w.count(&w.finds)-finds)/hours)
		return perSecond
	}
	synctest.Test(t, func(t *testing.T) {
		if c := cost(t, -1, false); c > 10 {
			t.Errorf("a warm node costs %.1f B/s", c)
		}
		if c := cost(t, 1, true); c > 60 {
			t.Errorf("a node with ready allocations costs %.1f B/s", c)
		}
	})
}

func traffic(relays []*fakeRelay) (n int) {
	for _, r := range relays {
		r.do(func() { n += r.in + r.out })
	}
	return n
}

// place is where the machine is.
type place struct{ atomic.Pointer[netip.Addr] }

func (p *place) is(s string) {
	a := netip.MustParseAddr(s)
	p.Store(&a)
}

func (p *place) addrs() []netip.Addr { return []netip.Addr{*p.Load()} }

// Ready allocations are given back when nobody has called for some time, and when the machine is in another network.
func TestReadyAllocationsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relays := three()
		w, _ := virtual(t, relays...)
		var local place
		local.is("192.0.2.1")
		p := w.pool(func(c *Config) {
			c.Dial, c.Ready = dialer(relays...), 1
			c.LocalAddrs = local.addrs
		})
		held := func() (n int) {
			for _, r := range relays {
				r.do(func() { n += len(r.alloc) })
			}
			return n
		}
		list, err := p.Allocate(t.Context(), 3)
		if err != nil || len(list) != 3 {
			t.Fatalf("%d allocations, %v", len(list), err)
		}
		time.Sleep(time.Second)
		if held() != 6 {
			t.Errorf("%d allocations, six were expected: three in use and three ready", held())
		}
		for _, a := range list {
			_ = a.Close()
		}
		time.Sleep(time.Second)
		if held() != 3 {
			t.Errorf("%d allocations after three were closed", held())
		}
		p.mu.Lock()
		old := p.ready[0]
		p.mu.Unlock()
		local.is("192.0.2.99")
		list, err = p.Allocate(t.Context(), 1)
		if err != nil || list[0] == old || p.Counts().Ready != 0 {
			t.Errorf("an allocation of another network was handed out, or %v", err)
		}
		_ = list[0].Close()
		time.Sleep(time.Second)
		if held() != 3 {
			t.Errorf("%d allocations; three new ready ones were expected", held())
		}
		time.Sleep(DefaultIdle + time.Minute)
		if held() != 0 {
			t.Errorf("%d allocations are held though nobody calls", held())
		}
	})
}

// Credentials are renewed before they run out, once each.
func TestCredentialsAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relays := three()
		w, _ := virtual(t, relays...)
		p := w.pool(func(c *Config) { c.Dial = dialer(relays...) })
		if err := p.Warm(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			time.Sleep(6 * time.Minute)
			good := 0
			for _, s := range p.Status() {
				if time.Until(s.Credential) > 0 {
					good++
				}
			}
			if good != 3 {
				t.Fatalf("%d good credentials", good)
			}
		}
		if n := w.count(&w.asked); n < 3+3*11 || n > 3+3*16 {
			t.Errorf("credentials were asked for %d times in ten hours", n)
		}
	})
}

// Without a word to Warm or Allocate, nothing is sent and nobody is asked.
func TestColdPoolIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relays := three()
		w, _ := virtual(t, relays...)
		w.pool(func(c *Config) { c.Dial = dialer(relays...) })
		time.Sleep(24 * time.Hour)
		if traffic(relays)+w.count(&w.asked)+w.count(&w.finds) > 0 {
			t.Error("it does something")
		}
	})
}

func TestAllocationsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relays := three()
		w, _ := virtual(t, relays...)
		p := w.pool(func(c *Config) { c.Dial, c.MaxAllocations = dialer(relays...), 7 })
		total := 0
		for range 4 {
			list, err := p.Allocate(t.Context(), 3)
			if total += len(list); err != nil && !errors.Is(err, ErrTooMany) {
				t.Error(err)
			}
		}
		if total != 7 {
			t.Errorf("%d allocations", total)
		}
	})
}

// Relay peers in networks of their own come before those beside another one.
func TestDifferentNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relays := []*fakeRelay{newFakeRelay(0), newFakeRelay(0), newFakeRelay(0), newFakeRelay(1), newFakeRelay(2)}
		for i, r := range relays[:3] {
			r.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 1}), 3478)
		}
		for range 10 {
			w, _ := virtual(t, relays...)
			p := w.pool(func(c *Config) { c.Dial = dialer(relays...) })
			list, err := p.Allocate(t.Context(), 3)
			if err != nil || len(list) != 3 {
				t.Fatalf("%d allocations, %v", len(list), err)
			}
			seen := map[string]bool{}
			for _, a := range list {
				seen[addressGroup(a.at.addr.Addr())] = true
			}
			if len(seen) != 3 {
				t.Errorf("allocations in %d networks", len(seen))
			}
		}
	})
}
