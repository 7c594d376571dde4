package phonetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// Event is what baresip tells over its control socket without being asked.
type Event struct {
	Type      string `json:"type"`  // "REGISTER_OK", "CALL_ESTABLISHED", …
	Class     string `json:"class"` // "register", "call", "application", "other"
	AOR       string `json:"accountaor"`
	Direction string `json:"direction"` // "incoming" or "outgoing", for calls
	Peer      string `json:"peeruri"`
	ID        string `json:"id"`    // Call-ID; absent from the first CALL_LOCAL_SDP of a call
	Param     string `json:"param"` // for CALL_CLOSED the reason, for REGISTER_FAIL the status line
}

// The events that matter most.
const (
	RegisterOK      = "REGISTER_OK"
	RegisterFail    = "REGISTER_FAIL"
	CallIncoming    = "CALL_INCOMING"
	CallRinging     = "CALL_RINGING"     // the far side rings (180)
	CallProgress    = "CALL_PROGRESS"    // 183
	CallEstablished = "CALL_ESTABLISHED" // answered, ACK sent or received
	CallRTP         = "CALL_RTPESTAB"    // the first RTP packet has arrived
	CallRemoteSDP   = "CALL_REMOTE_SDP"  // Param "offer" or "answer"
	CallClosed      = "CALL_CLOSED"
)

const (
	maxEvents     = 10000    // kept of one phone
	maxNetstring  = 64 << 10 // what baresip 1.0 itself allows
	subscriberLag = 256      // events a channel holds before it misses some
)

// control is the connection to the ctrl_tcp module of one baresip: JSON objects as netstrings, "5:hello,".
type control struct {
	conn net.Conn
	gone chan struct{} // closed when the connection has ended and nothing more comes

	mu      sync.Mutex
	token   int                      // guarded by mu
	answers map[string]chan response // guarded by mu; by token
	events  []Event                  // guarded by mu
	changed chan struct{}            // guarded by mu; closed and replaced with every event and at the end
	ended   error                    // guarded by mu; set when the connection is gone
	subs    []chan Event             // guarded by mu
}

type response struct {
	OK    bool   `json:"ok"`
	Data  string `json:"data"`
	Token string `json:"token"`
}

func newControl(conn net.Conn) *control {
	c := &control{conn: conn, gone: make(chan struct{}), answers: map[string]chan response{}, changed: make(chan struct{})}
	go func() {
		defer close(c.gone)
		c.end(c.read())
	}()
	return c
}

func (c *control) close() {
	c.conn.Close()
	<-c.gone
}

// read takes in answers and events until the connection ends.
func (c *control) read() error {
	br := bufio.NewReader(c.conn)
	for {
		b, err := readNetstring(br)
		if err != nil {
			return err
		}
		var m struct {
			Response bool `json:"response"`
			response
			Event
		}
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("baresip sent %q: %w", b, err)
		}
		if !m.Response {
			c.add(m.Event)
			continue
		}
		c.mu.Lock()
		answer := c.answers[m.Token]
		delete(c.answers, m.Token)
		c.mu.Unlock()
		if answer != nil {
			answer <- m.response
		}
	}
}

func readNetstring(br *bufio.Reader) ([]byte, error) {
	size, err := br.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(size, ":"))
	if err != nil || n < 0 || n > maxNetstring {
		return nil, fmt.Errorf("baresip sent a netstring of length %q", size)
	}
	b := make([]byte, n+1)
	if _, err := io.ReadFull(br, b); err != nil {
		return nil, err
	}
	if b[n] != ',' {
		return nil, errors.New("baresip sent a netstring without its comma")
	}
	return b[:n], nil
}

func (c *control) add(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.events) < maxEvents {
		c.events = append(c.events, e)
	}
	for _, s := range c.subs {
		select {
		case s <- e:
		default:
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *control) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = fmt.Errorf("the control connection ended: %w", err)
	close(c.changed)
	c.changed = make(chan struct{})
	for _, s := range c.subs {
		close(s)
	}
	c.subs = nil
}

// subscribe gives a channel of the events from now on; it is closed with the connection.
func (c *control) subscribe() <-chan Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := make(chan Event, subscriberLag)
	if c.ended != nil {
		close(s)
		return s
	}
	c.subs = append(c.subs, s)
	return s
}

// command runs one command of baresip's menu and returns what it printed.
func (c *control) command(ctx context.Context, name, params string) (string, error) {
	c.mu.Lock()
	c.token++
	token := strconv.Itoa(c.token)
	answer := make(chan response, 1)
	c.answers[token] = answer
	c.mu.Unlock()

	b, err := json.Marshal(map[string]string{"command": name, "params": params, "token": token})
	if err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c.conn, "%d:%s,", len(b), b); err != nil {
		return "", fmt.Errorf("baresip command %q: %w", name, err)
	}
	select {
	case r := <-answer:
		if !r.OK {
			return r.Data, fmt.Errorf("baresip command %q %q: %s", name, params, r.Data)
		}
		return r.Data, nil
	case <-c.gone:
		return "", fmt.Errorf("baresip command %q: the control connection ended", name)
	case <-ctx.Done():
		return "", fmt.Errorf("baresip command %q: no answer: %w", name, context.Cause(ctx))
	}
}

// since gives the events from index from on, a channel closed when there is more, and the error that ended them.
func (c *control) since(from int) (events []Event, more <-chan struct{}, ended error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from = min(from, len(c.events))
	return c.events[from:len(c.events):len(c.events)], c.changed, c.ended
}

// count is the number of events so far: where to look from for what happens next.
func (c *control) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.events)
}

// wait returns the first event from index from on that match accepts, and the index after it.
func (c *control) wait(ctx context.Context, from int, match func(Event) bool) (Event, int, error) {
	for {
		events, more, ended := c.since(from)
		for i, e := range events {
			if match(e) {
				return e, from + i + 1, nil
			}
		}
		from += len(events)
		if ended != nil {
			return Event{}, from, ended
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Event{}, from, context.Cause(ctx)
		}
	}
}
