package public_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"p2psip/interwork/phone"
	"p2psip/sim/network"
	"p2psip/sim/public"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// country is two providers and their subscribers.
type country struct {
	t    *testing.T
	n    *network.Network
	zone *public.Zone
	next int
}

func newCountry(t *testing.T, dead bool) *country {
	n, err := network.New(network.Config{Seed: 1, Latency: network.Constant(40 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	c := &country{t: t, n: n, next: 100}
	one, other := netip.AddrPortFrom(network.PublicIP(1), 5060), netip.AddrPortFrom(network.PublicIP(2), 5060)
	servers := []netip.AddrPort{other}
	if dead {
		servers = append(servers, netip.MustParseAddrPort("198.18.7.7:5060"))
	}
	lines := append(public.Servers("one.example", []netip.AddrPort{one}), public.Servers("other.example", servers)...)
	if c.zone, err = public.NewZone(10*time.Millisecond, lines...); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *country) place(i int) *network.Place { return c.n.AddPlace(network.PublicIP(i)) }

func (c *country) provider(i int, domain string) *public.Provider {
	pc, err := c.place(i).ListenPacket(5060)
	if err != nil {
		c.t.Fatal(err)
	}
	l, err := c.zone.Locator(rand.NewPCG(1, uint64(i)))
	if err != nil {
		c.t.Fatal(err)
	}
	p, err := public.New(public.Config{Domain: domain, Socket: pc, Locator: l, Patience: 2 * time.Second, Logger: quiet})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { p.Close() })
	return p
}

func (c *country) phone(p *public.Provider, user, domain, password string, incoming func(*phone.Call)) *phone.Phone {
	c.next++
	at := c.place(c.next)
	pc, err := at.ListenPacket(5060)
	if err != nil {
		c.t.Fatal(err)
	}
	port := uint16(30000)
	ph, err := phone.New(phone.Config{
		AOR: "sip:" + user + "@" + domain, Outbound: p.Addr().String(), Local: pc, Password: password, Incoming: incoming, Silent: true,
		Media:  func() (net.PacketConn, error) { port++; return at.ListenPacket(port) },
		Logger: quiet,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { ph.Close() })
	return ph
}

func TestProviders(t *testing.T) {
	for _, dead := range []bool{false, true} {
		t.Run(fmt.Sprintf("dead server %v", dead), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCountry(t, dead)
				one, other := c.provider(1, "one.example"), c.provider(2, "other.example")
				one.Add("alice", "secret")
				other.Add("bob", "secret too")
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				alice := c.phone(one, "alice", "one.example", "secret", nil)
				bob := c.phone(other, "bob", "other.example", "secret too", phone.AnswerAfter(time.Second))
				mallory := c.phone(other, "bob", "other.example", "guess", nil)
				if _, err := mallory.Register(ctx, time.Hour); err == nil {
					t.Error("a wrong password was taken")
				}
				for _, p := range []*phone.Phone{alice, bob} {
					if _, err := p.Register(ctx, time.Hour); err != nil {
						t.Fatal(err)
					}
				}
				for range 4 { // by chance the dead server comes first in some of them
					call, err := alice.Call(ctx, "sip:bob@other.example")
					if err != nil {
						t.Fatal(err)
					}
					if _, err := call.Wait(ctx, phone.Answered); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					if err := call.Hangup(ctx); err != nil {
						t.Fatal(err)
					}
					if n := len(bob.Calls()); n != 0 {
						t.Fatalf("bob still has %d calls", n)
					}
				}
				for to, want := range map[string]int{"sip:nobody@other.example": 404, "sip:alice@nowhere.example": 480} {
					call, err := alice.Call(ctx, to)
					if err != nil {
						t.Fatal(err)
					}
					if st, err := call.Wait(ctx, phone.Failed); err != nil || st.Status != want {
						t.Errorf("%s: %v, %v", to, st, err)
					}
				}
			})
		})
	}
}
