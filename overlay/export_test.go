package overlay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"time"

	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/crypto"
)

// What the tests of this package need to play a hostile member.

// UserKey gives the DHT key of a user.
var UserKey = userKey

// SignEntry signs an entry without asking whether it makes sense.
var SignEntry = signEntry

// PutAt asks one node to store a value, as any member can.
func (o *Peer) PutAt(ctx context.Context, n NodeID, key string, value []byte) error {
	return o.messenger.PutValue(ctx, n, record.MakePutRecord(key, value))
}

// Holds says how many devices a node's own store has for a user, -1 if it stores nothing.
func (o *Peer) Holds(a AOR) int {
	es := o.store.local(userKey(a))
	if es == nil {
		return -1
	}
	n := 0
	for _, e := range es {
		n += len(e.Devices)
	}
	return n
}

// HoldsSequence gives the highest sequence number that a node stores for a user.
func (o *Peer) HoldsSequence(a AOR) uint64 { return o.store.local(userKey(a)).newest() }

// SignAs signs an entry with one key and shows another's credential.
func SignAs(key crypto.PrivKey, cred *Credential, doc *Document, aor AOR, e NodeEntry) ([]byte, error) {
	value, err := signEntry(key, &Credential{chain: cred.chain, users: []AOR{aor}}, doc, aor, e)
	return value, err
}

// Resign takes a value apart, lets change alter the entry, and signs the result again.
func Resign(key crypto.PrivKey, value []byte, change func(version *int, overlay *[]byte, aor *string, devices int)) []byte {
	var list []wireSigned
	if err := unmarshalAll(value, &list); err != nil {
		panic(err)
	}
	var w wireEntry
	if err := unmarshalAll(list[0].Entry, &w); err != nil {
		panic(err)
	}
	change(&w.Version, &w.Overlay, &w.AOR, len(w.Devices))
	list[0].Entry, _ = asn1.Marshal(w)
	priv, err := ed25519Key(key)
	if err != nil {
		panic(err)
	}
	list[0].Signature = ed25519.Sign(priv, append([]byte(entryContext), list[0].Entry...))
	out, err := asn1.Marshal(list)
	if err != nil {
		panic(err)
	}
	return out
}

// ValidateAt applies a node's own rules to a value.
func (o *Peer) ValidateAt(key string, value []byte) error {
	return userValidator{o.verifier}.Validate(key, value)
}

// SelectAt applies a node's own choice between values.
func (o *Peer) SelectAt(key string, values ...[]byte) (int, error) {
	return userValidator{o.verifier}.Select(key, values)
}

// ForgeSelfSigned makes a self-signed credential with any names and has it verified.
func ForgeSelfSigned(key crypto.PrivKey, doc *Document, users []AOR, roles []Role, now time.Time) (*Credential, error) {
	priv, err := ed25519Key(key)
	if err != nil {
		return nil, err
	}
	pub := priv.Public().(ed25519.PublicKey)
	tmpl, err := leafTemplate(doc.ID, pub, users, roles, now, time.Hour)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, priv)
	if err != nil {
		return nil, err
	}
	return verifyChain([][]byte{der}, doc, now)
}

// Keeps says whether the connection with a node stays however many others there are.
func (o *Peer) Keeps(n NodeID) bool { return o.host.ConnManager().IsProtected(n, "") }

// GetAt asks one node for what it stores under a key.
func (o *Peer) GetAt(ctx context.Context, n NodeID, key string) ([]byte, error) {
	rec, _, err := o.messenger.GetValue(ctx, n, key)
	return rec.GetValue(), err
}

// SignAdvertAs signs an advertisement with one key, shows a credential, and does not ask whether it permits the role.
func SignAdvertAs(key crypto.PrivKey, cred *Credential, doc *Document, a Advert) ([]byte, error) {
	return signAdvert(key, &Credential{chain: cred.chain, node: cred.node, roles: []Role{a.Role}}, doc, a, 0, false)
}

// Adverts reads a value as this node does.
func (o *Peer) Adverts(value []byte) ([]Advert, error) {
	s, err := o.roles.v.set(value, false)
	var out []Advert
	for _, a := range s {
		if !a.withdrawn {
			out = append(out, a.Advert)
		}
	}
	return out, err
}

// Table gives the nodes of the routing table.
func (o *Peer) Table() []NodeID { return o.dht.RoutingTable().ListPeers() }

// TableNearest gives the n nodes of the routing table nearest to this one.
func (o *Peer) TableNearest(n int) []NodeID {
	return o.dht.RoutingTable().NearestPeers(kadID(string(o.host.ID())), n)
}

// KeyDistance gives the distance of a node to a user's key.
func KeyDistance(a AOR, n NodeID) [32]byte { return kadDistance(kadTarget(userKey(a)), n) }

// NodeDistance gives the distance between two nodes.
func NodeDistance(a, b NodeID) [32]byte { return kadDistance(kadTarget(string(a)), b) }

// PutRecord stores a value at the nodes nearest to its key, as publishing does.
func (o *Peer) PutRecord(ctx context.Context, key string, value []byte) (Publication, error) {
	return o.putRecord(ctx, key, value)
}
