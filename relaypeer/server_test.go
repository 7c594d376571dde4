package relaypeer

import (
	"net"
	"testing"
	"time"
)

// echo sends a few packets from one connection to another's address and wants them there, and back.
func echo(t *testing.T, a, b net.PacketConn) {
	t.Helper()
	buf := make([]byte, 1600)
	for i := range 20 {
		to, from := a, b
		if i%2 == 1 {
			to, from = b, a
		}
		deadline := time.Now().Add(5 * time.Second)
		var sent time.Time
		for {
			if time.Since(sent) > 300*time.Millisecond { // the first one may be lost to a permission on its way
				// Of some size: what pion's client has for TCP waits for more after a message of less than nine octets.
				if _, err := from.WriteTo(append(make([]byte, 20), byte(i)), to.LocalAddr()); err != nil {
					t.Fatal(err)
				}
				sent = time.Now()
			}
			_ = to.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			n, _, err := to.ReadFrom(buf)
			if err == nil && n == 21 && buf[20] == byte(i) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("packet %d from %s to %s was lost: %v", i, from.LocalAddr(), to.LocalAddr(), err)
			}
		}
	}
}

// eventually waits for something that another goroutine, or another process, brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to pass that %s", what)
		}
	}
}

func udpPeer(t *testing.T) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRelaysOverEveryTransport(t *testing.T) {
	w := newWorld(t, nil)
	for _, over := range []Transport{UDP, TCP, TLS} {
		t.Run(string(over), func(t *testing.T) {
			a := allocate(t, w.client(t, over, newMember(t)))
			p := udpPeer(t)
			if err := a.(interface{ CreatePermissions(...net.Addr) error }).CreatePermissions(p.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			echo(t, p, a)
		})
	}
	eventually(t, "the allocations end", func() bool { return w.Allocations() == 0 })
	s := w.Status()
	if s.Month == 0 || s.Refused > 0 || s.Panics > 0 {
		t.Errorf("status %+v", s)
	}
}

// TestTwoMembersOnOneRelay is the draft's flow 5.1 where both sides found the same relay peer: relayed address to relayed
// address, without loopback being allowed.
func TestTwoMembersOnOneRelay(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Allow = nil })
	a := allocate(t, w.client(t, UDP, newMember(t)))
	b := allocate(t, w.client(t, TCP, newMember(t)))
	for _, p := range [][2]net.PacketConn{{a, b}, {b, a}} {
		if err := p[0].(interface{ CreatePermissions(...net.Addr) error }).CreatePermissions(p[1].LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	echo(t, a, b)
	// What else is on this machine is not reached.
	other := udpPeer(t)
	for range 10 {
		if _, err := a.WriteTo([]byte("hello"), other.LocalAddr()); err != nil {
			break
		}
	}
	eventually(t, "they are counted", func() bool { return w.Status().Forbidden > 0 })
	_ = other.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, from, err := other.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("%d octets got from %s to %s", n, from, other.LocalAddr())
	}
}
