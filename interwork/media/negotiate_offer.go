package media

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"p2psip/interwork/media/sdp"
)

// readOffer judges the streams of an offer.
func (n *Negotiation) readOffer(d *talk, desc *Description) error {
	inUse := 0
	for _, m := range desc.session.Media {
		if m.Port != 0 {
			inUse++
		}
	}
	if inUse > n.cfg.MaxStreams {
		return &Refusal{488, fmt.Sprintf("%d streams, more than %d", inUse, n.cfg.MaxStreams)}
	}
	carried, why := 0, ""
	for i, m := range desc.session.Media {
		s := n.readStream(desc.From, m, d.heard[desc.From], i)
		if s.Carry {
			if w := n.cfg.Legs[desc.From].refuses(s.Remote); w != "" {
				s.Carry, s.Why = false, w
			}
		}
		if s.Carry {
			carried++
		} else if why == "" && m.Port != 0 {
			why = s.Why
		}
		desc.Streams = append(desc.Streams, s)
	}
	if carried == 0 && inUse > 0 {
		return &Refusal{488, why}
	}
	for len(desc.Streams) < d.slots() {
		desc.Streams = append(desc.Streams, MediaLine{Why: "left out of the offer"})
	}
	return nil
}

// slots is how many m-lines the dialog has (RFC 3264 §8: there are never fewer than before).
func (d *talk) slots() int { return max(len(d.heard[Near].remote), len(d.heard[Far].remote)) }

// readStream says what an m-line brings, and whether it is RTP that can be carried.
func (n *Negotiation) readStream(from Side, m *sdp.Media, before heard, slot int) MediaLine {
	s := MediaLine{Kind: m.Kind, Codec: m.Main(), Remote: m.Transport(), Direction: m.Direction()}
	if n.cfg.Legs[from].Kind == OutsideLeg && s.Remote.Misled() {
		s.Remote.ICE.Mismatch = true
	}
	_, rtp := sdp.ParseProfile(m.Proto)
	addr := s.Remote.RTP.Addr()
	switch {
	case m.Port == 0:
		s.Why = "refused"
	case !rtp:
		s.Why = m.Kind + " over " + m.Proto + " is not carried"
	case m.Ports != 1:
		s.Why = "a stream on several ports is not carried"
	case !addr.IsValid() && s.Remote.Host == "" && !s.Remote.ICE.Usable():
		s.Why = "no address"
	case addr.IsMulticast():
		s.Why = "multicast is not carried"
	default:
		s.Carry = true
	}
	// RFC 2543's way to put on hold: nothing is to be sent there. With ICE the address means nothing (RFC 8840 §4.1.1).
	if addr.IsUnspecified() && !s.Remote.ICE.Usable() {
		s.Direction.Recv = false
	}
	if old, ok := before.stream(slot, m.Kind); ok {
		if i, o := s.Remote.ICE, old.ICE; i.Usable() && o.Usable() {
			s.Restart = i.Ufrag != o.Ufrag || i.Pwd != o.Pwd
		}
		s.NewKeys = !sameKeys(s.Remote, old)
	}
	return s
}

// refuses says why an offer of such a stream cannot be answered on this leg, whatever it has.
func (l Leg) refuses(t sdp.Transport) string {
	p, _ := sdp.ParseProfile(t.Profile)
	keys := len(t.Fingerprints)+len(t.Crypto) > 0
	switch {
	case p.DTLS && len(t.Fingerprints) == 0:
		return "no fingerprint that is understood"
	case p.Secure && !keys:
		return "no crypto line that is understood"
	case l.Kind == NodeLeg && !keys:
		return "not encrypted"
	case l.Kind == NodeLeg && !t.ICE.Usable():
		return "no ICE"
	}
	return ""
}

// stream is what was heard of a stream, if it is of the same kind still.
func (h heard) stream(i int, kind string) (sdp.Transport, bool) {
	if i >= len(h.remote) || !strings.EqualFold(h.kinds[i], kind) || h.remote[i].RTP.Port() == 0 {
		return sdp.Transport{}, false
	}
	return h.remote[i], true
}

// sameKeys says whether encryption goes on as it was (RFC 8842 §5.1).
func sameKeys(a, b sdp.Transport) bool {
	if a.TLSID != b.TLSID || len(a.Fingerprints) != len(b.Fingerprints) || len(a.Crypto) != len(b.Crypto) {
		return false
	}
	for i, f := range a.Fingerprints {
		if f != b.Fingerprints[i] {
			return false
		}
	}
	for i, c := range a.Crypto {
		if o := b.Crypto[i]; c.Suite != o.Suite || c.KeySalt != o.KeySalt || c.MKI != o.MKI {
			return false
		}
	}
	return true
}

// sendOffer passes an offer on.
func (n *Negotiation) sendOffer(d *talk, desc *Description, local []sdp.Transport) (Sent, error) {
	from, to := desc.From, desc.From.Other()
	leg, out := n.cfg.Legs[to], desc.session.Clone()
	sent := Sent{Streams: make([]sdp.Transport, len(desc.Streams))}
	offered := make([]bool, len(desc.Streams))
	out.ClearTransport()
	for i, m := range out.Media {
		s := &desc.Streams[i]
		var t sdp.Transport
		if s.Carry && i < len(local) {
			known, _ := d.heard[to].stream(i, m.Kind)
			p, _ := sdp.ParseProfile(m.Proto)
			var why string
			if t, why = leg.offer(local[i], known, p.Feedback); why != "" {
				s.Carry, s.Why = false, why
			}
		}
		if !s.Carry || t.RTP.Port() == 0 {
			s.Carry = false
			m.Reject()
			continue
		}
		m.SetTransport(t)
		setDirection(m, s.Direction)
		sent.Streams[i], offered[i] = t, true
	}
	for i := len(out.Media); i < len(desc.Streams); i++ {
		out.Add(d.refused(to, i))
	}
	if why := nothingLeft(desc.Streams, offered); why != "" {
		return Sent{}, &Refusal{488, why}
	}
	dropMids(out)
	sent.Body = n.tell(d, to, desc, out, sent.Streams)

	if desc.Status == 0 && desc.Method == "INVITE" {
		d.late = false
	}
	x := &round{by: from, method: desc.Method, starter: from, cseq: desc.CSeq, offer: desc.session,
		streams: desc.Streams, offered: offered, before: d.heard}
	if desc.Status != 0 {
		x.starter = to
	}
	if old := d.last; old != nil && !old.answered {
		x.before = old.before // an offer in place of one in a provisional response
	}
	d.last = x
	d.heard[from] = n.hear(d.heard[from], desc.session, desc.Streams)
	return sent, nil
}

// nothingLeft says why no stream goes on, where there was one to begin with.
func nothingLeft(streams []MediaLine, goesOn []bool) string {
	why := ""
	for i, s := range streams {
		if goesOn[i] {
			return ""
		}
		if why == "" && s.Remote.RTP.Port() != 0 {
			why = s.Why
		}
	}
	return why
}

// refused is the m-line of a stream that once was and is not in use.
func (d *talk) refused(to Side, i int) *sdp.Media {
	m := &sdp.Media{Kind: "audio", Proto: sdp.AVP, Formats: []string{"0"}}
	for _, s := range []*sdp.Session{d.told[to].session, d.heard[to].session, d.told[1-to].session, d.heard[1-to].session} {
		if s != nil && i < len(s.Media) {
			o := s.Media[i]
			m.Kind, m.Proto, m.Formats = o.Kind, o.Proto, o.Formats
			break
		}
	}
	m.Reject()
	return m
}

// hear is what a side has said after such a description. Streams that are not in use keep no role.
func (n *Negotiation) hear(before heard, s *sdp.Session, streams []MediaLine) heard {
	h := heard{session: s, remote: make([]sdp.Transport, len(streams)), kinds: make([]string, len(streams)),
		roles: make([]sdp.Setup, len(streams))}
	for i, st := range streams {
		h.kinds[i] = st.Kind
		if !st.Carry {
			continue
		}
		h.remote[i] = st.Remote
		if i < len(before.roles) && !st.NewKeys {
			h.roles[i] = before.roles[i]
		}
	}
	return h
}

// tell finishes a description for a side: o= and c= (RFC 3264 §5 and §8). The version counts up when anything else has
// changed.
func (n *Negotiation) tell(d *talk, to Side, desc *Description, out *sdp.Session, local []sdp.Transport) []byte {
	t := &d.told[to]
	if t.session == nil {
		t.username, t.addr = desc.session.Origin().Username, n.cfg.Legs[to].Address
		for _, l := range local {
			if a := l.RTP.Addr(); a.IsValid() && !a.IsUnspecified() {
				t.addr = a
				break
			}
		}
		if !t.addr.IsValid() {
			t.addr = netip.IPv4Unspecified()
		}
		t.id, t.version = n.id(to, desc), n.cfg.Version
	}
	other := n.cfg.Legs[to].Address
	if !other.IsValid() {
		other = t.addr
	}
	out.ShareConnection(other)
	out.SetOrigin(sdp.NewOrigin(t.username, t.id, 0, t.addr))
	if content := out.Marshal(); !bytes.Equal(content, t.content) {
		if t.session != nil {
			t.version++
		}
		t.content = content
	}
	out.SetOrigin(sdp.NewOrigin(t.username, t.id, t.version, t.addr))
	t.session, t.local = out, local
	return out.Marshal()
}

// id is the number of a session towards one side. The answers of different forks are different sessions.
func (n *Negotiation) id(to Side, desc *Description) uint64 {
	fork := ""
	if desc.Status != 0 {
		fork = desc.Fork
	}
	h := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", n.cfg.ID, to, fork))
	return binary.BigEndian.Uint64(h[:]) >> 2 // with a sign it has to fit into 64 bits (RFC 3264 §5)
}

func setDirection(m *sdp.Media, d sdp.Direction) {
	if m.Direction() != d {
		m.SetDirection(d)
	}
}

// dropMids takes the names of streams away where no group needs them (RFC 5888); that of BUNDLE is gone already.
func dropMids(s *sdp.Session) {
	if len(s.Attributes("group")) > 0 {
		return
	}
	for _, m := range s.Media {
		m.RemoveAttribute("mid")
	}
}
