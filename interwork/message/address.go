package message

import (
	"strings"

	"github.com/emiago/sipgo/sip"
)

// address is one value of From, To, Contact, Route or Record-Route (RFC 3261 §20.10, §25.1).
type address struct {
	display string // without the quotes, escapes kept
	uri     sip.Uri
	params  sip.HeaderParams
}

// readAddress reads one name-addr or addr-spec with its parameters off the front of s. What remains is "" or begins with
// the comma that ends the value.
func readAddress(mem *memory, s string) (a address, rest string, f *fault) {
	s = trimLeft(s)
	if s == "" {
		return a, s, bad("empty address")
	}
	switch open := strings.IndexByte(s, '<'); {
	case s[0] == '"':
		quoted, after, ok := takeQuoted(s)
		if !ok {
			return a, s, bad("unbalanced quotes")
		}
		a.display = quoted[1 : len(quoted)-1]
		after = trimLeft(after)
		if after == "" || after[0] != '<' {
			return a, s, bad("display name without address")
		}
		s = after
	case open > 0 && displayName(s[:open]):
		a.display = trim(s[:open])
		s = s[open:]
	}

	if s[0] == '<' {
		end := strings.IndexByte(s, '>')
		if end < 0 {
			return a, s, bad("unbalanced angle brackets")
		}
		if a.uri, f = readURI(mem, s[1:end]); f != nil {
			return a, s, f
		}
		s = s[end+1:]
	} else {
		// Without brackets a semicolon, a comma or a question mark cannot be part of the URI (§20). A question mark
		// ends nothing either, so that readURI refuses the headers it would begin.
		end := 0
		for end < len(s) && s[end] != ';' && s[end] != ',' && !isLWS(s[end]) {
			end++
		}
		if strings.IndexByte(s[:end], '?') >= 0 {
			return a, s, bad("URI with headers outside brackets")
		}
		if a.uri, f = readURI(mem, s[:end]); f != nil {
			return a, s, f
		}
		s = s[end:]
	}
	a.params, s, f = readParams(mem, s, 0)
	return a, s, f
}

// displayName reports that s is *(token LWS): a display name that needs no quotes. No white space is needed before the
// bracket.
func displayName(s string) bool {
	for s != "" {
		if isLWS(s[0]) {
			s = s[1:]
			continue
		}
		tok, rest := takeToken(s)
		if tok == "" {
			return false
		}
		s = rest
	}
	return true
}

// readParams reads *( SEMI generic-param ) and takes off trailing white space. What remains is "" or begins with a comma.
//
// A quoted value with white space is kept without its quotes and any other with them: that is how sipgo writes it back as
// it was.
func readParams(mem *memory, s string, spare int) (_ sip.HeaderParams, rest string, f *fault) {
	var p sip.HeaderParams
	for {
		after, ok := takeSep(s, ';')
		if !ok {
			s = trimLeft(s)
			if s != "" && s[0] != ',' {
				return nil, s, bad("malformed parameters")
			}
			return mem.end(p, spare), s, nil
		}
		var tok, value string
		if tok, after = takeToken(after); tok == "" {
			return nil, s, bad("malformed parameters")
		}
		if v, ok := takeSep(after, '='); ok {
			if value, after, ok = takeValue(v); !ok {
				return nil, s, bad("malformed parameter value")
			}
		}
		if !addParam(mem, &p, tok, value) {
			return nil, s, bad("parameter twice")
		}
		s = after
	}
}

// takeValue cuts a gen-value off the front of s: a token, a host or a quoted-string.
func takeValue(s string) (value, rest string, ok bool) {
	if s == "" {
		return "", s, false
	}
	if s[0] == '"' {
		q, rest, ok := takeQuoted(s)
		if ok && strings.ContainsAny(q, " \t") {
			q = q[1 : len(q)-1]
		}
		return q, rest, ok
	}
	i := 0
	for i < len(s) && (class[s[i]]&isToken != 0 || strings.IndexByte("[]:", s[i]) >= 0) {
		i++
	}
	return s[:i], s[i:], i > 0
}
