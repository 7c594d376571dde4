package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"p2psip/overlay"
)

// errBusy says that too many messages wait for something to be opened or found.
var errBusy = errors.New("too many are being opened")

// outbox opens or finds ways off the readers: streams to other nodes, connections to hops, targets of a domain. What is to
// be sent along one way waits in one queue, so that a BYE never overtakes the ACK before it.
type outbox[K comparable, V any] struct {
	c      *Core
	most   int           // ways being opened at one time
	length int           // messages that wait for one of them
	time   time.Duration // the longest opening
	each   bool          // every message asks for itself, one after the other; else all get what the first one got

	mu     sync.Mutex // guards queues
	queues map[K]*outqueue[V]
}

// outqueue exists while a way is being opened and what waited for it is handed over.
type outqueue[V any] struct{ waiting []waiting[V] }

type waiting[V any] struct {
	open func(context.Context) (V, error)
	then func(V, error)
}

func newOutbox[K comparable, V any](c *Core, most, length int, time time.Duration, each bool) *outbox[K, V] {
	return &outbox[K, V]{c: c, most: most, length: length, time: time, each: each, queues: make(map[K]*outqueue[V])}
}

// to gives the way when ready does and nothing waits for it. Otherwise ok is false and err nil, open runs on a goroutine,
// and then is called once, in the order of the calls to to. err says that a bound has been reached; then is not called in
// that case.
func (o *outbox[K, V]) to(key K, ready func() (V, bool), open func(context.Context) (V, error), then func(V, error)) (now V, ok bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if q := o.queues[key]; q != nil {
		if len(q.waiting) >= o.length {
			return now, false, fmt.Errorf("send to %v: %w", key, errBusy)
		}
		q.waiting = append(q.waiting, waiting[V]{open, then})
		return now, false, nil
	}
	if ready != nil {
		if now, ok = ready(); ok {
			return now, true, nil
		}
	}
	if len(o.queues) >= o.most {
		return now, false, fmt.Errorf("send to %v: %w", key, errBusy)
	}
	q := &outqueue[V]{waiting: []waiting[V]{{open, then}}}
	o.queues[key] = q
	if !o.c.goes(func() { o.run(key, q) }) {
		delete(o.queues, key)
		return now, false, fmt.Errorf("send to %v: %w", key, overlay.ErrClosed)
	}
	return now, false, nil
}

// run opens the way and empties the queue.
func (o *outbox[K, V]) run(key K, q *outqueue[V]) {
	var v V
	var err error
	for opened := false; ; {
		o.mu.Lock()
		if len(q.waiting) == 0 {
			delete(o.queues, key)
			o.mu.Unlock()
			return
		}
		w := q.waiting[0]
		if !opened || o.each {
			o.mu.Unlock()
			v, err = o.open(key, w.open)
			opened = true
			o.mu.Lock()
		}
		q.waiting = q.waiting[1:]
		o.mu.Unlock()
		o.c.guard(func() { w.then(v, err) })
	}
}

func (o *outbox[K, V]) open(key K, open func(context.Context) (V, error)) (v V, err error) {
	defer func() {
		if p := recover(); p != nil {
			o.c.stats.panics.Add(1)
			err = fmt.Errorf("open the way to %v: panic: %v", key, p)
		}
	}()
	ctx, cancel := context.WithTimeout(o.c.base, o.time)
	defer cancel()
	if v, err = open(ctx); err != nil {
		err = fmt.Errorf("open the way to %v: %w", key, err)
	}
	return v, err
}
