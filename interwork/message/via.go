package message

import (
	"strings"

	"github.com/emiago/sipgo/sip"
)

// magicCookie begins every branch of RFC 3261 §8.1.1.7. A branch that is nothing else identifies no transaction.
const magicCookie = "z9hG4bK"

// readVia reads one via-parm off the front of s (RFC 3261 §20.42, §25.1):
//
//	via-parm = "SIP" SLASH "2.0" SLASH transport LWS host [ COLON port ] *( SEMI via-params )
//
// What remains is "" or begins with the comma that ends the value.
func readVia(mem *memory, s string, first bool) (v *sip.ViaHeader, rest string, f *fault) {
	v = mem.via(first)
	var ok bool
	s = trimLeft(s)
	if v.ProtocolName, s = takeToken(s); v.ProtocolName == "" {
		return nil, s, bad("malformed Via protocol")
	}
	if s, ok = takeSep(s, '/'); !ok {
		return nil, s, bad("malformed Via protocol")
	}
	if v.ProtocolVersion, s = takeToken(s); v.ProtocolVersion == "" {
		return nil, s, bad("malformed Via version")
	}
	if s, ok = takeSep(s, '/'); !ok {
		return nil, s, bad("malformed Via version")
	}
	if v.Transport, s = takeToken(s); v.Transport == "" || s == "" || !isLWS(s[0]) {
		return nil, s, bad("malformed Via transport")
	}
	if v.Host, s, ok = takeHost(trimLeft(s), false); !ok {
		return nil, s, bad("malformed Via host")
	}
	if strings.IndexByte(v.Host, ':') >= 0 {
		// sipgo puts the brackets back, but not around an IPv4 address mapped into IPv6, nor around what RFC 5118 §4.10
		// tolerates. Those keep theirs.
		if !plainIPv6(v.Host) {
			v.Host = "[" + v.Host + "]"
		}
	}
	if after, ok := takeSep(s, ':'); ok {
		i := 0
		for i < len(after) && after[i] >= '0' && after[i] <= '9' {
			i++
		}
		if v.Port, ok = port(after[:i]); !ok {
			return nil, s, bad("malformed Via port")
		}
		s = after[i:]
	}
	spare := 0
	if first {
		spare = 1 // the flow adds where the request came from
	}
	if v.Params, s, f = readParams(mem, s, spare); f != nil {
		return nil, s, f
	}
	return v, s, nil
}
