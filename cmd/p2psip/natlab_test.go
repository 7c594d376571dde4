//go:build linux

package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// natLabEnv has TestNATLab run. It takes root, some minutes and the machine's attention, so nobody else runs it.
const natLabEnv = "P2PSIP_NATLAB"

// natLab is the Internet that natlab/lab.sh makes: public machines, and homes behind routers of every kind.
type natLab struct {
	t    *testing.T
	name string // begins the names of its namespaces
}

func newNATLab(t *testing.T) *natLab {
	t.Helper()
	if os.Getenv(natLabEnv) != "1" {
		t.Skipf("the NAT lab is not part of the suite: just natlab, as root, runs it")
	}
	if os.Getuid() != 0 {
		t.Skip("the NAT lab makes network namespaces, which takes root")
	}
	for _, program := range []string{"ip", "nft", "conntrack"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the NAT lab needs %s: apt-get install iproute2 nftables conntrack", program)
		}
	}
	lab := &natLab{t, fmt.Sprintf("nl%d", os.Getpid())}
	lab.script("down")
	t.Cleanup(func() {
		if os.Getenv(natLabEnv+"_KEEP") == "" {
			lab.script("down")
		}
	})
	lab.script("up")
	return lab
}

func (l *natLab) script(args ...string) {
	l.t.Helper()
	cmd := exec.Command("natlab/lab.sh", args...)
	cmd.Env = append(os.Environ(), "P2PSIP_LAB="+l.name)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("natlab/lab.sh %q: %v\n%s", args, err, out)
	}
}

// inside runs f on a thread that is in a namespace for as long. Sockets that it opens stay there.
func (l *natLab) inside(space string, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread() // the thread has to live on: processes started from it would die with it
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	away, err := os.Open("/var/run/netns/" + l.name + "-" + space)
	if err != nil {
		return err
	}
	defer away.Close()
	if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // whatever ran on this thread would be in the wrong place
		}
	}()
	return f()
}

// udp opens a UDP socket in a namespace.
func (l *natLab) udp(t *testing.T, space, at string) *net.UDPConn {
	t.Helper()
	var c net.PacketConn
	if err := l.inside(space, func() (err error) { c, err = net.ListenPacket("udp4", at); return err }); err != nil {
		t.Fatalf("%s: %v", space, err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

// hears says from where a socket gets a datagram with that text, if it does.
func hears(c *net.UDPConn, text string) (from netip.AddrPort, ok bool) {
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	b := make([]byte, 100)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return from, false
		}
		if string(b[:n]) == text {
			return netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), true
		}
	}
}

// TestNATLab is calls between homes behind every kind of NAT, in network namespaces of this machine.
func TestNATLab(t *testing.T) {
	lab := newNATLab(t)
	t.Run("the routers are what they are called", lab.kinds)
	o := lab.overlay(t)
	t.Run("calls between homes of every kind", o.pairs)
	t.Run("calls within a home, and behind one provider's NAT", o.neighbours)
	t.Run("baresip calls baresip", o.phones)
	t.Run("SIPp answers", o.sipp)
	t.Run("nobody hears a call between nodes", o.capture)
	t.Run("a relay peer is killed in a call", o.relayKilled)
	t.Run("a home gets another address in a call", o.switched)
}

// kinds checks mapping and filtering of each kind of router (RFC 4787 §4 and §5), and hairpinning (§6).
func (l *natLab) kinds(t *testing.T) {
	const one, two = "45.1.0.10", "45.2.0.10"
	a, a2, b := l.udp(t, "pub1", one+":7000"), l.udp(t, "pub1", one+":7001"), l.udp(t, "pub2", two+":7000")
	for _, c := range []struct {
		home                         string
		out                          bool // UDP gets out
		independent                  bool // mapping
		fromPort, fromHost, stranger bool // who gets in: another port of a host that was sent to; a host that was sent to at another port
	}{
		{"full1", true, true, true, true, true},
		{"addr1", true, true, true, true, false},
		{"port1", true, true, false, false, false},
		{"sym1", true, false, false, false, false},
		{"hair1", true, true, true, true, true},
		{"bald2", true, true, true, true, true},
		{"noudp1", false, false, false, false, false},
	} {
		h := l.udp(t, c.home, ":0")
		say := func(from, to *net.UDPConn, at netip.AddrPort) (netip.AddrPort, bool) {
			text := fmt.Sprint(time.Now().UnixNano())
			if _, err := from.WriteToUDPAddrPort([]byte(text), at); err != nil {
				t.Fatalf("%s: %v", c.home, err)
			}
			return hears(to, text)
		}
		first, ok := say(h, a, netip.MustParseAddrPort(one+":7000"))
		if ok != c.out {
			t.Errorf("%s: UDP gets out: %v", c.home, ok)
		}
		if !ok {
			continue
		}
		_, stranger := say(b, h, first)
		second, _ := say(h, a2, netip.MustParseAddrPort(one+":7001"))
		if (first == second) != c.independent {
			t.Errorf("%s: seen as %s and %s", c.home, first, second)
		}
		h2 := l.udp(t, c.home, ":0")
		third, _ := say(h2, a, netip.MustParseAddrPort(one+":7000"))
		_, fromPort := say(a2, h2, third)
		if stranger != c.stranger || fromPort != c.fromPort {
			t.Errorf("%s: a stranger gets in: %v; another port of a host that was sent to: %v", c.home, stranger, fromPort)
		}
		if _, back := say(a, h2, third); !back {
			t.Errorf("%s: no answer gets in", c.home)
		}
	}
	for kind, want := range map[string]bool{"hair": true, "bald": false} {
		x, y := l.udp(t, kind+"1", ":0"), l.udp(t, kind+"2", ":0")
		_, _ = y.WriteToUDPAddrPort([]byte("who"), netip.MustParseAddrPort(one+":7000"))
		at, ok := hears(a, "who")
		if !ok {
			t.Fatalf("%s: UDP does not get out", kind)
		}
		_, _ = x.WriteToUDPAddrPort([]byte("hairpin"), at)
		if _, ok := hears(y, "hairpin"); ok != want {
			t.Errorf("%s: hairpinning: %v", kind, ok)
		}
	}
}
