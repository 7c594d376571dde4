package account

import (
	"context"
	"sync"
	"time"

	"p2psip/overlay"
)

// State is how an account stands with its provider.
type State string

// The states.
const (
	Waiting    State = "waiting"    // for a phone of the user, or for the overlay
	Trying     State = "trying"     // the first attempt, or one after a failure
	Registered State = "registered" // calls for the address come in
	Refused    State = "refused"    // the provider does not want it; somebody has to do something
)

// Status is what `p2psip status` shows of an account. It goes over a socket as JSON.
type Status struct {
	AOR     string    `json:"aor"`
	User    string    `json:"user"` // in the overlay
	State   State     `json:"state"`
	Contact string    `json:"contact,omitempty"` // as registered
	Until   time.Time `json:"registered_until,omitzero"`
	Through string    `json:"through,omitempty"` // the proxy peer of the last registration
	Prefix  string    `json:"prefix,omitempty"`
	Default bool      `json:"default,omitempty"`
	// Error says what went wrong last, Hint what to do about it, Failures how often in a row.
	Error    string    `json:"last_error,omitempty"`
	Hint     string    `json:"hint,omitempty"`
	Failures int       `json:"failures,omitempty"`
	Next     time.Time `json:"next_attempt,omitzero"`
}

// worker keeps one account registered.
type worker struct {
	m   *Manager
	a   Account
	aor overlay.AOR // the user's

	ctx    context.Context // ends when the account is removed, or the manager closed
	cancel context.CancelFunc
	kick   chan struct{} // capacity 1

	b *binding // belongs to run

	mu      sync.Mutex // guards what follows
	login   login
	status  Status
	granted granted
	removed bool
	absent  time.Time // since when the user has had no phone; zero: there is one
}

func (m *Manager) newWorker(a Account) *worker {
	w := &worker{m: m, a: a, kick: make(chan struct{}, 1)}
	w.aor, _ = m.c.OID.AOR(a.User)
	w.ctx, w.cancel = context.WithCancel(m.ctx)
	w.status = Status{AOR: a.AOR, User: w.aor.String(), State: Waiting, Prefix: a.Prefix, Default: a.Default}
	seen := m.seen[a.AOR]
	if seen.When.Before(a.Added) {
		seen = sighting{} // of an account of that name before
	}
	w.login.id = identity{user: a.authUser(), password: a.Password, realms: seen.Realms, onlySHA256: seen.SHA256, any: len(seen.Realms) == 0}
	if a.Realm != "" {
		w.login.id.realms, w.login.id.any = []string{a.Realm}, false
	}
	w.b = newBinding(&m.c, a, &w.login)
	return w
}

// Status gives a picture of the account.
func (w *worker) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.status
	if s.State == Registered && !w.m.c.Now().Before(s.Until) {
		s.State = Trying
	}
	return s
}

// remove ends the worker, which unregisters first.
func (w *worker) remove() {
	w.mu.Lock()
	w.removed = true
	w.mu.Unlock()
	w.cancel()
}

func (w *worker) poke() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

func (w *worker) peerLost(node overlay.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if soon := w.m.c.Now().Add(peerLost); w.status.State == Registered && w.granted.through.Node == node && w.status.Next.After(soon) {
		w.status.Next = soon
		w.poke()
	}
}

// run keeps the account registered until it is removed or the manager is closed.
func (w *worker) run() {
	defer w.cancel()
	for {
		t := time.NewTimer(w.step())
		select {
		case <-w.ctx.Done():
			t.Stop()
			w.mu.Lock()
			bye := w.removed && w.m.c.Now().Before(w.status.Until) && w.m.ctx.Err() == nil
			w.mu.Unlock()
			if bye {
				w.unregister()
			}
			return
		case <-w.kick:
			t.Stop()
		case <-t.C:
		}
	}
}

// step does what is due and says when to look again.
func (w *worker) step() time.Duration {
	now := w.m.c.Now()
	here := w.m.c.Published(w.aor)
	w.mu.Lock()
	state, next := w.status.State, w.status.Next
	gone := false
	switch {
	case here:
		w.absent = time.Time{}
	case w.absent.IsZero():
		w.absent = now
	default:
		gone = now.Sub(w.absent) >= absentFor
	}
	if !here && (state == Waiting || state == Trying || gone) {
		w.status.State, w.status.Next = Waiting, time.Time{}
		w.status.Error, w.status.Hint = "no phone of "+w.aor.String()+" is registered in the overlay now", "let a phone register with this node"
		if state == Waiting {
			w.status.Failures = 0
		}
	}
	w.mu.Unlock()
	switch {
	case gone && state == Registered:
		w.m.log.Info("the user has no phone any more; the provider is told", "account", w.a.AOR)
		w.unregister()
		return lookEvery
	case !here && state != Registered && state != Refused:
		return lookEvery
	case !here && !now.Before(next):
		return lookEvery // registered without a phone: it is decided soon
	case now.Before(next):
		return min(next.Sub(now), lookEvery)
	}
	w.attempt()
	return lookEvery / 2
}

// attempt registers, and notes what came of it.
func (w *worker) attempt() {
	w.mu.Lock()
	if w.status.State == Waiting {
		w.status.State, w.status.Error, w.status.Hint = Trying, "", ""
	}
	last := w.granted.through
	w.mu.Unlock()
	g, f := w.b.register(w.ctx, last, false)
	if w.ctx.Err() != nil {
		return
	}
	now := w.m.c.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.status
	if f == nil {
		if s.State != Registered {
			w.m.log.Info("registered with the provider", "account", w.a.AOR, "through", g.through.Node, "for", g.for_)
		}
		s.State, s.Error, s.Hint, s.Failures = Registered, "", "", 0
		s.Contact, s.Until, s.Through = g.contact, now.Add(g.for_), g.through.Node.String()
		s.Next = now.Add(max(refreshAfter(g.for_, w.m.c.Chance()), time.Second))
		w.granted = g
		w.sight()
		return
	}
	if s.Failures == 0 || s.Error != f.text {
		w.m.log.Warn("not registered with the provider", "account", w.a.AOR, "error", f.text, "hint", f.hint)
	}
	s.Failures++
	s.Error, s.Hint = f.text, f.hint
	wait := backoff(s.Failures, w.m.c.Chance())
	if f.permanent {
		wait = spread(refusedPause, w.m.c.Chance())
		w.login.forget()
	}
	s.Next = now.Add(max(wait, f.after))
	switch {
	case f.permanent:
		s.State = Refused
	case now.Before(s.Until): // the last one still holds
	default:
		s.State = Trying
	}
}

// sight remembers what the provider asked. Callers hold w.mu.
func (w *worker) sight() {
	realms, sha := w.login.realms()
	if len(realms) == 0 || !w.login.id.any && (!sha || w.login.id.onlySHA256) {
		return
	}
	if w.a.Realm == "" && w.login.id.any {
		w.login.id.realms = realms
	}
	w.login.id.any, w.login.id.onlySHA256 = false, sha
	seen := sighting{Realms: w.login.id.realms, SHA256: sha, When: w.m.c.Now().UTC()}
	w.m.wg.Go(func() { // the manager's lock comes before this one
		w.m.mu.Lock()
		defer w.m.mu.Unlock()
		if w.m.workers[w.a.AOR] == w {
			w.m.seen[w.a.AOR] = seen
			w.m.saveSeen()
		}
	})
}

// unregister takes the contact out, if that can be done soon.
func (w *worker) unregister() {
	ctx, cancel := context.WithTimeout(w.m.ctx, goodbye)
	defer cancel()
	w.mu.Lock()
	last := w.granted.through
	w.mu.Unlock()
	_, f := w.b.register(ctx, last, true)
	w.mu.Lock()
	defer w.mu.Unlock()
	if f != nil {
		w.m.log.Info("the provider could not be told; the registration runs out by itself", "account", w.a.AOR, "at", w.status.Until, "error", f.text)
	} else {
		w.m.log.Info("unregistered", "account", w.a.AOR)
	}
	w.status.Until, w.status.Contact = time.Time{}, ""
}
