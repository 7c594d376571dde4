package message

import (
	"slices"

	"github.com/emiago/sipgo/sip"
)

// Clone copies req so that neither copy can be changed through the other. sipgo's own Clone shares Max-Forwards, Call-ID,
// Content-Length and Content-Type, and forgets what the accessors of From and To had understood.
func Clone(req *sip.Request) *sip.Request {
	c := sip.NewRequest(req.Method, sip.Uri{})
	c.Recipient = *req.Recipient.Clone()
	copyData(&c.MessageData, &req.MessageData)
	return c
}

// CloneResponse is Clone for a response.
func CloneResponse(res *sip.Response) *sip.Response {
	c := sip.NewResponse(res.StatusCode, res.Reason)
	copyData(&c.MessageData, &res.MessageData)
	return c
}

func copyData(dst, src *sip.MessageData) {
	b := builder{md: dst}
	for _, h := range src.Headers() {
		b.copy(h)
	}
	// The body is never changed in place, and SetBody keeps what Content-Length says in step.
	if body := src.Body(); body != nil {
		dst.SetBody(slices.Clip(body))
	}
	dst.SetTransport(src.Transport())
	dst.SetSource(src.Source())
	dst.SetDestination(src.Destination())
}

// copy appends a copy of h. A plain header cannot be changed and is shared.
func (b *builder) copy(h sip.Header) {
	switch h := h.(type) {
	case *sip.CallIDHeader:
		c := *h
		b.md.AppendHeader(&c)
	case *sip.MaxForwardsHeader:
		c := *h
		b.md.AppendHeader(&c)
	case *sip.ContentLengthHeader:
		c := *h
		b.md.AppendHeader(&c)
	case *sip.ContentTypeHeader:
		c := *h
		b.md.AppendHeader(&c)
	case *sip.ExpiresHeader:
		c := *h
		b.md.AppendHeader(&c)
	case *sip.ContactHeader:
		if b.contacts++; b.contacts > 1 {
			b.md.AppendHeader(placeholder)
			b.md.Headers()[len(b.md.Headers())-1] = h.Clone()
			return
		}
		b.md.AppendHeader(h.Clone())
	case *sip.RouteHeader:
		b.routes++
		b.md.AppendHeader(h.Clone())
	case *sip.ViaHeader, *sip.FromHeader, *sip.ToHeader, *sip.CSeqHeader, *sip.RecordRouteHeader, *sip.ReferToHeader,
		*sip.ReferredByHeader:
		b.md.AppendHeader(sip.HeaderClone(h))
	default:
		b.plain(h)
	}
}

// share appends h itself.
func (b *builder) share(h sip.Header) {
	switch h.(type) {
	case *sip.ViaHeader, *sip.FromHeader, *sip.CallIDHeader, *sip.CSeqHeader, *sip.RecordRouteHeader:
		b.md.AppendHeader(h)
	default:
		b.plain(h)
	}
}

// plain appends a header that is written as it is. If it is of a kind this package reads, the accessor gets to see it.
func (b *builder) plain(h sip.Header) {
	var seen sip.Header
	info, _ := known(h.Name())
	switch info.id {
	case hdrFrom, hdrTo, hdrContact, hdrRoute, hdrRecordRoute:
		a, _, f := readAddress(nil, h.Value())
		if f != nil {
			break
		}
		switch info.id {
		case hdrFrom:
			seen = &sip.FromHeader{DisplayName: a.display, Address: a.uri, Params: a.params}
		case hdrTo:
			seen = &sip.ToHeader{DisplayName: a.display, Address: a.uri, Params: a.params}
		case hdrContact:
			if b.contacts++; b.contacts == 1 {
				seen = &sip.ContactHeader{DisplayName: a.display, Address: a.uri, Params: a.params}
			}
		case hdrRoute:
			if b.routes++; b.routes == 1 { // the topmost is typed, as Parse leaves it
				seen = &sip.RouteHeader{Address: a.uri}
				h = seen
			}
		case hdrRecordRoute:
			seen = &sip.RecordRouteHeader{Address: a.uri}
		}
	}
	if seen == nil {
		b.md.AppendHeader(h)
		return
	}
	b.md.AppendHeader(seen)
	hs := b.md.Headers()
	hs[len(hs)-1] = h
}
