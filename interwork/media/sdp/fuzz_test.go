package sdp

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

// FuzzParse holds Parse to its word: what it takes comes out with every line in its place, and everything that can be asked of
// it can be asked.
func FuzzParse(f *testing.F) {
	for _, text := range descriptions(f) {
		f.Add([]byte(text))
	}
	f.Add([]byte(plain))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		out := s.Marshal()
		if want := tidied(b); !bytes.Equal(withoutAdded(out, b), want) {
			t.Fatalf("got\n%q\nwant\n%q", out, want)
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("what was written is not read: %v\n%q", err, out)
		}
		if !bytes.Equal(again.Marshal(), out) {
			t.Fatalf("it changes again:\n%q\n%q", again.Marshal(), out)
		}
		ask(t, again)
		if !bytes.Equal(again.Marshal(), out) {
			t.Fatal("asking has changed it")
		}
		c := again.Clone()
		replace(c)
		if !bytes.Equal(again.Marshal(), out) {
			t.Fatal("changing a copy has changed it")
		}
		if _, err := Parse(c.Marshal()); err != nil {
			t.Fatalf("with another transport it is not read: %v\n%q", err, c.Marshal())
		}
	})
}

// tidied is b by the rules of Parse, but for the lines it adds: CRLF, no empty lines, single spaces in m=.
func tidied(b []byte) []byte {
	var out []byte
	for _, l := range bytes.Split(b, []byte("\n")) {
		l = bytes.TrimRight(l, "\r")
		if len(bytes.TrimSpace(l)) == 0 {
			continue
		}
		if l[0] == 'm' {
			f := bytes.Fields(l[2:])
			if len(f) == 3 {
				f = append(f, []byte("0"))
			}
			f[1] = tidiedPort(string(f[1]))
			l = append([]byte("m="), bytes.Join(f, []byte(" "))...)
		}
		if string(l) == "s=" && !bytes.Contains(out, []byte("\nm=")) {
			l = []byte("s=-")
		}
		out = append(append(out, l...), "\r\n"...)
	}
	return out
}

func tidiedPort(p string) []byte {
	port, ports, _ := strings.Cut(p, "/")
	if port = strings.TrimLeft(port, "0"); port == "" {
		port = "0"
	}
	if ports = strings.TrimLeft(strings.TrimPrefix(ports, "+"), "0"); ports != "" && ports != "1" {
		port += "/" + ports
	}
	return []byte(port)
}

// withoutAdded takes away the lines that Parse has added to b.
func withoutAdded(out, b []byte) []byte {
	session, _, _ := bytes.Cut(append([]byte("\n"), b...), []byte("\nm="))
	for key, added := range map[string]string{"\ns=": "s=-\r\n", "\nt=": "t=0 0\r\n"} {
		if !bytes.Contains(session, []byte(key)) {
			out = bytes.Replace(out, []byte("\r\n"+added), []byte("\r\n"), 1)
		}
	}
	return out
}

func ask(t *testing.T, s *Session) {
	s.Origin()
	for _, m := range s.Media {
		tr := m.Transport()
		m.Direction()
		m.Main()
		tr.Misled()
		if tr.ICE != nil {
			for _, c := range tr.ICE.Candidates {
				if d, ok := ParseCandidate(c.String()); !ok || d != c {
					t.Fatalf("%+v is written %q and read %+v, %v", c, c.String(), d, ok)
				}
				c.Addr()
			}
		}
		for _, c := range tr.Crypto {
			if d, ok := parseCrypto(c.String()); !ok || d.String() != c.String() || d.KeySalt != c.KeySalt || d.MKI != c.MKI {
				t.Fatalf("%+v is written %q and read %+v, %v", c, c.String(), d, ok)
			}
		}
		for _, p := range tr.Fingerprints {
			if q, ok := parseFingerprint(p.String()); !ok || q != p {
				t.Fatalf("%q is read %q, %v", p, q, ok)
			}
		}
	}
}

func replace(s *Session) {
	s.ClearTransport()
	for _, m := range s.Media {
		m.SetTransport(Transport{RTP: netip.MustParseAddrPort("192.0.2.1:4000"), Mux: true})
		m.SetDirection(Inactive)
	}
	s.ShareConnection(netip.Addr{})
	s.SetOrigin(NewOrigin("-", 1, 1, netip.Addr{}))
}
