package client

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"p2psip/interwork/phonetest"
	"p2psip/relaypeer/credential"
)

// coturn is a TURN server that nobody of this project wrote.
type coturn struct {
	cmd    *exec.Cmd
	host   string
	port   int
	tls    int
	secret string
	key    []byte // hash of the key it shows over TLS
	kill   func()
}

// startCoturn runs turnserver on loopback until the test ends.
func startCoturn(t testing.TB, host string, args ...string) *coturn {
	t.Helper()
	path := phonetest.Need(t, "turnserver")
	dir := t.TempDir()
	c := &coturn{host: host, port: int(phonetest.FreePort(t, host).Port()), tls: int(phonetest.FreePort(t, host).Port()), secret: "a secret of " + t.Name()}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	c.key = writeCertificate(t, cert, key)
	all := []string{
		"-n", "--no-cli", "--log-file=stdout", "--simple-log", "--pidfile=" + filepath.Join(dir, "pid"), "--userdb=" + filepath.Join(dir, "db"),
		"-L", host, "-E", host, "-p", strconv.Itoa(c.port), "--tls-listening-port", strconv.Itoa(c.tls), "--cert", cert, "--pkey", key,
		"--realm", "overlay.example", "--allow-loopback-peers", "--no-dtls", "-m", "1",
	}
	if len(args) == 0 || args[0] != "--lt-cred-mech" {
		all = append(all, "--use-auth-secret", "--static-auth-secret", c.secret)
	}
	c.cmd = exec.Command(path, append(all, args...)...)
	var log bytes.Buffer
	var mu sync.Mutex
	c.cmd.Stdout, c.cmd.Stderr = &lockedWriter{&mu, &log}, &lockedWriter{&mu, &log}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.kill = sync.OnceFunc(func() {
		_ = c.cmd.Process.Signal(syscall.SIGKILL)
		_ = c.cmd.Wait()
	})
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			mu.Lock()
			defer mu.Unlock()
			_, said, _ := bytes.Cut(log.Bytes(), []byte("SQLite DB connection success"))
			t.Logf("turnserver said:\n%s", said)
		}
	})
	waitFor(t, "turnserver to answer", func() bool {
		conn, err := net.Dial("udp", c.at(c.port))
		if err != nil {
			t.Fatal(err)
		}
		l := newLink(conn, false, nil)
		defer l.close()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = binding(ctx, l)
		return err == nil
	})
	return c
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (c *coturn) at(port int) string { return net.JoinHostPort(c.host, strconv.Itoa(port)) }

// grant makes what a relay peer would hand out, in the manner of the TURN REST API.
func (c *coturn) grant(good time.Duration, transports ...Transport) credential.Grant {
	user := fmt.Sprintf("%d:member", time.Now().Add(good).Unix())
	m := hmac.New(sha1.New, []byte(c.secret))
	m.Write([]byte(user))
	g := credential.Grant{
		Username: user, Password: base64.StdEncoding.EncodeToString(m.Sum(nil)), Realm: "overlay.example", Lifetime: time.Hour, Keys: [][]byte{c.key},
	}
	for _, t := range transports {
		switch t {
		case UDP, TCP:
			g.URIs = append(g.URIs, "turn:"+c.at(c.port)+"?transport="+string(t))
		case TLS:
			g.URIs = append(g.URIs, "turns:"+c.at(c.tls)+"?transport=tcp")
		}
	}
	return g
}

// writeCertificate makes a key and a certificate in files and gives the hash of the key.
func writeCertificate(t testing.TB, certFile, keyFile string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(spki)
	return h[:]
}

// one gets a single allocation.
func one(t testing.TB, p *Pool) *Allocation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	list, err := p.Allocate(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

func TestCoturn(t *testing.T) {
	c := startCoturn(t, "127.0.0.1")
	e := echo(t, "127.0.0.1:0").LocalAddr().(*net.UDPAddr).AddrPort()
	for _, transport := range transports() {
		t.Run(string(transport), func(t *testing.T) {
			w := newWorld(t)
			w.relay(c.grant(time.Hour, transport))
			a := one(t, w.pool())
			if a.Transport() != transport || a.Relayed().Addr() != netip.MustParseAddr("127.0.0.1") || a.Mapped().Addr() != a.Relayed().Addr() {
				t.Errorf("over %s, relayed %s, mapped %s", a.Transport(), a.Relayed(), a.Mapped())
			}
			if err := a.Permit(e.Addr()); err != nil {
				t.Errorf("Permit: %v", err)
			}
			converse(t, a, e, 30)
			if err := a.Alive(t.Context()); err != nil {
				t.Errorf("Alive: %v", err)
			}
			waitFor(t, "a channel", func() bool { return bound(a, e) })
			converse(t, a, e, 5)
		})
	}
}

// bound says whether data to an address goes over a channel.
func bound(a *Allocation, to netip.AddrPort) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.targets[to] != nil && a.targets[to].bound
}

func TestCoturnOverIPv6(t *testing.T) {
	if u, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
		t.Skipf("there is no IPv6 here: %v", err)
	} else {
		_ = u.Close()
	}
	c := startCoturn(t, "::1")
	e := echo(t, "[::1]:0").LocalAddr().(*net.UDPAddr).AddrPort()
	for _, transport := range transports() {
		t.Run(string(transport), func(t *testing.T) {
			w := newWorld(t)
			w.relay(c.grant(time.Hour, transport))
			a := one(t, w.pool())
			if !a.Relayed().Addr().Is6() {
				t.Fatalf("the relayed address is %s", a.Relayed())
			}
			converse(t, a, e, 30)
		})
	}
}

func TestCoturnLongTermCredential(t *testing.T) {
	c := startCoturn(t, "127.0.0.1", "--lt-cred-mech", "-u", "alice:secret of hers")
	w := newWorld(t)
	g := c.grant(time.Hour, UDP)
	g.Username, g.Password, g.Realm = "alice", "secret of hers", ""
	w.relay(g)
	converse(t, one(t, w.pool()), echo(t, "127.0.0.1:0").LocalAddr().(*net.UDPAddr).AddrPort(), 3)

	g.Password = "a guess"
	w = newWorld(t)
	node := w.relay(g)
	p := w.pool()
	if _, err := p.Allocate(t.Context(), 1); codeOf(err) != codeUnauthorized {
		t.Errorf("with a wrong password: %v", err)
	}
	if s := p.Status(); !s[0].Credential.IsZero() {
		t.Error("the credential is kept")
	}
	if w.asked != 2 {
		t.Errorf("a credential was asked for %d times; once more after the refusal was expected", w.asked)
	}
	if w.failures(node) != 1 {
		t.Errorf("the overlay was told of %d failures", w.failures(node))
	}
}

func TestCoturnExpiredCredential(t *testing.T) {
	c := startCoturn(t, "127.0.0.1")
	w := newWorld(t)
	first := true
	w.relayFunc(func() (credential.Grant, error) {
		if first {
			first = false
			return c.grant(-time.Minute, UDP), nil // its clock is wrong, or ours
		}
		return c.grant(time.Hour, UDP), nil
	}, c.grant(time.Hour, UDP).URIs...)
	one(t, w.pool())
	if w.asked != 2 {
		t.Errorf("a credential was asked for %d times", w.asked)
	}
}

// A nonce that is stale is replaced on the way, for whatever it is needed.
func TestCoturnStaleNonce(t *testing.T) {
	if testing.Short() {
		t.Skip("coturn's nonces last a second at least")
	}
	c := startCoturn(t, "127.0.0.1", "--stale-nonce=1")
	w := newWorld(t)
	w.relay(c.grant(time.Hour, UDP))
	a := one(t, w.pool())
	e := echo(t, "127.0.0.1:0").LocalAddr().(*net.UDPAddr).AddrPort()
	before := a.session.hint()
	time.Sleep(2100 * time.Millisecond) // coturn's own clock
	if err := a.Permit(e.Addr()); err != nil {
		t.Fatal(err)
	}
	if a.session.hint() == before {
		t.Error("the nonce was never stale: the test shows nothing")
	}
	converse(t, a, e, 20)
}

func TestCoturnQuota(t *testing.T) {
	c := startCoturn(t, "127.0.0.1", "--user-quota=1")
	w := newWorld(t)
	node := w.relay(c.grant(time.Hour, UDP))
	p := w.pool()
	one(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := p.Allocate(ctx, 1)
	if codeOf(err) != codeQuota || !errors.Is(err, ErrRefused) || !errors.Is(err, ErrNoRelay) {
		t.Errorf("got %v", err)
	}
	if w.failures(node) != 0 {
		t.Error("the overlay was told that a relay peer which declines has failed")
	}
	if s := p.Status(); s[0].Trouble == nil {
		t.Error("it is not left alone")
	}
}

func TestCoturnCapacity(t *testing.T) {
	port := int(phonetest.FreePort(t, "127.0.0.1").Port())
	c := startCoturn(t, "127.0.0.1", "--min-port", strconv.Itoa(port), "--max-port", strconv.Itoa(port))
	w := newWorld(t)
	w.relay(c.grant(time.Hour, UDP))
	p := w.pool()
	var err error
	for range 3 { // coturn may have one port more than it says
		if _, err = p.Allocate(t.Context(), 1); err != nil {
			break
		}
	}
	if codeOf(err) != codeCapacity || !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}

// The allocation of a program that was killed is still there when its port is used again: 437.
func TestCoturnMismatch(t *testing.T) {
	c := startCoturn(t, "127.0.0.1")
	w := newWorld(t)
	w.relay(c.grant(time.Hour, UDP))
	first := one(t, w.pool())
	local := first.link.conn.LocalAddr().(*net.UDPAddr)
	_ = first.link.conn.Close() // without a word
	<-first.Done()
	used := 0
	p := w.pool(func(c *Config) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			d := net.Dialer{}
			if used++; used == 1 {
				d.LocalAddr = local
			}
			return d.DialContext(ctx, network, addr)
		}
	})
	a, err := p.ask(t.Context(), first.Relay(), first.at, c.grant(time.Hour), challenge{})
	if err != nil {
		t.Fatal(err)
	}
	if used != 2 || a.link.conn.LocalAddr().String() == local.String() {
		t.Errorf("%d sockets were opened, the last at %s", used, a.link.conn.LocalAddr())
	}
}

func TestCoturnKilled(t *testing.T) {
	for _, transport := range transports() {
		t.Run(string(transport), func(t *testing.T) {
			c := startCoturn(t, "127.0.0.1")
			w := newWorld(t)
			node := w.relay(c.grant(time.Hour, transport))
			a := one(t, w.pool())
			e := echo(t, "127.0.0.1:0").LocalAddr().(*net.UDPAddr).AddrPort()
			converse(t, a, e, 3)
			c.kill()
			begun := time.Now()
			if transport == UDP {
				_, _ = a.WriteToAddrPort([]byte("anybody?"), e) // an ICMP error comes back, and that is looked into
			}
			select {
			case <-a.Done():
			case <-time.After(3 * time.Second):
				t.Fatal("not noticed within three seconds")
			}
			t.Logf("noticed after %v: %v", time.Since(begun), a.Err())
			if _, _, err := a.ReadFrom(make([]byte, 10)); err == nil {
				t.Error("a dead allocation can be read")
			}
			if transport == UDP {
				waitFor(t, "the overlay to be told", func() bool { return w.failures(node) == 1 })
			}
		})
	}
}

// A relay peer that was started anew answers, but has forgotten the allocation.
func TestCoturnStartedAnew(t *testing.T) {
	c := startCoturn(t, "127.0.0.1")
	w := newWorld(t)
	w.relay(c.grant(time.Hour, UDP))
	a := one(t, w.pool())
	c.kill()
	again := exec.Command(c.cmd.Path, c.cmd.Args[1:]...)
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Process.Kill(); _ = again.Wait() }()
	waitFor(t, "the new one", func() bool {
		conn, err := net.Dial("udp", c.at(c.port))
		if err != nil {
			t.Fatal(err)
		}
		l := newLink(conn, false, nil)
		defer l.close()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = binding(ctx, l)
		return err == nil
	})
	if err := a.Alive(t.Context()); codeOf(err) != codeMismatch || !errors.Is(err, errForgotten) {
		t.Errorf("Alive: %v", err)
	}
	<-a.Done()
}

func TestCoturnOtherKey(t *testing.T) {
	c := startCoturn(t, "127.0.0.1")
	w := newWorld(t)
	g := c.grant(time.Hour, TLS)
	g.Keys = [][]byte{make([]byte, 32)}
	w.relay(g)
	if _, err := w.pool().Allocate(t.Context(), 1); !errors.Is(err, errOtherKey) {
		t.Errorf("got %v", err)
	}
}

func TestReflexive(t *testing.T) {
	c := startCoturn(t, "127.0.0.1")
	w := newWorld(t)
	w.relay(c.grant(time.Hour, UDP))
	p := w.pool()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := p.Reflexive(t.Context(), conn); !errors.Is(err, ErrNoRelay) {
		t.Errorf("without a relay peer: %v", err)
	}
	if err := p.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := p.Reflexive(t.Context(), conn)
	if err != nil || got.String() != conn.LocalAddr().String() {
		t.Errorf("got %s, %v; the socket is at %s", got, err, conn.LocalAddr())
	}
	if s := p.Servers(); len(s) != 1 || s[0].String() != c.at(c.port) {
		t.Errorf("servers %v", s)
	}
}
