package media

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"p2psip/interwork/media/sdp"
)

var (
	anOffer  = wire("v=0\no=a 1 1 IN IP4 192.0.2.10\ns=-\nc=IN IP4 192.0.2.10\nt=0 0\nm=audio 10010 RTP/AVP 0\n")
	anAnswer = wire("v=0\no=b 1 1 IN IP4 203.0.113.20\ns=-\nc=IN IP4 203.0.113.20\nt=0 0\nm=audio 40000 UDP/TLS/RTP/SAVP 0\n@dtls 40000 active\n")
)

func newNegotiation(far LegKind) *Negotiation {
	return NewNegotiation(NegotiationConfig{Legs: [2]Leg{{Kind: PhoneLeg}, {Kind: far}}, ID: 1, Version: 1})
}

func status(err error) int {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Status
	}
	return 0
}

func TestForksAreBounded(t *testing.T) {
	n := newNegotiation(NodeLeg)
	d, err := n.Receive(Message{From: Near, Method: "INVITE", CSeq: 1}, anOffer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Send(d, localFacts(NodeLeg, d.Streams)); err != nil {
		t.Fatal(err)
	}
	for i := range maxForks + 1 {
		_, err := n.Receive(Message{From: Far, Method: "INVITE", CSeq: 1, Status: 183, Fork: fmt.Sprint(i)}, anAnswer)
		if (err != nil) != (i == maxForks) {
			t.Fatalf("answer %d of %d: %v", i+1, maxForks, err)
		}
	}
}

func TestDescriptionsAreBounded(t *testing.T) {
	for _, more := range []int{0, 1} {
		b := append([]byte{}, anOffer...)
		for len(b) < maxDescription+more {
			b = append(b, "a="+strings.Repeat("x", min(1000, maxDescription+more-len(b)-4))+"\r\n"...)
		}
		_, err := newNegotiation(NodeLeg).Receive(Message{From: Near, Method: "INVITE", CSeq: 1}, b)
		if want := 488 * more; status(err) != want {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// While candidates are gathered for one offer, another may come: the first to be ready wins.
func TestOffersThatCross(t *testing.T) {
	n := newNegotiation(NodeLeg)
	near, err := n.Receive(Message{From: Near, Method: "UPDATE", CSeq: 1, Fork: "b"}, anOffer)
	if err != nil {
		t.Fatal(err)
	}
	far, err := n.Receive(Message{From: Far, Method: "UPDATE", CSeq: 1, Fork: "b"}, anAnswer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Send(far, localFacts(PhoneLeg, far.Streams)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Send(near, localFacts(NodeLeg, near.Streams)); status(err) != 491 {
		t.Errorf("got %v", err)
	}
	// The winner is answered as if nothing had been.
	d, err := n.Receive(Message{From: Near, Method: "UPDATE", CSeq: 1, Status: 200, Fork: "b"}, anOffer)
	if err != nil || d.Offer {
		t.Fatalf("got %+v, %v", d, err)
	}
	if _, err := n.Send(d, localFacts(NodeLeg, d.Streams)); err != nil {
		t.Error(err)
	}
}

// A leg that has no port for any stream is no leg; one without keys for what promises them neither.
func TestNothingToOffer(t *testing.T) {
	for name, change := range map[string]func(*sdp.Transport){
		"no port":                  func(t *sdp.Transport) { t.RTP = netip.AddrPort{} },
		"no ICE":                   func(t *sdp.Transport) { t.ICE = nil },
		"no fingerprint in common": func(t *sdp.Transport) { t.Fingerprints = nil },
	} {
		n := newNegotiation(NodeLeg)
		d, err := n.Receive(Message{From: Near, Method: "INVITE", CSeq: 1}, anOffer)
		if err != nil {
			t.Fatal(err)
		}
		local := localFacts(NodeLeg, d.Streams)
		change(&local[0])
		if _, err := n.Send(d, local); status(err) != 488 || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
		// it was as if nothing had been
		if d, err = n.Receive(Message{From: Far, Method: "INVITE", CSeq: 1}, anAnswer); err != nil || !d.Offer {
			t.Errorf("%s: after that, %v", name, err)
		}
	}
}

func TestTLSIDIsAnsweredIfOffered(t *testing.T) {
	local := facts(NodeLeg, 0)
	local.TLSID = "our0123456789abcdefgh"
	l := Leg{Kind: NodeLeg}
	if o, why := l.offer(local, sdp.Transport{}, true); why != "" || o.TLSID != local.TLSID || o.Setup != sdp.SetupActpass || o.Profile != sdp.TLSSAVPF {
		t.Errorf("offered %+v, %s", o, why)
	}
	for _, theirs := range []string{"", "their123456789abcdefgh"} {
		offered := facts(NodeLeg, 0)
		offered.Profile, offered.TLSID, offered.Setup = sdp.TLSSAVP, theirs, sdp.SetupHoldconn
		a, why := l.answer(local, offered, sdp.SetupNone)
		if why != "" || (a.TLSID != "") != (theirs != "") || a.Setup != sdp.SetupHoldconn {
			t.Errorf("answered %+v, %s", a, why)
		}
	}
}

func TestRoleOf(t *testing.T) {
	for answer, want := range map[sdp.Setup]sdp.Setup{
		sdp.SetupActive: sdp.SetupPassive, sdp.SetupPassive: sdp.SetupActive, sdp.SetupActpass: sdp.SetupActive,
		sdp.SetupNone: sdp.SetupPassive, sdp.SetupHoldconn: sdp.SetupHoldconn,
	} {
		if got := RoleOf(answer, sdp.SetupActpass); got != want {
			t.Errorf("answered %q: we are %q, want %q", answer, got, want)
		}
	}
}

// Numbers of o= lines stay below 63 bits and differ between the sides and forks of a call.
func TestOriginNumbers(t *testing.T) {
	seen := map[uint64]bool{}
	n := newNegotiation(NodeLeg)
	for _, fork := range []string{"", "a", "b"} {
		for side := range Side(2) {
			id := n.id(side, &Description{Message: Message{Status: 200, Fork: fork}})
			if id>>62 != 0 || seen[id] {
				t.Errorf("%d for fork %q of the %s", id, fork, side)
			}
			seen[id] = true
		}
	}
}
