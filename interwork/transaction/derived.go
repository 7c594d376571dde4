package transaction

import (
	"strings"

	"github.com/emiago/sipgo/sip"
)

// newAck makes the ACK for a non-2xx final response (§17.1.1.3): the request line, top Via, From, Call-ID, CSeq number
// and Routes of the INVITE, the To of the response.
func newAck(inv *sip.Request, res *sip.Response) *sip.Request {
	return derive(inv, sip.ACK, res.Headers())
}

// newCancel makes the CANCEL for an INVITE (§9.1): the same fields, with the To of the INVITE.
func newCancel(inv *sip.Request) *sip.Request { return derive(inv, sip.CANCEL, inv.Headers()) }

// derive makes a request that travels hop by hop beside inv, with the To found among the headers to. Header values are
// taken over as they stand, because the next hop compares some of them.
func derive(inv *sip.Request, method sip.RequestMethod, to []sip.Header) *sip.Request {
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
	for _, h := range to {
		if strings.EqualFold(h.Name(), "To") || strings.EqualFold(h.Name(), "t") {
			r.AppendHeader(sip.HeaderClone(h))
			break
		}
	}
	r.SetBody(nil)
	return r
}
