package sdp

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrSyntax is in every error of Parse: this is no description of a session, or one beyond the bounds.
var ErrSyntax = errors.New("session description")

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSyntax, fmt.Sprintf(format, args...))
}

// Parse reads a description (RFC 8866). Its lines are kept as they are; s= and t= are added where they are missing.
// Errors are ErrSyntax and say which line is wrong.
func Parse(b []byte) (*Session, error) {
	if len(b) > MaxBytes {
		return nil, wrong("%d bytes, more than %d", len(b), MaxBytes)
	}
	p := parser{s: &Session{}}
	for n := 1; len(b) > 0; n++ {
		if n > MaxLines {
			return nil, wrong("more than %d lines", MaxLines)
		}
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n"))
		if err := p.line(bytes.TrimRight(line, "\r")); err != nil {
			return nil, fmt.Errorf("%w (line %d)", err, n)
		}
	}
	if len(p.s.Lines) == 0 {
		return nil, wrong("empty")
	}
	if !p.seen('o') {
		return nil, wrong("no o= line")
	}
	for _, l := range []Line{{'s', "-"}, {'t', "0 0"}} {
		if !p.seen(l.Key) {
			p.s.Lines = insert(p.s.Lines, sessionOrder, l)
		}
	}
	return p.s, nil
}

type parser struct {
	s      *Session
	m      *Media // whose lines are being read, nil in the session part
	keys   uint32 // kinds of lines of the session part so far, one bit a letter
	counts counts // of the present section
}

// counts are the lines of one section that have bounds of their own.
type counts struct{ candidates, crypto, fingerprints int }

func (p *parser) seen(key byte) bool { return p.keys&(1<<(key-'a')) != 0 }

// line takes one line without its end.
func (p *parser) line(b []byte) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil // telephones end with one, and so do some editors of test scripts
	}
	if len(b) > MaxLine {
		return wrong("a line of %d bytes, more than %d", len(b), MaxLine)
	}
	if i := bytes.IndexAny(b, "\x00\r"); i >= 0 {
		return wrong("byte %d of a line is %#02x", i+1, b[i])
	}
	if len(b) < 2 || b[1] != '=' || !isLetter(b[0]) {
		return wrong("a line without type: %.20q", b)
	}
	l := Line{b[0], string(b[2:])}
	if len(p.s.Lines) == 0 && (l.Key != 'v' || strings.TrimSpace(l.Value) != "0") {
		return wrong("it begins with %.20q, not with v=0", b)
	}
	if l.Key == 'm' {
		return p.media(l.Value)
	}
	if p.m != nil {
		return p.streamLine(l)
	}
	return p.sessionLine(l)
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func (p *parser) sessionLine(l Line) error {
	switch l.Key {
	case 'v', 'o', 's':
		if p.seen(l.Key) {
			return wrong("a second %c= line", l.Key)
		}
	}
	switch l.Key {
	case 'o':
		if _, ok := parseOrigin(l.Value); !ok {
			return wrong("o= has fewer than six fields")
		}
	case 's':
		if l.Value == "" {
			l.Value = "-" // RFC 8866 §5.3: it must not be empty
		}
	}
	if l.Key >= 'a' && l.Key <= 'z' {
		p.keys |= 1 << (l.Key - 'a')
	}
	if len(p.s.Lines) == MaxSection {
		return wrong("more than %d lines before the first m=", MaxSection)
	}
	p.s.Lines = append(p.s.Lines, l)
	return p.count(l)
}

func (p *parser) streamLine(l Line) error {
	switch {
	case l.Key == 'v' || l.Key == 'o':
		return wrong("%c= below an m= line", l.Key)
	case len(p.m.Lines) == MaxSection:
		return wrong("more than %d lines below an m= line", MaxSection)
	}
	p.m.Lines = append(p.m.Lines, l)
	return p.count(l)
}

// count bounds what Transport has to look at.
func (p *parser) count(l Line) error {
	name, _ := l.attribute()
	n, most := (*int)(nil), 0
	switch name {
	case "candidate":
		n, most = &p.counts.candidates, MaxCandidates
	case "crypto":
		n, most = &p.counts.crypto, MaxCrypto
	case "fingerprint":
		n, most = &p.counts.fingerprints, MaxFingerprints
	default:
		return nil
	}
	if *n++; *n > most {
		return wrong("more than %d lines a=%s", most, name)
	}
	return nil
}

// media begins a stream (RFC 8866 §5.14).
func (p *parser) media(v string) error {
	if len(p.s.Media) == MaxMedia {
		return wrong("more than %d m= lines", MaxMedia)
	}
	f := strings.Fields(v)
	if len(f) < 3 {
		return wrong("m= has fewer than four fields")
	}
	m := &Media{Kind: f[0], Ports: 1, Proto: f[2], Formats: f[3:], session: p.s}
	port, ports, several := strings.Cut(f[1], "/")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return wrong("m= with the port %.20q", f[1])
	}
	m.Port = uint16(n)
	if several {
		if m.Ports, err = strconv.Atoi(ports); err != nil || m.Ports < 1 || m.Ports > 1<<15 {
			return wrong("m= with the number of ports %.20q", ports)
		}
	}
	// A refused stream without formats is against the grammar and seen in answers.
	if len(m.Formats) == 0 && m.Port != 0 {
		return wrong("m= without formats")
	}
	if len(m.Formats) > MaxFormats {
		return wrong("m= with more than %d formats", MaxFormats)
	}
	p.s.Media = append(p.s.Media, m)
	p.m, p.counts = m, counts{}
	return nil
}
