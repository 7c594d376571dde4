package message

import (
	"bytes"
	"strconv"
	"strings"
	"sync"

	"github.com/emiago/sipgo/sip"
)

// Buffer is a message in wire form, in memory that is used again: B is nobody's any more after Free.
type Buffer struct{ B []byte }

// buffers keeps buffers of the usual size; a larger one is left to the collector.
var buffers = sync.Pool{New: func() any { return &Buffer{make([]byte, 0, usualSize)} }}

const usualSize = 2 << 10

// Encode writes m into a buffer of the pool.
func Encode(m sip.Message) *Buffer {
	buf := buffers.Get().(*Buffer)
	buf.B = Append(buf.B[:0], m)
	return buf
}

// Free gives the buffer back.
func (b *Buffer) Free() {
	if cap(b.B) <= 4*usualSize {
		buffers.Put(b)
	}
}

// Bytes returns the wire form of m. Content-Length says how long the body is, whatever the header said.
func Bytes(m sip.Message) []byte {
	buf := Encode(m)
	defer buf.Free()
	return bytes.Clone(buf.B)
}

// Append is Bytes for a buffer of the caller's: it appends the wire form of m to b. What it writes of a header is what
// sipgo's String would give, without the many small strings.
func Append(b []byte, m sip.Message) []byte {
	var md *sip.MessageData
	switch m := m.(type) {
	case *sip.Request:
		md = &m.MessageData
		b = append(b, m.Method...)
		b = append(b, ' ')
		b = appendURI(b, &m.Recipient)
		b = append(b, " SIP/2.0\r\n"...)
	case *sip.Response:
		md = &m.MessageData
		b = append(b, "SIP/2.0 "...)
		b = strconv.AppendInt(b, int64(m.StatusCode), 10)
		b = append(b, ' ')
		b = append(b, m.Reason...)
		b = append(b, "\r\n"...)
	default:
		return append(b, m.String()...)
	}
	counted := false
	for _, h := range md.Headers() {
		name := h.Name()
		if name == "Content-Length" {
			if !counted {
				b = appendLength(b, len(md.Body()))
			}
			counted = true
			continue
		}
		b = append(b, name...)
		b = append(b, ": "...)
		b = appendValue(b, h)
		b = append(b, "\r\n"...)
	}
	if !counted {
		b = appendLength(b, len(md.Body()))
	}
	b = append(b, "\r\n"...)
	return append(b, md.Body()...)
}

func appendLength(b []byte, n int) []byte {
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, "\r\n"...)
}

// appendValue appends what h.Value returns.
func appendValue(b []byte, h sip.Header) []byte {
	switch h := h.(type) {
	case *sip.ViaHeader:
		return appendVia(b, h)
	case *sip.FromHeader:
		return appendAddress(b, h.DisplayName, &h.Address, h.Params)
	case *sip.ToHeader:
		return appendAddress(b, h.DisplayName, &h.Address, h.Params)
	case *sip.ContactHeader:
		if h.Address.Wildcard {
			return append(b, '*')
		}
		return appendAddress(b, h.DisplayName, &h.Address, h.Params)
	case *sip.RouteHeader:
		return appendAddress(b, "", &h.Address, nil)
	case *sip.RecordRouteHeader:
		return appendAddress(b, "", &h.Address, nil)
	case *sip.CSeqHeader:
		b = strconv.AppendUint(b, uint64(h.SeqNo), 10)
		b = append(b, ' ')
		return append(b, h.MethodName...)
	case *sip.MaxForwardsHeader:
		return strconv.AppendUint(b, uint64(*h), 10)
	}
	return append(b, h.Value()...)
}

func appendVia(b []byte, h *sip.ViaHeader) []byte {
	b = append(b, h.ProtocolName...)
	b = append(b, '/')
	b = append(b, h.ProtocolVersion...)
	b = append(b, '/')
	b = append(b, h.Transport...)
	b = append(b, ' ')
	b = appendHost(b, h.Host, h.Port)
	return appendParams(b, ';', ';', h.Params)
}

func appendAddress(b []byte, display string, u *sip.Uri, params sip.HeaderParams) []byte {
	if display != "" {
		b = append(b, '"')
		b = append(b, display...)
		b = append(b, `" `...)
	}
	b = append(b, '<')
	b = appendURI(b, u)
	b = append(b, '>')
	return appendParams(b, ';', ';', params)
}

// appendURI appends what u.String returns.
func appendURI(b []byte, u *sip.Uri) []byte {
	if u.Scheme == "" {
		b = append(b, "sip"...)
	} else {
		b = append(b, u.Scheme...)
	}
	b = append(b, ':')
	if raw := u.Raw(); raw != "" {
		return append(b, raw...)
	}
	if u.HierarhicalSlashes {
		b = append(b, "//"...)
	}
	if u.User != "" {
		b = append(b, u.User...)
		if u.Password != "" {
			b = append(b, ':')
			b = append(b, u.Password...)
		}
		b = append(b, '@')
	}
	b = appendHost(b, u.Host, u.Port)
	b = appendParams(b, ';', ';', u.UriParams)
	return appendParams(b, '?', '&', u.Headers)
}

func appendHost(b []byte, host string, port int) []byte {
	if strings.IndexByte(host, ':') >= 0 && plainIPv6(host) {
		b = append(b, '[')
		b = append(b, host...)
		b = append(b, ']')
	} else {
		b = append(b, host...)
	}
	if port > 0 {
		b = append(b, ':')
		b = strconv.AppendInt(b, int64(port), 10)
	}
	return b
}

// appendParams appends parameters, first before the first of them and sep between. A value with white space had quotes.
func appendParams(b []byte, first, sep byte, params sip.HeaderParams) []byte {
	for i := range params {
		if i == 0 {
			b = append(b, first)
		} else {
			b = append(b, sep)
		}
		p := &params[i]
		b = append(b, p.K...)
		switch {
		case p.V == "":
		case strings.IndexByte(p.V, ' ') >= 0 || strings.IndexByte(p.V, '\t') >= 0:
			b = append(b, `="`...)
			b = append(b, p.V...)
			b = append(b, '"')
		default:
			b = append(b, '=')
			b = append(b, p.V...)
		}
	}
	return b
}
