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
