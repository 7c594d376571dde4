package node

import (
	"slices"
	"testing"

	"p2psip/interwork/media"
)

// TestCallMedia sums up streams: the worst of them counts.
func TestCallMedia(t *testing.T) {
	const dtls = "DTLS-SRTP AEAD_AES_128_GCM"
	for _, c := range []struct {
		name      string
		streams   []media.StreamStatus
		path, enc string
		phone     string
		relays    []string
	}{
		{"nothing yet", nil, "", "", "no", nil},
		{"no keys yet", []media.StreamStatus{{Path: "host", NodeToNode: true}}, "host", "", "no", nil},
		{"between nodes", []media.StreamStatus{{Path: "reflexive", FarCrypto: dtls, NodeToNode: true}}, "reflexive", "node to node", "no", nil},
		{"to a secure phone", []media.StreamStatus{{Path: "host", FarCrypto: dtls, NearCrypto: "SDES AES_CM_128_HMAC_SHA1_80", NodeToNode: true}}, "host", "node to node", "yes", nil},
		{"outside", []media.StreamStatus{{Path: "relayed", RelayServer: "192.0.2.7:3478", FarCrypto: dtls}}, "relayed", "to the far side", "no", []string{"192.0.2.7:3478"}},
		{"in clear", []media.StreamStatus{{Path: "relayed", FarCrypto: "none"}}, "relayed", "no", "no", nil},
		{"sound and picture", []media.StreamStatus{{Path: "relayed", RelayServer: "a", FarCrypto: dtls, NodeToNode: true},
			{Path: "host", RelayServer: "b", FarCrypto: dtls, NodeToNode: true}, {Path: "relayed", RelayServer: "a", FarCrypto: dtls, NodeToNode: true}},
			"relayed", "node to node", "no", []string{"a"}},
		{"one in clear, one without keys", []media.StreamStatus{{FarCrypto: "none"}, {}}, "", "no", "no", nil},
		{"one without keys, one with", []media.StreamStatus{{}, {FarCrypto: dtls, NodeToNode: true}}, "", "", "no", nil},
	} {
		m := callMedia(media.CallStatus{Streams: c.streams})
		if m.Path != c.path || m.Encrypted != c.enc || m.Phone != c.phone || !slices.Equal(m.Relays, c.relays) {
			t.Errorf("%s: %+v", c.name, m)
		}
	}
}
