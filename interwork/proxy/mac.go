package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
)

// mac is HMAC-SHA256 (RFC 2104) for short messages without a heap allocation: a token or a branch is made or checked for
// every request.
type mac struct{ inner, outer [sha256.BlockSize]byte }

// maxMAC is the longest message that sum takes whole; a longer one goes in as its hash.
const maxMAC = 512

func newMAC(key []byte) mac {
	var m mac
	if len(key) > sha256.BlockSize {
		h := sha256.Sum256(key)
		key = h[:]
	}
	copy(m.inner[:], key)
	copy(m.outer[:], key)
	for i := range m.inner {
		m.inner[i] ^= 0x36
		m.outer[i] ^= 0x5c
	}
	return m
}

// deriveMAC gives each use of the node's secret its own key.
func deriveMAC(secret []byte, use string) mac {
	m := newMAC(secret)
	key := m.sum([]byte("p2psip " + use))
	return newMAC(key[:])
}

func (m *mac) sum(msg []byte) [sha256.Size]byte {
	if len(msg) > maxMAC {
		h := sha256.Sum256(msg)
		msg = h[:]
	}
	var buf [sha256.BlockSize + maxMAC]byte
	in := sha256.Sum256(append(append(buf[:0], m.inner[:]...), msg...))
	return sha256.Sum256(append(append(buf[:0], m.outer[:]...), in[:]...))
}

// equal compares in constant time.
func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
