package overlay

import (
	"math/rand/v2"
	"testing"
	"time"
)

// chooser is the part of a peer that choosing needs.
func chooser(t *testing.T) (*roles, *market) {
	t.Helper()
	SilenceLibraries()
	m := newMarket(t)
	s := m.seller()
	m.clock.Store(time.Now().UnixNano())
	o, err := Start(Config{Key: s.key, Document: m.doc, Credential: s.cred, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Random: rand.NewPCG(1, 2), Now: m.now})
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { o.Close() })
	return o.roles, m
}

// first counts how often each of the nodes comes first.
func first(r *roles, list []*offerer) map[NodeID]int {
	n := map[NodeID]int{}
	for range 4000 {
		n[r.order(list)[0].advert.Node]++
	}
	return n
}

func offererOf(n NodeID, o Offer, rtt time.Duration) *offerer {
	return &offerer{advert: &advert{Advert: Advert{Role: RoleProxy, Node: n, Offer: o}}, rtt: rtt}
}

func TestChoice(t *testing.T) {
	r, m := chooser(t)
	near := offererOf("near", Offer{Capacity: 10}, 10*time.Millisecond)
	far := offererOf("far", Offer{Capacity: 10}, 190*time.Millisecond)
	n := first(r, []*offerer{near, far})
	if n["near"] < 2*n["far"] || n["far"] < 400 {
		t.Errorf("near and far: %v; the near one should be preferred, and not get all", n)
	}
	idle := offererOf("idle", Offer{Capacity: 10}, time.Millisecond)
	busy := offererOf("busy", Offer{Capacity: 10, Load: 900}, time.Millisecond)
	full := offererOf("full", Offer{Capacity: 10, Load: 1000}, time.Millisecond)
	if n := first(r, []*offerer{idle, busy, full}); n["idle"] < 5*n["busy"] || n["full"] > 150 {
		t.Errorf("by load: %v", n)
	}
	large := offererOf("large", Offer{Capacity: 40}, time.Millisecond)
	if n := first(r, []*offerer{idle, large}); n["large"] < 3*n["idle"] {
		t.Errorf("by capacity: %v", n)
	}
	// A claim of any capacity gains eight times the middle one's share, not all.
	var list []*offerer
	for _, s := range []NodeID{"a", "b", "c", "d", "e", "f", "g", "h"} {
		list = append(list, offererOf(s, Offer{Capacity: 10}, time.Millisecond))
	}
	list = append(list, offererOf("liar", Offer{Capacity: 1<<32 - 1}, time.Millisecond))
	if n := first(r, list); n["liar"] > 2400 {
		t.Errorf("who claims to carry everything gets %d of 4000", n["liar"])
	}
	// Who was heard lately comes before who would have to be asked.
	far.heard = m.now().Add(-time.Minute)
	if n := first(r, []*offerer{near, far}); n["near"] > 0 {
		t.Errorf("asked without need: %v", n)
	}
}

func TestPreferOtherNetworks(t *testing.T) {
	r, _ := chooser(t)
	p := newPicker(r.caches[RoleProxy], 2)
	defer p.stop()
	at := func(n NodeID, addr string) *offerer {
		o := offererOf(n, Offer{}, 0)
		o.advert.Addrs = []string{addr}
		return o
	}
	list := []*offerer{at("a", "/ip4/8.8.1.1/tcp/1"), at("b", "/ip4/8.8.2.2/tcp/1"), at("c", "/ip6/2a00:1450::1/tcp/1"), at("d", "/ip4/10.0.0.1/tcp/1"), at("e", "/ip4/10.0.0.2/tcp/1")}
	got := p.spread(list)
	var order string
	for _, o := range got {
		order += string(o.advert.Node)
	}
	if order != "acdeb" {
		t.Errorf("order %s: the second of a network should come last, private networks count for nothing", order)
	}
}

func TestFailedIsKeptOutLongerEachTime(t *testing.T) {
	r, m := chooser(t)
	c := r.caches[RoleProxy]
	s := m.seller(RoleProxy)
	c.add(s.says(RoleProxy, false))
	out := func() time.Duration {
		c.failed(s.node)
		begin := m.now()
		for c.size() == 0 {
			m.pass(time.Second)
			if m.now().Sub(begin) > AdvertLifetime {
				t.Fatal("it never comes back")
			}
			c.add(s.says(RoleProxy, false))
		}
		return m.now().Sub(begin)
	}
	if a, b := out(), out(); a < failedFor || b < 2*a-time.Second {
		t.Errorf("kept out for %v, then for %v", a, b)
	}
}

func TestCacheIsBounded(t *testing.T) {
	r, m := chooser(t)
	c := r.caches[RoleProxy]
	for range 3 * maxCached {
		c.add(m.seller(RoleProxy).says(RoleProxy, false))
		m.pass(time.Second)
	}
	if len(c.m) > maxCached {
		t.Errorf("%d nodes are remembered", len(c.m))
	}
	s := m.seller(RoleProxy)
	for range maxKnownAdverts {
		s.says(RoleProxy, false)
		m.pass(time.Millisecond)
	}
	if len(m.v.known) > maxKnownAdverts {
		t.Errorf("%d advertisements are remembered", len(m.v.known))
	}
}
