package node

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/phone"
	"p2psip/interwork/proxy"
)

// TestGRUUsAcrossNodes registers a phone that knows GRUUs at one node and calls it by them from another: by its public
// address, by its temporary one, and by neither once it is gone.
func TestGRUUsAcrossNodes(t *testing.T) {
	u := newUniverse(t)
	a, b := u.start(u.config(u.home("alice"))), u.start(u.config(u.home("bob")))
	alice := u.phone(a, "alice", nil)
	// bob has two phones: one whose messages the test writes, and one that must never ring for the other's GRUU.
	u.phone(b, "bob", func(c *phone.Call) { t.Error("another phone of bob's rings") })
	raw := newRawPhone(t, b)
	const instance = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
	register := func(expires int) *sip.Response {
		t.Helper()
		res := raw.register(t, "bob", fmt.Sprintf(`;+sip.instance="<%s>";expires=%d`, instance, expires))
		if res.StatusCode != 200 {
			t.Fatalf("%s", res)
		}
		return res
	}
	var pub, temp string
	for _, c := range message.Contacts(register(600)) {
		if v, ok := c.Params.Get("pub-gruu"); ok {
			pub = strings.Trim(v, `"`)
			v, _ = c.Params.Get("temp-gruu")
			temp = strings.Trim(v, `"`)
		}
	}
	if pub != "sip:bob@"+testID+";gr="+instance || !strings.HasPrefix(temp, "sip:tgruu.") {
		t.Fatalf("pub-gruu %q, temp-gruu %q", pub, temp)
	}
	ctx := testContext(t)
	call := func(uri string) error {
		t.Helper()
		c, err := alice.Call(ctx, uri)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Wait(ctx, phone.Answered)
		return err
	}
	status := func(uri string) int {
		t.Helper()
		var s *phone.StatusError
		if err := call(uri); !errors.As(err, &s) {
			t.Fatalf("%s: %v", uri, err)
		}
		return s.Status
	}
	for _, uri := range []string{pub, temp, strings.ToUpper(pub[len("sip:bob@"+testID):])} {
		if strings.HasPrefix(uri, ";") {
			uri = "sip:bob@" + testID + uri
		}
		if got := status(uri); got != 486 {
			t.Errorf("%s: %d, want what the phone says", uri, got)
		}
		if inv := raw.last("INVITE"); !strings.HasPrefix(inv, "INVITE sip:bob@"+raw.addr()) {
			t.Errorf("not addressed to the Contact:\n%s", inv)
		}
	}
	if got := status("sip:bob@" + testID + ";gr=urn:uuid:00000000-0000-0000-0000-000000000000"); got != 404 {
		t.Errorf("an unknown device: %d", got)
	}
	// Who knows no GRUUs gets one made, whether registered or not.
	for _, c := range []struct{ port, want string }{{raw.addr(), pub}, {"127.0.0.1:9", pub}} {
		contact, _ := message.ParseURI("sip:bob@" + c.port)
		aor := b.Users()[0]
		if got, ok := b.edge.GRUU(aor, raw.flow(t, b), contact); !ok || got.String() != c.want {
			t.Errorf("GRUU for %s: %s, %v", c.port, got.String(), ok)
		}
	}
	raw.register(t, "bob", fmt.Sprintf(`;+sip.instance="<%s>";expires=0`, instance))
	if got := status(pub); got != 480 {
		t.Errorf("a known device that is away: %d", got)
	}
	if got := status(temp); got != 404 {
		t.Errorf("the temporary GRUU of an ended registration: %d", got)
	}
	// A phone that has not registered is reached by a temporary GRUU at its address.
	contact, _ := message.ParseURI("sip:bob@" + raw.addr())
	place, ok := b.edge.GRUU(b.Users()[0], raw.flow(t, b), contact)
	if !ok || strings.Contains(place.String(), "bob") {
		t.Fatalf("%s, %v", place.String(), ok)
	}
	if got := status(place.String()); got != 486 {
		t.Errorf("a phone without registration: %d", got)
	}
}

// rawPhone is a UDP socket that answers every INVITE 486 and keeps what it got.
type rawPhone struct {
	pc   net.PacketConn
	node net.Addr
	got  chan sip.Message
	seen seen
	cseq int
}

func newRawPhone(t *testing.T, n *Node) *rawPhone {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &rawPhone{pc: pc, node: net.UDPAddrFromAddrPort(n.SIP()), got: make(chan sip.Message, 100)}
	done := make(chan struct{})
	t.Cleanup(func() { pc.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			size, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			m, err := message.Parse(buf[:size], true)
			if err != nil {
				continue
			}
			p.seen.trace(false, "", m)
			switch m := m.(type) {
			case *sip.Request:
				if m.Method == sip.INVITE {
					_, _ = pc.WriteTo(message.Bytes(message.NewResponse(m, 486, "")), from)
				}
			case *sip.Response:
				p.got <- m
			}
		}
	}()
	return p
}

func (p *rawPhone) addr() string              { return p.pc.LocalAddr().String() }
func (p *rawPhone) last(method string) string { return p.seen.find(method) }

func (p *rawPhone) register(t *testing.T, user, params string) *sip.Response {
	t.Helper()
	p.cseq++
	text := fmt.Sprintf("REGISTER sip:%[1]s SIP/2.0\r\nVia: SIP/2.0/UDP %[2]s;branch=z9hG4bK%[3]d\r\nFrom: <sip:%[4]s@%[1]s>;tag=1\r\nTo: <sip:%[4]s@%[1]s>\r\n"+
		"Call-ID: raw@phone\r\nCSeq: %[3]d REGISTER\r\nMax-Forwards: 70\r\nSupported: gruu\r\nContact: <sip:%[4]s@%[2]s>%[5]s\r\nContent-Length: 0\r\n\r\n",
		testID, p.addr(), p.cseq, user, params)
	if _, err := p.pc.WriteTo([]byte(text), p.node); err != nil {
		t.Fatal(err)
	}
	timeout := time.After(20 * time.Second)
	for {
		select {
		case m := <-p.got:
			if res := m.(*sip.Response); res.StatusCode >= 200 && int(res.CSeq().SeqNo) == p.cseq {
				return res
			}
		case <-timeout:
			t.Fatal("no answer to REGISTER")
		}
	}
}

// flow gives the node's flow to the phone.
func (p *rawPhone) flow(t *testing.T, n *Node) flow.Flow {
	t.Helper()
	f, ok := n.sockets.Flow(proxy.Endpoint{Transport: flow.TransportUDP, Remote: flow.AddrFrom(p.pc.LocalAddr().(*net.UDPAddr).AddrPort())})
	if !ok {
		t.Fatal("no flow")
	}
	return f
}
