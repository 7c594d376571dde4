package overlay

import (
	"time"
)

// Record is what the overlay knows of one user: the user routing record (draft §4.1), merged from the signed entries of
// all nodes where the user has a phone.
type Record struct {
	AOR   AOR
	Nodes []NodeEntry // newest first
}

// NodeEntry is one node's part of a record.
type NodeEntry struct {
	Node     NodeID
	Addrs    []string  // multiaddrs where the node listens
	Sequence uint64    // rises with every publication of this node for this user
	Issued   time.Time // when it was signed
	Expires  time.Time // until when storing nodes keep it
	Devices  []Device  // empty: a tombstone, the user has left this node
}

// Device is one registered phone.
type Device struct {
	ID      string    // opaque and stable: the gr value of the phone's GRUU (RFC 5627 §3.1), at most 64 bytes
	Q       uint16    // preference in thousandths, 0 to 1000 (RFC 3261 §20.10)
	Expires time.Time // until when the phone counts as reachable
}

// Live gives the entries with at least one reachable device at the given time, each with only those devices.
func (r Record) Live(now time.Time) []NodeEntry {
	var live []NodeEntry
	for _, n := range r.Nodes {
		var d []Device
		for _, dev := range n.Devices {
			if now.Before(dev.Expires) {
				d = append(d, dev)
			}
		}
		if len(d) > 0 {
			n.Devices = d
			live = append(live, n)
		}
	}
	return live
}
