package phone

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"go.uber.org/goleak"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	aliceAOR = "sip:alice@p2psip.example"
	bobAOR   = "sip:bob@p2psip.example"
	aliceHz  = 440
	bobHz    = 1000
)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func listen(t *testing.T) net.PacketConn {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return pc
}

// startPhone starts a phone; change may alter its configuration.
func startPhone(t *testing.T, aor, outbound string, pc net.PacketConn, change func(*Config)) *Phone {
	t.Helper()
	cfg := Config{AOR: aor, Outbound: outbound, Local: pc, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	trace := &strings.Builder{}
	var mu sync.Mutex
	cfg.Trace = func(out bool, remote string, m sip.Message) {
		mu.Lock()
		defer mu.Unlock()
		dir := "<-- "
		if out {
			dir = "--> "
		}
		trace.WriteString(dir + remote + " " + m.String() + "\n")
	}
	p, err := New(cfg)
	if err != nil {
		pc.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("==== %s\n%s", aor, trace)
		}
	})
	return p
}

// pair is two phones that have each other for outbound proxy.
func pair(t *testing.T, changeAlice, changeBob func(*Config)) (alice, bob *Phone, calls <-chan *Call) {
	t.Helper()
	a, b := listen(t), listen(t)
	incoming := make(chan *Call, 16)
	alice = startPhone(t, aliceAOR, b.LocalAddr().String(), a, func(c *Config) {
		c.ToneHz = aliceHz
		if changeAlice != nil {
			changeAlice(c)
		}
	})
	bob = startPhone(t, bobAOR, a.LocalAddr().String(), b, func(c *Config) {
		c.ToneHz = bobHz
		c.Incoming = AnswerAfter(0)
		if changeBob != nil {
			changeBob(c)
		}
		policy := c.Incoming
		c.Incoming = func(call *Call) {
			policy(call)
			incoming <- call
		}
	})
	return alice, bob, incoming
}

func next(t *testing.T, calls <-chan *Call) *Call {
	t.Helper()
	select {
	case c := <-calls:
		return c
	case <-testContext(t).Done():
		t.Fatal("no call came")
		return nil
	}
}

func wait(t *testing.T, c *Call, k Kind) State {
	t.Helper()
	st, err := c.Wait(testContext(t), k)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// relay is a proxy of the least kind: stateless, two Record-Route values (RFC 5658), users by name.
type relay struct {
	pc   net.PacketConn
	addr netip.AddrPort
	done chan struct{}

	mu      sync.Mutex
	users   map[string]string      // guarded by mu; user: contact address
	inside  map[string]int         // guarded by mu; requests inside a dialog that came with two routes of ours
	seen    map[string]bool        // guarded by mu; the branches counted in inside
	drop    func(sip.Message) bool // guarded by mu; loses a message
	replies func(*sip.Request) *sip.Response
}

func startRelay(t *testing.T) *relay {
	pc := listen(t)
	r := &relay{
		pc: pc, addr: pc.LocalAddr().(*net.UDPAddr).AddrPort(), done: make(chan struct{}),
		users: map[string]string{}, inside: map[string]int{}, seen: map[string]bool{},
	}
	go r.run()
	t.Cleanup(func() { pc.Close(); <-r.done })
	return r
}

func (r *relay) run() {
	defer close(r.done)
	buf := make([]byte, 65536)
	for {
		n, from, err := r.pc.ReadFrom(buf)
		if err != nil {
			return
		}
		m, err := message.Parse(append([]byte(nil), buf[:n]...), true)
		if err != nil {
			continue
		}
		r.mu.Lock()
		r.handle(m, from.(*net.UDPAddr).AddrPort())
		r.mu.Unlock()
	}
}

func (r *relay) handle(m sip.Message, from netip.AddrPort) {
	if r.drop != nil && r.drop(m) {
		return
	}
	if res, ok := m.(*sip.Response); ok {
		message.PopVia(res)
		via := res.Via()
		if via == nil {
			return
		}
		r.send(m, netip.MustParseAddrPort(net.JoinHostPort(via.Host, via.Params.GetOr("rport", "5060"))))
		return
	}
	req := m.(*sip.Request)
	req.Via().Params.Add("rport", netip.AddrPortFrom(from.Addr(), from.Port()).String()[strings.LastIndex(from.String(), ":")+1:])
	if r.replies != nil {
		if res := r.replies(req); res != nil {
			r.send(res, from)
			return
		}
	}
	own := 0
	for routes := message.Routes(req, "Route"); own < len(routes) && routes[own].Port == int(r.addr.Port()); own++ {
		message.PopRoute(req)
	}
	if toTag(req.To()) != "" {
		// On a busy machine a request may come twice; it counts once.
		if branch, _ := req.Via().Params.Get("branch"); own == 2 && !r.seen[branch] {
			r.seen[branch] = true
			r.inside[string(req.Method)]++
		}
	} else if req.Method == "INVITE" {
		for _, user := range []string{"", "tok3n@"} {
			req.PrependHeader(sip.NewHeader("Record-Route", "<sip:"+user+r.addr.String()+";lr>"))
		}
	}
	target := flow.Addr{Host: req.Recipient.Host, Port: req.Recipient.Port}.String()
	if to, ok := r.users[req.Recipient.User]; ok && req.Recipient.Host == "p2psip.example" {
		target = to
	}
	to, err := netip.ParseAddrPort(target)
	if err != nil {
		r.send(message.NewResponse(req, 404, ""), from)
		return
	}
	branch, _ := req.Via().Params.Get("branch")
	req.PrependHeader(sip.NewHeader("Via", "SIP/2.0/UDP "+r.addr.String()+";branch="+branch+"r"))
	r.send(req, to)
}

func (r *relay) send(m sip.Message, to netip.AddrPort) {
	_, _ = r.pc.WriteTo(message.Bytes(m), net.UDPAddrFromAddrPort(to))
}
