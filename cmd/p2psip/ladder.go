package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/proxy"
)

// ladder prints the messages of a call as they happen, as people draw them: a column for each element, an arrow for each
// message. It is fed by the traces of two nodes. What passes between the two is seen by both; the sender's sight counts.
type ladder struct {
	say   func(format string, a ...any)
	names [4]string
	rungs chan rung // nil Time: a flush
	done  chan struct{}

	mu    sync.Mutex // guards what follows
	start time.Time
	shown bool // the steps' messages are wanted now
	shut  bool
}

// The nodes' columns; the phones are outside of them.
const (
	left  = 1
	right = 2
)

const (
	ladderIndent = 12
	ladderGap    = 20
)

// rung is one arrow, or a mark to which the printing has come.
type rung struct {
	from, to int
	label    string
	at       time.Duration
	mark     chan struct{}
}

func newLadder(say func(string, ...any), a, b string) *ladder {
	l := &ladder{say: say, names: [4]string{"alice", a, b, "bob"}, rungs: make(chan rung, 1024), done: make(chan struct{})}
	go l.print()
	return l
}

// begin starts the messages of one step.
func (l *ladder) begin(title string) {
	l.mu.Lock()
	l.start, l.shown = time.Now(), true
	l.mu.Unlock()
	l.say("\n%s:", title)
	head := []byte(strings.Repeat(" ", ladderIndent+3*ladderGap+8))
	for i, n := range l.names {
		copy(head[ladderIndent+i*ladderGap-len(n)/2:], n)
	}
	l.say("%s", strings.TrimRight(string(head), " "))
}

// end waits until what was seen is printed.
func (l *ladder) end() {
	mark := make(chan struct{})
	l.rungs <- rung{mark: mark}
	<-mark
	l.mu.Lock()
	l.shown = false
	l.mu.Unlock()
}

// saw takes a message from the trace of the node in column own. It runs on the node's goroutines: it only takes note.
func (l *ladder) saw(own int, e proxy.Event) {
	outer, other := 0, right
	if own == right {
		outer, other = 3, left
	}
	r := rung{from: own, to: outer, label: label(e.Message)}
	switch {
	case e.Flow.Edge() && !e.Out:
		r.from, r.to = outer, own
	case e.Flow.Edge():
	case e.Out:
		r.to = other
	default:
		return // the other node has shown it
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.shown || l.shut {
		return
	}
	r.at = e.Time.Sub(l.start)
	select {
	case l.rungs <- r:
	default: // a flood is not worth watching
	}
}

// audio draws what passes beside the nodes.
func (l *ladder) audio(text string) {
	l.mu.Lock()
	at := time.Since(l.start)
	l.mu.Unlock()
	l.rungs <- rung{from: 0, to: 3, label: text, at: at, mark: nil}
}

// label names a message: "INVITE", "200 OK (BYE)".
func label(m sip.Message) string {
	switch m := m.(type) {
	case *sip.Request:
		return string(m.Method)
	case *sip.Response:
		s := fmt.Sprintf("%d %s", m.StatusCode, m.Reason)
		if cseq := m.CSeq(); cseq != nil && cseq.MethodName != sip.INVITE {
			s = fmt.Sprintf("%d (%s)", m.StatusCode, cseq.MethodName)
		}
		return s
	}
	return "?"
}

func (l *ladder) print() {
	defer close(l.done)
	for r := range l.rungs {
		if r.mark != nil {
			close(r.mark)
			continue
		}
		l.say("%s", r.draw())
	}
}

func (r rung) draw() string {
	b := []byte(strings.Repeat(" ", ladderIndent+3*ladderGap+1))
	for i := range 4 {
		b[ladderIndent+i*ladderGap] = '|'
	}
	copy(b[1:], fmt.Sprintf("%6d ms", r.at.Milliseconds()))
	lo, hi := min(r.from, r.to), max(r.from, r.to)
	body := b[ladderIndent+lo*ladderGap+1 : ladderIndent+hi*ladderGap]
	line := byte('-')
	if hi-lo == 3 {
		line = '='
	}
	for i := range body {
		body[i] = line
	}
	if r.from < r.to || hi-lo == 3 {
		body[len(body)-1] = '>'
	}
	if r.from > r.to || hi-lo == 3 {
		body[0] = '<'
	}
	text := r.label
	if most := len(body) - 5; len(text) > most {
		text = text[:most+1]
		text = text[:max(strings.LastIndexByte(text, ' '), 0)]
	}
	text = " " + text + " "
	copy(body[(len(body)-len(text))/2:], text)
	return string(b)
}

// close ends the printing. No trace may come afterwards but is survived.
func (l *ladder) close() {
	l.mu.Lock()
	l.shut = true
	l.mu.Unlock()
	close(l.rungs)
	<-l.done
}
