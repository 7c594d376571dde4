package transaction

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/transaction/transactiontest"
)

// TestUnreachable: what waits for a first answer from that address ends at once, nothing else does.
func TestUnreachable(t *testing.T) {
	bubble(t, flow.TransportUDP, Options{}, func(l *Layer, u *user, f *transactiontest.Flow) {
		other := transactiontest.New(flow.TransportUDP, here, flow.Addr{Host: phone.Host, Port: phone.Port + 1})
		var calling, ringing, cancelled, options, elsewhere ends
		start := func(f flow.Flow, e *ends, method, branch string) (*Client, *sip.Request) {
			req := request(method, branch)
			c, err := l.Request(f, req, e)
			if err != nil {
				t.Fatal(err)
			}
			return c, req
		}
		start(f, &calling, "INVITE", "z9hG4bKcalling")
		_, inv := start(f, &ringing, "INVITE", "z9hG4bKringing")
		l.HandleMessage(f, reply(inv, 180))
		c, inv := start(f, &cancelled, "INVITE", "z9hG4bKcancelled")
		l.HandleMessage(f, reply(inv, 180))
		c.Cancel()
		start(f, &options, "OPTIONS", "z9hG4bKoptions")
		start(other, &elsewhere, "INVITE", "z9hG4bKelsewhere")

		l.HandleUnreachable(f, errors.New("connection refused"))
		l.HandleUnreachable(f, errors.New("connection refused"))
		expect(t, "calling", calling.take(), "transport error")
		expect(t, "ringing", ringing.take(), "180")
		expect(t, "cancelled", cancelled.take(), "180 transport error")
		expect(t, "not INVITE", options.take(), "transport error")
		expect(t, "another address", elsewhere.take(), "")
	})
}

// TestPhoneGone: over real sockets, a request to a port where nobody listens fails long before timer F.
func TestPhoneGone(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells which address an error is about")
	}
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	l, err := New(Options{Handler: &user{}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u := flow.ListenUDP(listen(), l, flow.Options{})
	defer u.Close()
	gone := listen()
	to := gone.LocalAddr().(*net.UDPAddr).AddrPort()
	gone.Close()
	quiet := listen()
	defer quiet.Close()

	lost, waits := make(heard, 1), make(heard, 1)
	if _, err := l.Request(u.To(quiet.LocalAddr().(*net.UDPAddr).AddrPort()), request("INVITE", "z9hG4bK2"), waits); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Request(u.To(netip.AddrPortFrom(to.Addr(), to.Port())), request("INVITE", "z9hG4bK1"), lost); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-lost:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody noticed that nobody listens")
	}
	select {
	case err := <-waits:
		t.Errorf("the transaction towards a phone that listens ended: %v", err)
	default:
	}
}

// heard is a ClientHandler that passes failures on.
type heard chan error

func (h heard) HandleResponse(*Client, *sip.Response)     {}
func (h heard) HandleTimeout(*Client)                     { h <- nil }
func (h heard) HandleTransportError(_ *Client, err error) { h <- err }
