package edge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork"
	"p2psip/interwork/transaction"
)

// answer is a REGISTER whose 200 waits until the registration is on disk and, with a version, in the overlay. Its
// retransmissions are absorbed by the transaction meanwhile.
type answer struct {
	e    *Edge
	tx   *transaction.Server
	req  *sip.Request
	user *user

	generation uint64 // of the store
	version    uint64 // of the user's device set; 0: the overlay has not to be waited for
	deadline   *entry
	listing    *sip.Response // set when it is ready
}

// respond answers with what came of it, nil for success. Callers do not hold mu.
func (a *answer) respond(r *refusal) {
	if r != nil {
		a.e.refuse(a.tx, a.req, r)
		return
	}
	a.e.send(a.tx, a.listing)
}

// takeWaiting removes answers from those that wait. Callers hold mu, and respond after they have let go of it.
func (e *Edge) takeWaiting(which func(*answer) bool) []*answer {
	var taken []*answer
	for a := range e.waiting {
		if which(a) {
			delete(e.waiting, a)
			e.agenda.drop(a.deadline)
			taken = append(taken, a)
		}
	}
	return taken
}

// takeReady removes the answers that have nothing to wait for any more. Callers hold mu.
func (e *Edge) takeReady() []*answer {
	ready := e.takeWaiting(func(a *answer) bool {
		return a.generation <= e.saved && (a.version == 0 || a.version <= a.user.published)
	})
	for _, a := range ready {
		a.listing = e.listing(a.req, a.user)
	}
	return ready
}

// late answers a REGISTER before its sender gives up.
func (e *Edge) late(a *answer) {
	e.mu.Lock()
	taken := e.takeWaiting(func(b *answer) bool { return a == b })
	var err error = context.DeadlineExceeded
	if a.user.err != nil {
		err = a.user.err
	}
	e.mu.Unlock()
	for _, a := range taken {
		a.respond(unpublished(err))
	}
}

// unpublished tells a phone that it is registered here but not in the overlay. It will come again, and other phones of
// this node reach it meanwhile.
func unpublished(err error) *refusal {
	s := interwork.StatusOf(err)
	r := refuse(s.Code, s.Reason, "registered at this node, but the overlay does not know it yet: %v", err)
	if s.RetryAfter > 0 {
		r.headers = []sip.Header{sip.NewHeader("Retry-After", strconv.Itoa(int(s.RetryAfter/time.Second)))}
	}
	return r
}

// changed notes that the set of devices of a user is another one, and has it published without anybody waiting. Callers
// hold mu.
func (e *Edge) changed(u *user) {
	u.desired++
	e.publish(u)
}

// publish begins to publish a user, unless that is under way: then it goes on until the newest set is out. Callers hold
// mu.
func (e *Edge) publish(u *user) {
	if u.running || e.closed {
		return
	}
	u.running = true
	e.agenda.drop(u.retry)
	u.retry, u.next = nil, time.Time{}
	if e.publishing >= maxPublishing {
		e.queue = append(e.queue, u) // each user at most once
		return
	}
	e.publishing++
	e.wg.Go(func() {
		for u := u; u != nil; u = e.nextQueued() {
			for e.publishOnce(u) {
			}
		}
	})
}

func (e *Edge) nextQueued() *user {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 || e.closed {
		e.publishing--
		return nil
	}
	u := e.queue[0]
	e.queue = e.queue[1:]
	return u
}

// publishOnce publishes a user's devices as they are now, answers who waited for that, and says whether it has to be done
// again at once.
func (e *Edge) publishOnce(u *user) (again bool) {
	e.mu.Lock()
	version, set, qs := u.desired, u.set(), qualities(u)
	e.mu.Unlock()

	ctx, cancel := context.WithTimeout(e.ctx, e.c.PublishTimeout)
	err := e.c.Publisher.Publish(ctx, u.aor, set)
	cancel()

	e.mu.Lock()
	var failed []*answer
	if err == nil {
		if u.err != nil {
			e.log.Info("the overlay knows the user's phones now", "user", u.aor, "phones", len(set))
		}
		u.published, u.devices = version, qs
		u.err, u.since, u.attempts = nil, time.Time{}, 0
		again = u.desired != version
	} else {
		if u.err == nil && !e.closed {
			e.log.Warn("the user's phones are registered here, but not published; it will be tried again", "user", u.aor, "phones", len(set), "error", err)
			u.since = e.c.Now()
		}
		u.err = fmt.Errorf("publishing %s: %w", u.aor, err)
		u.attempts++
		failed = e.takeWaiting(func(a *answer) bool { return a.user == u && a.version > 0 && a.version <= version })
		for a := range e.waiting {
			again = again || a.user == u && a.version > version
		}
	}
	again = again && !e.closed
	if !again {
		u.running = false
		if err != nil && !e.closed {
			u.next = e.c.Now().Add(e.pause(u.attempts))
			u.retry = e.agenda.add(u.next, func() { e.retry(u) })
		}
		e.tidy(u)
	}
	if err == nil {
		e.save() // what is published is kept too, so that a removal cut short by SIGKILL is finished
	}
	ready := e.takeReady()
	e.mu.Unlock()

	for _, a := range failed {
		a.respond(unpublished(err))
	}
	for _, a := range ready {
		a.respond(nil)
	}
	return again
}

func (e *Edge) retry(u *user) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range u.phones {
		if p.conn == nil {
			e.redial(p)
		}
	}
	e.publish(u)
}

// tidy forgets a user of whom nothing is left to say. Callers hold mu.
func (e *Edge) tidy(u *user) {
	if len(u.phones) == 0 && !u.running && u.published == u.desired && e.users[u.aor] == u {
		delete(e.users, u.aor)
	}
}

// pause is how long to wait after so many failures in a row: doubling, and spread by a quarter either way so that nodes
// cut off together do not come back together.
// Callers hold mu.
func (e *Edge) pause(failures int) time.Duration {
	d := min(retryMin<<min(failures-1, 16), retryMax)
	f := rand.Float64
	if e.random != nil {
		f = e.random.Float64
	}
	return time.Duration(float64(d) * (0.75 + f()/2))
}

// Republish tries at once to publish what the overlay has not confirmed yet, for when the node has just joined it.
func (e *Edge) Republish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, u := range e.users {
		if u.published != u.desired {
			e.publish(u)
		}
	}
}
