package public

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"p2psip/interwork/locate"
)

// Zone is all of the DNS there is.
type Zone struct {
	trip time.Duration

	mu      sync.Mutex
	records map[string][]dns.RR // guarded by mu: by name, in lower case, with the final dot
}

var _ locate.Exchanger = (*Zone)(nil)

// NewZone reads records, a line each in the form of a zone file:
//
//	example.net. 300 IN NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp.example.net.
//
// An answer takes trip.
func NewZone(trip time.Duration, lines ...string) (*Zone, error) {
	z := &Zone{trip: trip, records: map[string][]dns.RR{}}
	return z, z.Add(lines...)
}

// Add puts further records in. Who has asked before may go on for a while with what he was told.
func (z *Zone) Add(lines ...string) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		if err != nil {
			return fmt.Errorf("the record %q: %w", l, err)
		}
		name := strings.ToLower(rr.Header().Name)
		z.records[name] = append(z.records[name], rr)
	}
	return nil
}

// Exchange answers a question.
func (z *Zone) Exchange(ctx context.Context, _ netip.AddrPort, _ string, query *dns.Msg) (*dns.Msg, error) {
	t := time.NewTimer(z.trip)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	m := new(dns.Msg)
	m.SetReply(query)
	m.Authoritative, m.RecursionAvailable = true, true
	if len(query.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		return m, nil
	}
	q := query.Question[0]
	z.mu.Lock()
	records, known := z.records[strings.ToLower(q.Name)]
	z.mu.Unlock()
	for _, rr := range records {
		if rr.Header().Rrtype == q.Qtype {
			m.Answer = append(m.Answer, dns.Copy(rr))
		}
	}
	if len(m.Answer) == 0 {
		if !known {
			m.Rcode = dns.RcodeNameError
		}
		soa, err := dns.NewRR(". 300 IN SOA a. b. 1 300 300 300 300")
		if err != nil {
			return nil, err
		}
		m.Ns = append(m.Ns, soa)
	}
	return m, nil
}

// Locator makes a locator that asks the zone, for an element that speaks UDP. Among servers of one worth chance decides.
func (z *Zone) Locator(chance rand.Source) (*locate.Locator, error) {
	r, err := locate.NewResolver(locate.ResolverConfig{Servers: []string{"198.18.255.1:53"}, Exchanger: z})
	if err != nil {
		return nil, err
	}
	return locate.New(locate.Config{Resolver: r, Transports: []string{locate.UDP}, Family: locate.OnlyIPv4, Parallel: 1, Random: rand.New(chance)})
}

// Servers gives the records of a domain whose SIP servers are at these addresses, all of the same worth.
func Servers(domain string, servers []netip.AddrPort) (lines []string) {
	lines = append(lines, fmt.Sprintf("%s. 300 IN NAPTR 10 10 \"s\" \"SIP+D2U\" \"\" _sip._udp.%s.", domain, domain))
	for i, s := range servers {
		lines = append(lines,
			fmt.Sprintf("_sip._udp.%s. 300 IN SRV 10 10 %d s%d.%s.", domain, s.Port(), i, domain),
			fmt.Sprintf("s%d.%s. 300 IN A %s", i, domain, s.Addr()))
	}
	return lines
}
