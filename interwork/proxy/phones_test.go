package proxy_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"p2psip/interwork/edge"
	"p2psip/interwork/flow"
	"p2psip/interwork/phonetest"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

const oid = overlay.ID("p2psip.example")

// directory is the overlay of these tests: what every node has published, in one table.
type directory struct {
	mu      sync.Mutex // guards both
	entries map[overlay.AOR]map[overlay.NodeID]overlay.NodeEntry
	nodes   map[overlay.NodeID]*node
}

// node is a registrar, a proxy and a UDP socket, as a node has them; only the overlay is missing.
type node struct {
	d    *directory
	id   overlay.NodeID
	core *proxy.Core
	edge *edge.Edge
	addr string // UDP
	tcp  string
	owns map[overlay.AOR]bool

	mu    sync.Mutex // guards flows
	flows map[overlay.NodeID]flow.Flow
}

func newNode(t *testing.T, d *directory, seed byte, users ...string) *node {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	pub, err := crypto.UnmarshalEd25519PublicKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{d: d, id: id, owns: make(map[overlay.AOR]bool), flows: make(map[overlay.NodeID]flow.Flow)}
	var own []overlay.AOR
	for _, u := range users {
		a, err := oid.AOR(u)
		if err != nil {
			t.Fatal(err)
		}
		own, n.owns[a] = append(own, a), true
	}
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr, n.tcp = pc.LocalAddr().String(), ln.Addr().String()
	sockets := &proxy.Listeners{}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	n.edge, err = edge.New(edge.Config{OID: oid, DataDir: t.TempDir(), Own: func() []overlay.AOR { return own },
		Publisher: n, Flows: sockets, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	n.core, err = proxy.New(proxy.Config{OID: oid, NodeName: overlay.NodeName(id, oid), Secret: bytes.Repeat([]byte{seed}, 32),
		Own:  []flow.Addr{flow.AddrFrom(pc.LocalAddr().(*net.UDPAddr).AddrPort()), flow.AddrFrom(ln.Addr().(*net.TCPAddr).AddrPort())},
		Edge: n.edge, Sockets: sockets, Locator: d, Peers: n, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	u := flow.ListenUDP(pc, n.core.Layer(), flow.Options{Logger: log})
	sockets.AddUDP(u)
	s := flow.ListenTCP(ln, n.core.Layer(), flow.Options{Logger: log})
	sockets.AddStream(s)
	d.nodes[id] = n
	t.Cleanup(func() {
		n.mu.Lock()
		flows := n.flows
		n.flows = nil
		n.mu.Unlock()
		for _, f := range flows {
			_ = f.Close()
		}
		_ = u.Close()
		_ = s.Close()
		n.core.Close()
		n.edge.Close()
	})
	return n
}

// Publish implements edge.Publisher.
func (n *node) Publish(_ context.Context, aor overlay.AOR, devices []overlay.Device) error {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if n.d.entries[aor] == nil {
		n.d.entries[aor] = make(map[overlay.NodeID]overlay.NodeEntry)
	}
	n.d.entries[aor][n.id] = overlay.NodeEntry{Node: n.id, Devices: devices}
	return nil
}

// Locate implements proxy.Locator.
func (d *directory) Locate(_ context.Context, aor overlay.AOR) proxy.Search {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &search{rec: overlay.Record{AOR: aor}}
	for _, e := range d.entries[aor] {
		s.rec.Nodes = append(s.rec.Nodes, e)
	}
	return s
}

type search struct {
	rec  overlay.Record
	done bool
}

func (s *search) Next(context.Context) (overlay.Record, error) {
	switch {
	case len(s.rec.Nodes) == 0:
		return s.rec, overlay.ErrUnknownUser
	case s.done:
		return s.rec, io.EOF
	}
	s.done = true
	return s.rec, nil
}
func (s *search) Stop() {}

// Living and Flow implement proxy.Peers over pipes.
func (n *node) Living(id overlay.NodeID) (flow.Flow, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f, ok := n.flows[id]
	return f, ok
}

func (n *node) Flow(_ context.Context, id overlay.NodeID, _ []string) (flow.Flow, error) {
	far := n.d.nodes[id]
	if far == nil {
		return nil, errors.New("no such node")
	}
	here, there := net.Pipe()
	a, b := flow.Addr{Host: overlay.NodeName(n.id, oid)}, flow.Addr{Host: overlay.NodeName(far.id, oid)}
	out := flow.NewPeerFlow(here, a, b, far, n.core.Layer(), flow.Options{})
	in := flow.NewPeerFlow(there, b, a, n, far.core.Layer(), flow.Options{})
	n.keep(id, out)
	far.keep(n.id, in)
	return out, nil
}

func (n *node) keep(id overlay.NodeID, f flow.Flow) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flows[id] = f
}

// Entitled implements proxy.Entitled for the streams of the node.
func (n *node) Entitled(aor overlay.AOR) bool { return n.owns[aor] }

// TestSIPpAcrossNodes has phones that nobody here wrote call each other through two nodes.
func TestSIPpAcrossNodes(t *testing.T) {
	const short = 50 * time.Millisecond
	const aliceAOR, bobAOR = "sip:alice@p2psip.example", "sip:bob@p2psip.example"
	for _, c := range []struct {
		name   string
		caller phonetest.Scenario
		callee phonetest.Scenario
	}{
		{"caller hangs up", phonetest.Call{To: bobAOR, HangUp: short}, phonetest.Answer{Ring: short}},
		{"callee hangs up", phonetest.Call{To: bobAOR}, phonetest.Answer{HangUp: short}},
		{"caller holds", phonetest.Call{To: bobAOR, HoldAfter: short, HoldFor: short, HangUp: short}, phonetest.Answer{}},
		{"callee holds", phonetest.Call{To: bobAOR}, phonetest.Answer{HoldAfter: short, HoldFor: short, HangUp: short}},
		{"busy", phonetest.Fail{To: bobAOR, Status: 486}, phonetest.Refuse{}},
		{"declined", phonetest.Fail{To: bobAOR, Status: 603}, phonetest.Refuse{Status: 603, Ring: short}},
		{"cancelled", phonetest.Cancel{To: bobAOR, Ring: short}, phonetest.NoAnswer{}},
		{"unknown", phonetest.Fail{To: "sip:nobody@p2psip.example", Status: 404}, nil},
		{"away", phonetest.Fail{To: "sip:carol@p2psip.example", Status: 480}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			d := &directory{entries: make(map[overlay.AOR]map[overlay.NodeID]overlay.NodeEntry), nodes: make(map[overlay.NodeID]*node)}
			a, b := newNode(t, d, 1, "alice", "carol"), newNode(t, d, 2, "bob")
			alice := phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: aliceAOR, Proxy: a.addr})
			bob := phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: bobAOR, Proxy: b.addr})
			for _, p := range []*phonetest.SIPp{alice, bob} {
				if err := p.Register(ctx, time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			var runs []*phonetest.Run
			if c.callee != nil {
				runs = append(runs, bob.Start(c.callee))
			}
			runs = append(runs, alice.Start(c.caller))
			for _, r := range runs {
				if err := r.Wait(ctx); err != nil {
					t.Error(err)
				}
			}
			for i, n := range []*node{a, b} {
				if s := n.core.Stats(); s.Calls != 0 || s.Panics+s.Transactions.Panics+s.Transactions.Malformed != 0 {
					t.Errorf("node %d: %s", i, fmt.Sprintf("%+v", s))
				}
			}
		})
	}
}

// TestBaresipAcrossNodes has baresip, on UDP and on TCP, call a SIPp phone at another node and be called by it.
func TestBaresipAcrossNodes(t *testing.T) {
	const aliceAOR, bobAOR = "sip:alice@p2psip.example", "sip:bob@p2psip.example"
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			d := &directory{entries: make(map[overlay.AOR]map[overlay.NodeID]overlay.NodeEntry), nodes: make(map[overlay.NodeID]*node)}
			a, b := newNode(t, d, 1, "alice"), newNode(t, d, 2, "bob")
			at := a.addr
			if transport == "tcp" {
				at = a.tcp
			}
			alice := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: aliceAOR, Proxy: at, Transport: transport})
			bob := phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: bobAOR, Proxy: b.addr})
			if err := alice.Register(ctx); err != nil {
				t.Fatal(err)
			}
			if err := bob.Register(ctx, time.Hour); err != nil {
				t.Fatal(err)
			}

			run := bob.Start(phonetest.Answer{Ring: 50 * time.Millisecond})
			call := alice.Dial(ctx, bobAOR)
			for _, step := range []struct {
				name string
				do   func(context.Context) error
			}{
				{"ringing", call.WaitRinging}, {"established", call.WaitEstablished}, {"hold", call.Hold},
				{"resume", call.Resume}, {"hang-up", call.Hangup}, {"the far side's view", run.Wait},
			} {
				if err := step.do(ctx); err != nil {
					t.Fatalf("%s: %v", step.name, err)
				}
			}

			run = bob.Start(phonetest.Call{To: aliceAOR, HoldAfter: 50 * time.Millisecond, HoldFor: 50 * time.Millisecond})
			call, err := alice.WaitIncoming(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := call.Accept(ctx); err != nil {
				t.Fatal(err)
			}
			if err := call.WaitReoffer(ctx, 2); err != nil {
				t.Fatal(err)
			}
			if err := call.Hangup(ctx); err != nil {
				t.Fatal(err)
			}
			if err := run.Wait(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}
