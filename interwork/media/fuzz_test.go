package media

import (
	"testing"

	"github.com/pion/stun"
)

// What another node sends to restart ICE.
func FuzzRestart(f *testing.F) {
	f.Add([]byte("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVP 0\r\nc=IN IP4 127.0.0.1\r\na=mid:0\r\n" +
		"a=ice-ufrag:abcd\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\na=candidate:h0 1 udp 2130706431 127.0.0.1 9999 typ host\r\n"))
	f.Add([]byte("v=0\r\nm=audio 9 RTP/AVP 0\r\na=mid:-1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := readRestart(b)
		if err != nil {
			return
		}
		g := &generation{bundle: &bundle{}}
		for _, i := range out {
			if i != nil && len(g.admissible(i.Candidates)) > maxRemoteCandidates {
				t.Error("more candidates than are tried")
			}
		}
	})
}

// What anybody sends to a socket of a far leg.
func FuzzDatagram(f *testing.F) {
	m, _ := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername("abcd:efgh"), stun.Fingerprint)
	f.Add(m.Raw)
	f.Add(rtpPacket(1, 2, 3, 20))
	f.Add([]byte{0x80, 200, 0, 6, 0, 0, 0, 1})
	f.Add([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0})
	k, _ := secretOf(newCrypto(1, "AES_CM_128_HMAC_SHA1_80"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxPacket {
			return
		}
		isSTUN(b)
		if len(b) > 1 {
			stunUsername(b)
		}
		bindingAnswer(b, [stun.TransactionIDSize]byte{})
		for _, clear := range []bool{true, false} {
			in, err := newOpener(k)
			if err != nil {
				t.Fatal(err)
			}
			out, err := newSealer(k)
			if err != nil {
				t.Fatal(err)
			}
			from, to := &leg{carrier: nothing{}, clearIn: clear}, &leg{carrier: nothing{}, sealer: out}
			if !clear {
				from.opener = in
			}
			from.peer.Store(to)
			from.receive(append([]byte(nil), b...))
			if s := from.stats(); !clear && s.Packets+s.RTCP > 0 {
				t.Error("a packet without the key is taken")
			}
		}
	})
}
