package edge

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

const (
	here  = "Contact: <sip:alice@127.0.0.1:5070>"
	there = "Contact: <sip:alice@127.0.0.1:5071>"
)

func TestRegister(t *testing.T) {
	for _, c := range []struct {
		name   string
		before []ask
		ask    ask
		from   *memFlow
		status int
		header string // name of the one to look at
		want   string // what it holds
	}{
		{name: "a phone", ask: ask{lines: []string{here}}, status: 200, header: "Contact", want: "<sip:alice@127.0.0.1:5070>;expires=3600"},
		{name: "with the time", ask: ask{lines: []string{here}}, status: 200, header: "Date", want: " GMT"},
		{name: "registrar by address", ask: ask{uri: "sip:127.0.0.1:5060", lines: []string{here}}, status: 200},
		{name: "registrar of another domain", ask: ask{uri: "sip:other.example", lines: []string{here}}, status: 404, header: "Warning", want: "p2psip.example"},
		{name: "registrar that is no sip URI", ask: ask{uri: "tel:123", lines: []string{here}}, status: 416},
		{name: "To in another domain", ask: ask{to: "<sip:alice@127.0.0.1>", lines: []string{here}}, status: 404, header: "Warning", want: "set the phone's domain"},
		{name: "To without user", ask: ask{to: "<sip:p2psip.example>", lines: []string{here}}, status: 404},
		{name: "somebody else's user", ask: ask{to: "<sip:carol@p2psip.example>", lines: []string{here}}, status: 403, header: "Warning", want: "does not cover sip:carol@p2psip.example"},
		{name: "domain in capitals", ask: ask{to: "<sip:alice@P2PSIP.Example>", lines: []string{here}}, status: 200},
		{name: "user escaped", ask: ask{to: "<sip:%61lice@p2psip.example>", lines: []string{here}}, status: 200},
		{name: "Require", ask: ask{lines: []string{here, "Require: path, outbound"}}, status: 420, header: "Unsupported", want: "path"},
		{name: "query", before: []ask{{lines: []string{here}}}, ask: ask{}, status: 200, header: "Contact", want: "5070"},
		{name: "query of nobody", ask: ask{}, status: 200},
		{name: "time by header", ask: ask{lines: []string{here, "Expires: 120"}}, status: 200, header: "Contact", want: "expires=120"},
		{name: "time by parameter wins", ask: ask{lines: []string{here + ";expires=90", "Expires: 120"}}, status: 200, header: "Contact", want: "expires=90"},
		{name: "malformed time", ask: ask{lines: []string{here + ";expires=soon"}}, status: 200, header: "Contact", want: "expires=3600"},
		{name: "time beyond reason", ask: ask{lines: []string{here + ";expires=99999999999999999999"}}, status: 200, header: "Contact", want: "expires=7200"},
		{name: "too brief", ask: ask{lines: []string{here + ";expires=29"}}, status: 423, header: "Min-Expires", want: "30"},
		{name: "two Expires", ask: ask{lines: []string{here, "Expires: 60", "Expires: 61"}}, status: 400},
		{name: "q kept", ask: ask{lines: []string{here + ";q=0.25"}}, status: 200, header: "Contact", want: "q=0.25"},
		{name: "q above one", ask: ask{lines: []string{here + ";q=1.1"}}, status: 400},
		{name: "q with four digits", ask: ask{lines: []string{here + ";q=0.1234"}}, status: 400},
		{name: "other parameters come back", ask: ask{lines: []string{here + `;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";methods="INVITE, ACK"`}}, status: 200, header: "Contact", want: `;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";methods="INVITE, ACK"`},
		{name: "contact that is no SIP URI", ask: ask{lines: []string{"Contact: <mailto:alice@example.org>"}}, status: 400},
		{name: "contact with headers is stored", ask: ask{lines: []string{"Contact: <sip:alice@127.0.0.1:5070?Route=%3Csip:x.example%3E>"}}, status: 200, header: "Contact", want: "?Route=%3Csip:x.example%3E"},
		{name: "contact too long", ask: ask{lines: []string{"Contact: <sip:alice@127.0.0.1;x=" + strings.Repeat("y", 1200) + ">"}}, status: 400},
		{name: "contact twice", ask: ask{lines: []string{here, here + ";q=0.5"}}, status: 400},
		{name: "all or nothing", ask: ask{lines: []string{here, there + ";expires=3"}}, status: 423},
		{name: "star", before: []ask{{lines: []string{here, there}}}, ask: ask{lines: []string{"Contact: *", "Expires: 0"}}, status: 200},
		{name: "star without Expires", before: []ask{{lines: []string{here}}}, ask: ask{lines: []string{"Contact: *"}}, status: 400},
		{name: "star with Expires: 60", ask: ask{lines: []string{"Contact: *", "Expires: 60"}}, status: 400},
		{name: "star beside another", ask: ask{lines: []string{"Contact: *", here, "Expires: 0"}}, status: 400},
		{name: "removal of one", before: []ask{{lines: []string{here, there}}}, ask: ask{lines: []string{there + ";expires=0"}}, status: 200, header: "Contact", want: "5070"},
		{name: "removal of none", ask: ask{lines: []string{there + ";expires=0"}}, status: 200},
		{name: "old CSeq", before: []ask{{cseq: 10, lines: []string{here}}}, ask: ask{cseq: 10, lines: []string{here + ";expires=0"}}, status: 500},
		{name: "old CSeq of another call", before: []ask{{cseq: 10, lines: []string{here}}}, ask: ask{cseq: 1, callID: "two@phone", lines: []string{here}}, status: 200},
		{name: "old CSeq with star", before: []ask{{cseq: 10, lines: []string{here}}}, ask: ask{cseq: 9, lines: []string{"Contact: *", "Expires: 0"}}, status: 500},
		{name: "too many", before: []ask{{lines: []string{here, there}}}, ask: ask{lines: []string{"Contact: <sip:alice@127.0.0.1:5072>"}}, status: 403, header: "Warning", want: "2 are allowed"},
		{name: "the same again is not one more", before: []ask{{lines: []string{here, there}}}, ask: ask{lines: []string{here}}, status: 200},
		{name: "from a peer", from: &memFlow{transport: flow.TransportP2P, peer: true, done: make(chan struct{}), remote: flow.Addr{Host: "node"}}, ask: ask{lines: []string{here}}, status: 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(cfg *Config) { cfg.MaxContacts = 2 }, func(b *bench) {
				for _, a := range c.before {
					if s := statusOf(b.send(udpFrom("127.0.0.1", 5070), a)); s != 200 {
						t.Fatal("before:", s)
					}
				}
				had := len(b.e.Bindings(aor(t, "alice")))
				f := c.from
				if f == nil {
					f = udpFrom("127.0.0.1", 5070)
				}
				res := b.send(f, c.ask)
				if statusOf(res) != c.status {
					t.Fatalf("%d %s, want %d", statusOf(res), header(res, "Warning"), c.status)
				}
				if got := header(res, c.header); c.header != "" && !strings.Contains(got, c.want) {
					t.Errorf("%s: %q, want %q", c.header, got, c.want)
				}
				if c.status != 200 && len(b.e.Bindings(aor(t, "alice"))) != had {
					t.Error("a refused REGISTER changed the bindings")
				}
			})
		})
	}
}

func TestListingShowsTimeLeft(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.register(200, here+";expires=600")
		b.register(200, there+";expires=60")
		time.Sleep(10500 * time.Millisecond)
		got := header(b.register(200), "Contact")
		if want := "<sip:alice@127.0.0.1:5070>;expires=590 | <sip:alice@127.0.0.1:5071>;expires=50"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestRemovalLeavesTheOther(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.register(200, here, there)
		res := b.register(200, there+";expires=0")
		if got := header(res, "Contact"); strings.Contains(got, "5071") || !strings.Contains(got, "5070") {
			t.Error(got)
		}
		if got := header(b.register(200, "Contact: *", "Expires: 0"), "Contact"); got != "" {
			t.Error(got)
		}
		if ts := b.e.Bindings(aor(t, "alice")); len(ts) != 0 {
			t.Error(ts)
		}
	})
}

func TestBindingExpires(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.register(200, here+";expires=60", there+";expires=90;q=0.5")
		b.pub.take()
		time.Sleep(61 * time.Second)
		if ts := b.e.Bindings(aor(t, "alice")); len(ts) != 1 || ts[0].Q != 500 {
			t.Errorf("%+v", ts)
		}
		if c := b.pub.take(); len(c) != 1 || c[0] != "alice 500" {
			t.Errorf("published %q", c)
		}
		time.Sleep(30 * time.Second)
		if c := b.pub.take(); len(c) != 1 || c[0] != "alice" {
			t.Errorf("published %q, want a tombstone", c)
		}
		if s := b.e.Status(); len(s.Users) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestInstanceReplacesItsOldContact(t *testing.T) {
	const inst = `;+sip.instance="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"`
	inBubble(t, nil, func(b *bench) {
		b.register(200, here+inst)
		id := b.e.Bindings(aor(t, "alice"))[0].ID
		b.pub.take()
		b.register(200, there+inst)
		ts := b.e.Bindings(aor(t, "alice"))
		if len(ts) != 1 || ts[0].ID != id || ts[0].URI.Port != 5071 {
			t.Errorf("%+v, want one contact with the identifier %s", ts, id)
		}
		if c := b.pub.take(); len(c) != 0 {
			t.Errorf("published %q: to the overlay nothing has changed", c)
		}
		// Two contacts of one instance in one request stay apart.
		b.register(200, here+inst, there+inst)
		if ts := b.e.Bindings(aor(t, "alice")); len(ts) != 2 || ts[0].ID == ts[1].ID {
			t.Errorf("%+v", ts)
		}
	})
}

func TestRefreshKeepsTheDevice(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.register(200, here)
		id := b.e.Bindings(aor(t, "alice"))[0].ID
		time.Sleep(time.Minute)
		b.register(200, here+";expires=1800")
		if got := b.e.Bindings(aor(t, "alice"))[0].ID; got != id {
			t.Errorf("the identifier went from %s to %s", id, got)
		}
	})
}

func TestTargetsByPreference(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.register(200, here+";q=0.1", there+";q=0.9")
		ts := b.e.Bindings(aor(t, "alice"))
		if len(ts) != 2 || ts[0].Q != 900 || ts[1].Q != 100 {
			t.Errorf("%+v", ts)
		}
		if ts := b.e.Bindings(aor(t, "bob")); len(ts) != 0 {
			t.Errorf("%+v", ts)
		}
	})
}

func TestHeadersOfAContactAreNotApplied(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.register(200, "Contact: <sip:alice@127.0.0.1:5070?Route=%3Csip:x.example%3E>")
		ts := b.e.Bindings(aor(t, "alice"))
		if len(ts) != 1 || len(ts[0].URI.Headers) != 0 {
			t.Errorf("%+v", ts)
		}
		if _, ok := b.e.Contact(ts[0].URI); !ok {
			t.Error("the target is not found by its own URI")
		}
	})
}

func TestWhereAPhoneIsReached(t *testing.T) {
	for _, c := range []struct {
		name, contact string
		from          *memFlow
		want          string // transport and address, "" for only its connection
	}{
		{"its own address and port", "<sip:alice@192.0.2.1:6000>", udpFrom("192.0.2.1", 41000), "UDP 192.0.2.1:6000"},
		{"its own address", "<sip:alice@192.0.2.1>", udpFrom("192.0.2.1", 41000), "UDP 192.0.2.1:5060"},
		{"behind a NAT", "<sip:alice@10.0.0.5:6000>", udpFrom("192.0.2.1", 41000), "UDP 192.0.2.1:41000"},
		{"a name", "<sip:alice@phone.invalid>", udpFrom("192.0.2.1", 41000), "UDP 192.0.2.1:41000"},
		{"IPv6", "<sip:alice@[2001:db8::1]:6000>", udpFrom("2001:db8::1", 41000), "UDP [2001:db8::1]:6000"},
		{"TCP of its own address", "<sip:alice@192.0.2.1:6000;transport=tcp>", udpFrom("192.0.2.1", 41000), "TCP 192.0.2.1:6000"},
		{"TCP of another address", "<sip:alice@203.0.113.9:6000;transport=tcp>", udpFrom("192.0.2.1", 41000), "UDP 192.0.2.1:41000"},
		{"sips", "<sips:alice@192.0.2.1>", udpFrom("192.0.2.1", 41000), "TLS 192.0.2.1:5061"},
		{"broadcast", "<sip:alice@255.255.255.255:6000>", udpFrom("192.0.2.1", 41000), "UDP 192.0.2.1:41000"},
		{"multicast", "<sip:alice@224.0.1.75:6000>", udpFrom("192.0.2.1", 41000), "UDP 192.0.2.1:41000"},
		{"multicast by maddr", "<sip:alice@192.0.2.1:6000;maddr=224.0.1.75;ttl=15>", udpFrom("192.0.2.1", 41000), "UDP 192.0.2.1:6000"},
		{"any address", "<sip:alice@0.0.0.0:6000>", udpFrom("192.0.2.1", 41000), "UDP 192.0.2.1:41000"},
		{"the node's own network", "<sip:alice@127.0.0.1:22;transport=tcp>", udpFrom("192.0.2.1", 41000), "UDP 192.0.2.1:41000"},
		{"an address in other digits", "<sip:alice@0xc0000201:6000>", udpFrom("192.0.2.1", 41000), "UDP 192.0.2.1:41000"},
		{"the other host, mapped into IPv6", "<sip:alice@[::ffff:203.0.113.9]:6000>", udpFrom("192.0.2.1", 41000), "UDP 192.0.2.1:41000"},
		{"another host, dialled", "<sip:alice@203.0.113.9:6000;transport=tcp>", tcpFrom("192.0.2.1", 41000), ""},
		{"over TCP", "<sip:alice@192.0.2.1:6000>", tcpFrom("192.0.2.1", 41000), "TCP 192.0.2.1:6000"},
		{"over TCP behind a NAT", "<sip:alice@10.0.0.5:6000;transport=tcp>", tcpFrom("192.0.2.1", 41000), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.e.c.Trusted = func(netip.Addr) bool { return true }
				if s := statusOf(b.send(c.from, ask{lines: []string{"Contact: " + c.contact}})); s != 200 {
					t.Fatal(s)
				}
				p := b.e.users[aor(t, "alice")].phones[0]
				got := string(p.reach.Transport) + " " + p.reach.Remote.String()
				if p.reach.Remote.Port == 0 {
					got = ""
				}
				if got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
				if ts := b.e.Bindings(aor(t, "alice")); c.from.Reliable() && ts[0].Flow != flow.Flow(c.from) {
					t.Error("not over the connection it registered on")
				}
			})
		})
	}
}

func TestConnectionLostIsDialledAgain(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		f := tcpFrom("127.0.0.1", 41000)
		if s := statusOf(b.send(f, ask{lines: []string{"Contact: <sip:alice@127.0.0.1:6000;transport=tcp>"}})); s != 200 {
			t.Fatal(s)
		}
		again := tcpFrom("127.0.0.1", 6000)
		b.flows.dial = func(flow.Addr) (flow.Flow, error) { return again, nil }
		close(f.done)
		b.layer.HandleClosed(f)
		time.Sleep(time.Second)
		if ts := b.e.Bindings(aor(t, "alice")); len(ts) != 1 || ts[0].Flow != flow.Flow(again) {
			t.Errorf("%+v; dialled %v", ts, b.flows.dialed)
		}
		if len(b.flows.dialed) != 1 || b.flows.dialed[0] != (flow.Addr{Host: "127.0.0.1", Port: 6000}) {
			t.Error(b.flows.dialed)
		}
	})
}

func TestThisNodeIsNoPhone(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		everywhere := udpFrom("127.0.0.1", 5070)
		everywhere.local.Host = "0.0.0.0"
		for _, c := range []struct {
			from    *memFlow
			contact string
			status  int
		}{
			{udpFrom("127.0.0.1", 5070), "<sip:alice@127.0.0.1:5060>", 403},
			{udpFrom("127.0.0.1", 5070), "<sip:alice@127.0.0.1;transport=tcp>", 403},
			{everywhere, "<sip:alice@127.0.0.1>", 403},
			{udpFrom("127.0.0.1", 5060), "<sip:alice@10.0.0.1>", 403},
			{udpFrom("127.0.0.2", 5070), "<sip:alice@127.0.0.2:5060>", 200},
			{udpFrom("127.0.0.1", 5070), "<sip:alice@127.0.0.1:5061>", 200},
		} {
			if s := statusOf(b.send(c.from, ask{lines: []string{"Contact: " + c.contact}})); s != c.status {
				t.Errorf("%s from %s at %s: %d, want %d", c.contact, c.from.remote, c.from.local, s, c.status)
			}
		}
	})
}

// Bob registers where alice is. He gets neither her calls nor what belongs into them.
func TestAContactOfSomebodyElse(t *testing.T) {
	for _, c := range []struct {
		name, contact string
		alice, bob    *memFlow
		found         string // whose
	}{
		{"a public address", "sip:phone@192.0.2.1:5060", udpFrom("192.0.2.1", 5060), udpFrom("192.0.2.66", 5060), "192.0.2.1:5060"},
		{"behind two NATs", "sip:phone@10.0.0.5:5060", udpFrom("192.0.2.1", 5060), udpFrom("192.0.2.66", 5060), ""},
		{"one phone of both", "sip:phone@192.0.2.1:5060", udpFrom("192.0.2.1", 5060), udpFrom("192.0.2.1", 5060), "192.0.2.1:5060"},
	} {
		for _, first := range []string{"alice", "bob"} {
			t.Run(c.name+", "+first+" first", func(t *testing.T) {
				inBubble(t, func(cfg *Config) { cfg.Trusted = func(netip.Addr) bool { return true } }, func(b *bench) {
					order := []string{"alice", "bob", "alice", "bob"} // registered, and refreshed
					if first == "bob" {
						order = []string{"bob", "alice", "bob", "alice"}
					}
					for _, who := range order {
						f := c.alice
						if who == "bob" {
							f = c.bob
						}
						if s := statusOf(b.send(f, ask{from: "<sip:" + who + "@p2psip.example>", callID: who, lines: []string{"Contact: <" + c.contact + ">"}})); s != 200 {
							t.Fatal(s)
						}
					}
					uri, err := message.ParseURI(c.contact)
					if err != nil {
						t.Fatal(err)
					}
					got := ""
					if target, ok := b.e.Contact(uri); ok {
						got = target.Flow.Remote().String()
					}
					if got != c.found {
						t.Errorf("found at %q, want %q", got, c.found)
					}
					if ts := b.e.Bindings(aor(t, "alice")); len(ts) != 1 || ts[0].Flow.Remote() != c.alice.remote {
						t.Errorf("alice is called at %+v", ts)
					}
				})
			})
		}
	}
}

func TestOneUserDoesNotKeepTheOthersWaiting(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		hold := make(chan struct{})
		b.pub.set(nil, hold)
		f := udpFrom("127.0.0.1", 5070)
		refused := 0
		for i := range maxWaitingOfUser + 5 {
			if res := b.send(f, ask{lines: []string{here + ";q=0." + strconv.Itoa(i+1)}}); res != nil {
				if res.StatusCode != 503 || header(res, "Retry-After") == "" {
					t.Errorf("%d %s", res.StatusCode, header(res, "Retry-After"))
				}
				refused++
			}
		}
		if refused != 5 {
			t.Errorf("%d refused, want 5", refused)
		}
		bob := udpFrom("127.0.0.1", 5072)
		if res := b.send(bob, ask{from: "<sip:bob@p2psip.example>", callID: "bob", lines: []string{"Contact: <sip:bob@127.0.0.1:5072>"}}); res != nil {
			t.Errorf("bob: %d", res.StatusCode)
		}
		close(hold)
		synctest.Wait()
		if rs := bob.take(); len(rs) != 1 || rs[0].StatusCode != 200 {
			t.Errorf("bob: %v", rs)
		}
	})
}
