package media

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"p2psip/interwork/media/sdp"
)

// farCarrier is the far side of a stream: ICE where the far side does it too, else plain UDP from an allocation or an address
// that the outside reaches.
type farCarrier struct {
	leg  leg
	kind LegKind
	path atomic.Pointer[path]   // where to send; with raw only its socket counts
	raw  atomic.Pointer[rawEnd] // without ICE
	make func(*bundle) *generation
	hurt func() // consent is lost, or no path was found: the session is to repair it

	mu       sync.Mutex
	gen      *generation // the newest; its bundle is what the description says
	retired  []retired
	dtls     *dtlsParams // waits for a path
	remote   *sdp.ICE    // of the far side, as far as ICE has begun
	begun    time.Time   // when that was
	closed   bool
	why      string // there is no path
	repaired bool   // a restart was agreed: what the description of the dialog says about ICE is history
	stale    bool   // the far side restarts ICE in its dialog: another bundle is wanted (RFC 8839 §4.4.3.1.2)
	wg       sync.WaitGroup
}

// retired is a generation that is kept until what is on its way has come.
type retired struct {
	gen   *generation
	until time.Time
}

var _ carrier = (*farCarrier)(nil)

// newFarCarrier takes the bundle over.
func newFarCarrier(m *Manager, kind LegKind, b *bundle, hurt func()) *farCarrier {
	f := &farCarrier{kind: kind, hurt: hurt}
	f.leg.carrier = f
	f.make = func(b *bundle) *generation {
		return &generation{
			bundle: b, net: m.net, loopback: m.cfg.Loopback,
			received: f.leg.receive, strange: f.leg.strange,
			selected: f.selected, trouble: f.trouble,
		}
	}
	f.gen = f.make(b)
	return f
}

// local is what a description for the far side may say about this end.
func (f *farCarrier) local(cert *certificate, keys []sdp.Crypto) sdp.Transport {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.gen.bundle
	t := sdp.Transport{
		ICE:          b.ice(),
		Mux:          true,
		Fingerprints: []sdp.Fingerprint{cert.fingerprint},
		Crypto:       keys,
	}
	if r := f.raw.Load(); r != nil {
		t.RTP, t.ICE = r.at, nil
	} else if p := f.path.Load(); p != nil {
		t.RTP = p.sock.local // RFC 8839 §4.4.1.2: the pair in use
	} else {
		t.RTP = f.bestAddress(b)
	}
	t.RTCP = t.RTP
	return t
}

func (f *farCarrier) bestAddress(b *bundle) netip.AddrPort {
	return b.best().local
}

// configure takes what the far side has agreed to. controlling: we offered.
func (f *farCarrier) configure(t sdp.Transport, controlling, mux, anew bool) error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return errSessionOver
	}
	if f.repaired && f.remote != nil {
		// The nodes have restarted ICE between them. What goes through the dialog of the phones is older, unless it is another
		// party that speaks.
		if t.ICE.Usable() && t.ICE.Ufrag == f.remote.Ufrag {
			f.mu.Unlock()
			return nil
		}
	}
	gen := f.gen
	f.mu.Unlock()
	if t.ICE.Usable() {
		if f.raw.Load() != nil {
			return errors.New("media: the far side takes up ICE in the middle of a call without")
		}
		f.mu.Lock()
		if f.remote == nil || f.remote.Ufrag != t.ICE.Ufrag {
			f.begun = time.Now()
		}
		f.remote, f.repaired = t.ICE, false
		f.mu.Unlock()
		return gen.start(t.ICE, controlling)
	}
	if f.kind == NodeLeg {
		return errors.New("media: the other node does not do ICE")
	}
	return f.startRaw(gen, t, mux, anew)
}

// wantDTLS begins an association as soon as there is a path.
func (f *farCarrier) wantDTLS(p dtlsParams) {
	f.mu.Lock()
	f.dtls = &p
	ready := f.path.Load() != nil || f.raw.Load() != nil
	f.mu.Unlock()
	if ready {
		f.beginDTLS()
	}
}

func (f *farCarrier) beginDTLS() {
	f.mu.Lock()
	p := f.dtls
	over := f.closed
	f.mu.Unlock()
	if p != nil && !over {
		f.leg.startDTLS(*p)
	}
}

// selected is called when a generation has a pair, or another one than before.
func (f *farCarrier) selected(g *generation) {
	p := g.path.Load()
	f.mu.Lock()
	if f.closed || p == nil || g != f.gen && f.gen.path.Load() != nil {
		f.mu.Unlock()
		return
	}
	f.path.Store(p)
	f.why = ""
	f.mu.Unlock()
	f.beginDTLS()
}

// trouble is called when a generation has lost its consent, or found no pair.
func (f *farCarrier) trouble(g *generation, lasting bool) {
	f.mu.Lock()
	current := g == f.gen && !f.closed
	f.mu.Unlock()
	if !current {
		return
	}
	if lasting {
		if p := f.path.Load(); p != nil && p == g.path.Load() {
			f.path.Store(nil) // RFC 7675 §5.1: without consent nothing is sent any more
			f.setTrouble("the far side does not answer any more")
		} else if p == nil {
			f.setTrouble("no path to the far side: none of the addresses of both sides reach each other")
		}
	}
	f.hurt()
}

// setTrouble says for the status why there is no path.
func (f *farCarrier) setTrouble(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.why = why
}

// hurting says that the leg needs a repair now.
func (f *farCarrier) hurting() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.closed && f.remote != nil && f.raw.Load() == nil && (f.gen.lost.Load() || f.isStuck(time.Now()))
}

// stuck says that no pair was found for too long, as when a relay died between offer and answer.
func (f *farCarrier) stuck(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.closed && f.remote != nil && f.raw.Load() == nil && f.isStuck(now)
}

// isStuck is stuck with f.mu held.
func (f *farCarrier) isStuck(now time.Time) bool {
	return f.gen.path.Load() == nil && now.Sub(f.begun) > stuckAfter
}

// renew puts a new generation beside the one in use, which goes on until the new one has a pair.
func (f *farCarrier) renew(b *bundle, remote *sdp.ICE, controlling bool) error {
	g := f.make(b)
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		b.close()
		return errSessionOver
	}
	f.retired = append(f.retired, retired{f.gen, time.Now().Add(retireAfter)})
	f.gen, f.remote, f.repaired, f.begun = g, remote, true, time.Now()
	f.mu.Unlock()
	return g.start(remote, controlling)
}

// setStale says that the far side begins ICE anew.
func (f *farCarrier) setStale() {
	f.mu.Lock()
	defer f.mu.Unlock()
	// With too many generations at once the old sockets have to do for the new credentials.
	f.stale = f.raw.Load() == nil && len(f.retired) < maxRetired
}

// crowded says that there are as many generations as there may be.
func (f *farCarrier) crowded() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.retired) >= maxRetired
}

func (f *farCarrier) isStale() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stale
}

// refresh puts a bundle that was not used yet in the place of a stale one, which carries the call until the new one has a pair.
func (f *farCarrier) refresh(b *bundle) {
	g := f.make(b)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || !f.stale {
		b.close()
		return
	}
	f.retired = append(f.retired, retired{f.gen, time.Now().Add(retireAfter)})
	f.gen, f.stale, f.repaired = g, false, false
}

// sweep ends generations that are no longer needed.
func (f *farCarrier) sweep(now time.Time) {
	f.mu.Lock()
	var end []*generation
	using := f.path.Load()
	f.retired = slices.DeleteFunc(f.retired, func(r retired) bool {
		// One that still carries the call stays, however long the new one takes; but never more than a few.
		if now.Before(r.until) || len(f.retired) < maxRetired && using != nil && using == r.gen.path.Load() && f.gen.path.Load() == nil {
			return false
		}
		end = append(end, r.gen)
		return true
	})
	f.mu.Unlock()
	for _, g := range end {
		g.close()
	}
}

func (f *farCarrier) write(b []byte, rtcp bool) {
	if r := f.raw.Load(); r != nil {
		r.write(b, rtcp)
		return
	}
	if p := f.path.Load(); p != nil {
		_ = p.sock.write(b, p.remote) // what UDP loses is lost; a socket that is gone is found out by consent
	}
}

// iceStarted says whether the far side is known, so that there is something to restart.
func (f *farCarrier) iceStarted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.remote != nil && !f.closed
}

// credentials are those of both sides that ICE began with, for the token of the session.
func (f *farCarrier) credentials() (ours, theirs [2]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ours = [2]string{f.gen.bundle.ufrag, f.gen.bundle.pwd}
	if f.remote != nil {
		theirs = [2]string{f.remote.Ufrag, f.remote.Pwd}
	}
	return ours, theirs
}

// close ends everything below the leg and waits for it.
func (f *farCarrier) close() {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return
	}
	f.closed = true
	gens := []*generation{f.gen}
	for _, r := range f.retired {
		gens = append(gens, r.gen)
	}
	f.mu.Unlock()
	f.leg.stopDTLS()
	for _, g := range gens {
		g.close()
	}
	f.wg.Wait()
}
