package proxy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

const (
	mixed = "preamble\r\n--b 1\r\nContent-Type: text/plain\r\n\r\nv=0 hello\r\n--b 1 \r\nc: application/sdp\r\n\r\nv=0\r\no=x\r\n\r\n--b 1--\r\nrest"
	nest  = "--out\r\nContent-Type: multipart/alternative;\r\n boundary=in\r\n\r\n--in\r\n\r\nplain\r\n--in\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--in--\r\n--out\r\nContent-Type: application/isup\r\n\r\n\x00\x01\r\n--out--\r\n"
)

// TestReadBody finds the description in bodies of all kinds.
func TestReadBody(t *testing.T) {
	for _, c := range []struct {
		name, header, body string
		want               string // "opaque", or the description
	}{
		{"none", "", "", ""},
		{"plain", "Content-Type: application/sdp", "v=0\r\n", "v=0\r\n"},
		{"compact", "c: Application/SDP;charset=utf-8", "v=0\r\n", "v=0\r\n"},
		{"identity", "c: application/sdp\r\ne: identity", "v=0\r\n", "v=0\r\n"},
		{"gzip", "c: application/sdp\r\ne: gzip", "v=0\r\n", "opaque"},
		{"two codings", "c: application/sdp\r\nContent-Encoding: gzip, deflate", "v=0\r\n", "opaque"},
		{"session", "c: application/sdp\r\nContent-Disposition: Session;handling=optional", "v=0\r\n", "v=0\r\n"},
		{"early session", "c: application/sdp\r\nContent-Disposition: early-session", "v=0\r\n", ""},
		{"no type", "", "v=0\r\n", "opaque"},
		{"another", "Content-Type: text/plain", "v=0\r\n", ""},
		{"encrypted", "Content-Type: application/pkcs7-mime; smime-type=enveloped-data", "x", "opaque"},
		{"signed", `Content-Type: multipart/signed;boundary="b 1"`, mixed, "opaque"},
		{"elsewhere", "Content-Type: message/external-body; access-type=URL", "x", "opaque"},
		{"mixed", `Content-Type: multipart/mixed;boundary="b 1"`, mixed, "v=0\r\no=x\r\n"},
		{"mixed, boundary late", `Content-Type: Multipart/Mixed; start="a;boundary=x" ; Boundary = "b 1"`, mixed, "v=0\r\no=x\r\n"},
		{"nested", "Content-Type: multipart/mixed;boundary=out", nest, "v=0"},
		{"LF only", `Content-Type: multipart/mixed;boundary="b 1"`, strings.ReplaceAll(mixed, "\r\n", "\n"), "v=0\no=x\n"},
		{"no boundary", `Content-Type: multipart/mixed`, mixed, "opaque"},
		{"wrong boundary", `Content-Type: multipart/mixed;boundary=c`, mixed, "opaque"},
		{"cut off", `Content-Type: multipart/mixed;boundary="b 1"`, strings.TrimSuffix(mixed, "--\r\nrest"), "opaque"},
		{"two", "Content-Type: multipart/mixed;boundary=x", "--x\r\nc: application/sdp\r\n\r\nv=0\r\n--x\r\nc: application/sdp\r\n\r\nv=1\r\n--x--", "opaque"},
		{"base 64", "Content-Type: multipart/mixed;boundary=x", "--x\r\nc: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0w\r\n--x--", "opaque"},
		{"a part in gzip", "Content-Type: multipart/mixed;boundary=x", "--x\r\nc: application/sdp\r\ncontent-encoding: gzip\r\n\r\ndj0w\r\n--x--", "opaque"},
		{"no sdp", "Content-Type: multipart/mixed;boundary=x", "--x\r\nc: text/plain\r\n\r\nv=0\r\n--x--", ""},
		{"too many parts", "Content-Type: multipart/mixed;boundary=x", strings.Repeat("--x\r\nc: text/plain\r\n\r\nv=0\r\n", 17) + "--x--", "opaque"},
		{"too deep", "Content-Type: multipart/mixed;boundary=x", "--x\r\nc: multipart/mixed;boundary=y\r\n\r\n--y\r\nc: multipart/mixed;boundary=z\r\n\r\n--z\r\nc: multipart/mixed;boundary=u\r\n\r\n--z--\r\n--y--\r\n--x--", "opaque"},
		{"empty part", "Content-Type: multipart/mixed;boundary=x", "--x\r\n--x--", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := withBody(t, c.header, c.body)
			in := readBody(m)
			got := string(in.sdp(m.Body()))
			if in.opaque {
				got = "opaque"
			}
			if got != c.want {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			if in.opaque || in.from == in.to {
				return
			}
			out := string(in.put(m.Body(), []byte("NEW")))
			if want := strings.Replace(c.body, c.want, "NEW", 1); strings.Count(c.body, c.want) == 1 && out != want {
				t.Errorf("got %q, want %q", out, want)
			}
			if string(in.put(m.Body(), in.sdp(m.Body()))) != c.body {
				t.Error("the same description makes another body")
			}
			if in.put(m.Body(), nil) != nil {
				t.Error("something is left without description")
			}
		})
	}
}

func withBody(t testing.TB, header, text string) *sip.Request {
	if header != "" {
		header += "\r\n"
	}
	m, err := message.Parse([]byte("INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n"+
		header+"\r\n"+text), true)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*sip.Request)
}

// FuzzBody has bodies taken apart and put together: what comes out is the body with another description, or as it was.
func FuzzBody(f *testing.F) {
	f.Add(`multipart/mixed;boundary="b 1"`, []byte(mixed))
	f.Add("multipart/mixed;boundary=out", []byte(nest))
	f.Add("application/sdp", []byte("v=0\r\n"))
	f.Fuzz(func(t *testing.T, kind string, all []byte) {
		b := find(all, part{kind: kind, to: len(all)}, 0)
		b.whole = b.from == 0 && b.to == len(all)
		if b.from < 0 || b.to < b.from || b.to > len(all) {
			t.Fatalf("found at %d to %d of %d", b.from, b.to, len(all))
		}
		if b.opaque || b.from == b.to {
			return
		}
		if out := b.put(all, b.sdp(all)); !bytes.Equal(out, all) {
			t.Fatalf("the same description makes another body: %q", out)
		}
		out := b.put(all, []byte("NEW"))
		if len(out) != len(all)-(b.to-b.from)+3 {
			t.Fatalf("%d bytes became %d", len(all), len(out))
		}
		again := find(out, part{kind: kind, to: len(out)}, 0)
		if again.opaque || string(out[again.from:again.to]) != "NEW" {
			t.Fatalf("the new description is not found in %q", out)
		}
	})
}
