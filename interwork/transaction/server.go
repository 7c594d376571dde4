package transaction

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

// Errors that Respond, Request and Cancel wrap.
var (
	// ErrTerminated: the transaction has ended, or has its final response.
	ErrTerminated = errors.New("the transaction has ended")
	// ErrFull: the table of client transactions is full.
	ErrFull = errors.New("the table of transactions is full")
	// ErrClosed: the layer was closed.
	ErrClosed = errors.New("the transaction layer is closed")
	// ErrSilent: another node did not say a word within Timers.Silence.
	ErrSilent = errors.New("the node does not answer")
	// ErrDuplicate: a request with the branch of a running client transaction.
	ErrDuplicate = errors.New("the branch is in use")
)

// state of a transaction, server or client; the names are those of RFC 3261 §17 and RFC 6026.
type state uint8

const (
	stateTrying     state = iota // Calling for an INVITE client
	stateProceeding              // a provisional response was seen or sent
	stateAccepted                // a 2xx to an INVITE; more may come
	stateCompleted               // a final response; retransmissions are absorbed
	stateConfirmed               // the ACK came (INVITE server)
	stateTerminated
)

// Server is one server transaction (§17.2): a request that arrived and its responses.
type Server struct {
	l      *Layer
	key    serverKey
	flow   flow.Flow
	method sip.RequestMethod
	invite bool
	born   time.Time

	mu        sync.Mutex // guards all below
	req       *sip.Request
	user      any // what SetUser kept, until the final response
	state     state
	last      []byte // the response to repeat, in wire form
	lastRes   *sip.Response
	cancelled bool  // a CANCEL was handed up
	repeat    alarm // trying (100), then G
	interval  time.Duration
	end       alarm // H, I, J, L, or the non-INVITE bound
	done      chan struct{}
}

var _ bell = (*Server)(nil)

// Request gives the request as it arrived, nil after Forget. It must not be changed.
func (s *Server) Request() *sip.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.req
}

// Forget lets go of the request. A user calls it who has answered and needs it no more: the transaction stays for another
// 64*T1, only to take up retransmissions.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state >= stateAccepted {
		s.req = nil
	}
}

// Flow gives the flow on which the request arrived and the responses leave.
func (s *Server) Flow() flow.Flow { return s.flow }

// Invite says that the request is an INVITE.
func (s *Server) Invite() bool { return s.invite }

// SetUser keeps a value of the transaction user with the transaction until the final response.
func (s *Server) SetUser(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user = v
}

// User gives the value that SetUser kept, or nil.
func (s *Server) User() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user
}

// Done is closed when the transaction has ended.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == nil {
		s.done = make(chan struct{})
		if s.state == stateTerminated {
			close(s.done)
		}
	}
	return s.done
}

// Answered says that a final response was sent, or that none can be sent any more.
func (s *Server) Answered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state >= stateAccepted
}

// Respond sends a response. The layer keeps its wire form for retransmission; res may be changed afterwards.
//
// After the final response further ones give ErrTerminated, except that every 2xx to an INVITE is sent (RFC 6026 §7.1).
// To a non-INVITE request a 408 ends the transaction without being sent and of provisional responses only 100 goes out
// (RFC 4320 §4), and that not before the client has slowed down when the flow is unreliable. An error of the flow is
// wrapped; the transaction then goes on as if the network had lost the response.
func (s *Server) Respond(res *sip.Response) error {
	status := res.StatusCode
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.state >= stateAccepted {
		if s.state == stateAccepted && status >= 200 && status < 300 {
			_, err := s.send(res, false)
			return err
		}
		return fmt.Errorf("respond %d to %s: %w", status, s.method, ErrTerminated)
	}
	if !s.invite {
		return s.respondOther(res)
	}

	s.l.clock.unset(&s.repeat)
	switch {
	case status < 200:
		s.state = stateProceeding
	case status < 300:
		s.state, s.user = stateAccepted, nil
		s.l.clock.set(&s.end, s.l.t.give()) // timer L
	default:
		s.state, s.user = stateCompleted, nil
		s.l.clock.set(&s.end, s.l.t.give()) // timer H
		if !s.flow.Reliable() {
			s.interval = s.l.t.T1
			s.l.clock.set(&s.repeat, s.interval)
		}
	}
	return s.answer(res, s.state != stateAccepted)
}

// respondOther is respond for a non-INVITE request: §17.2.2 with RFC 4320. Called under s.mu.
func (s *Server) respondOther(res *sip.Response) error {
	status := res.StatusCode
	switch {
	case status == 100:
		if s.state == stateTrying && !s.flow.Reliable() && time.Since(s.born) < s.l.t.slowed() {
			return nil // the timer sends one when it is due
		}
		s.state = stateProceeding
		s.l.clock.unset(&s.repeat)
		return s.answer(res, true)
	case status < 200:
		return nil
	case status == sip.StatusRequestTimeout:
		s.terminate()
		return nil
	}
	s.l.clock.unset(&s.repeat)
	if s.flow.Reliable() {
		err := s.answer(res, false)
		s.terminate() // timer J is zero
		return err
	}
	s.state, s.user = stateCompleted, nil
	s.l.clock.set(&s.end, s.l.t.give()) // timer J
	return s.answer(res, true)
}

// Terminate ends the transaction without a response.
func (s *Server) Terminate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.terminate()
}

// received handles a further request with the key of s: a retransmission or an ACK. It returns what the user has to see,
// an ACK that belongs to a 2xx. Called without locks.
func (s *Server) received(req *sip.Request) (pass bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.Method == sip.ACK {
		switch s.state {
		case stateAccepted:
			return true // RFC 6026 §7.1
		case stateCompleted:
			s.state = stateConfirmed
			s.l.clock.unset(&s.repeat)
			s.last, s.lastRes = nil, nil
			if s.flow.Reliable() {
				s.terminate() // timer I is zero
			} else {
				s.l.clock.set(&s.end, s.l.t.T4) // timer I
			}
		}
		return false
	}
	if s.last != nil && (s.state == stateProceeding || s.state == stateCompleted) {
		s.l.traceOut(s.flow, s.lastRes)
		_ = s.flow.Send(s.last)
	}
	return false
}

// armed starts the timers of a new transaction that its user has not answered within HandleRequest.
func (s *Server) armed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state >= stateAccepted {
		return
	}
	if !s.invite {
		s.l.clock.set(&s.end, s.l.t.give()) // the client has given up by then (timer F), and a late answer harms (RFC 4320 §4.3)
	}
	if s.state == stateTrying {
		s.l.clock.set(&s.repeat, s.l.t.trying(s.invite, s.flow.Reliable()))
	}
}

// ring takes the timers.
func (s *Server) ring(a *alarm) {
	defer s.l.recovered("timer", nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.l.clock.claim(a):
	case a == &s.end:
		s.terminate()
	case s.state == stateTrying: // the user has been silent
		s.state = stateProceeding
		_ = s.answer(message.NewResponse(s.req, 100, "Trying"), true)
	case s.state == stateCompleted: // timer G: until the ACK comes
		s.l.traceOut(s.flow, s.lastRes)
		_ = s.flow.Send(s.last)
		s.interval = min(2*s.interval, s.l.t.T2)
		s.l.clock.set(&s.repeat, s.interval)
	}
}

// terminate ends the transaction. Called under s.mu; the table's lock is taken inside, which Layer never holds while it
// takes a transaction's.
func (s *Server) terminate() {
	if s.state == stateTerminated {
		return
	}
	s.state = stateTerminated
	s.l.clock.unset(&s.repeat)
	s.l.clock.unset(&s.end)
	s.last, s.lastRes = nil, nil
	if s.done != nil {
		close(s.done)
	}
	s.l.dropServer(s)
}

// answer sends a response and, if it may have to be repeated, keeps its octets. Called under s.mu.
func (s *Server) answer(res *sip.Response, repeat bool) (err error) {
	s.last, s.lastRes = nil, nil
	if repeat {
		s.lastRes = s.l.keep(res)
	}
	s.last, err = s.send(res, repeat)
	return err
}

// send sends a response and gives a copy of its octets if asked to. Called under s.mu.
func (s *Server) send(res *sip.Response, keep bool) (wire []byte, err error) {
	s.l.traceOut(s.flow, res)
	buf := message.Encode(res)
	defer buf.Free()
	if keep {
		wire = bytes.Clone(buf.B)
	}
	if err := s.flow.Send(buf.B); err != nil {
		return wire, fmt.Errorf("respond %d to %s from %s: %w", res.StatusCode, s.method, s.flow.Remote(), err)
	}
	return wire, nil
}
