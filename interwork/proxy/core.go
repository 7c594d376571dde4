package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/transaction"
	"p2psip/overlay"
)

// Core is the proxy of one node. Make one with New, give Layer to the flows as their handler, and Close it after them.
type Core struct {
	cfg      Config
	limits   Limits
	log      *slog.Logger
	self     overlay.NodeID
	layer    *transaction.Layer
	own      own
	tokens   tokens
	branches branches
	hider    hider
	searches searches
	media    searches // requests that Media has seen and nobody has answered
	acks     acks
	outbox   *outbox[overlay.NodeID, flow.Flow] // streams to nodes
	hops     *outbox[Hop, flow.Flow]            // connections to places outside
	ways     *outbox[string, []Target]          // where requests leave to
	calls    *calls
	stats    counters

	base context.Context // ends with Close
	stop context.CancelFunc

	mu     sync.Mutex // guards closed against wg.Add
	closed bool
	wg     sync.WaitGroup // lookups and openings of streams
}

var _ transaction.Handler = (*Core)(nil)

// New makes a proxy with its own transaction layer.
func New(cfg Config) (*Core, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	self, ok := overlay.ParseNodeName(cfg.NodeName, cfg.OID)
	if !ok {
		return nil, fmt.Errorf("proxy: %q is no node name of %s", cfg.NodeName, cfg.OID)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	c := &Core{
		cfg: cfg, limits: cfg.Limits.withDefaults(), log: cfg.Logger, self: self, own: newOwn(&cfg),
		tokens:   tokens{key: deriveMAC(cfg.Secret, "flow token")},
		branches: newBranches(cfg.Secret, cfg.Random),
		hider:    newHider(cfg.Secret),
	}
	c.searches = searches{max: c.limits.Lookups, source: make(map[string]int)}
	c.media = searches{max: maxMedia, source: make(map[string]int)}
	l := c.limits
	c.outbox = newOutbox[overlay.NodeID, flow.Flow](c, l.Dials, l.DialQueue, l.DialTime, false)
	c.hops = newOutbox[Hop, flow.Flow](c, l.Dials, l.DialQueue, l.HopTime, false)
	c.ways = newOutbox[string, []Target](c, l.Dials, l.DialQueue, l.LookupTime, true)
	c.calls = newCalls(c.limits.Calls, c.limits.CallAge, c.limits.CallIdle)

	if m := cfg.Media; m != nil {
		c.calls.over = func(k callKey) { m.End(k.id, k.a, k.b) }
	}

	o := cfg.Transactions
	o.Handler = c
	if o.Logger == nil {
		o.Logger = cfg.Logger
	}
	o.Trace = nil
	if cfg.Trace != nil {
		o.Trace = func(out bool, f flow.Flow, m sip.Message) {
			cfg.Trace(Event{Time: time.Now(), Out: out, Flow: f, Message: m})
		}
	}
	layer, err := transaction.New(o)
	if err != nil {
		return nil, err
	}
	c.layer = layer
	c.base, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// Layer is what the flows of this node deliver into.
func (c *Core) Layer() *transaction.Layer { return c.layer }

// Close ends all lookups, openings of streams and transactions, and waits for the goroutines.
func (c *Core) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.layer.Close()
	c.wg.Wait()
}

// goes runs f on a goroutine that Close waits for; false after Close.
func (c *Core) goes(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		c.guard(f)
	}()
	return true
}

// guard keeps a panic in f from ending the process.
func (c *Core) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			if c.stats.panics.Add(1) <= 20 {
				c.log.Error("panic in the proxy", "panic", p, "stack", string(debug.Stack()))
			}
		}
	}()
	f()
}

// HandleRequest decides about a new request.
func (c *Core) HandleRequest(tx *transaction.Server, req *sip.Request) {
	r, ok := readRequest(tx.Flow(), req)
	r.tx = tx
	if !ok {
		c.answer(r, 400, "Bad Request")
		return
	}
	if !c.check(r) {
		return
	}
	c.unroute(r)
	r.loop = c.branches.loop(r)
	if c.branches.looped(r.vias, r.loop) {
		c.stats.loops.Add(1)
		c.answer(r, 482, "Loop Detected")
		return
	}
	if req.Method == sip.REGISTER && len(r.routes) == 0 && c.own.uri(&r.uri, r.flow) {
		if r.kind != flow.KindEdge {
			c.answer(r, 403, "Forbidden", c.warning("phones register with their own node"))
			return
		}
		c.cfg.Edge.Register(tx, req)
		return
	}
	w := c.takeLine(r, c.decide(r))
	if w.kind == toSelf {
		c.serve(r)
		return
	}
	if c.admit(r, w) {
		c.carry(r, w)
	}
}

// admit judges who a request is from. It answers what it refuses.
func (c *Core) admit(r *request, w way) bool {
	ok := true
	switch {
	case r.kind == flow.KindEdge:
		return c.cfg.Edge.Admit(r.tx, r.req, r.trusted && r.toTag != "")
	case r.kind == flow.KindPublic: // what it may do, decidePublic has said; who it may be, Border.Enter says
	case w.kind == toDomain:
		ok = c.admitLeaving(r)
	default:
		ok = c.admitPeer(r)
	}
	if !ok {
		c.answer(r, 403, "Forbidden", c.warning("the node is not entitled to this From"))
	}
	return ok
}

// carry sets a request on its way.
func (c *Core) carry(r *request, w way) {
	if r.kind == flow.KindPublic && (w.kind == toTarget || w.kind == toUser) {
		c.carryIn(r, w)
		return
	}
	switch w.kind {
	case toTarget:
		c.newContext(r, w).begin([]Target{w.target}, nil)
	case toUser:
		c.carryUser(r, w)
	case toDomain:
		c.carryOut(r, w)
	default:
		c.stats.refused.Add(1)
		if w.warning != "" {
			c.answer(r, w.status, w.reason, c.warning(w.warning))
		} else {
			c.answer(r, w.status, w.reason)
		}
	}
}

// carryUser sends a request to the phones of a user: those of this node, and where allowed those of others.
func (c *Core) carryUser(r *request, w way) {
	targets := w.device(c.cfg.Edge.Bindings(w.aor))
	local := w.hasGRUU && len(targets) > 0 // a GRUU names one device (RFC 5627 §3.4): it is here
	if !w.lookup || local {
		if len(targets) == 0 {
			if c.cfg.Edge.Owns(w.aor) && (!w.hasGRUU || w.known) {
				c.answerError(r, overlay.ErrOffline)
			} else {
				c.answerError(r, overlay.ErrUnknownUser)
			}
			return
		}
		c.newContext(r, w).begin(targets, nil)
		return
	}
	x := c.newContext(r, w)
	x.begin(targets, func() (stop func(), err error) {
		if stop = c.search(x, nil); stop == nil {
			return nil, fmt.Errorf("%w: too many lookups under way", overlay.ErrUnreachable)
		}
		return stop, nil
	})
}

// HandleCancel gives a call up; see transaction.Handler.
func (c *Core) HandleCancel(tx *transaction.Server) {
	if x, ok := tx.User().(*responseContext); ok {
		x.cancel()
	}
}

// HandleLost gives up what nobody waits for any more.
func (c *Core) HandleLost(tx *transaction.Server) {
	if x, ok := tx.User().(*responseContext); ok {
		x.lost()
	}
}

// HandleFlowClosed does nothing: tokens and bindings find out when they are used.
func (c *Core) HandleFlowClosed(flow.Flow) {}
