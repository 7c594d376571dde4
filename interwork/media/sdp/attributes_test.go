package sdp

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseCandidate(t *testing.T) {
	for line, want := range map[string]Candidate{
		"1 1 UDP 2130706431 203.0.113.141 8998 typ host": {Foundation: "1", Component: 1, Transport: "UDP", Priority: 2130706431,
			Address: "203.0.113.141", Port: 8998, Type: "host"},
		"candidate:2 2 udp 1694498815 192.0.2.3 45664 typ srflx raddr 10.0.1.1 rport 8998": {Foundation: "2", Component: 2, Transport: "udp",
			Priority: 1694498815, Address: "192.0.2.3", Port: 45664, Type: "srflx", RelAddr: "10.0.1.1", RelPort: 8998},
		"3 1 TCP 2124414975 2001:db8::1 9 typ host tcptype active": {Foundation: "3", Component: 1, Transport: "TCP", Priority: 2124414975,
			Address: "2001:db8::1", Port: 9, Type: "host", TCPType: "active"},
		"4 1 udp 1 7bb5e27d.local 9 typ host generation 0 network-id 1": {Foundation: "4", Component: 1, Transport: "udp", Priority: 1,
			Address: "7bb5e27d.local", Port: 9, Type: "host", Extensions: "generation 0 network-id 1"},
	} {
		got, ok := ParseCandidate(line)
		if !ok || got != want {
			t.Errorf("%s: got %+v, %v", line, got, ok)
		}
		if s := got.String(); s != strings.TrimPrefix(line, "candidate:") {
			t.Errorf("%s: written %s", line, s)
		}
	}
	for _, line := range []string{
		"", "1 1 UDP 1 192.0.2.1 1 typ", "1 1 UDP 1 192.0.2.1 1 host host", "1 0 UDP 1 192.0.2.1 1 typ host", "1 257 UDP 1 192.0.2.1 1 typ host",
		"1 1 UDP 2147483648 192.0.2.1 1 typ host", "1 1 UDP -1 192.0.2.1 1 typ host", "1 1 UDP 1 192.0.2.1 65536 typ host",
		"1 1 UDP 1 fe80::1%eth0 1 typ host", "1 1 UDP 1 a/b 1 typ host", "1 1 UDP 1 192.0.2.1 1 typ host raddr",
		"1 1 UDP 1 192.0.2.1 1 typ host rport 70000", "1 1 UDP 1 192.0.2.1 1 typ host raddr [::1]", "1 1 U(P 1 192.0.2.1 1 typ host",
		strings.Repeat("1", 33) + " 1 UDP 1 192.0.2.1 1 typ host", "1 1 UDP 1 192.0.2.1 1 typ host x " + strings.Repeat("y", 1024),
		"a b c d e f typ host",
	} {
		if c, ok := ParseCandidate(line); ok {
			t.Errorf("%q is taken for %+v", line, c)
		}
	}
	c, _ := ParseCandidate("1 1 UDP 1 ::ffff:192.0.2.1 5 typ host")
	if a, ok := c.Addr(); !ok || a != netip.MustParseAddrPort("192.0.2.1:5") {
		t.Errorf("got %s, %v", a, ok)
	}
	if c, ok := ParseCandidate("1 1 UDP 1 192.0.2.1 5 typ host rport 9"); !ok || c.RelPort != 0 || c.String() != "1 1 UDP 1 192.0.2.1 5 typ host" {
		t.Errorf("a port without address: %+v, %v", c, ok)
	}
	c, _ = ParseCandidate("1 1 UDP 1 x.Local 5 typ host")
	if _, ok := c.Addr(); ok || c.Address != "x.Local" || !c.UDP() {
		t.Error("a name that only its own network knows is taken for something else")
	}
}

func TestFingerprint(t *testing.T) {
	const sha1 = "4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB"
	f, ok := parseFingerprint("SHA-1  " + strings.ToLower(sha1))
	if !ok || f.Hash != "sha-1" || len(f.Sum) != 20 || f.String() != "sha-1 "+sha1 {
		t.Errorf("got %q, %v", f, ok)
	}
	for _, v := range []string{"", "sha-1", "sha-1 " + sha1 + ":AB", "sha-1 " + sha1[3:], "sha-256 " + sha1, "md5 " + sha1[:47], "sha-1 " + strings.ReplaceAll(sha1, ":", ""),
		"sha-1 " + strings.ReplaceAll(sha1, "A", "G"), "x " + sha1, "x :"} {
		if f, ok := parseFingerprint(v); ok {
			t.Errorf("%q is taken for %q", v, f)
		}
	}
}

func TestSetup(t *testing.T) {
	for _, tt := range [][3]Setup{ // offered, had, answer (RFC 4145 §4.1)
		{SetupActpass, SetupNone, SetupActive}, {SetupActpass, SetupPassive, SetupPassive}, {SetupActpass, SetupActive, SetupActive},
		{SetupActive, SetupActive, SetupPassive}, {SetupPassive, SetupNone, SetupActive}, {SetupHoldconn, SetupActive, SetupHoldconn},
		{SetupNone, SetupNone, SetupActive},
	} {
		if got := tt[0].Answer(tt[1]); got != tt[2] {
			t.Errorf("%s with %q before: got %s, want %s", tt[0], tt[1], got, tt[2])
		}
	}
	if parseSetup("ActPass") != SetupActpass || parseSetup("") != SetupNone || parseSetup("both") != SetupNone {
		t.Error("names of roles are read wrongly")
	}
}

func TestCrypto(t *testing.T) {
	const key = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
	c, ok := parseCrypto("1 aes_cm_128_HMAC_SHA1_80 inline:" + key + "|2^20|66051:4 -X WSH=60")
	if !ok || c.Tag != 1 || len(c.KeySalt) != 30 || c.Lifetime != "2^20" || c.MKI != "\x00\x01\x02\x03" || len(c.Params) != 2 {
		t.Fatalf("got %+v, %v", c, ok)
	}
	if got := c.String(); got != "1 AES_CM_128_HMAC_SHA1_80 inline:"+key+"|2^20|66051:4 -X WSH=60" {
		t.Errorf("written %s", got)
	}
	for _, v := range []string{
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key[:36],
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key + "AAAA",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key + ";inline:" + key,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|2^20|2^20",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|256:1",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|1:129",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|1:0",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|1:4|2^20|1",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key + " UNENCRYPTED_SRTP",
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key + " KDR=3",
		"1 AES_CM_128_HMAC_SHA1_80 uri:" + key,
		"x AES_CM_128_HMAC_SHA1_80 inline:" + key,
		"00 AES_CM_128_HMAC_SHA1_80 inline:" + key,
		"9999999999 AES_CM_128_HMAC_SHA1_80 inline:" + key,
		"1 NULL_HMAC inline:" + key,
		"1 AES_CM_128_HMAC_SHA1_80",
	} {
		if c, ok := parseCrypto(v); ok {
			t.Errorf("%q is taken for %+v", v, c)
		}
	}
	for suite, size := range suites {
		c := Crypto{Tag: 3, Suite: suite, KeySalt: strings.Repeat("k", size)}
		if got, ok := parseCrypto(c.String()); !ok || got.KeySalt != c.KeySalt {
			t.Errorf("%s: what is written is not read", suite)
		}
	}
}

func TestTransportLines(t *testing.T) {
	v4, v6 := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")
	at := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	for name, tt := range map[string]struct {
		t    Transport
		want string
	}{
		"RTCP on the next port": {Transport{RTP: at(v4, 20000), RTCP: at(v4, 20001)}, "c=IN IP4 198.51.100.1\r\n"},
		"on the same":           {Transport{RTP: at(v4, 20000), RTCP: at(v4, 20000), Mux: true}, "c=IN IP4 198.51.100.1\r\na=rtcp:20000\r\na=rtcp-mux\r\n"},
		"on another":            {Transport{RTP: at(v4, 20000), RTCP: at(v4, 9)}, "c=IN IP4 198.51.100.1\r\na=rtcp:9\r\n"},
		"at another address":    {Transport{RTP: at(v6, 20000), RTCP: at(v4, 20001)}, "c=IN IP6 2001:db8::1\r\na=rtcp:20001 IN IP4 198.51.100.1\r\n"},
		"ICE": {Transport{RTP: at(v4, 20000), ICE: &ICE{Ufrag: "abcd", Pwd: "efgh", Options: []string{"ice2"}, End: true}},
			"c=IN IP4 198.51.100.1\r\na=ice-ufrag:abcd\r\na=ice-pwd:efgh\r\na=ice-options:ice2\r\na=end-of-candidates\r\n"},
		"ICE given up": {Transport{RTP: at(v4, 20000), ICE: &ICE{Mismatch: true}}, "c=IN IP4 198.51.100.1\r\na=ice-mismatch\r\n"},
		"DTLS": {Transport{RTP: at(v4, 20000), Fingerprints: []Fingerprint{{"sha-1", strings.Repeat("\x0f", 20)}}, Setup: SetupActpass, TLSID: "id"},
			"c=IN IP4 198.51.100.1\r\na=fingerprint:sha-1 0F" + strings.Repeat(":0F", 19) + "\r\na=setup:actpass\r\na=tls-id:id\r\n"},
	} {
		m := &Media{Kind: "audio", Port: 9, Proto: AVP, Formats: []string{"0"},
			Lines: []Line{{'i', "x"}, {'c', "IN IP4 192.0.2.1"}, {'b', "AS:1"}, {'k', "prompt"}, {'a', "Candidate:x"}, {'a', "ptime:20"}}}
		m.SetTransport(tt.t)
		got := string(appendLines(nil, m.Lines))
		c, rest, _ := strings.Cut(tt.want, "\r\n")
		if want := "i=x\r\n" + c + "\r\nb=AS:1\r\na=ptime:20\r\n" + rest; got != want {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for lines, want := range map[string][2]string{
		"m=audio 4000 RTP/AVP 0\r\nc=IN IP6 ::ffff:192.0.2.9\r\n":      {"192.0.2.9:4000", "192.0.2.9:4001"},
		"m=audio 4000 RTP/AVP 0\r\nc=IN IP6 fe80::1%eth0\r\n":          {"[fe80::1]:4000", "[fe80::1]:4001"},
		"m=audio 4000 RTP/AVP 0\r\nc=IN IP4 224.2.1.1/127/3\r\n":       {"224.2.1.1:4000", "224.2.1.1:4001"},
		"m=audio 65535 RTP/AVP 0\r\nc=IN IP4 192.0.2.9\r\n":            {"192.0.2.9:65535", "invalid AddrPort"},
		"m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.9\r\na=rtcp:x\r\n": {"192.0.2.9:4000", "192.0.2.9:4001"},
		"m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.9\r\na=rtcp:0\r\n": {"192.0.2.9:4000", "192.0.2.9:4001"},
		"m=audio 4000 RTP/AVP 0\r\nc=IN IP4\r\n":                       {"invalid AddrPort", "invalid AddrPort"},
		"m=audio 4000 RTP/AVP 0\r\nc=ATM NSAP 1\r\n":                   {"invalid AddrPort", "invalid AddrPort"},
	} {
		tr := mustParse(t, "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n"+lines).Media[0].Transport()
		if got := [2]string{tr.RTP.String(), tr.RTCP.String()}; got != want {
			t.Errorf("%q: got %v", lines, got)
		}
	}
}

func TestMisled(t *testing.T) {
	cand, _ := ParseCandidate("1 1 UDP 1 192.0.2.1 4000 typ host")
	second, _ := ParseCandidate("1 2 UDP 1 198.51.100.1 4001 typ host")
	name, _ := ParseCandidate("2 1 UDP 1 x.local 4000 typ host")
	for _, tt := range []struct {
		at   string
		with []Candidate
		want bool
	}{
		{"192.0.2.1:4000", []Candidate{second, cand}, false},
		{"192.0.2.1:4002", []Candidate{cand}, true},
		{"198.51.100.1:4001", []Candidate{cand, second}, true},
		{"198.51.100.1:4001", []Candidate{cand, name}, false},
		{"198.51.100.1:9", []Candidate{cand}, false},
		{"0.0.0.0:4000", []Candidate{cand}, false},
		{"198.51.100.1:4000", nil, false},
	} {
		tr := Transport{RTP: netip.MustParseAddrPort(tt.at), ICE: &ICE{Ufrag: "abcd", Pwd: "p", Candidates: tt.with}}
		if tr.Misled() != tt.want {
			t.Errorf("%s with %v: got %v", tt.at, tt.with, !tt.want)
		}
	}
}
