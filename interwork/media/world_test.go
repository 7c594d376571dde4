package media

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"p2psip/interwork/media/sdp"
	"p2psip/overlay"
)

var loopback4 = netip.MustParseAddr("127.0.0.1")

// world is some Managers whose descriptions are carried by hand, and whose restarts by a map.
type world struct {
	t     testing.TB
	mu    sync.Mutex
	nodes map[overlay.NodeID]*Manager
	cut   bool // restarts do not get through
}

func newWorld(t testing.TB) *world {
	return &world{t: t, nodes: make(map[overlay.NodeID]*Manager)}
}

// link is the Peers of one node.
type link struct {
	w    *world
	from overlay.NodeID
}

func (l link) Renegotiate(ctx context.Context, node overlay.NodeID, token string, offer []byte) ([]byte, error) {
	l.w.mu.Lock()
	m, cut := l.w.nodes[node], l.w.cut
	l.w.mu.Unlock()
	if m == nil || cut {
		return nil, errors.New("no way there")
	}
	return m.Renegotiated(ctx, l.from, token, offer)
}

func (w *world) node(id overlay.NodeID, cfg Config) *Manager {
	w.t.Helper()
	if cfg.PortMin == 0 {
		w.mu.Lock()
		n := len(w.nodes)
		w.mu.Unlock()
		cfg.PortMin = uint16(21000 + 1000*n)
		cfg.PortMax = cfg.PortMin + 999
	}
	if cfg.Addresses == nil {
		cfg.Addresses = func() []netip.Addr { return []netip.Addr{loopback4} }
	}
	cfg.Loopback = true
	cfg.Peers = link{w, id}
	m, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(m.Close)
	w.mu.Lock()
	w.nodes[id] = m
	w.mu.Unlock()
	return m
}

// plainPhone is a scripted phone that knows RTP and RTCP and nothing else.
type plainPhone struct {
	t         testing.TB
	rtp, rtcp *net.UDPConn
	ssrc      uint32
	seq       uint16
	to        netip.AddrPort // RTP of the far side
	toRTCP    netip.AddrPort
}

func newPlainPhone(t testing.TB, ssrc uint32) *plainPhone {
	t.Helper()
	p := &plainPhone{t: t, ssrc: ssrc}
	for range 50 {
		a, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback4, 0)))
		if err != nil {
			t.Fatal(err)
		}
		at := a.LocalAddr().(*net.UDPAddr).AddrPort()
		b, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback4, at.Port()+1)))
		if err != nil {
			a.Close()
			continue
		}
		p.rtp, p.rtcp = a, b
		t.Cleanup(func() { a.Close(); b.Close() })
		return p
	}
	t.Fatal("no two ports in a row")
	return nil
}

func (p *plainPhone) addr() netip.AddrPort { return p.rtp.LocalAddr().(*net.UDPAddr).AddrPort() }

func (p *plainPhone) body(extra ...string) []byte {
	return []byte(fmt.Sprintf("v=0\r\no=phone 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"+
		"m=audio %d RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n%s",
		p.addr().Port(), strings.Join(append(extra, ""), "\r\n")))
}

// learn takes what the node says about where to send.
func (p *plainPhone) learn(body []byte) {
	p.t.Helper()
	s, err := sdp.Parse(body)
	if err != nil {
		p.t.Fatalf("phone cannot read: %v\n%s", err, body)
	}
	tr := s.Media[0].Transport()
	if tr.RTP.Port() == 0 {
		p.t.Fatalf("phone was refused:\n%s", body)
	}
	p.to, p.toRTCP = tr.RTP, tr.RTCP
}

func (p *plainPhone) say(word string) {
	p.seq++
	b := append(rtpPacket(p.seq, uint32(p.seq)*160, p.ssrc, 0), word...)
	if _, err := p.rtp.WriteToUDPAddrPort(b, p.to); err != nil {
		p.t.Logf("phone: %v", err)
	}
}

// hears waits for a word on the RTP socket; false when it does not come in time.
func (p *plainPhone) hears(word string, within time.Duration) bool {
	return hears(p.rtp, word, within)
}

func hears(c *net.UDPConn, word string, within time.Duration) bool {
	buf := make([]byte, 2000)
	_ = c.SetReadDeadline(time.Now().Add(within))
	for {
		n, _, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return false
		}
		if n >= len(word) && string(buf[n-len(word):n]) == word {
			return true
		}
	}
}

// speak says a word again and again until the other phone hears it, as speech does.
func speak(t testing.TB, from, to *plainPhone, word string, within time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	for time.Since(begin) < within {
		from.say(word)
		if to.hears(word, 20*time.Millisecond) {
			return time.Since(begin)
		}
	}
	t.Fatalf("%q was not heard within %v", word, within)
	return 0
}

// call is a dialog between two phones beside two nodes.
type call struct {
	w            *world
	a, b         *Manager
	alice, bob   *plainPhone
	id           string
	atA, atB     Dialog
	exA, exB     Exchange
	offerA       []byte // of alice's phone
	between      []byte // the offer between the nodes
	toBob        []byte
	answerB      []byte
	betweenBack  []byte
	toAlice      []byte
	cseq         uint32
	aName, bName overlay.NodeID
}

func newCall(w *world, aName, bName overlay.NodeID, id string) *call {
	c := &call{w: w, a: w.nodes[aName], b: w.nodes[bName], aName: aName, bName: bName, id: id, cseq: 1,
		alice: newPlainPhone(w.t, 0xa11ce), bob: newPlainPhone(w.t, 0xb0b)}
	c.atA = Dialog{CallID: id, FromTag: "alice", Method: "INVITE", CSeq: 1, FromPhone: true, Transaction: id + "a",
		Phone: loopback4, PhoneHost: loopback4, Node: bName, From: "sip:alice", To: "sip:bob"}
	c.atB = Dialog{CallID: id, FromTag: "alice", Method: "INVITE", CSeq: 1, Transaction: id + "b",
		Phone: loopback4, PhoneHost: loopback4, Node: aName, From: "sip:alice", To: "sip:bob"}
	return c
}

// request carries a body through an Exchange, waiting for candidates if it has to.
func request(t testing.TB, x Exchange, body []byte) []byte {
	t.Helper()
	out, err := tryRequest(x, body)
	if err != nil {
		t.Fatalf("request: %v", err)
	}
	return out
}

func tryRequest(x Exchange, body []byte) ([]byte, error) {
	type result struct {
		out []byte
		err error
	}
	later := make(chan result, 1)
	out, now, err := x.Request(body, func(out []byte, err error) { later <- result{out, err} })
	if now {
		return out, err
	}
	r := <-later
	return r.out, r.err
}

// invite goes as far as bob's phone.
func (c *call) invite() {
	t := c.w.t
	t.Helper()
	c.offerA = c.alice.body()
	c.exA = c.a.Open(c.atA)
	c.between = request(t, c.exA, c.offerA)
	c.exB = c.b.Open(c.atB)
	c.toBob = request(t, c.exB, c.between)
	c.bob.learn(c.toBob)
}

// answer goes back to alice's phone.
func (c *call) answer(status int) {
	t := c.w.t
	t.Helper()
	c.answerB = c.bob.body()
	var err error
	c.betweenBack, err = c.exB.Response(status, "bob", status >= 200, c.answerB)
	if err != nil {
		t.Fatalf("answer at bob's node: %v", err)
	}
	c.toAlice, err = c.exA.Response(status, "bob", status >= 200, c.betweenBack)
	if err != nil {
		t.Fatalf("answer at alice's node: %v", err)
	}
	c.alice.learn(c.toAlice)
}

func (c *call) end() {
	c.a.End(c.id, "alice", "bob")
	c.b.End(c.id, "alice", "bob")
}

// stream is the status of the first stream of the only call of a node.
func stream(t testing.TB, m *Manager) StreamStatus {
	t.Helper()
	st := m.Status()
	if len(st.Calls) == 0 || len(st.Calls[0].Streams) == 0 {
		t.Fatalf("no stream: %+v", st)
	}
	return st.Calls[0].Streams[0]
}

// eventually asks until the answer is yes.
func eventually(t testing.TB, what string, within time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
