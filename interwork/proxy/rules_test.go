package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
	"p2psip/interwork/transaction/transactiontest"
	"p2psip/overlay"
)

func parse(t testing.TB, text string) sip.Message {
	t.Helper()
	m, err := message.Parse([]byte(text), true)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return m
}

func slowDial(d time.Duration) func(context.Context, overlay.NodeID) error {
	return func(ctx context.Context, _ overlay.NodeID) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TestRefusals lists what a phone is answered without anybody else hearing of it.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		method string
		uri    string
		extra  []string
		want   string
		header string // must be in the answer
	}{
		{"another scheme", "INVITE", "tel:+15551234", nil, "416", ""},
		{"no hops left", "INVITE", "sip:bob@p2psip.example", []string{"Max-Forwards: 0"}, "483", ""},
		{"no hops left for OPTIONS", "OPTIONS", "sip:p2psip.example", []string{"Max-Forwards: 0"}, "483", ""},
		{"an extension for proxies", "INVITE", "sip:bob@p2psip.example", []string{"Proxy-Require: nothingSupportsThis, foo"}, "420", "Unsupported: nothingSupportsThis, foo"},
		{"unknown user", "INVITE", "sip:nobody@p2psip.example", nil, "100 404", ""},
		{"unknown user, not INVITE", "MESSAGE", "sip:nobody@p2psip.example", nil, "404", ""},
		{"own user without phone", "MESSAGE", "sip:carol@p2psip.example", nil, "480", ""},
		{"a user part nobody may have", "MESSAGE", "sip:" + strings.Repeat("x", 200) + "@p2psip.example", nil, "404", ""},
		{"another domain", "INVITE", "sip:bob@elsewhere.example", nil, "404", "Warning: 399"},
		{"an address", "INVITE", "sip:bob@192.0.2.1", nil, "404", "Warning: 399"},
		{"broadcast", "INVITE", "sip:bob@255.255.255.255", nil, "404", "Warning: 399"},
		{"multicast", "INVITE", "sip:bob@224.0.1.75", nil, "404", "Warning: 399"},
		{"a route to nowhere", "INVITE", "sip:bob@p2psip.example", []string{"Route: <sip:proxy.example;lr>"}, "404", "Warning: 399"},
		{"OPTIONS to the overlay", "OPTIONS", "sip:p2psip.example", nil, "200", "Allow: "},
		{"OPTIONS to the socket", "OPTIONS", "sip:127.0.1.1:5060", nil, "200", ""},
		{"OPTIONS to localhost", "OPTIONS", "sip:localhost:5060", nil, "200", ""},
		{"OPTIONS along an own route", "OPTIONS", "sip:P2PSIP.EXAMPLE", []string{"Route: <sip:127.0.1.1;lr>"}, "200", ""},
		{"INVITE to the overlay", "INVITE", "sip:p2psip.example", nil, "404", ""},
		{"BYE to the overlay", "BYE", "sip:p2psip.example", nil, "481", ""},
		{"REGISTER", "REGISTER", "sip:p2psip.example", nil, "200", ""},
		{"REGISTER elsewhere", "REGISTER", "sip:elsewhere.example", nil, "404", ""},
		{"a GRUU of no device", "MESSAGE", "sip:alice@p2psip.example;gr=other", nil, "404", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			newWorld(t, func(w *world) {
				a, b := w.node(1), w.node(2)
				alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
				bob := b.phone("bob", flow.TransportUDP, 7000, 1000)
				a.owns[aorOf(t, "carol")] = true
				alice.send(alice.out(c.method, c.uri, c.extra...))
				w.after(3 * time.Second)
				if got := alice.got(); got != c.want {
					t.Fatalf("got %q, want %q", got, c.want)
				}
				last := alice.all[len(alice.all)-1]
				if c.header != "" && !strings.Contains(last.String(), "\r\n"+c.header) {
					t.Errorf("no %q in\n%s", c.header, last)
				}
				bob.expect("")
			})
		})
	}
}

// TestLookupErrors is the table of errors as a caller sees it.
func TestLookupErrors(t *testing.T) {
	for _, c := range []struct {
		err   error
		want  string
		retry bool
	}{
		{overlay.ErrUnknownUser, "404", false},
		{overlay.ErrOffline, "480", false},
		{fmt.Errorf("get: %w", overlay.ErrUnreachable), "503", true},
		{errors.New("odd"), "500", false},
	} {
		newWorld(t, func(w *world) {
			a := w.node(1)
			a.locate = func(context.Context, overlay.AOR) []found { return []found{{err: c.err}} }
			alice := a.phone("alice", flow.TransportUDP, 6000, 1000)
			alice.send(alice.out("MESSAGE", "sip:bob@p2psip.example"))
			alice.expect(c.want)
			if got := len(alice.all[0].GetHeaders("Retry-After")) == 1; got != c.retry {
				t.Errorf("%v: Retry-After: %v", c.err, got)
			}
		})
	}
	newWorld(t, func(w *world) { // a lookup that never ends is ended
		a := w.node(1)
		a.locate = func(context.Context, overlay.AOR) []found { return []found{{after: time.Hour}} }
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		alice.send(alice.out("MESSAGE", "sip:bob@p2psip.example"))
		w.after(8*time.Second - 1)
		alice.expect("100")
		w.after(1)
		alice.expect("503")
	})
	newWorld(t, func(w *world) { // a record whose devices have all expired
		a := w.node(1)
		a.locate = func(context.Context, overlay.AOR) []found { return []found{{rec: overlay.Record{}}} }
		alice := a.phone("alice", flow.TransportUDP, 6000, 1000)
		alice.send(alice.out("MESSAGE", "sip:bob@p2psip.example"))
		alice.expect("480")
	})
}

// TestLookupBounds fills the places for lookups.
func TestLookupBounds(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1, func(c *Config) { c.Limits.Lookups, c.Limits.LookupsPerFlow = 3, 2 })
		a.locate = func(context.Context, overlay.AOR) []found {
			return []found{{after: time.Second, err: overlay.ErrUnknownUser}}
		}
		alice, carol := a.phone("alice", flow.TransportUDP, 6000, 1000), a.phone("carol", flow.TransportUDP, 6001, 1000)
		for range 3 {
			alice.send(alice.out("MESSAGE", "sip:bob@p2psip.example"))
		}
		alice.expect("503")
		if len(alice.all[0].GetHeaders("Retry-After")) != 1 {
			t.Error("no Retry-After")
		}
		for range 2 {
			carol.send(carol.out("MESSAGE", "sip:bob@p2psip.example"))
		}
		carol.expect("503")
		w.after(time.Second)
		alice.expect("404 404")
		carol.expect("404")
		alice.send(alice.out("MESSAGE", "sip:bob@p2psip.example"))
		w.after(time.Second)
		alice.expect("404")
	})
}

// fromPeer hands a request to a node as if it came from another one.
func fromPeer(w *world, from, to *node, text string) string {
	w.t.Helper()
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "\r\n")
	text = strings.ReplaceAll(text, "\t", "")
	if !strings.Contains(text, "Call-ID:") {
		text += "\r\nCall-ID: " + unique()
	}
	text += "\r\nVia: SIP/2.0/TLS " + from.name + ";branch=z9hG4bK" + unique() +
		"\r\nMax-Forwards: 60\r\nContent-Length: 0\r\n\r\n"
	f := transactiontest.New(flow.TransportP2P, flow.Addr{Host: to.name}, flow.Addr{Host: from.name})
	f.Far = entitledTo{from}
	to.core.Layer().HandleMessage(f, parse(w.t, text))
	w.run()
	return f.Lines()
}

// TestFromPeer is what another node may and may not ask for.
func TestFromPeer(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b, c := w.node(1), w.node(2), w.node(3)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 7000, 1000)
		carol := c.phone("carol", flow.TransportUDP, 8000, 1000)
		b.owns[aorOf(t, "dave")] = true
		inv, ok := call(alice, bob, "sip:bob@p2psip.example")
		callID := string(*inv.CallID())
		inCall := "Call-ID: " + callID + "\n"
		route := values(ok, "Record-Route")[1] // bob's node towards others, with a token
		token := strings.TrimPrefix(strings.Split(route, "@")[0], "<sip:")
		from := "From: <sip:alice@p2psip.example>;tag=1\nCSeq: 1 MESSAGE\n"

		for _, c := range []struct{ name, text, want, phone string }{
			{"a local phone", "MESSAGE sip:bob@p2psip.example SIP/2.0\n" + from + "To: <sip:bob@p2psip.example>", "", "MESSAGE"},
			{"somebody else's user", "MESSAGE sip:bob@p2psip.example SIP/2.0\nFrom: <sip:carol@p2psip.example>;tag=1\nCSeq: 1 MESSAGE\nTo: <sip:bob@p2psip.example>", "403", ""},
			{"the same with a To tag", "MESSAGE sip:bob@p2psip.example SIP/2.0\nFrom: <sip:carol@p2psip.example>;tag=1\nCSeq: 1 MESSAGE\nTo: <sip:bob@p2psip.example>;tag=2", "403", ""},
			{"an own user without phone", "MESSAGE sip:dave@p2psip.example SIP/2.0\n" + from + "To: <sip:dave@p2psip.example>", "480", ""},
			{"a user of another node", "MESSAGE sip:carol@p2psip.example SIP/2.0\n" + from + "To: <sip:carol@p2psip.example>", "404", ""},
			{"a phone's address", "MESSAGE sip:bob@127.0.2.9:7000 SIP/2.0\n" + from + "To: <sip:bob@p2psip.example>", "403", ""},
			{"any address", "MESSAGE sip:x@192.0.2.1 SIP/2.0\n" + from + "To: <sip:bob@p2psip.example>;tag=9", "481", ""},
			{"another node", "MESSAGE sip:carol@p2psip.example SIP/2.0\nRoute: <sip:" + carol.n.name + ";lr>\n" + from + "To: <sip:carol@p2psip.example>", "403", ""},
			{"a registration", "REGISTER sip:p2psip.example SIP/2.0\nFrom: <sip:alice@p2psip.example>;tag=1\nCSeq: 1 REGISTER\nTo: <sip:alice@p2psip.example>", "403", ""},
			{"along a token", "MESSAGE sip:bob@127.0.2.9:7000 SIP/2.0\nRoute: " + route + "\n" + inCall + from + "To: <sip:bob@p2psip.example>;tag=9", "", "MESSAGE"},
			{"along a token to any Request-URI", "MESSAGE sip:x@192.0.2.1 SIP/2.0\nRoute: " + route + "\n" + inCall + from + "To: <sip:bob@p2psip.example>;tag=9", "", "MESSAGE"},
			{"along a token, in another's name", "MESSAGE sip:bob@127.0.2.9:7000 SIP/2.0\nRoute: " + route + "\n" + inCall + "From: <sip:carol@p2psip.example>;tag=1\nCSeq: 1 MESSAGE\nTo: <sip:bob@p2psip.example>;tag=9", "403", ""},
			{"along the token of another call", "MESSAGE sip:bob@127.0.2.9:7000 SIP/2.0\nRoute: " + route + "\n" + from + "To: <sip:bob@p2psip.example>;tag=9", "481", ""},
			{"along a forged token", "MESSAGE sip:bob@127.0.2.9:7000 SIP/2.0\nRoute: <sip:" + flip(token) + "@" + b.name + ";lr>\n" + inCall + from + "To: <sip:bob@p2psip.example>;tag=9", "481", ""},
			{"along another node's token", "MESSAGE sip:bob@127.0.2.9:7000 SIP/2.0\nRoute: <sip:" + a.core.tokens.make(EndpointOf(bob.f), partyOf(&inv.From().Address), callID) + "@" + b.name + ";lr>\n" + inCall + from + "To: <sip:bob@p2psip.example>;tag=9", "481", ""},
			{"OPTIONS to the node", "OPTIONS sip:" + b.name + " SIP/2.0\nFrom: <sip:alice@p2psip.example>;tag=1\nCSeq: 1 OPTIONS\nTo: <sip:" + b.name + ">", "200", ""},
		} {
			if got := fromPeer(w, a, b, c.text); got != c.want {
				t.Errorf("%s: answered %q, want %q", c.name, got, c.want)
			}
			if got := bob.got(); got != c.phone {
				t.Errorf("%s: bob's phone got %q, want %q", c.name, got, c.phone)
			}
		}
		alice.expect("")
		carol.expect("")
		if b.dials != 0 {
			t.Error("a stream to a third node was opened")
		}
	})
}

// flip changes one character in the middle of a token.
func flip(s string) string {
	b := []byte(s)
	if i := len(b) / 2; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

func TestAdmit(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), a.phone("bob", flow.TransportUDP, 6001, 1000)
		inv, ok := call(alice, bob, "sip:bob@p2psip.example")
		asked := 0
		a.admit = func(tx *transaction.Server, req *sip.Request) bool {
			asked++
			_ = tx.Respond(message.NewResponse(req, 407, ""))
			return false
		}
		alice.send(alice.out("INVITE", "sip:bob@p2psip.example"))
		alice.expect("407")
		bob.expect("")
		alice.send(alice.within("ACK", inv, ok, true, 1))
		bob.expect("ACK")
		alice.send(alice.out("OPTIONS", "sip:p2psip.example"))
		alice.expect("200")
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// TestInventedDialog: a To tag does not make a dialog; a flow token of this node does.
func TestInventedDialog(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 6001, 1000)
		inv, ok := call(alice, bob, "sip:bob@p2psip.example")
		alice.send(alice.within("BYE", inv, ok, true, 2))
		bob.expect("BYE")
		msg := alice.out("MESSAGE", "sip:bob@p2psip.example")
		alice.send(parse(t, strings.Replace(msg.String(), "To: <sip:bob@p2psip.example>", "To: <sip:bob@p2psip.example>;tag=invented", 1)))
		bob.expect("MESSAGE")
		if want := []bool{false, true, false}; !slices.Equal(a.inside, want) {
			t.Errorf("INVITE, BYE and the invented MESSAGE are inside a dialog: %v, want %v", a.inside, want)
		}
	})
}

// TestFromOfAnotherDomainTakesAProxyPeer: a node without that role cannot bring in a call from elsewhere.
func TestFromOfAnotherDomainTakesAProxyPeer(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 6001, 1000)
		send := func() {
			msg := alice.out("MESSAGE", "sip:bob@p2psip.example")
			alice.send(parse(t, strings.Replace(msg.String(), "From: <sip:alice@p2psip.example>", "From: <sip:carol@other.example>", 1)))
		}
		send()
		alice.expect("403")
		bob.expect("")
		a.proxy = true
		send()
		bob.expect("MESSAGE")
	})
}

// TestAssertedIdentity: what a phone says of itself beside From does not reach another (RFC 3325 §5).
func TestAssertedIdentity(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 6001, 1000)
		alice.send(alice.out("MESSAGE", "sip:bob@p2psip.example", "P-Asserted-Identity: <sip:president@bank.example>", "P-Preferred-Identity: <sip:x@bank.example>", "Subject: hello"))
		bob.expect("MESSAGE")
		if text := bob.request("MESSAGE").String(); strings.Contains(text, "bank.example") || !strings.Contains(text, "Subject: hello") {
			t.Errorf("bob's phone got\n%s", text)
		}
	})
}

// TestLoop sends an INVITE round: bob's phone is a proxy that sends everything back to bob's address of record.
func TestLoop(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), a.phone("bob", flow.TransportUDP, 6001, 1000)
		alice.send(alice.out("INVITE", "sip:bob@p2psip.example"))
		bob.expect("INVITE")
		back := func(uri string) sip.Message {
			inv := bob.request("INVITE")
			text := strings.Replace(inv.String(), "INVITE sip:bob@127.0.1.9:6001 ", "INVITE "+uri+" ", 1)
			text = strings.Replace(text, "Via:", "Via: SIP/2.0/UDP 127.0.1.9:6001;branch=z9hG4bK"+unique()+"\r\nVia:", 1)
			return parse(t, text)
		}
		bob.send(back("sip:alice@p2psip.example")) // a spiral: another decision
		bob.expect("100")
		alice.expect("100 INVITE")
		bob.send(back("sip:bob@p2psip.example"))
		bob.expect("482")
	})
}

func TestMaxForwardsIsAdded(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), a.phone("bob", flow.TransportUDP, 6001, 1000)
		msg := alice.out("MESSAGE", "sip:bob@p2psip.example")
		alice.send(parse(t, strings.Replace(msg.String(), "Max-Forwards: 70\r\n", "", 1)))
		bob.expect("MESSAGE")
		if h := bob.request("MESSAGE").MaxForwards(); h == nil || h.Val() != 70 {
			t.Errorf("Max-Forwards: %v", h)
		}
	})
}

// TestUnknownHeadersPass has headers nobody here knows, in their oddest spelling, pass unchanged.
func TestUnknownHeadersPass(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 6001, 1000)
		odd := "UnknownHeaderWithUnusualValue: ;;,,;;,;"
		alice.send(alice.out("MESSAGE", "sip:bob@p2psip.example", odd, `Subject: "a,b" <x>;q="\""`))
		bob.expect("MESSAGE")
		text := bob.request("MESSAGE").String()
		for _, want := range []string{odd, `Subject: "a,b" <x>;q="\""`} {
			if !strings.Contains(text, want+"\r\n") {
				t.Errorf("no %s in\n%s", want, text)
			}
		}
	})
}

// TestSecure refuses to carry a sips request over UDP.
func TestSecure(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportTLS, 6000, 1000), b.phone("bob", flow.TransportUDP, 6001, 1000)
		carol := b.phone("carol", flow.TransportTLS, 6002, 1000)
		alice.send(alice.out("MESSAGE", "sips:bob@p2psip.example"))
		bob.expect("")
		w.after(2 * time.Second)
		alice.expect("480")
		alice.send(alice.out("MESSAGE", "sips:carol@p2psip.example"))
		carol.expect("MESSAGE")
	})
}

// TestRegistrarByAddress: a phone that knows only its registrar's address reaches the overlay's users.
func TestRegistrarByAddress(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 6001, 1000)
		alice.send(alice.out("MESSAGE", "sip:bob@127.0.1.1:5060"))
		bob.expect("MESSAGE")
	})
}

func TestPanicAnswers500(t *testing.T) {
	newWorld(t, func(w *world) {
		a := w.node(1)
		alice := a.phone("alice", flow.TransportUDP, 6000, 1000)
		a.admit = func(*transaction.Server, *sip.Request) bool { panic("fault") }
		alice.send(alice.out("MESSAGE", "sip:bob@p2psip.example"))
		alice.expect("500")
		a.admit = nil
		a.locate = func(context.Context, overlay.AOR) []found { panic("fault") }
		alice.send(alice.out("MESSAGE", "sip:bob@p2psip.example"))
		alice.expect("500")
		if a.core.Stats().Panics+a.core.Stats().Transactions.Panics != 2 {
			t.Error("the panics were not counted")
		}
	})
}
