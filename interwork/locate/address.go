package locate

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// hostAddresses is what is known of one host name.
type hostAddresses struct {
	families [2][]netip.Addr // in the order of Family.types
	expires  time.Time       // when the first of the answers expires
	missing  bool            // the name does not exist
	err      error           // a question was not answered
}

// hosts asks for the addresses of host names, all families at once. from are the SRV answers that named them, whose
// additional sections save a question where they may be believed.
func (s *search) hosts(names []string, from []*Answer) ([]hostAddresses, error) {
	now := s.l.now()
	types := s.types
	hosts := make([]hostAddresses, len(names))
	var questions []Question
	var where [][2]int // host and family of each question
	for i, name := range names {
		for j, t := range types {
			if from != nil {
				if list, expires := from[i].addresses(name, t, now); len(list) > 0 {
					s.steps = append(s.steps, Step{Question: Question{name, t}, Beside: list, Note: "came along with the SRV records"})
					hosts[i].take(j, list, expires, s)
					continue
				}
			}
			questions = append(questions, Question{name, t})
			where = append(where, [2]int{i, j})
		}
	}
	at := len(s.steps)
	replies := s.askAll(questions, func(r reply) bool { return r.answer != nil && r.answer.Outcome == Found })
	for k, r := range replies {
		h := &hosts[where[k][0]]
		switch {
		case r.err != nil:
			if !errors.Is(r.err, errPatience) {
				h.err = r.err
			}
		case r.answer.Outcome == NXDomain:
			h.missing = len(r.answer.Aliases) == 0
		case r.answer.Outcome == Found:
			var list []netip.Addr
			for _, rr := range r.answer.Records {
				if a, ok := address(rr); ok {
					list = append(list, a)
				}
			}
			if h.take(where[k][1], list, r.answer.Expires, s) < len(list) {
				s.steps[at+k].Note = "addresses that cannot be a target here are left out"
			}
		}
	}
	if err := s.ctx.Err(); err != nil {
		if cause := context.Cause(s.ctx); !errors.Is(cause, ErrTimeout) {
			return nil, cause // the caller went away
		}
	}
	return hosts, nil
}

// take notes the addresses of one family and gives how many can be used.
func (h *hostAddresses) take(family int, list []netip.Addr, expires time.Time, s *search) int {
	var kept []netip.Addr
	n := 0
	for _, a := range list {
		if s.any || s.l.permitted(a, s.also) == nil {
			if n++; len(kept) < maxAddresses {
				kept = append(kept, a)
			}
		}
	}
	h.families[family] = kept
	if h.expires.IsZero() || expires.Before(h.expires) {
		h.expires = expires
	}
	return n
}

// interleave puts a host's addresses into the order to try: the families by turns, beginning with the preferred one (RFC
// 8305 §4), so that a family which does not work costs one attempt at most before the other has its turn; within a family
// by chance, since an answer out of the cache comes in the same order each time.
func (s *search) interleave(h hostAddresses) []netip.Addr {
	var order []netip.Addr
	for f := range h.families {
		if n := len(h.families[f]); n > 1 {
			// The same host may stand behind several services; its list stays as it is.
			list := append([]netip.Addr(nil), h.families[f]...)
			for i := n - 1; i > 0; i-- {
				j := int(s.l.chance(uint64(i) + 1))
				list[i], list[j] = list[j], list[i]
			}
			h.families[f] = list
		}
	}
	for i := 0; i < max(len(h.families[0]), len(h.families[1])); i++ {
		for _, list := range h.families {
			if i < len(list) {
				order = append(order, list[i])
			}
		}
	}
	return order
}

// reply is what came of one question.
type reply struct {
	answer *Answer
	cached bool
	err    error
}

// ask puts one question and writes a step.
func (s *search) ask(q Question) (*Answer, error) {
	r := s.askAll([]Question{q}, nil)[0]
	return r.answer, r.err
}

// askAll puts questions, some at a time, and writes a step for each, in their order. As soon as one reply is enough to go on
// with, the others have Patience left.
func (s *search) askAll(questions []Question, enough func(reply) bool) []reply {
	replies := make([]reply, len(questions))
	now := s.l.now()
	missing, settled := 0, len(s.targets) > 0
	for i, q := range questions {
		if s.left == 0 {
			replies[i].err = &questionError{q, ErrTooMany, nil}
			continue
		}
		s.left--
		a, err, ok := s.l.resolver.cache.get(q, now)
		if !ok {
			missing++
			continue
		}
		replies[i] = reply{a, true, err}
		settled = settled || enough != nil && enough(replies[i])
	}
	if missing > 0 {
		s.fetch(questions, replies, enough, settled)
	}
	for i, r := range replies {
		s.steps = append(s.steps, Step{Question: questions[i], Answer: r.answer, Cached: r.cached, Err: r.err})
	}
	return replies
}

// fetch asks for those replies that are missing. settled says that there is enough to go on with already.
func (s *search) fetch(questions []Question, replies []reply, enough func(reply) bool, settled bool) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	// The Locator's patience runs from the first reply that is enough.
	hurry := sync.OnceValue(func() *time.Timer {
		return time.AfterFunc(s.l.patience, func() { cancel(errPatience) })
	})
	one := func(i int) {
		r := &replies[i]
		r.answer, r.cached, r.err = s.l.resolver.lookup(ctx, questions[i])
		if enough != nil && enough(*r) {
			hurry()
		}
	}
	if settled {
		hurry()
	}
	var wg sync.WaitGroup
	gate := make(chan struct{}, s.l.parallel)
	for i := range questions {
		if replies[i].answer != nil || replies[i].err != nil {
			continue
		}
		if s.l.parallel == 1 || len(questions) == 1 {
			one(i)
			continue
		}
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			one(i)
		})
	}
	wg.Wait()
	hurry().Stop()
}
