package phone

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

// raw is a far side that says exactly what the test writes.
type raw struct {
	t     *testing.T
	conn  net.PacketConn
	phone *Phone
	n     int
}

const rawSDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"

// startRaw gives a phone and the far side that is its outbound proxy.
func startRaw(t *testing.T, incoming func(*Call)) *raw {
	r := &raw{t: t, conn: listen(t)}
	t.Cleanup(func() { r.conn.Close() })
	r.phone = startPhone(t, bobAOR, r.conn.LocalAddr().String(), listen(t), func(c *Config) {
		c.Incoming, c.Timers = incoming, quick
	})
	return r
}

// request sends a request; to is the To tag, "" for none.
func (r *raw) request(method, uri, to string, cseq int, body string, headers ...string) {
	r.t.Helper()
	r.n++
	if to != "" {
		to = ";tag=" + to
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKraw%d;rport\r\n", method, uri, r.conn.LocalAddr(), r.n)
	fmt.Fprintf(&b, "From: <sip:raw@p2psip.example>;tag=raw\r\nTo: <%s>%s\r\nCall-ID: raw\r\nCSeq: %d %s\r\nMax-Forwards: 70\r\n", bobAOR, to, cseq, method)
	fmt.Fprintf(&b, "Contact: <sip:raw@%s>\r\n", r.conn.LocalAddr())
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if body != "" {
		b.WriteString("Content-Type: application/sdp\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	if _, err := r.conn.WriteTo([]byte(b.String()), r.phone.cfg.Local.LocalAddr()); err != nil {
		r.t.Fatal(err)
	}
}

// read gives the next message from the phone.
func (r *raw) read() sip.Message {
	r.t.Helper()
	buf := make([]byte, 65536)
	_ = r.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, _, err := r.conn.ReadFrom(buf)
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := message.Parse(buf[:n], true)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, buf[:n])
	}
	return m
}

// response gives the next final response to a request of that method.
func (r *raw) response(method string) *sip.Response {
	r.t.Helper()
	for {
		if res, ok := r.read().(*sip.Response); ok && res.StatusCode >= 200 && string(res.CSeq().MethodName) == method {
			return res
		}
	}
}

// next gives the next request of that method.
func (r *raw) next(method string) *sip.Request {
	r.t.Helper()
	for {
		if req, ok := r.read().(*sip.Request); ok && string(req.Method) == method {
			return req
		}
	}
}

func TestAnswersWhatItMust(t *testing.T) {
	for name, tc := range map[string]struct {
		method, uri, to string
		header          string
		status          int
		want            string // header that has to be there
	}{
		"OPTIONS":            {"OPTIONS", bobAOR, "", "", 200, "Allow"},
		"unknown method":     {"SUBSCRIBE", bobAOR, "", "", 405, "Allow"},
		"extension":          {"INVITE", bobAOR, "", "Require: 100rel", 420, "Unsupported"},
		"BYE of no call":     {"BYE", bobAOR, "nothing", "", 481, ""},
		"INVITE of no call":  {"INVITE", bobAOR, "nothing", "", 481, ""},
		"BYE without a tag":  {"BYE", bobAOR, "", "", 481, ""},
		"another user":       {"INVITE", "sip:carol@p2psip.example", "", "", 404, ""},
		"nobody takes calls": {"INVITE", bobAOR, "", "", 480, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRaw(t, nil)
			var headers []string
			if tc.header != "" {
				headers = append(headers, tc.header)
			}
			r.request(tc.method, tc.uri, tc.to, 1, "", headers...)
			res := r.response(tc.method)
			if res.StatusCode != tc.status || tc.want != "" && res.GetHeader(tc.want) == nil {
				t.Errorf("answered\n%s", res)
			}
		})
	}
}

func TestRawDialog(t *testing.T) {
	t.Parallel()
	calls := make(chan *Call, 1)
	r := startRaw(t, func(c *Call) { _ = c.Answer(); calls <- c })
	r.request("INVITE", bobAOR, "", 5, "")
	res := r.response("INVITE")
	if res.StatusCode != 200 || !strings.Contains(string(res.Body()), "m=audio") {
		t.Fatalf("an INVITE without an offer is answered\n%s", res)
	}
	c, tag := next(t, calls), toTag(res.To())
	if _, there := c.states.has(Answered); there {
		t.Error("answered before the answer to the offer came")
	}
	r.request("INVITE", bobAOR, "", 5, "") // the same call by another way
	for {
		if res = r.response("INVITE"); toTag(res.To()) != tag {
			break
		}
	}
	if res.StatusCode != 482 {
		t.Errorf("a merged request is answered %d", res.StatusCode)
	}
	r.request("ACK", r.phone.Contact(), toTag(res.To()), 5, "") // of the 482: it may be lost too
	r.request("ACK", r.phone.Contact(), tag, 5, rawSDP)
	wait(t, c, Answered)

	for _, step := range []struct {
		name, method string
		cseq         int
		body         string
		status       int
	}{
		{"an old number", "OPTIONS", 4, "", 500},
		{"OPTIONS", "OPTIONS", 6, "", 200},
		{"a method it does not know", "INFO", 7, "", 405},
		{"a session it cannot use", "INVITE", 8, "v=0\r\nm=audio 9 RTP/AVP 18\r\n", 488},
	} {
		r.request(step.method, r.phone.Contact(), tag, step.cseq, step.body)
		if res := r.response(step.method); res.StatusCode != step.status {
			t.Errorf("%s: %d, want %d", step.name, res.StatusCode, step.status)
		}
	}
	r.request("INVITE", r.phone.Contact(), tag, 9, rawSDP+"a=inactive\r\n")
	for res = r.response("INVITE"); res.CSeq().SeqNo != 9; res = r.response("INVITE") {
	}
	if res.StatusCode != 200 || !strings.Contains(string(res.Body()), "a=inactive") {
		t.Errorf("held with inactive:\n%s", res)
	}
	r.request("INVITE", r.phone.Contact(), tag, 10, rawSDP) // before the ACK
	for res = r.response("INVITE"); res.CSeq().SeqNo != 10; res = r.response("INVITE") {
	}
	if res.StatusCode != 491 {
		t.Errorf("a second change before the ACK: %d, want 491", res.StatusCode)
	}
	r.request("ACK", r.phone.Contact(), tag, 9, "")
	wait(t, c, Held)
	r.request("BYE", r.phone.Contact(), tag, 11, "")
	if res := r.response("BYE"); res.StatusCode != 200 {
		t.Errorf("BYE: %d", res.StatusCode)
	}
	wait(t, c, Ended)
}

// A proxy may fork the call and let two phones answer: the second is acknowledged and hung up at once.
func TestSecondAnswer(t *testing.T) {
	t.Parallel()
	r := startRaw(t, nil)
	c, err := r.phone.Call(testContext(t), aliceAOR)
	if err != nil {
		t.Fatal(err)
	}
	invite := r.next("INVITE")
	for _, tag := range []string{"first", "second"} {
		res := message.NewResponse(invite, 200, "")
		message.SetToTag(res, tag)
		res.AppendHeader(sip.NewHeader("Contact", "<sip:"+tag+"@"+r.conn.LocalAddr().String()+">"))
		res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
		res.SetBody([]byte(rawSDP))
		if _, err := r.conn.WriteTo(message.Bytes(res), r.phone.cfg.Local.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if ack := r.next("ACK"); ack.Recipient.User != tag {
			t.Errorf("the ACK for %s goes to %s", tag, ack.Recipient.User)
		}
	}
	if bye := r.next("BYE"); bye.Recipient.User != "second" || toTag(bye.To()) != "second" {
		t.Errorf("hung up:\n%s", bye)
	}
	if _, there := c.states.has(Answered); !there || c.states.over() {
		t.Error("the first answer does not stand")
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	r := startRaw(t, nil)
	c, err := r.phone.Call(testContext(t), aliceAOR)
	if err != nil {
		t.Fatal(err)
	}
	if st := wait(t, c, Failed); st.Status != 408 {
		t.Errorf("ended in %s", st)
	}
	if _, err := r.phone.Register(testContext(t), time.Minute); err == nil || !strings.Contains(err.Error(), "408") {
		t.Errorf("registered with nobody: %v", err)
	}
}

func TestConfig(t *testing.T) {
	pc := listen(t)
	defer pc.Close()
	good := Config{AOR: bobAOR, Outbound: "127.0.0.1:5060", Local: pc}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"no user":   func(c *Config) { c.AOR = "sip:p2psip.example" },
		"no URI":    func(c *Config) { c.AOR = "bob" },
		"a name":    func(c *Config) { c.Outbound = "proxy.example:5060" },
		"no socket": func(c *Config) { c.Local = nil },
		"negative":  func(c *Config) { c.MaxCalls = -1 },
		"timers":    func(c *Config) { c.Timers.T1 = -1 },
	} {
		bad := good
		change(&bad)
		if _, err := New(bad); err == nil {
			t.Errorf("%s passes", name)
		}
	}
}
