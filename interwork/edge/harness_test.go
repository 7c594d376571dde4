package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/proxy"
	"p2psip/interwork/transaction"
	"p2psip/overlay"
)

const oid = overlay.ID("p2psip.example")

func aor(t testing.TB, name string) overlay.AOR {
	t.Helper()
	a, err := oid.AOR(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// memFlow is a flow whose far side is the test.
type memFlow struct {
	transport     flow.Transport
	local, remote flow.Addr
	peer          bool
	done          chan struct{}

	onSend func(*sip.Response) // called before the response counts as sent; may be nil

	mu   sync.Mutex
	sent []*sip.Response
}

func udpFrom(host string, port int) *memFlow {
	return &memFlow{transport: flow.TransportUDP, local: flow.Addr{Host: "127.0.0.1", Port: 5060}, remote: flow.Addr{Host: host, Port: port}}
}

func tcpFrom(host string, port int) *memFlow {
	f := udpFrom(host, port)
	f.transport, f.done = flow.TransportTCP, make(chan struct{})
	return f
}

func (f *memFlow) Transport() flow.Transport { return f.transport }
func (f *memFlow) Reliable() bool            { return f.done != nil }
func (f *memFlow) Local() flow.Addr          { return f.local }
func (f *memFlow) Remote() flow.Addr         { return f.remote }
func (f *memFlow) Close() error              { return nil }
func (f *memFlow) Done() <-chan struct{}     { return f.done }
func (f *memFlow) Edge() bool                { return !f.peer }
func (f *memFlow) Peer() any                 { return nil }
func (f *memFlow) Send(b []byte) error {
	m, err := message.Parse(b, true)
	if err != nil {
		return err
	}
	if f.onSend != nil {
		f.onSend(m.(*sip.Response))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, m.(*sip.Response))
	return nil
}

// take gives the final responses sent since the last call.
func (f *memFlow) take() []*sip.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	var final []*sip.Response
	for _, r := range f.sent {
		if r.StatusCode >= 200 {
			final = append(final, r)
		}
	}
	f.sent = nil
	return final
}

// memFlows leads to phones as the node's sockets would.
type memFlows struct {
	mu     sync.Mutex
	dialed []flow.Addr
	dial   func(flow.Addr) (flow.Flow, error)
}

func (m *memFlows) Flow(e proxy.Endpoint) (flow.Flow, bool) {
	if e.Transport != flow.TransportUDP {
		return nil, false
	}
	return &memFlow{transport: e.Transport, local: e.Local, remote: e.Remote}, true
}

func (m *memFlows) Dial(ctx context.Context, t flow.Transport, to flow.Addr) (flow.Flow, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dialed = append(m.dialed, to)
	if m.dial == nil {
		return nil, errors.New("connection refused")
	}
	return m.dial(to)
}

// memPublisher is an overlay that does what the test says.
type memPublisher struct {
	mu    sync.Mutex
	err   error
	hold  chan struct{} // when set, Publish waits for it
	calls []string      // "sip:alice@p2psip.example q,q"
	ids   map[string][]string
}

func (p *memPublisher) Publish(ctx context.Context, a overlay.AOR, devices []overlay.Device) error {
	p.mu.Lock()
	call := a.User()
	var ids []string
	for _, d := range devices {
		call += fmt.Sprintf(" %d", d.Q)
		ids = append(ids, d.ID)
	}
	p.calls = append(p.calls, call)
	if p.ids == nil {
		p.ids = map[string][]string{}
	}
	p.ids[a.User()] = ids
	hold, err := p.hold, p.err
	p.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (p *memPublisher) set(err error, hold chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.hold = err, hold
}

func (p *memPublisher) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.calls
	p.calls = nil
	return c
}

// bench is an Edge with everything it needs around it, driven by messages on memFlows.
type bench struct {
	t     *testing.T
	e     *Edge
	layer *transaction.Layer
	pub   *memPublisher
	flows *memFlows
	owned []overlay.AOR
	c     Config
	n     int
}

// inBubble runs a test with virtual time.
func inBubble(t *testing.T, change func(*Config), test func(*bench)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, dir, change)
		defer b.close()
		test(b)
	})
}

func newBench(t *testing.T, dir string, change func(*Config)) *bench {
	b := &bench{t: t, pub: &memPublisher{}, flows: &memFlows{}, owned: []overlay.AOR{aor(t, "alice"), aor(t, "bob")}}
	b.c = Config{
		OID: oid, DataDir: dir, Own: func() []overlay.AOR { return b.owned }, Publisher: b.pub, Flows: b.flows,
		Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&b.c)
	}
	b.start()
	return b
}

func (b *bench) start() {
	var err error
	if b.e, err = New(b.c); err != nil {
		b.t.Fatal(err)
	}
	if b.layer, err = transaction.New(transaction.Options{Handler: user4{b}, Logger: b.c.Logger}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) close() {
	if err := b.e.Close(); err != nil {
		b.t.Error(err)
	}
	b.layer.Close()
	synctest.Wait()
}

// user4 is the transaction user of a bench: REGISTER to the registrar, everything else 299 if it is admitted.
type user4 struct{ b *bench }

func (u user4) HandleRequest(tx *transaction.Server, req *sip.Request) {
	if req.Method == sip.REGISTER {
		u.b.e.Register(tx, req)
		return
	}
	// What the proxy finds out by flow tokens: here every To tag but one is of a dialog that is there.
	tag, _ := req.To().Params.Get("tag")
	if u.b.e.Admit(tx, req, tag != "" && tag != "invented") {
		tx.Respond(message.NewResponse(req, 299, "Admitted"))
	}
}
func (user4) HandleCancel(*transaction.Server)        {}
func (user4) HandleAck(flow.Flow, *sip.Request)       {}
func (user4) HandleResponse(flow.Flow, *sip.Response) {}
func (user4) HandleLost(*transaction.Server)          {}
func (u user4) HandleFlowClosed(f flow.Flow)          { u.b.e.FlowClosed(f) }

// ask is a request in the making; the zero value of a field is what a decent phone of alice's sends.
type ask struct {
	method, uri, from, to, callID string
	cseq                          int
	lines                         []string // further header lines
}

func (b *bench) text(a ask) string {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	b.n++
	def(&a.method, "REGISTER")
	def(&a.uri, "sip:"+string(oid))
	def(&a.from, "<sip:alice@"+string(oid)+">")
	def(&a.to, a.from)
	def(&a.callID, "one@phone")
	if a.cseq == 0 {
		a.cseq = b.n
	}
	lines := []string{
		a.method + " " + a.uri + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK%d", b.n),
		"From: " + a.from + ";tag=1", "To: " + a.to, "Call-ID: " + a.callID,
		fmt.Sprintf("CSeq: %d %s", a.cseq, a.method), "Max-Forwards: 70",
	}
	return strings.Join(append(append(lines, a.lines...), "Content-Length: 0", "", ""), "\r\n")
}

// send delivers a request, waits until everything has settled, and gives the response, nil when there is none yet.
func (b *bench) send(f *memFlow, a ask) *sip.Response {
	b.t.Helper()
	raw := b.text(a)
	m, err := message.Parse([]byte(raw), true)
	if err != nil {
		b.t.Fatalf("%v in\n%s", err, raw)
	}
	b.layer.HandleMessage(f, m)
	synctest.Wait()
	switch rs := f.take(); len(rs) {
	case 0:
		return nil
	case 1:
		return rs[0]
	default:
		b.t.Fatalf("%d responses to\n%s", len(rs), raw)
		return nil
	}
}

// register sends a REGISTER of alice's with Contacts, from loopback, and demands a status.
func (b *bench) register(status int, lines ...string) *sip.Response {
	b.t.Helper()
	res := b.send(udpFrom("127.0.0.1", 5070), ask{lines: lines})
	if got := statusOf(res); got != status {
		b.t.Fatalf("REGISTER with %q: %d %s, want %d", lines, got, header(res, "Warning"), status)
	}
	return res
}

func statusOf(r *sip.Response) int {
	if r == nil {
		return 0
	}
	return r.StatusCode
}

// header gives the values of a header, joined by " | ".
func header(r *sip.Response, name string) string {
	if r == nil {
		return ""
	}
	var vs []string
	for _, h := range r.GetHeaders(name) {
		vs = append(vs, h.Value())
	}
	return strings.Join(vs, " | ")
}
