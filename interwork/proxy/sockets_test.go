package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
	"p2psip/overlay"
)

// registrar is a fixed edge whose REGISTER makes the sender the one binding.
type registrar struct {
	fixed
	mu sync.Mutex // guards fixed.target: two sockets read
}

func (r *registrar) Bindings(aor overlay.AOR) []Target {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fixed.Bindings(aor)
}

func (r *registrar) Contact(uri sip.Uri) (Target, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fixed.Contact(uri)
}

func (r *registrar) Register(tx *transaction.Server, req *sip.Request) {
	r.mu.Lock()
	r.target = Target{URI: req.Contact().Address, Q: 1000, ID: "d", Flow: tx.Flow()}
	r.mu.Unlock()
	_ = tx.Respond(message.NewResponse(req, 200, ""))
}

// TestSockets makes a call over real sockets: the caller on UDP, the callee on TCP.
func TestSockets(t *testing.T) {
	sockets := &Listeners{}
	edge := &registrar{fixed: fixed{sockets: sockets}}
	pc := listenUDP(t).UDPConn
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	core := benchCore(t, &edge.fixed, flow.AddrFrom(pc.LocalAddr().(*net.UDPAddr).AddrPort()),
		flow.AddrFrom(ln.Addr().(*net.TCPAddr).AddrPort()))
	core.cfg.Edge = edge
	u := flow.ListenUDP(pc, core.Layer(), flow.Options{})
	sockets.AddUDP(u)
	s := flow.ListenTCP(ln, core.Layer(), flow.Options{})
	sockets.AddStream(s)
	defer core.Close()
	defer s.Close()
	defer u.Close()

	callee, err := net.Dial("tcp4", s.Local().String())
	if err != nil {
		t.Fatal(err)
	}
	defer callee.Close()
	caller := listenUDP(t).UDPConn
	defer caller.Close()
	me, you := caller.LocalAddr().String(), callee.LocalAddr().String()
	deadline := time.Now().Add(20 * time.Second)
	_ = callee.SetDeadline(deadline)
	_ = caller.SetDeadline(deadline)

	in := message.NewReader(callee, message.Limits{})
	next := func() []byte {
		t.Helper()
		m, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		return message.Bytes(m)
	}
	heard := func(want string) []byte {
		t.Helper()
		buf := make([]byte, 65536)
		for {
			n, err := caller.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if strings.HasPrefix(string(buf[:n]), "SIP/2.0 "+want) {
				return buf[:n]
			}
		}
	}
	say := func(b []byte) {
		t.Helper()
		if _, err := caller.WriteTo(b, pc.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}

	fmt.Fprintf(callee, "REGISTER sip:p2psip.example SIP/2.0\r\nVia: SIP/2.0/TCP %s;branch=z9hG4bKr\r\nMax-Forwards: 70\r\n"+
		"From: <sip:bob@p2psip.example>;tag=r\r\nTo: <sip:bob@p2psip.example>\r\nCall-ID: r\r\nCSeq: 1 REGISTER\r\n"+
		"Contact: <sip:bob@%s;transport=tcp>\r\nContent-Length: 0\r\n\r\n", you, you)
	if b := next(); !bytes.HasPrefix(b, []byte("SIP/2.0 200")) {
		t.Fatalf("%s", b)
	}
	say(fmt.Appendf(nil, benchInvite, me, 1, len(benchSDP), benchSDP, "UDP"))
	inv := next()
	for _, status := range []string{"180 Ringing", "200 OK"} {
		if _, err := callee.Write(uasReply(inv, status, you)); err != nil {
			t.Fatal(err)
		}
	}
	ok := heard("200")
	say(uacNext(ok, "ACK", "UDP", "a1", me, you))
	if b := next(); !bytes.HasPrefix(b, []byte("ACK sip:bob@"+you)) {
		t.Fatalf("%s", b)
	}
	if n := len(core.Calls()); n != 1 {
		t.Errorf("%d calls in progress", n)
	}
	say(uacNext(ok, "BYE", "UDP", "b1", me, you))
	if _, err := callee.Write(uasReply(next(), "200 OK", you)); err != nil {
		t.Fatal(err)
	}
	heard("200")
	if n := len(core.Calls()); n != 0 {
		t.Errorf("%d calls in progress after the BYE", n)
	}

	// The endpoint of either phone is found again; none of a socket that is not ours.
	from := flow.AddrFrom(caller.LocalAddr().(*net.UDPAddr).AddrPort())
	if _, ok := sockets.Flow(Endpoint{Transport: flow.TransportUDP, Remote: from}); !ok {
		t.Error("no flow on any UDP socket")
	}
	if _, ok := sockets.Flow(Endpoint{Transport: flow.TransportUDP, Local: from, Remote: from}); ok {
		t.Error("a flow on a socket that is not ours")
	}
	if _, ok := sockets.Flow(Endpoint{Transport: flow.TransportTLS, Remote: from}); ok {
		t.Error("a flow of a transport that is not there")
	}
	callee.Close()
	_, _ = io.Copy(io.Discard, callee)
}

// TestPhoneGone: the caller of a phone whose socket is closed hears so at once, and not after 32 s of repeating.
func TestPhoneGone(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells which address an error is about")
	}
	gone := listenUDP(t)
	target := gone.local()
	gone.Close()
	addr, _ := runNode(t, "udp", target)
	caller := listenUDP(t)
	defer caller.Close()
	caller.far = addr
	if err := caller.send(fmt.Appendf(nil, benchInvite, caller.local(), 1, len(benchSDP), benchSDP, "UDP")); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := caller.receive()
		switch {
		case err != nil:
			t.Fatal(err)
		case bytes.HasPrefix(m, []byte("SIP/2.0 480")):
			return
		case !bytes.HasPrefix(m, []byte("SIP/2.0 100")):
			t.Fatalf("%s", m)
		}
	}
}
