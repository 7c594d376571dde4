package datapath

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v2"
)

var localhost = netip.MustParseAddr("127.0.0.1")

// kinds runs a test on batched and on ordinary sockets.
func kinds(t *testing.T, f func(t *testing.T, o LoopOptions)) {
	t.Run("batched", func(t *testing.T) { f(t, LoopOptions{}) })
	t.Run("plain", func(t *testing.T) { f(t, LoopOptions{Plain: true}) })
}

// world is a relay peer with one front.
type world struct {
	loop   *Loop
	front  *ServerConn
	gen    *Generator
	server *turn.Server
	meters atomic.Pointer[testMeter] // the last one opened
}

// testMeter counts, and forbids when told to.
type testMeter struct {
	request Request
	octets  atomic.Int64
	forbid  atomic.Bool
	closed  atomic.Int32
}

func (m *testMeter) Take(n int) bool {
	if m.closed.Load() > 0 {
		panic("asked after the end")
	}
	if m.forbid.Load() {
		return false
	}
	m.octets.Add(int64(n))
	return true
}

func (m *testMeter) Close() { m.closed.Add(1) }

func silent() logging.LoggerFactory {
	return &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}
}

func auth(username, realm string, _ net.Addr) ([]byte, bool) {
	return turn.GenerateAuthKey(username, realm, "secret"), true
}

// newWorld starts a relay peer that lets clients talk to the hosts that permit allows; nil: all.
func newWorld(t *testing.T, lo LoopOptions, o Options, permit func(net.IP) bool, adjust ...func(*Generator)) *world {
	t.Helper()
	loop, err := NewLoop(lo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := loop.Close(); err != nil {
			t.Error(err)
		}
	})
	front, err := loop.Listen("udp4", "127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{loop: loop, front: front}
	w.gen = &Generator{
		Loop: loop, Front: front, Relay4: RelayAddress{localhost, localhost}, Relay6: RelayAddress{netip.IPv6Loopback(), netip.IPv6Loopback()},
		Open: func(r Request) (Meter, error) {
			m := &testMeter{request: r}
			w.meters.Store(m)
			return m, nil
		},
	}
	for _, f := range adjust {
		f(w.gen)
	}
	w.server, err = turn.NewServer(turn.ServerConfig{
		Realm: "test", AuthHandler: auth, LoggerFactory: silent(), ChannelBindTimeout: o.ChannelLifetime,
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn: front, RelayAddressGenerator: w.gen,
			PermissionHandler: func(_ net.Addr, ip net.IP) bool { return permit == nil || permit(ip) },
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.server.Close() })
	return w
}

// client gives a pion client with an allocation.
func (w *world) client(t *testing.T, user string) (*turn.Client, net.PacketConn) {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: w.front.LocalAddr().String(), Conn: pc, Username: user, Password: "secret", Realm: "test", LoggerFactory: silent(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); pc.Close() })
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	relayed, err := c.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relayed.Close() })
	return c, relayed
}

func udp(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends one packet through an allocation and one back, until both arrive.
func exchange(t *testing.T, relayed net.PacketConn, peer *net.UDPConn, payload string) {
	t.Helper()
	b := make([]byte, 2000)
	if _, err := relayed.WriteTo([]byte(payload), peer.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	_ = peer.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, from, err := peer.ReadFrom(b)
	if err != nil || string(b[:n]) != payload || from.String() != relayed.LocalAddr().String() {
		t.Fatalf("the peer got %q from %v, %v", b[:n], from, err)
	}
	if _, err := peer.WriteTo([]byte(payload+" back"), from); err != nil {
		t.Fatal(err)
	}
	_ = relayed.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, from, err = relayed.ReadFrom(b)
	if err != nil || string(b[:n]) != payload+" back" || from.String() != peer.LocalAddr().String() {
		t.Fatalf("the client got %q from %v, %v", b[:n], from, err)
	}
}

func TestRelaysBothWays(t *testing.T) {
	kinds(t, func(t *testing.T, o LoopOptions) {
		w := newWorld(t, o, Options{}, nil)
		_, relayed := w.client(t, "alice")
		peer := udp(t)
		for i := range 20 { // the first by indications, until pion's client has its channel
			exchange(t, relayed, peer, string(make([]byte, i*50)))
		}
		s := w.loop.Stats()
		t.Logf("%+v", s)
		if o.Plain && s.Short > 0 {
			t.Errorf("%d packets took the short cut", s.Short)
		}
		m := w.meters.Load()
		if m.request.Username != "alice" || !m.request.Client.IsValid() || m.request.Relayed.String() != relayed.LocalAddr().String() {
			t.Errorf("the meter was opened for %+v", m.request)
		}
		var want int64
		for i := range 20 {
			want += int64(2*i*50 + len(" back"))
		}
		if got := m.octets.Load(); got != want {
			t.Errorf("the meter counted %d octets, want %d", got, want)
		}
		_ = relayed.Close()
		for m.closed.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		if n := w.loop.Stats().Allocations; n != 0 {
			t.Errorf("%d allocations are left", n)
		}
	})
}
