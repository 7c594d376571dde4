package relaypeer

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"time"
)

// nonceLifetime is how long a nonce is good, in minutes (RFC 8656 §5 proposes an hour at most). A credential lasts as long, so
// that the nonce that came with it does.
const nonceLifetime = 60

// nonces makes and checks nonces without remembering them: two bytes of time and four of a MAC, in 8 characters, because they
// travel in answers to strangers. They are no secret and prove nothing alone; they keep what was recorded from being played
// again for ever.
type nonces struct{ key [32]byte }

func newNonces() *nonces {
	n := &nonces{}
	rand.Read(n.key[:])
	return n
}

// forAddr makes a nonce for who asks from an address.
func (n *nonces) forAddr(a netip.Addr, now time.Time) string {
	return n.text(minute(now), "a"+string(a.AsSlice()))
}

// forMember makes a nonce for a member, wherever it comes from.
func (n *nonces) forMember(member string, now time.Time) string {
	return n.text(minute(now), "m"+member)
}

// check says whether a nonce was made for the address or the member, lately enough.
func (n *nonces) check(nonce string, a netip.Addr, member string, now time.Time) bool {
	if len(nonce) != 8 {
		return false
	}
	var b [6]byte
	if _, err := base64.RawStdEncoding.Decode(b[:], []byte(nonce)); err != nil {
		return false
	}
	at := binary.BigEndian.Uint16(b[:])
	if minute(now)-at > nonceLifetime { // of 16 bits: it goes round after 45 days
		return false
	}
	return subtle.ConstantTimeCompare([]byte(nonce), []byte(n.text(at, "a"+string(a.AsSlice())))) == 1 ||
		subtle.ConstantTimeCompare([]byte(nonce), []byte(n.text(at, "m"+member))) == 1
}

func minute(t time.Time) uint16 { return uint16(t.Unix() / 60) }

func (n *nonces) text(at uint16, scope string) string {
	b := binary.BigEndian.AppendUint16(nil, at)
	m := hmac.New(sha256.New, n.key[:])
	m.Write(b)
	m.Write([]byte(scope))
	return base64.RawStdEncoding.EncodeToString(append(b, m.Sum(nil)[:4]...))
}
