package message

import (
	"strconv"

	"github.com/emiago/sipgo/sip"
)

// buffer is an io.StringWriter over a byte slice.
type buffer []byte

func (b *buffer) WriteString(s string) (int, error) {
	*b = append(*b, s...)
	return len(s), nil
}

// Bytes returns the wire form of m. Content-Length says how long the body is, whatever the header said.
func Bytes(m sip.Message) []byte {
	b := make(buffer, 0, 1024+len(m.Body()))
	var md *sip.MessageData
	switch m := m.(type) {
	case *sip.Request:
		md = &m.MessageData
		b = append(b, m.Method...)
		b = append(b, ' ')
		m.Recipient.StringWrite(&b)
		b = append(b, " SIP/2.0\r\n"...)
	case *sip.Response:
		md = &m.MessageData
		b = append(b, "SIP/2.0 "...)
		b = strconv.AppendInt(b, int64(m.StatusCode), 10)
		b = append(b, ' ')
		b = append(b, m.Reason...)
		b = append(b, "\r\n"...)
	default:
		return []byte(m.String())
	}
	counted := false
	for _, h := range md.Headers() {
		if h.Name() == "Content-Length" {
			if counted {
				continue
			}
			counted = true
			b = appendLength(b, len(m.Body()))
			continue
		}
		h.StringWrite(&b)
		b = append(b, "\r\n"...)
	}
	if !counted {
		b = appendLength(b, len(m.Body()))
	}
	b = append(b, "\r\n"...)
	return append(b, m.Body()...)
}

func appendLength(b buffer, n int) buffer {
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, "\r\n"...)
}
