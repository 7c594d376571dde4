package credential

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Transports that a turn: URI may name.
const (
	UDP = "udp"
	TCP = "tcp"
)

// Ports of TURN (RFC 8656 §19).
const (
	DefaultPort       = 3478
	DefaultSecurePort = 5349
)

// URI is where TURN is served: a turn: or turns: URI (RFC 7065) with an IP address.
type URI struct {
	Secure    bool   // turns: TLS
	Transport string // UDP or TCP
	Addr      netip.AddrPort
}

// String writes the URI: "turn:192.0.2.7:3478?transport=udp", "turns:[2001:db8::7]:443?transport=tcp".
func (u URI) String() string {
	scheme := "turn:"
	if u.Secure {
		scheme = "turns:"
	}
	return scheme + u.Addr.String() + "?transport=" + u.Transport
}

// ParseURI reads a turn: or turns: URI. What is not said follows from RFC 7065 §3.2 and RFC 5928: port 3478 or 5349, UDP for
// turn:, TCP for turns:. A name in the place of the address is refused, because nobody should resolve what a stranger wrote,
// and turns: over UDP, because DTLS is not spoken here.
func ParseURI(s string) (u URI, err error) {
	bad := func(why string) (URI, error) { return URI{}, fmt.Errorf("%w: %.128q %s", ErrMalformed, s, why) }
	if len(s) > maxURI {
		return bad("is too long for a TURN URI")
	}
	scheme, rest, _ := strings.Cut(s, ":")
	port := uint16(DefaultPort)
	u.Transport = UDP
	switch strings.ToLower(scheme) {
	case "turn":
	case "turns":
		u.Secure, u.Transport, port = true, TCP, DefaultSecurePort
	default:
		return bad("is no turn: or turns: URI")
	}
	host, query, asked := strings.Cut(rest, "?")
	if asked {
		name, value, _ := strings.Cut(query, "=")
		if !strings.EqualFold(name, "transport") {
			return bad("has something else than a transport behind the question mark")
		}
		u.Transport = strings.ToLower(value)
	}
	if u.Transport != TCP && (u.Transport != UDP || u.Secure) {
		return bad("names a transport that is not spoken here")
	}
	at, digits := host, ""
	if end := strings.LastIndexByte(host, ']'); strings.HasPrefix(host, "[") && end > 0 {
		at, digits = host[1:end], host[end+1:]
		if digits != "" && !strings.HasPrefix(digits, ":") {
			return bad("has no port behind its address")
		}
		digits = strings.TrimPrefix(digits, ":")
		if strings.IndexByte(at, ':') < 0 {
			return bad("has no IPv6 address in its brackets")
		}
	} else {
		at, digits, _ = strings.Cut(host, ":")
	}
	if digits != "" {
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n == 0 {
			return bad("has no valid port")
		}
		port = uint16(n)
	}
	a, err := netip.ParseAddr(at)
	if err != nil || a.Zone() != "" {
		return bad("has no IP address")
	}
	u.Addr = netip.AddrPortFrom(a, port)
	return u, nil
}
