package sdp

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const plain = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n" +
	"m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"

func mustParse(t *testing.T, text string) *Session {
	t.Helper()
	s, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// descriptions are what telephones wrote, or might have: those named baresip and sipp were taken from the programs.
func descriptions(t testing.TB) map[string]string {
	files, err := filepath.Glob("testdata/descriptions/*.sdp")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files in testdata/descriptions (%v)", len(files), err)
	}
	all := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".sdp")] = string(b)
	}
	return all
}

func TestWhatIsReadIsWritten(t *testing.T) {
	// Those that are bent come out as they should have been.
	repaired := map[string]string{
		"bent": "v=0 \r\no=Front Desk 8000 16500 IN IP4 192.0.2.77 \r\ns=-\r\nc=IN IP4 192.0.2.77 \r\nt=0 0\r\n" +
			"m=audio 16500 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000 \r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv \r\n",
	}
	for name, text := range descriptions(t) {
		want := strings.ReplaceAll(text, "s=\r\n", "s=-\r\n")
		want = strings.ReplaceAll(want, "m=audio 0 RTP/AVP\r\n", "m=audio 0 RTP/AVP 0\r\n")
		if r, ok := repaired[name]; ok {
			want = r
		}
		if got := string(mustParse(t, text).Marshal()); got != want {
			t.Errorf("%s: got\n%s", name, got)
		}
		bare := strings.ReplaceAll(text, "\r\n", "\n")
		if got := string(mustParse(t, bare).Marshal()); got != want {
			t.Errorf("%s with bare line feeds: got\n%s", name, got)
		}
	}
}

// ofTransport is written by hand from the RFCs, so that a name lost from the package's list is found.
var ofTransport = regexp.MustCompile(`^([ck]=|a=(rtcp|rtcp-mux|rtcp-mux-only|candidate|remote-candidates|end-of-candidates|ice-ufrag|` +
	`ice-pwd|ice-options|ice-lite|ice-mismatch|ice-pacing|fingerprint|setup|connection|tls-id|crypto|key-mgmt|bundle-only|` +
	`source-filter|direction|tcap|acap|pcfg|acfg|ccap|altc|x-candidate[a-z0-9-]*)(:|$)|a=group:BUNDLE)`)

func TestOnlyTransportIsReplaced(t *testing.T) {
	to := Transport{RTP: netip.MustParseAddrPort("198.51.100.1:20000"), Profile: "RTP/TEST"}
	for name, text := range descriptions(t) {
		s := mustParse(t, text)
		var want []string
		for line := range strings.SplitSeq(string(s.Marshal()), "\r\n") {
			if kind, rest, ok := strings.Cut(strings.TrimPrefix(line, "m="), " "); strings.HasPrefix(line, "m=") && ok {
				f := strings.Fields(rest)
				line = "m=" + kind + " 20000 RTP/TEST " + strings.Join(f[2:], " ")
			}
			if !ofTransport.MatchString(line) {
				want = append(want, line)
			}
		}
		s.ClearTransport()
		for _, m := range s.Media {
			m.SetTransport(to)
		}
		s.ShareConnection(netip.Addr{})
		got := string(s.Marshal())
		if strings.Count(got, "c=IN IP4 198.51.100.1\r\n") != 1 || strings.Index(got, "c=") > strings.Index(got, "t=") {
			t.Errorf("%s: c= is not where it belongs:\n%s", name, got)
		}
		got = strings.Replace(got, "c=IN IP4 198.51.100.1\r\n", "", 1)
		if got != strings.Join(want, "\r\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, strings.Join(want, "\r\n"))
		}
	}
}

func TestTransportThatIsWrittenIsRead(t *testing.T) {
	for name, text := range descriptions(t) {
		s := mustParse(t, text)
		for i, m := range s.Clone().Media {
			was := m.Transport()
			if was.Host != "" || m.Ports != 1 {
				continue
			}
			if was.ICE != nil {
				was.ICE.Lite = false // never ours
			}
			m.SetTransport(was)
			m.session = nil
			is := m.Transport()
			if m.Port == 0 {
				was.RTCP, is.RTCP = netip.AddrPort{}, netip.AddrPort{}
			}
			if got, want := show(is), show(was); got != want {
				t.Errorf("%s, stream %d: got\n%s\nwant\n%s", name, i+1, got, want)
			}
		}
	}
}

func show(t Transport) string {
	ice := t.ICE
	t.ICE = nil
	if ice == nil {
		return fmt.Sprintf("%+v", t)
	}
	return fmt.Sprintf("%+v %+v", t, *ice)
}

func TestTransport(t *testing.T) {
	d := descriptions(t)
	for _, tt := range []struct {
		name   string
		stream int
		want   string
	}{
		{"baresip-plain", 0, "192.0.2.0:1 RTP/AVP"},
		{"baresip-dtls", 1, "UDP/TLS/RTP/SAVPF, 1 fingerprints actpass"},
		{"baresip-srtp", 0, "RTP/SAVP, 1 keys"},
		{"baresip-opportunistic", 0, "RTP/AVP, 1 keys"},
		{"baresip-ice", 0, "RTP/AVP, rtcp 192.0.2.2:15719, ice jthvYrY with 4 candidates"},
		{"linphone", 0, "RTP/AVPF, rtcp 192.0.2.31:7079, ice 6c1b9d2e with 4 candidates"},
		{"browser", 1, "UDP/TLS/RTP/SAVPF, mux, rtcp 0.0.0.0:9, ice lH3k with 0 candidates, 1 fingerprints actpass"},
		{"jitsi", 0, "RTP/SAVP, 2 keys, 1 fingerprints actpass"},
		{"lync", 0, "RTP/SAVP, rtcp 192.0.2.90:50041, 2 candidates, 2 keys"},
		{"rfc3264-several", 0, "RTP/AVP, host host.anywhere.example"},
		{"ice", 0, "mux, rtcp [2001:db8:2345::1]:53020, ice 8hhY with 3 candidates, lite, end, 2 fingerprints actpass, tls-id abc3de65cddef001be82"},
	} {
		tr := mustParse(t, d[tt.name]).Media[tt.stream].Transport()
		got := describe(tr)
		for w := range strings.SplitSeq(strings.TrimPrefix(tt.want, "192.0.2.0:1 "), ", ") {
			if !strings.Contains(got, w) {
				t.Errorf("%s, stream %d: got %q, which lacks %q", tt.name, tt.stream+1, got, w)
			}
		}
	}
}

func describe(t Transport) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, rtcp %s", t.Profile, t.RTCP)
	if t.Host != "" {
		fmt.Fprintf(&b, ", host %s", t.Host)
	}
	if t.Mux {
		b.WriteString(", mux")
	}
	if i := t.ICE; i != nil {
		fmt.Fprintf(&b, ", ice %s with %d candidates", i.Ufrag, len(i.Candidates))
		if i.Lite {
			b.WriteString(", lite")
		}
		if i.End {
			b.WriteString(", end")
		}
	}
	if len(t.Crypto) > 0 {
		fmt.Fprintf(&b, ", %d keys", len(t.Crypto))
	}
	if len(t.Fingerprints) > 0 {
		fmt.Fprintf(&b, ", %d fingerprints %s", len(t.Fingerprints), t.Setup)
	}
	if t.TLSID != "" {
		fmt.Fprintf(&b, ", tls-id %s", t.TLSID)
	}
	return b.String()
}

func TestParseRefuses(t *testing.T) {
	session := "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n"
	media := session + "m=audio 1 RTP/AVP 0\r\n"
	for name, text := range map[string]string{
		"nothing":             "",
		"lines without text":  "\r\n\r\n",
		"no v=":               "o=- 1 1 IN IP4 192.0.2.1\r\n",
		"version 1":           "v=1\r\no=- 1 1 IN IP4 192.0.2.1\r\n",
		"no o=":               "v=0\r\ns=-\r\n",
		"short o=":            "v=0\r\no=- 1 IN IP4\r\n",
		"two o=":              session + "o=- 1 1 IN IP4 192.0.2.1\r\n",
		"two v=":              session + "v=0\r\n",
		"two descriptions":    media + session,
		"HTML":                "<html>\r\n",
		"a line that goes on": session + " s=-\r\n",
		"NUL":                 session + "s=a\x00b\r\n",
		"CR":                  session + "s=a\rb\r\n",
		"port too high":       session + "m=audio 65536 RTP/AVP 0\r\n",
		"negative port":       session + "m=audio -1 RTP/AVP 0\r\n",
		"number of ports":     session + "m=audio 1/0 RTP/AVP 0\r\n",
		"no formats":          session + "m=audio 1 RTP/AVP\r\n",
		"no protocol":         session + "m=audio 1\r\n",
		"too large":           session + strings.Repeat("s=0123456789\r\n", MaxBytes/14),
		"too many lines":      session + strings.Repeat("\r\n", MaxLines),
		"a long line":         session + "s=" + strings.Repeat("x", MaxLine) + "\r\n",
		"too many streams":    session + strings.Repeat("m=audio 1 RTP/AVP 0\r\n", MaxMedia+1),
		"long session part":   session + strings.Repeat("a=x\r\n", MaxSection),
		"long stream":         media + strings.Repeat("a=x\r\n", MaxSection+1),
		"many formats":        session + "m=audio 1 RTP/AVP" + strings.Repeat(" 0", MaxFormats+1) + "\r\n",
		"many candidates":     media + strings.Repeat("a=candidate:1 1 UDP 1 192.0.2.1 1 typ host\r\n", MaxCandidates+1),
		"many keys":           media + strings.Repeat("a=crypto:1 x inline:x\r\n", MaxCrypto+1),
		"many fingerprints":   session + strings.Repeat("a=Fingerprint:sha-1 AA\r\n", MaxFingerprints+1),
	} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestBoundsAreNotTooTight(t *testing.T) {
	text := plain + strings.Repeat("a=candidate:1 1 UDP 1 192.0.2.1 1 typ host\r\n", MaxCandidates) +
		strings.Repeat("m=audio 1 RTP/AVP 0\r\na=fingerprint:sha-1 AA\r\n", MaxMedia-1)
	if got := string(mustParse(t, text).Marshal()); got != text {
		t.Error("it comes out changed")
	}
}

func TestOrigin(t *testing.T) {
	for line, want := range map[string]Origin{
		"o=- 1 2 IN IP4 192.0.2.1":             {"-", "1", "2", "IN", "IP4", "192.0.2.1"},
		"o= 1 2 IN IP4 192.0.2.1":              {"-", "1", "2", "IN", "IP4", "192.0.2.1"},
		"o=Front Desk  1 2 IN IP6 2001:db8::1": {"Front-Desk", "1", "2", "IN", "IP6", "2001:db8::1"},
	} {
		s := mustParse(t, "v=0\r\n"+line+"\r\n")
		if got := s.Origin(); got != want {
			t.Errorf("%s: got %+v", line, got)
		}
		s.SetOrigin(NewOrigin(want.Username, 7, 1<<63, netip.MustParseAddr("::ffff:198.51.100.1")))
		if got := string(s.Marshal()); !strings.HasPrefix(got, "v=0\r\no="+want.Username+" 7 9223372036854775808 IN IP4 198.51.100.1\r\n") {
			t.Errorf("%s: got\n%s", line, got)
		}
	}
}

func TestDirection(t *testing.T) {
	s := mustParse(t, strings.Replace(plain, "t=0 0\r\n", "t=0 0\r\na=inactive\r\n", 1)+"m=video 1 RTP/AVP 31\r\n")
	audio, video := s.Media[0], s.Media[1]
	if audio.Direction() != SendRecv || video.Direction() != Inactive {
		t.Errorf("got %s and %s", audio.Direction(), video.Direction())
	}
	audio.SetDirection(RecvOnly)
	video.SetDirection(SendOnly)
	want := "m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=recvonly\r\nm=video 1 RTP/AVP 31\r\na=sendonly\r\n"
	if got := string(s.Marshal()); !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s", got)
	}
	for _, tt := range [][3]Direction{
		{SendRecv, SendRecv, SendRecv}, {SendRecv, SendOnly, RecvOnly}, {SendRecv, RecvOnly, SendOnly},
		{SendOnly, SendOnly, Inactive}, {RecvOnly, SendRecv, RecvOnly}, {SendRecv, Inactive, Inactive},
	} {
		if got := tt[0].Within(tt[1]); got != tt[2] {
			t.Errorf("%s within %s: got %s, want %s", tt[0], tt[1], got, tt[2])
		}
	}
}

func TestCodec(t *testing.T) {
	d := descriptions(t)
	for name, want := range map[string]string{"sipp": "PCMU/8000", "linphone": "opus/48000/2", "browser": "opus/48000/2", "lync": "x-msrta/16000"} {
		if got := mustParse(t, d[name]).Media[0].Main(); got != want {
			t.Errorf("%s: got %q", name, got)
		}
	}
	s := mustParse(t, "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nm=audio 1 RTP/AVP 101 13 99 8\r\na=rtpmap:101 telephone-event/8000\r\n")
	if got := s.Media[0].Main(); got != "PCMA/8000" {
		t.Errorf("got %q", got)
	}
}
