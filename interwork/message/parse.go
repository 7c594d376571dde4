package message

import (
	"strings"

	"github.com/emiago/sipgo/sip"
)

// Parse reads and judges one whole SIP message: a datagram, whose octets beyond Content-Length are dropped and which needs
// no Content-Length, or (datagram false) a frame, where Content-Length has to be exact and may be missing only when there
// is no body. b is not kept. An error is always an *Error.
func Parse(b []byte, datagram bool) (m sip.Message, err error) {
	defer rescue(&m, &err, len(b))
	n := headEnd(b)
	if n < 0 {
		n = len(b)
	}
	if n > DefaultHeaderLimit {
		return nil, oversized(b[:DefaultHeaderLimit], len(b))
	}
	d := scan(string(b[:n]))
	body := b[n:]
	d.size = len(b)
	switch {
	case d.length > len(body):
		d.fails(bad("Content-Length Larger than Message"))
	case d.length >= 0 && datagram:
		body = body[:d.length]
	case d.length >= 0 && d.length < len(body):
		d.fails(bad("Content-Length Smaller than Message"))
	case d.length < 0 && !datagram && len(body) > 0:
		d.fails(bad("Missing Content-Length"))
	}
	return d.finish(body)
}

// rescue makes a panic cost the message it happened on and no more. None is known.
func rescue(m *sip.Message, err *error, size int) {
	if recover() != nil {
		*m, *err = nil, &Error{Reason: "internal error", Fatal: true, Size: size}
	}
}

// oversized refuses a message whose header section, of which head is the beginning, is too long.
func oversized(head []byte, size int) error {
	d := scan(string(head))
	d.fault, d.fatal, d.size = &fault{513, "Message Too Large"}, true, size
	_, err := d.finish(nil)
	return err
}

// finish builds the message, or the error if anything is wrong. The draft is used up.
func (d *draft) finish(body []byte) (m sip.Message, err error) {
	line, f := readStartLine(&d.mem, d.start)
	if f != nil {
		d.fail(f)
	}
	if line.kind == notSIP {
		d.fatal = true
	}
	// A version of SIP that is not spoken here comes before everything else: nothing more is known about the rest.
	if f != nil && f.status == 505 {
		d.fault = f
	}
	if d.fault == nil {
		m, f := d.build(line, body)
		if f == nil {
			d.done()
			return m, nil
		}
		d.fault = f
	}
	e := &Error{Status: d.fault.status, Reason: d.fault.reason, Fatal: d.fatal, Size: d.size, fields: d.fields}
	if !line.request || line.method == "ACK" {
		e.Status = 0
	}
	return nil, e
}

type lineKind uint8

const (
	notSIP lineKind = iota
	requestLine
	statusLine
)

// startLine is what the first line of a message says.
type startLine struct {
	kind    lineKind
	request bool

	method string
	uri    sip.Uri

	status int
	reason string
}

// readStartLine reads a Request-Line or a Status-Line (RFC 3261 §7.1, §7.2). With a fault the result still says whether
// the line is meant to begin a request, and its method.
func readStartLine(mem *memory, s string) (l startLine, f *fault) {
	if len(s) >= 4 && strings.EqualFold(s[:4], "SIP/") {
		l.kind = statusLine
		return l, l.readStatus(s)
	}
	trimmed := trim(s)
	last := max(strings.LastIndexByte(trimmed, ' '), strings.LastIndexByte(trimmed, '\t'))
	if last < 0 || len(trimmed) < last+5 || !strings.EqualFold(trimmed[last+1:last+5], "SIP/") {
		return l, bad("Not SIP")
	}
	var rest string
	if l.method, rest = takeToken(s); l.method == "" {
		return l, bad("Not SIP")
	}
	l.kind, l.request = requestLine, true
	if f := version(trimmed[last+1:]); f != nil {
		return l, f
	}
	// Exactly one space on either side of the Request-URI, none at the end (RFC 4475 §3.1.2.8–3.1.2.10).
	if len(trimmed) != len(s) || rest[0] != ' ' || last < len(s)-len(rest)+1 {
		return l, bad("Malformed Request-Line")
	}
	uri := rest[1 : len(rest)-(len(s)-last)]
	if strings.ContainsAny(uri, " \t") || s[last] != ' ' {
		return l, bad("Malformed Request-Line")
	}
	if l.uri, f = readURI(mem, uri); f != nil {
		return l, bad("Malformed Request-URI")
	}
	if l.uri.Headers != nil {
		return l, bad("Headers in Request-URI") // §19.1.1, RFC 4475 §3.1.2.11
	}
	return l, nil
}

func (l *startLine) readStatus(s string) *fault {
	ver, rest, ok := strings.Cut(s, " ")
	if f := version(ver); f != nil || !ok {
		return bad("malformed status line")
	}
	code, reason, _ := strings.Cut(rest, " ")
	n, ok := number(code, 699)
	if !ok || len(code) != 3 || n < 100 {
		return bad("status code out of range")
	}
	l.status, l.reason = int(n), reason
	return nil
}

// version reads SIP-Version, whose letters may be of either case (§7.1).
func version(s string) *fault {
	if len(s) == 7 && strings.EqualFold(s, "SIP/2.0") {
		return nil
	}
	if major, minor, ok := strings.Cut(s[4:], "."); ok && digits(major) && digits(minor) {
		return &fault{505, "Version Not Supported"}
	}
	return bad("Malformed SIP-Version")
}
