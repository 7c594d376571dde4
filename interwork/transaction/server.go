package transaction

import (
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
	req    *sip.Request
	invite bool
	born   time.Time

	mu        sync.Mutex // guards all below
	user      any        // what SetUser kept, until the final response
	state     state
	last      []byte // the response to repeat, in wire form
	lastRes   *sip.Response
	cancelled bool        // a CANCEL was handed up
	repeat    *time.Timer // trying (100), then G
	interval  time.Duration
	end       *time.Timer // H, I, J, L, or the non-INVITE bound
	done      chan struct{}
}

// Request gives the request as it arrived. It must not be changed.
func (s *Server) Request() *sip.Request { return s.req }

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
			return s.sendLocked(res, message.Bytes(res))
		}
		return fmt.Errorf("respond %d to %s: %w", status, s.req.Method, ErrTerminated)
	}
	if !s.invite {
		return s.respondOther(res)
	}

	wire := message.Bytes(res)
	switch {
	case status < 200:
		s.state = stateProceeding
		s.stopRepeat()
		s.last, s.lastRes = wire, s.l.keep(res)
	case status < 300:
		s.state, s.user = stateAccepted, nil
		s.stopRepeat()
		s.last, s.lastRes = nil, nil
		s.after(s.l.t.give()) // timer L
	default:
		s.state, s.user = stateCompleted, nil
		s.stopRepeat()
		s.last, s.lastRes = wire, s.l.keep(res)
		s.after(s.l.t.give()) // timer H
		if !s.flow.Reliable() {
			s.interval = s.l.t.T1
			s.repeat = time.AfterFunc(s.interval, s.timerG)
		}
	}
	return s.sendLocked(res, wire)
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
		s.stopRepeat()
		s.last, s.lastRes = message.Bytes(res), s.l.keep(res)
		return s.sendLocked(res, s.last)
	case status < 200:
		return nil
	case status == sip.StatusRequestTimeout:
		s.terminate()
		return nil
	}
	s.stopRepeat()
	wire := message.Bytes(res)
	err := s.sendLocked(res, wire)
	if s.flow.Reliable() {
		s.terminate() // timer J is zero
		return err
	}
	s.state, s.user = stateCompleted, nil
	s.last, s.lastRes = wire, s.l.keep(res)
	s.after(s.l.t.give()) // timer J
	return err
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
			s.stopRepeat()
			s.last, s.lastRes = nil, nil
			if s.flow.Reliable() {
				s.terminate() // timer I is zero
			} else {
				s.after(s.l.t.T4)
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
		s.after(s.l.t.give()) // the client has given up by then (timer F), and a late answer harms (RFC 4320 §4.3)
	}
	if s.state == stateTrying && s.repeat == nil {
		wait := s.l.t.Trying
		if !s.invite {
			wait = s.l.t.slowed()
		}
		s.repeat = time.AfterFunc(wait, s.timerTrying)
	}
}

// timerTrying sends 100 when the user has been silent.
func (s *Server) timerTrying() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateTrying {
		return
	}
	res := message.NewResponse(s.req, 100, "Trying")
	s.state = stateProceeding
	s.last, s.lastRes = message.Bytes(res), s.l.keep(res)
	_ = s.sendLocked(res, s.last)
}

// timerG repeats the final response to an INVITE until the ACK comes.
func (s *Server) timerG() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateCompleted {
		return
	}
	s.l.traceOut(s.flow, s.lastRes)
	_ = s.flow.Send(s.last)
	s.interval = min(2*s.interval, s.l.t.T2)
	s.repeat.Reset(s.interval)
}

func (s *Server) timerEnd() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.terminate()
}

// after (re)starts the timer that ends the transaction. Called under s.mu.
func (s *Server) after(d time.Duration) {
	if s.end == nil {
		s.end = time.AfterFunc(d, s.timerEnd)
		return
	}
	s.end.Reset(d)
}

func (s *Server) stopRepeat() {
	if s.repeat != nil {
		s.repeat.Stop()
		s.repeat = nil
	}
}

// terminate ends the transaction. Called under s.mu; the table's lock is taken inside, which Layer never holds while it
// takes a transaction's.
func (s *Server) terminate() {
	if s.state == stateTerminated {
		return
	}
	s.state = stateTerminated
	s.stopRepeat()
	if s.end != nil {
		s.end.Stop()
	}
	s.last, s.lastRes = nil, nil
	if s.done != nil {
		close(s.done)
	}
	s.l.dropServer(s)
}

func (s *Server) sendLocked(res *sip.Response, wire []byte) error {
	s.l.traceOut(s.flow, res)
	if err := s.flow.Send(wire); err != nil {
		return fmt.Errorf("respond %d to %s from %s: %w", res.StatusCode, s.req.Method, s.flow.Remote(), err)
	}
	return nil
}
