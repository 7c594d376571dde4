package overlay_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"p2psip/overlay"
	"p2psip/overlay/overlaytest"
)

// lookup runs a search to its end and gives the last record.
func lookup(t testing.TB, p *overlay.Peer, a overlay.AOR) (overlay.Record, overlay.LookupStats, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l := p.Lookup(ctx, a)
	defer l.Stop()
	var last overlay.Record
	for {
		r, err := l.Next(ctx)
		if errors.Is(err, io.EOF) {
			return last, l.Stats(), nil
		}
		if err != nil {
			return last, l.Stats(), err
		}
		last = r
	}
}

func TestPublishOnOneNodeLookUpOnAnother(t *testing.T) {
	u := overlaytest.New(t, 12, nil)
	a := u.AOR(t, "user3")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := u.Peers[3].Registrations().Set(ctx, a, []overlay.Device{{ID: "phone", Q: 1000}}); err != nil {
		t.Fatal(err)
	}
	for i, p := range u.Peers {
		r, stats, err := lookup(t, p, a)
		if err != nil {
			t.Fatalf("peer %d: %v (%+v)", i, err, stats)
		}
		live := r.Live(time.Now())
		if len(live) != 1 || live[0].Node != u.Peers[3].ID() || live[0].Devices[0].ID != "phone" || len(live[0].Addrs) == 0 {
			t.Fatalf("peer %d got %+v", i, r)
		}
		t.Logf("peer %d: %+v", i, stats)
	}
}

func TestUnknownUser(t *testing.T) {
	u := overlaytest.New(t, 8, nil)
	_, stats, err := lookup(t, u.Peers[5], u.AOR(t, "nobody"))
	if !errors.Is(err, overlay.ErrUnknownUser) {
		t.Fatalf("got %v (%+v)", err, stats)
	}
	t.Logf("%+v", stats)
}

func TestTwoNodesOfOneUserRegisterAtTheSameMoment(t *testing.T) {
	u := overlaytest.New(t, 10, nil)
	a := u.AOR(t, "shared")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	errs := make(chan error, 2)
	for _, i := range []int{2, 7} {
		go func() {
			errs <- u.Peers[i].Registrations().Set(ctx, a, []overlay.Device{{ID: "phone", Q: 1000}})
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range u.Peers {
		r, _, err := lookup(t, p, a)
		if err != nil || len(r.Live(time.Now())) != 2 {
			t.Fatalf("peer %d sees %d nodes (%v)", i, len(r.Nodes), err)
		}
	}
	// One of them leaves: the other stays.
	if err := u.Peers[2].Registrations().Set(ctx, a, nil); err != nil {
		t.Fatal(err)
	}
	r, _, err := lookup(t, u.Peers[5], a)
	if err != nil {
		t.Fatal(err)
	}
	if live := r.Live(time.Now()); len(live) != 1 || live[0].Node != u.Peers[7].ID() {
		t.Fatalf("after one left: %+v", live)
	}
}

// TestPublishedAgain: without being told anything, a node publishes its users again, with a higher sequence number, and
// nodes that came in later get the record.
func TestPublishedAgain(t *testing.T) {
	u := overlaytest.New(t, 3, func(_ int, c *overlay.Config) { c.Timing = overlay.Timing{Early: 100 * time.Millisecond} })
	a := u.AOR(t, "user1")
	if err := u.Peers[1].Registrations().Set(context.Background(), a, []overlay.Device{{ID: "x"}}); err != nil {
		t.Fatal(err)
	}
	first := u.Peers[1].Registrations().Status()[0].Sequence
	late := u.Start(t, u.Config(t, 9))
	eventually(t, "the node that came later stores a newer copy", func() bool {
		return late.Holds(a) == 1 && late.HoldsSequence(a) > first
	})
}
