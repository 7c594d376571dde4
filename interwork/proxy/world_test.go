package proxy

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
	"p2psip/interwork/transaction/transactiontest"
	"p2psip/overlay"
)

const oid = overlay.ID("p2psip.example")

// world is a handful of nodes, their phones and the streams between them, in memory and in virtual time. Nothing moves
// by itself between two nodes: run carries messages until all is quiet.
type world struct {
	t     *testing.T
	mu    sync.Mutex // guards queue
	queue []packet
	nodes map[overlay.NodeID]*node
}

type packet struct {
	to *node
	at *transactiontest.Flow
	b  []byte
}

// node is one node: a core with fakes around it.
type node struct {
	w    *world
	id   overlay.NodeID
	name string
	core *Core
	cfg  Config

	mu       sync.Mutex // guards all below
	bindings map[overlay.AOR][]Target
	owns     map[overlay.AOR]bool
	phones   []*transactiontest.Flow
	links    map[overlay.NodeID]*transactiontest.Flow
	dial     func(ctx context.Context, to overlay.NodeID) error // nil: streams open at once
	dials    int
	locate   func(ctx context.Context, aor overlay.AOR) []found
	admit    func(tx *transaction.Server, req *sip.Request) bool
	known    map[string]bool // devices that have been here
	proxy    bool            // its credential permits the role of a proxy peer
	inside   []bool          // what Admit was told about each request
	register func(tx *transaction.Server, req *sip.Request)
	out      func(uri sip.Uri) ([]Target, bool)
}

// found is one step of a scripted lookup.
type found struct {
	after time.Duration
	rec   overlay.Record
	err   error
}

func newWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: make(map[overlay.NodeID]*node)}
		test(w)
		for _, n := range w.nodes {
			n.core.Close()
		}
	})
}

func nodeID(t testing.TB, seed byte) overlay.NodeID {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	pub, err := crypto.UnmarshalEd25519PublicKey(key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// node makes a node. Its address is 127.0.<number>.1:5060.
func (w *world) node(number byte, change ...func(*Config)) *node {
	n := &node{w: w, id: nodeID(w.t, number), bindings: make(map[overlay.AOR][]Target), owns: make(map[overlay.AOR]bool),
		links: make(map[overlay.NodeID]*transactiontest.Flow)}
	n.name = overlay.NodeName(n.id, oid)
	n.cfg = Config{
		OID: oid, NodeName: n.name, Secret: bytes.Repeat([]byte{number}, 32),
		Own:  []flow.Addr{n.addr(number)},
		Edge: n, Sockets: n, Locator: n, Peers: peers{n},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, f := range change {
		f(&n.cfg)
	}
	n.start()
	w.nodes[n.id] = n
	return n
}

func (n *node) addr(number byte) flow.Addr {
	return flow.Addr{Host: fmt.Sprintf("127.0.%d.1", number), Port: 5060}
}

func (n *node) start() {
	core, err := New(n.cfg)
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.core = core
}

// restart is what is left after a SIGKILL: the secret, the bindings, and phones that do not know.
func (n *node) restart() {
	n.core.Close()
	n.mu.Lock()
	for id, l := range n.links {
		l.Close()
		far := n.w.nodes[id]
		far.mu.Lock()
		back := far.links[n.id]
		delete(far.links, n.id)
		far.mu.Unlock()
		back.Close()
		n.mu.Unlock()
		far.core.Layer().HandleClosed(back)
		n.mu.Lock()
	}
	n.links = make(map[overlay.NodeID]*transactiontest.Flow)
	n.mu.Unlock()
	n.start()
}

// phone is one phone beside a node.
type phone struct {
	n    *node
	f    *transactiontest.Flow
	aor  overlay.AOR
	last map[string]sip.Message // newest message by its line
	all  []sip.Message
}

func aorOf(t testing.TB, user string) overlay.AOR {
	a, err := oid.AOR(user)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// phone connects a phone at a port of its node's loopback network and registers it.
func (n *node) phone(user string, tr flow.Transport, port int, q uint16) *phone {
	local := n.cfg.Own[0]
	remote := flow.Addr{Host: strings.TrimSuffix(local.Host, "1") + "9", Port: port}
	p := &phone{n: n, aor: aorOf(n.w.t, user), f: transactiontest.New(tr, local, remote), last: make(map[string]sip.Message)}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.phones = append(n.phones, p.f)
	n.owns[p.aor] = true
	n.bindings[p.aor] = append(n.bindings[p.aor], Target{URI: p.contact(), Q: q, Flow: p.f, ID: fmt.Sprintf("dev%d", port)})
	return p
}

func (p *phone) contact() sip.Uri {
	return sip.Uri{Scheme: "sip", User: p.aor.User(), Host: p.f.To.Host, Port: p.f.To.Port}
}

// The fakes around a core.

func (n *node) Admit(tx *transaction.Server, req *sip.Request, inside bool) bool {
	n.inside = append(n.inside, inside)
	return n.admit == nil || n.admit(tx, req)
}
func (n *node) Register(tx *transaction.Server, req *sip.Request) {
	if n.register != nil {
		n.register(tx, req)
		return
	}
	_ = tx.Respond(message.NewResponse(req, 200, ""))
}
func (n *node) Bindings(aor overlay.AOR) []Target {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]Target(nil), n.bindings[aor]...)
}
func (n *node) Owns(aor overlay.AOR) bool { return n.owns[aor] }
func (n *node) Contact(uri sip.Uri) (Target, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ts := range n.bindings {
		for _, t := range ts {
			if t.URI.User == uri.User && t.URI.Host == uri.Host && t.URI.Port == uri.Port {
				return t, true
			}
		}
	}
	return Target{}, false
}

// Flow implements Sockets.
func (n *node) Flow(e Endpoint) (flow.Flow, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.phones {
		if f.T == e.Transport && f.To == e.Remote && (e.Local == flow.Addr{} || f.From == e.Local) {
			select {
			case <-f.Done():
				continue
			default:
			}
			return f, true
		}
	}
	return nil, false
}

type peers struct{ n *node }

func (p peers) Living(id overlay.NodeID) (flow.Flow, bool) {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	f, ok := p.n.links[id]
	return f, ok
}

func (p peers) Flow(ctx context.Context, id overlay.NodeID, _ []string) (flow.Flow, error) {
	p.n.mu.Lock()
	p.n.dials++
	dial := p.n.dial
	p.n.mu.Unlock()
	if dial != nil {
		if err := dial(ctx, id); err != nil {
			return nil, err
		}
	}
	far := p.n.w.nodes[id]
	if far == nil {
		return nil, errors.New("no such node")
	}
	return p.n.link(far), nil
}

// entitledTo is what authenticated a node: its own users.
type entitledTo struct{ n *node }

func (e entitledTo) Entitled(aor overlay.AOR) bool { return e.n.owns[aor] }
func (e entitledTo) Permits(r overlay.Role) bool   { return e.n.proxy && r == overlay.RoleProxy }

// link opens the stream between two nodes.
func (n *node) link(far *node) *transactiontest.Flow {
	here := transactiontest.New(flow.TransportP2P, flow.Addr{Host: n.name}, flow.Addr{Host: far.name})
	there := transactiontest.New(flow.TransportP2P, flow.Addr{Host: far.name}, flow.Addr{Host: n.name})
	here.Far, there.Far = entitledTo{far}, entitledTo{n}
	carry := func(to *node, at *transactiontest.Flow) func([]byte) {
		return func(b []byte) {
			n.w.mu.Lock()
			defer n.w.mu.Unlock()
			n.w.queue = append(n.w.queue, packet{to, at, b})
		}
	}
	here.Hook(carry(far, there))
	there.Hook(carry(n, here))
	n.mu.Lock()
	n.links[far.id] = here
	n.mu.Unlock()
	far.mu.Lock()
	far.links[n.id] = there
	far.mu.Unlock()
	return here
}

// Locate implements Locator: scripted, or the bindings of the whole world.
func (n *node) Locate(ctx context.Context, aor overlay.AOR) Search {
	if n.locate != nil {
		return &scripted{steps: n.locate(ctx, aor)}
	}
	rec := n.w.record(aor)
	if len(rec.Nodes) == 0 {
		return &scripted{steps: []found{{err: overlay.ErrUnknownUser}}}
	}
	return &scripted{steps: []found{{rec: rec}}}
}

// record is what the overlay would know of a user.
func (w *world) record(aor overlay.AOR) overlay.Record {
	rec := overlay.Record{AOR: aor}
	for _, n := range w.nodes {
		if e, ok := n.entry(aor); ok {
			rec.Nodes = append(rec.Nodes, e)
		}
	}
	return rec
}

func (n *node) entry(aor overlay.AOR) (overlay.NodeEntry, bool) {
	e := overlay.NodeEntry{Node: n.id}
	for _, t := range n.Bindings(aor) {
		e.Devices = append(e.Devices, overlay.Device{ID: t.ID, Q: t.Q, Expires: time.Now().Add(time.Hour)})
	}
	return e, len(e.Devices) > 0
}

type scripted struct{ steps []found }

func (s *scripted) Next(ctx context.Context) (overlay.Record, error) {
	if len(s.steps) == 0 {
		return overlay.Record{}, io.EOF
	}
	step := s.steps[0]
	s.steps = s.steps[1:]
	select {
	case <-time.After(step.after):
	case <-ctx.Done():
		return overlay.Record{}, ctx.Err()
	}
	return step.rec, step.err
}
func (s *scripted) Stop() {}

// run carries messages between nodes until all is quiet.
func (w *world) run() {
	for range 10000 {
		synctest.Wait()
		w.mu.Lock()
		if len(w.queue) == 0 {
			w.mu.Unlock()
			return
		}
		p := w.queue[0]
		w.queue = w.queue[1:]
		w.mu.Unlock()
		m, err := message.Parse(p.b, false)
		if err != nil {
			w.t.Fatalf("a node sent what does not parse: %v\n%s", err, p.b)
		}
		p.to.core.Layer().HandleMessage(p.at, m)
	}
	w.t.Fatal("messages go round and round")
}

// after lets time pass, and messages travel meanwhile: a node that hears nothing of another takes it for dead.
func (w *world) after(d time.Duration) {
	for ; d > time.Second; d -= time.Second {
		time.Sleep(time.Second)
		w.run()
	}
	time.Sleep(d)
	w.run()
}

// send hands a message from the phone to its node and waits until all is quiet.
func (p *phone) send(m sip.Message) {
	stamped, err := message.Parse(message.Bytes(m), true)
	if err != nil {
		p.n.w.t.Fatalf("the phone sends what does not parse: %v\n%s", err, m)
	}
	p.n.core.Layer().HandleMessage(p.f, stamped)
	p.n.w.run()
}

// got gives the lines of what the phone received since the last call.
func (p *phone) got() string {
	var lines []string
	p.all = p.f.Take()
	for _, m := range p.all {
		l := transactiontest.Line(m)
		p.last[l] = m
		lines = append(lines, l)
	}
	return strings.Join(lines, " ")
}

func (p *phone) expect(want string) {
	p.n.w.t.Helper()
	if got := p.got(); got != want {
		p.n.w.t.Errorf("%s's phone got %q, want %q", p.aor.User(), got, want)
	}
}

func (p *phone) request(line string) *sip.Request {
	p.n.w.t.Helper()
	r, ok := p.last[line].(*sip.Request)
	if !ok {
		p.n.w.t.Fatalf("%s's phone has no %s", p.aor.User(), line)
	}
	return r
}

func (p *phone) response(line string) *sip.Response {
	p.n.w.t.Helper()
	r, ok := p.last[line].(*sip.Response)
	if !ok {
		p.n.w.t.Fatalf("%s's phone has no %s", p.aor.User(), line)
	}
	return r
}

// out makes a request outside a dialog; extra are header lines.
func (p *phone) out(method, uri string, extra ...string) *sip.Request {
	c := p.contact()
	text := fmt.Sprintf(`%s %s SIP/2.0
		Via: SIP/2.0/%s %s;branch=z9hG4bK%s
		From: <%s>;tag=%s-tag
		To: <%s>
		Call-ID: %s-%s
		CSeq: 1 %s
		Contact: <%s>
		`, method, uri, p.f.T, p.f.To, unique(), p.aor, p.aor.User(), uri, p.aor.User(), unique(), method, c.String())
	if !strings.Contains(strings.Join(extra, "\n"), "Max-Forwards") {
		text += "Max-Forwards: 70\n"
	}
	for _, e := range extra {
		text += e + "\n"
	}
	return transactiontest.Parse(text + "Content-Length: 0\n").(*sip.Request)
}

var (
	uniqueMu sync.Mutex
	uniqueNo int
)

func unique() string {
	uniqueMu.Lock()
	defer uniqueMu.Unlock()
	uniqueNo++
	return fmt.Sprintf("u%d", uniqueNo)
}

// answer makes the response of a phone, with its Contact and a To tag of its own.
func (p *phone) answer(req *sip.Request, status int) *sip.Response {
	res := message.NewResponse(req, status, "")
	if status > 100 {
		if _, has := req.To().Params.Get("tag"); !has {
			message.SetToTag(res, fmt.Sprintf("%s-%d", p.aor.User(), p.f.To.Port))
		}
		c := p.contact()
		res.AppendHeader(&sip.ContactHeader{Address: c})
	}
	return res
}

// within makes a request inside the dialog that inv and its 2xx made; caller says which side p is.
func (p *phone) within(method string, inv *sip.Request, ok *sip.Response, caller bool, cseq int) *sip.Request {
	from, to := ok.From().Value(), ok.To().Value()
	target := ok.Contact().Address
	var routes []string
	for _, h := range ok.GetHeaders("Record-Route") {
		routes = append(routes, h.Value())
	}
	if caller {
		for i, j := 0, len(routes)-1; i < j; i, j = i+1, j-1 {
			routes[i], routes[j] = routes[j], routes[i]
		}
	} else {
		from, to = to, from
		target = inv.Contact().Address
	}
	text := fmt.Sprintf("%s %s SIP/2.0\nVia: SIP/2.0/%s %s;branch=z9hG4bK%s\n", method, target.String(), p.f.T, p.f.To, unique())
	for _, r := range routes {
		text += "Route: " + r + "\n"
	}
	text += fmt.Sprintf("From: %s\nTo: %s\nCall-ID: %s\nCSeq: %d %s\nMax-Forwards: 70\nContent-Length: 0\n",
		from, to, ok.CallID().Value(), cseq, method)
	return transactiontest.Parse(text).(*sip.Request)
}

// call sets a call up: INVITE, 180, 200, ACK. It returns the INVITE as sent and the 200 as the caller got it.
func call(caller, callee *phone, uri string) (inv *sip.Request, ok *sip.Response) {
	t := caller.n.w.t
	t.Helper()
	inv = caller.out("INVITE", uri)
	caller.send(inv)
	callee.expect("INVITE")
	at := callee.request("INVITE")
	callee.send(callee.answer(at, 180))
	callee.send(callee.answer(at, 200))
	caller.expect("100 180 200")
	ok = caller.response("200")
	caller.send(caller.within("ACK", inv, ok, true, 1))
	callee.expect("ACK")
	return inv, ok
}

func values(m sip.Message, name string) []string {
	var out []string
	for _, h := range m.GetHeaders(name) {
		out = append(out, h.Value())
	}
	return out
}

func fakeFlow(tr flow.Transport, host string, port int) *transactiontest.Flow {
	return transactiontest.New(tr, flow.Addr{Host: host, Port: port}, flow.Addr{Host: "127.0.0.9", Port: 6000})
}
