package message

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/emiago/sipgo/sip"
)

// Error is a message refused.
type Error struct {
	// Status is the SIP status to answer with. 0 means: say nothing (a broken response, an ACK, not SIP at all).
	Status int
	// Reason is the reason phrase of that answer, and what a log says.
	Reason string
	// Fatal reports that the framing of a stream is lost: the connection has to be closed.
	Fatal bool
	// Size is how many bytes the refused message had, so that an answer is never larger than its cause.
	Size int

	reply []byte
}

func (e *Error) Error() string {
	if e.Status == 0 {
		return "sip message dropped: " + e.Reason
	}
	return fmt.Sprintf("sip message refused: %d %s", e.Status, e.Reason)
}

// Reply returns the stateless error response in wire form, or nil when nothing is to be said.
func (e *Error) Reply() []byte { return e.reply }

// ErrPing is returned by Reader.Next for a double CRLF, the keep-alive of RFC 5626 §4.4.1.
var ErrPing = errors.New("keep-alive ping")

// Default limits in bytes.
const (
	DefaultHeaderLimit = 16 << 10
	DefaultBodyLimit   = 64 << 10
)

// Limits bounds one message.
type Limits struct {
	Header int // bytes of start line and headers
	Body   int // bytes of the whole message
}

// Parse reads one whole SIP message.
func Parse(b []byte, datagram bool) (sip.Message, error) {
	m, err := sip.ParseMessage(b)
	if err != nil {
		return nil, &Error{Reason: err.Error(), Size: len(b)}
	}
	return m, nil
}

// Bytes returns the wire form of m.
func Bytes(m sip.Message) []byte { return []byte(m.String()) }

// Clone copies req.
func Clone(req *sip.Request) *sip.Request { return req.Clone() }

// CloneResponse copies res.
func CloneResponse(res *sip.Response) *sip.Response { return res.Clone() }

// NewResponse makes a response to req.
func NewResponse(req *sip.Request, status int, reason string) *sip.Response {
	return sip.NewResponseFromRequest(req, status, reason, nil)
}

// PopRoute removes the topmost Route value of req.
func PopRoute(req *sip.Request) bool { return req.RemoveHeader("Route") }

// PopVia removes the topmost Via value of m.
func PopVia(m sip.Message) bool {
	r, ok := m.(interface{ RemoveHeader(string) bool })
	return ok && r.RemoveHeader("Via")
}

// Routes returns the URIs of all Route (or Record-Route) values of m, topmost first.
func Routes(m sip.Message, name string) []sip.Uri {
	var out []sip.Uri
	for _, h := range m.GetHeaders(name) {
		switch h := h.(type) {
		case *sip.RouteHeader:
			out = append(out, h.Address)
		case *sip.RecordRouteHeader:
			out = append(out, h.Address)
		}
	}
	return out
}

// Reader cuts a byte stream into messages.
type Reader struct{ r *bufio.Reader }

// NewReader reads from r.
func NewReader(r io.Reader, lim Limits) *Reader { return &Reader{r: bufio.NewReader(r)} }

// Next returns the next message.
func (r *Reader) Next() (sip.Message, error) {
	var head []byte
	for {
		line, err := r.r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if len(head) == 0 && string(line) == "\r\n" {
			continue
		}
		head = append(head, line...)
		if len(head) > DefaultHeaderLimit {
			return nil, &Error{Reason: "header too large", Fatal: true}
		}
		if string(line) == "\r\n" {
			break
		}
	}
	m, _, err := sip.NewParser().ParseHeaders(head, true)
	if err != nil {
		return nil, &Error{Reason: err.Error(), Fatal: true}
	}
	if l := m.ContentLength(); l != nil && *l > 0 && *l < DefaultBodyLimit {
		body := make([]byte, *l)
		if _, err := io.ReadFull(r.r, body); err != nil {
			return nil, err
		}
		m.SetBody(body)
	}
	return m, nil
}
