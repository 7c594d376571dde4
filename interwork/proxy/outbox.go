package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"p2psip/interwork/flow"
	"p2psip/overlay"
)

// errBusy says that too many messages wait for streams to open.
var errBusy = errors.New("too many streams to other nodes are being opened")

// outbox opens streams to other nodes off the readers. What is to be sent to one node waits in one queue, so that a BYE
// never overtakes the ACK before it.
type outbox struct {
	c *Core

	mu    sync.Mutex // guards nodes
	nodes map[overlay.NodeID]*outqueue
}

// outqueue exists while a stream is being opened and what waited for it is handed over.
type outqueue struct {
	waiting []func(flow.Flow, error)
}

// to gives the flow to a node when one lives and nothing waits for it. Otherwise it returns no flow and no error, opens
// the stream on a goroutine, and then calls then once, in the order of the calls to to. err says that the queue or the
// number of streams being opened has reached its bound; then is not called in that case.
func (o *outbox) to(node overlay.NodeID, addrs []string, then func(flow.Flow, error)) (now flow.Flow, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if q := o.nodes[node]; q != nil {
		if len(q.waiting) >= o.c.limits.DialQueue {
			return nil, fmt.Errorf("send to %s: %w", node, errBusy)
		}
		q.waiting = append(q.waiting, then)
		return nil, nil
	}
	if f, ok := o.c.cfg.Peers.Living(node); ok && alive(f) {
		return f, nil
	}
	if len(o.nodes) >= o.c.limits.Dials {
		return nil, fmt.Errorf("send to %s: %w", node, errBusy)
	}
	q := &outqueue{waiting: []func(flow.Flow, error){then}}
	o.nodes[node] = q
	if !o.c.goes(func() { o.open(node, addrs, q) }) {
		delete(o.nodes, node)
		return nil, fmt.Errorf("send to %s: %w", node, overlay.ErrClosed)
	}
	return nil, nil
}

// alive says that a flow has not ended.
func alive(f flow.Flow) bool {
	select {
	case <-f.Done(): // nil for UDP: never
		return false
	default:
		return true
	}
}

// open opens the stream and empties the queue.
func (o *outbox) open(node overlay.NodeID, addrs []string, q *outqueue) {
	f, err := o.dial(node, addrs)
	for {
		o.mu.Lock()
		if len(q.waiting) == 0 {
			delete(o.nodes, node)
			o.mu.Unlock()
			return
		}
		then := q.waiting
		q.waiting = nil
		o.mu.Unlock()
		for _, t := range then {
			o.c.guard(func() { t(f, err) })
		}
	}
}

func (o *outbox) dial(node overlay.NodeID, addrs []string) (f flow.Flow, err error) {
	defer func() {
		if p := recover(); p != nil {
			o.c.stats.panics.Add(1)
			f, err = nil, fmt.Errorf("open a stream to %s: panic: %v", node, p)
		}
	}()
	ctx, cancel := context.WithTimeout(o.c.base, o.c.limits.DialTime)
	defer cancel()
	f, err = o.c.cfg.Peers.Flow(ctx, node, addrs)
	if err != nil {
		return nil, fmt.Errorf("open a stream to %s: %w", node, err)
	}
	return f, nil
}
