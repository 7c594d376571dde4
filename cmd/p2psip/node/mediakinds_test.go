package node

import (
	"strings"
	"testing"
	"time"

	"p2psip/interwork/phone/audio"
	"p2psip/interwork/phonetest"
)

// TestMediaBaresipKinds has a baresip of each kind, with keys in its descriptions (SDES), with DTLS, and with ICE and DTLS, call
// a plain one beside another node, and hear and be heard.
func TestMediaBaresipKinds(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	for _, kind := range []struct {
		name, params string
		modules      []string
		phone        string // how the sound between alice's phone and her node is protected, as her node says; "-": not its matter
	}{
		{"srtp", ";mediaenc=srtp-mand", []string{"srtp"}, "SDES AES_CM_128_HMAC_SHA1_80"},
		{"dtls", ";mediaenc=dtls_srtp", []string{"srtp", "dtls_srtp"}, "DTLS-SRTP"},
		{"ice and dtls", ";mediaenc=dtls_srtp;medianat=ice", []string{"srtp", "dtls_srtp", "ice"}, "-"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			w := newMediaWorld(t, "alice", "bob")
			said := [2][]int16{phonetest.Speech(1, 3*time.Second), phonetest.Speech(2, 3*time.Second)}
			alice := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: "sip:alice@" + testID, Proxy: w.nodes[0].SIP().String(),
				Sound: said[0], Params: kind.params, Modules: kind.modules, OnePort: kind.phone == "-"})
			bob := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: "sip:bob@" + testID, Proxy: w.nodes[1].SIP().String(), Sound: said[1]})
			ctx := testContext(t)
			for _, p := range []*phonetest.Baresip{alice, bob} {
				if err := p.Register(ctx); err != nil {
					t.Fatal(err)
				}
			}
			out, in := established(t, ctx, alice, bob, "sip:bob@"+testID)
			for i, p := range []*phonetest.Baresip{alice, bob} {
				if err := p.WaitRecording(ctx, said[1-i][audio.Rate:audio.Rate+audio.Rate/2], 0.98); err != nil {
					t.Error(err)
				}
			}
			streams := w.nodes[0].media.Status().Calls
			switch {
			case kind.phone == "-":
				if len(streams) != 0 {
					t.Errorf("a phone with ICE is anchored: %+v", streams)
				}
				if !strings.Contains(alice.Log(), "a=candidate") {
					t.Error("the phone has done no ICE")
				}
			case len(streams) != 1 || len(streams[0].Streams) != 1 || !strings.HasPrefix(streams[0].Streams[0].NearCrypto, kind.phone):
				t.Errorf("status: %+v", streams)
			}
			far := w.nodes[1].media.Status().Calls
			if len(far) != 1 || len(far[0].Streams) != 1 || !strings.HasPrefix(far[0].Streams[0].FarCrypto, "DTLS-SRTP") || far[0].Streams[0].NearCrypto != "none" {
				t.Errorf("status: %+v", far)
			}
			if err := out.Hangup(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := in.WaitClosed(ctx); err != nil {
				t.Error(err)
			}
			w.idle()
		})
	}
}
