package edge

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/authparam"
	"p2psip/interwork/flow"
	"p2psip/interwork/phonetest"
	"p2psip/interwork/proxy"
	"p2psip/interwork/transaction"
	"p2psip/overlay"
)

// counter is a registrar on real sockets that trusts nobody: all of a node that phones registering meet. The overlay
// behind it confirms everything.
type counter struct {
	e        *Edge
	udp, tcp string

	mu         sync.Mutex // guards what follows
	ahead      time.Duration
	ages       bool     // the first nonce grows old as soon as it is sent
	challenges []string // the algorithms of every 401 sent, "SHA-256 MD5", after "stale" where it says so
}

func newCounter(t *testing.T, users map[string]Digest) *counter {
	t.Helper()
	n := &counter{}
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	store, err := OpenUsers(dir, oid)
	if err != nil {
		t.Fatal(err)
	}
	var own []overlay.AOR
	for name, d := range users {
		if err := store.Add(name, password, d); err != nil {
			t.Fatal(err)
		}
		own = append(own, aor(t, name))
	}
	nobody, err := ParseTrust("none")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sockets := &proxy.Listeners{}
	n.e, err = New(Config{OID: oid, DataDir: dir, Users: store, Own: func() []overlay.AOR { return own }, Publisher: &memPublisher{},
		Flows: sockets, Trusted: nobody, MinExpires: time.Second, Logger: log, Now: n.now})
	if err != nil {
		t.Fatal(err)
	}
	layer, err := transaction.New(transaction.Options{Handler: user4{&bench{e: n.e}}, Logger: log, Trace: n.trace})
	if err != nil {
		t.Fatal(err)
	}
	u := flow.ListenUDP(pc, layer, flow.Options{Logger: log})
	sockets.AddUDP(u)
	s := flow.ListenTCP(ln, layer, flow.Options{Logger: log})
	sockets.AddStream(s)
	n.udp, n.tcp = pc.LocalAddr().String(), ln.Addr().String()
	t.Cleanup(func() {
		_ = n.e.Close()
		_ = u.Close()
		_ = s.Close()
		layer.Close()
	})
	return n
}

func (n *counter) now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().Add(n.ahead)
}

func (n *counter) trace(out bool, _ flow.Flow, m sip.Message) {
	res, ok := m.(*sip.Response)
	if !ok || !out || res.StatusCode != 401 {
		return
	}
	var c []string
	for _, h := range res.GetHeaders("WWW-Authenticate") {
		params, _ := authparam.Parse(strings.TrimPrefix(h.Value(), "Digest "))
		if params["stale"] == "true" && len(c) == 0 {
			c = append(c, "stale")
		}
		c = append(c, params["algorithm"])
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.challenges = append(n.challenges, strings.Join(c, " "))
	if n.ages && n.ahead == 0 {
		n.ahead = nonceAge + time.Second
	}
}

// challenged checks what was asked of phones since the last call.
func (n *counter) challenged(t *testing.T, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.challenges, want) {
		t.Errorf("challenges %q, want %q", n.challenges, want)
	}
	n.challenges = nil
}

func (n *counter) addr(transport string) string {
	if transport == "tcp" {
		return n.tcp
	}
	return n.udp
}

func phoneContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	t.Cleanup(cancel)
	return ctx
}

const aliceAOR, bobAOR = "sip:alice@p2psip.example", "sip:bob@p2psip.example"

// baresip 1.0 gives up at a challenge that stands beside one for SHA-256. Registering again, it is understood; it takes a
// new Call-ID for that, as it does when somebody starts it anew.
func TestBaresipRegistersWithAPassword(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			ctx := phoneContext(t)
			n := newCounter(t, map[string]Digest{"alice": DigestBoth})
			alice := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: aliceAOR, Proxy: n.addr(transport), Transport: transport, Password: password})
			if err := alice.Register(ctx); err == nil {
				t.Error("baresip has learned to choose; the next steps prove nothing")
			}
			n.challenged(t, "SHA-256 MD5")
			if err := alice.Register(ctx); err != nil {
				t.Error("with MD5 alone:", err)
			}
			n.challenged(t, "MD5")
			if n := len(n.e.Bindings(aor(t, "alice"))); n != 1 {
				t.Error(n, "bindings")
			}
			again := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: aliceAOR, Proxy: n.addr(transport), Transport: transport, Password: password})
			if err := again.Register(ctx); err != nil {
				t.Error("once the registrar knows the phone:", err)
			}
			n.challenged(t, "MD5")
		})
	}
}

// Left alone, baresip registers again by itself. How soon cannot be configured: half a minute to a minute (30 s times
// two, times a random factor from 0.5 to 1) after the first failure.
func TestBaresipRegistersByItselfAtTheSecondAttempt(t *testing.T) {
	if testing.Short() {
		t.Skip("takes up to a minute")
	}
	t.Parallel()
	ctx := phoneContext(t)
	n := newCounter(t, map[string]Digest{"alice": DigestBoth})
	alice := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: aliceAOR, Proxy: n.udp, Password: password})
	events := alice.Events()
	if err := alice.Register(ctx); err == nil {
		t.Error("baresip has learned to choose")
	}
	waitRegistered(ctx, t, events)
	n.challenged(t, "SHA-256 MD5", "MD5")
}

func waitRegistered(ctx context.Context, t *testing.T, events <-chan phonetest.Event) {
	t.Helper()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatal("the phone has ended")
			}
			if e.Type == phonetest.RegisterOK {
				return
			}
		case <-ctx.Done():
			t.Fatal("the phone does not register")
		}
	}
}

func TestSIPpRegistersWithAPassword(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			ctx := phoneContext(t)
			n := newCounter(t, map[string]Digest{"alice": DigestBoth, "bob": DigestMD5, "carol": DigestSHA256})
			phone := func(user string) *phonetest.SIPp {
				return phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: "sip:" + user + "@p2psip.example", Proxy: n.addr(transport), Transport: transport, Password: password})
			}
			bob := phone("bob")
			for range 2 {
				if err := bob.Register(ctx, time.Hour); err != nil {
					t.Error("a user of MD5:", err)
				}
			}
			n.challenged(t, "MD5", "MD5")
			alice := phone("alice")
			if err := alice.Register(ctx, time.Hour); err == nil {
				t.Error("SIPp has learned to choose")
			}
			if err := alice.Register(ctx, time.Hour); err != nil {
				t.Error("at the second attempt:", err)
			}
			n.challenged(t, "SHA-256 MD5", "MD5")
			carol := phone("carol")
			for range 3 {
				if err := carol.Register(ctx, time.Hour); err == nil {
					t.Error("a user of SHA-256 registered with MD5")
				}
			}
			n.challenged(t, "SHA-256", "SHA-256", "SHA-256")
		})
	}
}

func TestPhonesWithAWrongPassword(t *testing.T) {
	t.Parallel()
	ctx := phoneContext(t)
	n := newCounter(t, map[string]Digest{"alice": DigestMD5, "bob": DigestMD5})
	bob := phonetest.SIPpConfig{AOR: bobAOR, Proxy: n.udp, Password: "friend"}
	if err := phonetest.NewSIPp(t, bob).Start(phonetest.Register{Expires: time.Hour, Status: 401}).Wait(ctx); err != nil {
		t.Error("SIPp with a wrong password:", err)
	}
	bob.Password = password
	if err := phonetest.NewSIPp(t, bob).Register(ctx, time.Hour); err != nil {
		t.Error("SIPp with the right one afterwards:", err)
	}
	// Bob's phone proves itself to be bob's, and is not let in as alice's.
	thief := phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: aliceAOR, Proxy: n.udp, AuthUser: "bob", Password: password})
	if err := thief.Start(phonetest.Register{Expires: time.Hour, Status: 403}).Wait(ctx); err != nil {
		t.Error("another user's password:", err)
	}
	// baresip answers every challenge with the password it has, until it is told to stop.
	wrong := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: aliceAOR, Proxy: n.udp, Password: "friend"})
	if err := wrong.Register(ctx); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("baresip with a wrong password: %v", err)
	}
	alice := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: aliceAOR, Proxy: n.udp, Password: password})
	if err := alice.Register(ctx); err != nil {
		t.Error("baresip with the right one afterwards:", err)
	}
	if a, b := len(n.e.Bindings(aor(t, "alice"))), len(n.e.Bindings(aor(t, "bob"))); a != 1 || b != 1 {
		t.Errorf("%d and %d bindings", a, b)
	}
}

// The nonce ages between the challenge and its answer. baresip goes on with the new one by itself, SIPp plays a scenario
// that knows one challenge only.
func TestBaresipRenewsAStaleNonce(t *testing.T) {
	t.Parallel()
	ctx := phoneContext(t)
	n := newCounter(t, map[string]Digest{"alice": DigestMD5})
	n.ages = true
	alice := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: aliceAOR, Proxy: n.udp, Password: password})
	if err := alice.Register(ctx); err != nil {
		t.Error(err)
	}
	n.challenged(t, "MD5", "stale MD5")
}

// TestBaresipOutbound registers baresip's flow with reg-id and instance (RFC 5626) and finds it by its GRUU.
func TestBaresipOutbound(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			n := newCounter(t, map[string]Digest{"alice": DigestMD5})
			alice := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: aliceAOR, Proxy: n.addr(transport), Transport: transport,
				Password: password, Instance: true, Params: fmt.Sprintf(`;sipnat=outbound;outbound="sip:%s;transport=%s"`, n.addr(transport), transport)})
			if err := alice.Register(phoneContext(t)); err != nil {
				t.Fatal(err)
			}
			s := n.e.Status()
			if len(s.Users) != 1 || len(s.Users[0].Phones) != 1 {
				t.Fatalf("%+v", s)
			}
			p := s.Users[0].Phones[0]
			if p.RegID != 1 || !strings.HasPrefix(p.ID, "urn:uuid:") || !strings.Contains(strings.ToLower(alice.Log()), "+sip.instance=\"<"+p.ID) {
				t.Errorf("%+v", p)
			}
			g, ok := n.e.ReadGRUU(publicGRUU(aor(t, "alice"), p.ID))
			if !ok || !g.Known {
				t.Errorf("%+v", g)
			}
			if !strings.Contains(alice.Log(), "Require: outbound") {
				t.Error("the 200 does not require outbound")
			}
		})
	}
}
