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
	// maxSources is how many synchronization sources a leg carries with one set of keys. A phone has one, and another after each
	// transfer or hold; a stranger has as many as they like.
	maxSources = 64
	// beginsAnew is how many packets in a row with numbers that were used make a source that counts anew.
	beginsAnew = 10
	// replayWindow is how many packets back are told apart (RFC 3711 §3.3.2 wants 64).
	replayWindow = 128
	// maxRecords is how many DTLS records wait to be read.
	maxRecords = 32
	// maxPassages is how many transactions of a dialog are remembered for their ACK and late responses.
	maxPassages = 8
	// maxPassing is how many dialogs are remembered that pass untouched.
	maxPassing = 4096
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
	// stunPatience is how long a STUN server is waited for: UDP may be blocked, and relays are found by other ways then.
	stunPatience = 350 * time.Millisecond
	// warmRefresh is how often the bindings of a gathered set are kept: the shortest that NATs were seen to have is 30 s (RFC
	// 4787 REQ-5 wants two minutes). warmAge is when it is gathered anew.
	warmRefresh = 15 * time.Second
	warmAge     = 5 * time.Minute
	// Consent (RFC 7675): a check every keepaliveInterval, given up for lost after disconnectedAfter without any answer or
	// request, for voice that is to be back within 3 s. pion/ice shuts the sockets after failedAfter.
	keepaliveInterval = 400 * time.Millisecond
	disconnectedAfter = time.Second
	failedAfter       = 20 * time.Second
	// checkInterval is how often pairs are checked before one is selected, checksPerPair how often at the most: 5 s, for a far
	// side whose 200 is slow.
	checkInterval = 100 * time.Millisecond
	checksPerPair = 50
	// relayPatience is how long a direct path may take when a relay works already.
	relayPatience = 400 * time.Millisecond
	// handshakeTimeout is how long a phone may take to pick up its end of DTLS; flightInterval is when a lost flight is sent again,
	// doubling (RFC 9147 §5.8.1 lets real-time media be quicker than a second).
	handshakeTimeout = 20 * time.Second
	flightInterval   = 250 * time.Millisecond
	// A call that rings, or is on hold on both sides, has no packets. The proxy says when the first is over, and the second ends
	// with its session timer or here.
	ringingTimeout = 10 * time.Minute
	holdTimeout    = 2 * time.Hour
	// retireAfter is how long an old generation is kept beside a new one that works; maxRetired how many there are.
	retireAfter = 3 * time.Second
	maxRetired  = 3
	// stuckAfter is how long ICE may look for a first pair before it is begun anew.
	stuckAfter = 4 * time.Second
	// A restart of ICE takes restartTimeout at the most; a new pair is waited for settleTimeout; attempts that fail are repeated
	// after repairPause, doubling up to repairPauseMax.
	restartTimeout = 4 * time.Second
	settleTimeout  = 3 * time.Second
	settlePoll     = 20 * time.Millisecond
	repairPause    = 200 * time.Millisecond
	repairPauseMax = 5 * time.Second
	// addressPoll is how often the addresses of this machine are looked at while there are calls.
	addressPoll = 500 * time.Millisecond
	// warmAfter is how long candidates are kept gathered after the last call or registration.
	warmAfter = 5 * time.Minute
	// portRest is how long a pair of ports is left alone after use, so that what is still on its way to the last call does not
	// end up in the next.
	portRest = 5 * time.Second
	// relatchAfter is the silence after which another source on a phone's host may take over.
	relatchAfter = 5 * time.Second
)
