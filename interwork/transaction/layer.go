package transaction

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

// Layer is the table of a node's transactions. Make one with New and give it to the flows as their handler.
type Layer struct {
	o    Options
	t    Timers
	log  *slog.Logger
	seed maphash.Seed

	clock *clock

	smu     sync.Mutex // guards the server table, its count by source, and the timer that sweeps it
	servers map[serverKey]*Server
	sources map[string]int
	sweep   *time.Timer
	cmu     sync.Mutex // guards the client table
	clients map[clientKey]*Client
	fmu     sync.Mutex // guards flows
	flows   map[flow.Flow]*members

	closed atomic.Bool
	stats  stats
}

// members are the transactions on one reliable flow, so that its end finds them without a walk over the tables.
type members struct {
	servers map[*Server]struct{}
	clients map[*Client]struct{}
}

var (
	_ flow.Handler            = (*Layer)(nil)
	_ flow.UnreachableHandler = (*Layer)(nil)
)

// New makes an empty layer. Close it when the flows are closed.
func New(o Options) (*Layer, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	l := &Layer{
		o: o, t: o.Timers, log: o.Logger, seed: maphash.MakeSeed(), clock: newClock(),
		servers: make(map[serverKey]*Server),
		sources: make(map[string]int),
		clients: make(map[clientKey]*Client),
		flows:   make(map[flow.Flow]*members),
	}
	l.smu.Lock()
	l.sweep = time.AfterFunc(l.t.Age, l.age)
	l.smu.Unlock()
	return l, nil
}

// Timers gives the timer values in force.
func (l *Layer) Timers() Timers { return l.t }

// Close ends all transactions without telling their users. Requests that arrive afterwards are ignored.
func (l *Layer) Close() {
	if l.closed.Swap(true) {
		return
	}
	l.smu.Lock()
	l.sweep.Stop()
	l.smu.Unlock()
	for _, s := range l.allServers(time.Time{}) {
		s.Terminate()
	}
	l.cmu.Lock()
	clients := make([]*Client, 0, len(l.clients))
	for _, c := range l.clients {
		clients = append(clients, c)
	}
	l.cmu.Unlock()
	for _, c := range clients {
		c.mu.Lock()
		c.terminate()
		c.mu.Unlock()
	}
	l.clock.stop()
}

// HandleMessage takes one message from a flow; see flow.Handler.
func (l *Layer) HandleMessage(f flow.Flow, m sip.Message) {
	if l.closed.Load() {
		return
	}
	defer l.recovered("message", m)
	if l.o.Trace != nil {
		l.o.Trace(false, f, m)
	}
	switch m := m.(type) {
	case *sip.Request:
		l.stats.requests.Add(1)
		l.request(f, m)
	case *sip.Response:
		l.stats.responses.Add(1)
		l.response(f, m)
	}
}

// HandleMalformed answers a message that is no SIP message, as far as there is anything to answer.
func (l *Layer) HandleMalformed(f flow.Flow, e *message.Error) {
	l.stats.malformed.Add(1)
	flow.Refuse(f, e)
}

// HandleClosed ends the transactions of a connection or stream that is gone and tells their users.
func (l *Layer) HandleClosed(f flow.Flow) {
	l.fmu.Lock()
	m := l.flows[f]
	delete(l.flows, f)
	l.fmu.Unlock()
	if m != nil {
		for s := range m.servers {
			s.mu.Lock()
			open := s.state < stateAccepted
			s.terminate()
			s.mu.Unlock()
			if open && !l.closed.Load() {
				l.guard("lost request", func() { l.o.Handler.HandleLost(s) })
			}
		}
		for c := range m.clients {
			c.lost(fmt.Errorf("%s to %s: %w", c.key.method, f.Remote(), flow.ErrClosed))
		}
	}
	if !l.closed.Load() {
		l.guard("flow closed", func() { l.o.Handler.HandleFlowClosed(f) })
	}
}

// HandleUnreachable ends the client transactions towards an address where nobody listens and tells their users.
func (l *Layer) HandleUnreachable(f flow.Flow, err error) {
	var lost []*Client
	l.cmu.Lock()
	for _, c := range l.clients { // rare, and its rate is bounded by the flow
		if c.flow == f {
			lost = append(lost, c)
		}
	}
	l.cmu.Unlock()
	for _, c := range lost {
		c.unreachable(fmt.Errorf("%s to %s: %w", c.key.method, f.Remote(), err))
	}
}

func (l *Layer) request(f flow.Flow, req *sip.Request) {
	key, ok := l.serverKeyOf(f, req, req.Method)
	if !ok {
		return
	}
	l.smu.Lock()
	s := l.servers[key]
	if s != nil {
		l.smu.Unlock()
		if s.received(req) {
			l.o.Handler.HandleAck(f, req)
		}
		return
	}
	if req.Method == sip.ACK {
		l.smu.Unlock()
		l.o.Handler.HandleAck(f, req)
		return
	}
	if len(l.servers) >= l.o.MaxServer || l.sources[key.remote] >= l.o.MaxSource {
		l.smu.Unlock()
		l.stats.refused.Add(1)
		res := message.NewResponse(req, 503, "Service Unavailable")
		res.AppendHeader(sip.NewHeader("Retry-After", strconv.Itoa(int(l.o.RetryAfter.Seconds()))))
		_ = l.Send(f, res)
		return
	}
	s = &Server{l: l, key: key, flow: f, method: req.Method, req: req, invite: req.Method == sip.INVITE, born: time.Now()}
	s.repeat.bell, s.end.bell = s, s
	l.servers[key] = s
	l.sources[key.remote]++
	l.smu.Unlock()
	l.join(f, s, nil)

	defer func() {
		if p := recover(); p != nil {
			_ = s.Respond(message.NewResponse(req, 500, "Server Internal Error"))
			panic(p) // HandleMessage reports it
		}
	}()
	if req.Method == sip.CANCEL {
		l.cancel(f, s, req)
		return
	}
	l.o.Handler.HandleRequest(s, req)
	s.armed()
}

// cancel answers a CANCEL (§9.2) and tells the user of the INVITE it names.
func (l *Layer) cancel(f flow.Flow, tx *Server, req *sip.Request) {
	key, _ := l.serverKeyOf(f, req, sip.INVITE)
	l.smu.Lock()
	inv := l.servers[key]
	l.smu.Unlock()
	if inv == nil {
		_ = tx.Respond(message.NewResponse(req, 481, "Call/Transaction Does Not Exist"))
		return
	}
	_ = tx.Respond(message.NewResponse(req, 200, "OK"))
	inv.mu.Lock()
	open := inv.state < stateAccepted && !inv.cancelled
	inv.cancelled = true
	inv.mu.Unlock()
	if open {
		l.o.Handler.HandleCancel(inv)
	}
}

func (l *Layer) response(f flow.Flow, res *sip.Response) {
	key, ok := clientKeyOf(res)
	if !ok {
		return
	}
	l.cmu.Lock()
	c := l.clients[key]
	l.cmu.Unlock()
	if c == nil {
		l.o.Handler.HandleResponse(f, res)
		return
	}
	c.received(res)
}

// Request sends a request in a new client transaction. The request already carries its top Via with a fresh branch, and
// must not be changed afterwards. An error of the flow is returned at once; h hears nothing then. ErrFull, ErrClosed and
// ErrDuplicate are wrapped.
func (l *Layer) Request(f flow.Flow, req *sip.Request, h ClientHandler) (*Client, error) {
	if l.closed.Load() {
		return nil, ErrClosed
	}
	branch, _ := req.Via().Params.Get("branch")
	c := &Client{
		l: l, key: clientKey{branch: branch, method: req.Method}, flow: f, req: req,
		invite: req.Method == sip.INVITE, user: h,
	}
	c.repeat.bell, c.end.bell = c, c
	l.cmu.Lock()
	switch {
	case len(l.clients) >= l.o.MaxClient:
		l.cmu.Unlock()
		l.stats.full.Add(1)
		return nil, fmt.Errorf("send %s to %s: %w", req.Method, f.Remote(), ErrFull)
	case l.clients[c.key] != nil:
		l.cmu.Unlock()
		return nil, fmt.Errorf("send %s to %s: %w", req.Method, f.Remote(), ErrDuplicate)
	}
	l.clients[c.key] = c
	l.cmu.Unlock()
	l.join(f, nil, c)
	if err := c.start(); err != nil {
		return nil, err
	}
	return c, nil
}

// Send sends a message outside any transaction: an ACK for a 2xx, a response forwarded by its Via.
func (l *Layer) Send(f flow.Flow, m sip.Message) error {
	if err := l.write(f, m); err != nil {
		return fmt.Errorf("send to %s: %w", f.Remote(), err)
	}
	return nil
}

// write sends a message whose octets nobody needs afterwards: what is repeated is written again.
func (l *Layer) write(f flow.Flow, m sip.Message) error {
	l.traceOut(f, m)
	buf := message.Encode(m)
	defer buf.Free()
	return f.Send(buf.B)
}

// join notes on which reliable flow a transaction depends. A flow that has died already is reported like any other.
func (l *Layer) join(f flow.Flow, s *Server, c *Client) {
	if !f.Reliable() {
		return
	}
	l.fmu.Lock()
	m := l.flows[f]
	if m == nil {
		m = &members{servers: make(map[*Server]struct{}), clients: make(map[*Client]struct{})}
		l.flows[f] = m
	}
	if s != nil {
		m.servers[s] = struct{}{}
	} else {
		m.clients[c] = struct{}{}
	}
	l.fmu.Unlock()
}

func (l *Layer) leave(f flow.Flow, s *Server, c *Client) {
	if !f.Reliable() {
		return
	}
	l.fmu.Lock()
	defer l.fmu.Unlock()
	m := l.flows[f]
	if m == nil {
		return
	}
	if s != nil {
		delete(m.servers, s)
	} else {
		delete(m.clients, c)
	}
	if len(m.servers)+len(m.clients) == 0 {
		delete(l.flows, f)
	}
}

func (l *Layer) dropServer(s *Server) {
	l.smu.Lock()
	delete(l.servers, s.key)
	if l.sources[s.key.remote]--; l.sources[s.key.remote] <= 0 {
		delete(l.sources, s.key.remote)
	}
	l.smu.Unlock()
	l.leave(s.flow, s, nil)
}

func (l *Layer) dropClient(c *Client) {
	l.cmu.Lock()
	delete(l.clients, c.key)
	l.cmu.Unlock()
	l.leave(c.flow, nil, c)
}

// age ends server transactions whose user has forgotten them.
func (l *Layer) age() {
	for _, s := range l.allServers(time.Now().Add(-l.t.Age)) {
		l.log.Warn("request never answered", "method", s.method, "from", s.flow.Remote())
		s.Terminate()
	}
	l.smu.Lock()
	defer l.smu.Unlock()
	if !l.closed.Load() {
		l.sweep.Reset(l.t.Age)
	}
}

// allServers gives the server transactions born before a time; the zero time stands for all.
func (l *Layer) allServers(before time.Time) []*Server {
	l.smu.Lock()
	defer l.smu.Unlock()
	var all []*Server
	for _, s := range l.servers {
		if before.IsZero() || s.born.Before(before) {
			all = append(all, s)
		}
	}
	return all
}

// keep gives the message that a later retransmission shows to the tracer; without a tracer nothing is held.
func (l *Layer) keep(res *sip.Response) *sip.Response {
	if l.o.Trace == nil {
		return nil
	}
	return res
}

func (l *Layer) traceOut(f flow.Flow, m sip.Message) {
	if l.o.Trace != nil {
		l.o.Trace(true, f, m)
	}
}

// guard runs a callback that does not run on a reader, and keeps its panic from ending the process.
func (l *Layer) guard(what string, f func()) {
	defer l.recovered(what, nil)
	f()
}

func (l *Layer) recovered(what string, m sip.Message) {
	p := recover()
	if p == nil {
		return
	}
	if n := l.stats.panics.Add(1); n > maxPanicLogs {
		return
	}
	l.log.Error("panic while handling a "+what, "panic", p, "stack", string(debug.Stack()))
}

// maxPanicLogs is how many panics are logged with their stack: strangers do not control the log's volume.
const maxPanicLogs = 20
