package overlay

import (
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multibase"
)

// NodeID names a node: its libp2p peer identifier, derived from the node's Ed25519 key.
type NodeID = peer.ID

// NodeName gives the node's name inside the overlay, "<label>.<overlay identifier>", which SIP headers carry in Via,
// Route and Record-Route. The label is the peer identifier as a CID in base 36: 62 characters of lower-case letters and
// digits, so that it fits a DNS label and survives elements that fold case.
func NodeName(n NodeID, id ID) string {
	s, err := peer.ToCid(n).StringOfBase(multibase.Base36)
	if err != nil {
		return ""
	}
	return s + "." + string(id)
}

// ParseNodeName is the inverse of NodeName; ok is false for any other host.
func ParseNodeName(host string, id ID) (n NodeID, ok bool) {
	label, domain, found := strings.Cut(strings.ToLower(strings.TrimSuffix(host, ".")), ".")
	if !found || domain != string(id) || len(label) > 63 || !strings.HasPrefix(label, "k") {
		return "", false
	}
	c, err := cid.Decode(label)
	if err != nil {
		return "", false
	}
	n, err = peer.FromCid(c)
	if err != nil {
		return "", false
	}
	return n, true
}
