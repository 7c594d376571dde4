package overlay_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"p2psip/overlay"
	"p2psip/overlay/overlaytest"
)

// universe starts peers, the first of which may take both roles.
func universe(t *testing.T, peers, entitled int) *overlaytest.Universe {
	t.Helper()
	return overlaytest.NewWithRoles(t, peers, func(i int) []overlay.Role {
		if i < entitled {
			return overlay.Roles()
		}
		return nil
	}, nil)
}

func offer(t *testing.T, p *overlay.Peer, r overlay.Role, o overlay.Offer) *overlay.Offering {
	t.Helper()
	f, err := p.Offer(r, func() overlay.Offer { return o })
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the offer is advertised", func() bool {
		at, _, _ := f.Advertised()
		return !at.IsZero()
	})
	return f
}

func nodes(list []overlay.Advert) []overlay.NodeID {
	var out []overlay.NodeID
	for _, a := range list {
		out = append(out, a.Node)
	}
	slices.Sort(out)
	return out
}

func TestFindRole(t *testing.T) {
	u := universe(t, 8, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	finder := u.Peers[7]
	if _, err := finder.Find(ctx, overlay.RoleRelay, 1); !errors.Is(err, overlay.ErrNoRole) {
		t.Fatalf("with nobody offering: %v", err)
	}
	var want []overlay.NodeID
	for _, p := range u.Peers[:3] {
		offer(t, p, overlay.RoleProxy, overlay.Offer{Services: []string{"sip:192.0.2.1:5060;transport=udp"}, Capacity: 10, Load: 100})
		want = append(want, p.ID())
	}
	slices.Sort(want)
	got, err := finder.Find(ctx, overlay.RoleProxy, 5)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(nodes(got), want) {
		t.Fatalf("found %v, want %v", nodes(got), want)
	}
	for _, a := range got {
		if a.Role != overlay.RoleProxy || len(a.Services) != 1 || a.Capacity != 10 || a.Load != 100 || len(a.Addrs) == 0 || !a.Expires.After(time.Now()) {
			t.Fatalf("advert %+v", a)
		}
	}
	// A node does not find itself.
	got, err = u.Peers[0].Find(ctx, overlay.RoleProxy, 5)
	if err != nil || len(got) != 2 || slices.Contains(nodes(got), u.Peers[0].ID()) {
		t.Fatalf("the offering node finds %v, %v", nodes(got), err)
	}
	if _, err := finder.Find(ctx, "teredo", 1); !errors.Is(err, overlay.ErrNoRole) {
		t.Fatalf("teredo: %v", err)
	}
}

func TestWithdrawnRoleIsGone(t *testing.T) {
	u := universe(t, 6, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stay := offer(t, u.Peers[0], overlay.RoleRelay, overlay.Offer{})
	leave := offer(t, u.Peers[1], overlay.RoleRelay, overlay.Offer{})
	finder := u.Peers[5]
	if got, err := finder.Find(ctx, overlay.RoleRelay, 5); err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if err := leave.Close(); err != nil {
		t.Fatal(err)
	}
	if err := leave.Close(); err != nil {
		t.Fatalf("closed twice: %v", err)
	}
	// Another finder sees it at once, whichever node it asks.
	for _, p := range u.Peers[2:5] {
		got, err := p.Find(ctx, overlay.RoleRelay, 5)
		if err != nil || len(got) != 1 || got[0].Node != u.Peers[0].ID() {
			t.Fatalf("after the withdrawal: %v, %v", nodes(got), err)
		}
	}
	// It can come back.
	offer(t, u.Peers[1], overlay.RoleRelay, overlay.Offer{})
	if err := stay.Close(); err != nil {
		t.Fatal(err)
	}
}

// Somebody who knows only the draft finds the nodes under the key of the well-known URI.
func TestWellKnownKeyWorks(t *testing.T) {
	u := universe(t, 6, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	offer(t, u.Peers[0], overlay.RoleProxy, overlay.Offer{Capacity: 7})
	key := overlay.RoleKey(overlay.RoleProxy, overlaytest.ID, 0, 0)
	var value []byte
	eventually(t, "a node answers", func() bool {
		var err error
		value, err = u.Peers[5].GetAt(ctx, u.Peers[3].ID(), key)
		return err == nil
	})
	got, err := u.Peers[5].Adverts(value)
	if err != nil || len(got) != 1 || got[0].Node != u.Peers[0].ID() || got[0].Capacity != 7 {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, w := range []overlay.FindingWay{overlay.FindNaive, overlay.FindCached, overlay.FindSharded} {
		u.Peers[4].SetFinding(w)
		if got, err := u.Peers[4].Find(ctx, overlay.RoleProxy, 2); err != nil || len(got) != 1 {
			t.Errorf("way %d: %v, %v", w, got, err)
		}
	}
}

func TestOfferNeedsTheRole(t *testing.T) {
	u := universe(t, 2, 1)
	describe := func() overlay.Offer { return overlay.Offer{} }
	if _, err := u.Peers[1].Offer(overlay.RoleProxy, describe); !errors.Is(err, overlay.ErrNotEntitled) {
		t.Errorf("without the role: %v", err)
	}
	if _, err := u.Peers[0].Offer("teredo", describe); !errors.Is(err, overlay.ErrNotEntitled) {
		t.Errorf("a role that is not known: %v", err)
	}
	if _, err := u.Peers[0].Offer(overlay.RoleProxy, func() overlay.Offer { return overlay.Offer{Services: []string{"http://x"}} }); err == nil {
		t.Error("a service of another scheme is offered")
	}
	offer(t, u.Peers[0], overlay.RoleProxy, overlay.Offer{})
	if _, err := u.Peers[0].Offer(overlay.RoleProxy, describe); err == nil {
		t.Error("one role is offered twice")
	}
}

// R69: a member without the role writes a well-formed, correctly signed advertisement everywhere; every node refuses it, and
// nobody finds it.
func TestRogueAdvertisementIsIgnored(t *testing.T) {
	u := universe(t, 8, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	offer(t, u.Peers[0], overlay.RoleProxy, overlay.Offer{})
	rogue := u.Peers[7]
	now := time.Now()
	value, err := overlay.SignAdvertAs(u.Configs[7].Key, u.Configs[7].Credential, u.Authority.Document(), overlay.Advert{
		Role: overlay.RoleProxy, Addrs: []string{"/ip4/127.0.0.1/tcp/1"}, Sequence: uint64(now.UnixMilli()), Expires: now.Add(overlay.AdvertLifetime),
	})
	if err != nil {
		t.Fatal(err)
	}
	for level := range 3 {
		for shard := range uint32(1 << level) {
			for _, p := range u.Peers[:7] {
				key := overlay.RoleKey(overlay.RoleProxy, overlaytest.ID, level, shard)
				if rogue.PutAt(ctx, p.ID(), key, value) == nil {
					t.Fatalf("node %s stores it", p.ID())
				}
			}
		}
	}
	if _, err := u.Peers[1].Adverts(value); !errors.Is(err, overlay.ErrNotEntitled) {
		t.Fatalf("a reader takes it: %v", err)
	}
	for _, p := range u.Peers[1:7] {
		got, err := p.Find(ctx, overlay.RoleProxy, 5)
		if err != nil || len(got) != 1 || got[0].Node != u.Peers[0].ID() {
			t.Fatalf("found %v, %v", nodes(got), err)
		}
	}
}

// An advertiser that is gone without a word is not handed out once it has not been heard for a while: it is asked first.
func TestDeadAdvertiserIsNotHandedOut(t *testing.T) {
	u := universe(t, 6, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	offer(t, u.Peers[0], overlay.RoleProxy, overlay.Offer{})
	// The other is advertised by a word of three quarters its life ago.
	signed := time.Now().Add(-overlay.AdvertLifetime * 3 / 4)
	value, err := overlay.SignAdvertAs(u.Configs[1].Key, u.Configs[1].Credential, u.Authority.Document(), overlay.Advert{
		Role: overlay.RoleProxy, Addrs: u.Peers[1].Addrs(), Sequence: uint64(signed.UnixMilli()), Expires: signed.Add(overlay.AdvertLifetime),
	})
	if err != nil {
		t.Fatal(err)
	}
	key := overlay.RoleKey(overlay.RoleProxy, overlaytest.ID, 0, 0)
	for _, p := range u.Peers[2:] {
		eventually(t, "the old word is stored", func() bool { return u.Peers[1].PutAt(ctx, p.ID(), key, value) == nil })
	}
	u.Peers[1].Close()
	for _, p := range u.Peers[2:] {
		got, err := p.Find(ctx, overlay.RoleProxy, 2)
		if err != nil || len(got) != 1 || got[0].Node != u.Peers[0].ID() {
			t.Fatalf("found %v, %v", nodes(got), err)
		}
		if p.RoleStatus().Probes == 0 {
			t.Error("nobody was asked")
		}
	}
}

func TestFailedNodeIsDropped(t *testing.T) {
	u := universe(t, 6, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, p := range u.Peers[:2] {
		offer(t, p, overlay.RoleProxy, overlay.Offer{})
	}
	finder := u.Peers[5]
	got, err := finder.Find(ctx, overlay.RoleProxy, 2)
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	finder.Failed(overlay.RoleProxy, got[0].Node)
	for range 10 {
		again, err := finder.Find(ctx, overlay.RoleProxy, 2)
		if err != nil || len(again) != 1 || again[0].Node != got[1].Node {
			t.Fatalf("after the failure: %v, %v", nodes(again), err)
		}
	}
	finder.Failed("teredo", got[0].Node) // and for a role that is not known nothing happens
}

// R32, R35: a well-known URI has a scheme and the overlay's name and nothing else; a scheme that stands for nothing is none.
func TestParseWellKnown(t *testing.T) {
	const id = overlay.ID("p2psip.example")
	for _, r := range overlay.Roles() {
		for _, s := range []string{r.URI(id), "SIP:P2PSIP.example."} {
			got, err := overlay.ParseWellKnown(s, id)
			if err != nil || s == r.URI(id) && got != r {
				t.Errorf("%q: %q, %v", s, got, err)
			}
		}
	}
	for _, s := range []string{"teredo:p2psip.example", "h323:p2psip.example"} {
		if _, err := overlay.ParseWellKnown(s, id); !errors.Is(err, overlay.ErrNoRole) {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{
		"sip:bob@p2psip.example", "sip:p2psip.example:5060", "sip:p2psip.example;transport=tcp", "sip:p2psip.example?subject=x",
		"sip:other.example", "sip:192.0.2.1", "sip:", "p2psip.example", ":p2psip.example", "1sip:p2psip.example", "",
	} {
		if _, err := overlay.ParseWellKnown(s, id); !errors.Is(err, overlay.ErrBadWellKnown) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
