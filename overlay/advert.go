package overlay

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/multiformats/go-multiaddr"
)

// The wire form of what is stored under a role's key is DER (X.690), in the manner of user routing records (entry.go): a
// set of parts, each signed by the node it speaks of and by nobody else.
//
//	RoleAdverts ::= SEQUENCE SIZE (1..16) OF SignedAdvert   -- one for each node, in the order of node identifiers
//
//	SignedAdvert ::= SEQUENCE {
//	    advert     OCTET STRING,                        -- DER of Advert, exactly the bytes that are signed
//	    chain      SEQUENCE SIZE (1..3) OF OCTET STRING, -- member credential, leaf first; it must permit the role
//	    signature  OCTET STRING SIZE (64) }              -- Ed25519 over advertContext followed by advert
//
//	Advert ::= SEQUENCE {
//	    version    INTEGER (1),
//	    overlay    OCTET STRING SIZE (32),  -- SHA-256 of the root certificate
//	    uri        UTF8String,              -- the role's well-known URI, "sip:p2psip.example"
//	    sequence   INTEGER,                 -- milliseconds since 1970 when it was signed, or the previous one plus 1
//	    expires    INTEGER,                 -- milliseconds since 1970, AdvertLifetime after that at most
//	    withdrawn  BOOLEAN,                 -- a tombstone: the node has given the role up
//	    level      INTEGER (0..12),         -- under which level of shards the node writes
//	    addrs      SEQUENCE (SIZE (0..8)) OF OCTET STRING,  -- binary multiaddrs
//	    services   SEQUENCE (SIZE (0..8)) OF UTF8String,    -- URIs, "sip:192.0.2.1:5060;transport=udp"
//	    capacity   INTEGER (0..4294967295),
//	    load       INTEGER (0..1000) }      -- thousandths of the capacity
const (
	advertVersion = 1
	advertContext = "p2psip role advertisement 1\x00"

	// AdvertLifetime is how long an advertisement is good, at most. A node that dies without a word is advertised no longer.
	AdvertLifetime = 15 * time.Minute
	// MaxAdverts is how many nodes are kept under one key.
	MaxAdverts = 16
	// MaxServices is how many URIs a node may offer its service at.
	MaxServices = 8
	maxService  = 128     // bytes
	maxAdvert   = 2 << 10 // bytes of the signed part; a chain has its own bound
)

// Reasons for refusing an advertisement.
var (
	ErrBadAdvert = errors.New("role advertisement refused")
	// ErrNoRole: nobody offers the role.
	ErrNoRole = errors.New("nobody in the overlay offers this")
)

// Offer is what a node offers in a role.
type Offer struct {
	Services []string // URIs where it is served besides the overlay's streams, as in "turn:192.0.2.1:3478?transport=udp"; 8 of 128 bytes at most
	Capacity uint32   // how much it can carry, in units of its own kind (calls, allocations); only the proportion between nodes counts
	Load     uint16   // how much of that is in use, in thousandths
}

// Advert is one node's word on the role it offers, verified.
type Advert struct {
	Role  Role
	Node  NodeID
	Addrs []string // multiaddrs where the node listens
	Offer
	Sequence uint64    // rises with every advertisement of this node
	Issued   time.Time // when it was signed
	Expires  time.Time
}

type wireAdvert struct {
	Version   int
	Overlay   []byte
	URI       string `asn1:"utf8"`
	Sequence  int64
	Expires   int64
	Withdrawn bool
	Level     int
	Addrs     [][]byte
	Services  []wireText
	Capacity  int64
	Load      int
}

// wireText makes the elements of a list UTF8Strings whatever is in them.
type wireText struct {
	S string `asn1:"utf8"`
}

// advert is an advertisement together with the bytes it came in. It is not changed once it is made.
type advert struct {
	Advert
	withdrawn bool
	level     int
	place     uint64 // what the node's scores follow from at the time of signing; see rolekey.go
	raw       []byte // DER of SignedAdvert
}

// signAdvert makes the value that a node publishes: a set with just its own advertisement.
func signAdvert(key crypto.PrivKey, cred *Credential, doc *Document, a Advert, level int, withdrawn bool) ([]byte, error) {
	if !cred.Permits(a.Role) {
		return nil, fmt.Errorf("%w: it does not permit the role %q but %v", ErrNotEntitled, clip(string(a.Role)), cred.roles)
	}
	priv, err := ed25519Key(key)
	if err != nil {
		return nil, err
	}
	h := doc.RootHash()
	w := wireAdvert{
		Version: advertVersion, Overlay: h[:], URI: a.Role.URI(doc.ID),
		Sequence: int64(a.Sequence), Expires: a.Expires.UnixMilli(), Withdrawn: withdrawn, Level: level,
		Addrs: [][]byte{}, Services: []wireText{}, Capacity: int64(a.Capacity), Load: int(a.Load),
	}
	for _, s := range a.Addrs {
		m, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("own address %q: %w", s, err)
		}
		if len(w.Addrs) < maxAddrs && len(m.Bytes()) <= maxAddr {
			w.Addrs = append(w.Addrs, m.Bytes())
		}
	}
	for _, s := range a.Services {
		w.Services = append(w.Services, wireText{s})
	}
	payload, err := asn1.Marshal(w)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal([]wireSigned{{payload, cred.raw(), ed25519.Sign(priv, append([]byte(advertContext), payload...))}})
}

// checkOffer tells a node's owner what others would refuse.
func checkOffer(r Role, o Offer) error {
	if len(o.Services) > MaxServices {
		return fmt.Errorf("%d services, %d are allowed", len(o.Services), MaxServices)
	}
	for _, s := range o.Services {
		if !validService(r, s) {
			return fmt.Errorf("the service %q is no URI of the scheme %s", clip(s), wellKnownScheme[r])
		}
	}
	if o.Load > 1000 {
		return fmt.Errorf("a load of %d thousandths", o.Load)
	}
	return nil
}

// validService holds a service to a URI of the role's scheme, or the secured form of it (sips, turns), without anything
// that would not survive in a header or a log line.
func validService(r Role, s string) bool {
	scheme, rest, ok := strings.Cut(s, ":")
	if want := wellKnownScheme[r]; !ok || rest == "" || len(s) > maxService || scheme != want && scheme != want+"s" {
		return false
	}
	for i := range len(rest) {
		if c := rest[i]; c <= ' ' || c > '~' || strings.IndexByte("<>\"\\^`{|}", c) >= 0 {
			return false
		}
	}
	return true
}

// advertVerifier checks advertisements. Those that passed are remembered, because the same few come again with every
// answer; what depends on the time is checked again each time.
type advertVerifier struct {
	*verifier

	mu    sync.Mutex
	known map[[32]byte]*advert // guarded by mu; key: hash of the bytes
}

// maxKnownAdverts bounds the memory of an advertVerifier, at 1 to 2 KiB each.
const maxKnownAdverts = 1024

func newAdvertVerifier(v *verifier) *advertVerifier {
	return &advertVerifier{verifier: v, known: map[[32]byte]*advert{}}
}

// set verifies a value: every advertisement in it, one role, distinct nodes in order. With pruning, those that are not good
// are left out; without, they make the whole value invalid.
func (v *advertVerifier) set(b []byte, prune bool) (adverts, error) {
	bad := func(format string, a ...any) (adverts, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrBadAdvert}, a...)...)
	}
	if len(b) > MaxRecord {
		return bad("%w: %d bytes, %d are allowed", ErrTooLarge, len(b), MaxRecord)
	}
	var list []asn1.RawValue
	if err := unmarshalAll(b, &list); err != nil {
		return bad("%v", err)
	}
	if len(list) == 0 || len(list) > MaxAdverts {
		return bad("%d in one value, 1 to %d are allowed", len(list), MaxAdverts)
	}
	var out adverts
	var firstErr error
	for _, raw := range list {
		a, err := v.advert(raw.FullBytes)
		if err == nil && len(out) > 0 && (a.Node <= out[len(out)-1].Node || a.Role != out[0].Role) {
			_, err = bad("they are not of one role and in the order of their nodes")
		}
		if err == nil {
			out = append(out, a)
			continue
		}
		if firstErr == nil {
			firstErr = err
		}
		if !prune {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, firstErr
	}
	return out, nil
}

// advert verifies one signed advertisement from its bytes.
func (v *advertVerifier) advert(raw []byte) (*advert, error) {
	k := sha256.Sum256(raw)
	v.mu.Lock()
	a := v.known[k]
	v.mu.Unlock()
	if a == nil {
		var err error
		if a, err = v.verify(raw); err != nil {
			return nil, err
		}
	}
	if err := a.current(v.now()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadAdvert, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= maxKnownAdverts {
		v.forget()
	}
	v.known[k] = a
	return a, nil
}

// forget makes room: what has expired goes, and one more if that was nothing. v.mu is held.
func (v *advertVerifier) forget() {
	now := v.now()
	var any [32]byte
	for k, a := range v.known {
		if !now.Before(a.Expires) {
			delete(v.known, k)
		}
		any = k
	}
	if len(v.known) >= maxKnownAdverts {
		delete(v.known, any)
	}
}

// verify does what does not depend on the time: form, overlay, role, credential, signature.
func (v *advertVerifier) verify(raw []byte) (*advert, error) {
	bad := func(format string, a ...any) (*advert, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrBadAdvert}, a...)...)
	}
	var s wireSigned
	if err := unmarshalAll(raw, &s); err != nil {
		return bad("%v", err)
	}
	if len(s.Entry) > maxAdvert {
		return bad("%w: %d bytes, %d are allowed", ErrTooLarge, len(s.Entry), maxAdvert)
	}
	if again, err := asn1.Marshal(s); err != nil || !bytes.Equal(again, raw) {
		return bad("it is not in canonical form")
	}
	var w wireAdvert
	if err := unmarshalAll(s.Entry, &w); err != nil {
		return bad("%v", err)
	}
	if again, err := asn1.Marshal(w); err != nil || !bytes.Equal(again, s.Entry) {
		return bad("it is not in canonical form")
	}
	if w.Version != advertVersion {
		return bad("version %d, this program knows version %d", w.Version, advertVersion)
	}
	if h := v.doc.RootHash(); !bytes.Equal(w.Overlay, h[:]) {
		return bad("%w", ErrForeign)
	}
	role, ok := roleOfURI(w.URI, v.doc.ID)
	if !ok {
		return bad("%q is no role of %s", clip(w.URI), v.doc.ID)
	}
	cred, err := v.credential(s.Chain)
	if err != nil {
		return bad("%w", err)
	}
	if !cred.Permits(role) {
		return bad("%w: the credential of %s does not permit the role %s", ErrNotEntitled, cred.node, role)
	}
	if !ed25519.Verify(cred.chain[0].PublicKey.(ed25519.PublicKey), append([]byte(advertContext), s.Entry...), s.Signature) {
		return bad("%w", ErrForged)
	}
	a := &advert{Advert: Advert{Role: role, Node: cred.node}, raw: bytes.Clone(raw)}
	if err := a.fill(w); err != nil {
		return bad("%w", err)
	}
	if end := cred.Expires(); a.Expires.After(end) {
		return bad("it outlives the credential, which ends on %s", end.UTC().Format(time.RFC3339))
	}
	a.place = placeOf(w.URI, a.Node, a.Issued)
	return a, nil
}

// fill takes the fields over and checks their bounds.
func (a *advert) fill(w wireAdvert) error {
	if w.Sequence <= 0 || w.Expires <= 0 {
		return errors.New("sequence number and expiry must be positive")
	}
	a.Sequence = uint64(w.Sequence)
	a.Issued, a.Expires = time.UnixMilli(w.Sequence), time.UnixMilli(w.Expires)
	if life := a.Expires.Sub(a.Issued); life <= 0 || life > AdvertLifetime {
		return fmt.Errorf("it claims to be good for %v, at most %v are allowed", life, AdvertLifetime)
	}
	if len(w.Addrs) > maxAddrs || len(w.Services) > MaxServices {
		return fmt.Errorf("%d addresses and %d services, %d and %d are allowed", len(w.Addrs), len(w.Services), maxAddrs, MaxServices)
	}
	for _, b := range w.Addrs {
		if len(b) > maxAddr {
			return fmt.Errorf("an address of %d bytes", len(b))
		}
		m, err := multiaddr.NewMultiaddrBytes(b)
		if err != nil {
			return fmt.Errorf("an address: %v", err)
		}
		a.Addrs = append(a.Addrs, m.String())
	}
	for _, s := range w.Services {
		if !validService(a.Role, s.S) {
			return fmt.Errorf("the service %q is no URI of the role", clip(s.S))
		}
		a.Services = append(a.Services, s.S)
	}
	if w.Capacity < 0 || w.Capacity > 1<<32-1 || w.Load < 0 || w.Load > 1000 {
		return fmt.Errorf("capacity %d, load %d", w.Capacity, w.Load)
	}
	a.Capacity, a.Load = uint32(w.Capacity), uint16(w.Load)
	if w.Level < 0 || w.Level > maxLevel {
		return fmt.Errorf("level %d", w.Level)
	}
	a.withdrawn, a.level = w.Withdrawn, w.Level
	return nil
}

// current checks what depends on the time.
func (a *advert) current(now time.Time) error {
	if a.Issued.After(now.Add(ClockSkew)) {
		return fmt.Errorf("it was signed %v ahead of this node's clock", a.Issued.Sub(now).Round(time.Second))
	}
	if !now.Before(a.Expires) {
		return fmt.Errorf("%w (on %s)", ErrExpired, a.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// turnOfPlaces is how long a node keeps its scores.
const turnOfPlaces = time.Hour

// placeOf gives what a node's scores follow from at a time. It is drawn anew every hour, at an hour's moment of the node's
// own, so that not all change at once.
func placeOf(uri string, n NodeID, at time.Time) uint64 {
	h := sha256.Sum256([]byte("p2psip role place\x00" + uri + "\x00" + string(n)))
	phase := int64(binary.BigEndian.Uint64(h[:8]) % uint64(turnOfPlaces.Milliseconds()))
	turn := (at.UnixMilli() + phase) / turnOfPlaces.Milliseconds()
	h = sha256.Sum256(binary.BigEndian.AppendUint64(h[:], uint64(turn)))
	return binary.BigEndian.Uint64(h[:8])
}
