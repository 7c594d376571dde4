package media

import (
	"slices"
	"strings"

	"p2psip/interwork/media/sdp"
)

// readAnswer judges the streams of an answer by those of the offer. Streams has one for each m-line of the dialog.
func (n *Negotiation) readAnswer(d *talk, desc *Description) error {
	x, asked := d.last, d.told[desc.From].session
	desc.matched = match(asked.Media, desc.session.Media)
	taken, fit := 0, 0
	for i, at := range desc.matched {
		if at < 0 {
			desc.Streams = append(desc.Streams, MediaLine{Kind: asked.Media[i].Kind, Why: "not answered"})
			continue
		}
		fit++
		m := desc.session.Media[at]
		s := n.readStream(desc.From, m, d.heard[desc.From], i)
		if s.Carry && !x.offered[i] {
			s.Carry, s.Why = false, "was not offered"
		}
		s.Direction = s.Direction.Within(x.streams[i].Direction)
		if s.Carry {
			s.Why = n.cfg.Legs[desc.From].mismatch(d.told[desc.From].local[i], s.Remote)
			s.Carry = s.Why == ""
		}
		if s.Carry {
			taken++
		}
		desc.Streams = append(desc.Streams, s)
	}
	wanted := slices.Contains(x.offered, true)
	if wanted && fit == 0 {
		return &Refusal{502, "an answer without any of the streams offered"}
	}
	if wanted && taken == 0 {
		for i, at := range desc.matched {
			if at >= 0 && desc.session.Media[at].Port != 0 && x.offered[i] {
				return &Refusal{502, "an answer that does not fit: " + desc.Streams[i].Why}
			}
		}
	}
	return nil
}

// match finds the m-line of an answer for each of an offer. They should be as many and in the same order (RFC 3264 §6);
// telephones that forget the refused ones, or mix them up, are understood by kind, streams in use first.
func match(offer, answer []*sdp.Media) []int {
	at := make([]int, len(offer))
	orderly := len(offer) == len(answer)
	for i := 0; orderly && i < len(offer); i++ {
		at[i], orderly = i, strings.EqualFold(offer[i].Kind, answer[i].Kind)
	}
	if orderly {
		return at
	}
	for i := range at {
		at[i] = -1
	}
	used := make([]bool, len(answer))
	for _, inUse := range []bool{true, false} {
		for i, o := range offer {
			if (o.Port != 0) != inUse {
				continue
			}
			for j, a := range answer {
				if !used[j] && strings.EqualFold(o.Kind, a.Kind) {
					at[i], used[j] = j, true
					break
				}
			}
		}
	}
	return at
}

// mismatch says why such an answer does not fit what was offered. A telephone that answers RTP/AVP with AVPF, or encrypts
// what was offered so (RFC 8643) and calls it SAVP, is understood.
func (l Leg) mismatch(offered, answer sdp.Transport) string {
	o, _ := sdp.ParseProfile(offered.Profile)
	a, _ := sdp.ParseProfile(answer.Profile)
	dtls := len(answer.Fingerprints) > 0 && len(offered.Fingerprints) > 0
	sdes := slices.ContainsFunc(answer.Crypto, func(c sdp.Crypto) bool {
		return slices.ContainsFunc(offered.Crypto, func(o sdp.Crypto) bool { return o.Tag == c.Tag && o.Suite == c.Suite })
	})
	switch {
	case (o.DTLS || a.DTLS) && !dtls:
		return "no fingerprint that is understood"
	case (o.Secure || a.Secure) && !dtls && !sdes:
		return "no crypto line that was offered"
	case dtls && answer.Setup == sdp.SetupActpass:
		return "" // against RFC 5763 §5; we begin, as with passive
	case l.Kind == NodeLeg && o.DTLS && !answer.ICE.Usable():
		return "no ICE"
	}
	return ""
}

// sendAnswer passes an answer on.
func (n *Negotiation) sendAnswer(d *talk, desc *Description, local []sdp.Transport) (Sent, error) {
	x := d.last
	from, to := desc.From, x.by
	leg := n.cfg.Legs[to]
	out := desc.session.Clone()
	answers := out.Media
	out.Media = nil
	for i, o := range x.offer.Media {
		m := o
		if i < len(desc.matched) && desc.matched[i] >= 0 {
			m = answers[desc.matched[i]]
		}
		out.Add(m)
	}
	roles := slices.Clone(d.heard[to].roles)
	sent := Sent{Streams: make([]sdp.Transport, len(desc.Streams))}
	streams := slices.Clone(x.streams)
	for i, m := range out.Media {
		o, offered := x.offer.Media[i], x.streams[i]
		s := &desc.Streams[i]
		var t sdp.Transport
		if s.Carry && i < len(local) {
			var why string
			if t, why = leg.answer(local[i], offered.Remote, roles[i]); why != "" {
				s.Carry, s.Why = false, why
			}
		}
		if !s.Carry || t.RTP.Port() == 0 {
			s.Carry = false
			refuse(m, o, desc.matched[i] < 0)
			continue
		}
		setDirection(m, s.Direction)
		m.SetTransport(t)
		sent.Streams[i] = t
		roles[i] = t.Setup
	}
	for i := len(out.Media); i < len(desc.Streams); i++ {
		desc.Streams[i].Carry = false
	}
	out.ClearTransport()
	restoreMids(out, x.offer)
	sent.Body = n.tell(d, to, desc, out, sent.Streams)

	if desc.Status == 0 {
		d.late = false
	}
	d.last = &round{by: x.by, method: x.method, starter: x.starter, cseq: x.cseq, offer: x.offer, streams: streams,
		offered: x.offered, before: x.before, answered: true}
	// Streams that were refused are not in use on the offerer's side either.
	for i := range streams {
		streams[i].Carry = streams[i].Carry && desc.Streams[i].Carry
	}
	h := n.hear(d.heard[to], x.offer, streams)
	h.roles = roles
	d.heard[to] = h
	h = n.hear(x.before[from], desc.session, desc.Streams)
	for i, s := range desc.Streams {
		if s.Carry && len(s.Remote.Fingerprints) > 0 {
			h.roles[i] = RoleOf(s.Remote.Setup, d.told[from].local[i].Setup)
		}
	}
	d.heard[from] = h
	return sent, nil
}

// RoleOf is our role in DTLS after an answer to our offer (RFC 5763 §5): the counterpart of the role answered, active where
// the answer leaves it open.
func RoleOf(answer, offered sdp.Setup) sdp.Setup {
	switch answer {
	case sdp.SetupActive:
		return sdp.SetupPassive
	case sdp.SetupHoldconn:
		return sdp.SetupHoldconn
	case sdp.SetupNone:
		return sdp.SetupPassive // RFC 4145 §4: without the attribute the answerer is active
	}
	return sdp.SetupActive
}

// refuse makes m the refusal of the offer's stream o. forgotten: m is not the answer's, which has none.
func refuse(m, o *sdp.Media, forgotten bool) {
	m.Reject()
	m.Kind, m.Proto = o.Kind, o.Proto
	if forgotten || len(m.Formats) == 0 {
		m.Formats = slices.Clone(o.Formats)
	}
	if forgotten {
		m.Lines = nil
	}
}

// restoreMids gives the streams of an answer the names that they have in the offer (RFC 5888 §9.1), and takes those away
// that the offer does not know.
func restoreMids(answer, offer *sdp.Session) {
	for i, m := range answer.Media {
		mid, _ := m.Attribute("mid")
		want, ok := offer.Media[i].Attribute("mid")
		if mid == want {
			continue
		}
		m.RemoveAttribute("mid")
		if ok {
			m.AddAttribute("mid", want)
		}
	}
}
