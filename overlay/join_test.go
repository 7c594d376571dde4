package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"p2psip/overlay"
	"p2psip/overlay/overlaytest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, leakOptions()...)
}

// leakOptions names goroutines of libraries that run for the life of the process.
func leakOptions() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		goleak.IgnoreTopFunction("github.com/ipfs/go-log/writer.(*MirrorWriter).logRoutine"),
	}
}

// eventually waits until ok, asking again on every tick; there is no event for what other nodes know.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

var quick = overlay.Timing{JoinMin: 50 * time.Millisecond, JoinMax: 200 * time.Millisecond, RetryMin: 50 * time.Millisecond, RetryMax: 200 * time.Millisecond}

func TestJoinedNobody(t *testing.T) {
	u := overlaytest.New(t, 1, nil)
	if s := u.Peers[0].Status(); !s.Joined || s.Trouble != "" {
		t.Errorf("the first node of an overlay is told that it is in trouble: %+v", s)
	}
	gone := u.Peers[0].Addrs()
	u.Peers[0].Close()

	u.Peers = nil
	c := u.Config(t, 1)
	var err error
	if c.Bootstrap, err = overlay.ParseBootstrap(gone); err != nil {
		t.Fatal(err)
	}
	c.Timing = quick
	p := u.Start(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := p.WaitJoined(ctx); !errors.Is(err, overlay.ErrUnreachable) {
		t.Errorf("WaitJoined: %v", err)
	}
	s := p.Status()
	if s.Joined || !strings.Contains(s.Trouble, "none of the 1 nodes known could be reached") || !strings.Contains(s.Trouble, "online") {
		t.Errorf("the trouble is not named: %+v", s)
	}
	a := u.AOR(t, "user1")
	if _, _, err := lookup(t, p, a); !errors.Is(err, overlay.ErrUnreachable) {
		t.Errorf("lookup: %v", err)
	}
	if err := p.Registrations().Set(context.Background(), a, []overlay.Device{{ID: "x"}}); !errors.Is(err, overlay.ErrUnreachable) {
		t.Errorf("publish: %v", err)
	}
}

func TestAloneByRight(t *testing.T) {
	u := overlaytest.New(t, 1, nil)
	a := u.AOR(t, "user0")
	if err := u.Peers[0].Registrations().Set(context.Background(), a, []overlay.Device{{ID: "x"}}); err != nil {
		t.Fatal(err)
	}
	if r, _, err := lookup(t, u.Peers[0], a); err != nil || len(r.Live(time.Now())) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, _, err := lookup(t, u.Peers[0], u.AOR(t, "nobody")); !errors.Is(err, overlay.ErrUnknownUser) {
		t.Errorf("%v", err)
	}
}

// TestRejoin: every bootstrap node goes down and comes back (on the same address) while the others were cut off; what was
// published meanwhile gets there by itself.
func TestRejoin(t *testing.T) {
	u := overlaytest.New(t, 2, func(_ int, c *overlay.Config) { c.Timing = quick; c.PeersFile = "" })
	first, second := u.Peers[0], u.Peers[1]
	c := u.Configs[0]
	addr, _, _ := strings.Cut(first.Addrs()[0], "/p2p/")
	c.Listen = []string{addr}
	first.Close()
	eventually(t, "the second node notices that it is cut off", func() bool { return !second.Status().Joined })

	a := u.AOR(t, "user1")
	err := second.Registrations().Set(context.Background(), a, []overlay.Device{{ID: "x"}})
	if !errors.Is(err, overlay.ErrUnreachable) {
		t.Fatalf("published while cut off: %v", err)
	}
	again := u.Start(t, c)
	eventually(t, "the record arrives at the node that came back", func() bool { return again.Holds(a) == 1 })
	eventually(t, "the node says that all is well", func() bool {
		s := second.Status()
		return s.Joined && s.Publish[0].Err == nil && !s.Publish[0].Published.IsZero()
	})
}

// TestRememberedPeers: a node restarts while its only bootstrap node is gone, and gets back in through a node it met.
func TestRememberedPeers(t *testing.T) {
	u := overlaytest.New(t, 4, func(_ int, c *overlay.Config) { c.Timing = quick })
	eventually(t, "node 3 knows all others", func() bool { return u.Peers[3].Status().Routing == 3 })
	u.Peers[3].Close()
	u.Peers[0].Close()
	p := u.Start(t, u.Configs[3])
	eventually(t, "node 3 is back", func() bool { return p.Status().Routing >= 2 })
}

// TestRestartKeepsSequence: sequence numbers go on rising over a restart, and who was registered is remembered.
func TestRestartKeepsSequence(t *testing.T) {
	u := overlaytest.New(t, 3, func(_ int, c *overlay.Config) { c.Timing = quick })
	a := u.AOR(t, "user2")
	ctx := context.Background()
	if err := u.Peers[2].Registrations().Set(ctx, a, []overlay.Device{{ID: "x"}}); err != nil {
		t.Fatal(err)
	}
	before := u.Peers[2].Registrations().Status()[0].Sequence
	u.Peers[2].Close()

	c := u.Configs[2]
	past := time.Now().Add(-time.Minute) // a clock set back a little must not lower the numbers
	c.Now = func() time.Time { return past }
	p := u.Start(t, c)
	if got := p.Registrations().Remembered(); len(got) != 1 || got[0] != a {
		t.Fatalf("remembered %v", got)
	}
	if err := p.WaitJoined(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Registrations().Set(ctx, a, nil); err != nil {
		t.Fatal(err)
	}
	if after := p.Registrations().Status()[0].Sequence; after <= before {
		t.Errorf("sequence %d after %d", after, before)
	}
	r, _, err := lookup(t, u.Peers[0], a)
	if err != nil || len(r.Nodes) != 1 || len(r.Live(time.Now())) != 0 {
		t.Errorf("after leaving: %+v, %v; want a record without devices", r, err)
	}
	if got := p.Registrations().Remembered(); len(got) != 0 {
		t.Errorf("still remembered: %v", got)
	}
}

// TestHalfOfTheStorersGone: the record is found right after half of those who hold it have vanished.
func TestHalfOfTheStorersGone(t *testing.T) {
	u := overlaytest.New(t, 14, nil)
	a := u.AOR(t, "user1")
	ctx := context.Background()
	if err := u.Peers[1].Registrations().Set(ctx, a, []overlay.Device{{ID: "x"}}); err != nil {
		t.Fatal(err)
	}
	var holders []*overlay.Peer
	for i, p := range u.Peers {
		if i > 1 && p.Holds(a) == 1 {
			holders = append(holders, p)
		}
	}
	if len(holders) < 4 {
		t.Fatalf("only %d nodes hold the record", len(holders))
	}
	for _, p := range holders[:len(holders)/2] {
		p.Close()
	}
	r, stats, err := lookup(t, u.Peers[0], a)
	if err != nil || len(r.Live(time.Now())) != 1 {
		t.Errorf("%+v, %v (%+v)", r, err, stats)
	}
}

func TestStreams(t *testing.T) {
	u := overlaytest.New(t, 4, nil)
	got := make(chan *overlay.Stream, 1)
	u.Peers[3].HandleStreams(func(s *overlay.Stream) { got <- s })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// Without an address: the overlay is asked.
	s, err := u.Peers[2].OpenStream(ctx, u.Peers[3].ID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := fmt.Fprint(s, "hello"); err != nil {
		t.Fatal(err)
	}
	far := <-got
	defer far.Close()
	b := make([]byte, 5)
	if _, err := far.Read(b); err != nil || string(b) != "hello" {
		t.Fatalf("read %q, %v", b, err)
	}
	if far.Member.Node != u.Peers[2].ID() || !far.Member.Entitled(u.AOR(t, "user2")) || far.Member.Entitled(u.AOR(t, "user3")) {
		t.Errorf("the far side takes this one for %v", far.Member)
	}
	if _, err := fmt.Fprint(far, "world"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(b); err != nil || string(b) != "world" {
		t.Fatalf("read %q, %v", b, err)
	}
	if !s.Member.Entitled(u.AOR(t, "user3")) {
		t.Error("the credential of the node that was called is not known after its first word")
	}

	// A connection with a stream is not given up when there are too many.
	near, there := u.Peers[2], u.Peers[3]
	if !near.Keeps(there.ID()) || !there.Keeps(near.ID()) {
		t.Error("a connection with a stream may be given up")
	}
	more, err := near.OpenStream(ctx, there.ID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Reset()
	if !near.Keeps(there.ID()) {
		t.Error("the end of one stream gives the connection up that another one needs")
	}
	more.Close()
	if near.Keeps(there.ID()) {
		t.Error("a connection without a stream is kept for ever")
	}
}

// TestStreamFromAStrangerIsRefused: a node whose credential has run out is not let in.
func TestStreamFromAStrangerIsRefused(t *testing.T) {
	u := overlaytest.New(t, 2, nil)
	u.Peers[1].HandleStreams(func(*overlay.Stream) { t.Error("a stranger got in") })
	c := u.Config(t, 2)
	cred, err := u.Authority.Issue(mustNode(t, c), []overlay.AOR{u.AOR(t, "user2")}, nil, time.Minute, time.Now().Add(-4*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	c.Credential = cred
	p := u.Start(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.WaitJoined(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := p.OpenStream(ctx, u.Peers[1].ID(), u.Peers[1].Addrs())
	if err != nil {
		return // refused before the greeting was out: as good
	}
	defer s.Close()
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("a stranger was answered")
	}
}

func mustNode(t *testing.T, c overlay.Config) overlay.NodeID {
	t.Helper()
	n, err := overlay.NodeOfKey(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOnePortOneNode: a second node on a port that is taken is told so, instead of sharing the first one's connections.
func TestOnePortOneNode(t *testing.T) {
	u := overlaytest.New(t, 1, nil)
	c := u.Config(t, 1)
	addr, _, _ := strings.Cut(u.Peers[0].Addrs()[0], "/p2p/")
	c.Listen = []string{addr}
	if p, err := overlay.Start(c); err == nil {
		p.Close()
		t.Error("two nodes listen on one port")
	}
}
