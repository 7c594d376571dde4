package sdp

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Line is one line of a description: "a=rtcp-mux" has the key 'a' and the value "rtcp-mux". The value is kept octet for
// octet, spaces at its end included, and holds neither CR, LF nor NUL.
type Line struct {
	Key   byte
	Value string
}

// Session is one description. Lines are those of the session part in order, from v= on.
type Session struct {
	Lines []Line
	Media []*Media
}

// Media is one stream: its m= line in parts, and the lines below it in order.
type Media struct {
	Kind    string   // audio, video, text, image, application, message, or what else stands there
	Port    uint16   // 0: the stream is refused or taken away (RFC 3264 §6, §8.2)
	Ports   int      // number of ports, 1 almost always (RFC 8866 §5.14)
	Proto   string   // RTP/AVP and the like, as it was written
	Formats []string // payload types for RTP
	Lines   []Line

	session *Session // whose lines count where this stream's say nothing; nil for a stream made by hand
}

// Clone gives a copy that shares nothing with s.
func (s *Session) Clone() *Session {
	c := &Session{Lines: slices.Clone(s.Lines), Media: make([]*Media, len(s.Media))}
	for i, m := range s.Media {
		c.Media[i] = m.clone(c)
	}
	return c
}

// Add appends a copy of m as the last stream of s.
func (s *Session) Add(m *Media) {
	s.Media = append(s.Media, m.clone(s))
}

func (m *Media) clone(s *Session) *Media {
	c := *m
	c.Formats, c.Lines, c.session = slices.Clone(m.Formats), slices.Clone(m.Lines), s
	return &c
}

// Origin is the o= line (RFC 8866 §5.2). ID and Version are kept as text; they are decimal numbers of up to 64 bits when
// the writer knows the rules.
type Origin struct {
	Username string
	ID       string
	Version  string
	NetType  string // IN
	AddrType string // IP4, IP6
	Address  string
}

// String gives the value of the line.
func (o Origin) String() string {
	return strings.Join([]string{o.Username, o.ID, o.Version, o.NetType, o.AddrType, o.Address}, " ")
}

// parseOrigin reads from the right, because telephones put their user's name at the left, spaces and all.
func parseOrigin(v string) (Origin, bool) {
	f := strings.Fields(v)
	if len(f) < 5 {
		return Origin{}, false
	}
	name, f := strings.Join(f[:len(f)-5], "-"), f[len(f)-5:]
	if name == "" {
		name = "-"
	}
	return Origin{name, f[0], f[1], f[2], f[3], f[4]}, true
}

// Origin reads the o= line.
func (s *Session) Origin() Origin {
	for _, l := range s.Lines {
		if l.Key == 'o' {
			o, _ := parseOrigin(l.Value)
			return o
		}
	}
	return Origin{}
}

// SetOrigin replaces the o= line.
func (s *Session) SetOrigin(o Origin) {
	for i, l := range s.Lines {
		if l.Key == 'o' {
			s.Lines[i].Value = o.String()
			return
		}
	}
	s.Lines = insert(s.Lines, sessionOrder, Line{'o', o.String()})
}

// NewOrigin is an o= line with numbers of this node's. An invalid address is written as 0.0.0.0.
func NewOrigin(username string, id, version uint64, a netip.Addr) Origin {
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	a = a.Unmap().WithZone("")
	return Origin{username, strconv.FormatUint(id, 10), strconv.FormatUint(version, 10), "IN", addrType(a), a.String()}
}

// addrType is the <addrtype> of a (RFC 8866 §9).
func addrType(a netip.Addr) string {
	if a.Is6() {
		return "IP6"
	}
	return "IP4"
}

// Orders of lines (RFC 8866 §5, and §9 for the exact one). Lines are never sorted; the order says where a new one goes.
const (
	sessionOrder = "vosiuepcbtrzka"
	mediaOrder   = "icbka"
)

// insert puts l behind the last line whose kind comes before it or is the same.
func insert(lines []Line, order string, l Line) []Line {
	rank := strings.IndexByte(order, l.Key)
	at := 0
	for i, o := range lines {
		if r := strings.IndexByte(order, o.Key); r >= 0 && r <= rank {
			at = i + 1
		}
	}
	return slices.Insert(lines, at, l)
}
