package node

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"p2psip/interwork/edge"
	"p2psip/interwork/phone"
	"p2psip/overlay"
	"p2psip/overlay/datadir"
)

const testID = "p2psip.example"

// universe is an overlay to make nodes in.
type universe struct {
	t         *testing.T
	id        string
	authority *overlay.Authority
	first     *Node
}

func newUniverse(t *testing.T) *universe { return newUniverseOf(t, testID) }

func newUniverseOf(t *testing.T, id string) *universe {
	a, err := overlay.NewAuthority(overlay.DocumentOptions{ID: id}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &universe{t: t, id: id, authority: a}
}

// home makes a data directory for a node that speaks for users.
func (u *universe) home(users ...string) string {
	u.t.Helper()
	return u.homeFor(users)
}

func (u *universe) homeFor(users []string, roles ...overlay.Role) string {
	u.t.Helper()
	dir := u.t.TempDir()
	id, err := Install(dir, u.authority.Document(), time.Now())
	if err != nil {
		u.t.Fatal(err)
	}
	var aors []overlay.AOR
	for _, s := range users {
		aor, err := u.authority.Document().ID.AOR(s)
		if err != nil {
			u.t.Fatal(err)
		}
		aors = append(aors, aor)
	}
	cred, err := u.authority.Issue(id, aors, roles, 365*24*time.Hour, time.Now())
	if err != nil {
		u.t.Fatal(err)
	}
	if _, err := InstallCredential(dir, cred.PEM(), time.Now()); err != nil {
		u.t.Fatal(err)
	}
	return dir
}

func (u *universe) config(dir string) Config {
	c := Config{
		DataDir: dir, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, SIP: "127.0.0.1:0", NoLAN: true, Control: true,
		Logger: slog.New(slog.NewTextHandler(u.t.Output(), nil)),
	}
	if u.first != nil {
		c.Bootstrap = u.first.Addrs()
	}
	return c
}

// start starts a node that has joined and ends with the test.
func (u *universe) start(c Config) *Node {
	u.t.Helper()
	n, err := Start(c)
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { n.Close() })
	if err := n.WaitJoined(testContext(u.t)); err != nil {
		u.t.Fatal(err)
	}
	if u.first == nil {
		u.first = n
	}
	return n
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (u *universe) phone(n *Node, user string, incoming func(*phone.Call)) *phone.Phone {
	u.t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		u.t.Fatal(err)
	}
	ph, err := phone.New(phone.Config{
		AOR: "sip:" + user + "@" + u.id, Outbound: n.SIP().String(), Local: pc, Incoming: incoming,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { ph.Close() })
	if incoming != nil || user == "alice" {
		if _, err := ph.Register(testContext(u.t), time.Hour); err != nil {
			u.t.Fatal(err)
		}
	}
	return ph
}

func TestCallAcrossTwoNodes(t *testing.T) {
	u := newUniverse(t)
	a, b := u.start(u.config(u.home("alice"))), u.start(u.config(u.home("bob")))
	alice := u.phone(a, "alice", nil)
	u.phone(b, "bob", phone.AnswerAfter(0))
	ctx := testContext(t)
	call, err := alice.Call(ctx, "sip:bob@"+testID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call.Wait(ctx, phone.Answered); err != nil {
		t.Fatal(err)
	}
	if s := a.Status(); len(s.Calls) != 1 || s.Streams != 1 {
		t.Errorf("%d calls and %d streams at the caller's node, want 1 and 1", len(s.Calls), s.Streams)
	}
	if err := call.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	if s := a.Status(); len(s.Calls) != 0 || len(s.Problems) != 0 {
		t.Errorf("after the call: %+v", s)
	}
}

// A node that comes back with its data directory has its phones without their doing, and those that cannot be restored
// are taken out of the overlay.
func TestRestart(t *testing.T) {
	u := newUniverse(t)
	a := u.start(u.config(u.home("alice")))
	cb := u.config(u.home("bob", "carol"))
	b := u.start(cb)
	alice := u.phone(a, "alice", nil)
	u.phone(b, "bob", phone.Busy())
	u.phone(b, "carol", phone.Busy())
	cb.SIP = b.SIP().String()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	// carol's binding is lost, as with a damaged disk: what the node remembers of her in the overlay is not true any more.
	path := filepath.Join(cb.DataDir, "bindings.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(raw), "carol", "dave")), 0o600); err != nil {
		t.Fatal(err)
	}

	cb.Bootstrap = u.first.Addrs()
	u.start(cb)
	ctx := testContext(t)
	status := func(user string, want int) {
		t.Helper()
		call, err := alice.Call(ctx, "sip:"+user+"@"+testID)
		if err != nil {
			t.Fatal(err)
		}
		_, err = call.Wait(ctx, phone.Ringing)
		var s *phone.StatusError
		if !errors.As(err, &s) || s.Status != want {
			t.Errorf("a call to %s: %v, want %d", user, err, want)
		}
	}
	status("bob", 486)
	carol, err := overlay.ParseAOR("sip:carol@" + testID)
	if err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil {
		if _, err = a.Lookup(ctx, carol); errors.Is(err, overlay.ErrOffline) {
			break
		}
	}
	if !errors.Is(err, overlay.ErrOffline) {
		t.Errorf("carol is still in the overlay: %v", err)
	}
	status("carol", 480)
}

// A node that cannot start leaves nothing behind: no goroutine, no socket, no lock.
func TestFailedStart(t *testing.T) {
	u := newUniverse(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for name, tc := range map[string]struct {
		spoil func(*Config)
		want  error
	}{
		"no document":            {func(c *Config) { c.DataDir = t.TempDir() }, ErrNoDocument},
		"no credential":          {func(c *Config) { os.Remove(filepath.Join(c.DataDir, CredentialFile)) }, ErrNoCredential},
		"phone port taken":       {func(c *Config) { c.SIP = taken.Addr().String() }, nil},
		"overlay port taken":     {func(c *Config) { c.Listen = []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port)} }, nil},
		"damaged users":          {func(c *Config) { os.WriteFile(filepath.Join(c.DataDir, "users.json"), []byte("{"), 0o600) }, nil},
		"damaged secret":         {func(c *Config) { os.WriteFile(filepath.Join(c.DataDir, secretFile), []byte("short"), 0o600) }, nil},
		"control socket blocked": {func(c *Config) { os.MkdirAll(filepath.Join(c.DataDir, controlFile, "x"), 0o700) }, nil},
		"wrong multiaddr":        {func(c *Config) { c.Listen = []string{"127.0.0.1:5080"} }, nil},
		"credential of another node": {func(c *Config) {
			b, _ := os.ReadFile(filepath.Join(u.home("bob"), CredentialFile))
			os.WriteFile(filepath.Join(c.DataDir, CredentialFile), b, 0o600)
		}, overlay.ErrBadCredential},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			c := u.config(u.home("alice"))
			tc.spoil(&c)
			n, err := Start(c)
			if err == nil {
				n.Close()
				t.Fatal("it started")
			}
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			d, err := OpenHome(c.DataDir)
			if err != nil {
				t.Fatalf("the lock is still held: %v", err)
			}
			d.Close()
		})
	}
}

func TestOneNodeForEachDirectory(t *testing.T) {
	u := newUniverse(t)
	c := u.config(u.home("alice"))
	u.start(c)
	if _, err := Start(c); !errors.Is(err, datadir.ErrLocked) {
		t.Errorf("a second node with the same directory: %v", err)
	}
}

func TestGivenSocketsAreClosed(t *testing.T) {
	u := newUniverse(t)
	for _, ok := range []bool{true, false} {
		c := u.config(u.home("alice"))
		var err error
		if c.UDP, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if c.TCP, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if !ok {
			os.Remove(filepath.Join(c.DataDir, DocumentFile))
		}
		n, err := Start(c)
		if (err == nil) != ok {
			t.Fatalf("start: %v", err)
		}
		if n != nil {
			if got := n.SIP().String(); got != c.UDP.LocalAddr().String() {
				t.Errorf("phones are told %s, the socket is %s", got, c.UDP.LocalAddr())
			}
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := c.UDP.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the UDP socket was left open (start worked: %v)", ok)
		}
		if err := c.TCP.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the TCP socket was left open (start worked: %v)", ok)
		}
	}
}

// Phones reach a node over TCP and TLS as well, and it says which addresses it has.
func TestStreams(t *testing.T) {
	u := newUniverse(t)
	c := u.config(u.home("alice"))
	cert := selfSigned(t)
	var err error
	if c.TLS, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}}); err != nil {
		t.Fatal(err)
	}
	n := u.start(c)
	sip := n.Status().SIP
	if len(sip) != 3 || sip[1].Transport != "TCP" || sip[2].Transport != "TLS" || sip[2].Addr != c.TLS.Addr().String() {
		t.Fatalf("addresses %+v", sip)
	}
	for _, a := range sip[1:] {
		conn, err := net.Dial("tcp", a.Addr)
		if a.Transport == "TLS" && err == nil {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "OPTIONS sip:%s SIP/2.0\r\nVia: SIP/2.0/%s 127.0.0.1:9;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n"+
			"From: <sip:alice@%[1]s>;tag=1\r\nTo: <sip:%[1]s>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
			testID, a.Transport, a.Transport)
		line := make([]byte, 11)
		if _, err := io.ReadFull(conn, line); err != nil || string(line) != "SIP/2.0 200" {
			t.Errorf("%s: %q, %v", a.Transport, line, err)
		}
		conn.Close()
	}
}

// selfSigned makes a certificate for 127.0.0.1.
func selfSigned(t *testing.T) tls.Certificate {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(nil, tmpl, tmpl, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// What is wrong is said, with what to do.
func TestProblems(t *testing.T) {
	u := newUniverse(t)
	c := u.config(u.home("alice"))
	users, err := edge.OpenUsers(c.DataDir, testID)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "mallory"} {
		if err := users.Add(name, "x", edge.DigestBoth); err != nil {
			t.Fatal(err)
		}
	}
	c.Now = func() time.Time { return time.Now().Add(350 * 24 * time.Hour) }
	problems := u.start(c).Status().Problems
	for i, want := range []string{"credential runs out", "sip:mallory@"} {
		if len(problems) != 2 || !strings.Contains(problems[i].What, want) || problems[i].Hint == "" {
			t.Fatalf("problems %+v", problems)
		}
	}
}

// Several requests for one node at a time share one stream, and both sides use it.
func TestPeersShareStreams(t *testing.T) {
	u := newUniverse(t)
	a, b := u.start(u.config(u.home("alice"))), u.start(u.config(u.home("bob")))
	ctx := testContext(t)
	const many = 20
	flows := make(chan any, many)
	for range many {
		go func() {
			f, err := a.peers.Flow(ctx, b.ID(), nil)
			if err != nil {
				flows <- err
				return
			}
			flows <- f
		}()
	}
	first := <-flows
	if err, ok := first.(error); ok {
		t.Fatal(err)
	}
	for range many - 1 {
		if f := <-flows; f != first {
			t.Fatalf("%v besides %v", f, first)
		}
	}
	if n := a.peers.count(); n != 1 {
		t.Errorf("%d streams, want 1", n)
	}
	for b.peers.count() == 0 && ctx.Err() == nil {
		<-time.After(time.Millisecond) // the other side hears of it in a moment
	}
	if _, ok := b.peers.Living(a.ID()); !ok {
		t.Error("the other side does not use the stream")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for a.peers.count() > 0 && ctx.Err() == nil {
		<-time.After(time.Millisecond)
	}
	if n := a.peers.count(); n != 0 {
		t.Errorf("%d streams are kept to a node that is gone", n)
	}
	for {
		f, err := a.peers.Flow(ctx, b.ID(), nil)
		if err == nil { // the connection had not yet been seen to end; then the stream ends with it
			<-f.Done()
			continue
		}
		if !errors.Is(err, overlay.ErrUnreachable) || ctx.Err() != nil {
			t.Errorf("a stream to a node that is gone: %v", err)
		}
		return
	}
}

func TestControl(t *testing.T) {
	u := newUniverse(t)
	c := u.config(u.home("alice"))
	n := u.start(c)
	ctx := testContext(t)
	res, err := Ask(ctx, c.DataDir, Request{Do: "status"})
	if err != nil || res.Status == nil || res.Status.Node != n.ID().String() {
		t.Fatalf("status: %+v, %v", res, err)
	}
	if fi, err := os.Stat(filepath.Join(c.DataDir, controlFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode: %v, %v", fi.Mode(), err)
	}
	for _, tc := range []struct {
		req  Request
		want error
		text string
	}{
		{Request{Do: "lookup", AOR: "sip:nobody@" + testID}, overlay.ErrUnknownUser, ""},
		{Request{Do: "lookup", AOR: "nobody"}, overlay.ErrBadAOR, ""},
		{Request{Do: "dance"}, nil, "does not know"},
	} {
		_, err := Ask(ctx, c.DataDir, tc.req)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%+v: %v", tc.req, err)
		}
	}

	// Bytes that are no request cost their connection at most.
	for _, junk := range []string{"{\n", strings.Repeat("x", 2*maxRequest) + "\n", ""} {
		conn, err := net.Dial("unix", filepath.Join(c.DataDir, controlFile))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, junk)
		conn.(*net.UnixConn).CloseWrite()
		b, err := io.ReadAll(conn)
		conn.Close()
		// A request cut off at the bound resets the connection; a short one is answered.
		if junk == "{\n" && (err != nil || !strings.Contains(string(b), "no JSON")) {
			t.Errorf("%.10q: %q, %v", junk, b, err)
		}
	}
	var open []net.Conn
	for range 2 * maxControlConns {
		conn, err := net.Dial("unix", filepath.Join(c.DataDir, controlFile))
		if err == nil {
			open = append(open, conn)
		}
	}
	for _, conn := range open {
		conn.Close()
	}
	for {
		if _, err = Ask(ctx, c.DataDir, Request{Do: "status"}); err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("after a flood of connections: %v", err)
		}
	}

	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Ask(ctx, c.DataDir, Request{Do: "status"}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
}

// A data directory whose path is too long for a socket gets one elsewhere.
func TestLongDataDirectory(t *testing.T) {
	u := newUniverse(t)
	t.Setenv("TMPDIR", shortTemp(t))
	dir := filepath.Join(u.home("alice"), strings.Repeat("d", 120))
	if err := os.Rename(filepath.Dir(dir), filepath.Dir(dir)+"x"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Dir(dir)+"x", dir); err != nil {
		t.Fatal(err)
	}
	u.start(u.config(dir))
	if _, err := Ask(testContext(t), dir, Request{Do: "status"}); err != nil {
		t.Error(err)
	}
}

func shortTemp(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestConfigValidate(t *testing.T) {
	good := Config{DataDir: "x"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no directory":  func(c *Config) { c.DataDir = "" },
		"listen":        func(c *Config) { c.Listen = []string{"nonsense"} },
		"bootstrap":     func(c *Config) { c.Bootstrap = []string{"/ip4/127.0.0.1/tcp/1"} },
		"sip":           func(c *Config) { c.SIP = "localhost" },
		"advertise":     func(c *Config) { c.Advertise = "example.org" },
		"trust":         func(c *Config) { c.Trust = "0.0.0.0/0" },
		"half a socket": func(c *Config) { c.UDP = new(net.UDPConn) },
		"timers":        func(c *Config) { c.Transactions.T1 = -1 },
	} {
		c := good
		spoil(&c)
		if c.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, tc := range []struct {
		listen []string
		noLAN  bool
		want   bool
	}{
		{nil, false, true}, {nil, true, false},
		{[]string{"/ip4/127.0.0.1/tcp/0"}, false, false},
		{[]string{"/ip4/127.0.0.1/tcp/0", "/ip4/0.0.0.0/tcp/0"}, false, true},
	} {
		if got := (Config{Listen: tc.listen, NoLAN: tc.noLAN}).lan(); got != tc.want {
			t.Errorf("listening on %v, NoLAN %v: looks in the local network %v", tc.listen, tc.noLAN, got)
		}
	}
}
