package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v2"

	"p2psip/overlay"
	"p2psip/relaypeer/credential"
)

// world is an overlay with relay peers, of which a test decides everything.
type world struct {
	t testing.TB

	mu      sync.Mutex
	adverts []overlay.Advert
	grants  map[overlay.NodeID]func() (credential.Grant, error)
	failed  map[overlay.NodeID]int
	finds   int
	asked   int
	lasts   bool          // advertisements are always new
	think   time.Duration // what a search takes
}

func newWorld(t testing.TB) *world {
	return &world{t: t, grants: map[overlay.NodeID]func() (credential.Grant, error){}, failed: map[overlay.NodeID]int{}}
}

// relay adds a relay peer that serves at URIs.
func (w *world) relay(g credential.Grant) overlay.NodeID {
	w.t.Helper()
	return w.relayFunc(func() (credential.Grant, error) { return g, nil }, g.URIs...)
}

func (w *world) relayFunc(grant func() (credential.Grant, error), uris ...string) overlay.NodeID {
	w.t.Helper()
	key, err := overlay.NewKey()
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := overlay.NodeOfKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.adverts = append(w.adverts, overlay.Advert{
		Role: overlay.RoleRelay, Node: id, Offer: overlay.Offer{Services: uris, Capacity: 100}, Sequence: 1,
		Issued: time.Now(), Expires: time.Now().Add(overlay.AdvertLifetime),
	})
	w.grants[id] = grant
	return id
}

// Find implements Overlay.
func (w *world) Find(ctx context.Context, r overlay.Role, n int) ([]overlay.Advert, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.think; d > 0 {
		w.mu.Unlock()
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		w.mu.Lock()
	}
	w.finds++
	if r != overlay.RoleRelay || len(w.adverts) == 0 {
		return nil, overlay.ErrNoRole
	}
	if w.lasts {
		for i := range w.adverts {
			w.adverts[i].Sequence++
			w.adverts[i].Expires = time.Now().Add(overlay.AdvertLifetime)
		}
	}
	return append([]overlay.Advert(nil), w.adverts[:min(n, len(w.adverts))]...), nil
}

func (w *world) do(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) count(n *int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *n
}

func contextWithin(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// Failed implements Overlay.
func (w *world) Failed(_ overlay.Role, n overlay.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed[n]++
}

func (w *world) failures(n overlay.NodeID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed[n]
}

func (w *world) credentials(ctx context.Context, a overlay.Advert) (credential.Grant, error) {
	w.mu.Lock()
	w.asked++
	f := w.grants[a.Node]
	w.mu.Unlock()
	if f == nil {
		<-ctx.Done()
		return credential.Grant{}, ctx.Err()
	}
	return f()
}

// pool makes a Pool in the world, closed with the test.
func (w *world) pool(change ...func(*Config)) *Pool {
	w.t.Helper()
	c := Config{
		Overlay: w, Credentials: w.credentials, Permit: func(netip.Addr) bool { return true },
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Ready: -1,
		LocalAddrs: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.1")} },
	}
	for _, f := range change {
		f(&c)
	}
	p, err := New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Close)
	return p
}

// pionRelay runs pion's TURN server on UDP and TCP of loopback and gives what a member would be granted.
func pionRelay(t testing.TB) (credential.Grant, *turn.Server) {
	t.Helper()
	u, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gen := func() turn.RelayAddressGenerator {
		return &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
	}
	secret := credential.NewSecret([]byte(t.Name()))
	s, err := turn.NewServer(turn.ServerConfig{
		Realm: "overlay.example",
		AuthHandler: func(user, realm string, _ net.Addr) ([]byte, bool) {
			return secret.Key(user, realm), true
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: u, RelayAddressGenerator: gen()}},
		ListenerConfigs:   []turn.ListenerConfig{{Listener: l, RelayAddressGenerator: gen()}},
		LoggerFactory:     &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled, ScopeLevels: map[string]logging.LogLevel{}, Writer: io.Discard},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	user := fmt.Sprintf("%d:member", time.Now().Add(time.Hour).Unix())
	return credential.Grant{
		URIs: []string{
			fmt.Sprintf("turn:%s?transport=udp", u.LocalAddr()),
			fmt.Sprintf("turn:%s?transport=tcp", l.Addr()),
		},
		Username: user, Password: secret.Password(user), Realm: "overlay.example", Lifetime: time.Hour,
	}, s
}

// echo answers every packet, and gives its address.
func echo(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	a := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr))
	c, err := net.ListenUDP("udp", a)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, maxMessage)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			_, _ = c.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-done })
	return c
}

// converse sends packets to an echo and reads them back.
func converse(t testing.TB, a *Allocation, with netip.AddrPort, packets int) {
	t.Helper()
	b := make([]byte, maxMessage)
	for i := range packets {
		want := fmt.Appendf(nil, "packet %d%s", i, "....."[:i%5])
		if _, err := a.WriteToAddrPort(want, with); err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		_ = a.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, from, err := a.ReadFrom(b)
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		if string(b[:n]) != string(want) || from.String() != with.String() {
			t.Fatalf("got %q from %s, want %q from %s", b[:n], from, want, with)
		}
	}
}
