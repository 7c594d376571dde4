package media

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"p2psip/interwork/media/sdp"
	"p2psip/overlay"
)

var (
	errGlare     = errors.New("media: both sides restart at once, and the other one goes first")
	errNotFarEnd = errors.New("media: that call is with another node")
	errTooOften  = errors.New("media: one restart after the other; wait a moment")
)

// repairState is about the restarts of a trunk.
type repairState struct {
	mu      sync.Mutex
	running bool
	cancel  context.CancelFunc // of our own attempt under way
	yielded bool               // the other side's came first
	answers int                // of restarts of the other side that are being made
	latest  time.Time          // when the last of them came
	stopped bool
	done    int // restarts that succeeded
}

func (r *repairState) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	if r.cancel != nil {
		r.cancel()
	}
}

// kick begins a repair, unless one is under way. It does not block.
func (t *trunk) kick() {
	t.mu.Lock()
	can := !t.closed && t.token != "" && t.m.cfg.Peers != nil
	t.mu.Unlock()
	if !can {
		return
	}
	r := &t.repair
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running || r.stopped || r.answers > 0 {
		return
	}
	r.running = true
	ctx, cancel := context.WithCancel(t.m.ctx)
	r.cancel = cancel
	t.wg.Go(func() {
		defer cancel()
		t.mend(ctx)
	})
}

// mend tries until the legs work again or the trunk ends. The pauses grow, and are the longer for the side that was called, so that the
// two do not get in each other's way twice.
func (t *trunk) mend(ctx context.Context) {
	r := &t.repair
	defer func() {
		r.mu.Lock()
		r.running, r.yielded = false, false
		r.mu.Unlock()
		if t.hurting() && ctx.Err() == nil {
			t.kick() // it broke again between the last look and now
		}
	}()
	pause := repairPause
	if !t.offered {
		pause += repairPause / 2
	}
	for ctx.Err() == nil {
		if slices.ContainsFunc(t.legs(), (*farCarrier).crowded) {
			if !wait(ctx, pause) {
				return
			}
			continue
		}
		err := t.restart(ctx)
		if err == nil && t.settles(ctx) {
			t.m.count(func(s *Status) { s.Restarts++ })
			r.mu.Lock()
			r.done++
			r.mu.Unlock()
			return
		}
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		yielded := r.yielded
		r.yielded = false
		r.mu.Unlock()
		if yielded && t.settles(ctx) || !t.hurting() && !t.moved() {
			return
		}
		t.m.count(func(s *Status) { s.RestartsBad++ })
		if !wait(ctx, pause) {
			return
		}
		pause = min(2*pause, repairPauseMax)
	}
}

// wait waits; false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// hurting says whether a leg has no working path.
func (t *trunk) hurting() bool {
	for _, f := range t.legs() {
		if f.hurting() {
			return true
		}
	}
	return false
}

// moved says whether a leg is on addresses that this machine no longer has.
func (t *trunk) moved() bool {
	for _, f := range t.legs() {
		if f.moved(t.m.addresses()) {
			return true
		}
	}
	return false
}

// settles waits a moment for the newest generation of every leg to have a pair.
func (t *trunk) settles(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		all := true
		for _, f := range t.legs() {
			all = all && f.settled()
		}
		if all {
			return true
		}
		if !wait(ctx, settlePoll) {
			return false
		}
	}
}

// restart gathers anew and exchanges descriptions with the other node (RFC 8445 §2.4: other credentials for every leg).
func (t *trunk) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	t.mu.Lock()
	token := t.token
	t.mu.Unlock()
	fars, bundles, err := t.regather(ctx)
	if err != nil {
		return err
	}
	offer := restartBody(bundles)
	answer, err := t.m.cfg.Peers.Renegotiate(ctx, t.node, token, offer)
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil && t.repair.hasYielded() {
		err = errGlare
	}
	var theirs [MaxStreams]*sdp.ICE
	if err == nil {
		theirs, err = readRestart(answer)
	}
	if err != nil {
		closeBundles(bundles)
		return fmt.Errorf("media: restart with %s: %w", t.node, err)
	}
	return renewAll(fars, bundles, theirs, true)
}

// regather gathers for every leg on which ICE has begun.
func (t *trunk) regather(ctx context.Context) (fars [MaxStreams]*farCarrier, bundles [MaxStreams]*bundle, err error) {
	ctx, cancel := context.WithTimeout(ctx, GatherTimeout)
	defer cancel()
	t.mu.Lock()
	fars = t.fars
	t.mu.Unlock()
	var errs [MaxStreams]error
	var wg sync.WaitGroup
	some := false
	for i, f := range fars {
		if f == nil || !f.iceStarted() {
			fars[i] = nil
			continue
		}
		some = true
		wg.Go(func() { bundles[i], errs[i] = gather(ctx, &t.m.cfg, t.m.lookAgain()) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil || !some {
		closeBundles(bundles)
		return fars, [MaxStreams]*bundle{}, errors.Join(err, errNoCandidatesIf(!some))
	}
	return fars, bundles, nil
}

func errNoCandidatesIf(b bool) error {
	if b {
		return errNoSession
	}
	return nil
}

func closeBundles(bundles [MaxStreams]*bundle) {
	for _, b := range bundles {
		if b != nil {
			b.close()
		}
	}
}

// renewAll starts the new generations.
func renewAll(fars [MaxStreams]*farCarrier, bundles [MaxStreams]*bundle, theirs [MaxStreams]*sdp.ICE, controlling bool) error {
	var errs []error
	for i, b := range bundles {
		switch {
		case b == nil:
		case !theirs[i].Usable():
			b.close()
			errs = append(errs, fmt.Errorf("media: stream %d was not answered", i))
		default:
			errs = append(errs, fars[i].renew(b, theirs[i], controlling))
		}
	}
	return errors.Join(errs...)
}

// Renegotiated takes an offer to restart ICE that a node sent over its authenticated stream, and gives the answer. An error
// is for the other node to hear; it tries again.
func (m *Manager) Renegotiated(ctx context.Context, node overlay.NodeID, token string, offer []byte) ([]byte, error) {
	t := m.byToken(token)
	if t == nil {
		return nil, errNoSession
	}
	if t.node != node {
		return nil, errNotFarEnd
	}
	theirs, err := readRestart(offer)
	if err != nil {
		return nil, err
	}
	if err := t.yield(); err != nil {
		return nil, err
	}
	defer t.yielded()
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	fars, bundles, err := t.regather(ctx)
	if err != nil {
		return nil, err
	}
	answer := restartBody(bundles)
	if err := renewAll(fars, bundles, theirs, false); err != nil {
		return nil, err
	}
	return answer, nil
}

// yield settles who goes on when both sides restart at once: the side that made the first offer of the call. errGlare: this
// side does, and the other one hears of it in a moment.
func (t *trunk) yield() error {
	r := &t.repair
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return errNoSession
	}
	if r.running && t.offered {
		return errGlare
	}
	// Each costs sockets and allocations until the generation before has ended.
	if now := time.Now(); r.answers > 0 || now.Sub(r.latest) < repairPause || slices.ContainsFunc(t.legs(), (*farCarrier).crowded) {
		return errTooOften
	} else {
		r.latest = now
	}
	r.yielded = r.running
	r.answers++
	return nil
}

// yielded ends what yield began.
func (t *trunk) yielded() {
	t.repair.mu.Lock()
	t.repair.answers--
	t.repair.mu.Unlock()
	if t.hurting() {
		t.kick()
	}
}

func (r *repairState) hasYielded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.yielded
}

// restartBody describes what was gathered: a description with nothing in it but ICE, its m-lines being those of the call.
func restartBody(bundles [MaxStreams]*bundle) []byte {
	s := &sdp.Session{Lines: []sdp.Line{{Key: 'v', Value: "0"}, {Key: 'o', Value: "- 0 0 IN IP4 0.0.0.0"}, {Key: 's', Value: "-"}, {Key: 't', Value: "0 0"}}}
	for i, b := range bundles {
		if b == nil {
			continue
		}
		m := &sdp.Media{Kind: "audio", Ports: 1, Proto: sdp.TLSSAVP, Formats: []string{"0"}}
		at := b.best().local
		m.SetTransport(sdp.Transport{RTP: at, RTCP: at, Mux: true, Profile: sdp.TLSSAVP, ICE: b.ice()})
		m.AddAttribute("mid", strconv.Itoa(i))
		s.Add(m)
	}
	return s.Marshal()
}

// readRestart reads one.
func readRestart(b []byte) (out [MaxStreams]*sdp.ICE, err error) {
	s, err := sdp.Parse(b)
	if err != nil {
		return out, fmt.Errorf("media: a restart that cannot be read: %w", err)
	}
	for _, m := range s.Media {
		mid, _ := m.Attribute("mid")
		i, err := strconv.Atoi(strings.TrimSpace(mid))
		if err != nil || i < 0 || i >= MaxStreams {
			return out, fmt.Errorf("media: a restart of a stream %q", mid)
		}
		out[i] = m.Transport().ICE
	}
	return out, nil
}

// settled says whether the newest generation has a pair.
func (f *farCarrier) settled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed || f.raw.Load() != nil || f.remote == nil || f.gen.path.Load() != nil && !f.gen.lost.Load()
}

// moved says whether the path in use begins at an address that this machine does not have any more.
func (f *farCarrier) moved(addrs []netip.Addr) bool {
	p := f.path.Load()
	if p == nil || p.sock.relayed() {
		return false
	}
	for _, a := range addrs {
		if a == p.sock.local.Addr() {
			return false
		}
	}
	return true
}
