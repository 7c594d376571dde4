package proxy

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/overlay"
)

// maxMedia bounds the requests that Media has seen and nobody has answered; Media has bounds of its own for what comes of them.
const maxMedia = 1024

// maxDescribed is the largest body that Media may make of one: the whole message has to fit into 64 KiB.
const maxDescribed = 40 << 10

var errMediaLate = errors.New("the media of the call were not ready in time")

// exchange is a request with Media: the branches that send what it gives wait for it, without holding anybody up.
// Guarded by the mu of its context.
type exchange struct {
	x       *responseContext
	media   MediaExchange
	in      body      // where the description stands in the request
	out     []byte    // the body to send
	err     error     // instead
	settled bool      // out or err is known
	waiting []*branch // until then
	timer   *time.Timer
	source  string // for whom it counts
	uses    int    // branches, and the context, that may still send it or hear of it
	kept    bool   // a 2xx has come
	closed  bool
}

// describes says whether a method may carry a session description that Media has to see.
func describes(m sip.RequestMethod) bool { return m == sip.INVITE || m == sip.UPDATE || m == sip.PRACK }

// exchange asks Media about a copy of the request: for a phone of this node, or, where there is none, for what lies
// elsewhere. nil: it passes untouched. Called under x.mu.
func (x *responseContext) exchange(t Target) *exchange {
	c, r := x.c, x.r
	from := r.kind == flow.KindEdge
	to := t.Node == "" && t.Hop.Transport == "" && !x.serial
	if from == to || to && t.Flow == nil || !describes(r.method) {
		return nil
	}
	in := readBody(r.req)
	if in.opaque || in.from == in.to && r.method != sip.INVITE {
		return nil
	}
	d := c.mediaDialog(r, t.Flow)
	if from {
		d.Node = t.Node
	} else {
		d.ICE = t.ICE || x.w.kind == toTarget && c.phoneDoesICE(r)
	}
	// Who calls and calls, and lets it ring, uses up ports and relay peers, where a lookup may long be over.
	e := &exchange{x: x, in: in, uses: 1, source: r.flow.Remote().String()}
	if !c.media.acquire(e.source, c.limits.MediaPerFlow) {
		c.stats.refused.Add(1)
		e.closed = true
		e.settle(nil, &Refusal{503, "Service Unavailable", "too many unanswered calls from there"})
		return e
	}
	m := c.cfg.Media.Open(d)
	if m == nil {
		c.media.release(e.source)
		return nil
	}
	e.media = m
	out, now, err := m.Request(in.sdp(r.req.Body()), func(out []byte, err error) { e.late(out, err) })
	if now || err != nil {
		e.settle(out, err)
	} else {
		e.timer = time.AfterFunc(c.limits.MediaTime, func() { e.late(nil, errMediaLate) })
	}
	return e
}

// phoneDoesICE says that a phone to which a request inside a dialog goes has registered with ICE.
func (c *Core) phoneDoesICE(r *request) bool {
	t, ok := c.cfg.Edge.Contact(r.uri)
	return ok && t.ICE
}

// mediaDialog says what Media has to know of a request. to is the flow of the phone that it goes to, nil where it comes
// from one.
func (c *Core) mediaDialog(r *request, to flow.Flow) MediaDialog {
	d := MediaDialog{CallID: strings.Clone(r.callID), FromTag: strings.Clone(r.fromTag), ToTag: strings.Clone(r.toTag),
		Method: string(r.method), CSeq: r.cseq, Phone: to, Outside: r.leaves}
	branch, _ := r.vias[0].Params.Get("branch")
	d.Transaction = r.flow.Remote().String() + " " + branch
	d.From, d.To = r.addresses()
	if to == nil {
		d.FromPhone, d.Phone = true, r.flow
	} else {
		d.Outside = r.enters || r.kind == flow.KindPublic
		d.Node, _ = overlay.ParseNodeName(r.flow.Remote().Host, c.cfg.OID)
	}
	d.PhoneHost = c.own.stamp(d.Phone).Host
	return d
}

// late is what Media gives later, or the end of the patience with it.
func (e *exchange) late(out []byte, err error) {
	e.x.c.guard(func() {
		x := e.x
		x.mu.Lock()
		defer x.mu.Unlock()
		if e.settled || e.closed {
			return
		}
		e.settle(out, err)
		for _, b := range e.waiting {
			switch {
			case b.done:
			case e.err != nil:
				b.undescribed()
			default:
				b.depart()
			}
		}
		e.waiting = nil
		x.advance()
	})
}

// settle takes the description to send. Called under x.mu.
func (e *exchange) settle(out []byte, err error) {
	e.settled = true
	if e.timer != nil {
		e.timer.Stop()
	}
	if e.err = err; err != nil {
		return
	}
	e.out = e.in.put(e.x.r.req.Body(), out)
	if len(e.out) > maxDescribed {
		e.err = &Refusal{513, "Message Too Large", "the description of the session has grown too large"}
	}
}

// release gives up one use. The last one closes an exchange of which no 2xx came. Called under x.mu.
func (e *exchange) release() {
	if e.uses--; e.uses > 0 {
		return
	}
	e.out = nil
	if e.kept || e.closed {
		return
	}
	e.closed = true
	if e.timer != nil {
		e.timer.Stop()
	}
	e.x.c.media.release(e.source)
	e.media.Close()
}

// keep takes note of a 2xx. Called under x.mu.
func (e *exchange) keep() {
	if !e.kept {
		e.kept = true
		e.x.c.media.release(e.source)
	}
}

// described has Media see the branch's copy of the request before it leaves. It says whether the branch may go on at once.
// Called under x.mu.
func (b *branch) described() bool {
	x := b.x
	e := x.shared
	switch {
	case e != nil:
		e.uses++
	case x.serial:
		return true
	default:
		if e = x.exchange(b.target); e == nil {
			return true
		}
	}
	b.exchange = e
	switch {
	case !e.settled:
		e.waiting = append(e.waiting, b)
		return false
	case e.err != nil:
		b.undescribed()
		return false
	}
	return true
}

// undescribed ends a branch of which Media can make nothing. Called under x.mu.
func (b *branch) undescribed() {
	x, err := b.x, b.exchange.err
	status, text := 500, "this node cannot carry the media of the call"
	var refusal *Refusal
	var says interface{ SIPStatus() int }
	switch {
	case errors.As(err, &refusal):
		status, text = refusal.Status, refusal.Warning
	case errors.As(err, &says):
		status, text = says.SIPStatus(), err.Error()
	case errors.Is(err, errMediaLate):
		text = err.Error()
	}
	if status < 400 || status > 699 {
		status = 500
	}
	x.c.log.Debug("no media for a request", "status", status, "err", err)
	res := message.NewResponse(x.r.req, status, message.StatusText(status))
	res.AppendHeader(x.c.warning(text))
	b.finished()
	x.offer(result{status: status, reason: res.Reason, res: res, own: true})
}

// body gives the body of the branch's copy of the request.
func (b *branch) body() []byte {
	if b.exchange != nil {
		return b.exchange.out
	}
	return b.x.r.req.Body()
}

// describe has Media see a response of the branch. Called under x.mu.
func (b *branch) describe(res *sip.Response) {
	e := b.exchange
	if e == nil || e.closed {
		return
	}
	if res.StatusCode < 300 {
		if res.StatusCode >= 200 {
			e.keep()
		}
		b.x.c.describeResponse(e.media, res)
	} else if in := readBody(res); !in.opaque { // what the phone is able to, in a 488: not where it is (RFC 3261 §13.3.1.3)
		setBody(res, in.put(res.Body(), nil))
	}
}

// describeResponse replaces the description of a response above 100 and below 300.
func (c *Core) describeResponse(m MediaExchange, res *sip.Response) {
	in := readBody(res)
	if in.opaque {
		return
	}
	tag, _ := res.To().Params.Get("tag")
	reliable := res.StatusCode >= 200 || res.GetHeader("RSeq") != nil
	out, err := m.Response(res.StatusCode, tag, reliable, in.sdp(res.Body()))
	setBody(res, c.replaced(in, res.Body(), out, err))
}

// replaced gives the body with the description that Media made.
func (c *Core) replaced(in body, all, out []byte, err error) []byte {
	if err != nil {
		c.log.Debug("a description is left out", "err", err)
		out = nil
	}
	if all = in.put(all, out); len(all) > maxDescribed {
		return nil
	}
	return all
}

// setBody gives a response another body.
func setBody(res *sip.Response, b []byte) {
	if bytes.Equal(b, res.Body()) {
		return
	}
	if len(b) == 0 {
		b = nil
		res.RemoveHeader("Content-Type")
	}
	res.SetBody(b)
}

// describeStray has Media see a response whose transaction has ended; back is the flow that it leaves on.
func (c *Core) describeStray(res *sip.Response, from, back flow.Flow) {
	if c.cfg.Media == nil || from.Edge() == back.Edge() || res.StatusCode >= 300 || !describes(res.CSeq().MethodName) {
		return
	}
	d := MediaDialog{CallID: string(*res.CallID()), Method: string(res.CSeq().MethodName), CSeq: res.CSeq().SeqNo,
		FromPhone: back.Edge(), Phone: from}
	d.FromTag, _ = res.From().Params.Get("tag")
	d.ToTag, _ = res.To().Params.Get("tag")
	if d.FromPhone {
		d.Phone = back
	}
	d.PhoneHost = c.own.stamp(d.Phone).Host
	if m := c.cfg.Media.Find(d); m != nil {
		c.describeResponse(m, res)
	}
}

// describeAck gives the body of an ACK that leaves on out.
func (c *Core) describeAck(r *request, out flow.Flow) []byte {
	all := r.req.Body()
	if c.cfg.Media == nil || r.kind == flow.KindEdge == out.Edge() {
		return all
	}
	in := readBody(r.req)
	if in.opaque {
		return all
	}
	d := MediaDialog{CallID: r.callID, FromTag: r.fromTag, ToTag: r.toTag, Method: string(sip.INVITE), CSeq: r.cseq,
		FromPhone: r.kind == flow.KindEdge, Phone: out}
	if d.FromPhone {
		d.Phone = r.flow
	}
	d.PhoneHost = c.own.stamp(d.Phone).Host
	m := c.cfg.Media.Find(d)
	if m == nil {
		return all
	}
	sdp, err := m.Ack(r.toTag, in.sdp(all))
	return c.replaced(in, all, sdp, err)
}

// over tells Media of the final response to a request that ended a dialog; far: it is not of this node's making.
func (c *Core) over(r *request, status int, far bool) {
	if c.cfg.Media == nil {
		return
	}
	switch {
	case r.method == sip.BYE && status != 401 && status != 407:
	case (r.method == sip.INVITE || r.method == sip.UPDATE) && status == 481 && far && r.toTag != "":
	default:
		return
	}
	c.cfg.Media.End(r.callID, r.fromTag, r.toTag)
}
