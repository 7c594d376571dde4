package sdp

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Transport is what a description says about how a stream travels: all that a node in between replaces.
type Transport struct {
	// RTP is the default destination: the address of c= and the port of m=. Its address is invalid where there is no c= line
	// or it gives a name; an unspecified one (0.0.0.0) is what RFC 2543 put a call on hold with. Port 0: no stream.
	RTP netip.AddrPort
	// RTCP is where a=rtcp says (RFC 3605), else the next port (RFC 3550 §11). When written it counts only if it says
	// something: not where it is the next port, or invalid.
	RTCP netip.AddrPort
	Host string // the name, where c= gives a name

	Mux     bool   // a=rtcp-mux (RFC 5761)
	Profile string // the m= line's protocol (ParseProfile)

	ICE          *ICE          // nil: without
	Fingerprints []Fingerprint // of certificates for DTLS-SRTP; none where they are not understood
	Setup        Setup         // role in DTLS; SetupNone where nothing is said
	TLSID        string        // a=tls-id (RFC 8842)
	Crypto       []Crypto      // a=crypto (RFC 4568), those that are understood
}

// ICE is what a description says about it (RFC 8839).
type ICE struct {
	Ufrag, Pwd string
	Lite       bool
	Options    []string // tags of ice-options
	Candidates []Candidate
	End        bool // a=end-of-candidates (RFC 8840): no more will come
	Mismatch   bool // a=ice-mismatch: the writer saw that c= or m= was changed on the way, and does without ICE
}

// Usable reports whether credentials are there, and the writer has not given it up.
func (i *ICE) Usable() bool { return i != nil && i.Ufrag != "" && i.Pwd != "" && !i.Mismatch }

// Transport reads what the stream's lines, and the session part's where they are silent, say.
func (m *Media) Transport() Transport {
	t := Transport{Profile: m.Proto}
	addr, host := m.connection()
	t.RTP, t.Host = netip.AddrPortFrom(addr, m.Port), host
	t.RTCP = m.rtcp(addr)
	_, t.Mux = m.Attribute("rtcp-mux")
	t.ICE = m.ice()
	for _, v := range m.inheritedAll("fingerprint") {
		if f, ok := parseFingerprint(v); ok {
			t.Fingerprints = append(t.Fingerprints, f)
		}
	}
	if v, ok := m.inherited("setup"); ok {
		t.Setup = parseSetup(v)
	}
	if v, ok := m.inherited("tls-id"); ok && validTLSID(v) {
		t.TLSID = v
	}
	for _, v := range m.Attributes("crypto") {
		if c, ok := parseCrypto(v); ok {
			t.Crypto = append(t.Crypto, c)
		}
	}
	return t
}

// inheritedAll is all attributes of that name: the stream's, or else the session part's.
func (m *Media) inheritedAll(name string) []string {
	if all := m.Attributes(name); len(all) > 0 || m.session == nil {
		return all
	}
	return m.session.Attributes(name)
}

// connection reads c=: the stream's, else the session part's. Of several addresses the first counts.
func (m *Media) connection() (addr netip.Addr, host string) {
	sections := [][]Line{m.Lines}
	if m.session != nil {
		sections = append(sections, m.session.Lines)
	}
	for _, lines := range sections {
		for _, l := range lines {
			if l.Key == 'c' {
				return parseConnection(l.Value)
			}
		}
	}
	return netip.Addr{}, ""
}

// parseConnection reads "IN IP4 192.0.2.1", with what multicast adds behind a slash (RFC 8866 §5.7).
func parseConnection(v string) (netip.Addr, string) {
	f := strings.Fields(v)
	if len(f) < 3 || !strings.EqualFold(f[0], "IN") {
		return netip.Addr{}, ""
	}
	return parseHost(strings.SplitN(f[2], "/", 2)[0])
}

// parseHost reads an address without zone, or else a name.
func parseHost(s string) (netip.Addr, string) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.WithZone("").Unmap(), ""
	}
	if !isName(s) {
		return netip.Addr{}, ""
	}
	return netip.Addr{}, s
}

// isName says whether s may be the name of a host.
func isName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && !isDigit(c) && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// rtcp reads "a=rtcp:53020" and "a=rtcp:53020 IN IP6 2001:db8::1" (RFC 3605 §2.1).
func (m *Media) rtcp(addr netip.Addr) netip.AddrPort {
	if v, ok := m.Attribute("rtcp"); ok {
		port, where, _ := strings.Cut(v, " ")
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && n != 0 {
			if a, _ := parseConnection(where); a.IsValid() {
				addr = a
			}
			return netip.AddrPortFrom(addr, uint16(n))
		}
	}
	if m.Port == 0 || m.Port == 65535 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, m.Port+1)
}

// ice reads the attributes of RFC 8839 §5, nil where there are none.
func (m *Media) ice() *ICE {
	ice := &ICE{}
	ice.Ufrag, _ = m.inherited("ice-ufrag")
	ice.Pwd, _ = m.inherited("ice-pwd")
	if !isICEString(ice.Ufrag, 4, 256) || !isICEString(ice.Pwd, 22, 256) {
		ice.Ufrag, ice.Pwd = "", ""
	}
	_, ice.Mismatch = m.Attribute("ice-mismatch")
	for _, v := range m.Attributes("candidate") {
		if c, ok := ParseCandidate(v); ok {
			ice.Candidates = append(ice.Candidates, c)
		}
	}
	if ice.Ufrag == "" && !ice.Mismatch && len(ice.Candidates) == 0 {
		return nil
	}
	_, ice.Lite = m.inherited("ice-lite")
	_, ice.End = m.inherited("end-of-candidates")
	if v, ok := m.inherited("ice-options"); ok {
		ice.Options = strings.Fields(v)
	}
	return ice
}

// isICEString: ice-char is a letter, digit, "+" or "/" (RFC 8839 §5.1). Browsers of old used "-" and "_" too.
func isICEString(s string, least, most int) bool {
	if len(s) < least || len(s) > most {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && !isDigit(c) && strings.IndexByte("+/-_=", c) < 0 {
			return false
		}
	}
	return true
}

// transportAttributes are those that say how a stream travels, in a stream's lines and in the session part. What
// alternatives to it are described with goes too (RFC 5939, 6947), or one of them might be taken.
var transportAttributes = map[string]bool{
	"rtcp": true, "rtcp-mux": true, "rtcp-mux-only": true, // RFC 3605, 5761, 8858
	"candidate": true, "remote-candidates": true, "end-of-candidates": true, // RFC 8839, 8840
	"ice-ufrag": true, "ice-pwd": true, "ice-options": true, "ice-lite": true, "ice-mismatch": true, "ice-pacing": true,
	"fingerprint": true, "setup": true, "connection": true, "tls-id": true, "dtls-id": true, // RFC 8122, 4145, 8842
	"crypto": true, "key-mgmt": true, // RFC 4568, 4567
	"bundle-only": true, "source-filter": true, "direction": true, // RFC 8843, 4570, comedia before RFC 4145
	"tcap": true, "acap": true, "pcfg": true, "acfg": true, "ccap": true, "altc": true, // RFC 5939, 7006, 6947
}

func isTransport(name string) bool {
	return transportAttributes[name] || strings.HasPrefix(name, "x-candidate")
}

// ClearTransport drops what the session part says about transport for all streams: c=, k= and attributes. The groups of
// BUNDLE go with them (RFC 8843): streams that a node carries do not share a path. To be called before SetTransport.
func (s *Session) ClearTransport() {
	s.Lines = slices.DeleteFunc(without(s.Lines, isTransport), func(l Line) bool {
		name, v := l.attribute()
		return l.Key == 'c' || l.Key == 'k' || name == "group" && isBundle(v)
	})
}

func isBundle(group string) bool {
	f := strings.Fields(group)
	return len(f) > 0 && strings.EqualFold(f[0], "BUNDLE")
}

// ClearTransport drops what the stream's lines say about transport, but for its protocol and port.
func (m *Media) ClearTransport() {
	m.Lines = slices.DeleteFunc(without(m.Lines, isTransport), func(l Line) bool {
		return l.Key == 'c' || l.Key == 'k'
	})
}

// Reject makes the stream one that is refused: port 0, nothing about transport (RFC 3264 §6).
func (m *Media) Reject() {
	m.ClearTransport()
	m.Port, m.Ports = 0, 1
}

// SetTransport replaces what the stream's lines say about transport. The session part is not looked at (ClearTransport).
func (m *Media) SetTransport(t Transport) {
	m.ClearTransport()
	m.Port, m.Ports = t.RTP.Port(), 1
	if t.Profile != "" {
		m.Proto = t.Profile
	}
	if a := t.RTP.Addr(); a.IsValid() {
		m.Lines = insert(m.Lines, mediaOrder, Line{'c', connectionValue(a)})
	}
	if r := t.RTCP; r.IsValid() && r.Port() != 0 && (r.Addr() != t.RTP.Addr() || r.Port() != t.RTP.Port()+1) {
		v := strconv.Itoa(int(r.Port()))
		if r.Addr() != t.RTP.Addr() {
			v += " " + connectionValue(r.Addr())
		}
		m.AddAttribute("rtcp", v)
	}
	if t.Mux {
		m.AddAttribute("rtcp-mux", "")
	}
	m.setICE(t.ICE)
	for _, f := range t.Fingerprints {
		m.AddAttribute("fingerprint", f.String())
	}
	if t.Setup != SetupNone {
		m.AddAttribute("setup", t.Setup.String())
	}
	if t.TLSID != "" {
		m.AddAttribute("tls-id", t.TLSID)
	}
	for _, c := range t.Crypto {
		m.AddAttribute("crypto", c.String())
	}
}

func (m *Media) setICE(i *ICE) {
	switch {
	case i == nil:
		return
	case i.Mismatch:
		m.AddAttribute("ice-mismatch", "")
		return
	}
	m.AddAttribute("ice-ufrag", i.Ufrag)
	m.AddAttribute("ice-pwd", i.Pwd)
	if len(i.Options) > 0 {
		m.AddAttribute("ice-options", strings.Join(i.Options, " "))
	}
	for _, c := range i.Candidates {
		m.AddAttribute("candidate", c.String())
	}
	if i.End {
		m.AddAttribute("end-of-candidates", "")
	}
}

func connectionValue(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	return fmt.Sprintf("IN %s %s", addrType(a), a)
}

// ShareConnection puts the c= line of the first stream in use into the session part, where every telephone looks for it, and
// drops it from all streams that have the same. other is for a description whose streams are all refused.
func (s *Session) ShareConnection(other netip.Addr) {
	addr := other
	for _, m := range s.Media {
		if a, _ := parseConnection(m.own('c')); a.IsValid() && m.Port != 0 {
			addr = a
			break
		}
	}
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	s.Lines = slices.DeleteFunc(s.Lines, func(l Line) bool { return l.Key == 'c' })
	s.Lines = insert(s.Lines, sessionOrder, Line{'c', connectionValue(addr)})
	for _, m := range s.Media {
		m.Lines = slices.DeleteFunc(m.Lines, func(l Line) bool {
			a, _ := parseConnection(l.Value)
			return l.Key == 'c' && a == addr
		})
	}
}

// own is the value of the stream's first line of that kind.
func (m *Media) own(key byte) string {
	for _, l := range m.Lines {
		if l.Key == key {
			return l.Value
		}
	}
	return ""
}
