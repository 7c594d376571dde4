package proxy

import (
	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/overlay"
)

// Target is one place a request may be sent to (RFC 3261 §16.5): a registered phone of this node, or another node.
type Target struct {
	// URI replaces the Request-URI: a phone's Contact as it registered it, without the headers part. A URI without host
	// leaves the Request-URI as it is: so for another node, which resolves the address of record itself.
	URI sip.Uri
	// Q is the preference in thousandths, 0 to 1000 (RFC 3261 §20.10); the highest is tried first.
	Q uint16
	// ID is the opaque device identifier, the gr value of the phone's GRUU (RFC 5627 §3.1).
	ID string
	// Flow is where the phone is reached; nil when its connection is gone.
	Flow flow.Flow
	// Node and Addrs name another node (Flow is nil then): its identity and the multiaddrs it was last known at.
	Node  overlay.NodeID
	Addrs []string
	// ICE says that the phone does ICE by itself: it has registered with +sip.ice (RFC 5768).
	ICE bool
	// Hop names a place outside the overlay, for a proxy peer (Flow is nil and Node empty then).
	Hop Hop
}
