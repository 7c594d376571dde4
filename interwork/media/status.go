package media

import (
	"net/netip"
	"slices"
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

// Status tells how every call is.
func (m *Manager) Status() Status {
	m.mu.Lock()
	out := m.totals
	out.Sessions, out.MaxSessions = m.count_, m.cfg.MaxSessions
	var all []*session
	for _, l := range m.sessions {
		all = append(all, l...)
	}
	m.mu.Unlock()
	out.PortsUsed, out.PortsTotal = m.ports.inUse(), m.ports.size()
	out.Warm = m.warm.count()
	for _, s := range all {
		out.Calls = append(out.Calls, s.status())
	}
	slices.SortFunc(out.Calls, func(a, b CallStatus) int { return a.Since.Compare(b.Since) })
	return out
}

// status tells how one call is.
func (s *session) status() CallStatus {
	s.mu.Lock()
	c := CallStatus{
		CallID: s.callID, From: s.first.From, To: s.first.To, Outside: s.first.Outside, Node: s.first.Node,
		Since: s.made, Answered: !s.answered.IsZero(),
	}
	near, lines, applied, firstIn, answered := s.near, s.lines, s.applied, s.firstIn, s.answered
	s.mu.Unlock()
	s.trunk.repair.mu.Lock()
	c.Restarts = s.trunk.repair.done
	s.trunk.repair.mu.Unlock()
	for i, p := range near {
		f := s.trunk.far(i)
		if p == nil || f == nil {
			continue
		}
		st := StreamStatus{FirstPacket: -1, FromPhone: p.leg.stats(), FromFar: f.leg.stats()}
		if i < len(lines) {
			st.Kind = lines[i].Kind
		}
		if i < len(applied) {
			st.Codec = applied[i].codec
		}
		if t := firstIn[i]; !t.IsZero() && !answered.IsZero() {
			st.FirstPacket = Milliseconds(max(0, t.Sub(answered).Milliseconds()))
		}
		var nearTrouble, farTrouble string
		st.NearCrypto, nearTrouble = p.leg.cryptoStatus()
		st.FarCrypto, farTrouble = f.leg.cryptoStatus()
		f.mu.Lock()
		st.Trouble = f.why
		f.mu.Unlock()
		for _, why := range []string{farTrouble, nearTrouble} {
			if st.Trouble == "" {
				st.Trouble = why
			}
		}
		st.NodeToNode = f.kind == NodeLeg && st.FarCrypto != ""
		f.pathStatus(&st)
		c.Streams = append(c.Streams, st)
	}
	return c
}

// pathStatus says which way packets take.
func (f *farCarrier) pathStatus(st *StreamStatus) {
	var sock *socket
	if r := f.raw.Load(); r != nil {
		sock = r.sock
		st.Remote, _ = r.rtp.to()
	} else if p := f.path.Load(); p != nil {
		sock, st.Remote, st.RemoteType = p.sock, p.remote, p.typ
	} else {
		return
	}
	st.Local = sock.local
	st.Relay, st.RelayServer = sock.relay()
	switch {
	case sock.relayed() || st.RemoteType == "relay":
		st.Path = "relayed"
	case st.RemoteType == "srflx" || st.RemoteType == "prflx":
		st.Path = "reflexive"
	default:
		st.Path = "host"
	}
}
