package media

import (
	"net/netip"

	"p2psip/interwork/media/sdp"
)

// LegKind is what stands at the end of a leg.
type LegKind uint8

// The kinds.
const (
	// PhoneLeg: a phone of this node. It is offered RTP/AVP, or what it has used itself in this dialog.
	PhoneLeg LegKind = iota
	// NodeLeg: another node, or a phone beside it that does all itself. It is offered UDP/TLS/RTP/SAVP with ICE, and never in
	// clear.
	NodeLeg
	// OutsideLeg: somebody outside the overlay of whom nothing is known. It is offered RTP/AVP with ICE (the default candidate
	// being c= and m=), RTCP on the same port, and a fingerprint beside it (RFC 8643).
	OutsideLeg
)

// Leg says how descriptions for one side are written.
type Leg struct {
	Kind LegKind
	// Opportunistic: keys (a=crypto) are offered beside RTP/AVP (RFC 8643). Right where the signalling is encrypted.
	Opportunistic bool
	// Address is written where no stream gives one: when all are refused.
	Address netip.Addr
}

// offer picks from what a leg has what is offered there. known is what that side has last said of this stream, the zero
// value at first; feedback says that the offer which is passed on wants early feedback (AVPF).
func (l Leg) offer(local, known sdp.Transport, feedback bool) (sdp.Transport, string) {
	t := sdp.Transport{RTP: local.RTP, RTCP: local.RTCP}
	p, old := sdp.ParseProfile(known.Profile)
	if !old && l.Kind == NodeLeg {
		p = sdp.Profile{DTLS: true, Secure: true, Feedback: feedback}
	}
	t.Profile = p.String()

	dtls := p.DTLS || len(known.Fingerprints) > 0
	sdes := p.Secure && !dtls || len(known.Crypto) > 0
	if !p.Secure { // beside RTP/AVP
		dtls = dtls || l.Kind == OutsideLeg
		sdes = sdes || l.Opportunistic
	}
	if dtls && len(local.Fingerprints) > 0 {
		t.Fingerprints, t.Setup, t.TLSID = local.Fingerprints, sdp.SetupActpass, local.TLSID
	}
	if sdes && !p.DTLS {
		t.Crypto = local.Crypto
	}
	switch l.Kind {
	case PhoneLeg:
		t.Mux = local.Mux && known.Mux
	case NodeLeg:
		t.ICE, t.Mux = local.ICE, true
	case OutsideLeg:
		t.ICE, t.Mux = local.ICE, local.Mux
	}
	t.RTCP = l.rtcp(t, local)
	return t, l.lacks(t, p)
}

// answer picks from what a leg has what an offer from there is answered with. had is our role in the DTLS association that
// goes on, SetupNone where a new one begins.
func (l Leg) answer(local, offered sdp.Transport, had sdp.Setup) (sdp.Transport, string) {
	t := sdp.Transport{RTP: local.RTP, RTCP: local.RTCP, Profile: offered.Profile, Mux: offered.Mux && local.Mux}
	if l.Kind == NodeLeg {
		t.Mux = offered.Mux
	}
	p, _ := sdp.ParseProfile(offered.Profile)
	switch {
	case offered.ICE != nil && offered.ICE.Mismatch:
		t.ICE = &sdp.ICE{Mismatch: true}
	case offered.ICE.Usable():
		t.ICE = local.ICE
	}
	// RTP/SAVP means SDES, but with a fingerprint alone it means DTLS, as browsers wrote it before RFC 5764's name was settled.
	c, sdes := ChooseCrypto(offered.Crypto, local.Crypto)
	dtls := len(offered.Fingerprints) > 0 && len(local.Fingerprints) > 0
	switch {
	case dtls && (p.DTLS || !p.Secure || !sdes):
		t.Fingerprints, t.Setup = local.Fingerprints, offered.Setup.Answer(had)
		if offered.TLSID != "" {
			t.TLSID = local.TLSID
		}
	case sdes && !p.DTLS:
		t.Crypto = []sdp.Crypto{c}
	}
	t.RTCP = l.rtcp(t, local)
	if l.Kind == NodeLeg && len(t.Fingerprints)+len(t.Crypto) == 0 {
		return t, "not encrypted"
	}
	return t, l.lacks(t, p)
}

// rtcp: one port for both needs no a=rtcp, except where the far side may not know rtcp-mux, and then the same port is told.
func (l Leg) rtcp(t, local sdp.Transport) netip.AddrPort {
	switch {
	case l.Kind == OutsideLeg && !local.RTCP.IsValid():
		return local.RTP
	case t.Mux && l.Kind != OutsideLeg:
		return netip.AddrPort{}
	}
	return local.RTCP
}

// lacks says what is missing for a protocol that promises keys.
func (l Leg) lacks(t sdp.Transport, p sdp.Profile) string {
	switch {
	case t.RTP.Port() == 0:
		return "no port"
	case p.DTLS && len(t.Fingerprints) == 0:
		return "no fingerprint in common"
	case p.Secure && len(t.Fingerprints)+len(t.Crypto) == 0:
		return "no crypto suite in common"
	case l.Kind == NodeLeg && p.DTLS && t.ICE == nil:
		return "no ICE"
	}
	return ""
}

// ChooseCrypto answers an offer of SDES keys (RFC 4568 §5.1.2): the first line whose suite is among ours, with its tag and our
// key. Lines with an MKI are taken only if nothing else is there.
func ChooseCrypto(offered, ours []sdp.Crypto) (sdp.Crypto, bool) {
	for _, mki := range []bool{false, true} {
		for _, o := range offered {
			for _, c := range ours {
				if c.Suite == o.Suite && mki == (o.MKI != "") {
					return sdp.Crypto{Tag: o.Tag, Suite: c.Suite, KeySalt: c.KeySalt}, true
				}
			}
		}
	}
	return sdp.Crypto{}, false
}
