package edge

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"p2psip/interwork/flow"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

// A temporary GRUU (RFC 5627 §3.1) is sip:tgruu.<text>@OID;gr. The text is, in base64url without padding,
//
//	12 bytes    nonce, drawn anew for each
//	            AES-256-GCM under the overlay's key:
//	32 bytes      public key of the node that made it
//	              AES-256-GCM under that node's key:
//	                1 byte     1: a registration, 2: the address of a phone without one
//	12 bytes           1: which registration, a hash of user, device and Call-ID
//	                   2: when it was made (4), transport (1), port (2), IP address (4 or 16; the first is padded to 5)
//	12 bytes        tag
//	12 bytes    tag
//
// So each one looks like noise, no two look related, and only the node it leads to can tell whose it is. Every node of the
// overlay can tell which node that is, without a record in the overlay: the outer key follows from the root certificate in
// the overlay document. Who has that document, as every member does, can find the node, and with it the users that the
// node's credential names. From everybody else the user is hidden.
//
// A registration's ends with it, and when the phone registers with another Call-ID (RFC 5627 §3.1); another one, a day
// after it was made.
const (
	tempPrefix  = "tgruu."
	tempNonce   = 12
	tempTag     = 12
	tempNode    = 32
	tempRef     = 12
	tempLife    = 24 * time.Hour
	maxTempText = 200

	tempRegistration byte = 1
	tempPlace        byte = 2
)

// nodePrefix is what stands before the public key in the identifier of a node (libp2p's identity multihash of an Ed25519
// key).
const nodePrefix = "\x00\x24\x08\x01\x12\x20"

// tempRefs names a registration.
type ref [tempRef]byte

// temps makes and reads temporary GRUUs. The zero value makes none.
type temps struct {
	self         overlay.NodeID
	refKey       []byte
	outer, inner cipher.AEAD
}

// newTemps derives the keys. shared is what all nodes of the overlay know; without it, or with a node whose identifier is
// of another kind, none are made.
func newTemps(self overlay.NodeID, shared, secret []byte) (t temps) {
	if len(shared) == 0 || len(self) != len(nodePrefix)+tempNode || !strings.HasPrefix(string(self), nodePrefix) {
		return temps{}
	}
	derive := func(key []byte, use string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte("p2psip temporary gruu\x00" + use))
		return m.Sum(nil)
	}
	seal := func(key []byte) cipher.AEAD {
		b, err := aes.NewCipher(key)
		if err != nil {
			panic(err) // 32 bytes always do
		}
		a, err := cipher.NewGCMWithTagSize(b, tempTag)
		if err != nil {
			panic(err)
		}
		return a
	}
	return temps{
		self: self, refKey: derive(secret, "registration"),
		outer: seal(derive(shared, "node")), inner: seal(derive(secret, "phone")),
	}
}

// ref names a registration: it changes with what ends a temporary GRUU.
func (t *temps) ref(aor overlay.AOR, device, callID string) (r ref) {
	m := hmac.New(sha256.New, t.refKey)
	m.Write([]byte(aor.String() + "\x00" + device + "\x00" + callID))
	copy(r[:], m.Sum(nil))
	return r
}

// registration makes the user part of a temporary GRUU of a registration, "" if none are made.
func (t *temps) registration(r ref) string { return t.seal(append([]byte{tempRegistration}, r[:]...)) }

// place makes the user part of a temporary GRUU that leads to an address.
func (t *temps) place(e proxy.Endpoint, now time.Time) string {
	at, ok := e.Remote.AddrPort()
	if !ok {
		return ""
	}
	b := binary.BigEndian.AppendUint32([]byte{tempPlace}, uint32(now.Unix()))
	switch e.Transport {
	case flow.TransportUDP:
		b = append(b, 0)
	case flow.TransportTCP:
		b = append(b, 1)
	case flow.TransportTLS:
		b = append(b, 2)
	default:
		return ""
	}
	b = binary.BigEndian.AppendUint16(b, at.Port())
	if ip := at.Addr().Unmap(); ip.Is4() {
		b = append(append(b, ip.AsSlice()...), 0) // as long as a registration's
	} else {
		b = append(b, ip.AsSlice()...)
	}
	return t.seal(b)
}

func (t *temps) seal(payload []byte) string {
	if t.outer == nil {
		return ""
	}
	nonce := make([]byte, tempNonce, 128)
	rand.Read(nonce)
	plain := t.inner.Seal([]byte(t.self)[len(nodePrefix):], nonce, payload, nil)
	return tempPrefix + base64.RawURLEncoding.EncodeToString(t.outer.Seal(nonce, nonce, plain, nil))
}

// open says which node made a user part, and what it meant by it if that is this one.
func (t *temps) open(user string) (node overlay.NodeID, payload []byte, ok bool) {
	text, ok := strings.CutPrefix(user, tempPrefix)
	if !ok || t.outer == nil || len(text) > maxTempText {
		return "", nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < tempNonce+tempNode+1+2*tempTag {
		return "", nil, false
	}
	nonce := b[:tempNonce]
	plain, err := t.outer.Open(nil, nonce, b[tempNonce:], nil)
	if err != nil {
		return "", nil, false
	}
	node = overlay.NodeID(nodePrefix + string(plain[:tempNode]))
	if node != t.self {
		return node, nil, true
	}
	payload, err = t.inner.Open(nil, nonce, plain[tempNode:], nil)
	return node, payload, err == nil
}

// readPlace is the inverse of place for what open gave.
func readPlace(b []byte, now time.Time) (e proxy.Endpoint, ok bool) {
	if len(b) != 13 && len(b) != 24 || b[0] != tempPlace {
		return e, false
	}
	made := time.Unix(int64(binary.BigEndian.Uint32(b[1:])), 0)
	if age := now.Sub(made); age > tempLife || age < -tempLife {
		return e, false
	}
	switch b[5] {
	case 0:
		e.Transport = flow.TransportUDP
	case 1:
		e.Transport = flow.TransportTCP
	default:
		e.Transport = flow.TransportTLS
	}
	raw := b[8:]
	if len(b) == 13 {
		raw = raw[:4]
	}
	ip, _ := netip.AddrFromSlice(raw)
	e.Remote = flow.AddrFrom(netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[6:])))
	return e, true
}
