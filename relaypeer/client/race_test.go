package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"p2psip/interwork/phonetest"
	"p2psip/overlay"
	"p2psip/relaypeer/credential"
)

// Where UDP does not get through, TCP takes its place after a head start; the next time it goes first, and after some
// minutes UDP is given another chance.
func TestUDPBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relays := three()
		w := newWorld(t)
		w.lasts = true
		for _, r := range relays {
			r.noUDP, r.delay = true, 20*time.Millisecond
			w.relayFunc(func() (credential.Grant, error) {
				g := r.grant()
				g.URIs = append(g.URIs, fmt.Sprintf("turn:%s?transport=tcp", r.addr))
				return g, nil
			}, r.grant().URIs...)
		}
		var network place
		network.is("192.0.2.1")
		p := w.pool(func(c *Config) {
			c.Dial = dialer(relays...)
			c.LocalAddrs = network.addrs
		})
		transport := TCP
		allocate := func(least, most time.Duration) {
			t.Helper()
			begun := time.Now()
			list, err := p.Allocate(t.Context(), 3)
			if err != nil || len(list) != 3 {
				t.Fatalf("%d allocations, %v", len(list), err)
			}
			if d := time.Since(begun); d < least || d > most {
				t.Errorf("it took %v, %v to %v was expected", d, least, most)
			}
			for _, a := range list {
				if a.Transport() != transport {
					t.Errorf("an allocation over %s", a.Transport())
				}
				_ = a.Close()
			}
		}
		allocate(headStart, headStart+100*time.Millisecond)
		allocate(0, 100*time.Millisecond)
		network.is("203.0.113.5") // elsewhere: nothing is known
		allocate(headStart, headStart+100*time.Millisecond)
		network.is("192.0.2.1")
		allocate(0, 100*time.Millisecond)
		for _, r := range relays {
			r.do(func() { r.noUDP = false })
		}
		time.Sleep(rememberStream + 2*measureEvery)
		transport = UDP
		allocate(0, 100*time.Millisecond)
	})
}

// The loser of a race is given back, also when its answer is still on the way.
func TestLosersAreGivenBack(t *testing.T) {
	for _, slowness := range []time.Duration{350 * time.Millisecond, headStart + 10*time.Millisecond} { // the latter: a dead heat
		t.Run(slowness.String(), func(t *testing.T) { losersAreGivenBack(t, slowness) })
	}
}

func losersAreGivenBack(t *testing.T, slowness time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		slow, fast := newFakeRelay(0), newFakeRelay(1)
		slow.delay, fast.delay = slowness, 10*time.Millisecond
		fast.user, fast.password = slow.user, slow.password
		w := newWorld(t)
		w.relayFunc(func() (credential.Grant, error) {
			g := slow.grant()
			g.URIs = []string{"turn:" + slow.addr.String(), fmt.Sprintf("turn:%s?transport=tcp", fast.addr)}
			return g, nil
		})
		p := w.pool(func(c *Config) { c.Dial = dialer(slow, fast) })
		a := one(t, p)
		if slowness > headStart+fast.delay && a.Transport() != TCP {
			t.Errorf("%s won", a.Transport())
		}
		_ = a.Close()
		time.Sleep(2 * time.Second)
		for _, r := range []*fakeRelay{slow, fast} {
			r.do(func() {
				if len(r.alloc) > 0 || r.made != 1 {
					t.Errorf("%d allocations are still there, %d were made", len(r.alloc), r.made)
				}
			})
		}
	})
}

func TestLineup(t *testing.T) {
	var ends []endpoint
	for _, s := range []string{"tls 192.0.2.1:443", "udp 192.0.2.1:3478", "tcp 192.0.2.1:3478", "udp [2001:db8::1]:3478"} {
		transport, at, _ := strings.Cut(s, " ")
		ends = append(ends, endpoint{transport: Transport(transport), addr: netip.MustParseAddrPort(at)})
	}
	for first, want := range map[Transport]string{
		"":  "udp 192.0.2.1:3478 0s, udp [2001:db8::1]:3478 100ms, tcp 192.0.2.1:3478 300ms, tls 192.0.2.1:443 600ms",
		TLS: "tls 192.0.2.1:443 0s, udp 192.0.2.1:3478 300ms, udp [2001:db8::1]:3478 400ms, tcp 192.0.2.1:3478 600ms",
	} {
		var got []string
		for _, h := range lineup(ends, first) {
			got = append(got, fmt.Sprintf("%s %v", h.endpoint, h.after))
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("first %q: %s, want %s", first, s, want)
		}
	}
}

// A port where nothing listens is no reason to wait for the head start.
func TestClosedPortIsPassedAtOnce(t *testing.T) {
	g, _ := pionRelay(t)
	g.URIs = []string{fmt.Sprintf("turn:127.0.0.1:%d", phonetest.FreePort(t, "127.0.0.1").Port()), g.URIs[1]}
	w := newWorld(t)
	w.relay(g)
	begun := time.Now()
	a := one(t, w.pool())
	if d := time.Since(begun); a.Transport() != TCP || d >= headStart {
		t.Errorf("over %s after %v", a.Transport(), d)
	}
}

func TestEndpoints(t *testing.T) {
	uris := []string{
		"turn:192.0.2.1", "turn:192.0.2.1:3478?transport=udp", "turns:192.0.2.1:443", "turn:relay.example:3478", "turn:127.0.0.1:3478",
		"turn:[fe80::1]:3478", "turn:[::ffff:127.0.0.1]:3478", "turn:224.0.0.1", "http://192.0.2.1/", "",
	}
	got := endpoints(permitted, uris, []string{"turn:[2001:db8::1]:3478?transport=tcp"})
	want := []string{"udp 192.0.2.1:3478", "tls 192.0.2.1:443", "tcp [2001:db8::1]:3478"}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i, e := range got {
		if e.String() != want[i] || e.only6 {
			t.Errorf("got %s, want %s", e, want[i])
		}
	}
	if list := endpoints(permitted, []string{"turn:[2001:db8::1]"}); len(list) != 1 || !list[0].only6 {
		t.Errorf("with IPv6 only: %v", list)
	}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("turn:192.0.2.1:%d", 1000+i))
	}
	if n := len(endpoints(permitted, many)); n != maxEndpoints {
		t.Errorf("%d endpoints", n)
	}
}

func TestAddressGroup(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.0.0/16", "192.0.99.1": "192.0.0.0/16", "2001:db8:1::1": "2001:db8::/32", "10.1.2.3": "", "127.0.0.1": "", "::1": "", "fd00::1": "", "fe80::1": "",
	} {
		if got := addressGroup(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestNetworksAreBounded(t *testing.T) {
	var n networks
	now := time.Now()
	for i := range 100 {
		n.worked(fmt.Sprint(i), TCP, now)
	}
	if len(n.list) != maxNetworks || n.best("99", now) != TCP || n.best("0", now) != "" {
		t.Errorf("%d networks", len(n.list))
	}
	n.worked("a", UDP, now)
	n.worked("a", TCP, now) // one relay peer without UDP
	if n.best("a", now) != UDP {
		t.Error("UDP is forgotten for one relay peer without")
	}
	n.worked("a", TCP, now.Add(rememberStream))
	if n.best("a", now.Add(rememberStream)) != TCP {
		t.Error("that UDP got through long ago counts")
	}
	a := []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1")}
	b := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::ffff:1")}
	if networkKey(a) != networkKey(b) || networkKey(a) == networkKey(a[:1]) {
		t.Error("networks are not told apart by their addresses")
	}
}

// A machine without a network says nothing about relay peers.
func TestOwnNetworkIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relays := three()
		w, nodes := virtual(t, relays...)
		p := w.pool(func(c *Config) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}
			}
		})
		if _, err := p.Allocate(t.Context(), 3); !errors.Is(err, ErrNoRelay) || !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Hour)
		if slices.ContainsFunc(nodes, func(n overlay.NodeID) bool { return w.failures(n) > 0 }) {
			t.Error("the overlay was told of failures")
		}
	})
}

func TestValidate(t *testing.T) {
	w := newWorld(t)
	for _, c := range []Config{
		{}, {Overlay: w}, {Overlay: w, Credentials: w.credentials, Want: 9}, {Overlay: w, Credentials: w.credentials, Ready: 3},
		{Overlay: w, Credentials: w.credentials, Idle: -1},
	} {
		if p, err := New(c); err == nil {
			p.Close()
			t.Errorf("%+v is taken", c)
		}
	}
}

func TestClosed(t *testing.T) {
	w := newWorld(t)
	g, _ := pionRelay(t)
	w.relay(g)
	p := w.pool()
	a := one(t, p)
	p.Close()
	<-a.Done()
	if _, err := p.Allocate(t.Context(), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("Allocate: %v", err)
	}
	if err := p.Warm(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Warm: %v", err)
	}
	if _, err := a.WriteTo(nil, a.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("WriteTo: %v", err)
	}
	if err := a.Permit(netip.MustParseAddr("192.0.2.1")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Permit: %v", err)
	}
	if err := a.Alive(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Alive: %v", err)
	}
	p.Close() // again
}
