package network

import (
	"errors"
	"reflect"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
)

// bus is a small event.Bus. Unlike libp2p's it never blocks who emits: where a subscriber is behind, events queue up and
// one goroutine hands them on in order. (Blocking there, with the bus's lock held, would stop virtual time.)
type bus struct {
	h    *Host
	mu   sync.Mutex
	subs []*subscription // guarded by mu
	wg   sync.WaitGroup
}

var _ event.Bus = (*bus)(nil)

type subscription struct {
	b     *bus
	types []reflect.Type
	out   chan any
	stop  chan struct{}

	mu     sync.Mutex
	behind []any // guarded by mu: waiting for room in out
	moving bool  // guarded by mu: a goroutine moves them
	closed bool  // guarded by mu
}

// eventBuffer is the room a subscriber gets, whatever it asks for: its options are made for libp2p's own bus.
const eventBuffer = 16

// Subscribe is part of event.Bus.
func (b *bus) Subscribe(eventType any, _ ...event.SubscriptionOpt) (event.Subscription, error) {
	list, ok := eventType.([]any)
	if !ok {
		list = []any{eventType}
	}
	s := &subscription{b: b, out: make(chan any, eventBuffer), stop: make(chan struct{})}
	for _, e := range list {
		t := reflect.TypeOf(e)
		if t == nil || t.Kind() != reflect.Pointer {
			return nil, errors.New("subscribe wants pointers to event types")
		}
		s.types = append(s.types, t.Elem())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs = append(slices.Clip(b.subs), s)
	return s, nil
}

func (b *bus) emit(e any) {
	t := reflect.TypeOf(e)
	b.h.net.note("emits", b.h, b.h.index)
	b.mu.Lock()
	subs := b.subs
	b.mu.Unlock()
	for _, s := range subs {
		if slices.Contains(s.types, t) {
			s.put(e)
		}
	}
}

func (s *subscription) put(e any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if !s.moving {
		select {
		case s.out <- e:
			return
		default:
		}
		s.moving = true
		s.b.wg.Go(s.move)
	}
	s.behind = append(s.behind, e)
}

func (s *subscription) move() {
	for {
		s.mu.Lock()
		if len(s.behind) == 0 || s.closed {
			s.moving, s.behind = false, nil
			s.mu.Unlock()
			return
		}
		e := s.behind[0]
		s.behind = s.behind[1:]
		s.mu.Unlock()
		select {
		case s.out <- e:
		case <-s.stop:
		}
	}
}

// Out is part of event.Subscription. The channel is not closed at the end.
func (s *subscription) Out() <-chan any { return s.out }

// Name is part of event.Subscription.
func (s *subscription) Name() string { return "simulated" }

// Close is part of event.Subscription.
func (s *subscription) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	s.mu.Unlock()
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.subs = slices.DeleteFunc(slices.Clone(s.b.subs), func(o *subscription) bool { return o == s })
	return nil
}

// close ends all subscriptions.
func (b *bus) close() {
	b.mu.Lock()
	subs := b.subs
	b.mu.Unlock()
	for _, s := range subs {
		s.Close()
	}
	b.wg.Wait()
}

// Emitter is part of event.Bus.
func (b *bus) Emitter(eventType any, _ ...event.EmitterOpt) (event.Emitter, error) {
	return emitter{b}, nil
}

type emitter struct{ b *bus }

// Emit is part of event.Emitter.
func (e emitter) Emit(v any) error { e.b.emit(v); return nil }

// Close is part of event.Emitter.
func (e emitter) Close() error { return nil }

// GetAllEventTypes is part of event.Bus.
func (b *bus) GetAllEventTypes() []reflect.Type {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []reflect.Type
	for _, s := range b.subs {
		out = append(out, s.types...)
	}
	return out
}
