package flow

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"
)

func listen(t *testing.T, h Handler, o Options) *Stream {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := ListenTCP(ln, h, o)
	t.Cleanup(func() { s.Close() })
	return s
}

func connect(t *testing.T, s *Stream) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Local().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestTCPMessagesInOrder(t *testing.T) {
	h := newRecorder()
	s := listen(t, h, Options{})
	c := connect(t, s)
	var all []byte
	for i := range 100 {
		all = append(all, request(i)...)
	}
	for len(all) > 0 { // in odd pieces
		n := min(977, len(all))
		c.Write(all[:n])
		all = all[n:]
	}
	var f Flow
	for i := range 100 {
		e := h.next(t)
		if callID(e.m) != itoa(i) {
			t.Fatalf("message %d has Call-ID %s", i, callID(e.m))
		}
		f = e.f
	}
	if f.Transport() != TransportTCP || !f.Reliable() || f.Remote() != addrOf(c.LocalAddr()) || f.Local() != s.Local() || !f.Edge() {
		t.Errorf("flow %v", f)
	}
	if got, ok := s.Find(f.Remote()); !ok || got != f {
		t.Error("the connection is not found by its address")
	}
	if got, err := s.Dial(context.Background(), f.Remote()); err != nil || got != f {
		t.Errorf("dialled %v, %v instead of using the connection there is", got, err)
	}
	c.Write([]byte("\r\n\r\n"))
	if got := receive(t, c); string(got) != "\r\n" {
		t.Errorf("ping answered with %q", got)
	}
	c.Close()
	if e := h.next(t); !e.closed || e.f != f {
		t.Errorf("event %+v", e)
	}
	<-f.Done()
	if err := f.Send([]byte("x")); err != ErrClosed {
		t.Error(err)
	}
	if _, ok := s.Find(f.Remote()); ok {
		t.Error("a dead connection is found")
	}
}

// TestTCPCloseWritesFirst: what was sent before Close arrives.
func TestTCPCloseWritesFirst(t *testing.T) {
	h := newRecorder()
	s := listen(t, h, Options{})
	c := connect(t, s)
	c.Write(request(1))
	f := h.next(t).f
	for range 10 {
		if err := f.Send(bytes.Repeat([]byte("x"), 10000)); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	if err := f.Send([]byte("x")); err != ErrClosed {
		t.Error(err)
	}
	if b, err := io.ReadAll(c); len(b) != 100000 || err != nil {
		t.Errorf("%d octets, %v", len(b), err)
	}
	<-f.Done()
}

// TestTCPGarbage: what is not SIP is closed without an answer, a broken frame with one, a broken message with one and the
// connection goes on.
func TestTCPGarbage(t *testing.T) {
	h := newRecorder()
	s := listen(t, h, Options{})
	for name, c := range map[string]struct{ in, want string }{
		"binary":          {"\x16\x03\x01\x02\x00\x01\x00", ""},
		"http":            {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		"no length":       {strings.Replace(string(request(1)), "Content-Length: 0\r\n", "", 1) + "rest", "SIP/2.0 400 Missing Content-Length"},
		"negative length": {strings.Replace(string(request(1)), "Length: 0", "Length: -1", 1) + "rest", "SIP/2.0 400 Malformed Content-Length"},
		"endless header":  {strings.Replace(string(request(1)), "To:", "X: "+strings.Repeat("x", 20000), 1), "SIP/2.0 513 Message Too Large"},
		"large body":      {strings.Replace(string(request(1)), "Length: 0", "Length: 70000", 1), "SIP/2.0 513 Message Too Large"},
		"bare LF":         {strings.Replace(string(request(1)), "70\r\n", "70\n", 1), "SIP/2.0 400 Line without CRLF"},
	} {
		conn := connect(t, s)
		conn.Write([]byte(c.in))
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.HasPrefix(got, []byte(c.want)) || c.want == "" && len(got) > 0 {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		h.next(t)
	}
	conn := connect(t, s)
	conn.Write(append(broken(1), request(2)...))
	if e := h.next(t); e.e == nil || e.e.Fatal {
		t.Errorf("event %+v", e)
	}
	if e := h.next(t); e.m == nil || callID(e.m) != "2" {
		t.Errorf("event %+v", e)
	}
	if got := receive(t, conn); !bytes.HasPrefix(got, []byte("SIP/2.0 400")) {
		t.Errorf("got %q", got)
	}
}

// TestTCPSlowReader: a far side that does not read fills its own queue and is cut off; others are served meanwhile.
func TestTCPSlowReader(t *testing.T) {
	h := newRecorder()
	s := listen(t, h, Options{WriteTimeout: 300 * time.Millisecond, QueueBytes: 1 << 20})
	slow, quick := connect(t, s), connect(t, s)
	slow.(*net.TCPConn).SetReadBuffer(4096)
	slow.Write(request("slow"))
	f := h.next(t).f
	stuffed := make(chan bool)
	go func() { // until the buffers of the kernel are full too, and then the flow is dead
		b := bytes.Repeat([]byte("x"), 60000)
		full := false
		for {
			switch f.Send(b) {
			case ErrFull:
				full = true
				time.Sleep(time.Millisecond)
			case ErrClosed:
				stuffed <- full
				return
			}
		}
	}()
	quick.Write(request("quick"))
	e := h.next(t)
	if e.m == nil || callID(e.m) != "quick" {
		t.Fatalf("event %+v", e)
	}
	e.f.Send([]byte("answer"))
	if got := receive(t, quick); string(got) != "answer" {
		t.Errorf("got %q", got)
	}
	if !<-stuffed || s.Counters().Full.Load() == 0 {
		t.Error("the queue was never full")
	}
	if e := h.next(t); !e.closed || e.f != f {
		t.Errorf("event %+v", e)
	}
}

// TestTCPBlockedHandler: a handler that blocks holds up its own flow only.
func TestTCPBlockedHandler(t *testing.T) {
	h := newRecorder()
	gate := make(chan struct{})
	h.hook = func(_ Flow, m sip.Message) {
		if callID(m) == "blocks" {
			<-gate
		}
	}
	s := listen(t, h, Options{})
	connect(t, s).Write(request("blocks"))
	connect(t, s).Write(request("passes"))
	if got := callID(h.next(t).m); got != "passes" {
		t.Errorf("got %s", got)
	}
	close(gate)
	if got := callID(h.next(t).m); got != "blocks" {
		t.Errorf("got %s", got)
	}
}

func TestTCPFloodIsLimited(t *testing.T) {
	for name, o := range map[string]Options{"by address": {MaxConnsPerIP: 5}, "in all": {MaxConns: 5}} {
		t.Run(name, func(t *testing.T) {
			h := newRecorder()
			s := listen(t, h, o)
			var kept []net.Conn
			for range 5 {
				c := connect(t, s)
				c.Write(request(1))
				h.next(t)
				kept = append(kept, c)
			}
			for range 50 {
				c := connect(t, s)
				if _, err := io.ReadAll(c); err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
					t.Fatal(err)
				}
			}
			if n := s.Counters().Rejected.Load(); n != 50 {
				t.Errorf("%d rejected", n)
			}
			if s.Len() != 5 {
				t.Errorf("%d connections", s.Len())
			}
			kept[0].Close() // makes room
			h.next(t)
			c := connect(t, s)
			c.Write(request("room"))
			if got := callID(h.next(t).m); got != "room" {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestTCPPanic(t *testing.T) {
	h := newRecorder()
	h.hook = func(_ Flow, m sip.Message) {
		if callID(m) == "bad" {
			panic("on purpose")
		}
	}
	s := listen(t, h, Options{})
	connect(t, s).Write(append(request("bad"), request("good")...))
	if got := callID(h.next(t).m); got != "good" {
		t.Fatalf("got %s", got)
	}
	if n := s.Counters().Panics.Load(); n != 1 {
		t.Errorf("%d panics counted", n)
	}
}

func TestDial(t *testing.T) {
	far, near := newRecorder(), newRecorder()
	server, client := listen(t, far, Options{}), listen(t, near, Options{MaxConns: 1})
	var wg sync.WaitGroup
	flows := make([]Flow, 20)
	for i := range flows {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var err error
			if flows[i], err = client.Dial(context.Background(), server.Local()); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	for _, f := range flows {
		if f != flows[0] {
			t.Fatal("several connections to one address")
		}
	}
	flows[0].Send(request("there"))
	e := far.next(t)
	if callID(e.m) != "there" {
		t.Errorf("event %+v", e)
	}
	e.f.Send(request("back"))
	if e := near.next(t); callID(e.m) != "back" || e.f != flows[0] {
		t.Errorf("event %+v", e)
	}
	if _, err := client.Dial(context.Background(), Addr{"127.0.0.1", 1}); !errors.Is(err, ErrFull) {
		t.Errorf("dialled beyond MaxConns: %v", err)
	}
	server.Close()
	if e := near.next(t); !e.closed {
		t.Errorf("event %+v", e)
	}
	<-flows[0].Done()
	if _, err := client.Dial(context.Background(), server.Local()); err == nil {
		t.Error("dialled a closed listener")
	}
	if client.Len() != 0 {
		t.Errorf("%d connections", client.Len())
	}
	client.Close()
	if _, err := client.Dial(context.Background(), server.Local()); err != ErrClosed {
		t.Errorf("dialled out of a closed listener: %v", err)
	}
}

func TestDialCancelled(t *testing.T) {
	entered := make(chan struct{})
	s := listen(t, newRecorder(), Options{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-entered; cancel() }()
	if _, err := s.Dial(ctx, Addr{"127.0.0.1", 1}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.Close() // ends the dial that is still under way
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func listenTLS(t *testing.T, h Handler, o Options, cert tls.Certificate) *Stream {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	s := ListenTCP(ln, h, o)
	t.Cleanup(func() { s.Close() })
	return s
}

func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	far, near := newRecorder(), newRecorder()
	server := listenTLS(t, far, Options{HandshakeTimeout: time.Second}, cert)
	client := listenTLS(t, near, Options{TLS: &tls.Config{RootCAs: pool}}, cert)
	stranger := listenTLS(t, newRecorder(), Options{TLS: &tls.Config{}}, cert)
	if server.Transport() != TransportTLS {
		t.Error(server.Transport())
	}
	f, err := client.Dial(context.Background(), server.Local())
	if err != nil {
		t.Fatal(err)
	}
	f.Send(request("tls"))
	e := far.next(t)
	if callID(e.m) != "tls" || e.f.Transport() != TransportTLS || f.Transport() != TransportTLS {
		t.Errorf("event %+v", e)
	}
	if _, err := stranger.Dial(context.Background(), server.Local()); err == nil {
		t.Error("an unknown certificate was accepted")
	}
	if _, err := server.Dial(context.Background(), client.Local()); err == nil {
		t.Error("dialled without a TLS configuration")
	}
	// One that never begins the handshake is dropped, and so is one that speaks plain SIP.
	for _, say := range []string{"", string(request(1))} {
		c := connect(t, server)
		c.Write([]byte(say))
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if b, err := io.ReadAll(c); errors.Is(err, context.DeadlineExceeded) || bytes.Contains(b, []byte("SIP/2.0")) {
			t.Errorf("after %q: %q, %v", say, b, err)
		}
	}
}

// pipeListener hands out one end of a net.Pipe per call of connect: timeouts are tested on a bubble's clock.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5060} }
func (l *pipeListener) connect() net.Conn {
	a, b := net.Pipe()
	l.conns <- a
	return b
}

func TestTCPTimeouts(t *testing.T) {
	for name, c := range map[string]struct {
		script func(c net.Conn) // what the far side does
		want   time.Duration    // when it is cut off
	}{
		"silent from the start": {func(net.Conn) {}, 32 * time.Second},
		"only pings": {func(c net.Conn) {
			for range 10 {
				c.Write([]byte("\r\n\r\n"))
				io.ReadFull(c, make([]byte, 2))
				time.Sleep(5 * time.Second)
			}
		}, 32 * time.Second},
		"drop by drop": {func(c net.Conn) {
			for _, b := range request(1) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, 32 * time.Second},
		"idle": {func(c net.Conn) { c.Write(request(1)) }, time.Hour},
		"stops inside a later message": {func(c net.Conn) {
			c.Write(request(1))
			time.Sleep(10 * time.Minute)
			c.Write(request(2)[:100])
		}, 10*time.Minute + 32*time.Second},
		"pinging keeps it": {func(c net.Conn) {
			c.Write(request(1))
			for range 3 {
				time.Sleep(50 * time.Minute)
				c.Write([]byte("\r\n\r\n"))
				io.ReadFull(c, make([]byte, 2))
			}
		}, 3*50*time.Minute + time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener()
				s := ListenTCP(ln, newRecorder(), Options{IdleTimeout: time.Hour})
				defer s.Close()
				begin := time.Now()
				far := ln.connect()
				finished := make(chan struct{})
				defer func() { far.Close(); <-finished }()
				go func() { c.script(far); close(finished) }()
				synctest.Wait()
				for s.Len() > 0 {
					time.Sleep(time.Second)
					if time.Since(begin) > 10*time.Hour {
						t.Fatal("never cut off")
					}
				}
				if got := time.Since(begin).Round(10 * time.Second); got != c.want.Round(10*time.Second) {
					t.Errorf("cut off after %v, want %v", got, c.want)
				}
			})
		})
	}
}

// TestTCPHalfOpen: a far side that has closed its writing half gets what is still sent, and then the end.
func TestTCPHalfOpen(t *testing.T) {
	h := newRecorder()
	s := listen(t, h, Options{})
	c := connect(t, s).(*net.TCPConn)
	c.Write(request(1)[:50])
	c.CloseWrite()
	if b, err := io.ReadAll(c); len(b) != 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("%q, %v", b, err)
	}
	for s.Len() > 0 {
		time.Sleep(time.Millisecond)
	}
}

func TestStreamCloseEndsEverything(t *testing.T) {
	h := newRecorder()
	s := listen(t, h, Options{})
	c := connect(t, s)
	c.Write(request(1))
	f := h.next(t).f
	s.Close()
	select {
	case <-f.Done():
	default:
		t.Error("Close returned while a connection lives")
	}
	if _, err := bufio.NewReader(c).ReadByte(); err == nil {
		t.Error("connection is open")
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestOptionsValidate(t *testing.T) {
	if err := (Options{}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (Options{QueueBytes: -1}).Validate(); err == nil || !strings.Contains(err.Error(), "QueueBytes") {
		t.Error(err)
	}
}
