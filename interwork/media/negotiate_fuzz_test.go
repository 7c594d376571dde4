package media

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"p2psip/interwork/media/sdp"
)

// FuzzNegotiate lets two sides say anything in any order: what comes out are descriptions that can be read, that go between
// nodes encrypted only, and with as many streams as were asked about.
func FuzzNegotiate(f *testing.F) {
	files, _ := filepath.Glob("sdp/testdata/descriptions/*.sdp")
	answer := wire("v=0\no=- 55 1 IN IP4 203.0.113.20\ns=-\nc=IN IP4 203.0.113.20\nt=0 0\nm=audio 40000 UDP/TLS/RTP/SAVP 0\n@dtls 40000 active\n")
	for i, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, answer, uint32(i)<<8|0x21)
	}
	f.Add(answer, answer, uint32(0x8421_0000))
	f.Fuzz(func(t *testing.T, a, b []byte, script uint32) {
		legs := [2]Leg{{Kind: PhoneLeg, Opportunistic: script&1 != 0}, {Kind: NodeLeg + LegKind(script>>1&1)}}
		n := NewNegotiation(NegotiationConfig{Legs: legs, ID: 1, Version: 1})
		bodies := [4][]byte{a, b, nil, a}
		asked := [2]int{}
		for step := range 6 {
			bits := script >> (2 + 5*step)
			msg := Message{From: Side(bits & 1), Method: [4]string{"INVITE", "UPDATE", "PRACK", "INVITE"}[bits>>1&3],
				CSeq: uint32(1 + step/2), Status: []int{0, 200}[step&1], Fork: [2]string{"", "b"}[min(step, 1)]}
			body := bodies[(bits>>3&3+uint32(step))%4]
			if bits&31 == 31 {
				n.Failed(msg)
				continue
			}
			d, err := n.Receive(msg, body)
			if err != nil || d == nil {
				continue
			}
			to := msg.From.Other()
			sent, err := n.Send(d, localFacts(n.cfg.Legs[to].Kind, d.Streams))
			if err != nil {
				continue
			}
			check(t, n.cfg.Legs[to], sent, d)
			s, _ := sdp.Parse(sent.Body)
			if !d.Offer && !d.Repeat && len(s.Media) != asked[to] {
				t.Fatalf("%d streams answer %d", len(s.Media), asked[to])
			}
			if d.Offer {
				in, _ := sdp.Parse(body)
				asked[msg.From] = len(in.Media)
			}
		}
	})
}

func check(t *testing.T, leg Leg, sent Sent, d *Description) {
	t.Helper()
	s, err := sdp.Parse(sent.Body)
	if err != nil || !bytes.Equal(s.Marshal(), sent.Body) {
		t.Fatalf("%v in\n%s", err, sent.Body)
	}
	for i, m := range s.Media {
		if m.Port == 0 {
			continue
		}
		tr := m.Transport()
		switch {
		case fmt.Sprint(sent.Streams[i].RTP) != fmt.Sprint(tr.RTP):
			t.Fatalf("stream %d is at %s and said to be at %s", i, tr.RTP, sent.Streams[i].RTP)
		case !d.Streams[i].Carry:
			t.Fatalf("stream %d goes on and is not carried", i)
		case leg.Kind == NodeLeg && (len(tr.Fingerprints)+len(tr.Crypto) == 0 || !tr.ICE.Usable()):
			t.Fatalf("stream %d is in clear between nodes:\n%s", i, sent.Body)
		case strings.Contains(strings.ToUpper(m.Proto), "SAVP") && len(tr.Fingerprints)+len(tr.Crypto) == 0:
			t.Fatalf("stream %d promises keys and has none:\n%s", i, sent.Body)
		}
	}
}
