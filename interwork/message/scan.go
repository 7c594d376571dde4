package message

import (
	"bytes"
	"strings"
	"sync"
)

// draft is a message between its octets and its meaning: the header section cut into fields. The first thing found wrong
// is kept and the cutting goes on, so that a refusal can still be addressed.
type draft struct {
	start  string
	fields []field
	size   int // octets of the message
	length int // Content-Length, -1 if there is none

	fault *fault // the first thing wrong, nil so far
	fatal bool   // where the message ends is in doubt

	mem memory
}

// drafts keeps drafts whose message came to be. One that failed lives on in its Error.
var drafts = sync.Pool{New: func() any { return &draft{fields: make([]field, 0, 24)} }}

func newDraft(head string) *draft {
	d := drafts.Get().(*draft)
	*d = draft{fields: d.fields[:0], length: -1, mem: newMemory(head)}
	return d
}

// done gives the draft back: the message has all it needs.
func (d *draft) done() {
	clear(d.fields)
	*d = draft{fields: d.fields[:0]}
	drafts.Put(d)
}

func (d *draft) fail(f *fault) {
	if d.fault == nil {
		d.fault = f
	}
}

// fails is fail for what puts the end of the message in doubt too.
func (d *draft) fails(f *fault) {
	d.fail(f)
	d.fatal = true
}

// headEnd returns the octets of the header section of b, the empty line included, or -1 if the empty line is missing.
func headEnd(b []byte) int {
	i := bytes.Index(b, []byte("\r\n\r\n"))
	if i < 0 {
		return -1
	}
	return i + 4
}

// scan cuts the header section (RFC 3261 §7.1–7.3): lines end with CRLF and nothing else, a line that begins with white
// space continues the one before, other control characters do not occur.
func scan(head string) *draft {
	d := newDraft(head)
	first, skipped, ended := true, false, false
	rest := head
	for rest != "" && !ended {
		var line string
		lf := strings.IndexByte(rest, '\n')
		if lf < 0 {
			break // an unfinished line is no line
		}
		line, rest = rest[:lf], rest[lf+1:]
		if n := len(line); n == 0 || line[n-1] != '\r' {
			d.fails(bad("Line without CRLF"))
			skipped = true
			continue
		}
		line = line[:len(line)-1]
		if !clean(line) {
			d.fails(bad("Control Character in Header"))
			if first {
				return d
			}
			skipped = true
			continue
		}
		switch {
		case first:
			d.start, first = line, false
		case line == "":
			ended = true
		case isLWS(line[0]):
			if len(d.fields) == 0 || skipped {
				d.fail(bad("Continuation Line without Header"))
				continue
			}
			f := &d.fields[len(d.fields)-1]
			f.value = joinFold(f.value, line)
		default:
			skipped = !d.add(line)
		}
	}
	if !ended {
		d.fails(bad("Header Section not Terminated"))
	}
	for i := range d.fields {
		if d.fields[i].id == hdrContentLength {
			d.readLength(d.fields[i].value)
		}
	}
	return d
}

// joinFold undoes folding: the line break and the white space around it become one space (RFC 3261 §7.3.1).
func joinFold(value, line string) string {
	line = trim(line)
	switch {
	case line == "":
		return value
	case value == "":
		return line
	}
	return value + " " + line
}

// clean reports that a line holds no control character but the tab and those that are quoted.
func clean(line string) bool {
	for i := range len(line) {
		if c := line[i]; (c < ' ' || c == 0x7f) && c != '\t' {
			return escaped(line)
		}
	}
	return true
}

// escaped reports that the control characters of a line stand where they may: inside a quoted string the grammar lets a
// backslash quote one (RFC 3261 §25.1, RFC 4475 §3.1.1.2), though never a line break.
func escaped(line string) bool {
	quoted, escaped := false, false
	for i := range len(line) {
		c := line[i]
		if c < ' ' && c != '\t' || c == 0x7f {
			if !escaped || c == '\r' {
				return false
			}
		}
		switch {
		case escaped:
			escaped = false
		case c == '"':
			quoted = !quoted
		case c == '\\':
			escaped = quoted
		}
	}
	return true
}

// add cuts one header line into name and value: token HCOLON value.
func (d *draft) add(line string) bool {
	name, rest := takeToken(line)
	value, ok := takeSep(rest, ':')
	if name == "" || !ok {
		d.fail(bad("Malformed Header"))
		return false
	}
	if len(d.fields) == MaxHeaders {
		d.fails(&fault{513, "Too Many Headers"})
		return false
	}
	f := field{name: name, value: trim(value)}
	if info, ok := known(name); ok {
		f.id, f.name = info.id, info.name
	}
	d.fields = append(d.fields, f)
	return true
}

// readLength takes a Content-Length. A second one has to say the same: a proxy and the element behind it that disagree on
// where a message ends can be made to see different messages.
func (d *draft) readLength(value string) {
	n, ok := number(value, 1<<31-1)
	switch {
	case !ok:
		d.fails(bad("Malformed Content-Length"))
	case d.length >= 0 && d.length != int(n):
		d.fails(bad("Different Content-Lengths"))
	default:
		d.length = int(n)
	}
}
