package client

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	libcrypto "github.com/libp2p/go-libp2p/core/crypto"

	"p2psip/overlay"
	"p2psip/relaypeer"
	"p2psip/relaypeer/credential"
	"p2psip/relaypeer/datapath"
)

// server is this project's own relay peer on loopback.
type server struct {
	*relaypeer.Server
	secret credential.Secret
	uris   map[string]string // by transport, with a 6 behind it for IPv6
	keys   [][]byte
}

func startServer(t testing.TB, adjust func(*relaypeer.Config)) *server {
	t.Helper()
	loop, err := datapath.NewLoop(datapath.LoopOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = loop.Close() })
	s := &server{secret: credential.NewSecret([]byte(t.Name())), uris: map[string]string{}}
	c := relaypeer.Config{
		Loop: loop, Secret: s.secret, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	}
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		network, suffix := "udp4", ""
		if at[0] == '[' {
			network, suffix = "udp6", "6"
		}
		f, err := loop.Listen(network, at, datapath.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c.Sockets = append(c.Sockets, relaypeer.Socket{Transport: relaypeer.UDP, Front: f})
		s.uris["udp"+suffix] = "turn:" + f.LocalAddr().String() + "?transport=udp"
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		c.Sockets = append(c.Sockets, relaypeer.Socket{Transport: relaypeer.TCP, Listener: l})
		s.uris["tcp"+suffix] = "turn:" + l.Addr().String() + "?transport=tcp"
	}
	cert, err := relaypeer.SelfSigned([]netip.Addr{netip.MustParseAddr("127.0.0.1")}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.Sockets = append(c.Sockets, relaypeer.Socket{Transport: relaypeer.TLS, Listener: l, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	s.uris["tls"] = "turns:" + l.Addr().String() + "?transport=tcp"
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	s.keys = [][]byte{hashOfKey(leaf)}
	if adjust != nil {
		adjust(&c)
	}
	if s.Server, err = relaypeer.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *server) grant(t testing.TB, good time.Duration, kinds ...string) credential.Grant {
	key, err := overlay.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	member, err := overlay.NodeOfKey(key)
	if err != nil {
		t.Fatal(err)
	}
	g := credential.Grant{Realm: relaypeer.Realm, Lifetime: time.Hour, Keys: s.keys}
	g.Username, g.Password = s.secret.Issue(member, time.Now().Add(good))
	for _, k := range kinds {
		g.URIs = append(g.URIs, s.uris[k])
	}
	return g
}

func TestOwnServer(t *testing.T) {
	s := startServer(t, nil)
	for _, kind := range []string{"udp", "tcp", "tls", "udp6", "tcp6"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			w.relay(s.grant(t, time.Hour, kind))
			a := one(t, w.pool())
			at := "127.0.0.1:0"
			if kind[len(kind)-1] == '6' {
				at = "[::1]:0"
			}
			e := echo(t, at).LocalAddr().(*net.UDPAddr).AddrPort()
			converse(t, a, e, 20)
			waitFor(t, "a channel", func() bool { return bound(a, e) })
			converse(t, a, e, 20)
			if err := a.Permit(e.Addr()); err != nil {
				t.Errorf("Permit: %v", err)
			}
			if err := a.Alive(t.Context()); err != nil {
				t.Errorf("Alive: %v", err)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			waitFor(t, "the allocation to be gone at the relay peer", func() bool { return s.Allocations() == 0 })
		})
	}
}

func TestOwnServerDeclines(t *testing.T) {
	s := startServer(t, func(c *relaypeer.Config) { c.Limits.PerMember = 1 })
	w := newWorld(t)
	node := w.relay(s.grant(t, time.Hour, "udp"))
	p := w.pool()
	a := one(t, p)
	if _, err := p.Allocate(t.Context(), 1); codeOf(err) != codeQuota || !errors.Is(err, ErrRefused) {
		t.Errorf("beyond the quota: %v", err)
	}
	if err := a.Permit(netip.MustParseAddr("10.0.0.1")); codeOf(err) != codeForbidden {
		t.Errorf("a private address: %v", err)
	}
	if w.failures(node) > 0 {
		t.Error("the overlay was told of a failure")
	}

	w = newWorld(t)
	w.relay(s.grant(t, -time.Minute, "udp"))
	if _, err := w.pool().Allocate(t.Context(), 1); codeOf(err) != codeUnauthorized {
		t.Errorf("with a credential that has run out: %v", err)
	}
}

func TestOwnServerCloses(t *testing.T) {
	s := startServer(t, nil)
	for _, kind := range []string{"udp", "tcp", "tls"} {
		w := newWorld(t)
		w.relay(s.grant(t, time.Hour, kind))
		a := one(t, w.pool())
		defer func() {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if err := a.Alive(ctx); err == nil {
				t.Errorf("%s: it says that it is alive", kind)
			}
			<-a.Done()
		}()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A certificate on the node's own key is as good as one whose key the credential names.
func TestCertificateOnTheNodesKey(t *testing.T) {
	key, err := overlay.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	node, err := overlay.NodeOfKey(key)
	if err != nil {
		t.Fatal(err)
	}
	std, err := libcrypto.PrivKeyToStdKey(key)
	if err != nil {
		t.Fatal(err)
	}
	priv := *std.(*ed25519.PrivateKey)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "node"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkKey(cert, node, nil); err != nil {
		t.Error(err)
	}
	if err := checkKey(cert, overlay.NodeID("another"), nil); !errors.Is(err, errOtherKey) {
		t.Errorf("for another node: %v", err)
	}
	if err := checkKey(cert, overlay.NodeID("another"), [][]byte{make([]byte, 32), hashOfKey(cert)}); err != nil {
		t.Errorf("with its hash: %v", err)
	}
}
