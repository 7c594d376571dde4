package proxy

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
	"p2psip/overlay"
)

// topQ is the highest preference, and the one of a contact that names none.
const topQ = 1000

// responseContext is one request under way (§16.2): its targets, its branches and the best answer so far.
//
// Its mutex is taken before any lock of the transaction layer, which never calls back while it holds one.
type responseContext struct {
	c *Core
	r *request
	w way

	mu       sync.Mutex // guards all below
	pending  []Target   // not tried yet, highest q first
	nodes    []overlay.NodeID
	branches []*branch
	first    branch // of branches: mostly there is no other
	running  int
	level    uint16 // q of the branches that run
	avail    int    // Max-Breadth not handed out
	best     result
	auth     []sip.Header // challenges of all branches (§16.7 step 7)

	searching  bool // a lookup may still bring targets
	found      bool // the lookup has brought its first record
	searchErr  error
	stopSearch func()
	grace      *time.Timer

	shared *exchange // with Media, of all branches of a request that leaves the overlay

	serial bool     // one place after the other, see outside.go
	ready  []Target // what the search for places outside gave at once
	asked  bool     // proxy peers were looked for a second time
	began  time.Time

	cancelled bool // the caller gave up
	declined  bool // a 6xx: no further branches
	answered  bool // a final response went upstream
}

// result is what one branch came to.
type result struct {
	status int
	reason string
	res    *sip.Response // nil when made here
	own    bool          // res speaks of this node, not of the next
	rank   int

	warning string // for a person, when made here; "" for none
}

func (c *Core) newContext(r *request, w way) *responseContext {
	x := &responseContext{c: c, r: r, w: w, avail: c.limits.Breadth}
	if r.breadth >= 0 {
		x.avail = r.breadth
	}
	r.tx.SetUser(x)
	return x
}

// begin starts with the targets known at once. seek, when not nil, starts the search for more, which must not call into x
// on this goroutine; it returns what stops it.
func (x *responseContext) begin(targets []Target, seek func() (stop func(), err error)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.serial && x.c.cfg.Media != nil { // the places outside are looked for meanwhile
		x.shared = x.exchange(Target{})
	}
	if seek != nil {
		x.stopSearch, x.searchErr = seek()
		x.searching = x.searchErr == nil
		if x.ready != nil {
			targets, x.ready = x.ready, nil
			x.searching, x.found = false, true
		}
	}
	if x.r.tx.Invite() {
		_ = x.r.tx.Respond(message.NewResponse(x.r.req, 100, "Trying"))
	}
	x.add(targets)
	x.advance()
}

// add queues targets by preference.
func (x *responseContext) add(targets []Target) {
	if len(targets) == 1 && len(x.pending) == 0 && len(x.branches) < x.c.limits.Branches {
		x.pending = targets
		return
	}
	for _, t := range targets {
		if len(x.branches)+len(x.pending) >= x.c.limits.Branches {
			x.c.stats.branchesDropped.Add(1)
			return
		}
		at, _ := slices.BinarySearchFunc(x.pending, t, func(e, t Target) int {
			if e.Q >= t.Q {
				return -1
			}
			return 1
		})
		x.pending = slices.Insert(x.pending, at, t)
	}
}

// advance starts what may start and answers when nothing is left to wait for. It is called under x.mu after every event.
func (x *responseContext) advance() {
	if x.answered {
		return
	}
	for !x.cancelled && !x.declined && x.launch() && x.running == 0 {
		// every branch of the group failed at once: the next group
	}
	if x.running > 0 {
		return
	}
	if x.searching && !x.cancelled && !x.declined {
		if len(x.branches) > 0 && x.grace == nil {
			x.grace = time.AfterFunc(x.c.limits.LookupGrace, x.endSearch)
		}
		return
	}
	if x.askAgain() {
		x.advance()
		return
	}
	x.finish()
}

// launch starts the targets whose turn it is: those of the highest preference, and while some of a preference run, those
// of the same or a higher one.
func (x *responseContext) launch() bool {
	if len(x.pending) == 0 || x.w.hasGRUU && x.running > 0 {
		return false // and for one device never two places at a time (RFC 5627 §5.4)
	}
	if x.running == 0 {
		if x.searching && !x.found && x.pending[0].Q < topQ {
			return false // a phone at another node may be preferred
		}
		x.level = x.pending[0].Q
	}
	n := 0
	for n < len(x.pending) && x.pending[n].Q >= x.level {
		n++
	}
	started := false
	for ; n > 0; n-- {
		share := x.avail / n
		if x.searching {
			share = x.avail / (n + 1) // something is kept for what the lookup still brings
		}
		if share < 1 {
			share = 1
		}
		if x.avail < 1 {
			if x.running == 0 {
				x.offer(result{status: 440, reason: "Max-Breadth Exceeded"})
				x.pending = nil
			}
			break // the rest waits for a branch to end (RFC 5393 §5.3.1)
		}
		t := x.pending[0]
		x.pending = x.pending[1:]
		x.avail -= share
		x.start(t, share)
		started = true
	}
	return started
}

// cancel is the caller's CANCEL (§16.10), in whatever phase.
func (x *responseContext) cancel() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.answered || x.cancelled {
		return
	}
	x.cancelled = true
	x.abandon()
	x.advance()
}

// lost is the end of the caller's flow before the answer: nobody waits any more.
func (x *responseContext) lost() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.answered {
		return
	}
	x.answered, x.cancelled = true, true
	x.abandon()
	x.c.over(x.r, 0, false)
	x.settle()
}

// settle lets go of all that is not needed to forward further 2xx. Called under x.mu after the final response.
func (x *responseContext) settle() {
	x.r.forget()
	x.best, x.auth = result{}, nil
	x.first.target = Target{}
	if x.shared != nil {
		x.shared.release()
		x.shared = nil
	}
}

// abandon cancels what runs and forgets what waits. Called under x.mu.
func (x *responseContext) abandon() {
	x.pending = nil
	if x.stopSearch != nil {
		x.stopSearch()
	}
	if x.grace != nil {
		x.grace.Stop()
	}
	for _, b := range x.branches {
		switch {
		case b.done:
		case b.client == nil: // still waiting for its stream
			b.finished()
		default:
			b.client.Cancel()
		}
	}
}

// record takes a record that the lookup found and adds the nodes not tried yet.
func (x *responseContext) record(rec overlay.Record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found = true
	if x.answered || x.cancelled || x.declined {
		return
	}
	if x.w.hasGRUU {
		x.add(x.deviceNodes(rec, time.Now()))
	} else {
		x.add(x.userNodes(rec, time.Now()))
	}
	x.advance()
}

// userNodes gives the nodes of a record that have not been asked yet. Called under x.mu.
func (x *responseContext) userNodes(rec overlay.Record, now time.Time) (targets []Target) {
	for _, n := range rec.Live(now) {
		if n.Node == x.c.self || slices.Contains(x.nodes, n.Node) {
			continue
		}
		q, ok := x.preference(n.Devices)
		if !ok {
			continue
		}
		x.nodes = append(x.nodes, n.Node)
		targets = append(targets, Target{Node: n.Node, Addrs: n.Addrs, Q: q})
	}
	return targets
}

// join adds targets while the search goes on.
func (x *responseContext) join(targets []Target) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.answered && !x.cancelled && len(targets) > 0 {
		x.add(targets)
		x.advance()
	}
}

// arrived takes the targets outside the overlay, or why there are none.
func (x *responseContext) arrived(targets []Target, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.searching, x.found = false, true
	if err != nil {
		x.searchErr = err
	} else if !x.answered && !x.cancelled {
		if x.asked {
			targets = x.untried(targets)
		}
		x.add(targets)
	}
	x.advance()
}

// preference is the highest q among a node's devices.
func (x *responseContext) preference(devices []overlay.Device) (q uint16, ok bool) {
	for _, d := range devices {
		q, ok = max(q, d.Q), true
	}
	return q, ok
}

// searched is the end of the lookup; err is nil when it simply has nothing more.
func (x *responseContext) searched(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.searching, x.found = false, true
	if err != nil {
		x.searchErr = err
	}
	x.advance()
}

// endSearch stops a lookup that goes on although all its targets failed.
func (x *responseContext) endSearch() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.running == 0 && x.stopSearch != nil {
		x.stopSearch()
	}
	x.grace = nil
}

// finish answers upstream with the best there is. Called under x.mu when no branch runs and none can come.
func (x *responseContext) finish() {
	defer x.settle()
	x.answered = true
	if x.stopSearch != nil {
		x.stopSearch()
	}
	if x.cancelled && (x.best.status == 0 || x.best.res == nil) {
		x.best = result{status: 487, reason: "Request Terminated"}
	}
	if x.best.status == 0 {
		x.c.over(x.r, 0, false)
		x.c.answerError(x.r, x.nobody())
		return
	}
	res := x.best.res
	if res == nil {
		x.c.calls.seen(x.r, x.best.status, nil, 0)
		x.c.over(x.r, x.best.status, false)
		var headers []sip.Header
		if x.best.warning != "" {
			headers = append(headers, x.c.warning(x.best.warning))
		}
		x.c.answer(x.r, x.best.status, x.best.reason, headers...)
		return
	}
	if !x.best.own {
		res = x.final(res)
	}
	x.c.calls.seen(x.r, res.StatusCode, res.To(), 0)
	x.c.over(x.r, res.StatusCode, true)
	x.respond(res)
}

// nobody is the error when there was no target at all.
func (x *responseContext) nobody() error {
	switch {
	case x.searchErr == nil && x.w.hasGRUU && !x.w.known && x.c.cfg.Edge.Owns(x.w.aor):
		return overlay.ErrUnknownUser // of the user's nodes, this one alone lives, and it does not know the device
	case x.searchErr == nil:
		return overlay.ErrOffline
	case errors.Is(x.searchErr, overlay.ErrUnknownUser) && x.c.cfg.Edge.Owns(x.w.aor):
		return overlay.ErrOffline
	}
	return x.searchErr
}

// respond sends a final response upstream. Called under x.mu.
func (x *responseContext) respond(res *sip.Response) {
	if err := x.r.tx.Respond(res); err != nil && !errors.Is(err, transaction.ErrTerminated) {
		x.c.log.Debug("answer not sent", "err", err)
	}
	x.c.answered(x.r, res.StatusCode)
}
