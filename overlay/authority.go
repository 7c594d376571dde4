package overlay

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"p2psip/overlay/datadir"
)

// Files in the directory of an authority.
const (
	RootKeyFile  = "root.key"     // PKCS #8 in PEM, mode 0600: whoever has it owns the overlay
	DocumentFile = "overlay.json" // the overlay document, for everybody
)

const rootLife = 20 * 365 * 24 * time.Hour

// Authority is the root of an overlay: it signs the overlay document and the members' credentials. It lives with whoever
// runs the overlay, not on the nodes. Online enrolment will stand in front of Issue.
type Authority struct {
	key ed25519.PrivateKey
	doc *Document
}

// DocumentOptions are what an overlay's founder decides; zero fields get their defaults.
type DocumentOptions struct {
	ID        string
	Isolated  bool
	Policy    Policy
	DHT       DHTParams
	Bootstrap []string // multiaddrs with /p2p/
	Life      time.Duration
}

// NewAuthority makes an overlay: root key, root certificate and the first overlay document.
func NewAuthority(o DocumentOptions, now time.Time) (*Authority, error) {
	id, err := ParseID(o.ID, o.Isolated)
	if err != nil {
		return nil, err
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	uri, err := url.Parse(RoleProxy.URI(id))
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: string(id) + " root"},
		NotBefore: now.Add(-ClockSkew), NotAfter: now.Add(rootLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		IsCA:     true, BasicConstraintsValid: true, MaxPathLen: maxChain - 2,
		URIs: []*url.URL{uri},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		return nil, fmt.Errorf("making the root certificate: %w", err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if o.Policy == "" {
		o.Policy = PolicyCertified
	}
	if o.DHT.BucketSize == 0 {
		o.DHT.BucketSize = DefaultBucketSize
	}
	if o.DHT.RecordLifetime == 0 {
		o.DHT.RecordLifetime = DefaultRecordLifetime
	}
	if o.DHT.Retention == 0 {
		o.DHT.Retention = max(DefaultRetention, o.DHT.RecordLifetime)
	}
	if o.Life == 0 {
		o.Life = DefaultDocumentLife
	}
	a := &Authority{key: key}
	body := &documentBody{
		Version: documentVersion, ID: string(id), Isolated: o.Isolated, Serial: 1, Root: root.Raw,
		Issued: now.UTC().Truncate(time.Second), Expires: now.Add(o.Life).UTC().Truncate(time.Second),
		Enrolment: enrolmentDoc{o.Policy}, Bootstrap: o.Bootstrap,
		DHT: dhtDoc{o.DHT.BucketSize, int64(o.DHT.RecordLifetime / time.Second), int64(o.DHT.Retention / time.Second)},
	}
	if body.Bootstrap == nil {
		body.Bootstrap = []string{}
	}
	if err := a.sign(body, now); err != nil {
		return nil, err
	}
	return a, nil
}

// sign makes body the authority's document.
func (a *Authority) sign(body *documentBody, now time.Time) error {
	inner, err := json.Marshal(body)
	if err != nil {
		return err
	}
	signed, err := signedBytes(inner)
	if err != nil {
		return err
	}
	file, err := json.MarshalIndent(documentFile{inner, base64.StdEncoding.EncodeToString(ed25519.Sign(a.key, signed))}, "", "  ")
	if err != nil {
		return err
	}
	doc, err := ParseDocument(append(file, '\n'), now)
	if err != nil {
		return err
	}
	a.doc = doc
	return nil
}

// Document gives the current overlay document.
func (a *Authority) Document() *Document { return a.doc }

// Update signs a document with the next serial number and other bootstrap addresses or a later end; a zero life keeps the
// end, nil addresses keep the list.
func (a *Authority) Update(bootstrap []string, life time.Duration, now time.Time) error {
	var f documentFile
	if err := json.Unmarshal(a.doc.raw, &f); err != nil {
		return err
	}
	var body documentBody
	if err := json.Unmarshal(f.Overlay, &body); err != nil {
		return err
	}
	body.Serial++
	body.Issued = now.UTC().Truncate(time.Second)
	if bootstrap != nil {
		body.Bootstrap = bootstrap
	}
	if life > 0 {
		body.Expires = now.Add(life).UTC().Truncate(time.Second)
	}
	return a.sign(&body, now)
}

// Issue signs a member credential that binds users and roles to a node for a time.
func (a *Authority) Issue(node NodeID, users []AOR, roles []Role, life time.Duration, now time.Time) (*Credential, error) {
	pub, err := keyOfNode(node)
	if err != nil {
		return nil, err
	}
	if life <= 0 {
		return nil, fmt.Errorf("a credential must be valid for some time, not %v", life)
	}
	tmpl, err := leafTemplate(a.doc.ID, pub, users, roles, now, life)
	if err != nil {
		return nil, err
	}
	if tmpl.NotAfter.After(a.doc.root.NotAfter) {
		tmpl.NotAfter = a.doc.root.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.doc.root, pub, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the credential: %w", err)
	}
	return verifyChain([][]byte{der}, a.doc, now)
}

// Save writes the key and the document into dir. It refuses to replace another root key.
func (a *Authority) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, RootKeyFile)
	old, err := loadKey(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := saveKey(path, a.key); err != nil {
			return err
		}
	case err != nil:
		return err
	case !old.Equal(a.key):
		return fmt.Errorf("%s already holds the root key of an overlay: %w", dir, fs.ErrExist)
	}
	return datadir.WriteFile(filepath.Join(dir, DocumentFile), a.doc.raw, 0o644)
}

// LoadAuthority reads what Save wrote.
func LoadAuthority(dir string, now time.Time) (*Authority, error) {
	key, err := loadKey(filepath.Join(dir, RootKeyFile))
	if err != nil {
		return nil, err
	}
	doc, err := LoadDocument(filepath.Join(dir, DocumentFile), now)
	if err != nil {
		return nil, err
	}
	if !doc.root.PublicKey.(ed25519.PublicKey).Equal(key.Public()) {
		return nil, fmt.Errorf("the root key and the overlay document in %s do not belong together", dir)
	}
	return &Authority{key: key, doc: doc}, nil
}

// LoadDocument reads an overlay document from a file.
func LoadDocument(path string, now time.Time) (*Document, error) {
	b, err := datadir.ReadFile(path, maxDocument)
	if err != nil {
		return nil, err
	}
	doc, err := ParseDocument(b, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return doc, nil
}
