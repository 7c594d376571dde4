package transaction

import (
	"fmt"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

// Client is one client transaction (§17.1): a request that was sent and its responses.
type Client struct {
	l      *Layer
	key    clientKey
	flow   flow.Flow
	invite bool

	mu         sync.Mutex    // guards all below
	req        *sip.Request  // nil once nothing needs it any more
	wire       []byte        // the request, for retransmission
	user       ClientHandler // nil once it has nothing more to hear
	state      state
	repeat     *time.Timer // A or E
	interval   time.Duration
	end        *time.Timer // B or F, then D, K or M
	wantCancel bool        // Cancel was called before a provisional response
	cancelled  bool        // the CANCEL is out
	ack        []byte      // the ACK for a non-2xx, to be repeated
	ackReq     *sip.Request
}

// Request gives the request as it was sent, nil after its final response: a transaction that only waits for stray
// messages to die out holds nothing that is not needed for that. It must not be changed.
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
	c.l.traceOut(c.flow, c.req)
	if err := c.flow.Send(c.wire); err != nil {
		c.terminate()
		return fmt.Errorf("send %s to %s: %w", c.key.method, c.flow.Remote(), err)
	}
	c.end = time.AfterFunc(c.l.t.give(), c.timerEnd) // B or F
	if !c.flow.Reliable() {
		c.interval = c.l.t.T1
		c.repeat = time.AfterFunc(c.interval, c.timerRepeat)
	} else {
		c.wire = nil
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
			c.provisional()
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
			c.l.traceOut(c.flow, c.ackReq)
			_ = c.flow.Send(c.ack)
		}
	}
	return nil
}

func (c *Client) provisional() {
	first := c.state == stateTrying
	c.state = stateProceeding
	if !c.invite {
		if first && c.repeat != nil {
			c.interval = c.l.t.T2 // §17.1.2.2: in Proceeding timer E runs with T2
			c.repeat.Reset(c.interval)
		}
		return
	}
	if first {
		c.stopRepeat()
		c.wire = nil
		if !c.cancelled {
			c.end.Stop() // timer B ends with the first provisional; timer C is the user's
		}
	}
	if c.wantCancel {
		c.sendCancel()
	}
}

func (c *Client) final(res *sip.Response) {
	c.stopRepeat()
	c.wire = nil
	reliable := c.flow.Reliable()
	switch {
	case c.invite && res.StatusCode < 300:
		c.state = stateAccepted
		c.req = nil
		c.end.Reset(c.l.t.give()) // M
	case c.invite:
		c.ackReq = newAck(c.req, res)
		c.l.traceOut(c.flow, c.ackReq)
		c.ack = message.Bytes(c.ackReq)
		_ = c.flow.Send(c.ack)
		if reliable {
			c.terminate() // D is zero
			return
		}
		c.state = stateCompleted
		c.req, c.user = nil, nil
		c.end.Reset(c.l.t.D)
	case reliable:
		c.terminate() // K is zero
	default:
		c.state = stateCompleted
		c.req, c.user = nil, nil
		c.end.Reset(c.l.t.T4) // K
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

// sendCancel is called under c.mu, at most once.
func (c *Client) sendCancel() {
	if c.cancelled {
		return
	}
	c.cancelled = true
	c.end.Reset(c.l.t.give()) // §9.1: after that the INVITE counts as given up
	if _, err := c.l.Request(c.flow, newCancel(c.req), ignore{}); err != nil {
		c.l.log.Debug("cancel not sent", "to", c.flow.Remote(), "err", err)
	}
}

func (c *Client) timerRepeat() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state > stateProceeding || c.wire == nil || c.repeat == nil {
		return
	}
	c.l.traceOut(c.flow, c.req)
	_ = c.flow.Send(c.wire) // a full queue or an ICMP error is a loss: the next interval tries again
	switch {
	case c.invite:
		c.interval *= 2
	case c.state == stateProceeding:
		c.interval = c.l.t.T2
	default:
		c.interval = min(2*c.interval, c.l.t.T2)
	}
	c.repeat.Reset(c.interval)
}

func (c *Client) timerEnd() {
	c.mu.Lock()
	open, user := c.state <= stateProceeding, c.user
	c.terminate()
	c.mu.Unlock()
	if open {
		c.l.guard("timeout", func() { user.HandleTimeout(c) })
	}
}

// lost ends the transaction because its flow did.
func (c *Client) lost(err error) {
	c.mu.Lock()
	open, user := c.state <= stateProceeding && c.end != nil, c.user
	c.terminate()
	c.mu.Unlock()
	if open {
		c.l.guard("transport error", func() { user.HandleTransportError(c, err) })
	}
}

func (c *Client) stopRepeat() {
	if c.repeat != nil {
		c.repeat.Stop()
		c.repeat = nil
	}
}

func (c *Client) terminate() {
	if c.state == stateTerminated {
		return
	}
	c.state = stateTerminated
	c.stopRepeat()
	if c.end != nil {
		c.end.Stop()
	}
	c.req, c.user, c.wire, c.ack, c.ackReq = nil, nil, nil, nil, nil
	c.l.dropClient(c)
}

// ignore is the user of a CANCEL.
type ignore struct{}

func (ignore) HandleResponse(*Client, *sip.Response) {}
func (ignore) HandleTimeout(*Client)                 {}
func (ignore) HandleTransportError(*Client, error)   {}

var _ ClientHandler = ignore{}
