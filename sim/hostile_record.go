package sim

import (
	"bytes"
	"crypto/ed25519"
	"encoding/asn1"
	"encoding/base32"
	"encoding/pem"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"p2psip/overlay"
)

var base32NoPadding = base32.StdEncoding.WithPadding(base32.NoPadding)

// The wire form of a record as overlay/entry.go documents it, written down once more by who wants to forge one.
type (
	forgedRecord struct {
		Entry     []byte
		Chain     [][]byte
		Signature []byte
	}
	forgedEntry struct {
		Version  int
		Overlay  []byte
		AOR      string `asn1:"utf8"`
		Sequence int64
		Expires  int64
		Addrs    [][]byte
		Devices  []forgedDevice
	}
	forgedDevice struct {
		ID      string `asn1:"utf8"`
		Q       int
		Expires int64
	}
)

// forgedID is the device that every forged record names.
const forgedID = "urn:uuid:00000000-0000-0000-0000-000000000000"

// falsify gives the record with which a liar answers for a key; each liar has another lie for each key.
func (x *hostility) falsify(n *node, key string) []byte {
	x.mu.Lock()
	old := x.oldest[key]
	var others []string
	if old == nil {
		for k := range x.oldest {
			others = append(others, k)
		}
	}
	x.mu.Unlock()
	aor, known := x.aors[key]
	now := time.Now()
	week := 6 * 24 * time.Hour
	switch lie := (uint64(n.index) + hashOf(key)) % 7; {
	case !known && len(others) > 0: // nobody has such a name: the record of another user
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.oldest[slices.Min(others)]
	case !known:
		return []byte("INVITE sip:bob SIP/2.0\r\n\r\n")
	case lie < 2 && old != nil: // true, and old
		return old
	case lie == 2 && old != nil: // true but for the signature
		b := bytes.Clone(old)
		b[len(b)-1] ^= 1
		return b
	case lie == 3: // it was good once
		return n.forge(aor, n.cred, x.r.doc, now.Add(-week-2*time.Hour), week)
	case lie == 4: // entitled by another root
		c, err := x.other.Issue(n.id, []overlay.AOR{aor}, nil, maxDuration, now)
		if err != nil {
			x.r.fail(err)
			return nil
		}
		return n.forge(aor, c, x.r.doc, now, week)
	case lie == 5: // entitled elsewhere, for elsewhere
		c, err := x.other.Issue(n.id, []overlay.AOR{aor}, nil, maxDuration, now)
		if err != nil {
			x.r.fail(err)
			return nil
		}
		return n.forge(aor, c, x.other.Document(), now, week)
	}
	return n.forge(aor, n.cred, x.r.doc, now, week) // signed by a member who is not entitled
}

// forge signs a record for a user with the node's own key, newer than any true one can be.
func (n *node) forge(a overlay.AOR, cred *overlay.Credential, doc *overlay.Document, at time.Time, life time.Duration) []byte {
	raw, err := n.key.Raw()
	if err != nil || n.key.Type() != crypto.Ed25519 {
		n.r.fail(err)
		return nil
	}
	var chain [][]byte
	for rest := cred.PEM(); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		chain = append(chain, b.Bytes)
	}
	h := doc.RootHash()
	e, err := asn1.Marshal(forgedEntry{
		Version: 1, Overlay: h[:], AOR: a.String(), Sequence: at.Add(time.Minute).UnixMilli(), Expires: at.Add(life).UnixMilli(),
		Addrs: [][]byte{}, Devices: []forgedDevice{{forgedID, 1000, at.Add(30 * time.Minute).UnixMilli()}},
	})
	if err != nil {
		n.r.fail(err)
		return nil
	}
	signature := ed25519.Sign(ed25519.PrivateKey(raw), append([]byte("p2psip user routing record 1\x00"), e...))
	b, err := asn1.Marshal([]forgedRecord{{e, chain, signature}})
	if err != nil {
		n.r.fail(err)
	}
	return b
}
