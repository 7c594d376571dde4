package proxy

import (
	"fmt"
	"strconv"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork"
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
}

// answerError answers with what the one table says of an error.
func (c *Core) answerError(r *request, err error) {
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
