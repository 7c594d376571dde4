package media

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"p2psip/interwork/media/sdp"
)

// wilful is a phone that offers and answers at random, within the rules.
type wilful struct {
	r        *rand.Rand
	name     string
	keys     string // "", "sdes", "dtls": what it offers
	version  int
	streams  []string // kinds, one for each m-line there ever was
	sent     *sdp.Session
	received *sdp.Session
}

var (
	kinds      = []string{"audio", "audio", "audio", "video", "text", "image", "message", "application"}
	codecNames = map[string][]string{
		"audio": {"PCMU/8000", "PCMA/8000", "opus/48000/2", "G722/8000", "telephone-event/8000"},
		"video": {"VP8/90000", "H264/90000", "rtx/90000"},
		"text":  {"t140/1000", "red/1000"},
	}
	otherLines = []string{"a=ptime:20", "a=label:%d", "a=content:main", "a=extmap:1 urn:x", "a=rtcp-fb:* nack", "a=x-thing:%d ", "b=AS:%d",
		"i=stream %d", "a=ssrc:%d cname:x", "a=lang:de"}
)

func (p *wilful) head(b *strings.Builder) {
	p.version++
	fmt.Fprintf(b, "v=0\r\no=%s 4 %d IN IP4 192.0.2.1\r\ns=call\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n", p.name, p.version)
	if p.r.IntN(4) == 0 {
		fmt.Fprintf(b, "a=tool:%d\r\n", p.r.IntN(3))
	}
}

// offer describes what it wants now. There is always a stream in use that can be carried.
func (p *wilful) offer() []byte {
	if len(p.streams) == 0 || p.r.IntN(3) == 0 && len(p.streams) < 5 {
		p.streams = append(p.streams, kinds[p.r.IntN(len(kinds))])
	}
	if !slices.ContainsFunc(p.streams, carriedKind) {
		p.streams = append(p.streams, "audio")
	}
	var b strings.Builder
	p.head(&b)
	must := slices.IndexFunc(p.streams, carriedKind)
	for i, kind := range p.streams {
		port := 4000 + 2*i
		if i != must && p.r.IntN(4) == 0 {
			port = 0
		}
		p.stream(&b, i, kind, port, codecNames[kind], sdp.SendRecv)
	}
	return []byte(b.String())
}

func carriedKind(kind string) bool { return codecNames[kind] != nil }

func (p *wilful) stream(b *strings.Builder, i int, kind string, port int, codecs []string, most sdp.Direction) {
	switch kind {
	case "image":
		fmt.Fprintf(b, "m=image %d udptl t38\r\na=T38FaxVersion:0\r\n", port)
		return
	case "message":
		fmt.Fprintf(b, "m=message %d TCP/MSRP *\r\na=accept-types:text/plain\r\n", port)
		return
	case "application":
		fmt.Fprintf(b, "m=application %d UDP/DTLS/SCTP webrtc-datachannel\r\na=sctp-port:5000\r\n", port)
		return
	}
	proto := map[string]string{"": sdp.AVP, "sdes": sdp.SAVP, "dtls": sdp.TLSSAVP}[p.keys]
	if p.r.IntN(4) == 0 {
		proto += "F"
	}
	p.rtp(b, i, kind, port, proto, p.codecs(codecs), most)
}

func (p *wilful) rtp(b *strings.Builder, i int, kind string, port int, proto string, formats [][2]string, most sdp.Direction) {
	fmt.Fprintf(b, "m=%s %d %s", kind, port, proto)
	for _, f := range formats {
		b.WriteString(" " + f[0])
	}
	b.WriteString("\r\n")
	for _, f := range formats {
		fmt.Fprintf(b, "a=rtpmap:%s %s\r\n", f[0], f[1])
	}
	for _, l := range otherLines {
		if p.r.IntN(5) == 0 {
			b.WriteString(strings.ReplaceAll(l, "%d", strconv.Itoa(p.r.IntN(100))) + "\r\n")
		}
	}
	if port == 0 {
		return
	}
	d := []sdp.Direction{sdp.SendRecv, sdp.SendRecv, sdp.SendOnly, sdp.RecvOnly, sdp.Inactive}[p.r.IntN(5)].Within(most.Reverse())
	switch {
	case d == sdp.SendOnly && most == sdp.SendRecv && p.r.IntN(2) == 0:
		b.WriteString("c=IN IP4 0.0.0.0\r\n") // the old way
	case d != sdp.SendRecv || p.r.IntN(2) == 0:
		b.WriteString("a=" + d.String() + "\r\n")
	}
	switch {
	case strings.HasPrefix(proto, sdp.TLSSAVP):
		fmt.Fprintf(b, "a=fingerprint:sha-256 %02X%s\r\na=setup:%s\r\n", p.name[0], strings.Repeat(":11", 31), "actpass")
	case strings.HasPrefix(proto, sdp.SAVP):
		b.WriteString("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n")
	}
}

// codecs picks some of names with numbers of its own.
func (p *wilful) codecs(names []string) [][2]string {
	var all [][2]string
	for i, n := range names {
		if i == 0 || p.r.IntN(2) == 0 {
			all = append(all, [2]string{strconv.Itoa(96 + i), n})
		}
	}
	p.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// answer answers what it was offered (RFC 3264 §6).
func (p *wilful) answer() []byte {
	var b strings.Builder
	p.head(&b)
	for len(p.streams) < len(p.received.Media) {
		p.streams = append(p.streams, p.received.Media[len(p.streams)].Kind)
	}
	for i, m := range p.received.Media {
		profile, rtp := sdp.ParseProfile(m.Proto)
		p.streams[i] = m.Kind
		if m.Port == 0 || !rtp || p.r.IntN(6) == 0 {
			fmt.Fprintf(&b, "m=%s 0 %s %s\r\n", m.Kind, m.Proto, m.Formats[0])
			continue
		}
		var formats [][2]string
		for j, f := range m.Formats {
			if j == 0 || p.r.IntN(2) == 0 {
				formats = append(formats, [2]string{f, m.Codec(f)})
			}
		}
		p.rtp(&b, i, m.Kind, 6000+2*i, profile.String(), formats, m.Direction().Reverse())
	}
	return []byte(strings.ReplaceAll(b.String(), "a=setup:actpass", "a=setup:active"))
}

// node is one of the two in between.
type node struct {
	t     *testing.T
	n     *Negotiation
	told  [2]*sdp.Session // what each side was told last, to check versions
	lines int             // m-lines agreed on
}

// pass carries a description through and checks what any description has to be like.
func (n *node) pass(msg Message, body []byte) ([]byte, *Refusal) {
	n.t.Helper()
	d, err := n.n.Receive(msg, body)
	if err != nil {
		return nil, err.(*Refusal)
	}
	to := msg.From.Other()
	leg := n.n.cfg.Legs[to]
	sent, err := n.n.Send(d, localFacts(leg.Kind, d.Streams))
	if err != nil {
		return nil, err.(*Refusal)
	}
	s, err := sdp.Parse(sent.Body)
	if err != nil || !bytes.Equal(s.Marshal(), sent.Body) {
		n.t.Fatalf("%v in\n%s", err, sent.Body)
	}
	for i, m := range s.Media {
		tr := m.Transport()
		switch {
		case m.Port == 0:
			if l := transportLines(m); l != "" {
				n.t.Fatalf("the refused stream %d says %q", i, l)
			}
		case leg.Kind == NodeLeg && (!tr.ICE.Usable() || len(tr.Fingerprints) == 0 || !tr.Mux || !strings.HasPrefix(m.Proto, sdp.TLSSAVP)):
			n.t.Fatalf("in clear between nodes:\n%s", sent.Body)
		case tr.RTP != facts(leg.Kind, i).RTP:
			n.t.Fatalf("stream %d is at %s", i, tr.RTP)
		}
	}
	if was := n.told[to]; was != nil {
		o, p := s.Origin(), was.Origin()
		v, _ := strconv.Atoi(o.Version)
		w, _ := strconv.Atoi(p.Version)
		c := s.Clone()
		c.SetOrigin(p)
		same := bytes.Equal(c.Marshal(), was.Marshal())
		if o.ID != p.ID || o.Username != p.Username || o.Address != p.Address || same && v != w || !same && v != w+1 {
			n.t.Fatalf("o=%s after o=%s, the same: %v", o, p, same)
		}
	}
	if len(s.Media) < n.lines {
		n.t.Fatalf("%d streams after %d", len(s.Media), n.lines)
	}
	n.told[to] = s
	return sent.Body, nil
}

// transportLines are those that a refused stream must not have.
func transportLines(m *sdp.Media) string {
	c := *m
	c.Lines = slices.Clone(m.Lines)
	c.ClearTransport()
	var b strings.Builder
	for _, l := range m.Lines {
		if !slices.Contains(c.Lines, l) {
			b.WriteString(l.Value)
		}
	}
	return b.String()
}

// rest are the lines of a stream that are between the phones: neither about transport nor the direction.
func rest(m *sdp.Media) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v\n", m.Kind, m.Formats)
	c := *m
	c.Lines = slices.Clone(m.Lines)
	c.ClearTransport()
	for _, l := range c.Lines {
		switch l.Value {
		case "sendrecv", "sendonly", "recvonly", "inactive":
		default:
			fmt.Fprintf(&b, "%c=%s\n", l.Key, l.Value)
		}
	}
	return b.String()
}

// effective is the direction with the old way of holding counted.
func effective(m *sdp.Media) sdp.Direction {
	d := m.Direction()
	if a := m.Transport().RTP.Addr(); a.IsUnspecified() {
		d.Recv = false
	}
	return d
}

// TestPhonesAgree lets two phones with a node each talk each other into things: after every exchange both know the same codecs,
// directions and other particulars of every stream, and what was refused is as if it had not been.
func TestPhonesAgree(t *testing.T) {
	calls, exchanges, refusals := 300, 0, 0
	if testing.Short() {
		calls = 60
	}
	for seed := range calls {
		r := rand.New(rand.NewPCG(uint64(seed), 5))
		e, f := talkAtRandom(t, r)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		exchanges, refusals = exchanges+e, refusals+f
	}
	t.Logf("%d calls, %d exchanges that both took part in, %d refused", calls, exchanges, refusals)
	if exchanges < 2*calls || refusals == 0 {
		t.Error("that is hardly a test")
	}
}

func talkAtRandom(t *testing.T, r *rand.Rand) (exchanges, refusals int) {
	keys := []string{"", "", "sdes", "dtls"}
	a := &wilful{r: r, name: "a", keys: keys[r.IntN(4)]}
	b := &wilful{r: r, name: "b", keys: keys[r.IntN(4)]}
	legs := [2]Leg{{Kind: PhoneLeg, Opportunistic: r.IntN(2) == 0}, {Kind: NodeLeg}}
	na := &node{t: t, n: NewNegotiation(NegotiationConfig{Legs: legs, ID: 1, Version: 10})}
	nb := &node{t: t, n: NewNegotiation(NegotiationConfig{Legs: legs, ID: 2, Version: 20})}
	for cseq := range uint32(8) {
		first, fork := cseq == 0, "b"
		from, to, nf, nt := a, b, na, nb
		if !first && r.IntN(2) == 0 {
			from, to, nf, nt = b, a, nb, na
		}
		if first {
			fork = ""
		}
		late := r.IntN(5) == 0 // the offer comes from the other side of the INVITE
		ask := Message{Method: "INVITE", CSeq: cseq + 1, Fork: fork}
		reply := Message{Method: "INVITE", CSeq: cseq + 1, Fork: "b", Status: 200}
		ack := Message{Method: "ACK", CSeq: cseq + 1, Fork: "b"}
		send := func(msg Message, p, q *wilful, n, m *node, body []byte) *Refusal {
			t.Helper()
			p.sent, _ = sdp.Parse(body)
			msg.From = Near
			out, refusal := n.pass(msg, body)
			if refusal != nil {
				return refusal
			}
			msg.From = Far
			if out, refusal = m.pass(msg, out); refusal != nil {
				return refusal
			}
			q.received, _ = sdp.Parse(out)
			return nil
		}
		offerer, answerer := from, to
		if late {
			for i, n := range []*node{nf, nt} {
				msg := ask
				msg.From = Side(i)
				if _, err := n.n.Receive(msg, nil); err != nil {
					t.Fatal(err)
				}
			}
			offerer, answerer = to, from
			if refusal := send(reply, to, from, nt, nf, to.offer()); refusal != nil {
				t.Errorf("a late offer is refused: %v\n%s", refusal, to.sent.Marshal())
				return
			}
		} else if refusal := send(ask, from, to, nf, nt, from.offer()); refusal != nil {
			t.Errorf("an offer is refused: %v\n%s", refusal, from.sent.Marshal())
			return
		}
		if !first && !late && r.IntN(4) == 0 { // 488, or no answer at all
			refusals++
			for i, n := range []*node{nf, nt} {
				msg := ask
				msg.From = Side(i)
				n.n.Failed(msg)
			}
			continue
		}
		offer, asked := offerer.sent, answerer.received
		msg, x, y, n, m := reply, to, from, nt, nf
		if late {
			msg, x, y, n, m = ack, from, to, nf, nt
		}
		if refusal := send(msg, x, y, n, m, x.answer()); refusal != nil {
			t.Errorf("an answer is refused: %v\n%s", refusal, x.sent.Marshal())
			return
		}
		exchanges++
		na.lines, nb.lines = len(offer.Media), len(offer.Media)
		agree(t, offer, asked, answerer.sent, offerer.received)
	}
	return exchanges, refusals
}

// agree compares what one phone offered with what the other was asked, and what that one answered with what the first heard.
func agree(t *testing.T, offer, asked, answer, heard *sdp.Session) {
	t.Helper()
	bad := func(i int, what string) {
		t.Helper()
		t.Errorf("stream %d: %s\noffered\n%s\nasked\n%s\nanswered\n%s\nheard\n%s", i, what, offer.Marshal(), asked.Marshal(), answer.Marshal(), heard.Marshal())
	}
	if len(heard.Media) != len(offer.Media) || len(asked.Media) < len(offer.Media) {
		bad(0, "streams are lost")
		return
	}
	for i, o := range offer.Media {
		q, a, h := asked.Media[i], answer.Media[i], heard.Media[i]
		if rest(o) != rest(q) {
			bad(i, "what was offered is not what was asked")
		}
		if (o.Port != 0 && carriedKind(o.Kind)) != (q.Port != 0) || (a.Port != 0) != (h.Port != 0) || a.Port != 0 && q.Port == 0 {
			bad(i, "they do not agree on whether there is one")
		}
		if h.Proto != o.Proto {
			bad(i, "the answer has another protocol than the offer")
		}
		if q.Port != 0 && effective(o) != effective(q) {
			bad(i, "the direction has changed on the way")
		}
		if a.Port == 0 {
			continue
		}
		if rest(a) != rest(h) {
			bad(i, "what was answered is not what was heard")
		}
		if effective(a).Within(effective(q)) != effective(h) {
			bad(i, "the direction answered has changed on the way")
		}
	}
}

// BenchmarkExchange is an offer and its answer at one node: read twice, written twice.
func BenchmarkExchange(b *testing.B) {
	offer := wire("v=0\no=a 1 1 IN IP4 192.0.2.10\ns=-\nc=IN IP4 192.0.2.10\nt=0 0\nm=audio 10010 RTP/AVP 96 0 8 101\n" +
		"a=rtpmap:96 opus/48000/2\na=fmtp:96 stereo=1\na=rtpmap:0 PCMU/8000\na=rtpmap:8 PCMA/8000\na=rtpmap:101 telephone-event/8000\na=ptime:20\n")
	answer := wire("v=0\no=- 55 1 IN IP4 203.0.113.20\ns=-\nc=IN IP4 203.0.113.20\nt=0 0\nm=audio 40000 UDP/TLS/RTP/SAVP 0 101\n@dtls 40000 active\n")
	b.ReportAllocs()
	for b.Loop() {
		n := NewNegotiation(NegotiationConfig{Legs: [2]Leg{{Kind: PhoneLeg}, {Kind: NodeLeg}}})
		for from, body := range [][]byte{offer, answer} {
			d, err := n.Receive(Message{From: Side(from), Method: "INVITE", CSeq: 1, Status: 200 * from}, body)
			if err != nil {
				b.Fatal(err)
			}
			if _, err = n.Send(d, localFacts(n.cfg.Legs[1-from].Kind, d.Streams)); err != nil {
				b.Fatal(err)
			}
		}
	}
}
