package message

// Limits of one message, in bytes and numbers. The longest message of RFC 4475 has 3.5 kB of headers; what phones send
// stays below 4 kB of headers and 8 kB in all. A UDP datagram cannot carry more than 64 KiB.
const (
	DefaultHeaderLimit = 16 << 10
	DefaultBodyLimit   = 64 << 10

	// MaxHeaders is how many header values one message may have, lists counted by their elements.
	MaxHeaders = 256
)

// Limits bounds one message of a stream. A zero field means the default.
type Limits struct {
	Header int // bytes of the start line and the headers
	Body   int // bytes of the whole message
}

func (l Limits) withDefaults() Limits {
	if l.Header <= 0 {
		l.Header = DefaultHeaderLimit
	}
	if l.Body <= 0 {
		l.Body = DefaultBodyLimit
	}
	return l
}
