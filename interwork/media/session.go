package media

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"p2psip/interwork/media/sdp"
)

// session is one branch of an INVITE between a phone of this node and elsewhere, and the dialog that comes of it.
type session struct {
	m             *Manager
	callID        string
	caller        string // the tag of the party that called
	callerIsPhone bool
	first         Dialog
	cert          *certificate // towards the phone
	trunk         *trunk       // nil once over, or when everything passes untouched
	made          time.Time
	taken         atomic.Bool // a 2xx has come

	mu       sync.Mutex
	tags     map[string]struct{} // of the party called, as its answers gave them
	neg      *Negotiation
	near     [MaxStreams]*phoneCarrier
	keys     [MaxStreams][]sdp.Crypto
	told     [2][]sdp.Transport // what each side has last been told of us
	heard    [2][]sdp.Transport // what each side's last offer said
	lines    []MediaLine        // of the last answer
	applied  []lineConfig
	agreedBy map[string][]lineConfig // by the tag of the party called: what each has last agreed to
	settled  string                  // the tag whose 2xx counts
	finals   []string                // the tags whose 2xx have come, and whose dialogs are not over
	answered time.Time
	signal   time.Time // latest signalling
	firstIn  [MaxStreams]time.Time
	passages []*passage // the latest ones, for their ACK and late responses
	held     bool       // nothing is to be sent in either direction
	over     bool
	wg       sync.WaitGroup
}

// lineConfig is what an offer and its answer have agreed on for one m-line. It is kept so that it can be gone back to.
type lineConfig struct {
	on        bool
	side      [2]sideConfig
	codec     string
	rates     map[uint8]uint32
	fork      string
	direction sdp.Direction
}

// sideConfig is one side of it.
type sideConfig struct {
	ours, theirs sdp.Transport
	weOffered    bool // ours was the offer on that side
}

func newSession(m *Manager, d Dialog, t *trunk) (*session, error) {
	cert, err := newCertificate()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s := &session{
		m: m, callID: d.CallID, caller: d.FromTag, callerIsPhone: d.FromPhone, first: d, cert: cert, trunk: t, made: now,
		tags: make(map[string]struct{}), agreedBy: make(map[string][]lineConfig), signal: now,
	}
	if d.ToTag != "" {
		s.tags[d.ToTag] = struct{}{}
	}
	for i := range s.keys {
		s.keys[i] = newKeys()
	}
	h := fnv.New64a()
	h.Write(m.secret[:])
	h.Write([]byte(d.CallID))
	var legs [2]Leg
	legs[Near] = Leg{Kind: PhoneLeg, Opportunistic: m.cfg.OfferSDES && d.PhoneTLS, Address: d.PhoneHost}
	legs[Far] = Leg{Kind: t.kind}
	if as := m.addresses(); len(as) > 0 {
		legs[Far].Address = as[0]
	}
	s.neg = NewNegotiation(NegotiationConfig{
		Legs:    legs,
		ID:      binary.BigEndian.Uint64(h.Sum(nil)) >> 2, // a number that fits 63 bits everywhere
		Version: uint64(now.Unix()),
	})
	return s, nil
}

// matches says whether a request, or what belongs to one, is of this session's dialogs.
func (s *session) matches(d Dialog) bool {
	if s.callID != d.CallID {
		return false
	}
	caller, called := d.FromTag, d.ToTag
	if d.FromPhone != s.callerIsPhone {
		caller, called = d.ToTag, d.FromTag
	}
	if caller != s.caller || called == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.tags[called]
	return ok
}

// hasTags is matches for tags in either order.
func (s *session) hasTags(callID, a, b string) bool {
	if s.callID != callID {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b == s.caller {
		a, b = b, a
	}
	if a != s.caller {
		return false
	}
	_, ok := s.tags[b]
	return ok
}

// addTag notes a party that was called.
func (s *session) addTag(tag string) {
	if tag == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tags) < maxForks {
		s.tags[tag] = struct{}{}
	}
}

// equipNear opens ports for the wanted m-lines.
func (s *session) equipNear(want []bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return errSessionOver
	}
	for i, w := range want {
		if !w || i >= MaxStreams || s.near[i] != nil {
			continue
		}
		p, err := newPhoneCarrier(s.m.ports, s.first.PhoneHost, s.first.Phone)
		if err != nil {
			return err
		}
		s.near[i] = p
	}
	return nil
}

// ready gives the wanted m-lines legs on both sides. It may take until ctx ends.
func (s *session) ready(ctx context.Context, want []bool) error {
	if err := s.equipNear(want); err != nil {
		return err
	}
	return s.trunk.gather(ctx, want)
}

// local is what a side may be told, m-line by m-line. A line without legs has port 0.
func (s *session) local(side Side, lines []MediaLine) []sdp.Transport {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]sdp.Transport, len(lines))
	for i, l := range lines {
		if !l.Carry || i >= MaxStreams || s.near[i] == nil {
			continue
		}
		f := s.trunk.far(i)
		if f == nil {
			continue
		}
		if side == Near {
			out[i] = s.near[i].local(s.cert, s.keys[i])
		} else {
			out[i] = f.local(s.trunk.cert, s.trunk.keys[i])
		}
	}
	return out
}

// note keeps what was just said to one side.
func (s *session) note(d *Description, sent Sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signal = time.Now()
	if d.Repeat {
		return
	}
	s.told[d.From.Other()] = sent.Streams
	if d.Offer {
		h := make([]sdp.Transport, len(d.Streams))
		for i, l := range d.Streams {
			h[i] = l.Remote
		}
		s.heard[d.From] = h
	}
}

// agreed makes of an answer what the legs are to do.
func (s *session) agreed(d *Description, sent Sent, told []sdp.Transport) []lineConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	offerer := d.From.Other()
	out := make([]lineConfig, min(len(d.Streams), MaxStreams))
	for i := range out {
		l := d.Streams[i]
		if !l.Carry || i >= len(sent.Streams) || sent.Streams[i].RTP.Port() == 0 || i >= len(told) || i >= len(s.heard[offerer]) {
			continue
		}
		c := lineConfig{on: true, codec: l.Codec, fork: d.Fork, direction: l.Direction, rates: d.rates(i)}
		c.side[d.From] = sideConfig{ours: told[i], theirs: l.Remote, weOffered: true}
		c.side[offerer] = sideConfig{ours: sent.Streams[i], theirs: s.heard[offerer][i]}
		out[i] = c
	}
	return out
}

// apply sets the legs to what was agreed. final: the answer stands, so that lines it refused are over.
func (s *session) apply(cfg []lineConfig, lines []MediaLine, final bool) {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return
	}
	s.applied = cfg
	if lines != nil {
		s.lines = lines
	}
	near := s.near
	s.held = true
	for _, c := range cfg {
		if c.on && (c.direction.Send || c.direction.Recv) {
			s.held = false
		}
	}
	s.mu.Unlock()

	connected := s.trunk.activate(s)
	weOffered := false
	for i := range near {
		f := s.trunk.far(i)
		if i >= len(cfg) || !cfg[i].on || near[i] == nil || f == nil {
			if final && connected {
				s.dropLine(i)
			}
			continue
		}
		weOffered = cfg[i].side[Far].weOffered
		if connected {
			s.connect(i, near[i], f)
		}
		s.applyNear(near[i], cfg[i])
		if err := s.applyFar(f, cfg[i]); err != nil {
			f.leg.fail(err.Error())
		}
	}
	s.trunk.begun(weOffered)
}

// resume connects a session that has waited for another one to end.
func (s *session) resume() {
	s.mu.Lock()
	near, cfg := s.near, s.applied
	s.mu.Unlock()
	for i := range min(len(cfg), len(near)) {
		if f := s.trunk.far(i); f != nil && near[i] != nil && cfg[i].on {
			s.connect(i, near[i], f)
		}
	}
}

// connect lets what comes in by one leg go out by the other.
func (s *session) connect(i int, near *phoneCarrier, f *farCarrier) {
	near.leg.peer.Store(&f.leg)
	if old := f.leg.peer.Swap(&near.leg); old != nil && old != &near.leg {
		old.peer.CompareAndSwap(&f.leg, nil)
	}
	first := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.firstIn[i].IsZero() {
			s.firstIn[i] = time.Now()
		}
	}
	f.leg.first.Store(&first)
}

func (s *session) applyNear(p *phoneCarrier, c lineConfig) {
	side := c.side[Near]
	p.leg.setRates(rateOf(c.rates))
	p.configure(s.first.Phone, side.theirs, side.ours.Mux && side.theirs.Mux, true)
	if err := secure(&p.leg, side, s.cert, true, false, p.leg.startDTLS); err != nil {
		p.leg.fail(err.Error())
	}
}

func (s *session) applyFar(f *farCarrier, c lineConfig) error {
	side := c.side[Far]
	f.leg.setRates(rateOf(c.rates))
	if err := f.configure(side.theirs, side.weOffered, side.theirs.Mux && (side.ours.Mux || f.kind == OutsideLeg), true); err != nil {
		return err
	}
	return secure(&f.leg, side, s.trunk.cert, f.kind == OutsideLeg, f.kind == NodeLeg, f.wantDTLS)
}

// secure sets the keys of a leg as both descriptions say: by DTLS if both have fingerprints, else by SDES if both have keys,
// else none, unless the leg must be encrypted. weak: phones and strangers may use old hashes.
func secure(l *leg, side sideConfig, cert *certificate, weak, must bool, dtls func(dtlsParams)) error {
	ours, theirs := side.ours, side.theirs
	switch {
	case len(ours.Fingerprints) > 0 && len(theirs.Fingerprints) > 0:
		role := ours.Setup
		if side.weOffered {
			role = RoleOf(theirs.Setup, ours.Setup)
		}
		if role == sdp.SetupHoldconn {
			return nil
		}
		dtls(dtlsParams{cert: cert, client: role == sdp.SetupActive, peer: theirs.Fingerprints, tlsID: theirs.TLSID, weak: weak})
		return nil
	case len(ours.Crypto) > 0 && len(theirs.Crypto) > 0:
		a, b, ok := pairKeys(side)
		if !ok {
			return &Refusal{488, "keys that do not fit the offer"}
		}
		return l.setSDES(a, b)
	case must:
		l.setKeys(nil, nil, "")
		return &Refusal{488, "not encrypted: the other node offers no keys"}
	}
	l.setClear()
	return nil
}

// pairKeys finds the line of the offer that the answer chose (RFC 4568 §5.1.2): same tag, same suite.
func pairKeys(side sideConfig) (ours, theirs sdp.Crypto, ok bool) {
	offer, answer := side.theirs.Crypto, side.ours.Crypto
	if side.weOffered {
		offer, answer = answer, offer
	}
	for _, a := range answer {
		for _, o := range offer {
			if o.Tag == a.Tag && o.Suite == a.Suite {
				if side.weOffered {
					return o, a, true
				}
				return a, o, true
			}
		}
	}
	return ours, theirs, false
}

// dropLine ends the legs of an m-line.
func (s *session) dropLine(i int) {
	s.mu.Lock()
	p := s.near[i]
	s.near[i] = nil
	s.mu.Unlock()
	if f := s.trunk.far(i); f != nil {
		f.leg.peer.Store(nil)
		s.trunk.drop(i)
	}
	if p != nil {
		p.close()
	}
}

// end frees everything. It waits for all goroutines, so it is not called from one of them.
func (s *session) end() {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return
	}
	s.over = true
	near := s.near
	s.near = [MaxStreams]*phoneCarrier{}
	s.mu.Unlock()
	s.wg.Wait()
	for i, p := range near {
		if p == nil {
			continue
		}
		if f := s.trunk.far(i); f != nil {
			f.leg.peer.CompareAndSwap(&p.leg, nil)
		}
		p.close()
	}
	if next := s.trunk.leave(s); next != nil {
		next.resume()
	}
	s.m.releaseTrunk(s.trunk)
}

// silent says whether the session is to be given up.
func (s *session) silent(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	patience := s.m.cfg.SilenceTimeout
	switch {
	case s.answered.IsZero():
		patience = max(patience, ringingTimeout) // who rings needs no sound; the proxy says when it is over
	case s.held:
		patience = max(patience, holdTimeout)
	}
	since := now.Add(-patience)
	if s.signal.After(since) || s.made.After(since) {
		return false
	}
	for i, p := range s.near {
		if p == nil {
			continue
		}
		if !p.leg.silentSince(since) {
			return false
		}
		if f := s.trunk.far(i); f != nil && !f.leg.silentSince(since) {
			return false
		}
	}
	return true
}

func rateOf(rates map[uint8]uint32) func(uint8) uint32 {
	return func(pt uint8) uint32 { return rates[pt] }
}

// rates reads the clocks of an m-line's payload types.
func (d *Description) rates(i int) map[uint8]uint32 {
	if d.session == nil || i >= len(d.session.Media) {
		return nil
	}
	if d.matched != nil {
		if i >= len(d.matched) || d.matched[i] < 0 {
			return nil
		}
		i = d.matched[i]
	}
	m := d.session.Media[i]
	out := make(map[uint8]uint32)
	for _, f := range m.Formats {
		if pt, rate, ok := clockOf(f, m.Codec(f)); ok {
			out[pt] = rate
		}
	}
	return out
}
