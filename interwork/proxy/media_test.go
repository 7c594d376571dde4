package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/transaction/transactiontest"
	"p2psip/overlay"
)

// scriptedMedia is a Media that marks what it sees: a description leaves as "<tag of the node><number of the exchange>(<what
// came>)".
type scriptedMedia struct {
	tag       string
	exchanges []*scriptedExchange
	ended     []string
	skip      func(d MediaDialog) bool // passes untouched
	wait      bool                     // descriptions of requests come later
	fail      error
	failRes   error // of responses and ACKs
}

type scriptedExchange struct {
	m      *scriptedMedia
	n      int
	d      MediaDialog
	ready  func([]byte, error)
	in     string
	log    []string // methods called
	closed int
}

func (m *scriptedMedia) Open(d MediaDialog) MediaExchange {
	if m.skip != nil && m.skip(d) {
		return nil
	}
	e := &scriptedExchange{m: m, n: len(m.exchanges) + 1, d: d}
	m.exchanges = append(m.exchanges, e)
	return e
}

func (m *scriptedMedia) Find(d MediaDialog) MediaExchange {
	for _, e := range m.exchanges {
		if e.d.CallID == d.CallID && e.d.FromTag == d.FromTag && e.d.CSeq == d.CSeq && e.d.Method == d.Method && e.d.FromPhone == d.FromPhone {
			return e
		}
	}
	return nil
}

func (m *scriptedMedia) End(callID, fromTag, toTag string) {
	m.ended = append(m.ended, fromTag+" "+toTag)
}

func (e *scriptedExchange) mark(sdp []byte) []byte {
	if sdp == nil {
		return nil
	}
	return fmt.Appendf(nil, "%s%d(%s)", e.m.tag, e.n, sdp)
}

func (e *scriptedExchange) Request(sdp []byte, ready func([]byte, error)) ([]byte, bool, error) {
	e.in = string(sdp)
	e.log = append(e.log, "request")
	if e.m.wait {
		e.ready = ready
		return nil, false, nil
	}
	return e.mark(sdp), true, e.m.fail
}

func (e *scriptedExchange) Response(status int, toTag string, reliable bool, sdp []byte) ([]byte, error) {
	e.log = append(e.log, fmt.Sprintf("%d %s %v", status, toTag, reliable))
	return e.mark(sdp), e.m.failRes
}

func (e *scriptedExchange) Ack(toTag string, sdp []byte) ([]byte, error) {
	e.log = append(e.log, "ack "+toTag)
	return e.mark(sdp), e.m.failRes
}

func (e *scriptedExchange) Close() { e.closed++; e.log = append(e.log, "close") }

// withMedia gives a node media that marks with a tag.
func withMedia(m *scriptedMedia) func(*Config) { return func(c *Config) { c.Media = m } }

// sdp gives a message a description.
func sdp[M sip.Message](m M, text string) M {
	m.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	m.SetBody([]byte(text))
	return m
}

// wantBody looks at the body of a message, its type and its length.
func wantBody(t *testing.T, m sip.Message, want string) {
	t.Helper()
	if got := string(m.Body()); got != want {
		t.Errorf("%s has the body %q, want %q", transactiontest.Line(m), got, want)
	}
	if l := m.GetHeaders("Content-Length"); len(l) != 1 || l[0].Value() != fmt.Sprint(len(m.Body())) {
		t.Errorf("%s has Content-Length %v with %d bytes", transactiontest.Line(m), l, len(m.Body()))
	}
	if kind := m.GetHeaders("Content-Type"); (len(kind) == 1) != (want != "") {
		t.Errorf("%s with the body %q has Content-Type %v", transactiontest.Line(m), want, kind)
	}
}

// TestMediaCall is a call between two nodes with early media, a repeated 2xx, a re-INVITE, UPDATE, PRACK and BYE.
func TestMediaCall(t *testing.T) {
	newWorld(t, func(w *world) {
		ma, mb := &scriptedMedia{tag: "a"}, &scriptedMedia{tag: "b"}
		a, b := w.node(1, withMedia(ma)), w.node(2, withMedia(mb))
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 7000, 1000)
		b.bindings[bob.aor][0].ICE = true

		inv := sdp(alice.out("INVITE", bobURI), "offer")
		alice.send(inv)
		bob.expect("INVITE")
		at := bob.request("INVITE")
		wantBody(t, at, "b1(a1(offer))")
		bob.send(bob.answer(at, 180))
		early := sdp(bob.answer(at, 183), "early")
		early.AppendHeader(sip.NewHeader("RSeq", "1"))
		bob.send(early)
		final := sdp(bob.answer(at, 200), "answer")
		bob.send(final)
		alice.expect("100 180 183 200")
		wantBody(t, alice.response("180"), "")
		wantBody(t, alice.response("183"), "a1(b1(early))")
		ok := alice.response("200")
		wantBody(t, ok, "a1(b1(answer))")
		bob.send(final) // the ACK was lost
		alice.expect("200")
		wantBody(t, alice.response("200"), "a1(b1(answer))")
		alice.send(alice.within("ACK", inv, ok, true, 1))
		bob.expect("ACK")
		wantBody(t, bob.request("ACK"), "")
		da, db := ma.exchanges[0].d, mb.exchanges[0].d
		if !da.FromPhone || da.Phone != alice.f || da.PhoneHost != "127.0.1.1" || da.Node != b.id || da.Outside || da.ICE ||
			da.Method != "INVITE" || da.CSeq != 1 || da.ToTag != "" || da.From != "sip:alice@p2psip.example" || da.To != bobURI {
			t.Errorf("at alice's node: %+v", da)
		}
		if db.FromPhone || db.Phone != bob.f || db.PhoneHost != "127.0.2.1" || db.Node != a.id || db.Outside || !db.ICE {
			t.Errorf("at bob's node: %+v", db)
		}
		if log := strings.Join(mb.exchanges[0].log, ", "); log != "request, 180 bob-7000 false, 183 bob-7000 true, 200 bob-7000 true, 200 bob-7000 true, ack bob-7000" {
			t.Errorf("at bob's node: %s", log)
		}

		// A repetition of the 2xx after the transactions are gone.
		time.Sleep(40 * time.Second)
		bob.send(final)
		alice.expect("200")
		wantBody(t, alice.response("200"), "a1(b1(answer))")

		for i, method := range []string{"INVITE", "UPDATE", "PRACK"} {
			bob.send(sdp(bob.within(method, at, ok, false, 10+i), "new"))
			alice.expect(method)
			req := alice.request(method)
			wantBody(t, req, fmt.Sprintf("a%d(b%d(new))", 2+i, 2+i))
			alice.send(sdp(alice.answer(req, 200), "yes"))
			if got := bob.got(); !strings.HasSuffix(got, "200") {
				t.Fatalf("bob got %q", got)
			}
			wantBody(t, bob.response("200"), fmt.Sprintf("b%d(a%d(yes))", 2+i, 2+i))
			if d := ma.exchanges[1+i].d; d.FromPhone || d.ToTag != "alice-tag" || d.FromTag != "bob-7000" || d.Method != method || d.Node != b.id {
				t.Errorf("%s at alice's node: %+v", method, d)
			}
		}
		bob.send(bob.within("UPDATE", at, ok, false, 20)) // a session timer: nothing for Media
		alice.expect("UPDATE")
		alice.send(alice.answer(alice.request("UPDATE"), 200))
		bob.expect("200")
		alice.send(sdp(alice.within("INFO", inv, ok, true, 30), "not a session"))
		bob.expect("INFO")
		wantBody(t, bob.request("INFO"), "not a session")
		bob.send(bob.answer(bob.request("INFO"), 200))
		alice.got()

		alice.send(alice.within("BYE", inv, ok, true, 40))
		bob.expect("BYE")
		if len(ma.ended)+len(mb.ended) != 0 {
			t.Errorf("ended before the answer: %q %q", ma.ended, mb.ended)
		}
		bob.send(bob.answer(bob.request("BYE"), 200))
		alice.expect("200")
		for _, m := range []*scriptedMedia{ma, mb} {
			if !slices.Equal(m.ended, []string{"alice-tag bob-7000"}) || len(m.exchanges) != 4 {
				t.Errorf("%s: ended %q, %d exchanges", m.tag, m.ended, len(m.exchanges))
			}
			for _, e := range m.exchanges {
				if e.closed != 0 {
					t.Errorf("%s%d: %s", m.tag, e.n, e.log)
				}
			}
		}
	})
}

// TestMediaLateOffer has the offer in the 2xx and the answer in the ACK, which comes twice.
func TestMediaLateOffer(t *testing.T) {
	newWorld(t, func(w *world) {
		ma, mb := &scriptedMedia{tag: "a"}, &scriptedMedia{tag: "b"}
		a, b := w.node(1, withMedia(ma)), w.node(2, withMedia(mb))
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportTCP, 7000, 1000)
		inv := alice.out("INVITE", bobURI)
		alice.send(inv)
		bob.expect("INVITE")
		wantBody(t, bob.request("INVITE"), "")
		bob.send(sdp(bob.answer(bob.request("INVITE"), 200), "offer"))
		alice.expect("100 200")
		ok := alice.response("200")
		wantBody(t, ok, "a1(b1(offer))")
		for range 2 {
			alice.send(sdp(alice.within("ACK", inv, ok, true, 1), "answer"))
			bob.expect("ACK")
			wantBody(t, bob.request("ACK"), "b1(a1(answer))")
		}
		ma.failRes = errors.New("no")
		alice.send(sdp(alice.within("ACK", inv, ok, true, 1), "answer"))
		bob.expect("ACK")
		wantBody(t, bob.request("ACK"), "")
	})
}

// TestMediaFork rings phones at several nodes: each branch has a description of its own, and what loses is closed.
func TestMediaFork(t *testing.T) {
	newWorld(t, func(w *world) {
		ma, mb := &scriptedMedia{tag: "a"}, &scriptedMedia{tag: "b"}
		a, b, c := w.node(1, withMedia(ma)), w.node(2, withMedia(mb)), w.node(3)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		desk, sofa := b.phone("bob", flow.TransportTCP, 7000, 1000), b.phone("bob", flow.TransportTCP, 7002, 1000)
		mobile, local := c.phone("bob", flow.TransportTCP, 7001, 1000), a.phone("bob", flow.TransportTCP, 7003, 1000)
		alice.send(sdp(alice.out("INVITE", bobURI), "offer"))
		for _, p := range []*phone{desk, sofa, mobile, local} {
			p.expect("INVITE")
		}
		wantBody(t, local.request("INVITE"), "offer") // two phones of one node
		one, two := string(desk.request("INVITE").Body()), string(mobile.request("INVITE").Body())
		if i, j := strings.Index(one, "a"), strings.Index(two, "a"); one[i:i+2] == two[j:j+2] {
			t.Errorf("two nodes got one description: %s and %s", one, two)
		}
		if e := mb.exchanges; len(e) != 2 || e[0].d.Transaction != e[1].d.Transaction || e[0].d.Transaction == "" || e[0].d.Phone == e[1].d.Phone {
			t.Errorf("two phones of one node: %+v", e)
		}
		sofa.send(sofa.answer(sofa.request("INVITE"), 486))
		desk.send(sdp(desk.answer(desk.request("INVITE"), 200), "answer"))
		alice.expect("100 200")
		for _, p := range []*phone{mobile, local} {
			p.got()
			p.send(p.answer(p.request("INVITE"), 487))
		}
		for _, e := range mb.exchanges {
			if lost := e.d.Phone == sofa.f; lost != (e.closed == 1) {
				t.Errorf("the exchange of %s: %q", e.d.Phone.Remote(), e.log)
			}
		}
		for _, e := range ma.exchanges {
			if lost := e.d.Node == c.id; lost != (e.closed == 1) {
				t.Errorf("the exchange with %s: %q", e.d.Node, e.log)
			}
		}
		if len(ma.exchanges) != 2 {
			t.Errorf("%d exchanges at alice's node", len(ma.exchanges))
		}
	})
}

type status int

func (s status) Error() string  { return "no such codec" }
func (s status) SIPStatus() int { return int(s) }

// TestMediaWaits has the description come later, or not at all, while things happen.
func TestMediaWaits(t *testing.T) {
	for _, c := range []struct {
		name   string
		happen func(w *world, m *scriptedMedia, alice, bob *phone, inv *sip.Request)
		alice  string // what she gets after the 100
		rings  bool
	}{
		{"it comes", func(w *world, m *scriptedMedia, _, _ *phone, _ *sip.Request) {
			time.Sleep(1200 * time.Millisecond)
			m.exchanges[0].ready([]byte("gathered"), nil)
			w.run()
		}, "", true},
		{"it comes twice", func(w *world, m *scriptedMedia, _, _ *phone, _ *sip.Request) {
			m.exchanges[0].ready([]byte("gathered"), nil)
			m.exchanges[0].ready([]byte("again"), nil)
			w.run()
		}, "", true},
		{"it never comes", func(w *world, m *scriptedMedia, _, _ *phone, _ *sip.Request) {
			w.after(1500 * time.Millisecond)
			m.exchanges[0].ready([]byte("too late"), nil)
			w.run()
		}, "500", false},
		{"it is refused", func(w *world, m *scriptedMedia, _, _ *phone, _ *sip.Request) {
			m.exchanges[0].ready(nil, status(488))
			w.run()
		}, "488", false},
		{"an error", func(w *world, m *scriptedMedia, _, _ *phone, _ *sip.Request) {
			m.exchanges[0].ready(nil, errors.New("x"))
			w.run()
		}, "500", false},
		{"too large", func(w *world, m *scriptedMedia, _, _ *phone, _ *sip.Request) {
			m.exchanges[0].ready([]byte(strings.Repeat("x", maxDescribed+1)), nil)
			w.run()
		}, "513", false},
		{"she gives up", func(w *world, m *scriptedMedia, alice, _ *phone, inv *sip.Request) {
			alice.send(cancelOf(inv))
			m.exchanges[0].ready([]byte("gathered"), nil)
			w.run()
		}, "200 487", false},
		{"her flow is lost", func(w *world, m *scriptedMedia, alice, _ *phone, _ *sip.Request) {
			alice.f.Close()
			alice.n.core.Layer().HandleClosed(alice.f)
			w.run()
			m.exchanges[0].ready([]byte("gathered"), nil)
			w.run()
		}, "", false},
	} {
		for _, where := range []string{"alice's node", "bob's node"} {
			t.Run(c.name+" at "+where, func(t *testing.T) {
				newWorld(t, func(w *world) {
					m := &scriptedMedia{tag: "m", wait: true}
					var a, b *node
					if where == "alice's node" {
						a, b = w.node(1, withMedia(m)), w.node(2)
					} else {
						a, b = w.node(1), w.node(2, withMedia(m))
					}
					alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), b.phone("bob", flow.TransportTCP, 7000, 1000)
					inv := sdp(alice.out("INVITE", bobURI), "offer")
					alice.send(inv)
					bob.expect("")
					alice.expect("100")
					c.happen(w, m, alice, bob, inv)
					alice.expect(c.alice)
					e := m.exchanges[0]
					if c.rings {
						bob.expect("INVITE")
						wantBody(t, bob.request("INVITE"), "gathered")
						bob.send(bob.answer(bob.request("INVITE"), 486))
						alice.expect("486")
					}
					bob.got()
					if e.closed != 1 || len(m.exchanges) != 1 {
						t.Errorf("%d exchanges, %q", len(m.exchanges), e.log)
					}
				})
			})
		}
	}
}

// cancelOf makes the CANCEL of a request as sent.
func cancelOf(req *sip.Request) *sip.Request {
	text := fmt.Sprintf("CANCEL %s SIP/2.0\nVia: %s\nFrom: %s\nTo: %s\nCall-ID: %s\nCSeq: %d CANCEL\nMax-Forwards: 70\nContent-Length: 0\n",
		req.Recipient.String(), req.Via().Value(), req.From().Value(), req.To().Value(), req.CallID().Value(), req.CSeq().SeqNo)
	return transactiontest.Parse(text).(*sip.Request)
}

// TestMediaOutside calls out of the overlay and in, with one proxy peer dead: the places tried share a description, and the
// proxy peer asks nobody about calls of others.
func TestMediaOutside(t *testing.T) {
	newWorld(t, func(w *world) {
		ma, mp := &scriptedMedia{tag: "a", wait: true}, &scriptedMedia{tag: "p"}
		p1, _ := w.proxyPeer(8)
		p2, out := w.proxyPeer(9)
		p2.core.cfg.Media = mp
		a := w.node(1, withMedia(ma), func(c *Config) { c.Proxies = &through{nodes: []*node{p1, p2}} })
		p1.kill()
		a.dial = func(_ context.Context, to overlay.NodeID) error {
			if to == p1.id {
				return errors.New("dead")
			}
			return nil
		}
		alice := a.phone("alice", flow.TransportUDP, 6000, 1000)
		h := out.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com")
		out.hops["example.com"], out.hops["192.0.2.7"] = []Hop{h}, []Hop{h}
		carol := out.outsider("sip:carol@example.com", h)
		inv := sdp(alice.out("INVITE", "sip:carol@example.com"), "offer")
		alice.send(inv)
		carol.expect("")
		ma.exchanges[0].ready([]byte("relayed"), nil)
		w.run()
		carol.expect("INVITE")
		at := carol.request("INVITE")
		wantBody(t, at, "relayed")
		carol.send(sdp(carol.answer(at, 200), "answer"))
		alice.expect("100 200")
		wantBody(t, alice.response("200"), "a1(answer)")
		if d := ma.exchanges[0].d; !d.Outside || d.Node != "" || !d.FromPhone {
			t.Errorf("%+v", d)
		}
		if len(ma.exchanges) != 1 || ma.exchanges[0].closed != 0 || len(mp.exchanges) != 0 {
			t.Errorf("%d exchanges, %q; %d at the proxy peer", len(ma.exchanges), ma.exchanges[0].log, len(mp.exchanges))
		}
		ok := alice.response("200")
		alice.send(alice.within("ACK", inv, ok, true, 1))
		carol.expect("ACK")
		ma.wait = false
		carol.send(sdp(carol.within("INVITE", at, carol.answer(at, 200), false, 2), "hold"))
		alice.expect("INVITE")
		wantBody(t, alice.request("INVITE"), "a2(hold)")
		if d := ma.exchanges[1].d; !d.Outside || d.Node != p2.id || d.FromPhone {
			t.Errorf("%+v", d)
		}
		alice.send(alice.answer(alice.request("INVITE"), 481)) // alice's phone was restarted
		carol.got()
		if e := ma.exchanges[1]; e.closed != 1 || !slices.Equal(ma.ended, []string{"outsider-9 alice-tag"}) && len(ma.ended) != 1 {
			t.Errorf("after 481: %q, ended %q", e.log, ma.ended)
		}

		// A phone beside the proxy peer itself.
		paul := p2.phone("paul", flow.TransportUDP, 6001, 1000)
		paul.send(sdp(paul.out("INVITE", "sip:carol@example.com"), "offer"))
		carol.expect("INVITE")
		wantBody(t, carol.request("INVITE"), "p1(offer)")
		carol.send(carol.answer(carol.request("INVITE"), 486))
		paul.expect("100 486")
		carol.got()
		carol.send(sdp(carol.invite("INVITE", "sip:paul@p2psip.example"), "offer"))
		if got := paul.got(); !strings.HasPrefix(got, "INVITE") {
			t.Fatalf("paul got %q", got)
		}
		wantBody(t, paul.request("INVITE"), "p2(offer)")
		paul.send(sdp(paul.answer(paul.request("INVITE"), 200), "answer"))
		carol.expect("100 200")
		wantBody(t, carol.response("200"), "p2(answer)")
		if d := mp.exchanges[1].d; !d.Outside || d.Node != "" || d.FromPhone {
			t.Errorf("%+v", d)
		}
	})
}

// TestMediaResponses is what becomes of descriptions that Media makes nothing of, and of those in a refusal.
func TestMediaResponses(t *testing.T) {
	newWorld(t, func(w *world) {
		m := &scriptedMedia{tag: "a", failRes: errors.New("no")}
		a, b := w.node(1, withMedia(m)), w.node(2)
		alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), b.phone("bob", flow.TransportTCP, 7000, 1000)
		for _, s := range []int{200, 488} {
			alice.send(sdp(alice.out("INVITE", bobURI), "offer"))
			bob.expect("INVITE")
			bob.send(sdp(bob.answer(bob.request("INVITE"), s), "answer"))
			alice.expect(fmt.Sprintf("100 %d", s))
			wantBody(t, alice.response(fmt.Sprint(s)), "")
			bob.got()
		}
		m.skip = func(MediaDialog) bool { return true }
		alice.send(sdp(alice.out("INVITE", bobURI), "offer"))
		bob.expect("INVITE")
		wantBody(t, bob.request("INVITE"), "offer")
		bob.send(sdp(bob.answer(bob.request("INVITE"), 200), "answer"))
		alice.expect("100 200")
		wantBody(t, alice.response("200"), "answer")
	})
}

// TestMediaRestart kills alice's node in a call: what comes of her phone next is anchored anew.
func TestMediaRestart(t *testing.T) {
	newWorld(t, func(w *world) {
		ma, mb := &scriptedMedia{tag: "a"}, &scriptedMedia{tag: "b"}
		a, b := w.node(1, withMedia(ma)), w.node(2, withMedia(mb))
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 7000, 1000)
		inv, ok := call(alice, bob, bobURI)
		again := &scriptedMedia{tag: "A"}
		a.cfg.Media = again
		a.restart()
		w.run()
		alice.send(sdp(alice.within("INVITE", inv, ok, true, 2), "hold"))
		bob.expect("INVITE")
		wantBody(t, bob.request("INVITE"), "b2(A1(hold))")
		if d := again.exchanges[0].d; d.ToTag != "bob-7000" || !d.FromPhone || d.Node != b.id {
			t.Errorf("%+v", d)
		}
		bob.send(sdp(bob.answer(bob.request("INVITE"), 200), "held"))
		if got := alice.got(); !strings.HasSuffix(got, "200") {
			t.Fatalf("alice got %q", got)
		}
		wantBody(t, alice.response("200"), "A1(b2(held))")
	})
}

// TestMediaSessionRunsOut ends the media of a call that nobody refreshes.
func TestMediaSessionRunsOut(t *testing.T) {
	newWorld(t, func(w *world) {
		ma := &scriptedMedia{tag: "a"}
		a, b := w.node(1, withMedia(ma)), w.node(2)
		alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), b.phone("bob", flow.TransportTCP, 7000, 1000)
		alice.send(sdp(alice.out("INVITE", bobURI), "offer"))
		bob.expect("INVITE")
		res := bob.answer(bob.request("INVITE"), 200)
		res.AppendHeader(sip.NewHeader("Session-Expires", "90;refresher=uac"))
		bob.send(res)
		alice.expect("100 200")
		time.Sleep(121 * time.Second)
		a.core.Stats()
		if len(ma.ended) != 0 {
			t.Errorf("ended early: %q", ma.ended)
		}
		time.Sleep(2 * time.Second)
		a.core.Stats()
		if len(ma.ended) != 1 {
			t.Errorf("ended: %q", ma.ended)
		}
	})
}

// TestMediaAndSilence has descriptions take a second and the first proxy peer be silent: the caller hears within 4 s all the
// same, and what was gathered serves the next proxy peer.
func TestMediaAndSilence(t *testing.T) {
	newWorld(t, func(w *world) {
		m := &scriptedMedia{tag: "a"}
		p1, out1 := w.proxyPeer(8)
		p2, out2 := w.proxyPeer(9)
		a := w.node(1, withMedia(m), func(c *Config) { c.Proxies = &through{nodes: []*node{p1, p2}} })
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		for _, o := range []*outside{out1, out2} {
			o.hops["example.com"] = []Hop{o.hop(flow.TransportTCP, "192.0.2.7:5060", "example.com")}
		}
		first := out1.outsider("sip:carol@example.com", out1.hops["example.com"][0])
		alice.send(sdp(alice.out("INVITE", "sip:carol@example.com"), "offer"))
		first.expect("INVITE")
		first.send(first.answer(first.request("INVITE"), 486))
		alice.expect("100 486")
		if e := m.exchanges[0]; e.closed != 1 {
			t.Errorf("after 486: %q", e.log)
		}
		p1.kill()

		m.wait = true
		began := time.Now()
		alice.send(sdp(alice.out("INVITE", "sip:carol@example.com"), "offer"))
		time.Sleep(time.Second)
		m.exchanges[1].ready([]byte("gathered"), nil)
		carol := out2.outsider("sip:carol@example.com", out2.hops["example.com"][0])
		for got := ""; got == ""; got = carol.got() {
			if time.Since(began) > 4*time.Second {
				t.Fatal("nothing arrives outside within 4 s")
			}
			w.after(100 * time.Millisecond)
		}
		wantBody(t, carol.request("INVITE"), "gathered")
		carol.send(sdp(carol.answer(carol.request("INVITE"), 180), "early"))
		alice.expect("100 180")
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("she hears after %v", took)
		}
		if len(m.exchanges) != 2 {
			t.Errorf("%d exchanges for two calls", len(m.exchanges))
		}
	})
}

// TestMediaHangUp ends the media of a call whose phone says BYE and is gone, and whose other side never answers.
func TestMediaHangUp(t *testing.T) {
	for _, gone := range []bool{true, false} {
		newWorld(t, func(w *world) {
			ma := &scriptedMedia{tag: "a"}
			a, b := w.node(1, withMedia(ma)), w.node(2)
			alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), b.phone("bob", flow.TransportUDP, 7000, 1000)
			inv, ok := call(alice, bob, bobURI)
			alice.send(alice.within("BYE", inv, ok, true, 2))
			bob.expect("BYE")
			if gone {
				alice.f.Close()
				a.core.Layer().HandleClosed(alice.f)
				w.run()
			} else {
				w.after(40 * time.Second)
			}
			if len(ma.ended) != 1 {
				t.Errorf("phone gone: %v; ended: %q", gone, ma.ended)
			}
		})
	}
}

// TestMediaUnanswered has somebody call and call and let it ring: there is an end to it, and others are not held up.
func TestMediaUnanswered(t *testing.T) {
	newWorld(t, func(w *world) {
		m := &scriptedMedia{tag: "b"}
		a, b := w.node(1), w.node(2, withMedia(m), func(c *Config) { c.Limits.MediaPerFlow = 3 })
		o := w.node(3)
		alice, carol := a.phone("alice", flow.TransportTCP, 6000, 1000), o.phone("carol", flow.TransportTCP, 6001, 1000)
		bob := b.phone("bob", flow.TransportTCP, 7000, 1000)
		var rings []*sip.Request
		for range 3 {
			alice.send(sdp(alice.out("INVITE", bobURI), "offer"))
			bob.expect("INVITE")
			rings = append(rings, bob.request("INVITE"))
			alice.expect("100")
		}
		alice.send(sdp(alice.out("INVITE", bobURI), "offer"))
		bob.expect("")
		alice.expect("100 500") // a 503 for her node
		carol.send(sdp(carol.out("INVITE", bobURI), "offer"))
		bob.expect("INVITE")
		carol.got()
		bob.send(bob.answer(rings[0], 486))
		bob.send(sdp(bob.answer(rings[1], 200), "answer"))
		alice.got()
		for range 2 {
			alice.send(sdp(alice.out("INVITE", bobURI), "offer"))
			if got := bob.got(); !strings.HasSuffix(got, "INVITE") {
				t.Errorf("bob got %q after two of the calls were answered", got)
			}
		}
		bob.send(sdp(bob.answer(rings[1], 200), "answer")) // again: counted once
		alice.got()
		alice.send(sdp(alice.out("INVITE", bobURI), "offer"))
		if got := bob.got(); strings.Contains(got, "INVITE") {
			t.Errorf("bob got %q", got)
		}
		if n := len(m.exchanges); n != 6 {
			t.Errorf("%d exchanges", n)
		}
	})
}

// TestMediaRefusesCaller: a 503 of the caller's own node reaches the phone as it is.
func TestMediaRefusesCaller(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1, withMedia(&scriptedMedia{tag: "a", fail: status(503)})), w.node(2)
		alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), b.phone("bob", flow.TransportTCP, 7000, 1000)
		alice.send(sdp(alice.out("INVITE", bobURI), "offer"))
		bob.expect("")
		alice.expect("100 503")
		if why := values(alice.response("503"), "Warning"); len(why) != 1 || !strings.Contains(why[0], "no such codec") {
			t.Errorf("Warning: %q", why)
		}
	})
}
