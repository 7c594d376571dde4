package message

import (
	"net/netip"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// ParseURI reads s strictly as a SIP or SIPS URI (RFC 3261 §19.1, §25.1) or, for any other scheme, as an absolute URI
// whose scheme-specific part is not interpreted (sip.Uri.Raw).
//
// What it returns writes itself exactly as s, except for the case of the scheme, of the names of well-known parameters,
// and zeros before a port. Nothing is unescaped.
func ParseURI(s string) (sip.Uri, error) {
	u, f := readURI(nil, s)
	if f != nil {
		return sip.Uri{}, f
	}
	return u, nil
}

func readURI(mem *memory, s string) (u sip.Uri, f *fault) {
	colon := strings.IndexByte(s, ':')
	if colon <= 0 || !letter(s[0]) || !all(s[:colon], isScheme) {
		return u, bad("URI without scheme")
	}
	scheme, rest := s[:colon], s[colon+1:]
	switch {
	case strings.EqualFold(scheme, "sip"):
		u.Scheme = "sip"
	case strings.EqualFold(scheme, "sips"):
		u.Scheme = "sips"
	default:
		if rest == "" || !all(rest, isOpaque) || !escapesOK(rest) {
			return u, bad("malformed URI")
		}
		// sipgo keeps the uninterpreted part in a private field and takes only letters for a scheme.
		var other sip.Uri // its address is taken, which is why it is not u
		if err := sip.ParseUri("other:"+rest, &other); err != nil {
			return u, bad("malformed URI")
		}
		other.Scheme = strings.ToLower(scheme)
		return other, nil
	}

	if at := strings.IndexByte(rest, '@'); at >= 0 {
		user := rest[:at]
		rest = rest[at+1:]
		if c := strings.IndexByte(user, ':'); c >= 0 {
			if !allEscaped(user[c+1:], isPassword) {
				return u, bad("malformed password in URI")
			}
			// An empty password is written by nobody but would be lost; it stays part of the user.
			if c+1 < len(user) {
				u.Password, user = user[c+1:], user[:c]
			} else if c == 0 {
				user = ""
			}
		}
		if bare := strings.TrimSuffix(user, ":"); bare == "" || !allEscaped(bare, isUser) {
			return u, bad("malformed user in URI")
		}
		u.User = user
	}

	var ok bool
	if u.Host, rest, ok = takeHost(rest, true); !ok {
		return u, bad("malformed host in URI")
	}
	if rest != "" && rest[0] == ':' {
		end := 1
		for end < len(rest) && rest[end] != ';' && rest[end] != '?' {
			end++
		}
		if u.Port, ok = port(rest[1:end]); !ok {
			return u, bad("malformed port in URI")
		}
		rest = rest[end:]
	}
	var headers string
	if q := strings.IndexByte(rest, '?'); q >= 0 {
		rest, headers = rest[:q], rest[q+1:]
		if headers == "" {
			return u, bad("malformed headers in URI")
		}
	}
	var params sip.HeaderParams
	for rest != "" {
		if rest[0] != ';' {
			return u, bad("malformed URI")
		}
		end := strings.IndexByte(rest[1:], ';') + 1
		if end == 0 {
			end = len(rest)
		}
		name, value, has := strings.Cut(rest[1:end], "=")
		if name == "" || !allEscaped(name, isParam) || has && (value == "" || !allEscaped(value, isParam)) {
			return u, bad("malformed parameter in URI")
		}
		if !addParam(mem, &params, name, value) {
			return u, bad("parameter twice in URI")
		}
		rest = rest[end:]
	}
	u.UriParams = mem.end(params, 0)
	for headers != "" {
		var h string
		var more bool
		if h, headers, more = strings.Cut(headers, "&"); more && headers == "" {
			return u, bad("malformed headers in URI")
		}
		name, value, has := strings.Cut(h, "=")
		if !has || name == "" || !allEscaped(name, isHeader) || !allEscaped(value, isHeader) {
			return u, bad("malformed headers in URI")
		}
		if value == "" {
			name += "=" // sipgo would write the name alone, which is no header
		}
		u.Headers = append(u.Headers, sip.HeaderKV{K: name, V: value})
	}
	return u, nil
}

// addParam appends a parameter and reports false if it is there already (RFC 3261 §7.3.1).
func addParam(mem *memory, p *sip.HeaderParams, name, value string) bool {
	name = lower(name)
	for i := range *p {
		if len((*p)[i].K) == len(name) && strings.EqualFold((*p)[i].K, name) {
			return false
		}
	}
	if *p == nil {
		*p = mem.begin()
	}
	*p = append(*p, sip.HeaderKV{K: name, V: value})
	return len(*p) <= MaxHeaders
}

func escapesOK(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && (i+2 >= len(s) || !hex(s[i+1]) || !hex(s[i+2])) {
			return false
		}
	}
	return true
}

func port(s string) (int, bool) {
	n, ok := number(s, 65535)
	return int(n), ok && n > 0
}

// takeHost cuts a host off the front of s: a domain name, an IPv4 address or an IPv6 address in brackets. sipgo wants the
// brackets kept in a URI and taken off in a Via.
func takeHost(s string, brackets bool) (host, rest string, ok bool) {
	if s != "" && s[0] == '[' {
		end := strings.IndexByte(s, ']')
		if end < 0 || !ipv6(s[1:end]) {
			return "", s, false
		}
		if brackets {
			return s[:end+1], s[end+1:], true
		}
		return s[1:end], s[end+1:], true
	}
	i := 0
	for i < len(s) && class[s[i]]&isHost != 0 {
		i++
	}
	return s[:i], s[i:], domainName(s[:i])
}

// domainName reports that s is a domain name or an IPv4 address. A last label of digits makes it an address (RFC 3261 §25.1).
func domainName(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	labels := strings.TrimSuffix(s, ".")
	for rest, more := labels, true; more; {
		var label string
		label, rest, more = strings.Cut(rest, ".")
		if label == "" || len(label) > 63 {
			return false
		}
		if !more && digits(label) {
			return ipv4(s)
		}
	}
	return true
}

// ipv4 reports that s is an IPv4 address: four numbers without leading zeros.
func ipv4(s string) bool {
	for n := 0; ; n++ {
		octet, rest, more := strings.Cut(s, ".")
		if v, ok := number(octet, 255); !ok || len(octet) > 1 && octet[0] == '0' || len(octet) > 3 || n > 3 || v > 255 {
			return false
		}
		if !more {
			return n == 3
		}
		s = rest
	}
}

// plainIPv6 reports that sipgo puts brackets around host: an IPv6 address, but not one mapped from IPv4.
func plainIPv6(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Is6() && !a.Is4In6() && a.Zone() == ""
}

// ipv6 reports that s is an IPv6 address without zone. Three colons before an embedded IPv4 address come from an error in
// RFC 3261's grammar and have to be tolerated (RFC 5118 §4.10).
func ipv6(s string) bool {
	if len(s) > 45 {
		return false
	}
	a, err := netip.ParseAddr(s)
	if err != nil && strings.Contains(s, ":::") {
		a, err = netip.ParseAddr(strings.Replace(s, ":::", "::", 1))
	}
	return err == nil && a.Is6() && a.Zone() == ""
}
