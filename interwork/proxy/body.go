package proxy

import (
	"bytes"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// Bounds of a multipart body that is looked into.
const (
	maxParts     = 16
	maxPartDepth = 3
	maxBoundary  = 70 // RFC 2046 §5.1.1
)

// body is where the session description stands in the body of a message (RFC 3261 §7.4, RFC 5621).
type body struct {
	from, to int  // of the whole body; equal: there is none
	whole    bool // the body is nothing else
	opaque   bool // it may hide one: nobody can tell
}

// readBody finds the session description in m: an application/sdp body, or the one such part of a multipart body that
// describes the session.
func readBody(m sip.Message) body {
	all := m.Body()
	if len(all) == 0 {
		return body{}
	}
	var kind, encoding, disposition string
	for _, h := range headersOf(m) {
		switch name := h.Name(); {
		case !strings.HasPrefix(name, "Content-"):
		case name == "Content-Type":
			kind = h.Value()
		case name == "Content-Encoding":
			encoding = h.Value()
		case name == "Content-Disposition":
			disposition = h.Value()
		}
	}
	b := find(all, part{kind: kind, encoding: encoding, disposition: disposition, to: len(all)}, 0)
	b.whole = b.from == 0 && b.to == len(all)
	return b
}

// headersOf gives the headers in their usual spelling, as package message writes them.
func headersOf(m sip.Message) []sip.Header {
	switch m := m.(type) {
	case *sip.Request:
		return m.Headers()
	case *sip.Response:
		return m.Headers()
	}
	return nil
}

// sdp gives the description, nil if there is none.
func (b body) sdp(all []byte) []byte {
	if b.from == b.to || b.opaque {
		return nil
	}
	return all[b.from:b.to:b.to]
}

// put gives the whole body with another description in the place of the one found. Without one nothing is left: a part that
// is missing is worse than no body.
func (b body) put(all, sdp []byte) []byte {
	switch {
	case b.from == b.to:
		return all
	case len(sdp) == 0:
		return nil
	case b.whole:
		return sdp
	}
	out := make([]byte, 0, len(all)-(b.to-b.from)+len(sdp))
	out = append(out, all[:b.from]...)
	out = append(out, sdp...)
	return append(out, all[b.to:]...)
}

// part is one part of a body: what its header says, and where its content stands.
type part struct {
	kind, encoding, transfer, disposition string
	from, to                              int
}

// find looks for the description in a part, and in the parts of it.
func find(all []byte, p part, depth int) body {
	kind, params, _ := strings.Cut(p.kind, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	top, _, _ := strings.Cut(kind, "/")
	switch {
	case kind == "application/sdp" || top == "multipart":
	case kind == "", strings.HasPrefix(kind, "application/pkcs7"), kind == "message/external-body":
		return body{opaque: true}
	default:
		return body{}
	}
	if encoded(p.encoding, "identity") || encoded(p.transfer, "7bit", "8bit", "binary") {
		return body{opaque: true}
	}
	if top != "multipart" {
		d, _, _ := strings.Cut(p.disposition, ";")
		if encoded(d, "session") { // early-session (RFC 3959) and others are no business of this dialog's streams
			return body{}
		}
		return body{from: p.from, to: p.to}
	}
	if kind == "multipart/signed" || kind == "multipart/encrypted" || depth == maxPartDepth {
		return body{opaque: true}
	}
	parts, ok := split(all, p.from, p.to, boundary(params))
	if !ok {
		return body{opaque: true}
	}
	var found body
	for _, sub := range parts {
		b := find(all, sub, depth+1)
		switch {
		case b.opaque, b.from != b.to && found.from != found.to: // two descriptions: nobody says which one counts
			return body{opaque: true}
		case b.from != b.to:
			found = b
		}
	}
	return found
}

// encoded says that a header is there and has none of the harmless values.
func encoded(value string, harmless ...string) bool {
	value = strings.TrimSpace(value)
	if value == "" {
		return false
	}
	for _, h := range harmless {
		if strings.EqualFold(value, h) {
			return false
		}
	}
	return true
}

// boundary gives the boundary parameter of a Content-Type, "" for none.
func boundary(params string) string {
	for params != "" {
		var p string
		p, params = cutParam(params)
		name, value, ok := strings.Cut(p, "=")
		if !ok || !strings.EqualFold(strings.TrimSpace(name), "boundary") {
			continue
		}
		value = strings.TrimSpace(value)
		if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
			value = strings.ReplaceAll(value[1:len(value)-1], `\`, "")
		}
		if len(value) > maxBoundary {
			return ""
		}
		return value
	}
	return ""
}

// cutParam cuts at the first semicolon outside quotes.
func cutParam(s string) (p, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ';' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// split cuts all[from:to] into its parts (RFC 2046 §5.1.1). ok is false for what is no multipart body.
func split(all []byte, from, to int, boundary string) (parts []part, ok bool) {
	if boundary == "" {
		return nil, false
	}
	delimiter := []byte("--" + boundary)
	for at, open := from, -1; at < to; {
		end := bytes.IndexByte(all[at:to], '\n')
		next := to
		if end >= 0 {
			next = at + end + 1
		}
		line := bytes.TrimRight(all[at:next], "\r\n")
		rest, is := bytes.CutPrefix(line, delimiter)
		last := bytes.HasPrefix(rest, []byte("--"))
		if is && (last || len(bytes.Trim(rest, " \t")) == 0) {
			if open >= 0 {
				stop := at // the line break before a delimiter belongs to it
				if stop > open && all[stop-1] == '\n' {
					stop--
				}
				if stop > open && all[stop-1] == '\r' {
					stop--
				}
				if len(parts) == maxParts {
					return nil, false
				}
				parts = append(parts, readPart(all, open, stop))
			}
			if last {
				return parts, len(parts) > 0
			}
			open = next
		}
		at = next
	}
	return nil, false // without its last delimiter it has been cut off
}

// readPart reads the header of the part all[from:to].
func readPart(all []byte, from, to int) part {
	p := part{kind: "text/plain", from: to, to: to}
	for at := from; at < to; {
		next := to
		if end := bytes.IndexByte(all[at:to], '\n'); end >= 0 {
			next = at + end + 1
		}
		for next < to && at < next && len(bytes.TrimRight(all[at:next], "\r\n")) > 0 && (all[next] == ' ' || all[next] == '\t') { // folded
			end := bytes.IndexByte(all[next:to], '\n')
			if end < 0 {
				next = to
				break
			}
			next += end + 1
		}
		line := bytes.TrimRight(all[at:next], "\r\n")
		at = next
		if len(line) == 0 {
			p.from = at
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		v := strings.TrimSpace(string(value))
		switch strings.ToLower(string(bytes.TrimSpace(name))) {
		case "content-type", "c":
			p.kind = v
		case "content-encoding", "e":
			p.encoding = v
		case "content-transfer-encoding":
			p.transfer = v
		case "content-disposition":
			p.disposition = v
		}
	}
	return p
}
