package sdp

import (
	"encoding/hex"
	"strings"
)

// Fingerprint is the hash of a certificate (RFC 8122 §5).
type Fingerprint struct {
	Hash string // sha-256 and the like, in small letters
	Sum  string // octets, not text: a string so that fingerprints can be compared with ==
}

// fingerprintSizes are the hash functions that count, with the length of what they give. MD5 and MD2 must not be used.
var fingerprintSizes = map[string]int{"sha-1": 20, "sha-224": 28, "sha-256": 32, "sha-384": 48, "sha-512": 64}

func parseFingerprint(v string) (Fingerprint, bool) {
	f := strings.Fields(v)
	if len(f) != 2 {
		return Fingerprint{}, false
	}
	hash := strings.ToLower(f[0])
	sum, err := hex.DecodeString(strings.ReplaceAll(f[1], ":", ""))
	if err != nil || len(sum) != fingerprintSizes[hash] || len(sum) == 0 || len(f[1]) != 3*len(sum)-1 {
		return Fingerprint{}, false
	}
	return Fingerprint{hash, string(sum)}, true
}

// String is the attribute's value: "sha-256 4A:AD:…".
func (f Fingerprint) String() string {
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(f.Hash)+1+3*len(f.Sum))
	b = append(b, f.Hash...)
	for i := range len(f.Sum) {
		sep := byte(':')
		if i == 0 {
			sep = ' '
		}
		b = append(b, sep, digits[f.Sum[i]>>4], digits[f.Sum[i]&15])
	}
	return string(b)
}

// Setup is who begins with DTLS (RFC 4145 §4, RFC 5763 §5).
type Setup uint8

// The roles. Active sends the ClientHello.
const (
	SetupNone Setup = iota
	SetupActive
	SetupPassive
	SetupActpass
	SetupHoldconn
)

var setups = [...]string{"", "active", "passive", "actpass", "holdconn"}

func (s Setup) String() string { return setups[s] }

func parseSetup(v string) Setup {
	for i, name := range setups {
		if i > 0 && strings.EqualFold(v, name) {
			return Setup(i)
		}
	}
	return SetupNone
}

// Answer is the role to answer an offer of s with (RFC 4145 §4.1, RFC 5763 §5). had is the role that the answerer has already
// in an association that goes on, SetupNone where one is to be made (RFC 8842 §5.3).
func (s Setup) Answer(had Setup) Setup {
	switch s {
	case SetupActive:
		return SetupPassive
	case SetupPassive:
		return SetupActive
	case SetupHoldconn:
		return SetupHoldconn
	}
	// actpass, or nothing from a telephone that forgot it
	if had == SetupPassive {
		return SetupPassive
	}
	return SetupActive
}

// validTLSID: 20 to 255 letters, digits, "+", "/", "-" and "_" (RFC 8842 §4).
func validTLSID(s string) bool { return isICEString(s, 20, 255) && !strings.Contains(s, "=") }
