package phone

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseSDP(t *testing.T) {
	lines := func(l ...string) string { return "v=0\r\n" + strings.Join(l, "\r\n") + "\r\n" }
	good := map[string]struct {
		sdp  string
		addr string
		dir  string
	}{
		"session address": {lines("c=IN IP4 127.0.0.1", "m=audio 4000 RTP/AVP 8 0 101"), "127.0.0.1:4000", "sendrecv"},
		"stream address":  {lines("c=IN IP4 127.0.0.9", "m=audio 4000 RTP/AVP 0", "c=IN IP4 127.0.0.1"), "127.0.0.1:4000", "sendrecv"},
		"IPv6":            {lines("c=IN IP6 ::1", "m=audio 4000 RTP/AVP 0"), "[::1]:4000", "sendrecv"},
		"hold":            {lines("c=IN IP4 127.0.0.1", "m=audio 4000 RTP/AVP 0", "a=sendonly"), "127.0.0.1:4000", "sendonly"},
		"hold by session": {lines("c=IN IP4 127.0.0.1", "a=inactive", "m=audio 4000 RTP/AVP 0"), "127.0.0.1:4000", "inactive"},
		"old hold":        {lines("c=IN IP4 0.0.0.0", "m=audio 4000 RTP/AVP 0"), "0.0.0.0:4000", "sendrecv"},
		"video first":     {lines("c=IN IP4 127.0.0.1", "m=video 5000 RTP/AVP 96", "a=inactive", "m=audio 4000 RTP/AVP 0", "m=audio 6000 RTP/AVP 0", "a=sendonly"), "127.0.0.1:4000", "sendrecv"},
	}
	for name, tc := range good {
		d, err := parseSDP([]byte(tc.sdp), DefaultCodecs())
		if err != nil || d.addr.String() != tc.addr || d.dir.String() != tc.dir {
			t.Errorf("%s: %v %v, %v", name, d.addr, d.dir, err)
		}
	}
	for name, sdp := range map[string]string{
		"empty":         "",
		"no audio":      lines("c=IN IP4 127.0.0.1", "m=video 5000 RTP/AVP 0"),
		"refused":       lines("c=IN IP4 127.0.0.1", "m=audio 0 RTP/AVP 0"),
		"other codec":   lines("c=IN IP4 127.0.0.1", "m=audio 4000 RTP/AVP 18"),
		"encrypted":     lines("c=IN IP4 127.0.0.1", "m=audio 4000 RTP/SAVP 0"),
		"a name":        lines("c=IN IP4 host.example", "m=audio 4000 RTP/AVP 0"),
		"multicast":     lines("c=IN IP4 224.0.0.1", "m=audio 4000 RTP/AVP 0"),
		"port too high": lines("c=IN IP4 127.0.0.1", "m=audio 70000 RTP/AVP 0"),
		"too many":      lines(strings.Repeat("m=audio 4000 RTP/AVP 0\r\n", 20)),
		"too long":      lines(strings.Repeat("a=x\r\n", 500)),
	} {
		if d, err := parseSDP([]byte(sdp), DefaultCodecs()); err == nil {
			t.Errorf("%s passes: %+v", name, d)
		}
	}
}

func TestAnswerSDP(t *testing.T) {
	offer, err := parseSDP([]byte("v=0\r\nc=IN IP4 127.0.0.1\r\nm=video 5000 RTP/AVP 96 97\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\n"), DefaultCodecs())
	if err != nil {
		t.Fatal(err)
	}
	answer := string(writing{user: "bob", session: 1, version: 2, local: netip.MustParseAddrPort("127.0.0.1:6000"), dir: sendrecv.within(offer.dir), offer: &offer}.bytes())
	video, audio := strings.Index(answer, "m=video 0 RTP/AVP 96 97\r\n"), strings.Index(answer, "m=audio 6000 RTP/AVP 0\r\n")
	if video < 0 || audio < video || !strings.Contains(answer, "a=recvonly\r\n") {
		t.Errorf("the answer is\n%s", answer)
	}
	if _, err := parseSDP([]byte(answer), DefaultCodecs()); err != nil {
		t.Error(err)
	}
}

func TestReception(t *testing.T) {
	for name, tc := range map[string]struct {
		sequence       []uint16
		received, lost int
	}{
		"none":       {nil, 0, 0},
		"all":        {[]uint16{65534, 65535, 0, 1}, 4, 0},
		"one lost":   {[]uint16{1, 2, 4}, 3, 1},
		"out of row": {[]uint16{10, 12, 11, 13}, 4, 0},
		"first late": {[]uint16{11, 10, 12}, 3, 0},
		"repeated":   {[]uint16{1, 1, 2, 2, 1}, 2, 0},
		"far back":   {[]uint16{500, 100, 501}, 2, 0},
		"a gap":      {[]uint16{1, 1000}, 2, 998},
	} {
		var r reception
		for _, n := range tc.sequence {
			r.take(packet{sequence: n}, 0)
		}
		if r.received != tc.received || r.lost() != tc.lost {
			t.Errorf("%s: received %d, lost %d; want %d, %d", name, r.received, r.lost(), tc.received, tc.lost)
		}
	}
	var r reception // a second source counts on
	for _, p := range []packet{{sequence: 1, ssrc: 1}, {sequence: 3, ssrc: 1}, {sequence: 77, ssrc: 2}, {sequence: 78, ssrc: 2}} {
		r.take(p, 0)
	}
	if n := r.before + r.received; n != 4 || r.lost() != 1 {
		t.Errorf("two sources: %d received, %d lost", n, r.lost())
	}
}

func TestParseRTP(t *testing.T) {
	p := packet{payloadType: 0, sequence: 7, timestamp: 8, ssrc: 9, payload: []byte("abc")}
	got, err := parseRTP(p.append(nil))
	if err != nil || got.sequence != 7 || got.timestamp != 8 || got.ssrc != 9 || string(got.payload) != "abc" {
		t.Errorf("%+v, %v", got, err)
	}
	b := p.append(nil)
	b[0] |= 0x31 // one contributing source, an extension, padding
	b = append(b[:12], append([]byte{0, 0, 0, 1, 0xbe, 0xde, 0, 1, 1, 2, 3, 4}, 'a', 'b', 'c', 0, 2)...)
	if got, err := parseRTP(b); err != nil || string(got.payload) != "abc" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzSDP(f *testing.F) {
	f.Add([]byte("v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 4000 RTP/AVP 0 8\r\na=sendonly\r\n"))
	f.Add([]byte("v=0\nc=IN IP6 ::1\nm=video 1/2 x y\nm=audio 4000/1 RTP/AVP 0\nc=IN IP4 1.2.3.4\na=inactive\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseSDP(b, DefaultCodecs())
		if err != nil {
			return
		}
		answer := writing{user: "x", local: netip.MustParseAddrPort("127.0.0.1:6000"), dir: sendrecv.within(d.dir), offer: &d}.bytes()
		if _, err := parseSDP(answer, DefaultCodecs()); err != nil {
			t.Errorf("the answer cannot be read: %v\n%s", err, answer)
		}
	})
}

func FuzzRTP(f *testing.F) {
	f.Add(packet{payload: make([]byte, 160)}.append(nil))
	f.Add([]byte{0xb1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseRTP(b); err == nil && len(p.payload) > len(b)-rtpHeader {
			t.Errorf("a payload of %d bytes in %d", len(p.payload), len(b))
		}
	})
}
