package node

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"p2psip/interwork/locate/locatetest"
	"p2psip/interwork/phone"
	"p2psip/interwork/phonetest"
	"p2psip/overlay"
	"p2psip/proxypeer"
)

// zoneOf is the zone of a domain with one SIP server, over UDP, by NAPTR, SRV and A.
func zoneOf(domain string, at netip.AddrPort) string {
	return fmt.Sprintf(`$TTL 60
@ SOA ns.%[1]s. hostmaster.%[1]s. 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
@ NAPTR 10 50 "s" "SIP+D2U" "" _sip._udp
_sip._udp SRV 10 10 %[2]d pp
pp A %[3]s
`, domain, at.Port(), at.Addr())
}

// foreignOverlay is one of two overlays, with the node of a user and a proxy peer.
type foreignOverlay struct {
	*universe
	pp, node *Node
	phone    *phone.Phone
	log      *traceLog
}

func newForeignOverlay(t *testing.T, id, user string, at netip.AddrPort, dns string) *foreignOverlay {
	t.Helper()
	o := &foreignOverlay{universe: newUniverseOf(t, id), log: &traceLog{}}
	dir := o.homeFor(nil, overlay.RoleProxy)
	c := o.config(dir)
	s, err := OpenPublic("udp:"+at.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.ProxyPeer = &ProxyPeer{DNS: []string{dns}, Unlisted: true, Sockets: []proxypeer.Socket{s}}
	c.Trace = trace{"pp", o.log}.event
	o.pp = o.start(c)
	c = o.config(o.home(user))
	c.Trace = trace{"node", o.log}.event
	o.node = o.start(c)
	o.phone = o.universe.phone(o.node, user, phone.AnswerAfter(0))
	return o
}

// TestTwoOverlays is R3: two overlays, each with an authority of its own, each a public SIP network to the other, which know
// of each other what the DNS says and nothing else. The users call each other, and either side hangs up.
func TestTwoOverlays(t *testing.T) {
	const one, two = "one.example", "two.example"
	atOne, atTwo := phonetest.FreePort(t, "127.0.0.41"), phonetest.FreePort(t, "127.0.0.42")
	bind := locatetest.StartBIND(t, map[string]string{one: zoneOf(one, atOne), two: zoneOf(two, atTwo)})
	a := newForeignOverlay(t, one, "alice", atOne, bind.Addr)
	b := newForeignOverlay(t, two, "bob", atTwo, bind.Addr)
	ctx := testContext(t)

	for _, c := range []struct {
		from, to       *foreignOverlay
		caller, callee string
		hangsUp        string // which side
	}{
		{a, b, "alice@" + one, "bob@" + two, "caller"},
		{a, b, "alice@" + one, "bob@" + two, "callee"},
		{b, a, "bob@" + two, "alice@" + one, "caller"},
		{b, a, "bob@" + two, "alice@" + one, "callee"},
	} {
		t.Run(c.caller+" calls, the "+c.hangsUp+" hangs up", func(t *testing.T) {
			c.from.log.reset()
			c.to.log.reset()
			out := talk(t, c.from.phone, "sip:"+c.callee)
			until(t, "the far end of the call", func() bool { return len(c.to.phone.Calls()) == 1 })
			in := c.to.phone.Calls()[0]
			if _, err := in.Wait(ctx, phone.Answered); err != nil {
				t.Fatal(err)
			}
			first := out
			if c.hangsUp == "callee" {
				first = in
			}
			if err := in.Hold(ctx); err != nil {
				t.Errorf("re-INVITE: %v", err)
			}
			if err := first.Hangup(ctx); err != nil {
				t.Errorf("BYE: %v", err)
			}
			for _, end := range []*phone.Call{out, in} {
				if _, err := end.Wait(ctx, phone.Ended); err != nil {
					t.Errorf("the end: %v", err)
				}
			}
			ms := c.from.log.follows(t, "node in from phone: INVITE", "pp in from node: INVITE", "pp out to outside: INVITE",
				"pp in from outside: 200 INVITE", "node out to phone: 200 INVITE")
			c.to.log.follows(t, "pp in from outside: INVITE", "node in from node: INVITE", "node out to phone: INVITE",
				"pp out to outside: 200 INVITE")
			oid, _ := splitAt(c.caller)
			far, _ := splitAt(c.callee)
			if !strings.Contains(ms[2], "\r\nRecord-Route: <sip:"+oid+";lr>\r\n") || !strings.Contains(ms[2], "Contact: <sip:"+c.caller+";gr=") {
				t.Errorf("what leaves %s:\n%s", oid, ms[2])
			}
			if !strings.Contains(ms[3], "Contact: <sip:"+c.callee+";gr=") {
				t.Errorf("what %s answers:\n%s", far, ms[3])
			}
			for _, o := range []*foreignOverlay{c.from, c.to} {
				o.log.hides(t, "127.0.0.41", "127.0.0.42", "."+one, "."+two)
				for _, n := range []*Node{o.pp, o.node} {
					until(t, "the call to be over everywhere", func() bool { return len(n.Status().Calls) == 0 })
				}
			}
		})
	}

	// RFC 3263 §4.1 and §4.2: the transport, then the server, then its address.
	for _, domain := range []string{one, two} {
		q := slices.DeleteFunc(bind.Queries(), func(s string) bool { return !strings.HasSuffix(s, domain) })
		want := []string{"NAPTR " + domain, "SRV _sip._udp." + domain}
		if len(q) < 2 || !slices.Equal(q[:2], want) {
			t.Errorf("about %s the name server was asked %q, want %q first", domain, q, want)
		}
		if len(q) > 4 { // A and AAAA of the server; all later calls out of the cache
			t.Errorf("about %s the name server was asked %d times: %q", domain, len(q), q)
		}
	}
	// A user of the one is none of the other.
	if call, err := a.phone.Call(ctx, "sip:alice@"+two); err != nil {
		t.Error(err)
	} else if st, err := call.Wait(ctx, phone.Answered); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("alice@%s: %v, %v", two, st, err)
	}
}

func splitAt(aor string) (domain, user string) {
	user, domain, _ = strings.Cut(aor, "@")
	return domain, user
}

func (l *traceLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = nil
}

// hides checks that no Record-Route and no Contact that crosses shows any of texts, and no Via the name of a node.
func (l *traceLog) hides(t *testing.T, texts ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	crossed := 0
	for _, e := range l.lines {
		if !strings.Contains(e.text, "out to outside") {
			continue
		}
		crossed++
		for _, line := range strings.Split(e.m, "\r\n") {
			if name, value, _ := strings.Cut(line, ":"); name == "Record-Route" || name == "Contact" || name == "Via" {
				for _, s := range texts {
					if strings.Contains(value, s) && (name != "Via" || s[0] == '.') { // a Via of the proxy peer there must be
						t.Errorf("%s shows %s", e.text, line)
					}
				}
			}
		}
	}
	if crossed == 0 {
		t.Error("nothing has crossed")
	}
}
