package media

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/transport/v2"
	"github.com/pion/transport/v2/stdnet"
)

// Manager anchors the calls of a node. All methods may be called by any goroutine.
type Manager struct {
	cfg    Config
	ports  *portPool
	net    transport.Net
	warm   *warmer
	secret [16]byte // of the numbers in o= lines
	ctx    context.Context
	cancel context.CancelFunc
	look   chan struct{} // a look at the addresses is wanted now
	wg     sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	sessions map[string][]*session // by Call-ID
	count_   int
	trunks   map[trunkKey]*trunk
	tokens   map[string]*trunk
	passings map[string]time.Time // dialogs that pass untouched
	serial   uint64
	totals   Status // counters only

	addrMu sync.Mutex
	addrs  []netip.Addr
}

// New starts a Manager. Close ends it.
func New(cfg Config) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n, err := stdnet.NewNet()
	if err != nil {
		return nil, fmt.Errorf("media: cannot look at the network interfaces: %w", err)
	}
	m := &Manager{
		cfg: cfg.withDefaults(), net: n, look: make(chan struct{}, 1),
		sessions: make(map[string][]*session),
		trunks:   make(map[trunkKey]*trunk),
		tokens:   make(map[string]*trunk),
		passings: make(map[string]time.Time),
	}
	rand.Read(m.secret[:])
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.ports = newPortPool(m.cfg.PortMin, m.cfg.PortMax, time.Now)
	m.warm = &warmer{m: m, want: max(m.cfg.Warm, 0)}
	m.lookAgain()
	m.wg.Go(m.watch)
	return m, nil
}

// Open is asked for every request between a phone beside this node and elsewhere that may carry a description (INVITE,
// UPDATE, PRACK), in the order in which they pass. Whether it passes untouched is decided when its description is seen.
func (m *Manager) Open(d Dialog) Exchange {
	d.Phone, d.PhoneHost = d.Phone.Unmap(), d.PhoneHost.Unmap()
	return &passage{m: m, d: d, s: m.lookup(d)}
}

// Find gives the exchange that an ACK belongs to, or a response whose transaction has ended; nil where there is none.
func (m *Manager) Find(d Dialog) Exchange {
	m.mu.Lock()
	list := slices.Clone(m.sessions[d.CallID])
	m.mu.Unlock()
	var found *passage
	for _, s := range list {
		p := s.find(d)
		if p == nil {
			continue
		}
		if s.matches(d) {
			return p
		}
		if found == nil {
			found = p // a first INVITE whose party has not been heard of yet
		}
	}
	if found == nil {
		return nil
	}
	return found
}

// End says that a dialog is over: BYE was answered, or the INVITE failed. Unknown dialogs are ignored.
func (m *Manager) End(callID, fromTag, toTag string) {
	m.mu.Lock()
	list := slices.Clone(m.sessions[callID])
	delete(m.passings, passingKey(callID, fromTag))
	delete(m.passings, passingKey(callID, toTag))
	m.mu.Unlock()
	for _, s := range list {
		if !s.hasTags(callID, fromTag, toTag) {
			continue
		}
		if over, next := s.ends(fromTag, toTag); over {
			m.finish(s)
		} else if next != nil {
			s.apply(next, nil, true)
		}
	}
}

// ends says whether the end of that dialog is the end of the session: other parties that were rung may still answer. Where another
// one has answered as well, the session goes on with what that one agreed to.
func (s *session) ends(a, b string) (over bool, next []lineConfig) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finals = slices.DeleteFunc(s.finals, func(tag string) bool { return tag == a || tag == b })
	switch {
	case s.settled == "":
		return true, nil
	case s.settled != a && s.settled != b:
		return false, nil
	case len(s.finals) == 0:
		return true, nil
	}
	s.settled = s.finals[0]
	return false, s.agreedBy[s.settled]
}

// Warm gathers candidates before they are needed; called when a phone registers.
func (m *Manager) Warm() { m.warm.heat() }

// AddressesChanged makes the Manager look at the addresses of this machine now instead of within half a second.
func (m *Manager) AddressesChanged() {
	select {
	case m.look <- struct{}{}:
	default:
	}
}

// Close ends all sessions and waits for every goroutine.
func (m *Manager) Close() {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	m.closed = true
	var all []*session
	for _, l := range m.sessions {
		all = append(all, l...)
	}
	m.mu.Unlock()
	m.cancel()
	m.warm.close()
	for _, s := range all {
		m.remove(s)
		s.end()
	}
	m.wg.Wait()
}

// background runs f on a goroutine that Close waits for; false when it is too late for that.
func (m *Manager) background(f func(ctx context.Context)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.wg.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				m.cfg.Logger.Error("media: a fault of this program; the call it happened in is left alone", "panic", r)
			}
		}()
		ctx, cancel := context.WithTimeout(m.ctx, GatherTimeout)
		defer cancel()
		f(ctx)
	})
	return true
}

// lookup finds the session that a request inside a dialog belongs to.
func (m *Manager) lookup(d Dialog) *session {
	m.mu.Lock()
	list := slices.Clone(m.sessions[d.CallID])
	m.mu.Unlock()
	for _, s := range list {
		if s.matches(d) {
			return s
		}
	}
	return nil
}

// begin makes a session for a request.
func (m *Manager) begin(d Dialog) (*session, error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, &Refusal{503, "the node is shutting down"}
	}
	if m.count_ >= m.cfg.MaxSessions {
		m.totals.Refused++
		m.mu.Unlock()
		return nil, &Refusal{503, fmt.Sprintf("%d calls are anchored here, and that is the limit", m.cfg.MaxSessions)}
	}
	if n := m.from(d); n >= (m.cfg.MaxSessions+1)/2 {
		m.totals.Refused++
		m.mu.Unlock()
		return nil, &Refusal{503, fmt.Sprintf("%d calls of one node are anchored here, and that is the limit", n)}
	}
	key := trunkKey{callID: d.CallID, tag: d.FromTag, transaction: d.Transaction, fromPhone: d.FromPhone}
	if d.FromPhone || d.Transaction == "" {
		m.serial++
		key.n = m.serial
	}
	t := m.trunks[key]
	if t == nil {
		var err error
		if t, err = newTrunk(m, key, d); err != nil {
			m.mu.Unlock()
			return nil, err
		}
		m.trunks[key] = t
	}
	t.refs++
	m.count_++
	m.mu.Unlock()

	s, err := newSession(m, d, t)
	if err == nil {
		m.mu.Lock()
		if !m.closed {
			m.sessions[d.CallID] = append(m.sessions[d.CallID], s)
			m.mu.Unlock()
			return s, nil
		}
		m.mu.Unlock()
		err = &Refusal{503, "the node is shutting down"}
	}
	m.mu.Lock()
	m.count_--
	m.mu.Unlock()
	m.releaseTrunk(t)
	return nil, err
}

// from counts the calls that the node has made from which d comes; 0 for those that count otherwise. m.mu is held.
func (m *Manager) from(d Dialog) (n int) {
	if d.FromPhone || d.Outside {
		return 0
	}
	for _, l := range m.sessions {
		for _, s := range l {
			if f := &s.first; !f.FromPhone && !f.Outside && f.Node == d.Node {
				n++
			}
		}
	}
	return n
}

// remove takes a session off the list; false when it was taken off before.
func (m *Manager) remove(s *session) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.sessions[s.callID]
	i := slices.Index(l, s)
	if i < 0 {
		return false
	}
	if l = slices.Delete(l, i, i+1); len(l) == 0 {
		delete(m.sessions, s.callID)
	} else {
		m.sessions[s.callID] = l
	}
	m.count_--
	return true
}

// finish ends a session in the background: its legs wait for their goroutines, and whoever says that a call is over is one
// that must not wait.
func (m *Manager) finish(s *session) {
	if !m.remove(s) {
		return
	}
	m.count(func(st *Status) { st.Ended++ })
	if !m.background(func(context.Context) { s.end() }) {
		s.end() // Close is waiting for nobody else
	}
}

func (m *Manager) count(f func(*Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.totals)
}

// releaseTrunk lets go of a trunk; the last one closes it.
func (m *Manager) releaseTrunk(t *trunk) {
	m.mu.Lock()
	t.refs--
	last := t.refs == 0
	if last {
		delete(m.trunks, t.key)
		t.mu.Lock()
		token := t.token
		t.mu.Unlock()
		if m.tokens[token] == t {
			delete(m.tokens, token)
		}
	}
	m.mu.Unlock()
	if last {
		t.close()
	}
}

func (m *Manager) addToken(t *trunk) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.refs > 0 {
		m.tokens[t.token] = t
	}
}

func (m *Manager) byToken(token string) *trunk {
	m.mu.Lock()
	defer m.mu.Unlock()
	if token == "" {
		return nil
	}
	return m.tokens[token]
}

// noRoom makes a refusal of what went wrong when a call was to be carried.
func (m *Manager) noRoom(err error) error {
	var r *Refusal
	if errors.As(err, &r) {
		return err
	}
	m.count(func(s *Status) { s.Refused++ })
	return &Refusal{503, err.Error()}
}

// A dialog whose descriptions pass untouched is remembered by its tag on the phone's side, so that what comes from afar in it passes, too.

func passingKey(callID, tag string) string { return callID + "\n" + tag }

// passing notes that a dialog's descriptions pass untouched.
func (m *Manager) passing(d Dialog) {
	tag := d.ToTag
	if d.FromPhone {
		tag = d.FromTag
	}
	if tag == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.passings) >= maxPassing {
		for k := range m.passings {
			delete(m.passings, k)
			break
		}
	}
	m.passings[passingKey(d.CallID, tag)] = time.Now()
}

// isPassing says whether the description of a request from afar in a dialog is the phone's own matter.
func (m *Manager) isPassing(d Dialog) bool {
	if d.FromPhone || d.ToTag == "" {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.passings[passingKey(d.CallID, d.ToTag)]
	return ok
}

// addresses are those of this machine as they were last seen; lookAgain looks.
func (m *Manager) addresses() []netip.Addr {
	m.addrMu.Lock()
	defer m.addrMu.Unlock()
	return m.addrs
}

func (m *Manager) lookAgain() []netip.Addr {
	as := m.cfg.Addresses()
	m.addrMu.Lock()
	defer m.addrMu.Unlock()
	m.addrs = as
	return as
}

// watch is the goroutine of time: silence, old generations, addresses that change.
func (m *Manager) watch() {
	tick := time.NewTicker(addressPoll)
	defer tick.Stop()
	known := m.addresses()
	var changed []netip.Addr // seen once; acted upon when it stays
	for {
		now := false
		select {
		case <-m.ctx.Done():
			return
		case <-m.look:
			now = true
		case <-tick.C:
		}
		if m.idle() {
			known = nil
			continue
		}
		as := m.lookAgain()
		switch {
		case known == nil:
			known = as // nothing was carried before, so nothing has moved
		case slices.Equal(as, known):
			changed = nil
		case now || slices.Equal(as, changed):
			known, changed = as, nil
			m.restartAll()
		default:
			changed = as
		}
		m.sweep(time.Now())
		m.warm.tend(as)
	}
}

// idle says that there is nothing to watch over.
func (m *Manager) idle() bool {
	m.mu.Lock()
	n := m.count_
	m.mu.Unlock()
	return n == 0 && m.warm.count() == 0
}

// restartAll begins a restart of every call: this machine is somewhere else now.
func (m *Manager) restartAll() {
	m.mu.Lock()
	list := make([]*trunk, 0, len(m.tokens))
	for _, t := range m.tokens {
		list = append(list, t)
	}
	m.mu.Unlock()
	for _, t := range list {
		t.kick()
	}
}

// sweep gives up what is silent, and ends old generations.
func (m *Manager) sweep(now time.Time) {
	m.mu.Lock()
	var all []*session
	for _, l := range m.sessions {
		all = append(all, l...)
	}
	trunks := make([]*trunk, 0, len(m.trunks))
	for _, t := range m.trunks {
		trunks = append(trunks, t)
	}
	m.mu.Unlock()
	for _, s := range all {
		if s.silent(now) && m.remove(s) {
			m.count(func(st *Status) { st.Silent++ })
			s.end()
		}
	}
	for _, t := range trunks {
		for _, f := range t.legs() {
			f.sweep(now)
			if f.stuck(now) {
				t.kick()
			}
		}
	}
}
