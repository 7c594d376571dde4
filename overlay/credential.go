package overlay

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Bounds on what a stranger may hand over as a credential.
const (
	maxChain       = 3       // leaf and at most two intermediates
	maxCertificate = 4 << 10 // bytes of DER for each
	maxURIs        = 32      // subject alternative names of a leaf
	// ClockSkew is how far the clocks of two members may differ: what is dated further ahead is refused.
	ClockSkew = 5 * time.Minute
)

// ErrBadCredential is wrapped by every refusal of a credential.
var ErrBadCredential = errors.New("credential refused")

// Credential is a member credential: an X.509 certificate whose subject key is the node's own libp2p key, and whose
// subject alternative names are the URIs of the users the node speaks for and the well-known URIs of the roles it may
// take (in the manner of RFC 5922 and RFC 5924). Under the certified policy the overlay's root has signed it, perhaps
// through an intermediate; under the open policy the node signs its own, and the only user it can name is the one that
// follows from its key.
type Credential struct {
	chain []*x509.Certificate // leaf first
	node  NodeID
	users []AOR
	roles []Role
}

// Node gives the node that the credential is bound to.
func (c *Credential) Node() NodeID { return c.node }

// Users gives the users that the node speaks for.
func (c *Credential) Users() []AOR { return slices.Clone(c.users) }

// Roles gives the roles that the node may take.
func (c *Credential) Roles() []Role { return slices.Clone(c.roles) }

// Entitled says whether the node speaks for a user.
func (c *Credential) Entitled(a AOR) bool { return slices.Contains(c.users, a) }

// Permits says whether the node may take a role.
func (c *Credential) Permits(r Role) bool { return slices.Contains(c.roles, r) }

// Expires gives the end of the first certificate in the chain to run out.
func (c *Credential) Expires() time.Time {
	t := c.chain[0].NotAfter
	for _, x := range c.chain[1:] {
		if x.NotAfter.Before(t) {
			t = x.NotAfter
		}
	}
	return t
}

// Issuer names who signed the leaf.
func (c *Credential) Issuer() string { return c.chain[0].Issuer.CommonName }

// PEM gives the chain in PEM, leaf first.
func (c *Credential) PEM() []byte {
	var out []byte
	for _, x := range c.chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Raw})...)
	}
	return out
}

// raw gives the chain as DER, leaf first.
func (c *Credential) raw() [][]byte {
	out := make([][]byte, len(c.chain))
	for i, x := range c.chain {
		out[i] = x.Raw
	}
	return out
}

// ParseCredentialPEM reads a chain written by PEM and verifies it against the overlay document at the given time.
func ParseCredentialPEM(b []byte, doc *Document, now time.Time) (*Credential, error) {
	var der [][]byte
	for len(der) <= maxChain {
		var blk *pem.Block
		blk, b = pem.Decode(b)
		if blk == nil {
			break
		}
		if blk.Type == "CERTIFICATE" {
			der = append(der, blk.Bytes)
		}
	}
	if len(der) == 0 {
		return nil, fmt.Errorf("%w: no certificate in PEM form found", ErrBadCredential)
	}
	return verifyChain(der, doc, now)
}

// verifyChain checks a chain of DER certificates, leaf first, against an overlay document.
func verifyChain(der [][]byte, doc *Document, now time.Time) (*Credential, error) {
	if len(der) == 0 || len(der) > maxChain {
		return nil, fmt.Errorf("%w: a chain of %d certificates, 1 to %d are allowed", ErrBadCredential, len(der), maxChain)
	}
	c := &Credential{}
	for _, d := range der {
		if len(d) > maxCertificate {
			return nil, fmt.Errorf("%w: a certificate of %d bytes, %d are allowed", ErrBadCredential, len(d), maxCertificate)
		}
		x, err := x509.ParseCertificate(d)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrBadCredential, err)
		}
		c.chain = append(c.chain, x)
	}
	leaf := c.chain[0]
	pub, ok := leaf.PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: its key is not Ed25519", ErrBadCredential)
	}
	if leaf.IsCA {
		return nil, fmt.Errorf("%w: a certificate authority cannot be a member", ErrBadCredential)
	}
	var err error
	if c.node, err = nodeOfKey(pub); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBadCredential, err)
	}
	if err := c.readNames(doc.ID); err != nil {
		return nil, err
	}
	derived, err := doc.ID.AOR(DerivedUser(pub))
	if err != nil {
		return nil, err
	}
	for _, u := range c.users {
		if looksDerived(u.User()) && u != derived {
			return nil, fmt.Errorf("%w: %s has the form of a name derived from a key, but not from this one", ErrBadCredential, u)
		}
	}
	if doc.Policy == PolicyOpen && len(c.chain) == 1 && leaf.CheckSignatureFrom(doc.root) != nil {
		err = c.verifySelfSigned(derived, now)
	} else {
		err = c.verifyIssued(doc.root, now)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// verifyIssued checks a chain that must end at the root.
func (c *Credential) verifyIssued(root *x509.Certificate, now time.Time) error {
	roots, mid := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, x := range c.chain[1:] {
		mid.AddCert(x)
	}
	_, err := c.chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: mid, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err == nil {
		return nil
	}
	leaf := c.chain[0]
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("%w: it expired on %s; ask for a new one", ErrBadCredential, leaf.NotAfter.Format(time.DateOnly))
	case now.Add(ClockSkew).Before(leaf.NotBefore):
		return fmt.Errorf("%w: it is not valid before %s; is the clock right?", ErrBadCredential, leaf.NotBefore.Format(time.RFC3339))
	}
	return fmt.Errorf("%w: not issued by the root of this overlay (%v)", ErrBadCredential, err)
}

// verifySelfSigned checks the credential that a node of an open overlay makes for itself: no role, and no user but the
// one that its key proves.
func (c *Credential) verifySelfSigned(derived AOR, now time.Time) error {
	leaf := c.chain[0]
	if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
		return fmt.Errorf("%w: neither the root nor its own key signed it", ErrBadCredential)
	}
	if len(c.roles) > 0 {
		return fmt.Errorf("%w: a role needs a credential issued by the root", ErrBadCredential)
	}
	if len(c.users) != 1 || c.users[0] != derived {
		return fmt.Errorf("%w: without a credential from the root this node can only be %s", ErrBadCredential, derived)
	}
	if now.After(leaf.NotAfter) {
		return fmt.Errorf("%w: it expired on %s", ErrBadCredential, leaf.NotAfter.Format(time.DateOnly))
	}
	return nil
}

// readNames takes users and roles from the subject alternative names; a name that is neither is refused, so that no
// member can carry one whose meaning is agreed on later.
func (c *Credential) readNames(id ID) error {
	uris := c.chain[0].URIs
	if len(uris) == 0 || len(uris) > maxURIs {
		return fmt.Errorf("%w: %d URIs, 1 to %d are allowed", ErrBadCredential, len(uris), maxURIs)
	}
	for _, u := range uris {
		s := u.String()
		if r, ok := roleOfURI(s, id); ok {
			c.roles = append(c.roles, r)
			continue
		}
		a, err := ParseAOR(s)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadCredential, err)
		}
		if a.Host() != id {
			return fmt.Errorf("%w: %s belongs to another overlay than %s", ErrBadCredential, a, id)
		}
		c.users = append(c.users, a)
	}
	return nil
}

// derivedPrefix marks a user name that follows from a key; derivedLen is the number of base-32 digits behind it
// (100 bits: enough that nobody finds a second key for a name).
const (
	derivedPrefix = "k-"
	derivedLen    = 20
)

var derivedEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// DerivedUser gives the user part that a key owns under the open policy: a name that proves itself, which nobody else
// can take because nobody else has the key.
func DerivedUser(pub ed25519.PublicKey) string {
	h := sha256.Sum256(append([]byte("p2psip derived user 1\x00"), pub...))
	return derivedPrefix + derivedEncoding.EncodeToString(h[:])[:derivedLen]
}

func looksDerived(user string) bool {
	return strings.HasPrefix(strings.ToLower(user), derivedPrefix) && len(user) == len(derivedPrefix)+derivedLen
}

// SelfSigned makes the credential of a node in an open overlay.
func SelfSigned(key crypto.PrivKey, doc *Document, now time.Time) (*Credential, error) {
	if doc.Policy != PolicyOpen {
		return nil, fmt.Errorf("%w: the overlay %s wants credentials issued by its root", ErrBadCredential, doc.ID)
	}
	priv, err := ed25519Key(key)
	if err != nil {
		return nil, err
	}
	pub := priv.Public().(ed25519.PublicKey)
	user, err := doc.ID.AOR(DerivedUser(pub))
	if err != nil {
		return nil, err
	}
	tmpl, err := leafTemplate(doc.ID, pub, []AOR{user}, nil, now, selfSignedLife)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, priv)
	if err != nil {
		return nil, fmt.Errorf("making a credential: %w", err)
	}
	return verifyChain([][]byte{der}, doc, now)
}

// selfSignedLife is long because nothing is gained by renewing what one signs oneself.
const selfSignedLife = 10 * 365 * 24 * time.Hour

// leafTemplate fills in the certificate of a member.
func leafTemplate(id ID, pub ed25519.PublicKey, users []AOR, roles []Role, now time.Time, life time.Duration) (*x509.Certificate, error) {
	node, err := nodeOfKey(pub)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: node.String()},
		NotBefore:             now.Add(-ClockSkew),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	for _, u := range users {
		if u.Host() != id {
			return nil, fmt.Errorf("%w: %s is not a user of %s", ErrNotEntitled, u, id)
		}
		p, err := url.Parse(u.String())
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrBadAOR, err)
		}
		t.URIs = append(t.URIs, p)
	}
	for _, r := range roles {
		p, err := url.Parse(r.URI(id))
		if err != nil {
			return nil, err
		}
		t.URIs = append(t.URIs, p)
	}
	if len(t.URIs) == 0 || len(t.URIs) > maxURIs {
		return nil, fmt.Errorf("a credential carries 1 to %d users and roles, not %d", maxURIs, len(t.URIs))
	}
	return t, nil
}

// nodeOfKey gives the peer identifier of an Ed25519 key.
func nodeOfKey(pub ed25519.PublicKey) (NodeID, error) {
	k, err := crypto.UnmarshalEd25519PublicKey(pub)
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(k)
}

// keyOfNode takes the Ed25519 key out of a peer identifier, which embeds it.
func keyOfNode(n NodeID) (ed25519.PublicKey, error) {
	k, err := n.ExtractPublicKey()
	if err != nil {
		return nil, fmt.Errorf("the node identifier %s does not carry an Ed25519 key: %w", n, err)
	}
	if k.Type() != crypto.Ed25519 {
		return nil, fmt.Errorf("the node identifier %s is of a key type other than Ed25519", n)
	}
	return k.Raw()
}

// ed25519Key converts libp2p's form of a private key to the standard library's.
func ed25519Key(k crypto.PrivKey) (ed25519.PrivateKey, error) {
	if k.Type() != crypto.Ed25519 {
		return nil, errors.New("the node key is not Ed25519")
	}
	raw, err := k.Raw()
	if err != nil {
		return nil, err
	}
	return ed25519.PrivateKey(raw), nil
}
