package phone

import (
	"errors"
	"fmt"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
)

// HandleRequest takes every new request; see transaction.Handler.
func (p *Phone) HandleRequest(tx *transaction.Server, req *sip.Request) {
	if unknown := unsupported(req.GetHeaders("Require")); unknown != "" { // §8.2.2.3
		res := message.NewResponse(req, 420, "")
		res.AppendHeader(sip.NewHeader("Unsupported", unknown))
		p.respond(tx, res)
		return
	}
	tag := toTag(req.To())
	switch {
	case req.Method == "OPTIONS" && tag == "":
		res := message.NewResponse(req, 200, "")
		res.AppendHeader(sip.NewHeader("Allow", allow))
		res.AppendHeader(sip.NewHeader("Accept", "application/sdp"))
		res.AppendHeader(sip.NewHeader("Supported", tagAnswerMode+", "+tagPrivAnswerMode))
		p.respond(tx, res)
	case tag != "":
		c := p.find(tag, req.CallID())
		if c == nil || !c.inside(tx, req) {
			p.respond(tx, message.NewResponse(req, 481, ""))
		}
	case req.Method == "INVITE":
		p.incoming(tx, req)
	case req.Method == "BYE" || req.Method == "CANCEL":
		p.respond(tx, message.NewResponse(req, 481, ""))
	default:
		p.notAllowed(tx, req)
	}
}

func (p *Phone) notAllowed(tx *transaction.Server, req *sip.Request) {
	res := message.NewResponse(req, 405, "")
	res.AppendHeader(sip.NewHeader("Allow", allow))
	p.respond(tx, res)
}

func (p *Phone) respond(tx *transaction.Server, res *sip.Response) {
	if err := tx.Respond(res); err != nil {
		p.log.Debug("response not sent", "status", res.StatusCode, "err", err)
	}
}

// incoming takes a new call.
func (p *Phone) incoming(tx *transaction.Server, req *sip.Request) {
	refuse := func(status int) { p.respond(tx, message.NewResponse(req, status, "")) }
	if req.Recipient.User != p.uri.User {
		refuse(404)
		return
	}
	fromTag, _ := req.From().Params.Get("tag")
	for _, c := range p.Calls() {
		if !c.outgoing && c.callID == req.CallID().Value() && c.caller(fromTag) {
			refuse(482) // the same call by another way (§8.2.2.2)
			return
		}
	}
	if p.cfg.Incoming == nil {
		refuse(480)
		return
	}
	var offer *description
	if len(req.Body()) > 0 {
		d, err := p.parseSDP(req.Body())
		if err != nil || !usable(d.addr) {
			refuse(488)
			return
		}
		offer = &d
	}
	c, err := p.newCall(false, req.CallID().Value(), req.From().Address.String())
	if err != nil {
		p.log.Warn("call refused", "from", req.From().Address.String(), "err", err)
		refuse(500)
		return
	}
	c.tx, c.offer = tx, offer
	if !p.add(c) {
		c.media.close()
		refuse(486)
		return
	}
	c.mu.Lock()
	if !c.states.over() {
		c.limit = time.AfterFunc(maxSetup, func() { _ = c.Reject(480) })
	}
	c.mu.Unlock()
	p.cfg.Incoming(c)
}

// caller says whether the call comes from the one with that tag.
func (c *Call) caller(tag string) bool {
	have, _ := c.tx.Request().From().Params.Get("tag") // tx never changes
	return have == tag
}

// response makes one to the INVITE, with this side's tag.
func (c *Call) response(req *sip.Request, status int) *sip.Response {
	res := message.NewResponse(req, status, "")
	message.SetToTag(res, c.localTag)
	if status < 300 {
		res.AppendHeader(sip.NewHeader("Contact", c.p.contact))
	}
	return res
}

// pending is nil for an incoming call that waits for Ring, Answer or Reject.
func (c *Call) pending() error {
	switch {
	case c.outgoing:
		return fmt.Errorf("%w: it is an outgoing call", ErrState)
	case c.states.over():
		return fmt.Errorf("%w: it is over", ErrState)
	case c.dlg != nil:
		return fmt.Errorf("%w: it is answered", ErrState)
	}
	return nil
}

// Ring tells the caller that the phone rings (180).
func (c *Call) Ring() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.pending(); err != nil {
		return err
	}
	if err := c.tx.Respond(c.response(c.tx.Request(), 180)); err != nil {
		return fmt.Errorf("ring: %w", err)
	}
	c.states.push(State{Kind: Ringing, Status: 180, Reason: "Ringing"})
	return nil
}

// Progress lets the caller hear the phone's sound before the call is answered (183 with a session, RFC 3960): an
// announcement, say. What the caller says meanwhile is not listened to. The INVITE has to have brought an offer.
func (c *Call) Progress() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.pending(); err != nil {
		return err
	}
	if c.offer == nil {
		return fmt.Errorf("%w: the caller leaves the offer to this side", ErrState)
	}
	res := c.response(c.tx.Request(), 183)
	res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	if c.early == nil {
		c.early = c.describe(c.offer)
	}
	res.SetBody(c.early)
	if err := c.tx.Respond(res); err != nil {
		return fmt.Errorf("early media: %w", err)
	}
	c.media.set(*c.offer, direction{send: c.offer.dir.recv})
	c.states.push(State{Kind: Ringing, Status: 183, Reason: "Session Progress"})
	return nil
}

// Answer accepts the call (200). The audio starts at once; should no ACK come, the call is ended.
func (c *Call) Answer() error { return c.answer("") }

// answer accepts the call; mode tells the caller who has answered, for an INVITE that asked (RFC 5373).
func (c *Call) answer(mode string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.pending(); err != nil {
		return err
	}
	req := c.tx.Request()
	if a, asked := answerMode(req); asked && mode != "" {
		name := headerAnswerMode
		if a.Privileged {
			name = headerPrivAnswerMode
		}
		c.mode = sip.NewHeader(name, mode)
	}
	c.dlg = dialogFromRequest(c.localTag, req)
	if err := c.respond2xx(c.tx, c.offer); err != nil {
		c.failedLocked(500, err.Error())
		return fmt.Errorf("answer: %w", err)
	}
	if c.offer != nil {
		c.answeredLocked(*c.offer)
	}
	return nil
}

// Reject refuses the call with a final status of 300 or more, such as 486.
func (c *Call) Reject(status int) error {
	if status < 300 || status > 699 {
		return fmt.Errorf("%w: %d does not refuse a call", ErrState, status)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.pending(); err != nil {
		return err
	}
	err := c.tx.Respond(c.response(c.tx.Request(), status))
	c.failedLocked(status, "")
	if err != nil {
		return fmt.Errorf("reject: %w", err)
	}
	return nil
}

// HandleCancel takes the caller's CANCEL.
func (p *Phone) HandleCancel(tx *transaction.Server) { p.gone(tx, 487, "cancelled by the caller") }

// HandleLost never happens over UDP.
func (p *Phone) HandleLost(tx *transaction.Server) { p.gone(tx, 503, "connection lost") }

func (p *Phone) gone(tx *transaction.Server, status int, reason string) {
	for _, c := range p.Calls() {
		if c.outgoing || c.tx != tx {
			continue
		}
		c.mu.Lock()
		if c.pending() == nil {
			p.respond(tx, c.response(tx.Request(), status))
			c.failedLocked(status, reason)
		}
		c.mu.Unlock()
		return
	}
}

// HandleResponse takes a 2xx repeated after its transaction ended; the call is long acknowledged or gone.
func (p *Phone) HandleResponse(flow.Flow, *sip.Response) {}

// HandleFlowClosed never happens over UDP.
func (p *Phone) HandleFlowClosed(flow.Flow) {}

// HandleAck takes the ACK for a 2xx of this side.
func (p *Phone) HandleAck(_ flow.Flow, req *sip.Request) {
	c := p.find(toTag(req.To()), req.CallID())
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unacked == nil || c.unacked.cseq != req.CSeq().SeqNo {
		return
	}
	late := c.unacked.offered
	c.unacked.stop()
	c.unacked = nil
	if !late || c.states.over() {
		return
	}
	answer, err := p.parseAnswer(req.Body()) // the 200 carried the offer, so the ACK carries the answer
	if err != nil || !usable(answer.addr) {
		c.p.leave(c.dlg)
		c.endLocked(State{Kind: Ended, Reason: "the answer in the ACK cannot be used"})
		return
	}
	if _, there := c.states.has(Answered); !there {
		c.answeredLocked(answer)
	} else {
		c.direct(answer)
	}
}

// errUnacked says that nobody acknowledged a 2xx.
var errUnacked = errors.New("no ACK for the answer")

// unacked is a 2xx of this side that is repeated until its ACK comes (§13.3.1.4); the transaction layer leaves that to us.
type unacked struct {
	cseq     uint32
	offered  bool // the 2xx carries an offer
	interval time.Duration
	waited   time.Duration
	timer    *time.Timer
	done     chan struct{} // closed when it need not be repeated any more
}

// stop is called once, with the call's lock held, by whoever takes u away from the call.
func (u *unacked) stop() {
	if u != nil {
		u.timer.Stop()
		close(u.done)
	}
}

// respond2xx accepts an INVITE, the first or one inside the dialog, with the answer to offer, or with an offer if that is
// nil. c.mu is held.
func (c *Call) respond2xx(tx *transaction.Server, offer *description) error {
	req := tx.Request()
	res := c.response(req, 200)
	res.AppendHeader(sip.NewHeader("Allow", allow))
	res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	if c.mode != nil {
		res.AppendHeader(c.mode)
		c.mode = nil
	}
	if c.early != nil { // the answer is what the 183 said (RFC 3261 §13.3.1.1)
		res.SetBody(c.early)
		c.early = nil
	} else {
		res.SetBody(c.describe(offer))
	}
	if err := tx.Respond(res); err != nil {
		return err
	}
	t := c.p.layer.Timers()
	u := &unacked{cseq: req.CSeq().SeqNo, offered: offer == nil, interval: t.T1, done: make(chan struct{})}
	c.unacked.stop()
	c.unacked = u
	u.timer = time.AfterFunc(u.interval, func() { c.again(u, tx, res) })
	return nil
}

// again repeats a 2xx, or gives the call up after 64*T1.
func (c *Call) again(u *unacked, tx *transaction.Server, res *sip.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unacked != u || c.states.over() {
		return
	}
	t := c.p.layer.Timers()
	u.waited += u.interval
	if u.waited >= 64*t.T1 || tx.Respond(res) != nil {
		c.p.leave(c.dlg)
		c.endLocked(State{Kind: Ended, Reason: errUnacked.Error()})
		return
	}
	u.interval = min(2*u.interval, t.T2)
	u.timer.Reset(u.interval)
}

// inside takes a request in the call's dialog; false if it does not belong there.
func (c *Call) inside(tx *transaction.Server, req *sip.Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.states.over() {
		return false
	}
	fromTag, _ := req.From().Params.Get("tag")
	if c.dlg == nil {
		// Before the answer there is only the caller's early dialog, and in it only BYE makes sense (§15.1.2).
		if c.outgoing || req.Method != "BYE" || !c.caller(fromTag) {
			return false
		}
		c.p.respond(tx, c.response(req, 200))
		c.p.respond(c.tx, c.response(c.tx.Request(), 487))
		c.failedLocked(487, "hung up by the caller")
		return true
	}
	if fromTag != c.dlg.remoteTag {
		return false
	}
	seq := req.CSeq().SeqNo
	if c.dlg.remoteSeq != 0 && seq <= c.dlg.remoteSeq { // §12.2.2
		res := c.response(req, 500)
		res.AppendHeader(sip.NewHeader("Retry-After", "1"))
		c.p.respond(tx, res)
		return true
	}
	c.dlg.remoteSeq = seq
	switch req.Method {
	case "BYE":
		c.p.respond(tx, c.response(req, 200))
		c.endLocked(State{Kind: Ended, Reason: "hung up by the far side"})
	case "INVITE":
		c.reinvited(tx, req)
	case "OPTIONS":
		res := c.response(req, 200)
		res.AppendHeader(sip.NewHeader("Allow", allow))
		c.p.respond(tx, res)
	default:
		c.p.notAllowed(tx, req)
	}
	return true
}
