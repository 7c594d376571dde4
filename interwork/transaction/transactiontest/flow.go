// Package transactiontest has a flow in memory, for tests of what stands on flows.
package transactiontest

import (
	"bytes"
	"strings"
	"sync"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

// Flow records what is sent on it. It reads nothing by itself: a test hands messages to the layer in its name.
type Flow struct {
	T        flow.Transport
	From, To flow.Addr // local and remote address
	Far      any       // what Peer gives
	Public   bool      // of the public side, not of a phone

	mu   sync.Mutex // guards all below
	raw  [][]byte
	err  error
	done chan struct{}
	hook func([]byte)
}

var _ flow.Flow = (*Flow)(nil)

// New makes a flow of a transport between a local and a remote address.
func New(t flow.Transport, local, remote flow.Addr) *Flow {
	return &Flow{T: t, From: local, To: remote, done: make(chan struct{})}
}

// Transport implements flow.Flow.
func (f *Flow) Transport() flow.Transport { return f.T }

// Reliable implements flow.Flow.
func (f *Flow) Reliable() bool { return f.T != flow.TransportUDP }

// Local implements flow.Flow.
func (f *Flow) Local() flow.Addr { return f.From }

// Remote implements flow.Flow.
func (f *Flow) Remote() flow.Addr { return f.To }

// Edge implements flow.Flow.
func (f *Flow) Edge() bool { return f.T != flow.TransportP2P && !f.Public }

// Peer implements flow.Flow.
func (f *Flow) Peer() any { return f.Far }

// Done implements flow.Flow.
func (f *Flow) Done() <-chan struct{} {
	if !f.Reliable() {
		return nil
	}
	return f.done
}

// Close implements flow.Flow: what is sent afterwards gives flow.ErrClosed.
func (f *Flow) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil && f.Reliable() {
		f.err = flow.ErrClosed
		close(f.done)
	}
	return nil
}

// Fail makes every Send give err; nil mends the flow.
func (f *Flow) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// Hook has every message sent passed to fn instead of being recorded. fn is called under the sender's locks.
func (f *Flow) Hook(fn func([]byte)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = fn
}

// Send implements flow.Flow.
func (f *Flow) Send(b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	b = bytes.Clone(b)
	if f.hook != nil {
		f.hook(b)
		return nil
	}
	f.raw = append(f.raw, b)
	return nil
}

// Raw gives the bytes of the messages sent since the last call.
func (f *Flow) Raw() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	raw := f.raw
	f.raw = nil
	return raw
}

// Take gives the messages sent since the last call. It panics on bytes that are no SIP message: nothing of ours may send
// such, except in answer to what was none.
func (f *Flow) Take() []sip.Message {
	var out []sip.Message
	for _, b := range f.Raw() {
		m, err := message.Parse(b, true)
		if err != nil {
			panic("sent a message that does not parse: " + err.Error() + "\n" + string(b))
		}
		out = append(out, m)
	}
	return out
}

// Lines gives the start lines of what Take would give, shortened: "INVITE", "180", "ACK". Messages are gone then.
func (f *Flow) Lines() string {
	var out []string
	for _, m := range f.Take() {
		out = append(out, Line(m))
	}
	return strings.Join(out, " ")
}

// Line shortens a start line to the method or the status.
func Line(m sip.Message) string {
	switch m := m.(type) {
	case *sip.Request:
		return string(m.Method)
	case *sip.Response:
		return itoa(m.StatusCode)
	}
	return "?"
}

func itoa(n int) string {
	return string([]byte{byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)})
}

// Parse reads a message written with LF line ends, as it is convenient in a test. Leading white space of lines goes.
func Parse(text string) sip.Message {
	text = strings.TrimLeft(text, "\n\t ")
	head, body, _ := strings.Cut(text, "\n\n")
	var b strings.Builder
	for _, l := range strings.Split(strings.TrimRight(head, "\n\t "), "\n") {
		b.WriteString(strings.TrimLeft(l, "\t "))
		b.WriteString("\r\n")
	}
	b.WriteString("\r\n")
	b.WriteString(body)
	m, err := message.Parse([]byte(b.String()), true)
	if err != nil {
		panic("test message: " + err.Error() + "\n" + text)
	}
	return m
}
