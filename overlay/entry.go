package overlay

import (
	"bytes"
	"crypto/ed25519"
	"encoding/asn1"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/multiformats/go-multiaddr"
)

// The wire form of a user routing record is DER (X.690), the same encoding as the certificates it carries: one way to
// write each value, strict parsers everywhere.
//
//	UserRoutingRecord ::= SEQUENCE SIZE (1..8) OF SignedEntry   -- one for each node, in the order of node identifiers
//
//	SignedEntry ::= SEQUENCE {
//	    entry      OCTET STRING,                        -- DER of Entry, exactly the bytes that are signed
//	    chain      SEQUENCE SIZE (1..3) OF OCTET STRING, -- member credential, leaf first
//	    signature  OCTET STRING SIZE (64) }              -- Ed25519 over entryContext followed by entry
//
//	Entry ::= SEQUENCE {
//	    version    INTEGER (1),
//	    overlay    OCTET STRING SIZE (32),  -- SHA-256 of the root certificate
//	    aor        UTF8String,              -- canonical, "sip:bob@p2psip.example"
//	    sequence   INTEGER,                 -- milliseconds since 1970 when it was signed, or the previous one plus 1
//	    expires    INTEGER,                 -- milliseconds since 1970
//	    addrs      SEQUENCE SIZE (0..8) OF OCTET STRING,   -- binary multiaddrs
//	    devices    SEQUENCE SIZE (0..10) OF Device }       -- none: a tombstone
//
//	Device ::= SEQUENCE { id UTF8String, q INTEGER (0..1000), expires INTEGER }
//
// Every node signs its own entry and nothing else. So nobody needs another's key to bring two registrations together:
// whoever holds both entries holds the merged record.
const (
	entryVersion = 1
	entryContext = "p2psip user routing record 1\x00"

	// MaxRecord bounds a user routing record, in bytes.
	MaxRecord = 16 << 10
	// MaxEntries is how many nodes one user may be registered at.
	MaxEntries = 8
	// MaxDevices is how many phones of one user may hang on one node.
	MaxDevices  = 10
	maxAddrs    = 8
	maxAddr     = 128
	maxDeviceID = 64
)

// Reasons for refusing a record; every refusal wraps ErrBadRecord too.
var (
	ErrBadRecord = errors.New("user routing record refused")
	ErrExpired   = errors.New("it has expired")
	ErrStale     = errors.New("a newer one is known")
	ErrForeign   = errors.New("it belongs to another overlay")
	ErrForged    = errors.New("the signature does not match")
	ErrTooLarge  = errors.New("it is too large")
)

type wireSigned struct {
	Entry     []byte
	Chain     [][]byte
	Signature []byte
}

type wireEntry struct {
	Version  int
	Overlay  []byte
	AOR      string `asn1:"utf8"`
	Sequence int64
	Expires  int64
	Addrs    [][]byte
	Devices  []wireDevice
}

type wireDevice struct {
	ID      string `asn1:"utf8"`
	Q       int
	Expires int64
}

// signedEntry is an entry together with the bytes it came in.
type signedEntry struct {
	NodeEntry
	aor  AOR
	cred *Credential
	raw  []byte // DER of SignedEntry
}

// signEntry makes the value that a node publishes for one user: a record with just its own entry.
func signEntry(key crypto.PrivKey, cred *Credential, doc *Document, aor AOR, e NodeEntry) ([]byte, error) {
	if !cred.Entitled(aor) {
		return nil, fmt.Errorf("%w: it is not for %s but for %v", ErrNotEntitled, aor, cred.users)
	}
	priv, err := ed25519Key(key)
	if err != nil {
		return nil, err
	}
	h := doc.RootHash()
	w := wireEntry{
		Version: entryVersion, Overlay: h[:], AOR: aor.String(),
		Sequence: int64(e.Sequence), Expires: e.Expires.UnixMilli(),
		Addrs: [][]byte{}, Devices: []wireDevice{},
	}
	for _, a := range e.Addrs {
		m, err := multiaddr.NewMultiaddr(a)
		if err != nil {
			return nil, fmt.Errorf("own address %q: %w", a, err)
		}
		if len(w.Addrs) < maxAddrs && len(m.Bytes()) <= maxAddr {
			w.Addrs = append(w.Addrs, m.Bytes())
		}
	}
	for _, d := range e.Devices {
		w.Devices = append(w.Devices, wireDevice{d.ID, int(d.Q), d.Expires.UnixMilli()})
	}
	payload, err := asn1.Marshal(w)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal([]wireSigned{{payload, cred.raw(), ed25519.Sign(priv, append([]byte(entryContext), payload...))}})
}

// decodeRecord reads the form of a record, signatures and credentials unchecked. It accepts only the one canonical way
// of writing it.
func decodeRecord(b []byte) ([]wireSigned, error) {
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("%w: %w: %d bytes, %d are allowed", ErrBadRecord, ErrTooLarge, len(b), MaxRecord)
	}
	var list []wireSigned
	if err := unmarshalAll(b, &list); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBadRecord, err)
	}
	if len(list) == 0 || len(list) > MaxEntries {
		return nil, fmt.Errorf("%w: %d entries, 1 to %d are allowed", ErrBadRecord, len(list), MaxEntries)
	}
	return list, nil
}

// unmarshalAll decodes DER that must fill b and be canonical.
func unmarshalAll(b []byte, v any) error {
	rest, err := asn1.Unmarshal(b, v)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes follow it", len(rest))
	}
	return nil
}

// verifier checks entries for one overlay. It remembers the credentials that passed, because the same few certificates
// come with every record of a user.
type verifier struct {
	doc *Document
	now func() time.Time

	mu    sync.Mutex
	known map[string]*Credential // guarded by mu; key: the chain's bytes
}

// maxKnownCredentials bounds the memory of a verifier, at about 1 KiB each.
const maxKnownCredentials = 1024

func newVerifier(doc *Document, now func() time.Time) *verifier {
	return &verifier{doc: doc, now: now, known: map[string]*Credential{}}
}

// credential verifies a chain, or remembers that it has.
func (v *verifier) credential(chain [][]byte) (*Credential, error) {
	k := string(bytes.Join(chain, nil))
	now := v.now()
	v.mu.Lock()
	c, ok := v.known[k]
	v.mu.Unlock()
	if ok && now.Before(c.Expires()) {
		return c, nil
	}
	c, err := verifyChain(chain, v.doc, now)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= maxKnownCredentials {
		for old := range v.known {
			delete(v.known, old)
			break
		}
	}
	v.known[k] = c
	return c, nil
}

// entry verifies one signed entry: well formed, for this overlay, credential and signature good, within its bounds.
// Expired entries come back together with ErrExpired.
func (v *verifier) entry(s wireSigned) (*signedEntry, error) {
	bad := func(format string, a ...any) (*signedEntry, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrBadRecord}, a...)...)
	}
	var w wireEntry
	if err := unmarshalAll(s.Entry, &w); err != nil {
		return bad("%v", err)
	}
	if again, err := asn1.Marshal(w); err != nil || !bytes.Equal(again, s.Entry) {
		return bad("it is not in canonical form")
	}
	if w.Version != entryVersion {
		return bad("version %d, this program knows version %d", w.Version, entryVersion)
	}
	if h := v.doc.RootHash(); !bytes.Equal(w.Overlay, h[:]) {
		return bad("%w", ErrForeign)
	}
	aor, err := ParseAOR(w.AOR)
	if err != nil {
		return bad("%w", err)
	}
	if aor.String() != w.AOR {
		return bad("the user %q is not in canonical form", clip(w.AOR))
	}
	if aor.Host() != v.doc.ID {
		return bad("%w: the user belongs to %s", ErrForeign, aor.Host())
	}
	cred, err := v.credential(s.Chain)
	if err != nil {
		return bad("%w", err)
	}
	if !cred.Entitled(aor) {
		return bad("%w: the credential is not for %s", ErrNotEntitled, aor)
	}
	if !ed25519.Verify(cred.chain[0].PublicKey.(ed25519.PublicKey), append([]byte(entryContext), s.Entry...), s.Signature) {
		return bad("%w", ErrForged)
	}
	e := &signedEntry{aor: aor, cred: cred, NodeEntry: NodeEntry{Node: cred.node}}
	if e.raw, err = asn1.Marshal(s); err != nil {
		return bad("%v", err)
	}
	if err := e.fill(w, v.doc.DHT, v.now()); err != nil {
		if errors.Is(err, ErrExpired) {
			return e, fmt.Errorf("%w: %w", ErrBadRecord, err)
		}
		return bad("%w", err)
	}
	return e, nil
}

// fill takes the fields over and checks their bounds.
func (e *signedEntry) fill(w wireEntry, p DHTParams, now time.Time) error {
	if w.Sequence <= 0 || w.Expires <= 0 {
		return errors.New("sequence number and expiry must be positive")
	}
	e.Sequence = uint64(w.Sequence)
	e.Issued, e.Expires = time.UnixMilli(w.Sequence), time.UnixMilli(w.Expires)
	if e.Issued.After(now.Add(ClockSkew)) {
		return fmt.Errorf("it was signed %v ahead of this node's clock", e.Issued.Sub(now).Round(time.Second))
	}
	if life := e.Expires.Sub(e.Issued); life <= 0 || life > p.Retention+ClockSkew {
		return fmt.Errorf("it claims to be good for %v, at most %v are allowed", life, p.Retention)
	}
	if len(w.Addrs) > maxAddrs || len(w.Devices) > MaxDevices {
		return fmt.Errorf("%d addresses and %d devices, %d and %d are allowed", len(w.Addrs), len(w.Devices), maxAddrs, MaxDevices)
	}
	for _, b := range w.Addrs {
		if len(b) > maxAddr {
			return fmt.Errorf("an address of %d bytes", len(b))
		}
		m, err := multiaddr.NewMultiaddrBytes(b)
		if err != nil {
			return fmt.Errorf("an address: %v", err)
		}
		e.Addrs = append(e.Addrs, m.String())
	}
	seen := map[string]bool{}
	for _, d := range w.Devices {
		dev := Device{ID: d.ID, Q: uint16(d.Q), Expires: time.UnixMilli(d.Expires)}
		switch {
		case !validDeviceID(d.ID) || seen[d.ID]:
			return fmt.Errorf("a device with the identifier %q", clip(d.ID))
		case d.Q < 0 || d.Q > 1000:
			return fmt.Errorf("a device with q %d", d.Q)
		case dev.Expires.After(e.Expires) || dev.Expires.Sub(e.Issued) > p.RecordLifetime+ClockSkew:
			return fmt.Errorf("a device that claims to be reachable for %v, at most %v are allowed", dev.Expires.Sub(e.Issued), p.RecordLifetime)
		}
		seen[d.ID] = true
		e.Devices = append(e.Devices, dev)
	}
	if !now.Before(e.Expires) {
		return fmt.Errorf("%w (on %s)", ErrExpired, e.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// validDeviceID holds a device identifier to the characters that a URI parameter value takes without escaping.
func validDeviceID(s string) bool {
	if s == "" || len(s) > maxDeviceID {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~', c == ':':
		default:
			return false
		}
	}
	return true
}
