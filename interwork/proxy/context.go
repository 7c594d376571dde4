package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork"
	"p2psip/interwork/flow"
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

	cancelled bool // the caller gave up
	declined  bool // a 6xx: no further branches
	answered  bool // a final response went upstream
}

// result is what one branch came to.
type result struct {
	status int
	reason string
	res    *sip.Response // nil when made here
	rank   int
}

// branch is one copy of the request that left, or waits for its stream.
type branch struct {
	x       *responseContext
	target  Target
	breadth int

	// guarded by x.mu
	client *transaction.Client
	done   bool
	timerC *time.Timer
}

var _ transaction.ClientHandler = (*branch)(nil)

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
	if seek != nil {
		x.stopSearch, x.searchErr = seek()
		x.searching = x.searchErr == nil
	}
	if x.r.tx.Invite() {
		_ = x.r.tx.Respond(message.NewResponse(x.r.req, 100, "Trying"))
	}
	x.add(targets)
	x.advance()
}

// add queues targets by preference.
func (x *responseContext) add(targets []Target) {
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
	x.finish()
}

// launch starts the targets whose turn it is: those of the highest preference, and while some of a preference run, those
// of the same or a higher one.
func (x *responseContext) launch() bool {
	if len(x.pending) == 0 {
		return false
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

// start makes a branch for a target.
func (x *responseContext) start(t Target, share int) {
	b := &branch{x: x, target: t, breadth: share}
	x.branches = append(x.branches, b)
	x.running++
	if t.Node == "" {
		if t.Flow == nil {
			b.fail(480, "Temporarily Unavailable")
			return
		}
		b.send(t.Flow)
		return
	}
	now, err := x.c.outbox.to(t.Node, t.Addrs, func(f flow.Flow, err error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if b.done {
			return
		}
		if err != nil {
			x.c.log.Debug("node not reached", "node", t.Node, "err", err)
			b.fail(480, "Temporarily Unavailable")
		} else {
			b.send(f)
		}
		x.advance()
	})
	switch {
	case err != nil:
		b.fail(503, "Service Unavailable")
	case now != nil:
		b.send(now)
	}
}

// send lets the branch leave on a flow. Called under x.mu.
func (b *branch) send(f flow.Flow) {
	x := b.x
	if !secureEnough(x.r, f) {
		b.fail(480, "Temporarily Unavailable")
		return
	}
	breadth := b.breadth
	fwd := x.c.rewrite(x.r, f, &b.target.URI, breadth)
	client, err := x.c.layer.Request(f, fwd, b)
	if err != nil {
		x.c.log.Debug("branch not sent", "err", err)
		if errors.Is(err, transaction.ErrFull) {
			b.fail(503, "Service Unavailable")
		} else {
			b.fail(480, "Temporarily Unavailable")
		}
		return
	}
	x.c.stats.forwarded.Add(1)
	b.client = client
	if x.r.tx.Invite() {
		b.timerC = time.AfterFunc(x.c.layer.Timers().C, b.expire)
	}
}

// finished takes the branch out of the count. Called under x.mu, once.
func (b *branch) finished() {
	b.done = true
	b.x.running--
	b.x.avail += b.breadth
	if b.timerC != nil {
		b.timerC.Stop()
	}
}

// fail ends a branch with an answer of our own. Called under x.mu.
func (b *branch) fail(status int, reason string) {
	b.finished()
	b.x.offer(result{status: status, reason: reason})
}

// HandleResponse takes a response of the branch's transaction (§16.7).
func (b *branch) HandleResponse(_ *transaction.Client, res *sip.Response) {
	x := b.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if !message.PopVia(res) || res.Via() == nil { // step 3; a response that was for us alone has nowhere to go
		return
	}
	status := res.StatusCode
	invite := x.r.tx.Invite()
	switch {
	case status == 100:
		return
	case status < 200:
		if b.timerC != nil && !b.done {
			b.timerC.Reset(x.c.layer.Timers().C) // step 2
		}
		if !x.answered && !b.done {
			_ = x.r.tx.Respond(res)
		}
		return
	case status < 300:
		if !b.done {
			b.finished()
		}
		if x.answered && !invite {
			return
		}
		first := !x.answered
		x.answered = true
		x.reply(res)
		if first {
			x.abandon()
		}
		return
	}
	if b.done {
		return
	}
	b.finished()
	if status == 401 || status == 407 {
		x.auth = append(x.auth, res.GetHeaders("WWW-Authenticate")...)
		x.auth = append(x.auth, res.GetHeaders("Proxy-Authenticate")...)
	}
	x.offer(result{status: status, reason: res.Reason, res: res})
	if status >= 600 && !x.declined {
		x.declined = true // step 5
		x.abandon()
	}
	x.advance()
}

// HandleTimeout is timer B or F: the branch counts as answered 408 (§16.8).
func (b *branch) HandleTimeout(*transaction.Client) { b.failed(408, "Request Timeout") }

// HandleTransportError is a dead flow (§16.9): for the caller the phone is away at present, which another branch may
// better.
func (b *branch) HandleTransportError(_ *transaction.Client, err error) {
	b.x.c.log.Debug("branch lost", "err", err)
	b.failed(480, "Temporarily Unavailable")
}

func (b *branch) failed(status int, reason string) {
	x := b.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if b.done {
		return
	}
	b.fail(status, reason)
	x.advance()
}

// expire is timer C (§16.8): the phone has rung long enough.
func (b *branch) expire() {
	b.x.mu.Lock()
	defer b.x.mu.Unlock()
	if !b.done {
		b.client.Cancel()
	}
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
	var targets []Target
	for _, n := range rec.Live(time.Now()) {
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
	x.add(targets)
	x.advance()
}

// arrived takes the targets outside the overlay.
func (x *responseContext) arrived(targets []Target, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.searching, x.found = false, true
	if !ok || len(targets) == 0 {
		x.offer(result{status: 404, reason: "Not Found"})
	} else if !x.answered && !x.cancelled {
		x.add(targets)
	}
	x.advance()
}

// preference is the highest q among a node's devices that the request may reach.
func (x *responseContext) preference(devices []overlay.Device) (q uint16, ok bool) {
	for _, d := range devices {
		if x.w.hasGRUU && d.ID != x.w.gruu {
			continue
		}
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
	x.answered = true
	if x.stopSearch != nil {
		x.stopSearch()
	}
	if x.cancelled && (x.best.status == 0 || x.best.res == nil) {
		x.best = result{status: 487, reason: "Request Terminated"}
	}
	if x.best.status == 0 {
		x.c.answerError(x.r, x.nobody())
		return
	}
	res := x.best.res
	if res == nil {
		x.c.calls.seen(x.r, x.best.status, nil)
		x.c.answer(x.r, x.best.status, x.best.reason)
		return
	}
	x.reply(x.final(res))
}

// nobody is the error when there was no target at all.
func (x *responseContext) nobody() error {
	switch {
	case x.searchErr == nil:
		return overlay.ErrOffline
	case errors.Is(x.searchErr, overlay.ErrUnknownUser) && x.c.cfg.Edge.Owns(x.w.aor):
		return overlay.ErrOffline
	}
	return x.searchErr
}

// reply sends a final response upstream. Called under x.mu.
func (x *responseContext) reply(res *sip.Response) {
	x.c.calls.seen(x.r, res.StatusCode, res.To())
	if err := x.r.tx.Respond(res); err != nil && !errors.Is(err, transaction.ErrTerminated) {
		x.c.log.Debug("answer not sent", "err", err)
	}
}

// answer sends a final response made here.
func (c *Core) answer(r *request, status int, reason string, headers ...sip.Header) {
	if r.tx == nil {
		return
	}
	res := message.NewResponse(r.req, status, reason)
	for _, h := range headers {
		res.AppendHeader(h)
	}
	_ = r.tx.Respond(res)
}

// answerError answers with what the one table says of an error.
func (c *Core) answerError(r *request, err error) {
	s := interwork.StatusOf(err)
	var headers []sip.Header
	if s.RetryAfter > 0 {
		headers = append(headers, sip.NewHeader("Retry-After", strconv.Itoa(int(s.RetryAfter.Seconds()))))
	}
	if s.Code >= 500 {
		c.log.Debug("request refused", "status", s.Code, "err", err)
	}
	c.answer(r, s.Code, s.Reason, headers...)
}

// warning makes a Warning header with free text (§20.43).
func (c *Core) warning(text string) sip.Header {
	return sip.NewHeader("Warning", fmt.Sprintf("399 %s %q", c.cfg.NodeName, text))
}
