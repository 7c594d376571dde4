package locate

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/miekg/dns"

	"p2psip/interwork/locate/zone"
)

// FuzzAnswer lets name servers send anything. Whatever they do, a Locate ends, stays inside its bounds, and gives nothing
// that cannot be sent to or shown.
func FuzzAnswer(f *testing.F) {
	z, err := zone.Parse(soaOf + `@ NAPTR 1 1 "s" "SIP+D2U" "" _sip._udp
		@ NAPTR 1 2 "s" "SIPS+D2T" "" _sips._tcp
		_sip._udp SRV 1 1 5060 a
		_sips._tcp CNAME b
		b SRV 0 0 5061 a
		a A 192.0.2.1
		a AAAA 2001:db8::1
		one CNAME two
		two CNAME one`)
	if err != nil {
		f.Fatal(err)
	}
	for _, q := range []Question{
		{"example.com.", dns.TypeNAPTR}, {"_sip._udp.example.com.", dns.TypeSRV}, {"_sips._tcp.example.com.", dns.TypeSRV},
		{"a.example.com.", dns.TypeA}, {"a.example.com.", dns.TypeAAAA}, {"one.example.com.", dns.TypeA}, {"none.example.com.", dns.TypeA},
	} {
		b, err := z.Answer("tcp", new(dns.Msg).SetQuestion(q.Name, q.Type)).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, rename bool) {
		var hostile dns.Msg
		if len(b) > 4096 || hostile.Unpack(b) != nil {
			return
		}
		asked := 0
		r := resolver(t, ResolverConfig{CacheEntries: 16, CacheBytes: 16 << 10, Exchanger: memory(
			func(_ context.Context, _ netip.AddrPort, _ string, q *dns.Msg) (*dns.Msg, error) {
				asked++
				m := hostile.Copy()
				m.Id, m.Response, m.Question, m.Opcode = q.Id, true, q.Question, q.Opcode
				if rename { // so that the first record always is an answer
					for _, rr := range m.Answer {
						rr.Header().Name = q.Question[0].Name
						break
					}
				}
				return m, nil
			})})
		l, err := New(Config{Resolver: r, Parallel: 1})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for _, s := range []string{"sip:example.com", "sips:example.com", "sip:a.example.com:5060"} {
			res, err := l.Locate(t.Context(), uri(s))
			if (err == nil) != (len(res.Targets) > 0) || len(res.Targets) > MaxTargets || len(res.Steps) > 3*MaxQuestions {
				t.Fatalf("%d targets, %d steps, %v", len(res.Targets), len(res.Steps), err)
			}
			for _, x := range res.Targets {
				if l.permitted(x.Addr.Addr(), nil) != nil || x.Addr.Port() == 0 || !hostName(x.Name) || !hostName(x.Host) {
					t.Errorf("%+v", x)
				}
			}
			text := res.String()
			if err != nil {
				text += err.Error()
			}
			if !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }) {
				t.Errorf("%q", text)
			}
			if _, err := json.Marshal(res); err != nil {
				t.Error(err)
			}
		}
		if src, _ := l.Sources(t.Context(), "example.com"); len(src.Addrs) > MaxSources {
			t.Errorf("%d sources", len(src.Addrs))
		}
		if most := 4 * MaxQuestions * rounds * (maxAliases + 2); asked > most {
			t.Errorf("%d questions", asked)
		}
		if entries := len(r.cache.entries); entries > 16 || r.cache.bytes > 16<<10 {
			t.Errorf("%d entries, %d bytes", entries, r.cache.bytes)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// FuzzHost: what is taken for a host can be asked for, and is written one way only.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"example.com", "EXAMPLE.com.", "192.0.2.1", "[2001:db8::1]", "[::ffff:192.0.2.1]", "bücher.example", "xn--bcher-kva.example",
		"_a.b", "1.2.3", "..", "[fe80::1%eth0]", "[192.0.2.1]", "a\\.b", strings.Repeat("a.", 130)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, a, err := host(s)
		if err != nil {
			return
		}
		if a.IsValid() {
			if a.Zone() != "" || a.Is4In6() || h != a.String() {
				t.Errorf("%q: %q, %v", s, h, a)
			}
			return
		}
		if _, ok := dns.IsDomainName(h); !ok || h != strings.ToLower(h) || !ascii(h) {
			t.Errorf("%q: %q", s, h)
		}
		if again, _, err := host(h); again != h || err != nil {
			t.Errorf("%q: %q, then %q, %v", s, h, again, err)
		}
	})
}
