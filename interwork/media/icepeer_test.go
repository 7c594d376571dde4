package media

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/ice/v2"

	"p2psip/interwork/media/sdp"
)

// strangeAgent is an agent of pion/ice with sockets, gathering and candidates of its own, as somebody outside would run it.
func strangeAgent(t *testing.T, lite bool) (*ice.Agent, *sdp.ICE) {
	t.Helper()
	a, err := ice.NewAgent(&ice.AgentConfig{
		Lite: lite, NetworkTypes: []ice.NetworkType{ice.NetworkTypeUDP4}, CandidateTypes: []ice.CandidateType{ice.CandidateTypeHost},
		IncludeLoopback: true, InterfaceFilter: func(name string) bool { return strings.HasPrefix(name, "lo") },
		MulticastDNSMode: ice.MulticastDNSModeDisabled, LoggerFactory: silent(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.GracefulClose() })
	out := &sdp.ICE{Lite: lite}
	done := make(chan struct{})
	_ = a.OnCandidate(func(c ice.Candidate) {
		if c == nil {
			close(done)
		} else if p, ok := sdp.ParseCandidate(c.Marshal()); ok {
			out.Candidates = append(out.Candidates, p)
		}
	})
	if err := a.GatherCandidates(); err != nil {
		t.Fatal(err)
	}
	<-done
	if out.Ufrag, out.Pwd, err = a.GetLocalUserCredentials(); err != nil || len(out.Candidates) == 0 {
		t.Fatalf("%v, %d candidates", err, len(out.Candidates))
	}
	return a, out
}

// An agent of somebody else at the other end, full and lite, that we offer to and that offers to us.
func TestStrangeAgents(t *testing.T) {
	for _, lite := range []bool{false, true} {
		for _, out := range []bool{true, false} {
			t.Run(fmt.Sprintf("lite=%v,out=%v", lite, out), func(t *testing.T) {
				w := newWorld(t)
				a := w.node("a", Config{Warm: -1})
				d, alice, carol := outside(w, a, "agent", out)
				agent, theirs := strangeAgent(t, lite)
				s, err := sdp.Parse(carol.body())
				if err != nil {
					t.Fatal(err)
				}
				at, _ := theirs.Candidates[0].Addr()
				s.Media[0].SetTransport(sdp.Transport{RTP: at, RTCP: at, Mux: true, Profile: sdp.AVP, ICE: theirs})
				if lite {
					s.Lines = append(s.Lines, sdp.Line{Key: 'a', Value: "ice-lite"})
				}
				x := a.Open(d)
				var ours *sdp.ICE
				read := func(body []byte) {
					p, err := sdp.Parse(body)
					if err != nil {
						t.Fatal(err)
					}
					ours = p.Media[0].Transport().ICE
				}
				if out {
					read(request(t, x, alice.body()))
					toAlice, err := x.Response(200, "carol", true, s.Marshal())
					if err != nil {
						t.Fatal(err)
					}
					alice.learn(toAlice)
				} else {
					alice.learn(request(t, x, s.Marshal()))
					back, err := x.Response(200, "alice", true, alice.body())
					if err != nil {
						t.Fatal(err)
					}
					read(back)
				}
				if !ours.Usable() {
					t.Fatal("we do no ICE")
				}
				for _, c := range ours.Candidates {
					if at, _ := c.Addr(); lite || !at.Addr().Is4() {
						continue
					}
					rc, err := ice.UnmarshalCandidate(c.String())
					if err != nil {
						t.Fatal(err)
					}
					if err := agent.AddRemoteCandidate(rc); err != nil {
						t.Fatal(err)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				connect := agent.Accept
				if !out && !lite {
					connect = agent.Dial // who offers controls, but a lite agent never
				}
				conn, err := connect(ctx, ours.Ufrag, ours.Pwd)
				if err != nil {
					t.Fatal(err)
				}
				eventually(t, "we have a path", 5*time.Second, func() bool { return stream(t, a).Path == "host" })
				go func() {
					for i := range uint16(200) {
						if ctx.Err() != nil {
							return
						}
						_, _ = conn.Write(append(rtpPacket(i, 0, 1, 0), "from the agent"...))
						<-time.After(10 * time.Millisecond)
					}
				}()
				if !alice.hears("from the agent", 3*time.Second) {
					t.Error("alice hears nothing")
				}
				for range 20 {
					alice.say("from alice")
				}
				buf := make([]byte, 2000)
				n, err := conn.Read(buf)
				if err != nil || !bytes.HasSuffix(buf[:n], []byte("from alice")) {
					t.Errorf("the agent hears %q, %v", buf[:n], err)
				}
			})
		}
	}
}

// A public address of this machine serves the outside without any relay.
func TestOutsideAtAPublicAddress(t *testing.T) {
	w := newWorld(t)
	public := netip.MustParseAddr("127.0.0.61")
	a := w.node("a", Config{Warm: -1, Public: []netip.Addr{public}, Relays: relays{newRelay("r", "127.0.0.62")},
		Addresses: func() []netip.Addr { return []netip.Addr{loopback4, public} }})
	d, alice, carol := outside(w, a, "public", true)
	x := a.Open(d)
	carol.learn(request(t, x, alice.body()))
	if carol.to.Addr() != public {
		t.Errorf("the outside is to send to %v", carol.to)
	}
	body, err := x.Response(200, "carol", true, carol.body())
	if err != nil {
		t.Fatal(err)
	}
	alice.learn(body)
	speak(t, alice, carol, "hello", 5*time.Second)
	speak(t, carol, alice, "hello", 5*time.Second)
	if st := stream(t, a); st.Path != "host" || st.Relay != "" {
		t.Errorf("status: %+v", st)
	}
}

// Without consent nothing is sent any more (RFC 7675 §5.1).
func TestNothingIsSentWithoutConsent(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "consent")
	c.invite()
	c.answer(200)
	speak(t, c.alice, c.bob, "hello", 5*time.Second)
	w.mu.Lock()
	w.cut = true
	w.mu.Unlock()
	f := c.a.trunkOf("consent").fars[0]
	f.trouble(f.gen, true) // as the agent says it when it gives up
	for c.bob.hears("", 20*time.Millisecond) {
	}
	c.alice.say("to whom?")
	if c.bob.hears("to whom?", 50*time.Millisecond) {
		t.Error("sent without consent")
	}
	if st := stream(t, c.a); st.Path != "" || st.Trouble == "" {
		t.Errorf("status: %+v", st)
	}
}
