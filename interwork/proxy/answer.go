package proxy

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork"
	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

// answer sends a final response made here.
func (c *Core) answer(r *request, status int, reason string, headers ...sip.Header) {
	if r.tx == nil {
		return
	}
	res := message.NewResponse(r.req, status, reason)
	for _, h := range headers {
		res.AppendHeader(h)
	}
	_ = r.tx.Respond(res)
	c.answered(r, status)
}

// answered tells the border of the answer to a request from the public side.
func (c *Core) answered(r *request, status int) {
	if r.kind == flow.KindPublic && c.cfg.Border != nil {
		c.cfg.Border.Answered(r.flow, r.method, status)
	}
}

// answerError answers with what the one table says of an error.
func (c *Core) answerError(r *request, err error) {
	var no *Refusal
	if errors.As(err, &no) {
		c.stats.refused.Add(1)
		var headers []sip.Header
		if no.Warning != "" {
			headers = append(headers, c.warning(no.Warning))
		}
		c.answer(r, no.Status, no.Reason, headers...)
		return
	}
	s := interwork.StatusOf(err)
	var headers []sip.Header
	if s.RetryAfter > 0 {
		headers = append(headers, sip.NewHeader("Retry-After", strconv.Itoa(int(s.RetryAfter.Seconds()))))
	}
	if s.Code >= 500 {
		c.log.Debug("request refused", "status", s.Code, "err", err)
	}
	c.answer(r, s.Code, s.Reason, headers...)
}

// warning makes a Warning header with free text (§20.43).
func (c *Core) warning(text string) sip.Header {
	return sip.NewHeader("Warning", fmt.Sprintf("399 %s %q", c.cfg.NodeName, text))
}
