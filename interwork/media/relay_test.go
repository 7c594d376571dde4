package media

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"p2psip/interwork/media/sdp"
	"p2psip/overlay"
)

// relayHost is a relay peer made of plain sockets: what is sent to one of its addresses comes to who has it, and what they send
// leaves from there. It serves several nodes and can die.
type relayHost struct {
	id   overlay.NodeID
	addr netip.Addr

	mu    sync.Mutex
	dead  bool
	given []*fakeAllocation
}

type fakeAllocation struct {
	*net.UDPConn
	host *relayHost
	done chan struct{}
}

func (a *fakeAllocation) Relay() overlay.NodeID  { return a.host.id }
func (a *fakeAllocation) Server() string         { return "" }
func (a *fakeAllocation) Mapped() netip.AddrPort { return netip.AddrPort{} }
func (a *fakeAllocation) Done() <-chan struct{}  { return a.done }

func (a *fakeAllocation) WriteTo(b []byte, to net.Addr) (int, error) {
	if a.host.isDead() {
		return len(b), nil // into the void, as to a machine that is off
	}
	return a.UDPConn.WriteTo(b, to)
}

func (a *fakeAllocation) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := a.UDPConn.ReadFrom(b)
		if err != nil || !a.host.isDead() {
			return n, from, err
		}
	}
}

func (h *relayHost) isDead() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead
}

// die lets nothing through any more and says nothing to anybody.
func (h *relayHost) die() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead = true
}

func (h *relayHost) allocate() (*fakeAllocation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		return nil, errors.New("no answer")
	}
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.addr, 0)))
	if err != nil {
		return nil, err
	}
	a := &fakeAllocation{UDPConn: c, host: h, done: make(chan struct{})}
	h.given = append(h.given, a)
	return a, nil
}

// finder is a list that changes while it is used.
type finder struct {
	mu sync.Mutex
	relays
}

func (f *finder) Allocate(ctx context.Context, n int) ([]Allocation, error) {
	f.mu.Lock()
	now := f.relays
	f.mu.Unlock()
	return now.Allocate(ctx, n)
}

func (f *finder) set(r relays) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relays = r
}

// relays is what a node knows of relay peers, best first.
type relays []*relayHost

func (r relays) Allocate(_ context.Context, n int) ([]Allocation, error) {
	var out []Allocation
	for _, h := range r {
		if len(out) == n {
			break
		}
		if a, err := h.allocate(); err == nil {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no relay peer")
	}
	return out, nil
}

func newRelay(id overlay.NodeID, addr string) *relayHost {
	return &relayHost{id: id, addr: netip.MustParseAddr(addr)}
}

func TestRelayOnly(t *testing.T) {
	w := newWorld(t)
	r1, r2 := newRelay("r1", "127.0.0.11"), newRelay("r2", "127.0.0.12")
	w.node("a", Config{Warm: -1, RelayOnly: true, Relays: relays{r1}})
	w.node("b", Config{Warm: -1, RelayOnly: true, Relays: relays{r2}})
	c := newCall(w, "a", "b", "relayed")
	c.invite()
	if bytes.Contains(c.between, []byte("typ host")) || bytes.Contains(c.between, []byte("127.0.0.1 ")) {
		t.Errorf("an offer that may name relays only:\n%s", c.between)
	}
	c.answer(200)
	t.Log("first word after", speak(t, c.alice, c.bob, "by relay", 5*time.Second))
	s := stream(t, c.a)
	if s.Path != "relayed" || s.Relay != "r1" || s.Local.Addr() != r1.addr || s.Remote.Addr() != r2.addr || s.RemoteType != "relay" {
		t.Errorf("status: %+v", s)
	}
}

func TestHostsAreTakenBeforeRelays(t *testing.T) {
	w := newWorld(t)
	r1, r2 := newRelay("r1", "127.0.0.11"), newRelay("r2", "127.0.0.12")
	w.node("a", Config{Warm: -1, Relays: relays{r1, r2}})
	w.node("b", Config{Warm: -1, Relays: relays{r2, r1}})
	c := newCall(w, "a", "b", "direct")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "hello", 5*time.Second)
	if s := stream(t, c.a); s.Path != "host" || s.Relay != "" {
		t.Errorf("status: %+v", s)
	}
}

// Where the far side is reached at its reflexive address, as most homes are, there is nothing to wait for, however near a
// relay is. A NAT is played by an address that is not among the host candidates.
func TestReflexiveAddressesAreTakenAtOnce(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1, Relays: relays{newRelay("r1", "127.0.0.11")}})
	w.node("b", Config{Warm: -1, Relays: relays{newRelay("r2", "127.0.0.12")}})
	c := newCall(w, "a", "b", "reflexive")
	c.invite()
	var err error
	if c.betweenBack, err = c.exB.Response(200, "bob", true, c.bob.body()); err != nil {
		t.Fatal(err)
	}
	s, _ := sdp.Parse(c.betweenBack)
	tr := s.Media[0].Transport()
	for i := range tr.ICE.Candidates {
		if x := &tr.ICE.Candidates[i]; x.Type == "host" {
			x.Type, x.RelAddr, x.RelPort, x.Priority = "srflx", "10.0.0.1", 9, 100<<24|255
		}
	}
	s.Media[0].SetTransport(tr)
	if c.toAlice, err = c.exA.Response(200, "bob", true, s.Marshal()); err != nil {
		t.Fatal(err)
	}
	c.alice.learn(c.toAlice)
	if d := speak(t, c.alice, c.bob, "through the NAT", 5*time.Second); d > relayPatience {
		t.Errorf("heard after %v", d)
	}
	if st := stream(t, c.a); st.Path != "reflexive" || st.RemoteType != "srflx" {
		t.Errorf("status: %+v", st)
	}
}

// A relay that dies between offer and answer leaves ICE without a pair; it is begun anew long before it would give up.
func TestRelayDiesBeforeTheAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	t.Parallel()
	w := newWorld(t)
	r1, r2, r3 := newRelay("r1", "127.0.0.11"), newRelay("r2", "127.0.0.12"), newRelay("r3", "127.0.0.13")
	found := &finder{relays: relays{r1}}
	w.node("a", Config{Warm: -1, RelayOnly: true, Relays: found})
	w.node("b", Config{Warm: -1, RelayOnly: true, Relays: relays{r2}})
	c := newCall(w, "a", "b", "early death")
	c.invite()
	r1.die()
	found.set(relays{r1, r3})
	c.answer(200)
	if d := speak(t, c.alice, c.bob, "at last", 10*time.Second); d > stuckAfter+3*time.Second {
		t.Errorf("heard after %v", d)
	}
}

func TestVoiceIsBackAfterARelayDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r1, r2, r3 := newRelay("r1", "127.0.0.11"), newRelay("r2", "127.0.0.12"), newRelay("r3", "127.0.0.13")
	found := &finder{relays: relays{r1}}
	w.node("a", Config{Warm: -1, RelayOnly: true, Relays: found})
	w.node("b", Config{Warm: -1, RelayOnly: true, Relays: relays{r2}})
	c := newCall(w, "a", "b", "dying")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "before", 5*time.Second)
	speak(t, c.bob, c.alice, "before", 5*time.Second)
	before := stream(t, c.b)

	found.set(relays{r1, r3})
	r1.die()
	there := speak(t, c.alice, c.bob, "after", 5*time.Second)
	back := speak(t, c.bob, c.alice, "after", 5*time.Second)
	t.Logf("voice was back after %v and %v", there, there+back)
	if there+back > 3*time.Second {
		t.Errorf("voice was back after %v", there+back)
	}
	s := stream(t, c.b)
	if s.FarCrypto != before.FarCrypto || s.FromFar.Packets <= before.FromFar.Packets {
		t.Errorf("the association did not go on: %+v", s)
	}
	if s := stream(t, c.a); s.Relay != "r3" {
		t.Errorf("status: %+v", s)
	}
	eventually(t, "the restart is counted", 3*time.Second, func() bool {
		return c.a.Status().Restarts+c.b.Status().Restarts > 0
	})
}
