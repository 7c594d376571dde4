package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/transaction/transactiontest"
	"p2psip/overlay"
)

// outside is the public side of a proxy peer in memory.
type outside struct {
	n     *node
	local flow.Addr
	hops  map[string][]Hop // of a domain
	flows map[Hop]*transactiontest.Flow
	dead  map[Hop]error // what opening gives
	enter func(req *sip.Request) error
	mu    sync.Mutex // guards what follows
	tried []string

	trusts bool
}

func (o *outside) Trusts(flow.Flow) bool { return o.trusts }

func (o *outside) Enter(_ context.Context, _ flow.Flow, req *sip.Request) error {
	if o.enter == nil {
		return nil
	}
	return o.enter(req)
}
func (o *outside) Hops(_ context.Context, uri sip.Uri, _ flow.Flow, _ *sip.Request) ([]Hop, error) {
	if ap, err := netip.ParseAddr(uri.Host); err == nil {
		return []Hop{{Transport: flow.TransportUDP, Addr: netip.AddrPortFrom(ap, uint16(uri.Port)), Name: uri.Host}}, nil
	}
	if hs := o.hops[uri.Host]; hs != nil {
		return hs, nil
	}
	return nil, &Refusal{404, "Not Found", "no such domain"}
}
func (o *outside) Living(h Hop) (flow.Flow, bool) {
	if h.Transport == flow.TransportUDP { // whatever the name
		return o.Back(Endpoint{Transport: h.Transport, Remote: flow.AddrFrom(h.Addr)})
	}
	f := o.flows[h]
	return f, f != nil && o.dead[h] == nil
}
func (o *outside) Open(_ context.Context, h Hop) (flow.Flow, error) {
	if err := o.dead[h]; err != nil {
		return nil, err
	}
	return o.at(h), nil
}
func (o *outside) Back(e Endpoint) (flow.Flow, bool) {
	for _, f := range o.flows {
		if f.T == e.Transport && f.To == e.Remote {
			return f, true
		}
	}
	return nil, false
}
func (o *outside) Tried(h Hop, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tried = append(o.tried, fmt.Sprintf("%s %v", h, err))
}
func (o *outside) Answered(flow.Flow, sip.RequestMethod, int) {}

// at gives the flow to a hop.
func (o *outside) at(h Hop) *transactiontest.Flow {
	if o.flows[h] == nil {
		f := transactiontest.New(h.Transport, o.local, flow.AddrFrom(h.Addr))
		f.Public = true
		o.flows[h] = f
	}
	return o.flows[h]
}

// hop makes a hop, and the flow to it.
func (o *outside) hop(tr flow.Transport, addr, name string) Hop {
	h := Hop{tr, netip.MustParseAddrPort(addr), name}
	o.at(h)
	return h
}

// TestLookupsOfTrusted: a source outside that the border trusts may have more lookups under way than another one, and not all.
func TestLookupsOfTrusted(t *testing.T) {
	for _, trusts := range []bool{false, true} {
		newWorld(t, func(w *world) {
			p, out := w.proxyPeer(8, func(c *Config) { c.Limits.Lookups, c.Limits.LookupsPerHost = 8, 2 })
			out.trusts = trusts
			p.locate = func(context.Context, overlay.AOR) []found {
				return []found{{after: time.Second, err: overlay.ErrUnknownUser}}
			}
			carol := out.outsider("sip:carol@example.com", out.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com"))
			for range 8 {
				carol.send(carol.invite("MESSAGE", "sip:alice@p2psip.example"))
			}
			want := 2
			if trusts {
				want = 6
			}
			if got := strings.Count(carol.got(), "503"); got != 8-want {
				t.Errorf("trusted %v: %d refused, want %d", trusts, got, 8-want)
			}
			w.after(time.Second)
			if got := strings.Count(carol.got(), "404"); got != want {
				t.Errorf("trusted %v: %d looked up, want %d", trusts, got, want)
			}
		})
	}
}

// proxyPeer makes a node that is a proxy peer, at 127.0.<number>.2:5060.
func (w *world) proxyPeer(number byte, change ...func(*Config)) (*node, *outside) {
	o := &outside{local: flow.Addr{Host: fmt.Sprintf("127.0.%d.2", number), Port: 5060}, hops: map[string][]Hop{},
		flows: map[Hop]*transactiontest.Flow{}, dead: map[Hop]error{}}
	n := w.node(number, func(c *Config) {
		c.Border, c.Public, c.Words = o, []PublicAddr{{o.local, o.local}}, sharedKey("proxy peers")
		for _, f := range change {
			f(c)
		}
	})
	n.proxy, o.n = true, n
	return n, o
}

// through lists proxy peers, and drops those that fail.
type through struct {
	nodes  []*node
	others []*node // that only a search finds
	failed []overlay.NodeID
}

func (p *through) Warm() (ts []Target) {
	for _, n := range p.nodes {
		if !slices.Contains(p.failed, n.id) {
			ts = append(ts, Target{Node: n.id})
		}
	}
	return ts
}
func (p *through) Find(context.Context) ([]Target, error) {
	p.nodes, p.others = append(p.nodes, p.others...), nil
	return p.Warm(), nil
}
func (p *through) Failed(n overlay.NodeID) { p.failed = append(p.failed, n) }

// outsider is a user agent of the public side, seen through one hop of each proxy peer.
type outsider struct {
	*phone
	uri string
}

func (o *outside) outsider(uri string, h Hop) *outsider {
	return &outsider{&phone{n: o.n, f: o.at(h), last: map[string]sip.Message{}, aor: aorOf(o.n.w.t, "outsider")}, uri}
}

// invite makes a request of an outsider.
func (o *outsider) invite(method, uri string, extra ...string) *sip.Request {
	text := o.out(method, uri, extra...).String()
	text = strings.Replace(text, "From: <"+o.aor.String()+">", "From: <"+o.uri+">", 1)
	return parse(o.n.w.t, text).(*sip.Request)
}

// TestOutboundCall is flow 5.2 of the draft with what follows: alice's node, a proxy peer, carol outside; the proxy peer
// dies and either side goes on through another one.
func TestOutboundCall(t *testing.T) {
	newWorld(t, func(w *world) {
		p1, out1 := w.proxyPeer(8)
		p2, out2 := w.proxyPeer(9)
		ways := &through{nodes: []*node{p1, p2}}
		a := w.node(1, func(c *Config) { c.Proxies = ways })
		alice := a.phone("alice", flow.TransportUDP, 6000, 1000)
		h := out1.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com")
		out1.hops["example.com"] = []Hop{h}
		carol := out1.outsider("sip:carol@example.com", h)

		inv := alice.out("INVITE", "sip:carol@example.com")
		alice.send(inv)
		carol.expect("INVITE")
		at := carol.request("INVITE")
		checkOutside(t, at, "sip:alice@p2psip.example;gr=dev6000", "<sip:p2psip.example;lr>")
		if at.Recipient.String() != "sip:carol@example.com" || len(at.GetHeaders("Route")) != 0 {
			t.Errorf("the INVITE outside:\n%s", at)
		}
		carol.send(carol.answer(at, 180))
		carol.send(carol.answer(at, 200))
		alice.expect("100 180 200")
		ok := alice.response("200")
		if rr := values(ok, "Record-Route"); len(rr) != 2 || rr[0] != "<sip:p2psip.example;lr>" || !strings.HasSuffix(rr[1], "@127.0.1.1:5060;transport=udp;lr>") {
			t.Errorf("Record-Routes for alice's phone: %q", rr)
		}
		alice.send(alice.within("ACK", inv, ok, true, 1))
		carol.expect("ACK")
		if ack := carol.request("ACK"); len(ack.GetHeaders("Route")) != 0 || ack.Recipient.Host != "192.0.2.7" {
			t.Errorf("the ACK outside:\n%s", ack)
		}
		for i, method := range []string{"INVITE", "UPDATE", "INFO", "MESSAGE", "REFER", "NOTIFY", "PRACK", "SUBSCRIBE"} {
			alice.send(alice.within(method, inv, ok, true, 2+i))
			carol.expect(method)
			checkOutside(t, carol.request(method), "", "<sip:p2psip.example;lr>")
			carol.send(carol.answer(carol.request(method), 200))
			alice.got()
		}

		// The proxy peer of the call is gone: each side speaks through the other one.
		p1.kill()
		h2 := out2.hop(flow.TransportUDP, "192.0.2.7:5060", "192.0.2.7")
		again := out2.outsider("sip:carol@example.com", h2)
		again.send(again.within("INFO", at, carol.answer(at, 200), false, 40))
		alice.expect("INFO")
		if got := alice.request("INFO").Recipient.String(); got != "sip:alice@127.0.1.9:6000" {
			t.Errorf("carol's INFO arrived for %s", got)
		}
		alice.send(alice.answer(alice.request("INFO"), 200))
		again.expect("200")
		alice.send(alice.within("BYE", inv, ok, true, 60))
		w.after(2 * time.Second)
		if got := again.got(); !strings.HasPrefix(got, "BYE") { // and its repetitions
			t.Errorf("carol got %q", got)
		}
		again.send(again.answer(again.request("BYE"), 200))
		if got := alice.got(); !strings.HasSuffix(got, "200") {
			t.Errorf("the BYE: %q", got)
		}
		if !slices.Equal(ways.failed, []overlay.NodeID{p1.id}) {
			t.Errorf("failed: %v", ways.failed)
		}
	})
}

// checkOutside looks at what the public side sees of a node beyond the Via.
func checkOutside(t *testing.T, m *sip.Request, contact, rr string) {
	t.Helper()
	if contact != "" && (m.Contact() == nil || m.Contact().Address.String() != contact) {
		t.Errorf("Contact of\n%s", m)
	}
	if got := values(m, "Record-Route"); len(got) == 0 || got[0] != rr || len(got) > 1 {
		t.Errorf("Record-Routes %q of\n%s", got, m)
	}
	for _, h := range m.Headers() {
		if h.Name() != "Via" && h.Name() != "Call-ID" && (strings.Contains(h.Value(), "127.0.") || strings.Contains(h.Value(), ".p2psip.example")) {
			t.Errorf("an address inside: %s", h)
		}
	}
}

// kill is the silent death of a node: nothing goes in or out of it any more, and nobody is told.
func (n *node) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		l.Hook(func([]byte) {})
	}
	for _, far := range n.w.nodes {
		if l := far.links[n.id]; l != nil && far != n {
			l.Hook(func([]byte) {})
		}
		if far != n {
			dial := far.dial
			far.dial = func(ctx context.Context, to overlay.NodeID) error {
				if to == n.id {
					<-ctx.Done()
					return ctx.Err()
				}
				if dial != nil {
					return dial(ctx, to)
				}
				return nil
			}
		}
	}
}

// TestInboundCall is flow 5.3: carol outside calls alice through a proxy peer, and both go on through another one.
func TestInboundCall(t *testing.T) {
	newWorld(t, func(w *world) {
		p1, out1 := w.proxyPeer(8)
		p2, out2 := w.proxyPeer(9)
		ways := &through{nodes: []*node{p1, p2}}
		a := w.node(1, func(c *Config) { c.Proxies = ways })
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		carol := out1.outsider("sip:carol@example.com", out1.hop(flow.TransportUDP, "192.0.2.7:5060", ""))
		inv := carol.invite("INVITE", "sip:alice@p2psip.example")
		carol.send(inv)
		alice.expect("INVITE")
		at := alice.request("INVITE")
		if rr := values(at, "Record-Route"); len(rr) != 2 || !strings.HasSuffix(rr[0], "@127.0.1.1:5060;transport=tcp;lr>") || rr[1] != "<sip:p2psip.example;lr>" {
			t.Errorf("Record-Routes at alice's phone: %q", rr)
		}
		alice.send(alice.answer(at, 180))
		ok200 := alice.answer(at, 200)
		alice.send(ok200)
		carol.expect("100 180 200")
		ok := carol.response("200")
		if rr := values(ok, "Record-Route"); !slices.Equal(rr, []string{"<sip:p2psip.example;lr>"}) {
			t.Errorf("Record-Routes outside: %q", rr)
		}
		if c := ok.Contact().Address; c.String() != "sip:alice@p2psip.example;gr=dev6000" {
			t.Errorf("Contact outside: %s", c.String())
		}
		carol.send(carol.within("ACK", inv, ok, true, 1))
		alice.expect("ACK")
		p1.kill()
		h2 := out2.hop(flow.TransportUDP, "192.0.2.7:5060", "192.0.2.7")
		again := out2.outsider("sip:carol@example.com", h2)
		again.send(again.within("INVITE", inv, ok, true, 2))
		alice.expect("INVITE")
		alice.send(alice.answer(alice.request("INVITE"), 200))
		again.expect("100 200")
		if c := again.response("200").Contact().Address; c.String() != "sip:alice@p2psip.example;gr=dev6000" {
			t.Errorf("Contact of the re-INVITE's 200: %s", c.String())
		}
		again.send(again.within("ACK", inv, ok, true, 2))
		alice.expect("ACK")
		alice.send(alice.within("BYE", inv, ok200, false, 2))
		w.after(2 * time.Second)
		if got := again.got(); !strings.HasPrefix(got, "BYE") { // and its repetitions
			t.Errorf("carol got %q", got)
		}
	})
}

// TestAckBeforeReinvite has carol outside send the ACK and at once the next INVITE of a call. The proxy peer looks for alice's node
// for each of them; however long the first search takes, the ACK arrives first, or her phone would say 491.
func TestAckBeforeReinvite(t *testing.T) {
	for _, first := range []time.Duration{0, 50 * time.Millisecond, time.Second} {
		newWorld(t, func(w *world) {
			p, out := w.proxyPeer(8)
			a := w.node(1, func(c *Config) { c.Proxies = &through{nodes: []*node{p}} })
			alice := a.phone("alice", flow.TransportUDP, 6000, 1000)
			carol := out.outsider("sip:carol@example.com", out.hop(flow.TransportUDP, "192.0.2.7:5060", ""))
			inv := carol.invite("INVITE", "sip:alice@p2psip.example")
			carol.send(inv)
			alice.expect("INVITE")
			alice.send(alice.answer(alice.request("INVITE"), 200))
			carol.expect("100 200")
			ok := carol.response("200")
			searches := 0
			p.locate = func(_ context.Context, aor overlay.AOR) []found {
				if searches++; searches == 1 {
					return []found{{after: first, rec: w.record(aor)}}
				}
				return []found{{rec: w.record(aor)}}
			}
			carol.send(carol.within("ACK", inv, ok, true, 1))
			carol.send(carol.within("INVITE", inv, ok, true, 2))
			w.after(first + time.Second)
			if got := alice.got(); !strings.HasPrefix(got, "ACK INVITE") { // and its repetitions
				t.Errorf("after a search of %v alice's phone got %q", first, got)
			}
		})
	}
}

// TestBothRoles has the phone beside the proxy peer itself.
func TestBothRoles(t *testing.T) {
	newWorld(t, func(w *world) {
		p, out := w.proxyPeer(8)
		alice := p.phone("alice", flow.TransportUDP, 6000, 1000)
		h := out.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com")
		out.hops["example.com"] = []Hop{h}
		out.hops["192.0.2.7"] = []Hop{h}
		carol := out.outsider("sip:carol@example.com", h)
		inv := alice.out("INVITE", "sip:carol@example.com")
		alice.send(inv)
		carol.expect("INVITE")
		at := carol.request("INVITE")
		checkOutside(t, at, "sip:alice@p2psip.example;gr=dev6000", "<sip:p2psip.example;lr>")
		carol.send(carol.answer(at, 200))
		alice.expect("100 200")
		ok := alice.response("200")
		alice.send(alice.within("ACK", inv, ok, true, 1))
		carol.send(carol.within("BYE", at, carol.answer(at, 200), false, 2))
		alice.expect("BYE")

		inv = carol.invite("INVITE", "sip:alice@p2psip.example")
		carol.send(inv)
		alice.expect("INVITE")
		at = alice.request("INVITE")
		ok200 := alice.answer(at, 200)
		alice.send(ok200)
		if got := carol.got(); !strings.HasSuffix(got, "200") {
			t.Fatalf("carol got %s", got)
		}
		ok = carol.response("200")
		if rr := values(ok, "Record-Route"); !slices.Equal(rr, []string{"<sip:p2psip.example;lr>"}) || ok.Contact().Address.Host != "p2psip.example" {
			t.Errorf("outside:\n%s", ok)
		}
		carol.send(carol.within("ACK", inv, ok, true, 1))
		alice.send(alice.within("BYE", inv, ok200, false, 2))
		if got := carol.got(); !strings.Contains(got, "BYE") {
			t.Errorf("carol got %q, alice %q", got, alice.got())
		}
	})
}

// TestOpenRelay lists what outsiders may not have carried.
func TestOpenRelay(t *testing.T) {
	for _, c := range []struct {
		name, method, uri string
		extra             []string
		want              string
	}{
		{"foreign Request-URI", "INVITE", "sip:x@example.org", nil, "403"},
		{"an address", "MESSAGE", "sip:x@192.0.2.99", nil, "403"},
		{"a foreign Route", "INVITE", "sip:alice@p2psip.example", []string{"Route: <sip:example.org;lr>"}, "403"},
		{"our Route and a foreign Request-URI", "INVITE", "sip:x@example.org", []string{"Route: <sip:p2psip.example;lr>"}, "403"},
		{"our Route and a foreign one", "INVITE", "sip:alice@p2psip.example", []string{"Route: <sip:p2psip.example;lr>, <sip:example.org;lr>"}, "403"},
		{"a node's Route", "INVITE", "sip:x@example.org", []string{"Route: <sip:NODE;lr>"}, "403"},
		{"maddr", "INVITE", "sip:alice@p2psip.example;maddr=192.0.2.99", nil, "403"},
		{"tel", "INVITE", "tel:+15551234", nil, "403"},
		{"strict route", "INVITE", "sip:p2psip.example;lr", []string{"Route: <sip:x@example.org>"}, "403"},
		{"REGISTER", "REGISTER", "sip:p2psip.example", nil, "403"},
		{"REGISTER of others", "REGISTER", "sip:example.org", nil, "403"},
		{"nobody", "MESSAGE", "sip:nobody@p2psip.example", nil, "404"},
		{"away", "MESSAGE", "sip:away@p2psip.example", nil, "480"},
		{"OPTIONS", "OPTIONS", "sip:p2psip.example", nil, "200"},
		{"OPTIONS to the address", "OPTIONS", "sip:127.0.8.2", nil, "200"},
		{"a user of ours", "MESSAGE", "sip:alice@p2psip.example", nil, ""},
		{"a user of ours by address", "MESSAGE", "sip:alice@127.0.8.2:5060", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			newWorld(t, func(w *world) {
				p, out := w.proxyPeer(8)
				a := w.node(1)
				alice := a.phone("alice", flow.TransportUDP, 6000, 1000)
				p.locate = func(_ context.Context, aor overlay.AOR) []found {
					if aor.User() == "away" {
						return []found{{rec: overlay.Record{AOR: aor}}}
					}
					if rec := w.record(aor); len(rec.Nodes) > 0 {
						return []found{{rec: rec}}
					}
					return []found{{err: overlay.ErrUnknownUser}}
				}
				x := out.hop(flow.TransportUDP, "192.0.2.99:5060", "example.org")
				out.hops["example.org"] = []Hop{x}
				carol := out.outsider("sip:carol@example.com", out.hop(flow.TransportUDP, "192.0.2.7:5060", ""))
				for i := range c.extra {
					c.extra[i] = strings.ReplaceAll(c.extra[i], "NODE", a.name)
				}
				carol.send(carol.invite(c.method, c.uri, c.extra...))
				w.after(100 * time.Millisecond)
				got := strings.TrimPrefix(carol.got(), "100 ")
				if got != c.want {
					t.Errorf("answered %q, want %q", got, c.want)
				}
				if rang := alice.got() != ""; rang != (c.want == "") {
					t.Errorf("alice rang: %v", rang)
				}
				if s := out.at(x).Lines(); s != "" {
					t.Errorf("relayed: %s", s)
				}
			})
		})
	}
}

// sharedKey is the words of proxy peers that all have one key.
type sharedKey string

func (k sharedKey) Give(text []byte) ([]byte, error) {
	sum := sha256.Sum256(append([]byte(k), text...))
	return sum[:], nil
}
func (k sharedKey) Believe(_ context.Context, text, word []byte) bool {
	want, _ := k.Give(text)
	return bytes.Equal(want, word)
}

// TestForgedFrom has an outsider claim to be a user of the overlay, and a call of such a user come back diverted, through the
// proxy peer that it left by and through another one.
func TestForgedFrom(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(p1, p2 *node)
		edit   func(text string) string
		later  time.Duration
		want   string // "" for delivered
	}{
		{name: "as it was"},
		{name: "after a minute", later: time.Minute},
		{name: "after ten minutes", later: 10 * time.Minute, want: "403"},
		{name: "without a word", edit: func(s string) string { return strings.ReplaceAll(s, ";p2psip-word=", ";x=") }, want: "403"},
		{name: "the word of somebody else", change: func(_, p2 *node) { p2.core.cfg.Words = sharedKey("nobody else's") }, want: "403"},
		{name: "nobody's word counts", change: func(_, p2 *node) { p2.core.cfg.Words = nil }, want: "403"},
		{name: "another From", edit: func(s string) string { return strings.Replace(s, "From: <sip:alice@", "From: <sip:bob@", 1) }, want: "403"},
		{name: "another tag", edit: func(s string) string {
			return strings.Replace(s, "From: <sip:alice@p2psip.example>;tag=", "From: <sip:alice@p2psip.example>;tag=x", 1)
		}, want: "403"},
		{name: "another Call-ID", edit: func(s string) string { return strings.Replace(s, "Call-ID: ", "Call-ID: x", 1) }, want: "403"},
		{name: "another Contact", edit: func(s string) string { return strings.Replace(s, "Contact: <sip:alice@", "Contact: <sip:mallory@", 1) }, want: "403"},
		{name: "another CSeq", edit: func(s string) string { return strings.Replace(s, "CSeq: 1", "CSeq: 12", 1) }, want: "403"},
		{name: "another method", edit: func(s string) string { return strings.ReplaceAll(s, "INVITE", "SUBSCRIBE") }, want: "403"},
		{name: "to a foreign domain", edit: func(s string) string { return strings.Replace(s, "sip:bob@p2psip.example ", "sip:bob@example.org ", 1) }, want: "403"},
		{name: "by a foreign Route", edit: func(s string) string {
			return strings.Replace(s, "\r\nVia: ", "\r\nRoute: <sip:example.org;lr>\r\nVia: ", 1)
		}, want: "403"},
	} {
		for _, back := range []string{"the same", "another"} {
			t.Run(c.name+", "+back, func(t *testing.T) {
				newWorld(t, func(w *world) {
					p1, out1 := w.proxyPeer(8)
					p2, out2 := p1, out1
					if back == "another" {
						p2, out2 = w.proxyPeer(9)
					}
					a := w.node(1, func(c *Config) { c.Proxies = &through{nodes: []*node{p1}} })
					alice, bob := a.phone("alice", flow.TransportTCP, 6000, 1000), a.phone("bob", flow.TransportTCP, 6001, 1000)
					h := out1.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com")
					out1.hops["example.com"] = []Hop{h}
					mallory := out1.outsider("sip:bob@p2psip.example", h)
					mallory.send(mallory.invite("MESSAGE", "sip:alice@p2psip.example"))
					mallory.expect("403")
					alice.expect("")

					alice.send(alice.out("INVITE", "sip:carol@example.com"))
					mallory.expect("INVITE")
					if c.change != nil {
						c.change(p1, p2)
					}
					again := out2.outsider("sip:bob@p2psip.example", out2.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com"))
					text := mallory.request("INVITE").String()
					text = strings.Replace(text, "INVITE sip:carol@example.com ", "INVITE sip:bob@p2psip.example ", 1)
					text = strings.Replace(text, "\r\nVia: ", "\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK"+unique()+"\r\nVia: ", 1)
					if c.edit != nil {
						changed := c.edit(text)
						if changed == text {
							t.Fatalf("nothing was changed in\n%s", text)
						}
						text = changed
					}
					time.Sleep(c.later) // in virtual time
					again.got()
					p2.core.Layer().HandleMessage(out2.at(h), parse(t, text))
					w.run()
					if c.want == "" {
						bob.expect("INVITE")
						bob.send(bob.answer(bob.request("INVITE"), 200))
						if got := again.got(); !strings.HasSuffix(got, "200") {
							t.Errorf("outside: %q", got)
						}
						return
					}
					bob.expect("")
					if got := again.got(); !strings.HasSuffix(got, c.want) {
						t.Errorf("outside: %q", got)
					}
				})
			})
		}
	}
}

// TestMembersOnly lists what a member may have carried out of the overlay.
func TestMembersOnly(t *testing.T) {
	for _, c := range []struct {
		name, from, uri string
		extra           string
		want            string // "" for carried
	}{
		{"his own user", "sip:alice@p2psip.example", "sip:x@example.org", "", ""},
		{"another user", "sip:bob@p2psip.example", "sip:x@example.org", "", "403"},
		{"a foreign From", "sip:mallory@bank.example", "sip:x@example.org", "", "403"},
		{"a foreign From and a To tag", "sip:mallory@bank.example", "sip:x@example.org", "To: <sip:x@example.org>;tag=t", "403"},
		{"a foreign From to its own domain", "sip:alice@example.org", "sip:x@example.org", "", ""},
		{"a foreign From to its own server", "sip:alice@example.org", "sip:x@elsewhere.example", "Route: <sip:192.0.2.99:5060;lr>", ""},
		{"maddr", "sip:alice@p2psip.example", "sip:x@example.org;maddr=192.0.2.1", "", "403"},
		{"maddr in the Route", "sip:alice@p2psip.example", "sip:x@example.org", "Route: <sip:example.org;maddr=192.0.2.1;lr>", "403"},
		{"a Route to a node", "sip:alice@p2psip.example", "sip:x@example.org", "Route: <sip:NODE;lr>", "403"},
		{"no such domain", "sip:alice@p2psip.example", "sip:x@nowhere.example", "", "404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			newWorld(t, func(w *world) {
				p, out := w.proxyPeer(8)
				a, b := w.node(1), w.node(2)
				a.owns[aorOf(t, "alice")] = true
				b.owns[aorOf(t, "bob")] = true
				x := out.hop(flow.TransportUDP, "192.0.2.99:5060", "example.org")
				out.hops["example.org"] = []Hop{x}
				out.flows[Hop{flow.TransportUDP, x.Addr, "192.0.2.99"}] = out.at(x)
				link := a.link(p)
				var got []string
				p.links[a.id].Hook(func(b []byte) { got = append(got, strings.Fields(string(b))[1]) })
				to := "To: <" + c.uri + ">"
				extra := c.extra
				if strings.HasPrefix(extra, "To:") {
					to, extra = extra, ""
				}
				text := fmt.Sprintf("MESSAGE %s SIP/2.0\nVia: SIP/2.0/TLS %s;branch=z9hG4bK%s\nFrom: <%s>;tag=f\n%s\nCall-ID: %s\nCSeq: 1 MESSAGE\nMax-Forwards: 70\n%s\nContent-Length: 0\n",
					c.uri, a.name, unique(), c.from, to, unique(), strings.ReplaceAll(extra, "NODE", b.name))
				text = strings.ReplaceAll(strings.ReplaceAll(text, "\n\n", "\n"), "\n", "\r\n") + "\r\n"
				p.core.Layer().HandleMessage(p.links[a.id], parse(t, text))
				w.run()
				carried := out.at(x).Lines() != ""
				if carried != (c.want == "") || strings.Join(got, " ") != c.want {
					t.Errorf("carried %v, answered %q, want %q", carried, got, c.want)
				}
				_ = link
			})
		})
	}
}

// TestHopFailover moves to the next place on 503, refusal and silence, and stays with any other answer.
func TestHopFailover(t *testing.T) {
	for _, c := range []struct {
		name  string
		first int // answer of the first hop; 0 silent, -1 refuses connections
		want  string
		asked bool // the second hop was
	}{
		{"503", 503, "100 200", true},
		{"refused", -1, "100 200", true},
		{"silent", 0, "100 200", true},
		{"486", 486, "100 486", false},
		{"500", 500, "100 500", false},
		{"404", 404, "100 404", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			newWorld(t, func(w *world) {
				p, out := w.proxyPeer(8)
				alice := p.phone("alice", flow.TransportTCP, 6000, 1000)
				h1 := out.hop(flow.TransportTCP, "192.0.2.7:5060", "example.com")
				h2 := out.hop(flow.TransportTCP, "192.0.2.8:5060", "example.com")
				out.hops["example.com"] = []Hop{h1, h2}
				if c.first < 0 {
					out.dead[h1] = errors.New("connection refused")
				}
				one, two := out.outsider("sip:carol@example.com", h1), out.outsider("sip:carol@example.com", h2)
				alice.send(alice.out("INVITE", "sip:carol@example.com"))
				if c.first > 0 {
					one.expect("INVITE")
					one.send(one.answer(one.request("INVITE"), c.first))
				}
				w.after(5 * time.Second)
				if asked := two.got() == "INVITE"; asked != c.asked {
					t.Errorf("the second one was asked: %v", asked)
				} else if asked {
					two.send(two.answer(two.request("INVITE"), 200))
				}
				alice.expect(c.want)
				if c.asked && (len(out.tried) != 2 || !strings.HasSuffix(out.tried[1], "<nil>")) {
					t.Errorf("told %q", out.tried)
				}
			})
		})
	}
	newWorld(t, func(w *world) { // all of them: 502 for the caller
		p, out := w.proxyPeer(8)
		alice := p.phone("alice", flow.TransportTCP, 6000, 1000)
		h := out.hop(flow.TransportTCP, "192.0.2.7:5060", "example.com")
		out.hops["example.com"], out.dead[h] = []Hop{h}, errors.New("connection refused")
		alice.send(alice.out("INVITE", "sip:carol@example.com"))
		alice.expect("100 502")
	})
}

// TestLargeRequest goes by TCP, and by UDP where there is none (§18.1.1).
func TestLargeRequest(t *testing.T) {
	for _, tcp := range []bool{true, false} {
		newWorld(t, func(w *world) {
			p, out := w.proxyPeer(8)
			alice := p.phone("alice", flow.TransportTCP, 6000, 1000)
			h := out.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com")
			byTCP := Hop{flow.TransportTCP, h.Addr, h.Name}
			out.hops["example.com"] = []Hop{h}
			if !tcp {
				out.dead[byTCP] = errors.New("connection refused")
			}
			alice.send(alice.out("INVITE", "sip:carol@example.com"))
			if got := out.at(h).Lines(); got != "INVITE" {
				t.Errorf("a small one by UDP: %q", got)
			}
			alice.send(alice.out("MESSAGE", "sip:carol@example.com", "Subject: "+strings.Repeat("x", 1000)))
			if got := out.at(byTCP).Lines(); (got == "MESSAGE") != tcp {
				t.Errorf("by TCP: %q", got)
			}
			if got := out.at(h).Lines(); (got == "MESSAGE") == tcp {
				t.Errorf("by UDP: %q", got)
			}
		})
	}
}

// TestSilentProxyPeer has a proxy peer die without a word: the caller's INVITE goes through the next one within 2 s, and
// with both dead the caller hears within 4 s.
func TestSilentProxyPeer(t *testing.T) {
	for _, dead := range []int{1, 2} {
		newWorld(t, func(w *world) {
			p1, _ := w.proxyPeer(8)
			p2, out2 := w.proxyPeer(9)
			a := w.node(1, func(c *Config) { c.Proxies = &through{nodes: []*node{p1, p2}} })
			alice := a.phone("alice", flow.TransportUDP, 6000, 1000)
			h := out2.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com")
			out2.hops["example.com"] = []Hop{h}
			a.link(p1)
			a.link(p2)
			for _, p := range []*node{p1, p2}[:dead] {
				p.kill()
			}
			alice.send(alice.out("INVITE", "sip:carol@example.com"))
			w.after(2 * time.Second)
			if dead == 1 {
				if got := out2.at(h).Lines(); got != "INVITE" {
					t.Errorf("through the second one: %q", got)
				}
				return
			}
			alice.expect("100")
			w.after(2 * time.Second)
			alice.expect("503")
		})
	}
}

// TestProxyPeersAtHandAreDead has every proxy peer known die: the caller's node looks for others before it gives up.
func TestProxyPeersAtHandAreDead(t *testing.T) {
	newWorld(t, func(w *world) {
		p1, _ := w.proxyPeer(8)
		p2, out2 := w.proxyPeer(9)
		a := w.node(1, func(c *Config) { c.Proxies = &through{nodes: []*node{p1}, others: []*node{p1, p2}} })
		alice := a.phone("alice", flow.TransportUDP, 6000, 1000)
		h := out2.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com")
		out2.hops["example.com"] = []Hop{h}
		a.link(p1)
		a.link(p2)
		p1.kill()
		alice.send(alice.out("INVITE", "sip:carol@example.com"))
		w.after(2 * time.Second)
		if got := out2.at(h).Lines(); got != "INVITE" {
			t.Errorf("through the one found later: %q", got)
		}
	})
}

// TestSilentNode has the callee's node die without a word: another connection is tried once, and the caller hears within 4 s.
func TestSilentNode(t *testing.T) {
	newWorld(t, func(w *world) {
		a, b := w.node(1), w.node(2)
		alice := a.phone("alice", flow.TransportTCP, 6000, 1000)
		b.phone("bob", flow.TransportUDP, 7000, 1000)
		a.link(b)
		b.kill()
		alice.send(alice.out("INVITE", bobURI))
		w.after(4 * time.Second)
		alice.expect("100 480")
	})
	newWorld(t, func(w *world) { // only the connection was dead
		a, b := w.node(1), w.node(2)
		alice, bob := a.phone("alice", flow.TransportUDP, 6000, 1000), b.phone("bob", flow.TransportUDP, 7000, 1000)
		a.link(b).Hook(func([]byte) {})
		alice.send(alice.out("INVITE", bobURI))
		w.after(2 * time.Second)
		bob.expect("INVITE")
	})
}

// TestLostProxyPeer loses the stream while a request waits on it: the next one is tried at once, but not when a phone rings.
func TestLostProxyPeer(t *testing.T) {
	for _, rings := range []bool{false, true} {
		newWorld(t, func(w *world) {
			p1, out1 := w.proxyPeer(8)
			p2, out2 := w.proxyPeer(9)
			a := w.node(1, func(c *Config) { c.Proxies = &through{nodes: []*node{p1, p2}} })
			alice := a.phone("alice", flow.TransportUDP, 6000, 1000)
			h1 := out1.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com")
			h2 := out2.hop(flow.TransportUDP, "192.0.2.7:5060", "example.com")
			out1.hops["example.com"], out2.hops["example.com"] = []Hop{h1}, []Hop{h2}
			carol := out1.outsider("sip:carol@example.com", h1)
			alice.send(alice.out("INVITE", "sip:carol@example.com"))
			carol.expect("INVITE")
			if rings {
				carol.send(carol.answer(carol.request("INVITE"), 180))
			}
			alice.got()
			l := a.links[p1.id]
			l.Close()
			a.core.Layer().HandleClosed(l)
			w.run()
			if rings {
				alice.expect("503")
			} else if got := out2.at(h2).Lines(); got != "INVITE" {
				t.Errorf("through the second one: %q", got)
			}
		})
	}
}
