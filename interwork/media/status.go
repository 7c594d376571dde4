package media

import (
	"net/netip"
	"time"

	"p2psip/overlay"
)

// Status is how the media of a node are.
type Status struct {
	Sessions    int          `json:"sessions"`
	MaxSessions int          `json:"max_sessions"`
	PortsUsed   int          `json:"ports_used"`    // pairs
	PortsTotal  int          `json:"ports_total"`   // pairs, for each address
	Warm        int          `json:"warm"`          // gathered sets of candidates at hand
	Ended       uint64       `json:"ended"`         // sessions that ended with their dialog
	Silent      uint64       `json:"ended_silent"`  // sessions given up because nothing came
	Refused     uint64       `json:"refused"`       // for want of room
	Restarts    uint64       `json:"restarts"`      // repairs that succeeded
	RestartsBad uint64       `json:"restarts_fail"` // repairs that did not
	Calls       []CallStatus `json:"calls,omitempty"`
}

// CallStatus is one anchored call.
type CallStatus struct {
	CallID   string         `json:"call_id"`
	From     string         `json:"from"`
	To       string         `json:"to"`
	Outside  bool           `json:"outside,omitempty"`
	Node     overlay.NodeID `json:"node,omitempty"` // far node
	Since    time.Time      `json:"since"`
	Answered bool           `json:"answered"`
	Restarts int            `json:"restarts,omitempty"`
	Streams  []StreamStatus `json:"streams"`
}

// StreamStatus is one m-line of a call.
type StreamStatus struct {
	Kind        string         `json:"kind"`            // audio, video, text
	Codec       string         `json:"codec,omitempty"` // first of the answer, as "PCMU/8000"
	Path        string         `json:"path,omitempty"`  // host, reflexive, relayed; "" while there is none
	Relay       overlay.NodeID `json:"relay,omitempty"` // our relay peer, if the path begins at one
	RelayServer string         `json:"relay_server,omitempty"`
	Local       netip.AddrPort `json:"local,omitzero"`        // our candidate of the selected pair
	Remote      netip.AddrPort `json:"remote,omitzero"`       // theirs
	RemoteType  string         `json:"remote_type,omitempty"` // host, srflx, prflx, relay
	FarCrypto   string         `json:"far_crypto,omitempty"`  // between the nodes, or to the outside: "DTLS-SRTP AEAD_AES_128_GCM", "SDES …", "none"
	NearCrypto  string         `json:"near_crypto,omitempty"` // to the phone
	NodeToNode  bool           `json:"node_to_node"`          // FarCrypto ends at the node of the other phone
	FirstPacket Milliseconds   `json:"first_packet_ms"`       // from the answer to the first packet out of the far side; -1: none yet
	Trouble     string         `json:"trouble,omitempty"`     // why there is no media
	FromPhone   LegStats       `json:"from_phone"`
	FromFar     LegStats       `json:"from_far"`
}

// Milliseconds is a duration in a status.
type Milliseconds int64

// LegStats counts what came in on one leg.
type LegStats struct {
	Packets  uint64  `json:"packets"` // RTP
	Bytes    uint64  `json:"bytes"`   // RTP, headers included
	RTCP     uint64  `json:"rtcp"`
	Lost     uint64  `json:"lost"`      // by sequence numbers
	JitterMS float64 `json:"jitter_ms"` // RFC 3550 §6.4.1
	Strange  uint64  `json:"strange"`   // dropped: source not proven, or not authentic
}
