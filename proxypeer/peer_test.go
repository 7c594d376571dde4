package proxypeer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/locate"
	"p2psip/interwork/message"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

const oid = overlay.ID("p2psip.example")

// servers is a Locator with a table.
type servers struct {
	of     map[string][]locate.Target
	err    error
	failed []string
	good   []string
}

func (s *servers) LocateFor(_ context.Context, uri sip.Uri, _ locate.Need) (locate.Result, error) {
	if s.err != nil {
		return locate.Result{}, s.err
	}
	return locate.Result{Targets: s.of[uri.Host]}, nil
}
func (s *servers) Failed(t locate.Target) { s.failed = append(s.failed, t.Addr.String()) }
func (s *servers) Good(t locate.Target)   { s.good = append(s.good, t.Addr.String()) }

// recorder is what stands behind the gate.
type recorder struct {
	got chan sip.Message

	mu     sync.Mutex // guards answer
	answer func(f flow.Flow, req *sip.Request)
}

func (r *recorder) answers(f func(flow.Flow, *sip.Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func (r *recorder) HandleMessage(f flow.Flow, m sip.Message) {
	r.mu.Lock()
	answer := r.answer
	r.mu.Unlock()
	if req, ok := m.(*sip.Request); ok && answer != nil {
		answer(f, req)
	}
	select {
	case r.got <- m:
	default:
	}
}
func (r *recorder) HandleMalformed(f flow.Flow, e *message.Error) { flow.Refuse(f, e) }
func (r *recorder) HandleClosed(flow.Flow)                        {}

func listen(t *testing.T, transport flow.Transport, config *tls.Config) Socket {
	t.Helper()
	s := Socket{Transport: transport}
	var err error
	if transport == flow.TransportUDP {
		s.Packet, err = net.ListenPacket("udp", "127.0.0.1:0")
	} else {
		s.Listener, err = net.Listen("tcp", "127.0.0.1:0")
		s.TLS = config
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func start(t *testing.T, c Config, r *recorder) *Peer {
	t.Helper()
	c.OID = oid
	if c.Locator == nil {
		c.Locator = &servers{}
	}
	c.Logger = slog.New(slog.DiscardHandler)
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if r.got == nil {
		r.got = make(chan sip.Message, 1000)
	}
	if err := p.Start(r); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// outsider is a UDP socket that speaks to a proxy peer.
type outsider struct {
	t  *testing.T
	c  net.Conn
	no int
}

func newOutsider(t *testing.T, p *Peer) *outsider {
	c, err := net.Dial("udp", p.sockets[0].local.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &outsider{t: t, c: c}
}

// request sends one and gives its size.
func (o *outsider) request(method, toTag, extra string) int {
	o.no++
	text := fmt.Sprintf("%s sip:alice@p2psip.example SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%d;rport\r\nMax-Forwards: 70\r\nFrom: <sip:c@example.com>;tag=f\r\n"+
		"To: <sip:alice@p2psip.example>%s\r\nCall-ID: c%d\r\nCSeq: 1 %s\r\n%sContent-Length: 0\r\n\r\n", method, o.c.LocalAddr(), o.no, toTag, o.no, method, extra)
	if _, err := o.c.Write([]byte(text)); err != nil {
		o.t.Fatal(err)
	}
	return len(text)
}

// response reads what comes within a moment, nil for nothing.
func (o *outsider) response(wait time.Duration) []byte {
	_ = o.c.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 1<<16)
	n, err := o.c.Read(b)
	if err != nil {
		return nil
	}
	return b[:n]
}

func answerWith(status int, tag string, pad int) func(flow.Flow, *sip.Request) {
	return func(f flow.Flow, req *sip.Request) {
		res := message.NewResponse(req, status, "")
		if tag != "" {
			message.SetToTag(res, tag)
		}
		if pad > 0 {
			res.AppendHeader(sip.NewHeader("Subject", strings.Repeat("x", pad)))
		}
		_ = f.Send(message.Bytes(res))
	}
}

// TestNoAmplification sends responses to a UDP source that has not shown that it hears, and to one that has.
func TestNoAmplification(t *testing.T) {
	r := &recorder{answer: answerWith(404, "", 2000)}
	p := start(t, Config{Sockets: []Socket{listen(t, flow.TransportUDP, nil)}, Limits: Limits{Larger: 1}}, r)
	o := newOutsider(t, p)
	o.request("INVITE", "", "")
	<-r.got
	if b := o.response(100 * time.Millisecond); b != nil {
		t.Errorf("a large response to a stranger: %d octets", len(b))
	}
	if p.Status().Withheld != 1 {
		t.Errorf("%+v", p.Status())
	}
	r.answers(answerWith(404, "", 0))
	size := o.request("INVITE", "", "Subject: "+strings.Repeat("y", 200)+"\r\n")
	if b := o.response(time.Second); b == nil || len(b) > size {
		t.Errorf("a small response: %d octets for %d", len(b), size)
	}
	// What a callee says may be larger, a few times.
	r.answers(answerWith(200, "secret", 2000))
	for i, want := range []bool{true, false} {
		o.request("INVITE", "", "")
		if b := o.response(200 * time.Millisecond); (b != nil) != want {
			t.Errorf("200 number %d arrived: %v", i, b != nil)
		}
	}
	// A guessed tag proves nothing, the right one does.
	r.answers(answerWith(404, "", 2000))
	for i, tag := range []string{";tag=guess", ";tag=secret"} {
		want := i == 1
		o.request("BYE", tag, "")
		if b := o.response(200 * time.Millisecond); (b != nil) != want {
			t.Errorf("after %s: %v", tag, b != nil)
		}
	}
}

// TestScanners answers nothing, and the next in line is served.
func TestScanners(t *testing.T) {
	r := &recorder{answer: answerWith(404, "", 0)}
	p := start(t, Config{Sockets: []Socket{listen(t, flow.TransportUDP, nil)}}, r)
	o := newOutsider(t, p)
	o.request("OPTIONS", "", "User-Agent: friendly-scanner\r\nSubject: "+strings.Repeat("y", 200)+"\r\n")
	if b := o.response(100 * time.Millisecond); b != nil {
		t.Errorf("a scanner was told %s", b)
	}
	o.request("OPTIONS", "", "User-Agent: phone\r\nSubject: "+strings.Repeat("y", 200)+"\r\n")
	if b := o.response(time.Second); b == nil {
		t.Error("a phone was not answered")
	}
	if s := p.Status(); s.Scanners != 1 || s.Requests != 2 {
		t.Errorf("%+v", s)
	}
}

func request(t *testing.T, method sip.RequestMethod) *sip.Request {
	t.Helper()
	m, err := message.Parse(fmt.Appendf(nil, "%s sip:alice@p2psip.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n"+
		"From: <sip:c@example.com>;tag=f\r\nTo: <sip:alice@p2psip.example>\r\nCall-ID: c\r\nCSeq: 1 %s\r\nContent-Length: 0\r\n\r\n", method, method), true)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*sip.Request)
}

// TestRates takes a source through its limits, by the clock it is given.
func TestRates(t *testing.T) {
	req := request(t, sip.INVITE)
	now := time.Unix(1000, 0)
	count := func(s *sources, n int) (in int) {
		for range n {
			if s.ask("192.0.2.1", req, now) == let {
				in++
			}
		}
		return in
	}
	s := newSources(Limits{}.withDefaults())
	if n := count(s, 1000); n != 100 {
		t.Errorf("%d at once", n)
	}
	now = now.Add(time.Second)
	if v := s.ask("192.0.2.1", req, now); v != let {
		t.Error("nothing after a second")
	}
	count(s, 100)
	if v := s.ask("192.0.2.2", req, now); v != let {
		t.Error("another source pays")
	}
	if v := s.ask("192.0.2.1", req, now.Add(2*time.Millisecond)); v == let {
		t.Error("let in without a token")
	}

	// Challenges do not count, however many: the first request of everybody is answered so.
	s = newSources(Limits{}.withDefaults())
	for range 1000 {
		s.answered("192.0.2.1", true, sip.INVITE, 407, now)
		s.answered("192.0.2.1", true, sip.REGISTER, 401, now)
	}
	if n := count(s, 50); n != 50 {
		t.Errorf("%d after challenges", n)
	}
	// Who dials number after number is answered slowly, and forgiven when he has stopped.
	s = newSources(Limits{}.withDefaults())
	for range 200 {
		s.answered("192.0.2.1", true, sip.INVITE, 404, now)
	}
	if n := count(s, 50); n > 1 {
		t.Errorf("%d of a scanner's requests", n)
	}
	now = now.Add(5 * time.Second)
	if n := count(s, 50); n > 1 {
		t.Errorf("%d five seconds later", n)
	}
	now = now.Add(time.Hour)
	if n := count(s, 50); n < 40 {
		t.Errorf("%d an hour later", n)
	}
	// A provider, whose calls are served, may do more.
	s = newSources(Limits{}.withDefaults())
	s.answered("192.0.2.1", true, sip.INVITE, 200, now)
	s.ask("192.0.2.1", req, now)
	now = now.Add(time.Minute)
	if n := count(s, 2000); n != 1000 {
		t.Errorf("%d of a provider's", n)
	}
}

// TestSourcesBound forgets who was heard of longest ago, and takes a /64 for one source.
func TestSourcesBound(t *testing.T) {
	s := newSources(Limits{Sources: 10}.withDefaults())
	req := request(t, sip.OPTIONS)
	for i := range 100 {
		s.ask(fmt.Sprintf("192.0.2.%d", i), req, time.Unix(1000, 0))
		s.ask(fmt.Sprintf("2001:db8::%x", i), req, time.Unix(1000, 0))
	}
	if n := s.len(); n != 10 {
		t.Errorf("%d sources", n)
	}
}

// TestLeave turns what RFC 3263 says into hops and answers.
func TestLeave(t *testing.T) {
	l := &servers{of: map[string][]locate.Target{"example.com": {
		{Transport: locate.UDP, Addr: netip.MustParseAddrPort("127.0.0.9:5060"), Name: "example.com"},
		{Transport: locate.TLS, Addr: netip.MustParseAddrPort("127.0.0.9:5061"), Name: "example.com"},
		{Transport: locate.TCP, Addr: netip.MustParseAddrPort("127.0.0.9:5060"), Name: "example.com"},
		{Transport: locate.UDP, Addr: netip.MustParseAddrPort("[2001:db8::1]:5060"), Name: "example.com"},
	}}}
	p := start(t, Config{Locator: l, Sockets: []Socket{listen(t, flow.TransportUDP, nil), listen(t, flow.TransportTCP, nil)}}, &recorder{})
	l.of["self.example"] = []locate.Target{{Transport: locate.UDP, Addr: netip.MustParseAddrPort(p.sockets[0].local.String())}}
	hops, err := p.Hops(t.Context(), sip.Uri{Scheme: "sip", Host: "example.com"}, nil, nil)
	var got []string
	for _, h := range hops {
		got = append(got, h.String())
	}
	if want := []string{"UDP 127.0.0.9:5060", "TCP 127.0.0.9:5060"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	p.Tried(hops[0], errors.New("x"))
	p.Tried(hops[1], nil)
	if len(l.failed) != 1 || len(l.good) != 1 {
		t.Errorf("told %v and %v", l.failed, l.good)
	}
	for err, status := range map[error]int{locate.ErrMaddr: 403, locate.ErrNoSuchDomain: 404, locate.ErrNoService: 404, locate.ErrServFail: 503, context.DeadlineExceeded: 503} {
		l.err = fmt.Errorf("wrapped: %w", err)
		var r *proxy.Refusal
		if _, e := p.Hops(t.Context(), sip.Uri{Host: "example.com"}, nil, nil); !errors.As(e, &r) || r.Status != status {
			t.Errorf("%v gives %v", err, e)
		}
	}
	l.err = nil
	if _, err := p.Hops(t.Context(), sip.Uri{Host: "self.example"}, nil, nil); err == nil {
		t.Error("a hop to itself")
	}
}

// TestPermits keeps strangers' zones from leading into private networks.
func TestPermits(t *testing.T) {
	at := func(s string) []socket {
		a := flow.AddrFrom(netip.MustParseAddrPort(s))
		return []socket{{local: a, name: a}}
	}
	for _, c := range []struct {
		socket, to string
		ok         bool
	}{
		{"192.0.2.1:5060", "198.51.100.1", true}, {"192.0.2.1:5060", "127.0.0.1", false}, {"192.0.2.1:5060", "10.0.0.1", false},
		{"192.0.2.1:5060", "169.254.1.1", false}, {"192.0.2.1:5060", "::1", false}, {"192.0.2.1:5060", "::ffff:127.0.0.1", false},
		{"192.0.2.1:5060", "0.0.0.0", false}, {"192.0.2.1:5060", "224.0.0.1", false}, {"127.0.0.1:5060", "127.0.0.9", true},
		{"127.0.0.1:5060", "10.0.0.1", false}, {"10.0.0.2:5060", "10.0.0.1", true}, {"10.0.0.2:5060", "127.0.0.1", false},
	} {
		if got := permits(at(c.socket), netip.MustParseAddr(c.to)); got != c.ok {
			t.Errorf("from %s to %s: %v", c.socket, c.to, got)
		}
	}
}

// TestDomainCertificates connects over TLS to a server that speaks for a domain, and to one that does not (RFC 5922).
func TestDomainCertificates(t *testing.T) {
	cert, err := SelfSigned("example.com", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	far := &recorder{}
	server := start(t, Config{Sockets: []Socket{listen(t, flow.TransportTLS, ServerTLS(cert, roots))}}, far)
	p := start(t, Config{TLS: &tls.Config{RootCAs: roots}, Sockets: []Socket{listen(t, flow.TransportTLS, ServerTLS(cert, roots))}}, &recorder{})
	to := netip.MustParseAddrPort(server.sockets[0].local.String())
	f, err := p.Open(t.Context(), proxy.Hop{Transport: flow.TransportTLS, Addr: to, Name: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Send(message.Bytes(request(t, sip.OPTIONS))); err != nil {
		t.Fatal(err)
	}
	if m := <-far.got; m == nil {
		t.Error("nothing arrived")
	}
	if again, ok := p.Living(proxy.Hop{Transport: flow.TransportTLS, Addr: to, Name: "example.com"}); !ok || again != f {
		t.Error("the connection is not used again")
	}
	if _, ok := p.Living(proxy.Hop{Transport: flow.TransportTLS, Addr: to, Name: "bank.example"}); ok {
		t.Error("the connection is used for another domain")
	}
	if _, err := p.Open(t.Context(), proxy.Hop{Transport: flow.TransportTLS, Addr: to, Name: "bank.example"}); err == nil || !strings.Contains(err.Error(), "bank.example") {
		t.Errorf("another domain's server: %v", err)
	}
	stranger := start(t, Config{Sockets: []Socket{listen(t, flow.TransportTLS, ServerTLS(cert, nil))}}, &recorder{})
	if _, err := stranger.Open(t.Context(), proxy.Hop{Transport: flow.TransportTLS, Addr: to, Name: "example.com"}); err == nil {
		t.Error("a certificate that nobody vouches for")
	}
	for _, c := range []struct {
		cert   x509.Certificate
		domain string
		ok     bool
	}{
		{x509.Certificate{DNSNames: []string{"Example.com"}}, "example.com", true},
		{x509.Certificate{DNSNames: []string{"*.example.com"}}, "sip.example.com", false},
		{*cert.Leaf, "EXAMPLE.com.", true},
	} {
		if got := SpeaksFor(&c.cert, c.domain); got != c.ok {
			t.Errorf("%v for %s: %v", Identities(&c.cert), c.domain, got)
		}
	}
}

// roles is an overlay that finds what a test says.
type roles struct {
	mu     sync.Mutex // guards all below
	nodes  []overlay.NodeID
	err    error
	failed []overlay.NodeID
	asked  int
}

func (o *roles) Find(context.Context, overlay.Role, int) (out []overlay.Advert, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	for _, n := range o.nodes {
		out = append(out, overlay.Advert{Node: n})
	}
	return out, o.err
}
func (o *roles) Failed(_ overlay.Role, n overlay.NodeID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = append(o.failed, n)
}

// now has the overlay know these from now on.
func (o *roles) now(nodes []overlay.NodeID, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nodes, o.err = nodes, err
}

// TestFinder keeps to the proxy peer in use, and lets go of one that failed.
func TestFinder(t *testing.T) {
	o := &roles{nodes: []overlay.NodeID{"a", "b"}}
	f := NewFinder(oid, o, slog.New(slog.NewTextHandler(io.Discard, nil)))
	defer f.Close()
	if len(f.Warm()) != 0 {
		t.Error("warm before anything was found")
	}
	if _, err := f.Find(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.now([]overlay.NodeID{"c", "a"}, nil)
	if _, err := f.ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.Known(); !slices.Equal(got, []overlay.NodeID{"a", "c"}) {
		t.Errorf("%v", got)
	}
	o.now([]overlay.NodeID{"c"}, nil)
	f.Failed("a")
	if got := f.Warm(); len(got) != 1 || got[0].Node != "c" || !slices.Equal(o.failed, []overlay.NodeID{"a"}) {
		t.Errorf("%v after the failure", got)
	}
	f.wg.Wait() // what Failed or Warm may have begun
	o.now(nil, fmt.Errorf("wrapped: %w", overlay.ErrNoRole))
	var r *proxy.Refusal
	if _, err := f.ask(t.Context()); !errors.As(err, &r) || r.Status != 404 {
		t.Errorf("%v", err)
	}
}

// TestAdvertise offers the role with its sockets and its load, and withdraws it.
func TestAdvertise(t *testing.T) {
	p := start(t, Config{Sockets: []Socket{listen(t, flow.TransportUDP, nil)}, Capacity: 10}, &recorder{})
	var describe func() overlay.Offer
	o := &offering{}
	err := p.Advertise(func(r overlay.Role, d func() overlay.Offer) (Offering, error) {
		describe = d
		return o, nil
	}, func() int { return 3 })
	if err != nil {
		t.Fatal(err)
	}
	got := describe()
	if got.Load != 300 || got.Capacity != 10 || len(got.Services) != 1 || got.Services[0] != "sip:"+p.sockets[0].local.String()+";transport=udp" {
		t.Errorf("%+v", got)
	}
	if p.Close(); !o.closed {
		t.Error("not withdrawn")
	}
}

type offering struct{ closed bool }

func (o *offering) Update()      {}
func (o *offering) Close() error { o.closed = true; return nil }

// FuzzResponse reads what this node writes, whatever that is.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("SIP/2.0 200 OK\r\nTo: <sip:a@b>;tag=x;y=z\r\n\r\n"))
	f.Add([]byte("SIP/2.0 2\r\nTo: ;tag="))
	f.Fuzz(func(t *testing.T, b []byte) {
		if status, ok := responseStatus(b); ok && (status < -99 || status > 999) {
			t.Errorf("%d", status)
		}
		if strings.ContainsAny(toTag(b), ";\r") {
			t.Errorf("%q", toTag(b))
		}
	})
}
