package flow

import (
	"fmt"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"go.uber.org/goleak"

	"p2psip/interwork/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// event is one call of the handler.
type event struct {
	f      Flow
	m      sip.Message
	e      *message.Error
	closed bool
}

// recorder is a Handler whose calls a test waits for.
type recorder struct {
	events chan event
	hook   func(f Flow, m sip.Message) // called in the reader, before the event is recorded
}

func newRecorder() *recorder { return &recorder{events: make(chan event, 4096)} }

func (r *recorder) HandleMessage(f Flow, m sip.Message) {
	if r.hook != nil {
		r.hook(f, m)
	}
	r.events <- event{f: f, m: m}
}

func (r *recorder) HandleMalformed(f Flow, e *message.Error) {
	Refuse(f, e)
	r.events <- event{f: f, e: e}
}

func (r *recorder) HandleClosed(f Flow) { r.events <- event{f: f, closed: true} }

func (r *recorder) next(t testing.TB) event {
	t.Helper()
	select {
	case e := <-r.events:
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("nothing happens")
		return event{}
	}
}

// request is an OPTIONS whose Call-ID is id.
func request(id any) []byte {
	return fmt.Appendf(nil, "OPTIONS sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP phone.invalid:5070;rport;branch=z9hG4bK%v\r\n"+
		"From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: %v\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n"+
		"Content-Length: 0\r\n\r\n", id, id)
}

// broken is a request that gets a 400.
func broken(id any) []byte {
	return fmt.Appendf(nil, "OPTIONS sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP phone.invalid:5070;rport;branch=z9hG4bK%v\r\n"+
		"From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: %v\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n"+
		"Content-Length: 0\r\n\r\n", id, id)
}

func callID(m sip.Message) string { return m.CallID().Value() }
