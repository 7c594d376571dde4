package overlay

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// Policy says who may become a member.
type Policy string

// The enrolment policies.
const (
	PolicyCertified Policy = "certified" // the root signs every member's credential
	PolicyOpen      Policy = "open"      // anybody joins, under the name that follows from the key
)

// Bounds and defaults of the overlay document.
const (
	maxDocument         = 64 << 10 // bytes
	maxBootstrap        = 64
	documentVersion     = 1
	documentContext     = "p2psip overlay document 1\x00"
	DefaultDocumentLife = 10 * 365 * 24 * time.Hour

	// DefaultBucketSize is Kademlia's k: how many nodes hold a record.
	DefaultBucketSize = 20
	// DefaultRecordLifetime is how long a device counts as reachable after its node last said so. The node says so
	// again at half of it, so a dead node is believed for an hour at most.
	DefaultRecordLifetime = time.Hour
	// DefaultRetention is how long storing nodes remember a user without a device, so that a caller hears "not
	// available now" rather than "no such user".
	DefaultRetention = 7 * 24 * time.Hour
)

// ErrBadDocument is wrapped by every refusal of an overlay document.
var ErrBadDocument = errors.New("overlay document refused")

// Document is the overlay document: all that a volunteer needs to join an overlay, signed by the overlay's root. The idea
// is the configuration document of RFC 6940 §11.
//
// Its file is JSON, {"overlay": {…}, "signature": "…"}. The signature is Ed25519 by the root key over the context string,
// followed by the bytes of the inner object with insignificant white space removed, so the file may be reformatted but
// not altered. Fields that this version does not know are kept under the signature and otherwise ignored.
type Document struct {
	ID        ID
	Isolated  bool // promises never to interconnect with the public SIP network
	Policy    Policy
	DHT       DHTParams
	Bootstrap []peer.AddrInfo
	Serial    uint64 // a document with a higher serial number replaces this one
	Issued    time.Time
	Expires   time.Time

	root *x509.Certificate
	raw  []byte // the whole file
}

// DHTParams are the parameters that all members must agree on.
type DHTParams struct {
	BucketSize     int           // Kademlia's k
	RecordLifetime time.Duration // of a device in a user routing record
	Retention      time.Duration // of a record as a whole
}

type documentFile struct {
	Overlay   json.RawMessage `json:"overlay"`
	Signature string          `json:"signature"` // base 64
}

type documentBody struct {
	Version   int          `json:"version"`
	ID        string       `json:"id"`
	Isolated  bool         `json:"isolated,omitempty"`
	Serial    uint64       `json:"serial"`
	Issued    time.Time    `json:"issued"`
	Expires   time.Time    `json:"expires"`
	Root      []byte       `json:"root"` // DER
	Enrolment enrolmentDoc `json:"enrolment"`
	DHT       dhtDoc       `json:"dht"`
	Bootstrap []string     `json:"bootstrap"`
}

type enrolmentDoc struct {
	Policy Policy `json:"policy"`
}

type dhtDoc struct {
	BucketSize     int   `json:"bucketSize"`
	RecordLifetime int64 `json:"recordLifetime"` // seconds
	Retention      int64 `json:"retention"`      // seconds
}

// ParseDocument reads and verifies an overlay document at the given time.
func ParseDocument(b []byte, now time.Time) (*Document, error) {
	if len(b) > maxDocument {
		return nil, fmt.Errorf("%w: %d bytes, %d are allowed", ErrBadDocument, len(b), maxDocument)
	}
	var f documentFile
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBadDocument, err)
	}
	if dec.More() {
		return nil, fmt.Errorf("%w: something follows the document", ErrBadDocument)
	}
	if len(f.Overlay) == 0 || len(f.Signature) == 0 {
		return nil, fmt.Errorf("%w: it lacks the overlay or the signature; is this the file that `p2psip overlay create` made?", ErrBadDocument)
	}
	var body documentBody
	if err := json.Unmarshal(f.Overlay, &body); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBadDocument, err)
	}
	if body.Version != documentVersion {
		return nil, fmt.Errorf("%w: version %d; this program knows version %d", ErrBadDocument, body.Version, documentVersion)
	}
	d, err := body.check()
	if err != nil {
		return nil, err
	}
	signed, err := signedBytes(f.Overlay)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBadDocument, err)
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(f.Signature)
	if err != nil || !ed25519.Verify(d.root.PublicKey.(ed25519.PublicKey), signed, sig) {
		return nil, fmt.Errorf("%w: the signature is not the root's; the file was altered", ErrBadDocument)
	}
	if now.After(d.Expires) {
		return nil, fmt.Errorf("%w: it expired on %s; get a newer one from whoever runs %s", ErrBadDocument, d.Expires.Format(time.DateOnly), d.ID)
	}
	if now.Add(ClockSkew).Before(d.Issued) {
		return nil, fmt.Errorf("%w: it was issued on %s, which is still to come; is the clock right?", ErrBadDocument, d.Issued.Format(time.RFC3339))
	}
	d.raw = bytes.Clone(b)
	return d, nil
}

// check turns the fields into a Document, all but the signature.
func (body *documentBody) check() (*Document, error) {
	bad := func(format string, a ...any) (*Document, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrBadDocument}, a...)...)
	}
	id, err := ParseID(body.ID, body.Isolated)
	if err != nil {
		return bad("%w", err)
	}
	if string(id) != body.ID {
		return bad("the identifier %q is not in canonical form", clip(body.ID))
	}
	root, err := parseRoot(body.Root, id)
	if err != nil {
		return bad("%v", err)
	}
	if body.Enrolment.Policy != PolicyCertified && body.Enrolment.Policy != PolicyOpen {
		return bad("unknown enrolment policy %q", clip(string(body.Enrolment.Policy)))
	}
	d := &Document{
		ID: id, Isolated: body.Isolated, Policy: body.Enrolment.Policy, Serial: body.Serial,
		Issued: body.Issued, Expires: body.Expires, root: root,
		DHT: DHTParams{
			BucketSize:     body.DHT.BucketSize,
			RecordLifetime: time.Duration(body.DHT.RecordLifetime) * time.Second,
			Retention:      time.Duration(body.DHT.Retention) * time.Second,
		},
	}
	if err := d.DHT.Validate(); err != nil {
		return bad("%v", err)
	}
	if body.Serial == 0 {
		return bad("it has no serial number")
	}
	if len(body.Bootstrap) > maxBootstrap {
		return bad("%d bootstrap addresses, %d are allowed", len(body.Bootstrap), maxBootstrap)
	}
	if d.Bootstrap, err = ParseBootstrap(body.Bootstrap); err != nil {
		return bad("%v", err)
	}
	return d, nil
}

// Validate checks that the parameters make a working overlay.
func (p DHTParams) Validate() error {
	switch {
	case p.BucketSize < 4 || p.BucketSize > 64:
		return fmt.Errorf("bucket size %d, 4 to 64 are possible", p.BucketSize)
	case p.RecordLifetime < time.Minute || p.RecordLifetime > 24*time.Hour:
		return fmt.Errorf("record lifetime %v, 1m to 24h are possible", p.RecordLifetime)
	case p.Retention < p.RecordLifetime || p.Retention > 30*24*time.Hour:
		return fmt.Errorf("retention %v, it must be between the record lifetime and 30 days", p.Retention)
	}
	return nil
}

// ParseBootstrap reads multiaddrs that end in /p2p/<node identifier> and groups them by node.
func ParseBootstrap(addrs []string) ([]peer.AddrInfo, error) {
	var out []peer.AddrInfo
	at := map[peer.ID]int{}
	for _, s := range addrs {
		if len(s) > 256 {
			return nil, fmt.Errorf("bootstrap address %q is too long", clip(s))
		}
		m, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("bootstrap address %q: %w", clip(s), err)
		}
		ai, err := peer.AddrInfoFromP2pAddr(m)
		if err != nil || len(ai.Addrs) == 0 {
			return nil, fmt.Errorf("bootstrap address %q: it must read like /ip4/192.0.2.1/tcp/5080/p2p/12D3Koo…", clip(s))
		}
		if i, ok := at[ai.ID]; ok {
			out[i].Addrs = append(out[i].Addrs, ai.Addrs...)
			continue
		}
		at[ai.ID] = len(out)
		out = append(out, *ai)
	}
	return out, nil
}

// parseRoot checks the root certificate: a self-signed Ed25519 authority for the overlay identifier.
func parseRoot(der []byte, id ID) (*x509.Certificate, error) {
	if len(der) == 0 || len(der) > maxCertificate {
		return nil, fmt.Errorf("a root certificate of %d bytes, 1 to %d are allowed", len(der), maxCertificate)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("root certificate: %w", err)
	}
	if _, ok := root.PublicKey.(ed25519.PublicKey); !ok {
		return nil, errors.New("the root certificate's key is not Ed25519")
	}
	if !root.IsCA || !root.BasicConstraintsValid {
		return nil, errors.New("the root certificate is no certificate authority")
	}
	if len(root.URIs) != 1 || root.URIs[0].String() != RoleProxy.URI(id) {
		return nil, fmt.Errorf("the root certificate is not for %s", RoleProxy.URI(id))
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("the root certificate is not signed by itself: %w", err)
	}
	return root, nil
}

// signedBytes gives what the root signs.
func signedBytes(overlay []byte) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(documentContext)
	if err := json.Compact(&b, overlay); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Bytes gives the document as it was read.
func (d *Document) Bytes() []byte { return bytes.Clone(d.raw) }

// Root gives the root certificate.
func (d *Document) Root() *x509.Certificate { return d.root }

// RootHash identifies the overlay beyond its name: SHA-256 of the root certificate.
func (d *Document) RootHash() [32]byte { return sha256.Sum256(d.root.Raw) }

// Fingerprint is the root hash in groups of four hexadecimal digits, short enough to compare over the telephone.
func (d *Document) Fingerprint() string {
	h := d.RootHash()
	s := hex.EncodeToString(h[:16])
	var b []byte
	for i := 0; i < len(s); i += 4 {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, s[i:i+4]...)
	}
	return string(b)
}

// protocolPrefix is the start of every protocol identifier of this overlay, so that nodes of two overlays never mix even
// if both took the same name.
func (d *Document) protocolPrefix() string {
	h := d.RootHash()
	return "/p2psip/" + string(d.ID) + "-" + hex.EncodeToString(h[:4])
}

// Replaces says whether d may take the place of old: same overlay, same root, higher serial number.
func (d *Document) Replaces(old *Document) error {
	switch {
	case d.ID != old.ID:
		return fmt.Errorf("%w: it is for %s, this node belongs to %s; use another data directory for it", ErrBadDocument, d.ID, old.ID)
	case !d.root.Equal(old.root):
		return fmt.Errorf("%w: it has another root than the one this node joined with (%s); if the overlay was made anew, use a new data directory", ErrBadDocument, old.Fingerprint())
	case d.Serial < old.Serial:
		return fmt.Errorf("%w: it has serial number %d, this node already has %d", ErrBadDocument, d.Serial, old.Serial)
	}
	return nil
}
