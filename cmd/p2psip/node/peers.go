package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"p2psip/interwork/flow"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

// Bounds on streams to other nodes.
const (
	maxPeerFlows = 1024 // in all
	maxPerPeer   = 4    // with one node: one each way, and what has not been noticed to be dead
	// peerIdle is how long a stream without a message is kept: longer than a request may wait for its answer, with
	// Timer C (RFC 3261 §16.6) started anew by ringing every minute. Calls that last longer open another one for the BYE.
	peerIdle = 15 * time.Minute
)

var errTooManyPeers = errors.New("too many streams to other nodes")

// peers keeps the SIP streams to other nodes: one living flow for each node is used, whoever opened it.
type peers struct {
	overlay *overlay.Peer
	log     *slog.Logger
	dial    singleflight.Group

	mu      sync.Mutex // guards what follows
	handler flow.Handler
	closed  bool
	total   int
	nodes   map[overlay.NodeID][]*peerEntry // the first is the one in use
	stale   map[overlay.NodeID]bool         // connections to be ended before the next stream

	quit  chan struct{}
	wg    sync.WaitGroup // expire
	flows sync.WaitGroup // those in nodes
}

type peerEntry struct {
	node overlay.NodeID
	flow flow.Flow
	used time.Time
	dead bool // its far side does not answer
}

var (
	_ proxy.Peers    = (*peers)(nil)
	_ proxy.Dropper  = (*peers)(nil)
	_ proxy.Entitled = (*overlay.Member)(nil)
)

func newPeers(o *overlay.Peer, log *slog.Logger) *peers {
	return &peers{overlay: o, log: log, nodes: map[overlay.NodeID][]*peerEntry{}, stale: map[overlay.NodeID]bool{}, quit: make(chan struct{})}
}

// start begins to accept streams; h is what they deliver into.
func (p *peers) start(h flow.Handler) {
	p.mu.Lock()
	p.handler = h
	p.mu.Unlock()
	p.wg.Go(p.expire)
	p.overlay.HandleStreams(func(s *overlay.Stream) {
		if _, err := p.add(s); err != nil {
			p.log.Debug("a stream was turned away", "node", s.Member.Node, "error", err)
			s.Close()
		}
	})
}

func (p *peers) started() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handler != nil
}

// add makes a flow of a stream.
func (p *peers) add(s *overlay.Stream) (flow.Flow, error) {
	id := p.overlay.Document().ID
	node := s.Member.Node
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, overlay.ErrClosed
	case p.total >= maxPeerFlows:
		return nil, fmt.Errorf("%w: %d", errTooManyPeers, p.total)
	case living(p.nodes[node]) >= maxPerPeer:
		return nil, fmt.Errorf("%w: %d with this one", errTooManyPeers, maxPerPeer)
	}
	// The reader that starts here may call forget; it waits for the lock.
	f := flow.NewPeerFlow(s, flow.Addr{Host: p.overlay.Name()}, flow.Addr{Host: overlay.NodeName(node, id)}, s.Member, p.handler,
		flow.Options{Logger: p.log})
	p.nodes[node] = append(p.nodes[node], &peerEntry{node: node, flow: f, used: time.Now()})
	p.total++
	p.flows.Add(1)
	return f, nil
}

// living counts the flows that are not known to be dead.
func living(list []*peerEntry) (n int) {
	for _, e := range list {
		if !e.dead {
			n++
		}
	}
	return n
}

// Living gives the flow to a node if there is one.
func (p *peers) Living(node overlay.NodeID) (flow.Flow, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.nodes[node] {
		if e.dead {
			continue
		}
		select {
		case <-e.flow.Done():
		default:
			e.used = time.Now()
			return e.flow, true
		}
	}
	return nil, false
}

// Drop gives the connection with a node up: it looks alive, but the node has not answered over it. Streams over it would
// open without a word of complaint and lead nowhere.
func (p *peers) Drop(node overlay.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for _, e := range p.nodes[node] {
		e.dead = true
		_ = e.flow.Close()
	}
	p.stale[node] = true
}

// revive ends the connection that Drop gave up, so that the next stream begins with a new one.
func (p *peers) revive(node overlay.NodeID) {
	p.mu.Lock()
	stale := p.stale[node]
	delete(p.stale, node)
	p.mu.Unlock()
	if stale {
		_ = p.overlay.Disconnect(node)
	}
}

// Flow gives the flow to a node, opening a stream if there is none. Calls for one node at a time share one attempt.
func (p *peers) Flow(ctx context.Context, node overlay.NodeID, addrs []string) (flow.Flow, error) {
	if f, ok := p.Living(node); ok {
		return f, nil
	}
	done := p.dial.DoChan(string(node), func() (any, error) {
		if f, ok := p.Living(node); ok {
			return f, nil
		}
		p.revive(node)
		s, err := p.overlay.OpenStream(ctx, node, addrs)
		if err != nil {
			return nil, err
		}
		f, err := p.add(s)
		if err != nil {
			s.Close()
			return nil, err
		}
		return f, nil
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(flow.Flow), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: node %s: %w", overlay.ErrUnreachable, node, ctx.Err())
	}
}

// touched notes that a message came on f.
func (p *peers) touched(f flow.Flow) {
	if m, ok := f.Peer().(*overlay.Member); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, e := range p.nodes[m.Node] {
			if e.flow == f {
				e.used = time.Now()
			}
		}
	}
}

// forget drops a flow that has ended.
func (p *peers) forget(f flow.Flow) {
	m, ok := f.Peer().(*overlay.Member)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.nodes[m.Node]
	for i, e := range list {
		if e.flow == f {
			p.total--
			p.flows.Done()
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	if p.nodes[m.Node] = list; len(list) == 0 {
		delete(p.nodes, m.Node)
	}
}

// expire closes flows that nobody has used for long.
func (p *peers) expire() {
	t := time.NewTicker(peerIdle / 15)
	defer t.Stop()
	for {
		select {
		case <-p.quit:
			return
		case now := <-t.C:
			p.mu.Lock()
			clear(p.stale) // nobody wanted those again; what is dead ends by itself
			p.mu.Unlock()
			for _, e := range p.all() {
				p.mu.Lock()
				idle := now.Sub(e.used) > peerIdle
				p.mu.Unlock()
				if idle {
					e.flow.Close()
				}
			}
		}
	}
}

func (p *peers) all() (out []*peerEntry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range p.nodes {
		out = append(out, list...)
	}
	return out
}

// count gives the number of flows.
func (p *peers) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

// close ends all flows and waits until their readers are done. The overlay must still be open.
func (p *peers) close() {
	p.overlay.HandleStreams(nil)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	close(p.quit)
	p.wg.Wait()
	for _, e := range p.all() {
		e.flow.Close()
	}
	p.flows.Wait()
}
