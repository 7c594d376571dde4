package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
	"p2psip/interwork/phone/audio"
)

// plainPhone is a phone under a test's very hand: it says what the test writes, with whatever description, and speaks plain
// RTP. Nothing is repeated or answered by itself.
type plainPhone struct {
	t    testing.TB
	user string
	node netip.AddrPort
	sip  *net.UDPConn
	rtp  *net.UDPConn
	in   chan sip.Message

	mu    sync.Mutex // guards what follows
	heard []packet   // the last ones
	codec byte       // of what was heard last
	from  netip.AddrPort
	count int
	last  time.Time     // the newest packet
	gap   time.Duration // the longest between two
}

// packet is what arrived in one RTP packet.
type packet struct {
	time    uint32
	codec   byte
	payload []byte
}

// maxHeard is how many are kept: a second.
const maxHeard = 50

// plainCall is a dialog of a plainPhone.
type plainCall struct {
	id, local, remote, target string // From and To values of this side's requests
	routes                    []string
	cseq                      int
	via                       string // of the INVITE
	uri                       string
	in                        *sip.Request // the INVITE that came
}

func newPlainPhone(t *testing.T, n *Node, user string) *plainPhone {
	t.Helper()
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	p := &plainPhone{t: t, user: user, node: n.SIP(), sip: listen(), rtp: listen(), in: make(chan sip.Message, 256)}
	var wg sync.WaitGroup
	wg.Go(p.readSIP)
	wg.Go(p.readRTP)
	t.Cleanup(func() { p.sip.Close(); p.rtp.Close(); wg.Wait() })
	return p
}

func (p *plainPhone) readSIP() {
	b := make([]byte, 65536)
	for {
		n, err := p.sip.Read(b)
		if err != nil {
			return
		}
		if m, err := message.Parse(b[:n], true); err == nil {
			select {
			case p.in <- m:
			default:
			}
		}
	}
}

func (p *plainPhone) readRTP() {
	b := make([]byte, 2048)
	for {
		n, from, err := p.rtp.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if n < 12 || b[0]>>6 != 2 {
			continue
		}
		p.mu.Lock()
		p.from, p.codec = from, b[1]&0x7f
		now := time.Now()
		if !p.last.IsZero() {
			p.gap = max(p.gap, now.Sub(p.last))
		}
		p.last = now
		p.count++
		if len(p.heard) == maxHeard {
			p.heard = p.heard[1:]
		}
		p.heard = append(p.heard, packet{binary.BigEndian.Uint32(b[4:]), p.codec, bytes.Clone(b[12:n])})
		p.mu.Unlock()
	}
}

// forget begins to listen anew.
func (p *plainPhone) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard, p.count, p.last, p.gap = nil, 0, time.Time{}, 0
}

// packets gives how many have come since forget.
func (p *plainPhone) packets() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// play sends sound to where a description says, frame by frame, until the returned function is called.
func (p *plainPhone) play(description []byte, codec byte, sound []int16) (stop func()) {
	to := mediaAt(p.t, description)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(audio.FrameTime)
		defer tick.Stop()
		b := []byte{0x80, codec, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(b[8:], rand.Uint32()) // numbers that began again with the same source would be replays
		for i := 0; ; i++ {
			binary.BigEndian.PutUint16(b[2:], uint16(i))
			binary.BigEndian.PutUint32(b[4:], uint32(i*audio.FrameLength))
			b = append(b[:12], frameAt(uint32(i*audio.FrameLength), codec, sound)...)
			_, _ = p.rtp.WriteToUDPAddrPort(b, to)
			select {
			case <-tick.C:
			case <-quit:
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(quit); <-done })
}

// waitHeard waits until half a second of what has come is what was played, octet by octet.
func (p *plainPhone) waitHeard(ctx context.Context, sound []int16) error {
	const enough = 25
	for {
		p.mu.Lock()
		alike := 0
		for _, h := range p.heard {
			if bytes.Equal(h.payload, frameAt(h.time, h.codec, sound)) {
				alike++
			}
		}
		p.mu.Unlock()
		if alike >= enough {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s heard %d packets; of the last %d are %d what was sent: %w", p.user, p.packets(), maxHeard, alike, ctx.Err())
		case <-time.After(20 * time.Millisecond): // sound takes its time
		}
	}
}

// frameAt is what the packet with a time stamp carries of a sound that is played again and again.
func frameAt(stamp uint32, codec byte, sound []int16) []byte {
	at := int(stamp) % (len(sound) - audio.FrameLength)
	if codec == 8 {
		return audio.EncodeALaw(nil, sound[at:at+audio.FrameLength])
	}
	return audio.EncodeULaw(nil, sound[at:at+audio.FrameLength])
}

// mediaAt gives where the first stream of a description wants its packets.
func mediaAt(t testing.TB, description []byte) netip.AddrPort {
	t.Helper()
	c := regexp.MustCompile(`(?m)^c=IN IP4 ([0-9.]+)`).FindSubmatch(description)
	m := regexp.MustCompile(`(?m)^m=audio ([0-9]+) `).FindSubmatch(description)
	if c == nil || m == nil {
		t.Fatalf("no place for sound in %q", description)
	}
	port, _ := strconv.Atoi(string(m[1]))
	return netip.AddrPortFrom(netip.MustParseAddr(string(c[1])), uint16(port))
}

// offer makes a description: payload types such as "0 8", a direction, a version.
func (p *plainPhone) offer(types, direction string, version int) string {
	port := p.rtp.LocalAddr().(*net.UDPAddr).Port
	return fmt.Sprintf("v=0\r\no=%s 77 %d IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP %s\r\na=%s\r\n",
		p.user, version, port, types, direction)
}

func (p *plainPhone) contact() string { return fmt.Sprintf("<sip:%s@%s>", p.user, p.sip.LocalAddr()) }

func (p *plainPhone) send(lines []string, body string) {
	p.t.Helper()
	if body != "" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)), "", body)
	if _, err := p.sip.WriteToUDPAddrPort([]byte(strings.Join(lines, "\r\n")), p.node); err != nil {
		p.t.Error(err)
	}
}

var branchNo struct {
	sync.Mutex
	n int
}

func newBranch() string {
	branchNo.Lock()
	defer branchNo.Unlock()
	branchNo.n++
	return fmt.Sprintf("z9hG4bKplain%d", branchNo.n)
}

// register binds the phone's address, with parameters such as ";+sip.ice". As a phone does, it tries again while the overlay
// cannot be reached.
func (p *plainPhone) register(params string) {
	p.t.Helper()
	aor := "sip:" + p.user + "@" + testID
	for range 10 {
		p.send([]string{"REGISTER sip:" + testID + " SIP/2.0", "Via: SIP/2.0/UDP " + p.sip.LocalAddr().String() + ";rport;branch=" + newBranch(),
			"From: <" + aor + ">;tag=r", "To: <" + aor + ">", "Call-ID: " + newBranch(), "CSeq: 1 REGISTER", "Contact: " + p.contact() + params,
			"Max-Forwards: 70", "Expires: 3600"}, "")
		res := p.next("200 to REGISTER", func(m sip.Message) bool {
			res, ok := m.(*sip.Response)
			return ok && res.StatusCode >= 200 && res.CSeq().MethodName == sip.REGISTER
		}).(*sip.Response)
		if res.StatusCode == 200 {
			return
		}
	}
	p.t.Fatalf("%s cannot register", p.user)
}

// next waits for the next message that is wanted; others are thrown away.
func (p *plainPhone) next(what string, want func(sip.Message) bool) sip.Message {
	p.t.Helper()
	late := time.After(15 * time.Second)
	var others []string
	for {
		select {
		case m := <-p.in:
			if want(m) {
				return m
			}
			line, _, _ := strings.Cut(m.String(), "\r\n")
			others = append(others, line)
		case <-late:
			p.t.Fatalf("%s waits for %s and got %q", p.user, what, others)
		}
	}
}

// response waits for a response to a method.
func (p *plainPhone) response(method string, status int) *sip.Response {
	p.t.Helper()
	return p.next(fmt.Sprintf("%d to %s", status, method), func(m sip.Message) bool {
		res, ok := m.(*sip.Response)
		return ok && res.StatusCode == status && string(res.CSeq().MethodName) == method
	}).(*sip.Response)
}

// request waits for a request, with another CSeq than that of the last one for an INVITE.
func (p *plainPhone) request(method string) *sip.Request {
	p.t.Helper()
	return p.next(method, func(m sip.Message) bool {
		req, ok := m.(*sip.Request)
		return ok && string(req.Method) == method
	}).(*sip.Request)
}

// invite calls uri.
func (p *plainPhone) invite(uri, body string, extra ...string) *plainCall {
	p.t.Helper()
	d := &plainCall{id: newBranch(), local: "<sip:" + p.user + "@" + testID + ">;tag=" + newBranch(), remote: "<" + uri + ">", target: uri, uri: uri}
	d.via = p.ask(d, "INVITE", body, extra...)
	return d
}

// ask sends a request of a dialog and gives its branch.
func (p *plainPhone) ask(d *plainCall, method, body string, extra ...string) string {
	p.t.Helper()
	branch := newBranch()
	if method != "ACK" && method != "CANCEL" {
		d.cseq++
	}
	if method == "CANCEL" {
		branch = d.via
	}
	lines := []string{method + " " + d.target + " SIP/2.0", "Via: SIP/2.0/UDP " + p.sip.LocalAddr().String() + ";rport;branch=" + branch}
	for _, r := range d.routes {
		lines = append(lines, "Route: "+r)
	}
	p.send(append(append(lines, extra...), "From: "+d.local, "To: "+d.remote, "Call-ID: "+d.id, fmt.Sprintf("CSeq: %d %s", d.cseq, method),
		"Contact: "+p.contact(), "Max-Forwards: 70"), body)
	return branch
}

// answered takes the 2xx to this side's INVITE into the dialog,
// or a provisional response that begins an early one.
func (p *plainPhone) answered(d *plainCall, res *sip.Response) {
	d.remote = res.To().Value()
	d.target = res.Contact().Address.String()
	d.routes = nil
	for _, h := range res.GetHeaders("Record-Route") {
		d.routes = append(d.routes, h.Value())
	}
	slices.Reverse(d.routes)
}

// rung takes an INVITE into a dialog.
func (p *plainPhone) rung(req *sip.Request) *plainCall {
	d := &plainCall{id: req.CallID().Value(), local: req.To().Value() + ";tag=" + newBranch(), remote: req.From().Value(), in: req,
		target: req.Contact().Address.String(), cseq: 100}
	for _, h := range req.GetHeaders("Record-Route") {
		d.routes = append(d.routes, h.Value())
	}
	return d
}

// respond answers a request of a dialog.
func (p *plainPhone) respond(d *plainCall, req *sip.Request, status int, body string, extra ...string) {
	p.t.Helper()
	lines := []string{fmt.Sprintf("SIP/2.0 %d %s", status, message.StatusText(status))}
	for _, name := range []string{"Via", "Record-Route"} {
		for _, h := range req.GetHeaders(name) {
			lines = append(lines, name+": "+h.Value())
		}
	}
	to := req.To().Value()
	if !strings.Contains(to, "tag=") {
		to = d.local
	}
	p.send(append(append(lines, extra...), "From: "+req.From().Value(), "To: "+to, "Call-ID: "+req.CallID().Value(), "CSeq: "+req.CSeq().Value(),
		"Contact: "+p.contact()), body)
}
