package media

import (
	"context"
	"slices"
	"sync"
	"time"

	"p2psip/interwork/media/sdp"
)

// passage is one copy of a request on its way through, with its responses and its ACK: the Exchange of a Manager.
type passage struct {
	m *Manager
	d Dialog

	mu        sync.Mutex
	s         *session
	untouched bool // both sides do by themselves: everything passes as it is
	asked     bool // the request was seen
	initial   bool // it began the session
	changed   bool // an early answer has set the legs
	before    []lineConfig
	settled   bool // a 2xx has come
	closed    bool
}

var _ Exchange = (*passage)(nil)

// from is the side that sends the request.
func (p *passage) from() Side {
	if p.d.FromPhone {
		return Near
	}
	return Far
}

// fork is the tag of the party that was called, as far as the request knows it.
func (p *passage) fork(s *session) string {
	if p.d.ToTag == "" {
		return ""
	}
	if p.d.FromPhone == s.callerIsPhone {
		return p.d.ToTag
	}
	return p.d.FromTag
}

// Request gives the description to send on for that of the request.
func (p *passage) Request(body []byte, ready func([]byte, error)) ([]byte, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
	if p.closed {
		return nil, true, errSessionOver
	}
	if p.s == nil {
		if p.passes(body) {
			p.untouched = true
			p.m.passing(p.d)
			return body, true, nil
		}
		s, err := p.m.begin(p.d)
		if err != nil {
			return nil, true, err
		}
		p.s, p.initial = s, true
	}
	s := p.s
	s.remember(p)
	msg := Message{From: p.from(), Method: p.d.Method, CSeq: p.d.CSeq, Fork: p.fork(s)}
	d, err := s.receive(msg, body)
	if err != nil {
		return nil, true, err
	}
	want := []bool{true} // for a late offer: whatever it is, one stream of sound
	if d != nil {
		want = wanted(d)
		if d.Repeat {
			out, err := s.send(d)
			return out, true, err
		}
		if p.from() == Far {
			s.trunk.outdated(d)
		}
	} else if p.d.Method != "INVITE" {
		return nil, true, nil
	}
	finish := func() ([]byte, error) {
		if d == nil {
			return nil, nil
		}
		return s.sendAndApply(p, d, true)
	}
	if err := s.equipNear(want); err != nil {
		return nil, true, p.m.noRoom(err)
	}
	// A late offer from afar is answered by the phone's ACK only: until then there is time.
	if late := d == nil && p.d.FromPhone; s.trunk.equip(want) || late {
		if late {
			p.m.background(func(ctx context.Context) { _ = s.trunk.gather(ctx, want) })
		}
		out, err := finish()
		return out, true, err
	}
	ok := p.m.background(func(ctx context.Context) {
		err := s.ready(ctx, want)
		if err != nil {
			ready(nil, p.m.noRoom(err))
			return
		}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return
		}
		out, err := finish()
		p.mu.Unlock()
		ready(out, err)
	})
	if !ok {
		return nil, true, &Refusal{503, "the node is shutting down"}
	}
	return nil, false, nil
}

// passes says whether the request's description passes untouched: the phone does ICE and encrypts by itself, in its offer or
// by what it registered, or there is nothing to carry.
func (p *passage) passes(body []byte) bool {
	if p.m.isPassing(p.d) {
		return true
	}
	if len(body) == 0 {
		return p.d.Method != "INVITE"
	}
	d, err := sdp.Parse(body)
	if err != nil {
		return false // let it be refused where that is judged
	}
	return !slices.ContainsFunc(d.Media, func(m *sdp.Media) bool {
		_, rtp := sdp.ParseProfile(m.Proto)
		if !rtp || m.Port == 0 {
			return false
		}
		t := m.Transport()
		switch {
		case p.d.FromPhone:
			// Another node takes nothing that is not encrypted. And ICE for RTCP on a port of its own would need another agent and
			// another DTLS association there, where none is (RFC 5761 §5.1.3). Such a phone is carried like one without ICE,
			// which the answer of its node lets it be.
			return !t.ICE.Usable() || !p.d.Outside && (!t.Mux || len(t.Fingerprints) == 0)
		case p.d.ICE:
			return !t.ICE.Usable()
		}
		return true
	})
}

// Response gives the description to send on for that of a response.
func (p *passage) Response(status int, toTag string, reliable bool, body []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.untouched {
		return body, nil
	}
	s := p.s
	if s == nil {
		return body, nil
	}
	fork := p.fork(s)
	if p.d.ToTag == "" {
		fork = toTag
		s.addTag(toTag)
	}
	final := status >= 200
	if final {
		p.settled = true
		if p.d.Method == "INVITE" {
			s.settle(fork)
		}
	}
	d, err := s.receive(Message{From: p.from().Other(), Method: p.d.Method, CSeq: p.d.CSeq, Status: status, Fork: fork}, body)
	if err != nil || d == nil {
		return nil, err
	}
	return s.sendAndApply(p, d, final)
}

// Ack gives the description to send on for that of the ACK of a 2xx.
func (p *passage) Ack(toTag string, body []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.untouched || p.s == nil {
		return body, nil
	}
	s := p.s
	fork := p.fork(s)
	if p.d.ToTag == "" {
		fork = toTag
	}
	d, err := s.receive(Message{From: p.from(), Method: "ACK", CSeq: p.d.CSeq, Fork: fork}, body)
	if err != nil || d == nil {
		return nil, err
	}
	return s.sendAndApply(p, d, true)
}

// Close says that no 2xx comes of this copy.
func (p *passage) Close() {
	p.mu.Lock()
	if p.closed || p.settled {
		p.mu.Unlock()
		return
	}
	p.closed = true
	s, initial, changed, before := p.s, p.initial, p.changed, p.before
	p.mu.Unlock()
	if s == nil {
		return
	}
	if initial && p.d.Method == "INVITE" {
		p.m.finish(s)
		return
	}
	s.failed(Message{From: p.from(), Method: p.d.Method, CSeq: p.d.CSeq, Fork: p.fork(s)})
	if changed {
		p.m.background(func(context.Context) { s.apply(before, nil, false) })
	}
}

// wanted says which m-lines of a description need legs.
func wanted(d *Description) []bool {
	out := make([]bool, len(d.Streams))
	for i, l := range d.Streams {
		out[i] = l.Carry && i < MaxStreams
	}
	return out
}

// receive feeds the negotiation.
func (s *session) receive(msg Message, body []byte) (*Description, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signal = time.Now()
	if s.over {
		return nil, errSessionOver
	}
	return s.neg.Receive(msg, body)
}

// send makes the description for the other side.
func (s *session) send(d *Description) ([]byte, error) {
	local := s.local(d.From.Other(), d.Streams)
	s.mu.Lock()
	sent, err := s.neg.Send(d, local)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return sent.Body, nil
}

// sendAndApply does so and, for an answer that counts, sets the legs.
func (s *session) sendAndApply(p *passage, d *Description, final bool) ([]byte, error) {
	s.mu.Lock()
	told := s.told[d.From]
	s.mu.Unlock()
	local := s.local(d.From.Other(), d.Streams)
	s.mu.Lock()
	sent, err := s.neg.Send(d, local)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	s.note(d, sent)
	if d.Offer || d.Repeat && !final {
		return sent.Body, nil
	}
	var cfg []lineConfig
	s.mu.Lock()
	if d.Repeat {
		cfg = s.agreedBy[d.Fork] // what a provisional answer said already
	}
	s.mu.Unlock()
	if !d.Repeat {
		cfg = s.agreed(d, sent, told)
		s.mu.Lock()
		s.agreedBy[d.Fork] = cfg // the negotiation bounds how many parties there are
		s.mu.Unlock()
	}
	if cfg == nil || !s.counts(d.Fork) {
		return sent.Body, nil
	}
	if !final && !p.initial && !p.changed {
		p.changed, p.before = true, s.current()
	}
	s.apply(cfg, d.Streams, final)
	return sent.Body, nil
}

// counts says whether answers of that party set the legs: until a 2xx has come, the newest does; then that of the 2xx.
func (s *session) counts(fork string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settled == "" || s.settled == fork
}

func (s *session) settle(fork string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken.Store(true)
	if s.settled == "" {
		s.settled = fork
	}
	if !slices.Contains(s.finals, fork) && len(s.finals) < maxForks {
		s.finals = append(s.finals, fork)
	}
	if s.answered.IsZero() {
		s.answered = time.Now()
	}
}

func (s *session) current() []lineConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied
}

func (s *session) failed(msg Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.neg.Failed(msg)
}

// remember keeps the passage for what comes late.
func (s *session) remember(p *passage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.passages, p) {
		return
	}
	if len(s.passages) >= maxPassages {
		s.passages = slices.Delete(s.passages, 0, 1)
	}
	s.passages = append(s.passages, p)
}

// find gives the passage of a request.
func (s *session) find(d Dialog) *passage {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.passages {
		if p.d.Method == d.Method && p.d.CSeq == d.CSeq && p.d.FromPhone == d.FromPhone && p.d.FromTag == d.FromTag {
			return p
		}
	}
	return nil
}
