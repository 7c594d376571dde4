package relaypeer

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/turn/v2"

	"p2psip/overlay"
	"p2psip/relaypeer/credential"
	"p2psip/relaypeer/datapath"
)

var (
	localhost  = netip.MustParseAddr("127.0.0.1")
	localhost6 = netip.MustParseAddr("::1")
	loopback   = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	secret     = credential.NewSecret([]byte("of the tests"))
)

// world is a relay peer on loopback with a socket of each kind.
type world struct {
	*Server
	loop        *datapath.Loop
	udp, udp6   netip.AddrPort
	tcp, tls    netip.AddrPort
	certificate tls.Certificate
	clock       *clock
}

// clock is a clock that a test moves.
type clock struct {
	mu    sync.Mutex
	shift time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.shift)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shift += d
}

func newWorld(t testing.TB, adjust func(*Config)) *world {
	t.Helper()
	w := &world{clock: &clock{}}
	var err error
	if w.loop, err = datapath.NewLoop(datapath.LoopOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.loop.Close() })
	if w.certificate, err = SelfSigned([]netip.Addr{localhost}, time.Now()); err != nil {
		t.Fatal(err)
	}
	c := Config{Loop: w.loop, Secret: secret, Allow: loopback, Now: w.clock.Now}
	listen := func(network, at string) datapath.Front {
		f, err := w.loop.Listen(network, at, datapath.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	u4, u6 := listen("udp4", "127.0.0.1:0"), listen("udp6", "[::1]:0")
	w.udp, w.udp6 = addrPort(u4.LocalAddr()), addrPort(u6.LocalAddr())
	c.Sockets = []Socket{{Transport: UDP, Front: u4}, {Transport: UDP, Front: u6}}
	for _, k := range []struct {
		transport Transport
		at        *netip.AddrPort
	}{{TCP, &w.tcp}, {TLS, &w.tls}} {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		*k.at = addrPort(ln.Addr())
		s := Socket{Transport: k.transport, Listener: ln}
		if k.transport == TLS {
			s.TLS = &tls.Config{Certificates: []tls.Certificate{w.certificate}}
		}
		c.Sockets = append(c.Sockets, s)
	}
	if adjust != nil {
		adjust(&c)
	}
	if w.Server, err = Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func newMember(t testing.TB) overlay.NodeID {
	t.Helper()
	key, err := overlay.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := overlay.NodeOfKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// client makes pion's TURN client of a member over a transport.
func (w *world) client(t testing.TB, over Transport, member overlay.NodeID) *turn.Client {
	t.Helper()
	return w.clientUntil(t, over, member, w.clock.Now().Add(time.Hour))
}

// clientUntil is client with a credential of another lifetime.
func (w *world) clientUntil(t testing.TB, over Transport, member overlay.NodeID, expires time.Time) *turn.Client {
	t.Helper()
	user, pass := secret.Issue(member, expires)
	c, pc, err := w.newClient(over, user, pass)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); pc.Close() })
	return c
}

func (w *world) newClient(over Transport, user, pass string) (*turn.Client, net.PacketConn, error) {
	var pc net.PacketConn
	at := w.udp
	switch over {
	case UDP:
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(localhost, 0)))
		if err != nil {
			return nil, nil, err
		}
		pc = c
	default:
		at = w.tcp
		if over == TLS {
			at = w.tls
		}
		c, err := net.Dial("tcp4", at.String())
		if err != nil {
			return nil, nil, err
		}
		if over == TLS {
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		}
		pc = turn.NewSTUNConn(c)
	}
	c, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: at.String(), STUNServerAddr: at.String(), Conn: pc, Username: user, Password: pass, LoggerFactory: silent(), RTO: 100 * time.Millisecond,
	})
	if err != nil {
		pc.Close()
		return nil, nil, err
	}
	if err := c.Listen(); err != nil {
		c.Close()
		pc.Close()
		return nil, nil, err
	}
	return c, pc, nil
}

// allocate makes an allocation, which ends with the test.
func allocate(t testing.TB, c *turn.Client) net.PacketConn {
	t.Helper()
	a, err := c.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}
