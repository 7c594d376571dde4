package policy

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/miekg/dns"

	"p2psip/interwork/flow"
	"p2psip/interwork/locate"
	"p2psip/interwork/locate/zone"
	"p2psip/interwork/proxy"
	"p2psip/proxypeer"
)

const example = `
[default]
routing_domain = "clearing.test"

[[domain]]
names = ["acme.test", "*.acme.test"]
description = "our supplier"
aliases = ["acme-corp.test"]

[[domain]]
names = ["closed.acme.test"]
enabled = false

[[domain]]
names = ["secure.test"]
require_tls = true
subjects = ["edge.secure.test"]
federation_srv = true

[[domain]]
names = ["trusted.test"]
trusted = ["192.0.2.0/28", "2001:db8::5"]

[[domain]]
names = ["checked.test", "wrong.test", "unknown.test"]
trusted = ["198.51.100.1"]
check_source = true

[[domain]]
names = ["oneway.test"]
inbound = false

[[domain]]
names = ["hop.test"]
next_hop = "sbc.hop.test"

[[domain]]
names = ["port.test"]
port = 5088

[[domain]]
names = ["hosted.test", "own.test", "clearing.test"]
hosted = true

[[domain]]
names = ["strict.test"]
transports = ["udp"]

[[route]]
to = ".test.domaina.*"
next_hop = "edge.domaina.test"

[[route]]
to = "plain.test"
next_hop = "192.0.2.44"
transport = "udp"

[[route]]
to = "strict.test"
next_hop = "edge.strict.test"
`

func uri(s string) sip.Uri {
	var u sip.Uri
	if err := sip.ParseUri(s, &u); err != nil {
		panic(err)
	}
	return u
}

func read(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ways writes the routes of a decision on one line.
func ways(d Decision) string {
	var list []string
	for _, r := range d.Routes {
		s := r.Kind + " " + r.URI.String()
		if len(r.Need.Transports) > 0 {
			s += " " + strings.Join(r.Need.Transports, ",")
		}
		if r.Need.ServicesOnly {
			s += " SRV"
		}
		if r.Need.Federation {
			s += " federation"
		}
		if r.Subjects != nil {
			s += " as " + strings.Join(r.Subjects, ",")
		}
		list = append(list, s)
	}
	return strings.Join(list, "; ")
}

func TestOutbound(t *testing.T) {
	p := read(t, example)
	for _, c := range []struct {
		uri, ways, rule string
	}{
		{"sip:carol@example.test", "DNS sip:carol@example.test", "[default]"},
		{"sip:carol@acme.test", "DNS sip:carol@acme.test", "domain acme.test (line 5)"},
		{"sip:carol@ACME.test.", "DNS sip:carol@ACME.test.", "domain acme.test (line 5)"},
		{"sip:carol@a.b.acme.test", "DNS sip:carol@a.b.acme.test", "domain acme.test (line 5)"},
		{"sip:carol@evilacme.test", "DNS sip:carol@evilacme.test", "[default]"},
		{"sip:carol@acme.test.evil.test", "DNS sip:carol@acme.test.evil.test", "[default]"},
		{"sip:carol@acme-corp.test", "DNS sip:carol@acme.test", "domain acme.test (line 5)"},
		{"sip:carol@x.acme-corp.test", "DNS sip:carol@x.acme-corp.test", "[default]"},
		{"sip:carol@closed.acme.test", "", "domain closed.acme.test (line 10)"},
		{"sip:carol@secure.test", "DNS sip:carol@secure.test TLS federation as edge.secure.test", "domain secure.test (line 14)"},
		{"sip:192.0.2.1", "DNS sip:192.0.2.1", "[default]"},
		// A next hop, port 5060 if none is said; in its stead the DNS; behind it the domain at a port of its own.
		{"sip:carol@hop.test", "static sip:sbc.hop.test:5060 as hop.test,sbc.hop.test", "domain hop.test (line 33)"},
		{"sips:carol@hop.test", "static sips:sbc.hop.test:5061 as hop.test,sbc.hop.test", "domain hop.test (line 33)"},
		{"sip:carol@port.test", "DNS sip:carol@port.test SRV; DNS sip:port.test:5088", "domain port.test (line 37)"},
		{"sip:carol@port.test:5066", "DNS sip:carol@port.test:5066 SRV", "domain port.test (line 37)"},
		// Static routes, in both forms.
		{"sip:carol@domaina.test", "static sip:edge.domaina.test:5061;transport=tls TLS as domaina.test,edge.domaina.test", "[default]"},
		{"sip:carol@x.domaina.test", "static sip:edge.domaina.test:5061;transport=tls TLS as x.domaina.test,edge.domaina.test", "[default]"},
		{"sips:carol@domaina.test", "static sips:edge.domaina.test:5061 TLS as domaina.test,edge.domaina.test", "[default]"},
		{"sip:carol@evildomaina.test", "DNS sip:carol@evildomaina.test", "[default]"},
		{"sip:carol@plain.test", "static sip:192.0.2.44:5060;transport=udp UDP as plain.test,192.0.2.44", "[default]"},
		{"sip:carol@strict.test", "", "domain strict.test (line 45)"}, // the route is TLS, the entry says UDP
		// Four steps.
		{"sip:carol@hosted.test", "DNS sip:carol@hosted.test SRV; DNS sip:carol@clearing.test as clearing.test,hosted.test", "domain hosted.test (line 41)"},
		{"sip:carol@clearing.test", "DNS sip:carol@clearing.test", "domain hosted.test (line 41)"},
	} {
		d := p.Outbound(uri(c.uri))
		if got := ways(d); got != c.ways || d.Rule != c.rule || d.Allowed != (c.ways != "") || d.Reason == "" || !d.Allowed && d.Status != 403 {
			t.Errorf("%s:\n %s by %s (%s, %d), want\n %s by %s", c.uri, got, d.Rule, d.Reason, d.Status, c.ways, c.rule)
		}
	}
	// A static route of the routing domain comes before its SRV records, and behind those of the domain itself.
	p = read(t, example+"\n[[route]]\nto = \"clearing.test\"\nnext_hop = \"192.0.2.9:5070\"\n")
	if got := ways(p.Outbound(uri("sip:carol@hosted.test"))); got != "DNS sip:carol@hosted.test SRV; static sip:192.0.2.9:5070;transport=tls TLS as hosted.test,192.0.2.9" {
		t.Error(got)
	}
	var none Policy
	if d := none.Outbound(uri("sip:carol@example.test")); !d.Allowed || d.Rule != "no policy file" {
		t.Errorf("%+v", d)
	}
}

func TestWildcards(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"acme.com", []string{"acme.com"}, []string{"a.acme.com", "evilacme.com", "com", "acme.com.evil.test"}},
		{"*.acme.com", []string{"a.acme.com", "b.a.acme.com"}, []string{"acme.com", "evilacme.com", "a.evilacme.com", "acme.com.au"}},
		{".com.acme.*", []string{"acme.com", "a.acme.com"}, []string{"evilacme.com", "com", "acme.com.evil.test", "acme.net"}},
	} {
		var d destination
		if err := d.UnmarshalText([]byte(c.pattern)); err != nil {
			t.Fatal(err)
		}
		for _, s := range c.yes {
			if !d.matches(labels(s)) {
				t.Errorf("%s does not match %s", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if d.matches(labels(s)) {
				t.Errorf("%s matches %s", c.pattern, s)
			}
		}
	}
}

func TestInbound(t *testing.T) {
	p := read(t, example)
	public := []string{"example.test"}
	for _, c := range []struct {
		from, source string
		names        []string
		want         string // yes, no or ask
		reason       string
	}{
		{"sip:carol@example.test", "192.0.2.1", nil, "yes", ""},
		{"sip:carol@acme.test", "192.0.2.1", public, "yes", ""},
		{"sip:carol@closed.acme.test", "192.0.2.1", nil, "no", "switched off"},
		{"sip:carol@oneway.test", "192.0.2.1", nil, "no", "not allowed"},
		{"sip:carol@secure.test", "192.0.2.1", nil, "no", "TLS"},
		{"sip:carol@secure.test", "192.0.2.1", []string{}, "no", "certificate"},
		{"sip:carol@secure.test", "192.0.2.1", []string{"evil.test", "secure.test"}, "no", "has to show one for edge.secure.test"},
		{"sip:carol@secure.test", "192.0.2.1", []string{"evil.test", "sip:EDGE.secure.test"}, "yes", ""},
		{"sip:carol@trusted.test", "192.0.2.15", nil, "yes", "trusted"},
		{"sip:carol@trusted.test", "::ffff:192.0.2.15", nil, "yes", "trusted"},
		{"sip:carol@trusted.test", "2001:db8::5", nil, "yes", "trusted"},
		{"sip:carol@trusted.test", "192.0.2.16", nil, "no", "not among"},
		{"sip:carol@checked.test", "198.51.100.1", nil, "yes", "trusted"},
		{"sip:carol@checked.test", "192.0.2.1", nil, "ask", ""},
	} {
		d := p.Inbound(uri(c.from), netip.MustParseAddr(c.source), c.names)
		got := "no"
		switch {
		case d.CheckSource:
			got = "ask"
		case d.Allowed:
			got = "yes"
		}
		if got != c.want || !strings.Contains(d.Reason, c.reason) || d.CheckSource && d.Allowed {
			t.Errorf("%s from %s with %q: %s, %q; want %s, %q", c.from, c.source, c.names, got, d.Reason, c.want, c.reason)
		}
	}
	// What is not listed is closed when [default] says so, and what is listed is open.
	p = read(t, "[default]\ninbound = false\noutbound = false\n[[domain]]\nnames = [\"friend.test\"]\n")
	for from, want := range map[string]bool{"sip:a@friend.test": true, "sip:a@stranger.test": false} {
		if d := p.Inbound(uri(from), netip.MustParseAddr("192.0.2.1"), nil); d.Allowed != want {
			t.Errorf("%+v", d)
		}
		if d := p.Outbound(uri(from)); d.Allowed != want {
			t.Errorf("%+v", d)
		}
	}
}

// world is a public DNS with a log.
type world struct {
	zone *zone.Zone
	mu   sync.Mutex
	log  []string // guarded by mu
}

func (w *world) Exchange(ctx context.Context, s netip.AddrPort, network string, q *dns.Msg) (*dns.Msg, error) {
	w.mu.Lock()
	w.log = append(w.log, locate.Question{Name: q.Question[0].Name, Type: q.Question[0].Qtype}.String())
	w.mu.Unlock()
	if strings.HasSuffix(q.Question[0].Name, "unknown.test.") {
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure), nil
	}
	return w.zone.Exchange(ctx, s, network, q)
}

func publicDNS(t testing.TB) (*world, *locate.Locator) {
	t.Helper()
	z, err := zone.Parse(`test. 60 SOA ns.test. hostmaster.test. 1 3600 600 86400 60
		clearing.test. A 192.0.2.80
		_sip._udp.clearing.test. SRV 1 1 5060 c.clearing.test.
		c.clearing.test. A 192.0.2.81
		hosted.test. A 192.0.2.82
		own.test. A 192.0.2.83
		_sip._udp.own.test. SRV 1 1 5060 s.own.test.
		s.own.test. A 192.0.2.84
		port.test. A 192.0.2.85
		checked.test. A 192.0.2.86
		edge.domaina.test. A 192.0.2.87`)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{zone: z}
	r, err := locate.NewResolver(locate.ResolverConfig{Servers: []string{"192.0.2.53"}, Exchanger: w})
	if err != nil {
		t.Fatal(err)
	}
	l, err := locate.New(locate.Config{Resolver: r, Parallel: 1, Family: locate.OnlyIPv4, Transports: []string{locate.UDP, locate.TLS}})
	if err != nil {
		t.Fatal(err)
	}
	return w, l
}

// TestFourSteps: static(host), SRV(host), static(default), SRV(default), by what is asked of the DNS and in which order.
func TestFourSteps(t *testing.T) {
	const routed = "\n[[route]]\nto = \"clearing.test\"\nnext_hop = \"192.0.2.9:5070\"\ntransport = \"udp\"\n"
	for _, c := range []struct {
		file, uri, target, asked string
	}{
		{example, "sip:hosted.test", "UDP 192.0.2.81:5060",
			"NAPTR hosted.test, SRV _sip._udp.hosted.test, SRV _sips._tcp.hosted.test, NAPTR clearing.test, SRV _sip._udp.clearing.test, SRV _sips._tcp.clearing.test"},
		{example, "sip:own.test", "UDP 192.0.2.84:5060", "NAPTR own.test, SRV _sip._udp.own.test, SRV _sips._tcp.own.test"},
		{example + routed, "sip:hosted.test", "UDP 192.0.2.9:5070", "NAPTR hosted.test, SRV _sip._udp.hosted.test, SRV _sips._tcp.hosted.test"},
		{example + "\n[[route]]\nto = \"*.test\"\nnext_hop = \"192.0.2.10\"\n", "sip:hosted.test", "TLS 192.0.2.10:5061", ""},
		{example, "sip:clearing.test", "UDP 192.0.2.81:5060", "NAPTR clearing.test, SRV _sip._udp.clearing.test, SRV _sips._tcp.clearing.test"},
		{strings.Replace(example, "\"clearing.test\"\n", "\"own.test\"\n", 1), "sip:hosted.test", "UDP 192.0.2.84:5060", // traffic moves
			"NAPTR hosted.test, SRV _sip._udp.hosted.test, SRV _sips._tcp.hosted.test, NAPTR own.test, SRV _sip._udp.own.test, SRV _sips._tcp.own.test"},
		{example, "sip:port.test", "UDP 192.0.2.85:5088", "NAPTR port.test, SRV _sip._udp.port.test, SRV _sips._tcp.port.test, A port.test"},
		{example, "sip:a@domaina.test", "TLS 192.0.2.87:5061", "A edge.domaina.test"},
	} {
		w, l := publicDNS(t)
		d := read(t, c.file).Outbound(uri(c.uri))
		tried := d.Follow(t.Context(), l)
		last := tried[len(tried)-1]
		if last.Err != nil || last.Result.Targets[0].String() != c.target || strings.Join(w.log, ", ") != c.asked {
			t.Errorf("%s: %v, %v, asked %s", c.uri, last.Result.Targets, last.Err, strings.Join(w.log, ", "))
		}
	}
	// What the name servers do not say is no reason to go elsewhere.
	_, l := publicDNS(t)
	d := read(t, strings.ReplaceAll(example, "hosted.test", "x.unknown.test")).Outbound(uri("sip:x.unknown.test"))
	if tried := d.Follow(t.Context(), l); len(tried) != 1 || !errors.Is(tried[0].Err, locate.ErrServFail) {
		t.Errorf("%+v", tried)
	}
}

func TestSources(t *testing.T) {
	p := read(t, example)
	_, l := publicDNS(t)
	for _, c := range []struct {
		from, source string
		allowed      bool
		status       int
	}{
		{"sip:carol@checked.test", "192.0.2.86", true, 0},
		{"sip:carol@checked.test", "::ffff:192.0.2.86", true, 0},
		{"sip:carol@checked.test", "192.0.2.87", false, 403},
		{"sip:carol@wrong.test", "192.0.2.86", false, 403},
		{"sip:carol@unknown.test", "192.0.2.86", false, 503},
	} {
		d := p.Inbound(uri(c.from), netip.MustParseAddr(c.source), nil)
		d = d.WithSources(l.Sources(t.Context(), d.Domain))
		if d.Allowed != c.allowed || d.Status != c.status || d.CheckSource || d.Reason == "" {
			t.Errorf("%s from %s: %+v", c.from, c.source, d)
		}
	}
	d := p.Inbound(uri("sip:a@example.test"), netip.MustParseAddr("192.0.2.1"), nil)
	if again := d.WithSources(locate.Sources{}, errors.New("not asked for")); !again.Allowed {
		t.Errorf("%+v", again)
	}
}

// request is one of a call from one user to another; inside a dialog if it has a tag.
func request(method sip.RequestMethod, from, to, tag, id string) *sip.Request {
	r := sip.NewRequest(method, uri(to))
	r.AppendHeader(&sip.FromHeader{Address: uri(from), Params: sip.HeaderParams{{K: "tag", V: "f"}}})
	h := &sip.ToHeader{Address: uri(to)}
	if tag != "" {
		h.Params = sip.HeaderParams{{K: "tag", V: tag}}
	}
	r.AppendHeader(h)
	c := sip.CallIDHeader(id)
	r.AppendHeader(&c)
	return r
}

// from is a flow from an address outside.
type from struct {
	flow.Flow
	host string
}

func (f from) Remote() flow.Addr         { return flow.Addr{Host: f.host, Port: 5060} }
func (f from) Transport() flow.Transport { return flow.TransportUDP }

func TestEnforcer(t *testing.T) {
	_, l := publicDNS(t)
	file := Fixed(read(t, example))
	e := NewEnforcer(file, l)
	ctx := t.Context()
	refused := func(err error, status int, part string) {
		t.Helper()
		var r *proxy.Refusal
		if !errors.As(err, &r) || r.Status != status || !strings.Contains(r.Warning, part) {
			t.Errorf("%v, want %d %q", err, status, part)
		}
	}
	out := func(to, tag, id string, method sip.RequestMethod, next string) (proxypeer.Way, error) {
		return e.Outbound(ctx, uri(next), request(method, "sip:alice@p2psip.test", to, tag, id))
	}
	way, err := out("sip:carol@hosted.test", "", "1", sip.INVITE, "sip:carol@hosted.test")
	if err != nil || way.URI.Host != "clearing.test" || !slices.Equal(way.Subjects, []string{"clearing.test", "hosted.test"}) {
		t.Errorf("%+v, %v", way, err)
	}
	_, err = out("sip:carol@closed.acme.test", "", "2", sip.INVITE, "sip:carol@closed.acme.test")
	refused(err, 403, "switched off")
	if way, err := out("sip:carol@nobody.test", "", "3", sip.INVITE, "sip:carol@nobody.test"); err != nil || way.URI.Host != "nobody.test" {
		t.Errorf("%+v, %v", way, err)
	}
	if err := e.Inbound(ctx, from{host: "192.0.2.86"}, request(sip.INVITE, "sip:carol@checked.test", "sip:alice@p2psip.test", "", "4")); err != nil {
		t.Error(err)
	}
	refused(e.Inbound(ctx, from{host: "192.0.2.87"}, request(sip.INVITE, "sip:carol@checked.test", "sip:alice@p2psip.test", "", "5")), 403, "none of the servers")
	refused(e.Inbound(ctx, from{host: "192.0.2.87"}, request(sip.INVITE, "sip:carol@unknown.test", "sip:alice@p2psip.test", "", "6")), 503, "cannot be found out")

	// Inside a dialog: by the far party, not by the address that the request goes to.
	file.current.Store(read(t, "[default]\noutbound = false\ninbound = false\n[[domain]]\nnames = [\"secure.test\"]\nrequire_tls = true\n"))
	way, err = out("sip:carol@secure.test", "t", "7", sip.INVITE, "sip:192.0.2.7:5061")
	if err != nil || way.URI.Host != "" || !slices.Equal(way.Need.Transports, []string{locate.TLS}) {
		t.Errorf("%+v, %v", way, err)
	}
	// A call that was let through lives on, under a policy that would let no other one through.
	if _, err := out("sip:carol@hosted.test", "t", "1", sip.INVITE, "sip:192.0.2.7"); err != nil {
		t.Error(err)
	}
	if err := e.Inbound(ctx, from{host: "192.0.2.7"}, request(sip.INFO, "sip:carol@hosted.test", "sip:alice@p2psip.test", "t", "1")); err != nil {
		t.Error(err)
	}
	if err := e.Inbound(ctx, from{host: "192.0.2.7"}, request(sip.BYE, "sip:carol@other.test", "sip:alice@p2psip.test", "t", "8")); err != nil {
		t.Error(err)
	}
	_, err = out("sip:carol@hosted.test", "", "1", sip.INVITE, "sip:carol@hosted.test")
	refused(err, 403, "not allowed")
	_, err = out("sip:carol@hosted.test", "t", "9", sip.INFO, "sip:192.0.2.7")
	refused(err, 403, "not allowed")
	refused(e.Inbound(ctx, from{host: "192.0.2.7"}, request(sip.INFO, "sip:carol@hosted.test", "sip:alice@p2psip.test", "t", "9")), 403, "not allowed")
}

// TestPrivatePlaces: a proxy peer on the Internet sends to a private address only where its operator has written it down.
func TestPrivatePlaces(t *testing.T) {
	file := read(t, `
[[domain]]
names = ["office.test"]
next_hop = "10.0.0.5"
trusted = ["10.0.0.16/28"]
[[domain]]
names = ["far.test"]
[[domain]]
names = ["shut.test"]
inbound = false
trusted = ["10.9.0.0/16"]
[[route]]
to = "branch.test"
next_hop = "10.0.1.5"
transport = "udp"
`)
	l, err := locate.New(locate.Config{Transports: []string{locate.UDP}, Permit: func(a netip.Addr) bool { return !a.IsPrivate() }})
	if err != nil {
		t.Fatal(err)
	}
	e := NewEnforcer(Fixed(file), l)
	for _, c := range []struct {
		to, tag, next string
		want          string // "" for nowhere
	}{
		{"sip:carol@office.test", "", "sip:carol@office.test", "UDP 10.0.0.5:5060"},
		{"sip:carol@branch.test", "", "sip:carol@branch.test", "UDP 10.0.1.5:5060"},
		{"sip:carol@office.test", "t", "sip:carol@10.0.0.5:5070", "UDP 10.0.0.5:5070"},
		{"sip:carol@office.test", "t", "sip:carol@10.0.0.20", "UDP 10.0.0.20:5060"},
		{"sip:carol@branch.test", "t", "sip:carol@10.0.1.5", "UDP 10.0.1.5:5060"},
		{"sip:carol@office.test", "t", "sip:carol@10.0.0.6", ""},
		{"sip:carol@office.test", "t", "sip:carol@10.0.1.5", ""},
		{"sip:carol@far.test", "t", "sip:carol@10.0.0.5", ""},
		{"sip:carol@10.0.0.5", "", "sip:carol@10.0.0.5", ""},
		{"sip:carol@far.test", "t", "sip:carol@192.0.2.7", "UDP 192.0.2.7:5060"},
	} {
		way, err := e.Outbound(t.Context(), uri(c.next), request(sip.INVITE, "sip:alice@p2psip.test", c.to, c.tag, c.to+c.tag+c.next))
		if err != nil {
			t.Errorf("%s: %v", c.next, err)
			continue
		}
		if way.URI.Host == "" {
			way.URI = uri(c.next)
		}
		got := ""
		if res, err := l.LocateFor(t.Context(), way.URI, way.Need); err == nil {
			got = res.Targets[0].String()
		}
		if got != c.want {
			t.Errorf("to %s, tag %q, by %s: %q, want %q", c.to, c.tag, c.next, got, c.want)
		}
	}
	for a, want := range map[string]bool{"10.0.0.17": true, "::ffff:10.0.0.17": true, "10.0.0.15": false, "10.9.0.1": false, "192.0.2.1": false} {
		if e.Trusts(netip.MustParseAddr(a)) != want {
			t.Errorf("%s trusted: %v", a, !want)
		}
	}
}

func TestCallsAreBounded(t *testing.T) {
	var c calls
	now := time.Unix(1e9, 0)
	for i := range 3 * maxCalls {
		c.add(strconv.Itoa(i), now)
		c.known("0", now)
	}
	if len(c.byID) != maxCalls || c.order.Len() != maxCalls || !c.known("0", now) || c.known("1", now) {
		t.Errorf("%d and %d remembered", len(c.byID), c.order.Len())
	}
	if c.known("0", now.Add(callAge+1)) {
		t.Error("remembered for ever")
	}
}
