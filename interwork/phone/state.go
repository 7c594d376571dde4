package phone

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Kind is what has become of a call.
type Kind int

// The states of a call. Failed and Ended are the last.
const (
	Trying   Kind = iota // the next element works on it (100)
	Ringing              // the far side rings, or this phone does
	Answered             // there is a session, audio flows
	Held                 // the far side holds this phone
	Resumed              // and has taken it back
	Failed               // there was never a session; Status says why
	Ended                // there was one, and it is over
)

func (k Kind) String() string {
	return [...]string{"trying", "ringing", "answered", "held", "resumed", "failed", "ended"}[k]
}

// State is one step of a call.
type State struct {
	Kind   Kind
	At     time.Time
	Status int    // of the response that brought it about, 0 if none did
	Reason string // in words
}

func (s State) String() string {
	if s.Status == 0 {
		return fmt.Sprintf("%s (%s)", s.Kind, s.Reason)
	}
	return fmt.Sprintf("%s (%d %s)", s.Kind, s.Status, s.Reason)
}

func (s State) last() bool { return s.Kind == Failed || s.Kind == Ended }

// ErrOver is wrapped by Wait when the call is over without having come to the state waited for.
var ErrOver = errors.New("the call is over")

// maxStates bounds what is kept of a call; a far side that holds and resumes for ever only loses its history.
const maxStates = 64

// states is the history of one call.
type states struct {
	mu      sync.Mutex
	all     []State       // guarded by mu
	last    *State        // guarded by mu: the final one
	changed chan struct{} // guarded by mu; closed and replaced with every state
	subs    []chan State  // guarded by mu
}

// push adds a state; after the final one nothing is added and it returns false.
func (s *states) push(st State) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil {
		return false
	}
	st.At = time.Now()
	if st.last() {
		s.last = &st
	}
	if len(s.all) < maxStates {
		s.all = append(s.all, st)
	}
	for _, c := range s.subs {
		select {
		case c <- st:
		default:
		}
		if st.last() {
			close(c)
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return true
}

// has says whether the call has come to that state.
func (s *states) has(k Kind) (State, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasLocked(k, 1)
}

func (s *states) hasLocked(k Kind, n int) (State, bool) {
	for _, st := range s.all {
		if st.Kind == k {
			if n--; n == 0 {
				return st, true
			}
		}
	}
	if s.last != nil && s.last.Kind == k && n == 1 {
		return *s.last, true
	}
	return State{}, false
}

func (s *states) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last != nil
}

// States gives a channel of the call's states from its beginning; it is closed after the last. A reader that lags behind
// by very many misses some.
func (c *Call) States() <-chan State {
	s := &c.states
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := make(chan State, 2*maxStates)
	for _, st := range s.all {
		ch <- st
	}
	if s.last != nil {
		close(ch)
		return ch
	}
	s.subs = append(s.subs, ch)
	return ch
}

// Wait returns when the call has come to that state, in its past too, or has ended without (ErrOver, with the state it
// ended in, and a *StatusError if it failed).
func (c *Call) Wait(ctx context.Context, k Kind) (State, error) { return c.WaitNth(ctx, k, 1) }

// WaitNth is Wait for the n-th time, from 1, of that state: for Held and Resumed.
func (c *Call) WaitNth(ctx context.Context, k Kind, n int) (State, error) {
	s := &c.states
	for {
		s.mu.Lock()
		st, ok := s.hasLocked(k, n)
		last, changed := s.last, s.changed
		s.mu.Unlock()
		switch {
		case ok:
			return st, nil
		case last != nil && last.Kind == Failed:
			return *last, fmt.Errorf("wait for %s: %w: %w", k, ErrOver, &StatusError{Method: "INVITE", Status: last.Status, Reason: last.Reason})
		case last != nil:
			return *last, fmt.Errorf("wait for %s: %w: %s", k, ErrOver, last)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return State{}, fmt.Errorf("wait for %s: %w", k, context.Cause(ctx))
		}
	}
}
