package locate

import (
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// MaxRecords is how many records of one answer are looked at.
	MaxRecords = 64

	// maxAliases is how many CNAMEs are followed for one question, over all the messages it takes.
	maxAliases = 8

	// maxKept is how long an answer is kept at most, whatever its zone says: a day.
	maxKept = 24 * time.Hour

	// maxNegative is the same for "there is none" (RFC 2308 §5 leaves it to the resolver): who has just added the missing
	// record does not want to wait for hours.
	maxNegative = 5 * time.Minute
)

// part is what one message says about a name: the records, or the name under which to ask on.
type part struct {
	outcome Outcome
	records []dns.RR
	left    int
	aliases []string // names that CNAMEs led to
	next    string   // not "": nothing is said about the last alias, it has to be asked about
	glue    []dns.RR
	keep    time.Duration // how long the statement holds; 0: not to be kept
}

// accept judges a message that came as an answer about name. Only the records on the way from name through CNAMEs to the
// type asked for count; whatever else stands there is not looked at, except addresses for SRV targets inside the domain
// that was asked about. seen are the names that CNAMEs have led through before.
func accept(name string, qtype uint16, m *dns.Msg, seen []string) (part, error) {
	p := part{keep: maxKept}
	at := name
	for {
		var alias string
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, at) {
				continue
			}
			switch {
			case h.Rrtype == qtype && isType(rr, qtype):
				if len(p.records) == MaxRecords {
					p.left++
					continue
				}
				p.records = append(p.records, normal(rr))
				p.keep = min(p.keep, ttl(h.Ttl))
			case h.Rrtype == dns.TypeCNAME && alias == "":
				if c, ok := rr.(*dns.CNAME); ok {
					alias = strings.ToLower(c.Target)
					p.keep = min(p.keep, ttl(h.Ttl))
				}
			}
		}
		if len(p.records) > 0 || alias == "" {
			break
		}
		if alias == name || slices.Contains(seen, alias) || slices.Contains(p.aliases, alias) || len(seen)+len(p.aliases) >= maxAliases {
			return p, ErrAliases
		}
		p.aliases = append(p.aliases, alias)
		at = alias
	}
	switch {
	case len(p.records) > 0:
		p.outcome = Found
		if qtype == dns.TypeSRV && len(p.aliases) == 0 {
			p.glue = glue(name, m)
		}
		return p, nil
	case m.Rcode == dns.RcodeNameError:
		p.outcome = NXDomain
	default:
		p.outcome = NoData
	}
	soa := authority(at, m)
	switch {
	case soa != nil:
		p.keep = min(p.keep, maxNegative, ttl(soa.Hdr.Ttl), ttl(soa.Minttl)) // RFC 2308 §5
		return p, nil
	case p.outcome == NoData && len(p.aliases) > 0:
		p.next = at // the server knew the alias only
		return p, nil
	case p.outcome == NoData && !m.Authoritative && !m.RecursionAvailable:
		return p, ErrBogus // a referral or less: it neither knows nor asks
	}
	p.keep = 0 // without SOA it is not to be kept (RFC 2308 §5)
	return p, nil
}

// isType says that the record is what its header says; an odd length makes it something else.
func isType(rr dns.RR, qtype uint16) bool {
	switch rr.(type) {
	case *dns.A:
		return qtype == dns.TypeA
	case *dns.AAAA:
		return qtype == dns.TypeAAAA
	case *dns.SRV:
		return qtype == dns.TypeSRV
	case *dns.NAPTR:
		return qtype == dns.TypeNAPTR
	case *dns.RFC3597:
		return false
	}
	return true
}

// normal gives a copy of a record with the names in it in lower case.
func normal(rr dns.RR) dns.RR {
	rr = dns.Copy(rr)
	rr.Header().Name = strings.ToLower(rr.Header().Name)
	switch rr := rr.(type) {
	case *dns.SRV:
		rr.Target = strings.ToLower(rr.Target)
	case *dns.NAPTR:
		rr.Replacement = strings.ToLower(rr.Replacement)
	}
	return rr
}

// authority finds the SOA of a negative answer: of the zone that at is in.
func authority(at string, m *dns.Msg) *dns.SOA {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok && soa.Hdr.Class == dns.ClassINET && dns.IsSubDomain(soa.Hdr.Name, at) {
			return soa
		}
	}
	return nil
}

// glue takes the addresses that came with an SRV answer, of its targets and in its own domain: about names elsewhere this
// server may know nothing, or have its own reasons. Those are asked for.
func glue(name string, m *dns.Msg) []dns.RR {
	if m.Truncated {
		return nil
	}
	domain := serviceDomain(name)
	var list []dns.RR
	for _, rr := range m.Extra {
		h := rr.Header()
		if h.Class != dns.ClassINET || len(list) == MaxRecords || !isType(rr, h.Rrtype) {
			continue
		}
		if (h.Rrtype == dns.TypeA || h.Rrtype == dns.TypeAAAA) && dns.IsSubDomain(domain, strings.ToLower(h.Name)) {
			list = append(list, normal(rr))
		}
	}
	return list
}

// serviceDomain is the domain in the name of a service: example.com. in _sip._udp.example.com.
func serviceDomain(name string) string {
	for strings.HasPrefix(name, "_") {
		_, rest, ok := strings.Cut(name, ".")
		if !ok || rest == "" {
			return "."
		}
		name = rest
	}
	return name
}
