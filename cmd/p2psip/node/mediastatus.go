package node

import (
	"slices"
	"strings"

	"p2psip/interwork/media"
)

// Media is how the sound of calls passes through this node.
type Media struct {
	Sessions    int    `json:"sessions"` // calls anchored here, those that ring included
	MaxSessions int    `json:"max_sessions"`
	PortsUsed   int    `json:"ports_used"` // pairs of ports towards phones
	PortsTotal  int    `json:"ports_total"`
	Refused     uint64 `json:"refused"` // calls, for want of room
	Silent      uint64 `json:"ended_silent"`
	Restarts    uint64 `json:"restarts"` // repairs of paths
	Failed      uint64 `json:"restarts_failed"`
}

// CallMedia is how the sound of one call goes.
type CallMedia struct {
	// Path is where the sound leaves this node: "host" straight, "reflexive" through a NAT, "relayed" through a relay peer; ""
	// while there is none.
	Path   string   `json:"path"`
	Relays []string `json:"relays,omitempty"` // relay peers on this side of the path: the node, or the address of the server
	// Encrypted says between whom: "node to node", "to the far side" where that is outside the overlay, or "no"; "" while keys are
	// being agreed on.
	Encrypted string `json:"encrypted"`
	// Phone says the same for the way to the phone beside this node: "no" for plain RTP.
	Phone   string               `json:"encrypted_to_phone"`
	Trouble string               `json:"trouble,omitempty"`
	Streams []media.StreamStatus `json:"streams"`
}

// Values of CallMedia.Encrypted.
const (
	encryptedNodes = "node to node"
	encryptedFar   = "to the far side"
	encryptedNot   = "no"
)

// callMedia sums up what is known of a call. A stream that is worse off than the others counts.
func callMedia(c media.CallStatus) *CallMedia {
	m := &CallMedia{Encrypted: encryptedNodes, Phone: "yes", Streams: c.Streams}
	if len(c.Streams) == 0 {
		m.Encrypted, m.Phone = "", encryptedNot
	}
	worst := map[string]int{"host": 1, "reflexive": 2, "relayed": 3}
	for _, s := range c.Streams {
		if worst[s.Path] > worst[m.Path] {
			m.Path = s.Path
		}
		relay := s.Relay.String()
		if s.Relay == "" {
			relay = s.RelayServer
		}
		if s.Path == "relayed" && relay != "" && !slices.Contains(m.Relays, relay) {
			m.Relays = append(m.Relays, relay)
		}
		switch {
		case s.FarCrypto == "" && m.Encrypted != encryptedNot:
			m.Encrypted = ""
		case !secret(s.FarCrypto):
			m.Encrypted = encryptedNot
		case !s.NodeToNode && m.Encrypted == encryptedNodes:
			m.Encrypted = encryptedFar
		}
		if !secret(s.NearCrypto) {
			m.Phone = encryptedNot
		}
		if m.Trouble == "" {
			m.Trouble = s.Trouble
		}
	}
	return m
}

// secret says that a description of keys is not that of none.
func secret(crypto string) bool { return crypto != "" && !strings.EqualFold(crypto, "none") }

// mediaStatus fills in what is known of the sound.
func (n *Node) mediaStatus(s *Status) {
	if n.media == nil {
		return
	}
	st := n.media.Status()
	s.Media = &Media{Sessions: st.Sessions, MaxSessions: st.MaxSessions, PortsUsed: st.PortsUsed, PortsTotal: st.PortsTotal,
		Refused: st.Refused, Silent: st.Silent, Restarts: st.Restarts, Failed: st.RestartsBad}
	for i := range s.Calls {
		for _, c := range st.Calls {
			if c.CallID == s.Calls[i].ID && (s.Calls[i].Media == nil || c.Answered) {
				s.Calls[i].Media = callMedia(c)
			}
		}
	}
}
