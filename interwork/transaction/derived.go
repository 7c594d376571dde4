package transaction

import (
	"strings"

	"github.com/emiago/sipgo/sip"
)

// newAck makes the ACK for a non-2xx final response (§17.1.1.3): the request line, top Via, From, Call-ID, CSeq number
// and Routes of the INVITE, the To of the response.
func newAck(inv *sip.Request, res *sip.Response) *sip.Request {
	ack := derive(inv, sip.ACK)
	if to := res.To(); to != nil {
		ack.AppendHeader(sip.HeaderClone(to))
	}
	ack.SetBody(nil)
	return ack
}

// newCancel makes the CANCEL for an INVITE (§9.1): the same fields, with the To of the INVITE.
func newCancel(inv *sip.Request) *sip.Request {
	c := derive(inv, sip.CANCEL)
	if to := inv.To(); to != nil {
		c.AppendHeader(sip.HeaderClone(to))
	}
	c.SetBody(nil)
	return c
}

// derive makes a request that travels hop by hop beside inv; the To is left to the caller.
func derive(inv *sip.Request, method sip.RequestMethod) *sip.Request {
	r := sip.NewRequest(method, inv.Recipient)
	r.AppendHeader(inv.Via().Clone())
	max := sip.MaxForwardsHeader(70)
	r.AppendHeader(&max)
	for _, h := range inv.Headers() {
		switch {
		case strings.EqualFold(h.Name(), "Route"):
			r.AppendHeader(sip.HeaderClone(h))
		case strings.EqualFold(h.Name(), "From"), strings.EqualFold(h.Name(), "f"),
			strings.EqualFold(h.Name(), "Call-ID"), strings.EqualFold(h.Name(), "i"):
			r.AppendHeader(sip.HeaderClone(h))
		}
	}
	if cseq := inv.CSeq(); cseq != nil {
		r.AppendHeader(&sip.CSeqHeader{SeqNo: cseq.SeqNo, MethodName: method})
	}
	return r
}
