package account

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

// outgoing makes a request of alice's phone; to is the To tag.
func outgoing(t *testing.T, method, uri, to string, cseq int, more ...string) *sip.Request {
	t.Helper()
	if to != "" {
		to = ";tag=" + to
	}
	text := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK%d\r\nFrom: \"Alice\" <sip:alice@p2psip.example>;tag=mine\r\n"+
		"To: <%s>%s\r\nCall-ID: call@phone\r\nCSeq: %d %s\r\nMax-Forwards: 70\r\n%sContent-Length: 0\r\n\r\n", method, uri, cseq, uri, to, cseq, method, strings.Join(append(more, ""), "\r\n"))
	m, err := message.Parse([]byte(text), true)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*sip.Request)
}

// dressed gives what leaves, as it is on the wire, and the original unharmed.
func dressed(t *testing.T, c *Call, req *sip.Request) *sip.Request {
	t.Helper()
	before := string(message.Bytes(req))
	out := sip.NewRequest(req.Method, req.Recipient)
	for _, h := range req.Headers() { // shared, as package proxy does
		out.AppendHeader(h)
	}
	if uri, _ := c.Way(); uri.Host != "" {
		out.Recipient = uri
	}
	out.SetBody(nil)
	c.Dress(out)
	if after := string(message.Bytes(req)); after != before {
		t.Errorf("the phone's request was changed:\n%s", after)
	}
	m, err := message.Parse(message.Bytes(out), true)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*sip.Request)
}

func challenge407(t *testing.T, req *sip.Request, realm, nonce string) *sip.Response {
	res := message.NewResponse(req, 407, "")
	res.AppendHeader(sip.NewHeader("Proxy-Authenticate", fmt.Sprintf(`Digest realm="%s",nonce="%s",qop="auth"`, realm, nonce)))
	return res
}

// TestCallAsPublicAddress follows one call through its challenges: what the provider sees, what the phone sees.
func TestCallAsPublicAddress(t *testing.T) {
	inBubble(t, Account{Prefix: "9", Proxy: "edge.provider.example"}, func(b *bench) {
		b.wait(time.Second)
		const carol = "sip:90301234@p2psip.example"
		if c := b.m.Call(outgoing(t, "INVITE", "sip:bob@p2psip.example", "", 1), sip.Uri{Scheme: "sip", User: "bob", Host: "p2psip.example"}, false); c != nil {
			t.Fatal("a call inside the overlay")
		}
		if c := b.m.Call(outgoing(t, "INVITE", "sip:carol@example.com", "", 1), sip.Uri{Scheme: "sip", User: "carol", Host: "example.com"}, true); c != nil {
			t.Fatal("a call outside, without the prefix")
		}
		inv := outgoing(t, "INVITE", carol, "", 1, `Proxy-Authorization: Digest username="alice", realm="p2psip.example"`)
		c := b.m.Call(inv, inv.Recipient, false)
		if c == nil {
			t.Fatal("not taken")
		}
		uri, routes := c.Way()
		if uri.String() != "sip:0301234@provider.example" || len(routes) != 1 || routes[0] != "<sip:out.provider.example;lr>" {
			t.Errorf("%s through %q", uri.String(), routes)
		}
		out := dressed(t, c, inv)
		if f := out.From().Value(); f != `"Alice" <sip:alice@provider.example>;tag=mine` {
			t.Errorf("From: %s", f)
		}
		if len(out.GetHeaders("Proxy-Authorization")) != 0 {
			t.Error("the password for this node is shown to the provider")
		}
		again, why := c.Challenged(challenge407(t, out, "provider.example", "n1"))
		if !again {
			t.Fatal(why)
		}
		out = dressed(t, c, inv)
		auth := out.GetHeader("Proxy-Authorization")
		if out.CSeq().Value() != "2 INVITE" || auth == nil || !strings.Contains(auth.Value(), `username="alice", realm="provider.example", nonce="n1", uri="sip:0301234@provider.example"`) {
			t.Errorf("%s", out)
		}
		ok := message.NewResponse(out, 200, "")
		c.Undress(ok)
		if ok.From().Value() != inv.From().Value() || ok.CSeq().Value() != "1 INVITE" {
			t.Errorf("%s", ok)
		}

		in := func(method string, cseq int, more ...string) (*Call, *sip.Request, *sip.Request) {
			t.Helper()
			req := outgoing(t, method, "sip:carol@example.com", "theirs", cseq, more...)
			c := b.m.Call(req, req.Recipient, true)
			if c == nil {
				t.Fatalf("%s inside the call is not taken", method)
			}
			return c, req, dressed(t, c, req)
		}
		_, _, ack := in("ACK", 1)
		if ack.CSeq().Value() != "2 ACK" || ack.GetHeader("Proxy-Authorization").Value() != auth.Value() || !strings.Contains(ack.From().Value(), "provider.example") {
			t.Errorf("%s", ack)
		}
		_, _, prack := in("PRACK", 2, "RAck: 77 1 INVITE")
		if prack.CSeq().Value() != "3 PRACK" || prack.GetHeader("RAck").Value() != "77 2 INVITE" || !strings.Contains(prack.GetHeader("Proxy-Authorization").Value(), "nc=00000002") {
			t.Errorf("%s", prack)
		}
		// A second challenge in the middle, while another request is on its way.
		re, req, out := in("INVITE", 3)
		_, _, info := in("INFO", 4)
		if out.CSeq().SeqNo != 4 || info.CSeq().SeqNo != 5 {
			t.Errorf("%s %s", out.CSeq().Value(), info.CSeq().Value())
		}
		if again, _ := re.Challenged(challenge407(t, out, "provider.example", "n2")); !again {
			t.Error("a nonce that is gone is answered anew")
		}
		if out = dressed(t, re, req); out.CSeq().SeqNo != 6 {
			t.Errorf("CSeq %d after 5", out.CSeq().SeqNo)
		}
		bye, _, out := in("BYE", 5)
		if out.CSeq().SeqNo <= 6 {
			t.Errorf("CSeq %d after 6", out.CSeq().SeqNo)
		}
		ok = message.NewResponse(out, 200, "")
		bye.Undress(ok)
		if ok.CSeq().Value() != "5 BYE" {
			t.Errorf("%s", ok)
		}
		b.wait(afterBye + time.Second)
		late := outgoing(t, "BYE", "sip:carol@example.com", "theirs", 6)
		if b.m.Call(late, late.Recipient, true) != nil {
			t.Error("a call that ended is remembered")
		}
	})
}

func TestCallRefused(t *testing.T) {
	inBubble(t, Account{Default: true}, func(b *bench) {
		inv := outgoing(t, "INVITE", "sip:carol@example.com", "", 1)
		c := b.m.Call(inv, inv.Recipient, true)
		if c == nil {
			t.Fatal("not taken")
		}
		if _, routes := c.Way(); len(routes) != 1 || routes[0] != "<sip:provider.example;lr>" {
			t.Errorf("%q", routes)
		}
		out := dressed(t, c, inv)
		if again, why := c.Challenged(challenge407(t, out, "provider.example", "n")); again || !strings.Contains(why, "not been registered yet") {
			t.Errorf("%v %s", again, why)
		}
		b.wait(time.Second) // now it has
		c = b.m.Call(outgoing(t, "INVITE", "sip:carol@example.com", "", 2), inv.Recipient, true)
		out = dressed(t, c, inv)
		if again, why := c.Challenged(challenge407(t, out, "mallory", "n")); again || !strings.Contains(why, "another realm") {
			t.Errorf("%v %s", again, why)
		}
	})
	inBubble(t, Account{Default: true}, func(b *bench) {
		b.wait(time.Second)
		inv := outgoing(t, "INVITE", "sip:carol@example.com", "", 1)
		c := b.m.Call(inv, inv.Recipient, true)
		out := dressed(t, c, inv)
		if again, _ := c.Challenged(challenge407(t, out, "provider.example", "n")); !again {
			t.Fatal("not answered")
		}
		out = dressed(t, c, inv)
		if again, why := c.Challenged(challenge407(t, out, "provider.example", "n")); again || !strings.Contains(why, "password") {
			t.Errorf("%v %s", again, why)
		}
	})
}

func TestWhoTakesTheLine(t *testing.T) {
	inBubble(t, Account{Default: true, Prefix: "*1"}, func(b *bench) {
		for _, c := range []struct {
			uri    string
			leaves bool
			want   string
		}{
			{"sip:carol@example.com", true, "sip:carol@example.com"},
			{"sip:*1carol@example.com", true, "sip:carol@example.com"},
			{"sip:*1%23110@p2psip.example", false, "sip:%23110@provider.example"},
			{"sip:bob@p2psip.example", false, ""},
			{"sip:*1@p2psip.example", false, ""},
			{"sip:*1bob@p2psip.example;gr=urn:x:y", false, ""},
			{"sip:carol@example.com;gr=urn:x:y", true, ""},
		} {
			inv := outgoing(t, "INVITE", c.uri, "", 1)
			got := ""
			if call := b.m.Call(inv, inv.Recipient, c.leaves); call != nil {
				uri, _ := call.Way()
				got = uri.String()
			}
			if got != c.want {
				t.Errorf("%s: %q, want %q", c.uri, got, c.want)
			}
		}
		inv := outgoing(t, "INVITE", "sip:carol@example.com", "", 1)
		inv.ReplaceHeader(&sip.FromHeader{Address: sip.Uri{Scheme: "sip", User: "bob", Host: "p2psip.example"}})
		if b.m.Call(inv, inv.Recipient, true) != nil {
			t.Error("bob calls as alice")
		}
	})
}

func TestDialogsAreBounded(t *testing.T) {
	now := time.Now()
	d := newDialogs(func() time.Time { return now })
	for i := range maxDialogs + 100 {
		d.put(dialogKey{fmt.Sprint(i), ""}, &dialog{})
		now = now.Add(time.Millisecond)
	}
	if len(d.table) > maxDialogs || d.get(dialogKey{fmt.Sprint(maxDialogs + 99), ""}) == nil {
		t.Error(len(d.table))
	}
	now = now.Add(attemptAge)
	if d.get(dialogKey{fmt.Sprint(maxDialogs + 99), ""}) != nil {
		t.Error("kept for ever")
	}
}
