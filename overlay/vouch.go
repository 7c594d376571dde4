package overlay

import (
	"context"
	"crypto/ed25519"
	"fmt"
)

// vouchContext keeps what a node vouches for apart from everything else that is signed with its key.
const vouchContext = "p2psip word of a node 1\x00"

// WordSize is the length of what Vouch gives, in bytes: the node's public key and its signature.
const WordSize = ed25519.PublicKeySize + ed25519.SignatureSize

// Vouch gives this node's word for a text, which Vouched of any other member can check.
func (o *Peer) Vouch(text []byte) ([]byte, error) {
	priv, err := ed25519Key(o.key)
	if err != nil {
		return nil, err
	}
	word := append(make([]byte, 0, WordSize), priv.Public().(ed25519.PublicKey)...)
	return append(word, ed25519.Sign(priv, o.vouchText(text))...), nil
}

// Vouched says whether a word is that of a node whose credential permits role r, this one included; nil if it is. A node that
// has advertised the role lately need not be there any more. Another one is asked for its credential, which may take until
// ctx ends.
func (o *Peer) Vouched(ctx context.Context, r Role, text, word []byte) error {
	if len(word) != WordSize {
		return fmt.Errorf("%w: the word of a node has %d bytes, this one has %d", ErrNotEntitled, WordSize, len(word))
	}
	pub := ed25519.PublicKey(word[:ed25519.PublicKeySize])
	if !ed25519.Verify(pub, o.vouchText(text), word[ed25519.PublicKeySize:]) {
		return fmt.Errorf("%w: the signature is not that of the node that is named", ErrNotEntitled)
	}
	n, err := nodeOfKey(pub)
	if err != nil {
		return err
	}
	return o.permits(ctx, n, r)
}

func (o *Peer) vouchText(text []byte) []byte {
	root := o.doc.RootHash()
	return append(append([]byte(vouchContext), root[:]...), text...)
}

// permits says whether a node's credential permits a role; nil if it does.
func (o *Peer) permits(ctx context.Context, n NodeID, r Role) error {
	no := fmt.Errorf("%w: the credential of node %s does not permit the role %s", ErrNotEntitled, n, r)
	if n == o.host.ID() {
		if o.cred.Load().Permits(r) {
			return nil
		}
		return no
	}
	if c := o.roles.caches[r]; c != nil && c.offers(n) {
		return nil
	}
	s, err := o.OpenStream(ctx, n, nil)
	if err != nil {
		return err
	}
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	if s.once.Do(func() { s.helloed = s.greet() }); s.helloed != nil {
		return fmt.Errorf("%w: node %s: %w", ErrUnreachable, n, s.helloed)
	}
	if !s.Member.Permits(r) {
		return no
	}
	return nil
}

// offers says whether a node is known to have offered the role within the lifetime of an advertisement.
func (c *roleCache) offers(n NodeID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.m[n]
	return e != nil && e.advert != nil && c.r.o.now().Before(e.advert.Expires)
}
