package overlay

import (
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"crypto/ed25519"
	"crypto/x509"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"p2psip/overlay/datadir"
)

// maxKeyFile bounds a key file, in bytes.
const maxKeyFile = 4 << 10

// NewKey makes a node key.
func NewKey() (crypto.PrivKey, error) {
	k, _, err := crypto.GenerateEd25519Key(rand.Reader)
	return k, err
}

// LoadOrCreateKey reads the node key at path (PKCS #8 in PEM, mode 0600) or makes one. A key that cannot be read is never
// replaced: the node's identity hangs on it.
func LoadOrCreateKey(path string) (crypto.PrivKey, error) {
	k, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, err
		}
		return crypto.UnmarshalEd25519PrivateKey(k)
	}
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := saveKey(path, priv); err != nil {
		return nil, err
	}
	return crypto.UnmarshalEd25519PrivateKey(priv)
}

// NodeOfKey gives the node identifier that belongs to a key.
func NodeOfKey(k crypto.PrivKey) (NodeID, error) { return peer.IDFromPrivateKey(k) }

func loadKey(path string) (ed25519.PrivateKey, error) {
	b, err := datadir.ReadFile(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	blk, _ := pem.Decode(b)
	if blk == nil || blk.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s is not a private key in PEM form; restore it from a backup, or move it away to start with a new identity", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(blk.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	priv, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, an Ed25519 key is needed", path, k)
	}
	return priv, nil
}

func saveKey(path string, k ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return err
	}
	return datadir.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
