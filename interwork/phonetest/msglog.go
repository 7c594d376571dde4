package phonetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Message is one SIP message that a SIPp phone sent or received.
type Message struct {
	Sent bool
	Text string // as it was on the wire
}

// Is says whether the message is what, written as "INVITE", "180", or "200 BYE" for the response to a method.
func (m Message) Is(what string) bool {
	first, method, _ := strings.Cut(what, " ")
	line, _, _ := strings.Cut(m.Text, "\n")
	f := strings.Fields(line)
	if len(f) < 2 {
		return false
	}
	if f[0] != "SIP/2.0" {
		return f[0] == first && method == ""
	}
	if f[1] != first {
		return false
	}
	return method == "" || strings.HasSuffix(m.Header("CSeq"), " "+method)
}

// Header is the value of the first header field of that name, "" if there is none. Compact names are not looked for.
func (m Message) Header(name string) string {
	for line := range strings.Lines(m.Text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// messageLog gathers the messages of one SIPp run as they happen.
type messageLog struct {
	mu      sync.Mutex
	all     []Message     // guarded by mu
	changed chan struct{} // guarded by mu; closed and replaced with every message
	ended   bool          // guarded by mu
}

func newMessageLog() *messageLog { return &messageLog{changed: make(chan struct{})} }

// maxMessages bounds the log of one run; a scenario has a few dozen messages, a load run is not what this is for.
const maxMessages = 10000

func (l *messageLog) add(m Message, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case ended:
		l.ended = true
	case len(l.all) < maxMessages:
		l.all = append(l.all, m)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// snapshot returns what there is, and a channel that is closed when there is more.
func (l *messageLog) snapshot() (all []Message, ended bool, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[:len(l.all):len(l.all)], l.ended, l.changed
}

// wait returns the n-th message (from 1) that match accepts.
func (l *messageLog) wait(ctx context.Context, n int, match func(Message) bool) (Message, error) {
	for {
		all, ended, more := l.snapshot()
		seen := 0
		for _, m := range all {
			if match(m) {
				if seen++; seen == n {
					return m, nil
				}
			}
		}
		if ended {
			return Message{}, fmt.Errorf("SIPp ended after %d messages without it", len(all))
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Message{}, fmt.Errorf("not among the %d messages so far: %w", len(all), context.Cause(ctx))
		}
	}
}

// sippHead is the line SIPp writes before a message: "UDP message sent (401 bytes):", "TCP message received [401] bytes :".
// It follows a line of dashes with the time.
var sippHead = regexp.MustCompile(`^[A-Z]+ message (sent|received) [(\[](\d+)[])]? bytes\)?\s*:\s*$`)

// read takes in what SIPp writes to its message log until it closes it.
func (l *messageLog) read(r io.Reader) {
	defer l.add(Message{}, true)
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		m := sippHead.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		n, err := strconv.Atoi(m[2])
		if err != nil || n > 1<<20 {
			continue
		}
		if _, err := br.ReadString('\n'); err != nil { // the empty line between
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(br, b); err != nil {
			return
		}
		l.add(Message{Sent: m[1] == "sent", Text: string(b)}, false)
	}
}

// String is the log in readable form.
func (l *messageLog) String() string {
	all, _, _ := l.snapshot()
	var b strings.Builder
	for _, m := range all {
		dir := "<--"
		if m.Sent {
			dir = "-->"
		}
		fmt.Fprintf(&b, "%s %s\n\n", dir, strings.ReplaceAll(strings.TrimSpace(m.Text), "\r\n", "\n    "))
	}
	return b.String()
}
