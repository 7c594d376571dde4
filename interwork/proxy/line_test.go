package proxy

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction/transactiontest"
)

// office is a line to a provider at gate, for whatever alice dials with 9 in front.
type office struct {
	answers int // how many challenges it answers
	asked   int
}

func (o *office) Line(req *sip.Request, uri sip.Uri, leaves bool) Line {
	if !leaves && !strings.HasPrefix(uri.User, "9") || req.From().Address.User != "alice" {
		return nil
	}
	return &call1{o: o, uri: uri, from: req.From(), cseq: req.CSeq().SeqNo, method: req.Method}
}

type call1 struct {
	o      *office
	uri    sip.Uri
	from   *sip.FromHeader
	cseq   uint32
	method sip.RequestMethod
}

func (c *call1) Way() (sip.Uri, []string) {
	if !strings.HasPrefix(c.uri.User, "9") {
		return sip.Uri{}, nil
	}
	return sip.Uri{Scheme: "sip", User: c.uri.User[1:], Host: "provider.example"}, []string{"<sip:out.provider.example;lr>, <sip:further.provider.example;lr>"}
}

func (c *call1) Dress(fwd *sip.Request) {
	fwd.ReplaceHeader(&sip.FromHeader{Address: sip.Uri{Scheme: "sip", User: "4711", Host: "provider.example"}, Params: c.from.Params})
	fwd.ReplaceHeader(&sip.CSeqHeader{SeqNo: c.cseq + uint32(c.o.asked), MethodName: c.method})
}

func (c *call1) Challenged(*sip.Response) (bool, string) {
	if c.o.asked >= c.o.answers {
		return false, "wrong password"
	}
	c.o.asked++
	return true, ""
}

func (c *call1) Undress(res *sip.Response) {
	res.ReplaceHeader(&sip.FromHeader{Address: c.from.Address, Params: c.from.Params})
	res.ReplaceHeader(&sip.CSeqHeader{SeqNo: c.cseq, MethodName: c.method})
}

// TestLine calls out as another address: the provider challenges, the phone hears nothing of it.
func TestLine(t *testing.T) {
	setup := func(t *testing.T, answers int, test func(w *world, alice, gate *phone, o *office)) {
		newWorld(t, func(w *world) {
			o := &office{answers: answers}
			pp, out := w.proxyPeer(8)
			a := w.node(1, func(c *Config) { c.Lines, c.Proxies = o, &through{nodes: []*node{pp}} })
			h := out.hop(flow.TransportUDP, "192.0.2.7:5060", "out.provider.example")
			out.hops["out.provider.example"] = []Hop{h}
			test(w, a.phone("alice", flow.TransportUDP, 6000, 1000), out.outsider("sip:gate@provider.example", h).phone, o)
		})
	}
	challenge := func(gate *phone) {
		t.Helper()
		req := gate.request("INVITE")
		gate.send(gate.answer(req, 407))
		gate.expect("ACK INVITE")
	}
	t.Run("answered", func(t *testing.T) {
		setup(t, 2, func(w *world, alice, gate *phone, o *office) {
			inv := alice.out("INVITE", "sip:90301234@p2psip.example")
			alice.send(inv)
			gate.expect("INVITE")
			at := gate.request("INVITE")
			if at.Recipient.String() != "sip:0301234@provider.example" || !strings.Contains(at.From().Value(), "sip:4711@provider.example") {
				t.Errorf("%s", at)
			}
			if got := strings.Join(values(at, "Route"), ", "); got != "<sip:out.provider.example;lr>, <sip:further.provider.example;lr>" {
				t.Errorf("Route: %s", got)
			}
			challenge(gate)
			challenge(gate)
			at = gate.request("INVITE")
			if at.CSeq().SeqNo != 3 {
				t.Errorf("CSeq %d", at.CSeq().SeqNo)
			}
			gate.send(gate.answer(at, 200))
			alice.expect("100 200")
			ok := alice.response("200")
			if ok.From().Value() != inv.From().Value() || ok.CSeq().Value() != "1 INVITE" {
				t.Errorf("%s", ok)
			}
			alice.send(alice.within("ACK", inv, ok, true, 1))
			gate.expect("ACK")
			if ack := gate.request("ACK"); ack.CSeq().SeqNo != 3 || !strings.Contains(ack.From().Value(), "4711") {
				t.Errorf("%s", ack)
			}
		})
	})
	t.Run("refused", func(t *testing.T) {
		setup(t, 1, func(w *world, alice, gate *phone, o *office) {
			alice.send(alice.out("INVITE", "sip:90301234@p2psip.example"))
			gate.expect("INVITE")
			challenge(gate)
			req := gate.request("INVITE")
			gate.send(gate.answer(req, 401))
			gate.expect("ACK")
			alice.expect("100 403")
			if res := alice.response("403"); !strings.Contains(res.String(), "wrong password") || len(res.GetHeaders("Proxy-Authenticate")) != 0 {
				t.Errorf("%s", res)
			}
		})
	})
	t.Run("cancelled", func(t *testing.T) {
		setup(t, 1, func(w *world, alice, gate *phone, o *office) {
			inv := alice.out("INVITE", "sip:90301234@p2psip.example")
			alice.send(inv)
			gate.expect("INVITE")
			challenge(gate)
			at := gate.request("INVITE")
			gate.send(gate.answer(at, 180))
			text := strings.Replace(inv.String(), "INVITE sip:", "CANCEL sip:", 1)
			alice.send(parse(t, strings.Replace(text, "CSeq: 1 INVITE", "CSeq: 1 CANCEL", 1)))
			gate.expect("CANCEL")
			if c := gate.request("CANCEL"); c.CSeq().SeqNo != 2 {
				t.Errorf("%s", c)
			}
			gate.send(gate.answer(gate.request("CANCEL"), 200))
			gate.send(gate.answer(at, 487))
			alice.expect("100 180 200 487")
			w.after(time.Second)
		})
	})
	t.Run("cancelled before the challenge", func(t *testing.T) {
		setup(t, 1, func(w *world, alice, gate *phone, o *office) {
			inv := alice.out("INVITE", "sip:90301234@p2psip.example")
			alice.send(inv)
			gate.expect("INVITE")
			at := gate.request("INVITE")
			text := strings.Replace(inv.String(), "INVITE sip:", "CANCEL sip:", 1)
			alice.send(parse(t, strings.Replace(text, "CSeq: 1 INVITE", "CSeq: 1 CANCEL", 1)))
			gate.send(gate.answer(at, 407))
			gate.expect("ACK")
			alice.expect("100 200 407")
			if o.asked != 0 {
				t.Error("sent once more for nobody")
			}
		})
	})
}

// TestSend sends a request of the node's own to another node and waits for its answer.
func TestSend(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		req := transactiontest.Parse("OPTIONS sip:p2psip.example SIP/2.0\nVia: SIP/2.0/TLS x;branch=z9hG4bKx\nFrom: <sip:alice@p2psip.example>;tag=1\n" +
			"To: <sip:p2psip.example>\nCall-ID: c\nCSeq: 1 OPTIONS\nMax-Forwards: 70\nContent-Length: 0\n").(*sip.Request)
		message.PopVia(req)
		type result struct {
			res *sip.Response
			err error
		}
		done := make(chan result, 1)
		ask := func(to *node) result {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			go func() {
				res, err := a.core.Send(ctx, req, Target{Node: to.id})
				done <- result{res, err}
			}()
			for range 20 {
				w.after(300 * time.Millisecond)
				select {
				case r := <-done:
					return r
				default:
				}
			}
			t.Fatal("no end")
			return result{}
		}
		if r := ask(b); r.err != nil || r.res.StatusCode != 200 {
			t.Errorf("%v, %v", r.res, r.err)
		}
		if r := ask(&node{id: nodeID(t, 77)}); r.err == nil {
			t.Error("an answer from nobody")
		}
		if r := ask(a); r.err == nil {
			t.Error("this node is no proxy peer")
		}
	})
}
