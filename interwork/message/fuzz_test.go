package message

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/emiago/sipgo/sip"
)

func seeds(f *testing.F, add func(b []byte)) {
	for _, row := range corpus(f) {
		add(row.data(f))
	}
	for _, s := range samples {
		add([]byte(s))
	}
}

// samples are messages the torture corpora have no like of.
var samples = []string{
	"OPTIONS sip:a:@[::ffff:192.0.2.1]:05060;lr SIP/2.0\r\nv:SIP/2.0/UDP [::ffff:1.2.3.4]:5060;rport;x=\"a b\";y=\"c\"\r\n" +
		"f:A B<sip:a@b>;tag=1;z=\"; tag=2\"\r\nt:\"\"<tel:+1>\r\ni:1\r\nCSeq:1 OPTIONS\r\nRoute:<sip:p;lr>;a=b,\"Q\"<sips:q>\r\n" +
		"m:<soap.beep://x>;q=1, sip:c@d;expires=5\r\nl:0\r\n\r\n",
	"SIP/2.0 180\r\nVia: SIP/2.0/TLS n.p2psip.example;branch=z9hG4bK1, SIP/2.0/UDP h;received=::1\r\nFrom: <sip:a@b>;tag=1\r\n" +
		"To: <sip:c@d>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nContent-Length: 3\r\n\r\nabc",
	"ACK sip:a@b SIP/2.0\r\n\r\n",
	"\r\n\r\n",
	"REGISTER sip:b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\n" +
		"CSeq: 1 REGISTER\r\nContact: *\r\nContact: \"A\" <sip:a@h>;+sip.instance=\"<urn:uuid:1>\"\r\n\r\n",
}

// checkMeaning: what was accepted is written, read and written again without a change, and sipgo's own view of the
// values a proxy acts on is the same before and after.
func checkMeaning(t *testing.T, m sip.Message) {
	for _, h := range data(m).Headers() {
		if got := string(appendValue(nil, h)); got != h.Value() {
			t.Fatalf("%s is written %q, by sipgo %q", h.Name(), got, h.Value())
		}
	}
	out := Bytes(m)
	again, err := Parse(out, true)
	if err != nil {
		t.Fatalf("accepted, but refused when it comes back: %v\n%q", err, out)
	}
	if twice := Bytes(again); !bytes.Equal(out, twice) {
		t.Fatalf("written differently the second time:\n%q\n%q", out, twice)
	}
	a, b := summary(m), summary(again)
	if a != b {
		t.Fatalf("meaning changed:\n%+v\n%+v\n%q", a, b, out)
	}
	if req, ok := m.(*sip.Request); ok {
		if c := Bytes(Clone(req)); !bytes.Equal(out, c) {
			t.Fatalf("clone differs:\n%q\n%q", out, c)
		}
		if a != summary(Clone(req)) {
			t.Fatalf("clone means something else")
		}
		res := NewResponse(req, 200, "")
		if _, err := Parse(Bytes(res), true); err != nil {
			t.Fatalf("response refused: %v\n%q", err, Bytes(res))
		}
		for n := len(Routes(req, "Route")); n > 0; n-- {
			if top := req.Route(); top == nil || top.Address.String() != uriString(Routes(req, "Route")[0]) {
				t.Fatalf("Route() is not the topmost of %v", Routes(req, "Route"))
			}
			PopRoute(req)
		}
		if req.Route() != nil || PopRoute(req) {
			t.Fatal("routes left")
		}
	} else if c := Bytes(CloneResponse(m.(*sip.Response))); !bytes.Equal(out, c) {
		t.Fatalf("clone differs:\n%q\n%q", out, c)
	}
	if len(m.GetHeaders("via")) > 1 && (!PopVia(m) || m.Via() == nil) {
		t.Fatal("second Via not found")
	}
}

// checkOwn: m, read from b, keeps neither b nor anything that the reading or writing of another message uses.
func checkOwn(t *testing.T, m sip.Message, b []byte) {
	was, keep := Bytes(m), bytes.Clone(b)
	for i := range b {
		b[i] = '#'
	}
	if _, err := Parse(typical, true); err != nil {
		t.Fatal(err)
	}
	Encode(NewResponse(request(t, typical), 180, "")).Free()
	if now := Bytes(m); !bytes.Equal(was, now) {
		t.Fatalf("changed by another message:\n%q\n%q", was, now)
	}
	copy(b, keep)
}

func request(t testing.TB, b []byte) *sip.Request {
	m, err := Parse(b, true)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*sip.Request)
}

func uriString(u sip.Uri) string { return u.String() }

type meaning struct {
	line, via, branch, from, fromTag, to, toTag, callID, cseq, contacts, routes, body string
	maxForwards                                                                       uint32
}

func summary(m sip.Message) (s meaning) {
	md := data(m)
	if req, ok := m.(*sip.Request); ok {
		s.line = string(req.Method) + " " + req.Recipient.String()
		if mf := req.MaxForwards(); mf != nil {
			s.maxForwards = mf.Val()
		}
	} else {
		s.line = m.(*sip.Response).StartLine()
	}
	s.via = md.Via().String()
	s.branch, _ = md.Via().Params.Get("branch")
	s.from, s.to = md.From().Address.String(), md.To().Address.String()
	s.fromTag, _ = md.From().Params.Get("tag")
	s.toTag, _ = md.To().Params.Get("tag")
	s.callID, s.cseq, s.body = md.CallID().Value(), md.CSeq().Value(), string(md.Body())
	for _, c := range Contacts(m) {
		s.contacts += c.Value() + " "
	}
	for _, u := range Routes(m, "Route") {
		s.routes += u.String() + " "
	}
	for _, u := range Routes(m, "Record-Route") {
		s.routes += u.String() + " "
	}
	return s
}

func data(m sip.Message) *sip.MessageData {
	if req, ok := m.(*sip.Request); ok {
		return &req.MessageData
	}
	return &m.(*sip.Response).MessageData
}

func FuzzParse(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(b, true); f.Add(b, false) })
	f.Fuzz(func(t *testing.T, b []byte, datagram bool) {
		before := bytes.Clone(b)
		m, err := Parse(b, datagram)
		if !bytes.Equal(b, before) {
			t.Fatal("input changed")
		}
		if err == nil {
			checkOwn(t, m, b)
		}
		var e *Error
		switch {
		case err == nil:
			checkMeaning(t, m)
		case !errors.As(err, &e):
			t.Fatalf("error of another type: %v", err)
		case e.Reason == "internal error":
			t.Fatal("panic inside")
		default:
			if reply := e.Reply(); reply != nil {
				if e.Status < 400 || !bytes.HasPrefix(reply, []byte("SIP/2.0 ")) || bytes.Count(reply, []byte("\r\n\r\n")) != 1 {
					t.Fatalf("reply %q", reply)
				}
			}
		}
	})
}

// FuzzReader: how a stream is cut into segments does not change what is read from it, and what is read never exceeds what
// was sent.
func FuzzReader(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(append(append([]byte("\r\n\r\n"), b...), b...), uint8(7)) })
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		lim := Limits{Header: 2000, Body: 4000}
		whole := readAll(t, NewReader(bytes.NewReader(b), lim))
		cut := readAll(t, NewReader(&stepReader{b, int(step)%61 + 1}, lim))
		if len(whole) != len(cut) {
			t.Fatalf("%d results whole, %d in pieces:\n%q\n%q", len(whole), len(cut), whole, cut)
		}
		for i := range whole {
			if whole[i] != cut[i] {
				t.Fatalf("result %d: %q whole, %q in pieces", i, whole[i], cut[i])
			}
		}
	})
}

type stepReader struct {
	b []byte
	n int
}

func (r *stepReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.n)], r.b)
	r.b = r.b[n:]
	return n, nil
}

func readAll(t *testing.T, r *Reader) (out []string) {
	for {
		m, err := r.Next()
		var e *Error
		switch {
		case err == nil:
			out = append(out, string(Bytes(m)))
			checkMeaning(t, m)
		case err == ErrPing:
			out = append(out, "ping")
		case errors.As(err, &e):
			if e.Fatal {
				// How much had arrived by then depends on the segments; that it is over does not.
				if _, err := r.Next(); err == nil || errors.As(err, &e) {
					t.Fatalf("read on after %v: %v", e, err)
				}
				return append(out, "fatal")
			}
			out = append(out, e.Error()+string(e.Reply()))
		default:
			return append(out, "end")
		}
		if len(out) > len(r.buf)+10000 {
			t.Fatal("reads more than was sent")
		}
	}
}
