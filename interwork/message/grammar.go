package message

import "strings"

// Character classes of RFC 3261 §25.1, as bits of one table.
const (
	isToken    = 1 << iota // token: alphanum and -.!%*_+`'~
	isUser                 // user: unreserved and &=+$,;?/
	isPassword             // password: unreserved and &=+$,
	isParam                // paramchar: unreserved and []/:&+$
	isHeader               // hnv: unreserved and []/?:+$
	isOpaque               // what an absoluteURI may hold: visible ASCII but no <>" and no \^`{|}
	isHost                 // domain name: alphanum, hyphen, dot, and the underscore that is met in the field
	isScheme               // scheme after its first letter
)

const (
	alphanum   = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	unreserved = alphanum + "-_.!~*'()"
)

var class = classes()

func classes() (t [256]uint8) {
	for bit, set := range map[uint8]string{
		isToken:    alphanum + "-.!%*_+`'~",
		isUser:     unreserved + "&=+$,;?/",
		isPassword: unreserved + "&=+$,",
		isParam:    unreserved + "[]/:&+$",
		isHeader:   unreserved + "[]/?:+$",
		isOpaque:   unreserved + ";/?:@&=+$,[]#%",
		isHost:     alphanum + "-._",
		isScheme:   alphanum + "+-.",
	} {
		for i := range len(set) {
			t[set[i]] |= bit
		}
	}
	return t
}

// all reports that s consists of characters of the class and is not empty.
func all(s string, bit uint8) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if class[s[i]]&bit == 0 {
			return false
		}
	}
	return true
}

// allEscaped is all for the rules that allow %HH beside the class. The empty string passes.
func allEscaped(s string, bit uint8) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' {
			if i+2 >= len(s) || !hex(s[i+1]) || !hex(s[i+2]) {
				return false
			}
			i += 2
		} else if class[s[i]]&bit == 0 {
			return false
		}
	}
	return true
}

func hex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// number reads 1*DIGIT up to max; leading zeros are fine.
func number(s string, max uint64) (uint64, bool) {
	if !digits(s) {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		n = n*10 + uint64(s[i]-'0')
		if n > max {
			return 0, false
		}
	}
	return n, true
}

func isLWS(c byte) bool { return c == ' ' || c == '\t' }

// trimLeft and trim take white space off; line folding is gone by the time they run.
func trimLeft(s string) string {
	for len(s) > 0 && isLWS(s[0]) {
		s = s[1:]
	}
	return s
}

func trim(s string) string {
	s = trimLeft(s)
	for len(s) > 0 && isLWS(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// takeToken cuts a token off the front of s, "" if there is none.
func takeToken(s string) (tok, rest string) {
	i := 0
	for i < len(s) && class[s[i]]&isToken != 0 {
		i++
	}
	return s[:i], s[i:]
}

// takeQuoted cuts a quoted-string off the front of s, quotes included (RFC 3261 §25.1). Control characters without
// a backslash have been refused before.
func takeQuoted(s string) (quoted, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", s, false
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
			if i < len(s) && s[i] >= 0x80 { // quoted-pair is ASCII only
				return "", s, false
			}
		case '"':
			return s[:i+1], s[i+1:], true
		}
	}
	return "", s, false
}

// takeSep cuts white space, the separator c and white space off the front of s: SEMI, EQUAL, COMMA, COLON, SLASH of the
// grammar.
func takeSep(s string, c byte) (rest string, ok bool) {
	t := trimLeft(s)
	if t == "" || t[0] != c {
		return s, false
	}
	return trimLeft(t[1:]), true
}

// lower is strings.ToLower for the parameter names that code compares; others keep their spelling.
func lower(name string) string {
	for _, known := range knownParams {
		if len(known) == len(name) && strings.EqualFold(known, name) {
			return known
		}
	}
	return name
}

// knownParams are the parameters that layers above look up by name. sipgo compares names octet by octet, the grammar
// ignores case.
var knownParams = [...]string{
	"tag", "branch", "received", "rport", "maddr", "ttl", "lr", "transport", "user", "method", "q", "expires", "gr", "ob",
	"reg-id", "+sip.instance", "pub-gruu", "temp-gruu", "alias", "keep", "comp",
}
