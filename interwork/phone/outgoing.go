package phone

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
)

// maxSetup is how long a call may stay without an answer: as long as a proxy's timer C (RFC 3261 §16.6 step 11).
const maxSetup = 3 * time.Minute

// goodbye bounds a BYE that nobody waits for.
const goodbye = 32 * time.Second

// Options are what a caller may ask for beside the call.
type Options struct {
	AnswerMode *AnswerMode // nil: nothing is asked
}

// Call calls to, "sip:bob@p2psip.example", and returns without waiting for an answer; Wait and States tell what becomes
// of it. The call is cancelled if ctx ends before it is answered; afterwards ctx does not matter.
func (p *Phone) Call(ctx context.Context, to string) (*Call, error) {
	return p.CallWith(ctx, to, Options{})
}

// CallWith is Call with options.
func (p *Phone) CallWith(ctx context.Context, to string, o Options) (*Call, error) {
	uri, err := message.ParseURI(to)
	if err != nil || uri.Scheme != "sip" {
		return nil, fmt.Errorf("call %q: not a sip: URI", to)
	}
	c, err := p.newCall(true, token(), uri.String())
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", to, err)
	}
	if !p.add(c) {
		c.media.close()
		return nil, fmt.Errorf("call %s: closed, or more than %d calls", to, p.cfg.MaxCalls)
	}
	c.mu.Lock()
	if o.AnswerMode != nil {
		c.extra = append(c.extra, "Supported: "+tagAnswerMode, o.AnswerMode.header())
	}
	err = c.sendInvite()
	if err != nil {
		c.endLocked(State{Kind: Failed, Reason: err.Error()})
	} else {
		c.limit = time.AfterFunc(maxSetup, c.Cancel)
		c.detach = context.AfterFunc(ctx, c.Cancel)
	}
	c.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", to, err)
	}
	return c, nil
}

// sendInvite sends the INVITE, for the first time or with the answer to a challenge.
func (c *Call) sendInvite() error {
	c.tries++
	req, err := c.p.build(parts{
		method: "INVITE", uri: c.peer, routes: c.p.outboundRoute(),
		from: c.from(), to: "<" + c.peer + ">", callID: c.callID, cseq: uint32(c.tries),
		contact: c.p.contact, headers: slices.Concat(c.extra, c.auth), sdp: c.describe(nil),
	})
	if err != nil {
		return err
	}
	client, err := c.p.layer.Request(c.p.out, req, (*caller)(c))
	if err != nil {
		return err
	}
	c.client, c.invite = client, req
	if c.cancelled {
		client.Cancel()
	}
	return nil
}

func (c *Call) from() string { return "<" + c.p.cfg.AOR + ">;tag=" + c.localTag }

// Cancel gives up a call that is not answered yet (CANCEL, as soon as that may be sent). The call is over when the far
// side has answered that, with Failed and 487 as a rule. If the answer comes first, it is acknowledged and hung up.
func (c *Call) Cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.outgoing || c.dlg != nil || c.cancelled || c.states.over() {
		return
	}
	c.cancelled = true
	if c.client != nil {
		c.client.Cancel()
	}
}

// caller is the call as its INVITE transaction sees it.
type caller Call

var _ transaction.ClientHandler = (*caller)(nil)

// HandleResponse takes every response to the INVITE.
func (h *caller) HandleResponse(tx *transaction.Client, res *sip.Response) {
	c := (*Call)(h)
	c.mu.Lock()
	defer c.mu.Unlock()
	if tx != c.client { // of a try before
		return
	}
	switch status := res.StatusCode; {
	case status == 100:
		if _, there := c.states.has(Trying); !there {
			c.states.push(State{Kind: Trying, Status: status, Reason: res.Reason})
		}
	case status == 180 || status == 183:
		if _, there := c.states.has(Ringing); !there {
			c.states.push(State{Kind: Ringing, Status: status, Reason: res.Reason})
		}
		c.hearEarly(res)
	case status < 200:
	case status < 300:
		c.accepted(res)
	case challenged(res) && c.tries < maxTries && !c.cancelled && !c.states.over():
		auth, err := c.p.authorize(c.invite, res)
		if err == nil {
			c.auth = auth
			err = c.sendInvite()
		}
		if err != nil {
			c.failedLocked(status, res.Reason)
		}
	default:
		c.failedLocked(status, res.Reason)
	}
}

// hearEarly listens to what is to be heard before the answer (RFC 3960), from whoever said so last. This side is silent
// until then. c.mu is held.
func (c *Call) hearEarly(res *sip.Response) {
	if len(res.Body()) == 0 || c.dlg != nil || c.states.over() {
		return
	}
	if theirs, err := c.p.parseAnswer(res.Body()); err == nil && usable(theirs.addr) {
		c.media.set(theirs, direction{recv: theirs.dir.send})
	}
}

// HandleTimeout says that nobody answered.
func (h *caller) HandleTimeout(tx *transaction.Client) { h.fail(tx, 408, "no answer") }

// HandleTransportError says that the INVITE could not be sent.
func (h *caller) HandleTransportError(tx *transaction.Client, err error) {
	h.fail(tx, 503, err.Error())
}

func (h *caller) fail(tx *transaction.Client, status int, reason string) {
	c := (*Call)(h)
	c.mu.Lock()
	defer c.mu.Unlock()
	if tx == c.client && c.dlg == nil {
		c.failedLocked(status, reason)
	}
}

// accepted takes a 2xx: the first, one repeated because the ACK was lost, or that of another phone to which a proxy had
// forked the call (§13.2.2.4).
func (c *Call) accepted(res *sip.Response) {
	tag := toTag(res.To())
	if c.dlg != nil && c.dlg.remoteTag == tag {
		c.p.send(c.p.hop(c.dlg), c.ack)
		return
	}
	seq := c.invite.CSeq().SeqNo
	d := dialogFromResponse(c.callID, c.from(), seq, res)
	ack := c.p.acknowledge(d, seq, c.auth)
	if c.dlg != nil || c.states.over() {
		c.p.leave(d)
		return
	}
	if c.cancelled {
		c.p.leave(d)
		c.failedLocked(487, "answered while it was being cancelled")
		return
	}
	theirs, err := c.p.parseAnswer(res.Body())
	if err != nil || !usable(theirs.addr) {
		c.p.leave(d)
		c.failedLocked(488, fmt.Sprintf("the answer cannot be used: %v", err))
		return
	}
	c.dlg, c.ack = d, ack
	for _, name := range []string{headerPrivAnswerMode, headerAnswerMode} {
		if h := res.GetHeader(name); h != nil {
			if a, ok := ParseAnswerMode(h.Value()); ok {
				c.answerer = a.String()
			}
		}
	}
	c.answeredLocked(theirs)
}

// leave hangs up a dialog that nobody wants, in the background.
func (p *Phone) leave(from *dialog) {
	own := *from
	d := &own
	p.start(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, goodbye)
		defer cancel()
		_, err := p.do(ctx, p.hop(d), func(auth []string) (*sip.Request, error) {
			return p.inDialog(d, "BYE", 0, auth, nil)
		})
		if err != nil {
			p.log.Debug("dialog not ended", "call", d.callID, "err", err)
		}
	})
}
