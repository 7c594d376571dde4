package message

import (
	"bytes"
	"errors"
	"io"

	"github.com/emiago/sipgo/sip"
)

// ErrPing is returned by Reader.Next for a double CRLF between messages: the keep-alive of RFC 5626 §4.4.1, to be answered
// with a single CRLF.
var ErrPing = errors.New("keep-alive ping")

// Reader cuts a byte stream (TCP, TLS) into messages. It keeps no more than one message's limit of octets, and grows its
// buffer only as they arrive.
type Reader struct {
	r   io.Reader
	lim Limits

	buf     []byte // what has arrived and is not yet consumed
	scanned int    // octets of buf known to hold no empty line
	err     error  // of r, or a lost framing; final
}

// NewReader reads from r. Zero limits mean the defaults.
func NewReader(r io.Reader, lim Limits) *Reader { return &Reader{r: r, lim: lim.withDefaults()} }

// Pending returns how many octets of an unfinished message have arrived. A caller that sets read deadlines grants an idle
// connection more time than one that has begun a message.
func (r *Reader) Pending() int {
	if len(r.buf) > 0 && r.buf[0] == '\r' {
		return 0
	}
	return len(r.buf)
}

// Next returns the next message, ErrPing, an *Error for a message refused, or the error of the underlying reader. After an
// *Error that is not Fatal the next message can be read. Any other error is final; the end of the stream inside a message
// is io.ErrUnexpectedEOF.
func (r *Reader) Next() (sip.Message, error) {
	if r.err != nil {
		return nil, r.err
	}
	m, err := r.next()
	if err == nil {
		return m, nil
	}
	var e *Error
	if err != ErrPing && (!errors.As(err, &e) || e.Fatal) {
		r.err, r.buf = err, nil
		if e != nil {
			r.err = io.ErrUnexpectedEOF // the refusal is said once; nothing can be read after it
		}
	}
	return m, err
}

func (r *Reader) next() (sip.Message, error) {
	for {
		if ping := r.skipCRLF(); ping {
			return nil, ErrPing
		}
		if len(r.buf) > 0 && r.buf[0] != '\r' && class[r.buf[0]]&isToken == 0 {
			return nil, &Error{Reason: "Not SIP", Fatal: true, Size: len(r.buf)}
		}
		if n := r.head(); n >= 0 {
			return r.message(n)
		}
		if len(r.buf) > r.lim.Header {
			return nil, oversized(r.buf[:r.lim.Header], len(r.buf))
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// skipCRLF drops empty lines before a message (RFC 3261 §7.5) and reports a double one.
func (r *Reader) skipCRLF() (ping bool) {
	for bytes.HasPrefix(r.buf, []byte("\r\n")) {
		switch {
		case bytes.HasPrefix(r.buf, []byte("\r\n\r\n")):
			r.consume(4)
			return true
		case len(r.buf) == 2 || len(r.buf) == 3 && r.buf[2] == '\r':
			return false // may become a ping
		}
		r.consume(2)
	}
	return false
}

// head returns the octets of the header section if all of it has arrived, otherwise -1.
func (r *Reader) head() int {
	if n := headEnd(r.buf[r.scanned:]); n >= 0 {
		return r.scanned + n
	}
	r.scanned = max(0, len(r.buf)-3)
	return -1
}

// message reads the body that follows n octets of headers.
func (r *Reader) message(n int) (m sip.Message, err error) {
	defer rescue(&m, &err, n)
	if n > r.lim.Header {
		return nil, oversized(r.buf[:r.lim.Header], n)
	}
	d := scan(string(r.buf[:n]))
	d.size = n
	if d.length < 0 {
		d.fails(bad("Missing Content-Length")) // §20.14
	} else if d.length > r.lim.Body-n {
		d.fails(&fault{513, "Message Too Large"})
	}
	if !d.fatal {
		size := n + d.length
		d.size = size
		for len(r.buf) < size {
			if err := r.fill(); err != nil {
				return nil, err
			}
		}
		m, err = d.finish(r.buf[n:size])
		r.consume(size)
		return m, err
	}
	return d.finish(nil)
}

// consume drops n octets. A buffer that had to grow is given back when it is empty.
func (r *Reader) consume(n int) {
	rest := copy(r.buf, r.buf[n:])
	r.buf, r.scanned = r.buf[:rest], 0
	if rest == 0 && cap(r.buf) > bufferSize {
		r.buf = nil
	}
}

// bufferSize holds the usual message; a larger one makes the buffer grow to what it needs.
const bufferSize = 4 << 10

func (r *Reader) fill() error {
	if len(r.buf) == cap(r.buf) {
		grown := make([]byte, len(r.buf), max(bufferSize, 2*cap(r.buf)))
		copy(grown, r.buf)
		r.buf = grown
	}
	for range 100 {
		n, err := r.r.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf = r.buf[:len(r.buf)+n]
		if n > 0 {
			return nil
		}
		if err == io.EOF && len(r.buf) > 0 && r.buf[0] != '\r' {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}
