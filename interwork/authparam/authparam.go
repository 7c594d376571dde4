// Package authparam reads the parameters of SIP's authentication headers (RFC 3261 §25.1 "auth-param", RFC 7616 §3.3, §3.4),
// for both sides: the challenges that a provider sends and the credentials that a phone does.
//
// It is strict, and bounded: what a stranger sends costs no more than its length.
package authparam

import (
	"errors"
	"fmt"
	"strings"
)

// maxParams bounds the parameters of one header; a digest one has about a dozen.
const maxParams = 24

// Parse reads a comma-separated list of name=value, value a token or a quoted string, whose quoting it undoes. Names come
// back in lower case. A name that is there twice is an error.
func Parse(s string) (map[string]string, error) {
	params := make(map[string]string, 12)
	for {
		s = skipSpace(s)
		n := tokenLen(s)
		if n == 0 {
			return nil, errors.New("a parameter without a name")
		}
		name := strings.ToLower(s[:n])
		s = skipSpace(s[n:])
		if s == "" || s[0] != '=' {
			return nil, fmt.Errorf("the parameter %s has no value", short(name))
		}
		value, rest, err := tokenOrQuoted(skipSpace(s[1:]))
		if err != nil {
			return nil, fmt.Errorf("the parameter %s %w", short(name), err)
		}
		if _, twice := params[name]; twice {
			return nil, fmt.Errorf("the parameter %s is there twice", short(name))
		}
		if len(params) == maxParams {
			return nil, fmt.Errorf("more than %d parameters", maxParams)
		}
		params[name] = value
		s = skipSpace(rest)
		if s == "" {
			return params, nil
		}
		if s[0] != ',' {
			return nil, fmt.Errorf("something other than a comma follows the parameter %s", short(name))
		}
		s = s[1:]
	}
}

// tokenOrQuoted reads one value at the beginning of s and undoes the quoting (RFC 3261 §25.1 quoted-string).
func tokenOrQuoted(s string) (value, rest string, err error) {
	if s == "" || s[0] != '"' {
		n := tokenLen(s)
		if n == 0 {
			return "", "", errors.New("has no value")
		}
		return s[:n], s[n:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c == '\\':
			i++
			// A control character may be escaped by the grammar. Nobody does, and it would be written unescaped.
			if i == len(s) || s[i] < ' ' || s[i] >= 0x7f {
				return "", "", errors.New("has a backslash that escapes nothing")
			}
			b.WriteByte(s[i])
		case c < ' ' && c != '\t' || c == 0x7f:
			return "", "", errors.New("has a control character")
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errors.New("has no closing quote")
}

// tokenLen counts the bytes of the token (RFC 3261 §25.1) at the beginning of s.
func tokenLen(s string) int {
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && strings.IndexByte("-.!%*_+`'~", c) < 0 {
			return i
		}
	}
	return len(s)
}

func skipSpace(s string) string { return strings.TrimLeft(s, " \t\r\n") }

// short keeps a hostile name out of an error text.
func short(s string) string { return s[:min(len(s), 40)] } // a token has no control characters

// Quote writes s as a quoted-string.
func Quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
