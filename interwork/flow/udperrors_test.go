package flow

import (
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// mourner is a recorder that hears of addresses where nobody listens.
type mourner struct {
	*recorder
	gone chan Flow
}

func (m mourner) HandleUnreachable(f Flow, err error) {
	if err == nil {
		panic("no error")
	}
	m.gone <- f
}

// gone gives an address of the network ("udp4", "udp6") where nobody listens.
func gone(t *testing.T, network, host string) netip.AddrPort {
	c, err := net.ListenUDP(network, &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		t.Skip(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestUDPUnreachable: the handler hears which address a datagram came back from, and nobody else's datagram is lost or
// fails because of it.
func TestUDPUnreachable(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells which address an error is about")
	}
	for _, c := range [][3]string{{"udp4", "127.0.0.1", "127.0.0.1"}, {"udp6", "::1", "::1"}, {"udp", "::", "127.0.0.1"}, {"udp", "::", "::1"}} {
		t.Run(strings.Join(c[:], " "), func(t *testing.T) {
			dead := []netip.AddrPort{gone(t, "udp", c[2]), gone(t, "udp", c[2])}
			pc, err := net.ListenUDP(c[0], &net.UDPAddr{IP: net.ParseIP(c[1])})
			if err != nil {
				t.Skip(err)
			}
			h := mourner{newRecorder(), make(chan Flow, 1024)}
			u := ListenUDP(pc, h, Options{})
			defer u.Close()
			phone, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(c[2]), Port: u.Local().Port})
			if err != nil {
				t.Fatal(err)
			}
			defer phone.Close()
			alive := u.To(phone.LocalAddr().(*net.UDPAddr).AddrPort())

			for n := range 50 {
				for _, d := range dead {
					if err := u.To(d).Send(request("dead")); err != nil {
						t.Fatal(err)
					}
				}
				if err := alive.Send(request(n)); err != nil {
					t.Fatalf("to a phone that listens: %v", err)
				}
				if got := string(receive(t, phone)); !strings.Contains(got, "Call-ID: "+itoa(n)+"\r\n") {
					t.Fatalf("the phone got %s, wanted %d", got, n)
				}
				if _, err := phone.Write(request(n)); err != nil {
					t.Fatal(err)
				}
				if e := h.next(t); callID(e.m) != itoa(n) || e.f != alive {
					t.Fatalf("%v from %v", e.m, e.f)
				}
			}
			heard := map[netip.AddrPort]bool{}
			for len(heard) < 2 {
				select {
				case f := <-h.gone:
					a, _ := f.Remote().AddrPort()
					if f != u.To(dead[0]) && f != u.To(dead[1]) {
						t.Fatalf("%v is said to be gone", a)
					}
					heard[a] = true
				case <-time.After(10 * time.Second):
					t.Fatalf("heard of %v", heard)
				}
			}
		})
	}
}
