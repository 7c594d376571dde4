package message

import (
	"bytes"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// Methods whose CSeq says another method get 400; with a method nobody knows it is 501 (RFC 4475 §3.1.2.17, §3.1.2.18).
const knownMethods = " INVITE ACK CANCEL BYE REGISTER OPTIONS SUBSCRIBE NOTIFY REFER INFO MESSAGE PRACK UPDATE PUBLISH "

// build judges the fields and puts the message together.
func (d *draft) build(line startLine, body []byte) (sip.Message, *fault) {
	var (
		md  *sip.MessageData
		msg sip.Message
		req *sip.Request
	)
	if line.kind == requestLine {
		req = sip.NewRequest(sip.RequestMethod(line.method), sip.Uri{})
		req.Recipient = line.uri
		md, msg = &req.MessageData, req
	} else {
		res := sip.NewResponse(line.status, line.reason)
		md, msg = &res.MessageData, res
	}

	var seen uint32
	values := 0
	b := builder{md: md, mem: &d.mem, register: line.method == "REGISTER"}
	for i := range d.fields {
		f := &d.fields[i]
		bit := uint32(1) << f.id
		if seen&bit&single != 0 {
			if f.id == hdrContentLength {
				continue // says the same as the first, or the draft is refused already
			}
			if f.id != hdrMaxForwards || req != nil {
				return nil, bad("Duplicate " + f.name)
			}
		}
		seen |= bit
		n, wrong := b.add(f, req != nil)
		if wrong != nil {
			return nil, wrong
		}
		if values += n; values > MaxHeaders {
			return nil, &fault{513, "Too Many Headers"}
		}
	}

	for _, need := range [...]hdr{hdrVia, hdrFrom, hdrTo, hdrCallID, hdrCSeq} {
		if seen&(1<<need) == 0 {
			return nil, bad(missing[need])
		}
	}
	if branch, ok := md.Via().Params.Get("branch"); ok && (branch == "" || branch == magicCookie) {
		return nil, bad("Empty Branch")
	}
	if req != nil {
		if m := md.CSeq().MethodName; m != req.Method {
			if !strings.Contains(knownMethods, " "+string(req.Method)+" ") {
				return nil, &fault{501, "Not Implemented"}
			}
			return nil, bad("CSeq Method Mismatch")
		}
		if s := md.To().Address.Scheme; b.register && s != "sip" && s != "sips" {
			return nil, bad("Address of Record is not a SIP URI") // §10.2, RFC 4475 §3.3.4
		}
	}
	if len(body) > 0 {
		md.SetBody(bytes.Clone(body))
	} else if d.length < 0 {
		md.SetBody(nil)
	}
	return msg, nil
}

var missing = [hdrCount]string{
	hdrVia: "Missing Via", hdrFrom: "Missing From", hdrTo: "Missing To", hdrCallID: "Missing Call-ID",
	hdrCSeq: "Missing CSeq",
}

// builder appends judged fields to a message.
type builder struct {
	md       *sip.MessageData
	mem      *memory
	register bool // Contacts are for the registrar: always typed
	contacts int
	vias     int
	routes   int
}

// add reads one field and appends its values, of which it returns the number.
func (b *builder) add(f *field, request bool) (int, *fault) {
	switch f.id {
	case hdrVia:
		return b.addVia(f.value)
	case hdrFrom, hdrTo:
		a, rest, fault := readAddress(b.mem, f.value)
		if fault == nil && rest != "" {
			fault = bad("several addresses")
		}
		if fault != nil {
			return 0, bad("Malformed " + f.name)
		}
		var h sip.Header
		if f.id == hdrFrom {
			b.mem.usual.from = sip.FromHeader{DisplayName: a.display, Address: a.uri, Params: a.params}
			h = &b.mem.usual.from
		} else {
			b.mem.usual.to = sip.ToHeader{DisplayName: a.display, Address: a.uri, Params: a.params}
			h = &b.mem.usual.to
		}
		b.appendAs(h, f.value, false)
	case hdrCallID:
		if !callID(f.value) {
			return 0, bad("Malformed Call-ID")
		}
		b.mem.usual.callID = sip.CallIDHeader(f.value)
		b.md.AppendHeader(&b.mem.usual.callID)
	case hdrCSeq:
		var ok bool
		if b.mem.usual.cseq, ok = readCSeq(f.value); !ok {
			return 0, bad("Malformed CSeq")
		}
		b.md.AppendHeader(&b.mem.usual.cseq)
	case hdrMaxForwards:
		if !request { // means nothing in a response
			b.md.AppendHeader(sip.NewHeader(f.name, f.value))
			break
		}
		n, ok := number(f.value, 255)
		if !ok {
			return 0, bad("Malformed Max-Forwards")
		}
		b.mem.usual.maxForwards = sip.MaxForwardsHeader(n)
		b.md.AppendHeader(&b.mem.usual.maxForwards)
	case hdrContentLength:
		n, _ := number(f.value, 1<<31-1)
		b.mem.usual.length = sip.ContentLengthHeader(n)
		b.md.AppendHeader(&b.mem.usual.length)
	case hdrContact:
		return b.addContacts(f)
	case hdrRoute, hdrRecordRoute:
		return b.addRoutes(f)
	default:
		b.md.AppendHeader(sip.NewHeader(f.name, f.value))
	}
	return 1, nil
}

func (b *builder) addVia(s string) (n int, f *fault) {
	for {
		v, rest, f := readVia(b.mem, s, b.vias == 0)
		if f != nil {
			return n, bad("Malformed Via")
		}
		b.md.AppendHeader(v)
		b.vias++
		n++
		if rest == "" {
			return n, nil
		}
		s = rest[1:]
	}
}

func (b *builder) addContacts(f *field) (n int, _ *fault) {
	if f.value == "*" {
		b.appendAs(&sip.ContactHeader{Address: sip.Uri{Wildcard: true, Host: "*"}}, "*", b.contacts > 0)
		b.contacts++
		return 1, nil
	}
	s := f.value
	for {
		a, rest, fault := readAddress(b.mem, s)
		if fault != nil {
			return n, bad("Malformed Contact")
		}
		h := &b.mem.usual.contact
		if b.contacts > 0 {
			h = new(sip.ContactHeader)
		}
		*h = sip.ContactHeader{DisplayName: a.display, Address: a.uri, Params: a.params}
		raw := trim(s[:len(s)-len(rest)])
		if b.register {
			raw = h.Value()
		}
		b.appendAs(h, raw, b.contacts > 0)
		b.contacts++
		n++
		if rest == "" {
			return n, nil
		}
		s = rest[1:]
	}
}

// addRoutes appends the values of a Route or Record-Route, which are name-addr: a URI in brackets (§20.30, §20.34). The
// topmost Route is always typed: it is the one a proxy looks at and takes off.
func (b *builder) addRoutes(f *field) (n int, _ *fault) {
	s := f.value
	for {
		a, rest, fault := readAddress(b.mem, s)
		raw := trim(s[:len(s)-len(rest)])
		if fault != nil || strings.IndexByte(raw, '<') < 0 {
			return n, bad("Malformed " + f.name)
		}
		if f.id == hdrRoute {
			h := take(&b.mem.routes, 2)
			h.Address = a.uri
			if b.routes == 0 {
				b.md.AppendHeader(h)
			} else {
				b.appendAs(h, raw, true)
			}
			b.routes++
		} else {
			h := take(&b.mem.records, 2)
			h.Address = a.uri
			b.appendAs(h, raw, false)
		}
		n++
		if rest == "" {
			return n, nil
		}
		s = rest[1:]
	}
}

// appendAs appends h so that it is written as raw. h itself goes into the list if it writes itself so, otherwise a plain
// header does. The accessor of its kind returns h either way, unless quiet says to leave the accessor alone.
func (b *builder) appendAs(h sip.Header, raw string, quiet bool) {
	shown := h
	if !writes(h, raw) {
		shown = sip.NewHeader(h.Name(), raw)
	}
	if quiet {
		h = placeholder
	}
	b.md.AppendHeader(h)
	if hs := b.md.Headers(); hs[len(hs)-1] != shown {
		hs[len(hs)-1] = shown
	}
}

// placeholder keeps a place in the list while AppendHeader must not take notice.
var placeholder = sip.NewHeader("X", "")

// writes reports that raw is what h writes as its value.
func writes(h sip.Header, raw string) bool {
	var buf [256]byte
	return string(appendValue(buf[:0], h)) == raw
}

// callID reports that s is fit for a Call-ID. The grammar has word [ "@" word ]; what is met in the field uses any visible
// ASCII character, and nothing depends on more than that there is no white space in it.
func callID(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != "" && len(s) <= 1024
}

// readCSeq reads 1*DIGIT LWS Method; the number is below 2^31 (§8.1.1.5).
func readCSeq(s string) (h sip.CSeqHeader, ok bool) {
	i := 0
	for i < len(s) && !isLWS(s[i]) {
		i++
	}
	n, ok := number(s[:i], 1<<31-1)
	method := trimLeft(s[i:])
	if !ok || !all(method, isToken) {
		return h, false
	}
	return sip.CSeqHeader{SeqNo: uint32(n), MethodName: sip.RequestMethod(method)}, true
}
