package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"p2psip/interwork/account"
	"p2psip/overlay"
	"p2psip/overlay/datadir"
)

// Files of a data directory. edge keeps users.json, bindings.json and edge.key beside them.
const (
	KeyFile        = "node.key"       // the node's identity
	DocumentFile   = "overlay.json"   // which overlay it belongs to
	CredentialFile = "credential.pem" // for which users it speaks
	secretFile     = "flow.key"       // proves flow tokens after a restart
	peersFile      = "peers.json"     // nodes met
	stateFile      = "published.json" // sequence numbers used
)

const maxCredentialFile = 64 << 10

var (
	// ErrNoDocument: the data directory belongs to no overlay yet.
	ErrNoDocument = errors.New("this node belongs to no overlay yet")
	// ErrNoCredential: the overlay wants one, and there is none in the data directory.
	ErrNoCredential = errors.New("this node has no credential yet")
)

// Identity is who a node is.
type Identity struct {
	Key        crypto.PrivKey
	Document   *overlay.Document   // which overlay it belongs to
	Credential *overlay.Credential // for which users it speaks
	Secret     []byte              // 32 bytes nobody else knows: proves flow tokens after a restart
	Accounts   []account.Account   // of its users with SIP providers
}

// loadIdentity reads what a data directory holds.
func loadIdentity(dir string, now time.Time) (*Identity, error) {
	doc, err := LoadDocument(dir, now)
	if err != nil {
		return nil, err
	}
	cred, err := LoadCredential(dir, doc, now)
	if err != nil {
		return nil, err
	}
	key, _, err := LoadKey(dir)
	if err != nil {
		return nil, err
	}
	secret, err := loadSecret(filepath.Join(dir, secretFile))
	if err != nil {
		return nil, fmt.Errorf("the key for flow tokens: %w", err)
	}
	return &Identity{Key: key, Document: doc, Credential: cred, Secret: secret}, nil
}

// OpenHome takes a data directory for this process, making it if need be. datadir.ErrLocked says that a node runs there.
func OpenHome(dir string) (*datadir.Dir, error) { return datadir.Open(dir) }

// LoadKey reads or makes the node's key.
func LoadKey(dir string) (crypto.PrivKey, overlay.NodeID, error) {
	key, err := overlay.LoadOrCreateKey(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, "", fmt.Errorf("the node's key: %w", err)
	}
	id, err := overlay.NodeOfKey(key)
	return key, id, err
}

// HasKey says whether there is a node key in a directory.
func HasKey(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, KeyFile))
	return err == nil
}

// LoadDocument reads the overlay document of a data directory; ErrNoDocument if there is none.
func LoadDocument(dir string, now time.Time) (*overlay.Document, error) {
	d, err := overlay.LoadDocument(filepath.Join(dir, DocumentFile), now)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s in %s", ErrNoDocument, DocumentFile, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("the overlay document: %w", err)
	}
	return d, nil
}

// LoadCredential reads the credential of a data directory; ErrNoCredential if there is none.
func LoadCredential(dir string, doc *overlay.Document, now time.Time) (*overlay.Credential, error) {
	path := filepath.Join(dir, CredentialFile)
	b, err := datadir.ReadFile(path, maxCredentialFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s in %s", ErrNoCredential, CredentialFile, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("the credential: %w", err)
	}
	c, err := overlay.ParseCredentialPEM(b, doc, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Install makes a data directory belong to an overlay: key, overlay document, and under the open policy the credential
// that the node signs for itself. A document already there is replaced by a newer one of the same overlay only.
func Install(dir string, doc *overlay.Document, now time.Time) (overlay.NodeID, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("the data directory: %w", err)
	}
	// One that has run out is still good for telling what it may be replaced by, so it is read as of its own time.
	old, err := LoadDocument(dir, doc.Issued)
	switch {
	case errors.Is(err, ErrNoDocument):
	case err != nil:
		return "", err
	default:
		if err := doc.Replaces(old); err != nil {
			return "", err
		}
	}
	key, id, err := LoadKey(dir)
	if err != nil {
		return "", err
	}
	if err := datadir.WriteFile(filepath.Join(dir, DocumentFile), doc.Bytes(), 0o644); err != nil {
		return "", err
	}
	if doc.Policy != overlay.PolicyOpen {
		return id, nil
	}
	if _, err := LoadCredential(dir, doc, now); !errors.Is(err, ErrNoCredential) {
		return id, nil // a good one stays; a bad one is not overwritten either
	}
	cred, err := overlay.SelfSigned(key, doc, now)
	if err != nil {
		return "", err
	}
	return id, datadir.WriteFile(filepath.Join(dir, CredentialFile), cred.PEM(), 0o644)
}

// InstallCredential checks a credential in PEM against the data directory's overlay and key, and puts it there.
func InstallCredential(dir string, pem []byte, now time.Time) (path string, err error) {
	doc, err := LoadDocument(dir, now)
	if err != nil {
		return "", err
	}
	cred, err := overlay.ParseCredentialPEM(pem, doc, now)
	if err != nil {
		return "", err
	}
	_, id, err := LoadKey(dir)
	if err != nil {
		return "", err
	}
	if cred.Node() != id {
		return "", fmt.Errorf("%w: it is for node %s, this node is %s", overlay.ErrBadCredential, cred.Node(), id)
	}
	path = filepath.Join(dir, CredentialFile)
	return path, datadir.WriteFile(path, cred.PEM(), 0o644)
}

// loadSecret reads or makes the key that proves flow tokens.
func loadSecret(path string) ([]byte, error) {
	b, err := datadir.ReadFile(path, 64)
	switch {
	case err == nil && len(b) == 32:
		return b, nil
	case err == nil:
		return nil, fmt.Errorf("%s has %d bytes instead of 32; remove it, and calls in progress lose their way back", path, len(b))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	b = make([]byte, 32)
	rand.Read(b)
	return b, datadir.WriteFile(path, b, 0o600)
}
