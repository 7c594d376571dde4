package dnsreg

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sipServer answers OPTIONS at pipes.
type sipServer struct {
	mu      sync.Mutex
	down    bool // guarded by mu
	lose    int  // guarded by mu: so many requests get no answer
	status  int  // guarded by mu
	asked   int  // guarded by mu
	running sync.WaitGroup
}

func (s *sipServer) set(f func()) { s.mu.Lock(); defer s.mu.Unlock(); f() }

func (s *sipServer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	s.running.Go(func() {
		defer far.Close()
		buf := make([]byte, 4096)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.asked++
			lost := s.lose > 0
			s.lose--
			status := s.status
			s.mu.Unlock()
			if lost {
				continue
			}
			for one := range strings.SplitAfterSeq(response(string(buf[:n]), status), "\r\n\r\n") {
				if _, err := far.Write([]byte(one)); err != nil {
					return
				}
			}
		}
	})
	return near, nil
}

func response(request string, status int) string {
	_, via, _ := strings.Cut(request, "\r\nVia: ")
	via, _, _ = strings.Cut(via, "\r\n")
	return fmt.Sprintf("SIP/2.0 100 Trying\r\nv: %s\r\n\r\nSIP/2.0 %d Well\r\nTo: <sip:x>;branch=z9\r\nVia:  %s;received=127.0.0.1\r\n\r\n", via, status, via)
}

func proberOf(s *sipServer) *Prober {
	return NewProber(ProberConfig{OID: "example.org", Dial: s.dial, Chance: func() float64 { return 1 }})
}

func TestProber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sipServer{status: 200}
		p := proberOf(s)
		defer p.Close()
		state := func() Health { synctest.Wait(); return p.Health("one") }
		peer := Peer{Node: "one", Endpoints: endpointsOf(t, "sip:192.0.2.1;transport=tcp")}
		p.Watch([]Peer{peer})
		if h := state(); h.State != Alive || !slices.Equal(h.Alive, peer.Endpoints) || !p.Settled() {
			t.Fatalf("%+v", h)
		}
		<-p.News()
		// Two lost packets in a row change nothing.
		s.set(func() { s.lose = 2 })
		for range 60 {
			time.Sleep(time.Second)
			if h := state(); h.State != Alive {
				t.Fatalf("after lost packets: %+v", h)
			}
		}
		// A peer that is killed is dead within 90 s, however the moment falls.
		time.Sleep(13 * time.Second)
		killed := time.Now()
		s.set(func() { s.down = true })
		for p.Health("one").State == Alive {
			if time.Since(killed) > 90*time.Second {
				t.Fatal("still alive after 90 s")
			}
			time.Sleep(time.Second)
		}
		<-p.News()
		t.Logf("dead after %v", time.Since(killed))
		if h := state(); h.State != Dead || !strings.Contains(h.Detail, "tcp 192.0.2.1:5060: connection refused") {
			t.Errorf("%+v", h)
		}
		// The dead are asked more and more seldom.
		before := p.Sent()
		time.Sleep(30 * time.Minute)
		if n := p.Sent() - before; n > 15 || n < 5 {
			t.Errorf("%d probes of a dead peer in half an hour", n)
		}
		s.set(func() { s.down = false })
		time.Sleep(7 * time.Minute)
		if h := state(); h.State != Alive {
			t.Errorf("back again: %+v", h)
		}
		p.Watch(nil)
		n := p.Sent()
		time.Sleep(time.Hour)
		if p.Sent() != n || state().State != Unknown {
			t.Error("what is not watched is probed")
		}
		p.Close()
		p.Watch([]Peer{peer})
		s.running.Wait()
	})
}

// Silence and refusals are failures too.
func TestProberStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sipServer{status: 503}
		p := proberOf(s)
		defer p.Close()
		peer := Peer{Node: "one", Endpoints: endpointsOf(t, "sip:192.0.2.1")}
		if err := p.Try(t.Context(), peer); err == nil || !strings.Contains(err.Error(), "503") {
			t.Error(err)
		}
		s.set(func() { s.lose = 1 << 30 })
		begin := time.Now()
		if err := p.Try(t.Context(), peer); err == nil || !strings.Contains(err.Error(), "no answer in time") || time.Since(begin) != 2*time.Second {
			t.Error(err, time.Since(begin))
		}
		s.set(func() { s.lose, s.asked, s.status = 1, 0, 200 })
		if err := p.Try(t.Context(), peer); err != nil || s.asked != 2 {
			t.Errorf("a lost datagram is not sent again: %v, %d", err, s.asked)
		}
		p.Close()
		s.running.Wait()
	})
}

// Over real sockets, of each transport.
func TestProbeTransports(t *testing.T) {
	cert := selfSigned(t)
	tcp := func(wrap func(net.Listener) net.Listener) netip.AddrPort {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := ln.Addr().(*net.TCPAddr).AddrPort()
		ln = wrap(ln)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				buf := make([]byte, 4096)
				if n, err := c.Read(buf); err == nil {
					out := response(string(buf[:n]), 200)
					for _, part := range []string{out[:10], out[10:]} { // split as TCP may
						_, _ = io.WriteString(c, part)
					}
				}
				c.Close()
			}
		}()
		t.Cleanup(func() { ln.Close(); <-done })
		return at
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo([]byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKother\r\n\r\n"), from)
			_, b, _ := strings.Cut(response(string(buf[:n]), 200), "\r\n\r\n")
			_, _ = pc.WriteTo([]byte(b), from)
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	peer := Peer{Node: "one", Endpoints: []Endpoint{{UDP, pc.LocalAddr().(*net.UDPAddr).AddrPort()},
		{TCP, tcp(func(l net.Listener) net.Listener { return l })},
		{TLS, tcp(func(l net.Listener) net.Listener {
			return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})
		})}}}
	p := NewProber(ProberConfig{OID: "example.org"})
	defer p.Close()
	if err := p.Try(t.Context(), peer); err != nil {
		t.Error(err)
	}
	closed := netip.MustParseAddrPort(closedPort(t))
	for _, tr := range []Transport{UDP, TCP, TLS} {
		if err := p.Try(t.Context(), Peer{Node: "two", Endpoints: []Endpoint{{tr, closed}}}); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s where nobody listens: %v", tr, err)
		}
	}
	if err := p.Try(t.Context(), Peer{Node: "two", Endpoints: []Endpoint{{TLS, peer.Endpoints[1].Addr}}}); err == nil {
		t.Error("TLS where TCP is spoken")
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// What comes back from a stranger is read without faults, and believed only with the branch that was sent.
func FuzzResponse(f *testing.F) {
	const branch = "z9hG4bK0123456789"
	for _, s := range []string{response("\r\nVia: SIP/2.0/UDP x;branch="+branch+"\r\n", 200), "SIP/2.0 200 OK\r\nv:a;branch=" + branch + "\r\n\r\n",
		"SIP/2.0 200", "SIP/2.0 999 X\r\n\r\n", "SIP/2.0 2000 X\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "SIP/2.0 200 OK\r\nVia\r\nVia:;branch\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		status, ok := parseResponse(b, branch)
		if ok && (status < 100 || status > 699 || !strings.Contains(string(b), branch)) {
			t.Errorf("%d of %q", status, b)
		}
	})
}
