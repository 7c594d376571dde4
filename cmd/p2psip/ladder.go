package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// ladder prints the messages of a call as they happen, as people draw them: a column for each element, an arrow for each
// message.
type ladder struct {
	say   func(format string, a ...any)
	names []string
	gap   int // from one column to the next
	rungs chan rung
	done  chan struct{}

	mu    sync.Mutex // guards what follows
	start time.Time
	shown bool // messages are wanted now
	shut  bool
}

const ladderIndent = 12

// rung is one arrow, or a mark to which the printing has come.
type rung struct {
	from, to int
	both     bool // an arrow at either end
	label    string
	at       time.Duration
	mark     chan struct{}
}

func newLadder(say func(string, ...any), gap int, names ...string) *ladder {
	l := &ladder{say: say, names: names, gap: gap, rungs: make(chan rung, 1024), done: make(chan struct{})}
	go l.print()
	return l
}

// begin starts the messages of one step.
func (l *ladder) begin(title string) {
	l.mu.Lock()
	l.start, l.shown = time.Now(), true
	l.mu.Unlock()
	l.say("\n%s:", title)
	head := []byte(strings.Repeat(" ", ladderIndent+len(l.names)*l.gap))
	for i, n := range l.names {
		copy(head[ladderIndent+i*l.gap-len(n)/2:], n)
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

// add draws a message from one column to another. It only takes note, so it may be called from anywhere.
func (l *ladder) add(at time.Time, from, to int, label string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.shown || l.shut {
		return
	}
	select {
	case l.rungs <- rung{from: from, to: to, label: label, at: at.Sub(l.start)}:
	default: // a flood is not worth watching
	}
}

// audio draws what passes beside the nodes, between the outermost columns.
func (l *ladder) audio(text string) { l.both(0, len(l.names)-1, text) }

// both draws what goes to and fro between two columns.
func (l *ladder) both(from, to int, text string) {
	l.mu.Lock()
	at := time.Since(l.start)
	l.mu.Unlock()
	l.rungs <- rung{from: from, to: to, both: true, label: text, at: at}
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
		l.say("%s", l.draw(r))
	}
}

func (l *ladder) draw(r rung) string {
	last := len(l.names) - 1
	b := []byte(strings.Repeat(" ", ladderIndent+last*l.gap+1))
	for i := range l.names {
		b[ladderIndent+i*l.gap] = '|'
	}
	copy(b[1:], fmt.Sprintf("%6d ms", r.at.Milliseconds()))
	lo, hi := min(r.from, r.to), max(r.from, r.to)
	if lo < 0 || hi > last || lo == hi {
		return string(b)
	}
	body := b[ladderIndent+lo*l.gap+1 : ladderIndent+hi*l.gap]
	line := byte('-')
	if r.both {
		line = '='
	}
	for i := range body {
		body[i] = line
	}
	if r.from < r.to || r.both {
		body[len(body)-1] = '>'
	}
	if r.from > r.to || r.both {
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

// close ends the printing. What comes afterwards is not drawn.
func (l *ladder) close() {
	l.mu.Lock()
	l.shut = true
	l.mu.Unlock()
	close(l.rungs)
	<-l.done
}
