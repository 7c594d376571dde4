package sdp

import "strings"

// Profile is an m= line's protocol where it is RTP over UDP.
type Profile struct {
	DTLS     bool // keys by DTLS: UDP/TLS/RTP/SAVP (RFC 5764)
	Secure   bool // SRTP: RTP/SAVP (RFC 3711)
	Feedback bool // early feedback: AVPF (RFC 4585), SAVPF (RFC 5124)
}

// Profiles by name.
const (
	AVP      = "RTP/AVP"
	AVPF     = "RTP/AVPF"
	SAVP     = "RTP/SAVP"
	SAVPF    = "RTP/SAVPF"
	TLSSAVP  = "UDP/TLS/RTP/SAVP"
	TLSSAVPF = "UDP/TLS/RTP/SAVPF"
)

// ParseProfile reads a protocol. False: it is not RTP over UDP, so it cannot be carried like RTP.
func ParseProfile(proto string) (Profile, bool) {
	switch strings.ToUpper(proto) {
	case AVP:
		return Profile{}, true
	case AVPF:
		return Profile{Feedback: true}, true
	case SAVP:
		return Profile{Secure: true}, true
	case SAVPF:
		return Profile{Secure: true, Feedback: true}, true
	case TLSSAVP:
		return Profile{DTLS: true, Secure: true}, true
	case TLSSAVPF:
		return Profile{DTLS: true, Secure: true, Feedback: true}, true
	}
	return Profile{}, false
}

// String is the protocol's name.
func (p Profile) String() string {
	switch {
	case p.DTLS && p.Feedback:
		return TLSSAVPF
	case p.DTLS:
		return TLSSAVP
	case p.Secure && p.Feedback:
		return SAVPF
	case p.Secure:
		return SAVP
	case p.Feedback:
		return AVPF
	}
	return AVP
}
