package media

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"p2psip/interwork/media/sdp"
)

var update = flag.Bool("update", false, "write what comes out into testdata/negotiate; to be read before it is committed")

// scene is one file of testdata/negotiate: what both sides say, and what each is told. Its first lines are for people, but for
// "legs KIND KIND", near and far. Then come sections:
//
//	-- near INVITE 1 --              a description in a request with that CSeq
//	-- far INVITE 1 200 tag=b --     in a response
//	-- to far --                     what the other side is told (written by -update)
//	-- streams --                    what the legs are told
//	-- refused 488 --                or: why not
//	-- near INVITE 2 failed --       the request ended without success
//
// A line "@dtls PORT SETUP" stands for what another node says about transport, and "@ice NAME PORT" for ICE alone.
type scene struct {
	about string
	parts []section
}

type section struct{ name, text string }

func readScene(t *testing.T, file string) scene {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s scene
	for line := range strings.Lines(string(b)) {
		name, begins := strings.CutPrefix(line, "-- ")
		name, ends := strings.CutSuffix(name, " --\n")
		if begins && ends {
			s.parts = append(s.parts, section{name: name})
			continue
		}
		if n := len(s.parts); n > 0 {
			s.parts[n-1].text += line
		} else {
			s.about += line
		}
	}
	return s
}

func (s scene) String() string {
	var b strings.Builder
	b.WriteString(s.about)
	for _, p := range s.parts {
		fmt.Fprintf(&b, "-- %s --\n%s", p.name, p.text)
	}
	return b.String()
}

// legs reads the line of that name.
func (s scene) legs(t *testing.T) [2]Leg {
	for line := range strings.Lines(s.about) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "legs" {
			return [2]Leg{legOf(t, f[1]), legOf(t, f[2])}
		}
	}
	t.Fatal("no line legs")
	return [2]Leg{}
}

func legOf(t *testing.T, name string) Leg {
	switch name {
	case "phone":
		return Leg{Kind: PhoneLeg}
	case "phone+keys":
		return Leg{Kind: PhoneLeg, Opportunistic: true}
	case "node":
		return Leg{Kind: NodeLeg}
	case "outside":
		return Leg{Kind: OutsideLeg}
	}
	t.Fatalf("no leg is called %q", name)
	return Leg{}
}

// facts is all that a leg of that kind has for a stream.
func facts(k LegKind, i int) sdp.Transport {
	addr := netip.MustParseAddr("198.51.100.1") // towards the phone
	port := uint16(20000 + 2*i)
	t := sdp.Transport{Mux: true,
		Fingerprints: []sdp.Fingerprint{{Hash: "sha-256", Sum: "0123456789abcdef0123456789ABCDEF"}},
		Crypto: []sdp.Crypto{
			{Tag: 1, Suite: "AES_CM_128_HMAC_SHA1_80", KeySalt: "node's key, node's key, node's"},
			{Tag: 2, Suite: "AEAD_AES_256_GCM", KeySalt: "node's key, node's key, node's key, node's k"},
		}}
	if k == PhoneLeg {
		t.RTP, t.RTCP = netip.AddrPortFrom(addr, port), netip.AddrPortFrom(addr, port+1)
		return t
	}
	addr, port = netip.MustParseAddr("203.0.113.9"), uint16(50000+i)
	t.RTP = netip.AddrPortFrom(addr, port)
	t.ICE = &sdp.ICE{Ufrag: fmt.Sprintf("node%d", i), Pwd: "nodesPassword+nodesPassword", End: true, Candidates: []sdp.Candidate{
		{Foundation: "1", Component: 1, Transport: "UDP", Priority: 2130706431, Address: "10.0.0.1", Port: port, Type: "host"},
		{Foundation: "2", Component: 1, Transport: "UDP", Priority: 16777215, Address: addr.String(), Port: port, Type: "relay",
			RelAddr: "10.0.0.1", RelPort: port},
	}}
	return t
}

func localFacts(k LegKind, streams []MediaLine) []sdp.Transport {
	local := make([]sdp.Transport, len(streams))
	for i, s := range streams {
		if s.Carry {
			local[i] = facts(k, i)
		}
	}
	return local
}

// message reads a section's name.
func message(t *testing.T, name string) (msg Message, failed bool) {
	f := strings.Fields(name)
	if len(f) < 3 {
		t.Fatalf("section %q", name)
	}
	if f[0] == "far" {
		msg.From = Far
	}
	cseq, err := strconv.Atoi(f[2])
	if err != nil {
		t.Fatalf("section %q", name)
	}
	msg.Method, msg.CSeq = f[1], uint32(cseq)
	for _, w := range f[3:] {
		tag, isTag := strings.CutPrefix(w, "tag=")
		status, err := strconv.Atoi(w)
		switch {
		case w == "failed":
			failed = true
		case isTag:
			msg.Fork = tag
		case err == nil:
			msg.Status = status
		default:
			t.Fatalf("section %q", name)
		}
	}
	return msg, failed
}

// wire is a section as a telephone writes it.
func wire(text string) []byte {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch f := strings.Fields(line); {
		case len(f) == 3 && f[0] == "@dtls":
			line = "a=rtcp-mux\r\n" + iceLines("peer", f[1]) + "\r\na=fingerprint:sha-256 1F" + strings.Repeat(":1F", 31) +
				"\r\na=setup:" + f[2]
		case len(f) == 3 && f[0] == "@ice":
			line = iceLines(f[1], f[2])
		}
		b.WriteString(line + "\r\n")
	}
	return []byte(b.String())
}

func iceLines(name, port string) string {
	return "a=ice-ufrag:" + name + "\r\na=ice-pwd:password+Password/of/" + name + "\r\na=candidate:1 1 UDP 2130706431 203.0.113.20 " +
		port + " typ host"
}

// summary is what legs are told of a description.
func summary(d *Description) string {
	var b strings.Builder
	kind := "answer"
	if d.Offer {
		kind = "offer"
	}
	if d.Repeat {
		kind += " again"
	}
	fmt.Fprintln(&b, kind)
	for _, s := range d.Streams {
		if !s.Carry {
			fmt.Fprintf(&b, "%s: %s\n", s.Kind, s.Why)
			continue
		}
		fmt.Fprintf(&b, "%s %s %s, at %s %s", s.Kind, s.Codec, s.Direction, s.Remote.RTP, s.Remote.Profile)
		for _, f := range []struct {
			is   bool
			word string
		}{
			{s.Remote.Mux, "mux"}, {s.Remote.ICE.Usable(), "ice"}, {s.Remote.ICE != nil && s.Remote.ICE.Mismatch, "mismatch"},
			{len(s.Remote.Fingerprints) > 0, "dtls"}, {len(s.Remote.Crypto) > 0, "sdes"},
			{s.Restart, "restart"}, {s.NewKeys, "newkeys"},
		} {
			if f.is {
				b.WriteString(" " + f.word)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestScenes(t *testing.T) {
	files, _ := filepath.Glob("testdata/negotiate/*.txt")
	if len(files) < 18 {
		t.Fatalf("only %d files in testdata/negotiate", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want := readScene(t, file)
			got := playScene(t, want)
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for i := range max(len(want.parts), len(got.parts)) {
				switch {
				case i >= len(want.parts) || i >= len(got.parts) || want.parts[i].name != got.parts[i].name:
					t.Fatalf("section %d: got %q, want %q", i+1, name(got, i), name(want, i))
				case want.parts[i].text != got.parts[i].text:
					t.Errorf("section %d, %q: got\n%s\nwant\n%s", i+1, want.parts[i].name, got.parts[i].text, want.parts[i].text)
				}
			}
		})
	}
}

func name(s scene, i int) string {
	if i < len(s.parts) {
		return s.parts[i].name + ": " + s.parts[i].text
	}
	return "nothing"
}

// playScene plays what both sides say and writes down what comes of it.
func playScene(t *testing.T, s scene) scene {
	n := NewNegotiation(NegotiationConfig{Legs: s.legs(t), ID: 7, Version: 100})
	out := scene{about: s.about}
	for _, p := range s.parts {
		if word, _, _ := strings.Cut(p.name, " "); !slices.Contains([]string{"near", "far"}, word) {
			continue
		}
		out.parts = append(out.parts, p)
		msg, failed := message(t, p.name)
		if failed {
			n.Failed(msg)
			continue
		}
		refused := func(err error) bool {
			var r *Refusal
			if err != nil && !errors.As(err, &r) {
				t.Fatal(err)
			}
			if r != nil {
				out.parts = append(out.parts, section{fmt.Sprintf("refused %d", r.Status), r.Reason + "\n"})
			}
			return r != nil
		}
		d, err := n.Receive(msg, wire(p.text))
		if refused(err) || d == nil {
			continue
		}
		out.parts = append(out.parts, section{"streams", summary(d)})
		local := localFacts(n.cfg.Legs[msg.From.Other()].Kind, d.Streams)
		sent, err := n.Send(d, local)
		if refused(err) {
			continue
		}
		text := strings.ReplaceAll(string(sent.Body), "\r\n", "\n")
		if strings.Contains(text, "\r") || !strings.HasSuffix(text, "\n") {
			t.Errorf("%q: lines do not end as they should", p.name)
		}
		out.parts = append(out.parts, section{"to " + strings.Fields(msg.From.Other().String())[0], text})
		d, err = n.Receive(msg, wire(p.text))
		if err != nil || !d.Repeat {
			t.Fatalf("%q: the same again: %v, %+v", p.name, err, d)
		}
		if again, err := n.Send(d, nil); err != nil || string(again.Body) != string(sent.Body) {
			t.Errorf("%q: the same again gives something else (%v):\n%s", p.name, err, again.Body)
		}
	}
	return out
}
