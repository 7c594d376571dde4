package flow

import (
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

// guard stands between readers and the handler: a panic costs the message it happened on, and strangers do not control how
// much is answered or logged.
type guard struct {
	h       Handler
	o       Options
	replies *bucket // answers to malformed messages
	logs    *bucket // lines about panics and failing sockets
}

func newGuard(h Handler, o Options) *guard {
	return &guard{h: h, o: o, replies: newBucket(o.ReplyRate), logs: newBucket(1)}
}

func (g *guard) message(f Flow, source string, m sip.Message) {
	defer g.recover(f)
	g.o.Counters.Messages.Add(1)
	m.SetTransport(string(f.Transport()))
	m.SetSource(source)
	g.h.HandleMessage(f, m)
}

// refused tells the handler of a message that package message has refused. It gives nil for an error of another kind.
func (g *guard) refused(f Flow, err error) *message.Error {
	var e *message.Error
	if errors.As(err, &e) {
		g.malformed(f, e)
	}
	return e
}

func (g *guard) malformed(f Flow, e *message.Error) {
	defer g.recover(f)
	g.o.Counters.Malformed.Add(1)
	g.h.HandleMalformed(f, e)
}

func (g *guard) unreachable(h UnreachableHandler, f Flow, err error) {
	defer g.recover(f)
	h.HandleUnreachable(f, err)
}

func (g *guard) closed(f Flow) {
	defer g.recover(f)
	g.h.HandleClosed(f)
}

func (g *guard) recover(f Flow) {
	p := recover()
	if p == nil {
		return
	}
	g.o.Counters.Panics.Add(1)
	if g.logs.take() {
		stack := debug.Stack()
		g.o.Logger.Error("panic while handling a message; it is dropped", "transport", f.Transport(), "from", f.Remote(),
			"panic", p, "stack", string(stack[:min(len(stack), 4096)]))
	}
}

// refuser is a Flow that can answer malformed messages.
type refuser interface {
	refuse(e *message.Error)
}

// Refuse answers a malformed message with e.Reply(), if there is anything to say. It is what a HandleMalformed usually
// does. Answers are limited by rate; over UDP, where the source may be forged, an answer is not larger than its cause unless
// it stays on this machine.
func Refuse(f Flow, e *message.Error) {
	if r, ok := f.(refuser); ok {
		r.refuse(e)
	} else if b := e.Reply(); b != nil {
		_ = f.Send(b)
	}
}

// refuse sends the answer to e over f; limit is the largest it may be, 0 for any size.
func (g *guard) refuse(f Flow, e *message.Error, limit int) {
	if e.Status == 0 || !g.replies.take() {
		return
	}
	b := e.Reply()
	if b == nil || limit > 0 && len(b) > limit {
		return
	}
	if f.Send(b) == nil {
		g.o.Counters.Refused.Add(1)
	}
}

// bucket is a token bucket that holds one second's worth.
type bucket struct {
	rate float64

	mu     sync.Mutex // guards the fields below
	tokens float64
	last   time.Time
}

func newBucket(rate int) *bucket {
	return &bucket{rate: float64(rate), tokens: float64(rate), last: time.Now()}
}

func (b *bucket) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.tokens = min(b.rate, b.tokens+now.Sub(b.last).Seconds()*b.rate)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
