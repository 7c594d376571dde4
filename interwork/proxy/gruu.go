package proxy

import (
	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/overlay"
)

// GRUU is what a globally routable user agent URI of the overlay (RFC 5627) stands for.
type GRUU struct {
	// AOR and Device name a phone: whose it is, and its identifier in the user's record, the gr value of its public GRUU.
	AOR    overlay.AOR
	Device string
	Known  bool // the device is, or lately was, registered at this node
	Local  bool // only this node knows what the GRUU stands for: nobody else is asked

	// Node is, for a temporary GRUU, the other node that made it and can read it.
	Node overlay.NodeID
	// Place is, for a temporary GRUU made for a phone that is not registered, where that phone is; its Flow is nil when the
	// way to it is gone.
	Place *Target
}

// GRUUs makes and reads the GRUUs of phones; the node's registrar does it.
type GRUUs interface {
	// GRUU gives the address to put in the place of a Contact in a message from the phone of a user at the far end of f.
	// The zero aor stands for whoever of this node's users is registered with that contact.
	GRUU(aor overlay.AOR, f flow.Flow, contact sip.Uri) (sip.Uri, bool)
	// ReadGRUU says what a GRUU of the overlay stands for; ok is false when it is none, or stands for nothing any more.
	ReadGRUU(uri sip.Uri) (g GRUU, ok bool)
}
