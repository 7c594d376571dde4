package transaction

import (
	"fmt"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
)

// Client is one client transaction (§17.1): a request that was sent and its responses.
type Client struct {
	l      *Layer
	key    clientKey
	flow   flow.Flow
	invite bool

	mu         sync.Mutex    // guards all below
	req        *sip.Request  // nil once nothing needs it any more
	user       ClientHandler // nil once it has nothing more to hear
	state      state
	started    bool  // the request is out
	repeat     alarm // A or E
	interval   time.Duration
	end        alarm        // B or F, then C, then D, K or M
	silent     bool         // another node has not said a word yet: Silence is what end waits for
	ringing    bool         // timer C bounds it
	wantCancel bool         // Cancel was called before a provisional response
	cancelled  bool         // the CANCEL is out
	ack        *sip.Request // for a non-2xx, to be repeated
}

var _ bell = (*Client)(nil)

// Request gives the request as it was sent, nil after its final response: a transaction that only waits for stray
// messages to die out holds nothing that is not needed for that. After a timeout or the loss of the flow it is still
// there. It must not be changed.
func (c *Client) Request() *sip.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.req
}

// Flow gives the flow on which the request left.
func (c *Client) Flow() flow.Flow { return c.flow }

// start sends the request for the first time.
func (c *Client) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == stateTerminated { // the flow ended, or the layer closed, since the transaction entered the table
		return fmt.Errorf("send %s to %s: %w", c.key.method, c.flow.Remote(), flow.ErrClosed)
	}
	if err := c.l.write(c.flow, c.req); err != nil {
		c.terminate()
		return fmt.Errorf("send %s to %s: %w", c.key.method, c.flow.Remote(), err)
	}
	c.started = true
	if c.flow.Transport() == flow.TransportP2P {
		c.silent = true
		c.l.clock.set(&c.end, min(c.l.t.Silence, c.l.t.give()))
	} else {
		c.l.clock.set(&c.end, c.l.t.give()) // B or F
	}
	if !c.flow.Reliable() {
		c.interval = c.l.t.T1
		c.l.clock.set(&c.repeat, c.interval)
	}
	return nil
}

// received handles a response on the reader of its flow.
func (c *Client) received(res *sip.Response) {
	if user := c.accept(res); user != nil {
		user.HandleResponse(c, res)
	}
}

// accept moves the state machine and gives the user if it is to see the response.
func (c *Client) accept(res *sip.Response) ClientHandler {
	c.mu.Lock()
	defer c.mu.Unlock()
	status, user := res.StatusCode, c.user
	switch c.state {
	case stateTrying, stateProceeding:
		if status < 200 {
			c.provisional(status)
			return user
		}
		c.final(res)
		return user
	case stateAccepted:
		if status >= 200 && status < 300 {
			return user
		}
	case stateCompleted:
		if c.invite && status >= 300 && c.ack != nil {
			_ = c.l.write(c.flow, c.ack)
		}
	}
	return nil
}

func (c *Client) provisional(status int) {
	first := c.state == stateTrying
	c.state = stateProceeding
	if !c.invite {
		if c.silent {
			c.silent = false
			c.l.clock.set(&c.end, c.l.t.give()) // F, a little late
		}
		if first && !c.flow.Reliable() {
			c.interval = c.l.t.T2 // §17.1.2.2: in Proceeding timer E runs with T2
			c.l.clock.set(&c.repeat, c.interval)
		}
		return
	}
	if first {
		c.l.clock.unset(&c.repeat)
	}
	if !c.cancelled && (first || status > 100) { // timer B ends with the first provisional; §16.7 step 2
		c.l.clock.set(&c.end, c.patience())
	}
	if c.wantCancel {
		c.sendCancel()
	}
}

func (c *Client) final(res *sip.Response) {
	c.l.clock.unset(&c.repeat)
	reliable := c.flow.Reliable()
	req := c.req
	c.req = nil
	switch {
	case c.invite && res.StatusCode < 300:
		c.state = stateAccepted
		c.l.clock.set(&c.end, c.l.t.give()) // M
	case c.invite:
		c.ack = newAck(req, res)
		_ = c.l.write(c.flow, c.ack)
		if reliable {
			c.terminate() // D is zero
			return
		}
		c.state, c.user = stateCompleted, nil
		c.l.clock.set(&c.end, c.l.t.D)
	case reliable:
		c.terminate() // K is zero
	default:
		c.state, c.user = stateCompleted, nil
		c.l.clock.set(&c.end, c.l.t.T4) // K
	}
}

// Cancel asks the far side to give the INVITE up (§9.1). The CANCEL leaves at once when a provisional response has come,
// else with the first one; after a final response nothing is sent. If no final response follows within 64*T1, the user
// gets HandleTimeout. For a request other than INVITE it does nothing.
func (c *Client) Cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.invite || c.state > stateProceeding || c.wantCancel {
		return
	}
	c.wantCancel = true
	if c.state == stateProceeding {
		c.sendCancel()
	}
}

// LimitRinging gives an INVITE up when it has rung for Timers.C since the last provisional response above 100, as a
// proxy has to (timer C, RFC 3261 §16.6 step 11 and §16.8): it does what Cancel does. Without any provisional response the
// transaction ends long before.
func (c *Client) LimitRinging() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.invite || c.state > stateProceeding || c.ringing {
		return
	}
	c.ringing = true
	if c.state == stateProceeding && !c.cancelled {
		c.l.clock.set(&c.end, c.patience())
	}
}

// patience is how long an INVITE may ring: timer C for a proxy, and Age for others, so that no transaction stays for ever.
func (c *Client) patience() time.Duration {
	if c.ringing {
		return c.l.t.C
	}
	return c.l.t.Age
}

// sendCancel is called under c.mu, at most once.
func (c *Client) sendCancel() {
	if c.cancelled {
		return
	}
	c.cancelled = true
	c.l.clock.set(&c.end, c.l.t.give()) // §9.1: after that the INVITE counts as given up
	if _, err := c.l.Request(c.flow, newCancel(c.req), ignore{}); err != nil {
		c.l.log.Debug("cancel not sent", "to", c.flow.Remote(), "err", err)
	}
}

// ring takes the timers.
func (c *Client) ring(a *alarm) {
	defer c.l.recovered("timer", nil)
	if a == &c.repeat {
		c.timerRepeat()
	} else {
		c.timerEnd()
	}
}

// timerRepeat is A or E.
func (c *Client) timerRepeat() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.l.clock.claim(&c.repeat) || c.state > stateProceeding {
		return
	}
	_ = c.l.write(c.flow, c.req) // a full queue is a loss: the next interval tries again
	switch {
	case c.invite:
		c.interval *= 2
	case c.state == stateProceeding:
		c.interval = c.l.t.T2
	default:
		c.interval = min(2*c.interval, c.l.t.T2)
	}
	c.l.clock.set(&c.repeat, c.interval)
}

// timerEnd is C or Age, or any of those that end the transaction.
func (c *Client) timerEnd() {
	c.mu.Lock()
	if !c.l.clock.claim(&c.end) {
		c.mu.Unlock()
		return
	}
	if c.invite && c.state == stateProceeding && !c.cancelled {
		c.wantCancel = true
		c.sendCancel()
		c.mu.Unlock()
		return
	}
	open, user, silent := c.state <= stateProceeding, c.user, c.silent && c.state == stateTrying
	c.terminate()
	c.mu.Unlock()
	switch {
	case open && silent:
		user.HandleTransportError(c, fmt.Errorf("%s to %s: %w", c.key.method, c.flow.Remote(), ErrSilent))
	case open:
		user.HandleTimeout(c)
	}
}

// Abandon ends the transaction without a word to anybody, its user included. What still comes for it is a response that
// belongs to no transaction.
func (c *Client) Abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.terminate()
}

// unreachable ends the transaction because nobody listens where its request went. One that was answered goes on, unless
// it has been given up: the error may be about something else, or forged.
func (c *Client) unreachable(err error) {
	c.mu.Lock()
	waits := c.state == stateTrying || c.state == stateProceeding && c.cancelled
	c.mu.Unlock()
	if waits {
		c.lost(err)
	}
}

// lost ends the transaction because its flow did.
func (c *Client) lost(err error) {
	c.mu.Lock()
	open, user := c.state <= stateProceeding && c.started, c.user
	c.terminate()
	c.mu.Unlock()
	if open {
		c.l.guard("transport error", func() { user.HandleTransportError(c, err) })
	}
}

func (c *Client) terminate() {
	if c.state == stateTerminated {
		return
	}
	c.state = stateTerminated
	c.l.clock.unset(&c.repeat)
	c.l.clock.unset(&c.end)
	c.user, c.ack = nil, nil
	c.l.dropClient(c)
}

// ignore is the user of a CANCEL.
type ignore struct{}

func (ignore) HandleResponse(*Client, *sip.Response) {}
func (ignore) HandleTimeout(*Client)                 {}
func (ignore) HandleTransportError(*Client, error)   {}

var _ ClientHandler = ignore{}
