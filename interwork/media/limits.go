package media

import "time"

// Ports towards phones: 499 pairs, out of the way of SIP and of the ports the system draws for itself.
const (
	DefaultPortMin = 20000
	DefaultPortMax = 20998
)

// Bounds of a node.
const (
	// DefaultMaxSessions is what a volunteer's machine carries at once: 256 calls of G.711 are 40 Mbit/s.
	DefaultMaxSessions = 256
	// MaxStreams is how many m-lines of a session are carried: sound, picture, text and one to spare. Others are refused.
	MaxStreams = 4
	// maxHosts is how many addresses of this machine become candidates of a stream.
	maxHosts = 6
	// maxRelays is how many relay peers a stream uses (draft §3.2.1 wants several, every one costs packets).
	maxRelays = 3
	// maxRemoteCandidates is how many candidates of the far side are tried. Each makes a pair with each of ours, and each pair
	// may cost a stranger seven packets of 100 octets (RFC 8445 §19.5.1).
	maxRemoteCandidates = 16
	// maxProven is how many addresses of the far side may prove themselves to one socket.
	maxProven = 32
	// maxPacket is the largest packet that is carried.
	maxPacket = 1500
)

// Times.
const (
	// DefaultSilenceTimeout is how long a call without any packet and any signalling is kept. Phones on hold may send
	// nothing; ICE between nodes does not count as a packet.
	DefaultSilenceTimeout = 60 * time.Second
	// GatherTimeout bounds how long an INVITE waits for candidates.
	GatherTimeout = time.Second
	// DefaultWarm is how many sets of candidates are kept gathered: enough that an INVITE for sound need not wait.
	DefaultWarm = 1
	// portRest is how long a pair of ports is left alone after use, so that what is still on its way to the last call does not
	// end up in the next.
	portRest = 5 * time.Second
	// relatchAfter is the silence after which another source on a phone's host may take over.
	relatchAfter = 5 * time.Second
)
