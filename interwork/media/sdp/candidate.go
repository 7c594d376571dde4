package sdp

import (
	"net/netip"
	"strconv"
	"strings"
)

// Candidate is one a=candidate (RFC 8839 §5.1).
type Candidate struct {
	Foundation string
	Component  int    // 1 for RTP, 2 for RTCP
	Transport  string // UDP, TCP (RFC 6544), as it was written
	Priority   uint32
	Address    string // an IP address, or a name, which ends in .local where a browser hides its address
	Port       uint16
	Type       string // host, srflx, prflx, relay
	RelAddr    string // raddr: what it was seen from; "" without
	RelPort    uint16
	TCPType    string // active, passive, so (RFC 6544)
	Extensions string // what else follows, names and values, as it was written: "generation 0 network-id 1"
}

// Addr is the address and port, and whether Address is an IP address.
func (c Candidate) Addr() (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(c.Address)
	if err != nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.WithZone("").Unmap(), c.Port), true
}

// UDP says whether it is a candidate for UDP.
func (c Candidate) UDP() bool { return strings.EqualFold(c.Transport, "udp") }

// ParseCandidate reads an attribute's value, with or without "candidate:" in front. False: not by the grammar, or a field
// is longer or larger than it allows.
func ParseCandidate(v string) (c Candidate, ok bool) {
	v = strings.TrimSpace(v)
	if len(v) > 10 && strings.EqualFold(v[:10], "candidate:") {
		v = v[10:]
	}
	f := strings.Fields(v)
	if len(f) < 8 || len(v) > 1024 || !strings.EqualFold(f[6], "typ") {
		return c, false
	}
	component, err1 := strconv.ParseUint(f[1], 10, 9)
	priority, err2 := strconv.ParseUint(f[3], 10, 32)
	port, err3 := strconv.ParseUint(f[5], 10, 16)
	if err1 != nil || err2 != nil || err3 != nil || component == 0 || component > 256 || priority > 1<<31-1 {
		return c, false
	}
	c = Candidate{Foundation: f[0], Component: int(component), Transport: f[2], Priority: uint32(priority),
		Address: f[4], Port: uint16(port), Type: strings.ToLower(f[7])}
	if !isICEString(c.Foundation, 1, 32) || !isToken(c.Transport) || !isToken(c.Type) || !isHost(c.Address) {
		return Candidate{}, false
	}
	return c, c.extensions(f[8:])
}

// extensions reads the pairs behind the type.
func (c *Candidate) extensions(f []string) bool {
	var rest []string
	for ; len(f) > 0; f = f[2:] {
		if len(f) == 1 {
			return false
		}
		switch value := f[1]; strings.ToLower(f[0]) {
		case "raddr":
			if !isHost(value) {
				return false
			}
			c.RelAddr = value
		case "rport":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return false
			}
			c.RelPort = uint16(n)
		case "tcptype":
			if !isToken(value) {
				return false
			}
			c.TCPType = strings.ToLower(value)
		default:
			rest = append(rest, f[0], value)
		}
	}
	if c.RelAddr == "" {
		c.RelPort = 0
	}
	c.Extensions = strings.Join(rest, " ")
	return true
}

// String is the attribute's value, without "candidate:".
func (c Candidate) String() string {
	b := make([]byte, 0, 96)
	b = append(b, c.Foundation...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(c.Component), 10)
	b = append(b, ' ')
	b = append(b, c.Transport...)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(c.Priority), 10)
	b = append(b, ' ')
	b = append(b, c.Address...)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(c.Port), 10)
	b = append(b, " typ "...)
	b = append(b, c.Type...)
	if c.RelAddr != "" {
		b = append(b, " raddr "...)
		b = append(b, c.RelAddr...)
		b = append(b, " rport "...)
		b = strconv.AppendUint(b, uint64(c.RelPort), 10)
	}
	if c.TCPType != "" {
		b = append(b, " tcptype "...)
		b = append(b, c.TCPType...)
	}
	if c.Extensions != "" {
		b = append(b, ' ')
		b = append(b, c.Extensions...)
	}
	return string(b)
}

// isHost: an address, without zone, or a name.
func isHost(s string) bool {
	a, err := netip.ParseAddr(s)
	if err == nil {
		return a.Zone() == ""
	}
	return isName(s)
}

// isToken follows RFC 8866 §9.
func isToken(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && !isDigit(c) && strings.IndexByte("!#$%&'*+-.^_`{|}~", c) < 0 {
			return false
		}
	}
	return true
}
