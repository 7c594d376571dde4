// Package zone is a small authoritative name server: the public DNS of a demonstration, of a simulation and of tests.
//
//	z, err := zone.Parse(`
//	    $ORIGIN provider.example.
//	    @          3600 SOA  ns.provider.example. hostmaster.provider.example. 1 3600 600 86400 300
//	    @          3600 NAPTR 10 50 "s" "SIP+D2U" "" _sip._udp
//	    _sip._udp  3600 SRV  10 10 5060 proxy
//	    proxy      3600 A    192.0.2.10`)
//	s := zone.Serve(pc, ln, z, nil)     // on a UDP socket and a TCP listener, which it owns from then on
//	defer s.Close()
//
// or, without sockets, as the locate.Exchanger z.
//
// It answers as BIND does: CNAMEs followed inside its zones, wildcards (RFC 4592), SOA beside "there is none", addresses of
// SRV targets beside the records, the truncation bit when an answer over UDP does not fit, REFUSED for what is elsewhere.
// It knows no delegation, no transfer, no DNSSEC. A Zone does not change once it has been parsed.
package zone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

const (
	plainSize  = 512 // of an answer over UDP without EDNS (RFC 1035 §2.3.4)
	maxSize    = 1232
	maxAliases = 8
)

// Zone is one or several zones, each beginning with its SOA record.
type Zone struct {
	records map[string]map[uint16][]dns.RR // by name in lower case; a name without records of its own has names below it
	soas    []*dns.SOA                     // those with the longest names first
}

// Parse reads zones in the format of RFC 1035 §5. Every record has to lie in a zone whose SOA is there.
func Parse(text string) (*Zone, error) {
	z := &Zone{records: make(map[string]map[uint16][]dns.RR)}
	p := dns.NewZoneParser(strings.NewReader(unindent(text)), ".", "")
	p.SetDefaultTTL(3600)
	var all []dns.RR
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		all = append(all, rr)
		if soa, ok := rr.(*dns.SOA); ok {
			soa.Hdr.Name = strings.ToLower(soa.Hdr.Name)
			z.soas = append(z.soas, soa)
		}
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("read zone: %w", err)
	}
	slices.SortStableFunc(z.soas, func(a, b *dns.SOA) int { return dns.CountLabel(b.Hdr.Name) - dns.CountLabel(a.Hdr.Name) })
	for _, rr := range all {
		name := strings.ToLower(rr.Header().Name)
		rr.Header().Name = name
		soa := z.authority(name)
		if soa == nil {
			return nil, fmt.Errorf("read zone: %s lies in no zone that has an SOA record here", name)
		}
		types := z.node(name)
		types[rr.Header().Rrtype] = append(types[rr.Header().Rrtype], rr)
		for name != soa.Hdr.Name {
			_, name, _ = strings.Cut(name, ".")
			z.node(name)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("read zone: no records")
	}
	return z, nil
}

// unindent takes the blanks before each line off: a zone inside a program is indented, which in a zone file would mean "the
// same name as above".
func unindent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimLeft(line, " \t"))
	}
	return b.String()
}

func (z *Zone) node(name string) map[uint16][]dns.RR {
	types := z.records[name]
	if types == nil {
		types = make(map[uint16][]dns.RR)
		z.records[name] = types
	}
	return types
}

// authority gives the SOA of the zone that a name lies in.
func (z *Zone) authority(name string) *dns.SOA {
	for _, soa := range z.soas {
		if dns.IsSubDomain(soa.Hdr.Name, name) {
			return soa
		}
	}
	return nil
}

// Answer answers a query that came over network, "udp" or "tcp".
func (z *Zone) Answer(network string, query *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	if len(query.Question) != 1 || query.Opcode != dns.OpcodeQuery {
		m.SetRcode(query, dns.RcodeNotImplemented)
		return m
	}
	m.SetReply(query)
	m.RecursionAvailable = false
	size := plainSize
	if opt := query.IsEdns0(); opt != nil {
		size = max(plainSize, min(int(opt.UDPSize()), maxSize))
		m.SetEdns0(maxSize, false)
	}
	q := query.Question[0]
	name := strings.ToLower(q.Name)
	if q.Qclass != dns.ClassINET || z.authority(name) == nil {
		m.Rcode = dns.RcodeRefused
		return m
	}
	m.Authoritative = true
	z.follow(m, name, q.Qtype)
	z.beside(m)
	if network == "udp" {
		m.Truncate(size)
	}
	return m
}

// follow writes the answer for a name, along its CNAMEs.
func (z *Zone) follow(m *dns.Msg, name string, qtype uint16) {
	for range maxAliases {
		soa := z.authority(name)
		if soa == nil {
			return // elsewhere
		}
		types, ok := z.find(name, soa.Hdr.Name)
		if list := types[qtype]; len(list) > 0 {
			m.Answer = append(m.Answer, own(list, name)...)
			return
		}
		list := types[dns.TypeCNAME]
		if len(list) == 0 {
			if !ok {
				m.Rcode = dns.RcodeNameError
			}
			m.Ns = append(m.Ns, soa)
			return
		}
		m.Answer = append(m.Answer, own(list[:1], name)...)
		name = strings.ToLower(list[0].(*dns.CNAME).Target)
	}
}

// find gives the records at a name, by way of a wildcard if nothing stands between (RFC 4592 §2.2).
func (z *Zone) find(name, apex string) (map[uint16][]dns.RR, bool) {
	if types, ok := z.records[name]; ok {
		return types, true
	}
	for name != apex {
		_, name, _ = strings.Cut(name, ".")
		if types, ok := z.records["*."+name]; ok {
			return types, true
		}
		if _, ok := z.records[name]; ok {
			break
		}
	}
	return nil, false
}

// own gives copies of the records under another name, which a wildcard's have; and the caller's to change.
func own(list []dns.RR, name string) []dns.RR {
	out := make([]dns.RR, len(list))
	for i, rr := range list {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = name
	}
	return out
}

// beside adds the addresses of SRV targets that are known here.
func (z *Zone) beside(m *dns.Msg) {
	var done []string
	for _, rr := range m.Answer {
		srv, ok := rr.(*dns.SRV)
		if !ok {
			continue
		}
		target := strings.ToLower(srv.Target)
		types := z.records[target]
		if types == nil || slices.Contains(done, target) {
			continue
		}
		done = append(done, target)
		m.Extra = append(own(types[dns.TypeA], target), m.Extra...)
		m.Extra = append(own(types[dns.TypeAAAA], target), m.Extra...)
	}
}

// Exchange answers without a network; it makes a Zone a locate.Exchanger.
func (z *Zone) Exchange(ctx context.Context, _ netip.AddrPort, network string, query *dns.Msg) (*dns.Msg, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	return z.Answer(network, query), nil
}
