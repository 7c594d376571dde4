package zone_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"p2psip/interwork/locate/locatetest"
	"p2psip/interwork/locate/zone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const text = `a.test. 300 SOA ns.a.test. hostmaster.a.test. 1 3600 600 86400 60
a.test. 300 NS ns.a.test.
ns.a.test. 300 A 127.0.0.1
a.test. 300 NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp.a.test.
_sip._udp.a.test. 300 SRV 1 1 5060 one.a.test.
_sip._udp.a.test. 300 SRV 1 1 5060 p.elsewhere.test.
one.a.test. 300 A 192.0.2.1
one.a.test. 300 AAAA 2001:db8::1
alias.a.test. 300 CNAME one.a.test.
chain.a.test. 300 CNAME alias.a.test.
dangling.a.test. 300 CNAME gone.a.test.
away.a.test. 300 CNAME p.elsewhere.test.
*.wild.a.test. 300 A 192.0.2.2
host.wild.a.test. 300 TXT "x"
deep.empty.a.test. 300 A 192.0.2.3
`

// TestAnswersAsBINDDoes compares rcode, flags, answer and authority of both, record by record.
func TestAnswersAsBINDDoes(t *testing.T) {
	z, err := zone.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	bind := locatetest.StartBIND(t, map[string]string{"a.test": text})
	for _, q := range []string{
		"a.test. NAPTR", "a.test. A", "a.test. SOA", "_sip._udp.a.test. SRV", "_udp.a.test. SRV", "one.a.test. A", "ONE.a.test. AAAA", "one.a.test. SRV",
		"alias.a.test. A", "alias.a.test. CNAME", "alias.a.test. SRV", "chain.a.test. AAAA", "dangling.a.test. A", "away.a.test. A",
		"x.wild.a.test. A", "y.x.wild.a.test. A", "x.wild.a.test. AAAA", "host.wild.a.test. A", "x.host.wild.a.test. A", "wild.a.test. A",
		"empty.a.test. A", "deep.empty.a.test. A", "x.empty.a.test. A", "nobody.a.test. A", "elsewhere.test. A",
	} {
		var name, kind string
		fmt.Sscan(q, &name, &kind)
		query := new(dns.Msg).SetQuestion(name, dns.StringToType[kind])
		query.RecursionDesired = false
		query.SetEdns0(1232, false)
		want, err := dns.Exchange(query, bind.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := z.Answer("udp", query); summary(got) != summary(want) {
			t.Errorf("%s:\n%s\nBIND:\n%s", q, summary(got), summary(want))
		}
	}
}

// summary is what of an answer has to agree: rcode, whether it is authoritative, the answer, and the SOA of a negative one.
func summary(m *dns.Msg) string {
	lines := []string{}
	for _, rr := range m.Answer {
		rr = dns.Copy(rr)
		rr.Header().Name = strings.ToLower(rr.Header().Name)
		lines = append(lines, rr.String())
	}
	slices.Sort(lines)
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			lines = append(lines, "authority "+soa.Hdr.Name)
		}
	}
	return fmt.Sprintf("%s aa=%v\n%s", dns.RcodeToString[m.Rcode], m.Authoritative, strings.Join(lines, "\n"))
}

func TestTruncation(t *testing.T) {
	long := "a.test. 300 SOA ns.a.test. hostmaster.a.test. 1 3600 600 86400 60\n"
	for i := range 100 {
		long += fmt.Sprintf("a.test. 300 A 192.0.2.%d\n", i)
	}
	z, err := zone.Parse(long)
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := zone.Serve(pc, ln, z, nil)
	defer s.Close()
	query := new(dns.Msg).SetQuestion("a.test.", dns.TypeA)
	m, err := dns.Exchange(query, pc.LocalAddr().String())
	m.Compress = true // as it came
	if err != nil || !m.Truncated || len(m.Answer) >= 100 || m.Len() > 512 {
		t.Errorf("%v, %v", m, err)
	}
	m, _, err = (&dns.Client{Net: "tcp"}).Exchange(query, ln.Addr().String())
	if err != nil || m.Truncated || len(m.Answer) != 100 {
		t.Errorf("%v, %v", m, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, bad := range []string{"", "a.test. A 192.0.2.1", "a.test. 60 SOA ns hostmaster 1 1 1 1 1\nb.test. A 192.0.2.1", "a.test. 60 A nonsense"} {
		if _, err := zone.Parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
