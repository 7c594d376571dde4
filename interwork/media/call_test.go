package media

import (
	"bytes"
	"testing"
	"time"
)

func TestTwoPlainPhonesHearEachOther(t *testing.T) {
	w := newWorld(t)
	w.node("a", Config{Warm: -1})
	w.node("b", Config{Warm: -1})
	c := newCall(w, "a", "b", "call1")
	c.invite()
	if !bytes.Contains(c.between, []byte("UDP/TLS/RTP/SAVP")) || !bytes.Contains(c.between, []byte("a=candidate")) {
		t.Fatalf("the offer between the nodes:\n%s", c.between)
	}
	if bytes.Contains(c.toBob, []byte("candidate")) || !bytes.Contains(c.toBob, []byte("RTP/AVP 0 101")) {
		t.Fatalf("the offer to bob's phone:\n%s", c.toBob)
	}
	c.answer(200)
	t.Log("first word after", speak(t, c.alice, c.bob, "hello bob", 5*time.Second))
	speak(t, c.bob, c.alice, "hello alice", 5*time.Second)
	for _, m := range []*Manager{c.a, c.b} {
		s := stream(t, m)
		if s.FarCrypto != "DTLS-SRTP AEAD_AES_128_GCM" || s.NearCrypto != "none" || !s.NodeToNode || s.Path != "host" ||
			s.Codec != "PCMU/8000" || s.Trouble != "" {
			t.Errorf("status: %+v", s)
		}
	}
	c.end()
	eventually(t, "ports are free", 3*time.Second, func() bool {
		return c.a.Status().PortsUsed == 0 && c.b.Status().PortsUsed == 0 && c.a.Status().Sessions == 0
	})
}
