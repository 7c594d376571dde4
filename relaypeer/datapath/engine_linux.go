package datapath

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	frontBatch = 64  // datagrams read at once from a front
	relayBatch = 128 // datagrams from peers that wait for being sent to clients
	maxBurst   = 32  // datagrams read at once from one relayed address, so that none starves the others
	maxEvents  = 512 // sockets told of at once
	fullReads  = 16  // batches read from a front before the relayed addresses have their turn

	// gatherFrom is how many packets an interval must bring on the average before it pays to rest: being woken costs as much as
	// resting a few times.
	gatherFrom = 0.75

	// maxInVain is how many rests in a row may bring nothing.
	maxInVain = 4

	// gatherUpTo is how many packets are waited for: beyond it another one saves next to nothing.
	gatherUpTo = 64

	// rateWindow is the time over which they are counted.
	rateWindow = 10 * time.Millisecond
)

// engine waits for all sockets of a Loop and moves their datagrams.
type engine struct {
	l     *Loop
	count *counters
	now   func() time.Time
	base  time.Time
	w     *waiter
	done  chan struct{}

	mu      sync.Mutex // guards what follows, all channels and clients, and the rights to use sockets in the loop
	stopped bool
	slots   []*endpoint
	free    []int

	// The loop's own.
	round   uint64
	fronts  *inbox
	peers   *inbox
	used    int // slots of peers whose datagrams wait in an outbox
	pending []*frontSocket
	next    [frontBatch]int // chains the datagrams of a batch that go out at the same relayed address
	targets [frontBatch]*channel
	payload [frontBatch][]byte
	touched []*relaySocket
	single  *outbox
}

func newEngine(l *Loop) (*engine, error) {
	w, err := newWaiter()
	if err != nil {
		return nil, err
	}
	e := &engine{
		l: l, count: &l.count, now: l.o.Now, base: l.o.Now(), w: w, done: make(chan struct{}),
		fronts: newInbox(frontBatch), peers: newInbox(relayBatch), single: newOutbox(frontBatch),
	}
	go e.run()
	return e, nil
}

// time gives t as nanoseconds since the engine began.
func (e *engine) time(t time.Time) int64 { return int64(t.Sub(e.base)) }

func (e *engine) close() error {
	e.mu.Lock()
	if e.stopped {
		e.mu.Unlock()
		<-e.done
		return nil
	}
	e.stopped = true
	open := make([]*endpoint, 0, len(e.slots))
	for _, p := range e.slots {
		if p != nil {
			open = append(open, p)
		}
	}
	e.mu.Unlock()
	err := e.w.end()
	<-e.done
	for _, p := range open {
		err = errors.Join(err, p.close())
	}
	return errors.Join(err, e.w.free())
}

func (e *engine) server(at netip.AddrPort, o Options) (socket, error) {
	p, err := newEndpoint(e, at, o.ReusePort, newQueue(o.Queue, true))
	if err != nil {
		return nil, err
	}
	if unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, frontBuffer) != nil {
		_ = unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, frontBuffer)
	}
	s := &frontSocket{endpoint: endpoint{e: e, at: p.at, q: p.q, fd: p.fd}, clients: map[key]*relaySocket{}, out: newOutbox(relayBatch)}
	s.front = s
	if err := e.watch(&s.endpoint); err != nil {
		_ = s.close()
		return nil, err
	}
	return s, nil
}

func (e *engine) relayed(at netip.AddrPort) (socket, error) {
	p, err := newEndpoint(e, at, false, newQueue(relayedQueue, false))
	if err != nil {
		return nil, err
	}
	r := &relaySocket{endpoint: endpoint{e: e, at: p.at, q: p.q, fd: p.fd}, burst: 1, first: -1}
	r.relay = r
	return r, nil
}

// start joins a relayed socket with its conn and front, and lets the loop read it.
func (e *engine) start(c *RelayedConn, front Front) error {
	r := c.s.(*relaySocket)
	r.conn = c
	if s, ok := front.(*ServerConn); ok && s.loop == e.l {
		r.via, _ = s.s.(*frontSocket)
	}
	return e.watch(&r.endpoint)
}

// watch lets the loop read an endpoint.
func (e *engine) watch(p *endpoint) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrClosed
	}
	if n := len(e.free); n > 0 {
		p.slot, e.free = e.free[n-1], e.free[:n-1]
	} else {
		p.slot = len(e.slots)
		e.slots = append(e.slots, nil)
	}
	p.open = true
	e.slots[p.slot] = p
	if err := unix.EpollCtl(e.w.set, unix.EPOLL_CTL_ADD, p.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.slot)}); err != nil {
		e.forget(p)
		return os.NewSyscallError("epoll_ctl", err)
	}
	return nil
}

// forget takes an endpoint from the loop. Called with mu held.
func (e *engine) forget(p *endpoint) {
	if !p.open {
		return
	}
	p.open = false
	e.slots[p.slot] = nil
	e.free = append(e.free, p.slot)
	if r := p.relay; r != nil {
		if r.via != nil && r.client.size != 0 && r.via.clients[r.key] == r {
			delete(r.via.clients, r.key)
		}
		r.channels = nil
	}
	if p.front != nil { // its allocations are still open, until pion closes them, and must not send to clients any more
		for _, r := range p.front.clients {
			r.client.size, r.channels = 0, nil
		}
		clear(p.front.clients)
	}
}

// run is the loop.
func (e *engine) run() {
	defer close(e.done)
	events := make([]unix.EpollEvent, maxEvents)
	var rate meanRate
	var perInterval float64 // packets
	for inVain := 0; ; {
		n := e.w.look(events)
		if n == 0 {
			if perInterval >= gatherFrom && inVain < maxInVain {
				inVain++
				e.w.rest(time.Now(), e.l.o.Interval)
				continue
			}
			var err error
			if n, err = e.w.wait(events); err != nil {
				return
			}
		}
		inVain = 0
		began := time.Now() // not the clock passed in: this is about rest, not about what holds when
		e.mu.Lock()
		if e.stopped {
			e.mu.Unlock()
			return
		}
		moved, more := e.serve(events[:n])
		e.mu.Unlock()
		e.count.rounds.Add(1)
		perInterval = rate.add(began, moved, e.l.o.Interval)
		if more || n == len(events) || perInterval < gatherFrom {
			continue
		}
		interval := e.l.o.Interval
		if perInterval > gatherUpTo {
			interval = time.Duration(float64(interval) * gatherUpTo / perInterval)
		}
		ended := time.Now()
		if rest := interval - ended.Sub(began); rest > 0 {
			e.w.rest(ended, rest)
		}
	}
}

// meanRate is how many packets come, from the last window that is over.
type meanRate struct {
	since time.Time
	n     int
	rate  float64 // packets a nanosecond
}

// add counts packets and gives how many come in an interval.
func (r *meanRate) add(now time.Time, packets int, interval time.Duration) float64 {
	r.n += packets
	if d := now.Sub(r.since); d >= rateWindow {
		r.rate = float64(r.n) / float64(d)
		r.since, r.n = now, 0
	}
	return r.rate * float64(interval)
}

// serve reads what there is to read and sends it on. It gives the number of datagrams read, and whether there is more. Called with
// mu held.
func (e *engine) serve(events []unix.EpollEvent) (moved int, more bool) {
	defer e.recovered()
	e.round++
	now := e.time(e.now())
	for i := range events {
		p := e.slots[events[i].Fd]
		if p == nil { // closed meanwhile; if the slot is another's by now, that is looked at in vain
			continue
		}
		n, m := 0, false
		if p.front != nil {
			n, m = e.fromClients(p.front, now)
		} else {
			n, m = e.fromPeers(p.relay, now)
		}
		moved += n
		more = more || m
	}
	e.flush()
	return moved, more
}

// recovered lets a panic, a Meter's for instance, cost the batch and not the relay.
func (e *engine) recovered() {
	if recover() == nil {
		return
	}
	e.count.panics.Add(1)
	for _, r := range e.touched {
		r.first = -1
	}
	for _, s := range e.pending {
		s.out.n = 0
	}
	e.touched, e.pending, e.used, e.single.n = e.touched[:0], e.pending[:0], 0, 0
}

// fromClients reads a front.
func (e *engine) fromClients(s *frontSocket, now int64) (moved int, more bool) {
	for range fullReads {
		n := e.fronts.read(s.fd, 0, frontBatch)
		moved += n
		short := 0
		for i := range n {
			b := e.fronts.data(i)
			if len(b) > MaxDatagram {
				e.count.lostOversize.Add(1)
				continue
			}
			from := keyOf(&e.fronts.names[i])
			r := s.clients[from]
			if r != nil {
				if number, data, ok := channelData(b); ok {
					if c := r.byNumber(number, now); c != nil {
						if !r.conn.meter.Take(len(data)) {
							e.count.lostMeter.Add(1)
							continue
						}
						e.chain(r, i, c, data)
						short++
						continue
					}
				}
			}
			if !s.q.push(b, from.addrPort(), r != nil) {
				e.count.lostQueue.Add(1)
			}
		}
		e.toPeers()
		e.count.short.Add(uint64(short))
		if n < frontBatch {
			return moved, false
		}
	}
	return moved, true
}

// chain notes that datagram i of the batch goes out at r.
func (e *engine) chain(r *relaySocket, i int, c *channel, data []byte) {
	e.targets[i], e.payload[i], e.next[i] = c, data, -1
	if r.first < 0 {
		r.first = i
		e.touched = append(e.touched, r)
	} else {
		e.next[r.last] = i
	}
	r.last = i
}

// toPeers sends what chain has noted.
func (e *engine) toPeers() {
	lost := 0
	for _, r := range e.touched {
		for i := r.first; i >= 0; i = e.next[i] {
			e.single.put(e.payload[i], &e.targets[i].name)
		}
		r.first = -1
		lost += e.single.send(r.fd)
	}
	clear(e.touched)
	e.touched = e.touched[:0]
	if lost > 0 {
		e.count.lostSending.Add(uint64(lost))
	}
}

// fromPeers reads a relayed address. What goes to clients by the short cut waits for flush.
func (e *engine) fromPeers(r *relaySocket, now int64) (moved int, more bool) {
	if r.lastRound+1 >= e.round && r.lastRound != 0 {
		r.burst = min(2*r.burst, maxBurst)
	} else {
		r.burst = 1
	}
	r.lastRound = e.round
	if e.used+r.burst > relayBatch {
		e.flush()
	}
	n := e.peers.read(r.fd, e.used, r.burst)
	more = n == r.burst && n > 1
	kept := 0
	for i := e.used; i < e.used+n; i++ {
		b := e.peers.data(i)
		if len(b) > MaxDatagram {
			e.count.lostOversize.Add(1)
			continue
		}
		from := keyOf(&e.peers.names[i])
		c := r.byPeer(from, now)
		if c == nil {
			if !r.q.push(b, from.addrPort(), true) {
				e.count.lostQueue.Add(1)
			}
			continue
		}
		if !r.conn.meter.Take(len(b)) {
			e.count.lostMeter.Add(1)
			continue
		}
		out := e.peers.slots[i][:headroom+len(b)]
		putChannelHeader(out, c.number, len(b))
		if r.via.out.n == 0 {
			e.pending = append(e.pending, r.via)
		}
		r.via.out.put(out, &r.client)
		kept++
	}
	r.burst = max(min(n, r.burst), 1) // doubled again if there is something in the next round, too
	if kept > 0 {
		e.used += n
		e.count.short.Add(uint64(kept))
	}
	return n, more
}

// flush sends to clients what waits.
func (e *engine) flush() {
	lost := 0
	for _, s := range e.pending {
		lost += s.out.send(s.fd)
	}
	clear(e.pending)
	e.pending = e.pending[:0]
	e.used = 0
	if lost > 0 {
		e.count.lostSending.Add(uint64(lost))
	}
}
