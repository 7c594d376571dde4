package flow

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"
)

var alice, bob = Addr{Host: "alice.p2psip.example"}, Addr{Host: "bob.p2psip.example"}

func TestPeerFlow(t *testing.T) {
	a, b := net.Pipe()
	ha, hb := newRecorder(), newRecorder()
	fa := NewPeerFlow(a, alice, bob, "credential of bob", ha, Options{})
	fb := NewPeerFlow(b, bob, alice, nil, hb, Options{})
	if fa.Transport() != TransportP2P || fa.Edge() || !fa.Reliable() || fa.Local() != alice || fa.Remote() != bob || fa.Peer() != "credential of bob" {
		t.Errorf("flow %v", fa)
	}
	for i := range 100 {
		if err := fa.Send(request(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		if e := hb.next(t); e.f != fb || callID(e.m) != itoa(i) {
			t.Fatalf("event %+v", e)
		} else if v := e.m.Via().Value(); i == 0 && v != "SIP/2.0/UDP phone.invalid:5070;rport;branch=z9hG4bK0" {
			t.Errorf("a peer's Via was changed: %s", v)
		}
	}
	// A bad message in a good frame costs that message; it is answered with a frame.
	fa.Send(broken("bad"))
	if e := hb.next(t); e.e == nil || e.e.Status != 400 {
		t.Errorf("event %+v", e)
	}
	if e := ha.next(t); e.m.(*sip.Response).StatusCode != 400 {
		t.Errorf("event %+v", e)
	}
	if err := fa.Send(make([]byte, MaxFrame+1)); err != ErrTooLarge {
		t.Error(err)
	}
	fa.Send(request("last"))
	fa.Close()
	if e := hb.next(t); callID(e.m) != "last" {
		t.Errorf("event %+v", e)
	}
	for _, h := range []*recorder{ha, hb} {
		if e := h.next(t); !e.closed {
			t.Errorf("event %+v", e)
		}
	}
	<-fa.Done()
	<-fb.Done()
	if err := fa.Send(request(1)); err != ErrClosed {
		t.Error(err)
	}
}

func TestPeerFlowBadFrames(t *testing.T) {
	for name, frame := range map[string][]byte{
		"too large":        {0, 255, 0, 0, 1},
		"type not defined": {0, 0, 0, 1, 9, 'x'},
		"end inside":       AppendFrame(nil, FrameMessage, request(1))[:60],
		"sip without one":  request(1),
	} {
		t.Run(name, func(t *testing.T) {
			a, b := net.Pipe()
			h := newRecorder()
			f := NewPeerFlow(a, alice, bob, nil, h, Options{})
			b.Write(AppendFrame(AppendFrame(nil, 222, []byte("ignored")), FrameKeepAlive, nil))
			b.Write(AppendFrame(nil, FrameMessage, request("before")))
			if e := h.next(t); e.m == nil {
				t.Fatalf("event %+v", e)
			}
			b.Write(frame)
			b.Close()
			if e := h.next(t); !e.closed {
				t.Errorf("event %+v", e)
			}
			<-f.Done()
		})
	}
}

// plainStream is a stream that knows no deadlines.
type plainStream struct{ c net.Conn }

func (p plainStream) Read(b []byte) (int, error)  { return p.c.Read(b) }
func (p plainStream) Write(b []byte) (int, error) { return p.c.Write(b) }
func (p plainStream) Close() error                { return p.c.Close() }

// TestPeerFlowSlowReader: with or without deadlines, a far side that does not read is cut off after WriteTimeout.
func TestPeerFlowSlowReader(t *testing.T) {
	for _, deadlines := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			defer b.Close()
			var rw io.ReadWriteCloser = a
			if !deadlines {
				rw = plainStream{a}
			}
			h := newRecorder()
			begin := time.Now()
			f := NewPeerFlow(rw, alice, bob, nil, h, Options{QueueMessages: 4})
			full := false
			for range 20 {
				full = full || f.Send(bytes.Repeat([]byte("x"), 60000)) == ErrFull
			}
			if !full {
				t.Error("the queue is never full")
			}
			<-f.Done()
			if d := time.Since(begin); d != DefaultWriteTimeout {
				t.Errorf("cut off after %v", d)
			}
			synctest.Wait()
			if e := <-h.events; !e.closed {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// TestPeerFlowKeepAlive: two living ends keep the flow for ever, a silent one is found dead.
func TestPeerFlowKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		fa := NewPeerFlow(a, alice, bob, nil, newRecorder(), Options{})
		fb := NewPeerFlow(b, bob, alice, nil, newRecorder(), Options{})
		time.Sleep(24 * time.Hour)
		if fa.Send(request(1)) != nil || fb.Send(request(1)) != nil {
			t.Error("a flow with two living ends died")
		}
		fa.Close()
		<-fb.Done()
		synctest.Wait()
	})
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		go io.Copy(io.Discard, b) // reads and says nothing
		begin := time.Now()
		f := NewPeerFlow(a, alice, bob, nil, newRecorder(), Options{})
		<-f.Done()
		if d := time.Since(begin); d != 3*DefaultKeepAlive {
			t.Errorf("found dead after %v", d)
		}
		b.Close()
		synctest.Wait()
	})
}

func TestAddr(t *testing.T) {
	for a, want := range map[Addr]string{
		{"127.0.0.1", 5060}: "127.0.0.1:5060", {"::1", 5060}: "[::1]:5060", alice: "alice.p2psip.example",
	} {
		if a.String() != want {
			t.Errorf("%v, want %s", a, want)
		}
	}
	if _, ok := alice.AddrPort(); ok {
		t.Error("a name is no address")
	}
	if ap, ok := (Addr{"::1", 5060}).AddrPort(); !ok || AddrFrom(ap) != (Addr{"::1", 5060}) || !strings.HasPrefix(ap.String(), "[::1]") {
		t.Error(ap)
	}
}
