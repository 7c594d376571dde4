package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"p2psip/interwork/phone/audio"
	"p2psip/interwork/phonetest"
)

// newMediaBorderWorld is a border world with relay peers, where sound passes through alice's node.
func newMediaBorderWorld(t *testing.T) *borderWorld {
	t.Helper()
	w := newBorderWorldWith(t, false, func(w *borderWorld, c *Config) {
		for _, r := range []*Node{w.relayPeer(), w.relayPeer()} {
			ctx := testContext(t)
			for r.Status().Relay.Adverts == 0 { // a node that looks before is content with what there is for some time
				select {
				case <-ctx.Done():
					t.Fatalf("a relay peer is not advertised: %+v", r.Status().Relay)
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
		c.Media = &MediaConfig{PortMin: 21600, PortMax: 21699}
	})
	ctx := testContext(t)
	for {
		ready := 0
		for _, r := range w.node.Status().Relays {
			if r.Chosen {
				ready++
			}
		}
		if ready == 2 {
			return w
		}
		select {
		case <-ctx.Done():
			t.Fatalf("alice's node knows the relay peers %+v", w.node.Status().Relays)
		case <-time.After(50 * time.Millisecond): // they are being advertised
		}
	}
}

// outsideKind is a kind of phone that carol has.
type outsideKind struct {
	name, params string
	modules      []string
	onePort      bool
	encrypted    string // how her sound is protected, as alice's node says
}

// outsideKinds are a phone that knows nothing but RTP, one that does ICE and no more, and one that does ICE and DTLS. The last
// is for calls from outside: baresip refuses an offer of RTP/AVP then, even with a fingerprint beside it (RFC 8643).
var outsideKinds = []outsideKind{
	{name: "plain RTP", encrypted: encryptedNot},
	{name: "ICE", params: ";medianat=ice", modules: []string{"ice"}, onePort: true, encrypted: encryptedNot},
	{name: "ICE and DTLS", params: ";medianat=ice;mediaenc=dtls_srtp", modules: []string{"srtp", "dtls_srtp", "ice"}, onePort: true, encrypted: encryptedFar},
}

// speakers starts the phones of alice and carol, each with a voice of its own.
func (w *borderWorld) speakers(ctx context.Context, kind outsideKind) (alice, carol *phonetest.Baresip, hers, theirs []int16) {
	w.t.Helper()
	hers, theirs = phonetest.Speech(1, 3*time.Second), phonetest.Speech(2, 3*time.Second)
	alice = phonetest.StartBaresip(w.t, phonetest.BaresipConfig{AOR: "sip:alice@" + testID, Proxy: w.node.SIP().String(), Sound: hers})
	carol = phonetest.StartBaresip(w.t, phonetest.BaresipConfig{AOR: "sip:carol@provider.example", Proxy: w.out.provider.String(),
		AuthUser: "carol", Password: "secret", Sound: theirs, Params: kind.params, Modules: kind.modules, OnePort: kind.onePort})
	for _, p := range []*phonetest.Baresip{alice, carol} {
		if err := p.Register(ctx); err != nil {
			w.t.Fatal(err)
		}
	}
	return alice, carol, hers, theirs
}

// relayed looks at a description that has left the overlay: sound is wanted at an address of a relay peer (RFC 8656), where
// somebody without ICE sends it too, plain RTP is offered (RFC 8643), and no port towards the phone is named.
func (w *borderWorld) relayed(message string, offer, plain bool) {
	w.t.Helper()
	_, body, _ := strings.Cut(message, "\r\n\r\n")
	at := mediaAt(w.t, []byte(body))
	if p := at.Port(); p >= 21600 && p <= 21699 {
		w.t.Errorf("outside, sound is wanted at the node's port for its phone, %s", at)
	}
	if (offer || plain) && !strings.Contains(body, " RTP/AVP ") {
		w.t.Errorf("outside is asked for more than plain RTP:\n%s", body)
	}
	if offer && (!strings.Contains(body, "a=candidate:") || !strings.Contains(body, "typ relay") || !strings.Contains(body, "a=fingerprint:")) {
		w.t.Errorf("no relayed candidate or no fingerprint in the offer:\n%s", body)
	}
	found := !plain // who does ICE may find a better way
	for _, s := range w.node.Status().Calls {
		if s.Media != nil {
			for _, st := range s.Media.Streams {
				found = found || st.Local == at
			}
		}
	}
	if !found {
		w.t.Errorf("the path of the call does not begin at %s, which was told outside: %+v", at, w.node.Status().Calls[0].Media)
	}
}

// talkOutside compares what both have heard with what was said, and looks at the status of alice's node.
func (w *borderWorld) talkOutside(ctx context.Context, kind outsideKind, alice, carol *phonetest.Baresip, hers, theirs []int16) {
	w.t.Helper()
	if err := carol.WaitRecording(ctx, hers[audio.Rate:audio.Rate+audio.Rate/2], 0.98); err != nil {
		w.t.Error(err)
	}
	if err := alice.WaitRecording(ctx, theirs[audio.Rate:audio.Rate+audio.Rate/2], 0.98); err != nil {
		w.t.Error(err)
	}
	s := w.node.Status()
	if len(s.Calls) != 1 || s.Calls[0].Media == nil {
		w.t.Fatalf("calls: %+v", s.Calls)
	}
	m := s.Calls[0].Media
	known := false
	for _, r := range s.Relays {
		known = known || len(m.Relays) == 1 && r.Node == m.Relays[0]
	}
	if plain := kind.params == ""; m.Path == "" || plain && (m.Path != "relayed" || !known) || m.Encrypted != kind.encrypted {
		w.t.Errorf("the status of the call: %+v; relay peers %+v", m, s.Relays)
	}
}

// TestFlowOutboundMedia is §5.2 with sound: a plain phone outside hears alice through a relay peer; with one that does ICE the
// two find the best way themselves.
func TestFlowOutboundMedia(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	w := newMediaBorderWorld(t)
	for _, kind := range outsideKinds[:2] {
		t.Run(kind.name, func(t *testing.T) {
			ctx := testContext(t)
			w.log.forget()
			alice, carol, hers, theirs := w.speakers(ctx, kind)
			defer carol.Stop()
			defer alice.Stop()
			out, in := established(t, ctx, alice, carol, "sip:carol@provider.example")
			w.talkOutside(ctx, kind, alice, carol, hers, theirs)
			ms := w.log.follows(t, "node in from phone: INVITE", "node out to node: INVITE", "node out to phone: 200 INVITE")
			w.relayed(ms[1], true, kind.params == "")
			if at := mediaAt(t, []byte(ms[2])).Port(); at < 21600 || at > 21699 {
				t.Errorf("alice's phone is told port %d", at)
			}
			if kind.params == "" {
				if err := out.Hold(ctx); err != nil {
					t.Fatal(err)
				}
				if err := out.Resume(ctx); err != nil {
					t.Fatal(err)
				}
				for _, p := range []*phonetest.Baresip{alice, carol} {
					if err := p.WaitPackets(ctx, 50); err != nil {
						t.Errorf("after a hold: %v", err)
					}
				}
			}
			w.over(ctx, in, out)
			w.log.crossing(t)
		})
	}
}

// over has one side hang up, and waits until nothing is left.
func (w *borderWorld) over(ctx context.Context, one, other *phonetest.BaresipCall) {
	w.t.Helper()
	if err := one.Hangup(ctx); err != nil {
		w.t.Fatal(err)
	}
	if _, err := other.WaitClosed(ctx); err != nil {
		w.t.Error(err)
	}
	(&mediaWorld{w.universe, []*Node{w.node}}).idle()
}

// TestFlowInboundMedia is §5.3 with sound.
func TestFlowInboundMedia(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	w := newMediaBorderWorld(t)
	for _, kind := range outsideKinds {
		t.Run(kind.name, func(t *testing.T) {
			ctx := testContext(t)
			w.log.forget()
			alice, carol, hers, theirs := w.speakers(ctx, kind)
			defer carol.Stop()
			defer alice.Stop()
			out, in := established(t, ctx, carol, alice, "sip:alice@"+testID)
			w.talkOutside(ctx, kind, alice, carol, hers, theirs)
			ms := w.log.follows(t, "node in from node: INVITE", "node out to phone: INVITE", "node in from phone: 200 INVITE", "node out to node: 200 INVITE")
			if at := mediaAt(t, []byte(ms[1])).Port(); at < 21600 || at > 21699 {
				t.Errorf("alice's phone is told port %d", at)
			}
			w.relayed(ms[3], false, kind.params == "")
			w.over(ctx, in, out)
		})
	}
}

// TestMediaRelayEnds takes the relay peer of a call away. The nodes agree on another way over their stream, and neither phone
// hears of it.
func TestMediaRelayEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while until all have found each other")
	}
	u := newUniverse(t)
	w := &mediaWorld{universe: u}
	relays := map[string]*Node{}
	u.start(u.config(u.home("carol")))
	ctx := testContext(t)
	wait := func(what string, done func() bool) {
		t.Helper()
		for !done() {
			select {
			case <-ctx.Done():
				t.Fatalf("%s: never", what)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	for range 3 {
		r := u.relayPeer()
		wait("a relay peer is advertised", func() bool { return r.Status().Relay.Adverts > 0 })
		relays[r.ID().String()] = r
	}
	for i, user := range []string{"alice", "bob"} {
		c := u.config(u.home(user))
		c.Media = &MediaConfig{PortMin: uint16(21000 + 200*i), PortMax: uint16(21199 + 200*i), RelayOnly: true}
		w.nodes = append(w.nodes, u.start(c))
	}
	alice, bob := newPlainPhone(t, w.nodes[0], "alice"), newPlainPhone(t, w.nodes[1], "bob")
	bob.register("")
	for _, n := range w.nodes {
		wait("relay peers are known", func() bool {
			chosen := 0
			for _, r := range n.Status().Relays {
				if r.Chosen {
					chosen++
				}
			}
			return chosen >= 2
		})
	}
	out := alice.invite("sip:bob@"+testID, alice.offer("0", "sendrecv", 1))
	inv := bob.request("INVITE")
	in := bob.rung(inv)
	bob.respond(in, inv, 200, bob.offer("0", "sendrecv", 1))
	ok := alice.response("INVITE", 200)
	alice.answered(out, ok)
	alice.ask(out, "ACK", "")
	bob.request("ACK")
	hears(t, alice, ok.Body(), bob, inv.Body(), 0)
	before := w.call(w.nodes[0])
	if before.Path != "relayed" || len(before.Relays) != 1 || relays[before.Relays[0]] == nil {
		t.Fatalf("the path: %+v", before)
	}

	say, reply := phonetest.Speech(1, 4*time.Second), phonetest.Speech(2, 4*time.Second)
	alice.forget()
	bob.forget()
	stopped := []func(){alice.play(ok.Body(), 0, say), bob.play(inv.Body(), 0, reply)}
	wait("sound", func() bool { return alice.packets() > 10 && bob.packets() > 10 })
	_ = relays[before.Relays[0]].Close()
	wait("another relay peer", func() bool {
		now := w.call(w.nodes[0])
		return len(now.Relays) == 1 && now.Relays[0] != before.Relays[0]
	})
	for _, p := range []*plainPhone{alice, bob} {
		n := p.packets()
		wait("sound again", func() bool { return p.packets() > n+25 })
		p.mu.Lock()
		t.Logf("%s heard nothing for %v", p.user, p.gap)
		if p.gap > 3*time.Second {
			t.Errorf("%s heard nothing for %v", p.user, p.gap)
		}
		p.mu.Unlock()
	}
	for _, stop := range stopped {
		stop()
	}
	hears(t, alice, ok.Body(), bob, inv.Body(), 0)
	for len(alice.in)+len(bob.in) > 0 {
		select {
		case m := <-alice.in:
			t.Errorf("alice's phone got\n%s", m)
		case m := <-bob.in:
			t.Errorf("bob's phone got\n%s", m)
		}
	}
	alice.ask(out, "BYE", "")
	bob.respond(in, bob.request("BYE"), 200, "")
	alice.response("BYE", 200)
	w.idle()
}
