package media

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"

	"p2psip/interwork/media/sdp"
	"p2psip/overlay"
)

// trunk is the far side of a call: one far leg for each m-line, and what they are repaired with. A call from afar that rings
// several phones of this node is several sessions on one trunk, because the far side made one offer, has one agent for it and
// gets the same transport in every answer. A call from a phone has a trunk of its own for each branch.
type trunk struct {
	m       *Manager
	key     trunkKey
	kind    LegKind
	node    overlay.NodeID
	cert    *certificate
	keys    [MaxStreams][]sdp.Crypto // SDES keys of ours, for each m-line
	made    time.Time
	prepare sync.Mutex // one gathering at a time

	mu      sync.Mutex
	refs    int // sessions; guarded by Manager.mu
	closed  bool
	fars    [MaxStreams]*farCarrier
	token   string
	offered bool       // this side made the offer that ICE began with
	active  *session   // the one whose phone hears and is heard
	waiting []*session // others whose phones have answered as well

	repair repairState
	wg     sync.WaitGroup
}

// trunkKey is the same for all copies of a request from afar.
type trunkKey struct {
	callID, tag, transaction string
	fromPhone                bool
	n                        uint64 // makes those of calls from phones differ
}

func newTrunk(m *Manager, key trunkKey, d Dialog) (*trunk, error) {
	cert, err := newCertificate()
	if err != nil {
		return nil, err
	}
	t := &trunk{m: m, key: key, kind: NodeLeg, node: d.Node, cert: cert, made: time.Now()}
	if d.Outside {
		t.kind = OutsideLeg
	}
	for i := range t.keys {
		t.keys[i] = newKeys()
	}
	return t, nil
}

// missing says which of the wanted m-lines have no leg yet.
func (t *trunk) missing(want []bool) (out []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, w := range want {
		if w && i < MaxStreams && (t.fars[i] == nil || t.fars[i].isStale()) {
			out = append(out, i)
		}
	}
	return out
}

// outdated marks the legs for which an offer from afar begins ICE anew.
func (t *trunk) outdated(d *Description) {
	for i, l := range d.Streams {
		if f := t.far(i); f != nil && l.Carry && l.Restart {
			f.setStale()
		}
	}
}

// equip gives each of the wanted m-lines a leg, out of what is kept warm; false when something has to be gathered.
func (t *trunk) equip(want []bool) bool {
	for _, i := range t.missing(want) {
		b := t.m.warm.take()
		if b == nil {
			return false
		}
		t.adopt(i, b)
	}
	return true
}

// gather does the same, and gathers what is not at hand.
func (t *trunk) gather(ctx context.Context, want []bool) error {
	t.prepare.Lock()
	defer t.prepare.Unlock()
	if t.equip(want) {
		return nil
	}
	todo := t.missing(want)
	errs := make([]error, len(todo))
	var wg sync.WaitGroup
	for n, i := range todo {
		wg.Go(func() {
			b, err := gather(ctx, &t.m.cfg, t.m.lookAgain())
			if err == nil {
				t.adopt(i, b)
			}
			errs[n] = err
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// adopt makes a leg of a bundle.
func (t *trunk) adopt(i int, b *bundle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed && t.fars[i] != nil {
		t.fars[i].refresh(b)
		return
	}
	if t.closed {
		b.close()
		return
	}
	t.fars[i] = newFarCarrier(t.m, t.kind, b, t.kick)
}

func (t *trunk) far(i int) *farCarrier {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i >= MaxStreams {
		return nil
	}
	return t.fars[i]
}

// drop ends the leg of an m-line that is not in use any more.
func (t *trunk) drop(i int) {
	t.mu.Lock()
	f := t.fars[i]
	t.fars[i] = nil
	t.mu.Unlock()
	if f != nil {
		f.close()
	}
}

// activate makes a session the one that is connected; false if another one, whose phone has answered, keeps that place. The caller
// may drop that one for this: then this one takes over, see leave.
func (t *trunk) activate(s *session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.active != nil && t.active != s && t.active.taken.Load() {
		if !slices.Contains(t.waiting, s) && len(t.waiting) < maxForks {
			t.waiting = append(t.waiting, s)
		}
		return false
	}
	t.waiting = slices.DeleteFunc(t.waiting, func(w *session) bool { return w == s })
	t.active = s
	return true
}

// leave is told that a session is over. It gives the session that is to be connected in its place, nil if there is none.
func (t *trunk) leave(s *session) (next *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = slices.DeleteFunc(t.waiting, func(w *session) bool { return w == s })
	if t.active != s {
		return nil
	}
	t.active = nil
	if len(t.waiting) > 0 {
		next, t.waiting = t.waiting[0], t.waiting[1:]
		t.active = next
	}
	return next
}

// begun notes that ICE has begun: from now on both nodes know the call by a token that nobody else can know, made of both
// sides' credentials.
func (t *trunk) begun(weOffered bool) {
	t.mu.Lock()
	if t.closed || t.token != "" || t.kind != NodeLeg {
		t.mu.Unlock()
		return
	}
	var f *farCarrier
	for _, c := range t.fars {
		if c != nil && c.iceStarted() {
			f = c
			break
		}
	}
	if f == nil {
		t.mu.Unlock()
		return
	}
	ours, theirs := f.credentials()
	t.token, t.offered = tokenOf(ours, theirs), weOffered
	t.mu.Unlock()
	t.m.addToken(t)
}

func tokenOf(a, b [2]string) string {
	x, y := strings.Join(a[:], " "), strings.Join(b[:], " ")
	if y < x {
		x, y = y, x
	}
	sum := sha256.Sum256([]byte("media token\n" + x + "\n" + y))
	return hex.EncodeToString(sum[:16])
}

// legs gives the far legs that there are.
func (t *trunk) legs() (out []*farCarrier) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.fars {
		if f != nil {
			out = append(out, f)
		}
	}
	return out
}

// close ends all legs and waits for everything.
func (t *trunk) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.repair.stop()
	for _, f := range t.legs() {
		f.close()
	}
	t.wg.Wait()
}
