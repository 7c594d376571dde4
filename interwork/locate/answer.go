package locate

import (
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Question is what a name server is asked for.
type Question struct {
	Name string // in lower case, with the dot at its end
	Type uint16 // dns.TypeA, TypeAAAA, TypeSRV, TypeNAPTR, …
}

func (q Question) String() string { return dns.Type(q.Type).String() + " " + undot(q.Name) }

// Outcome is what an answer says.
type Outcome uint8

const (
	Found    Outcome = iota // there are records
	NoData                  // the name exists, without records of the type
	NXDomain                // the name does not exist, nor anything below it (RFC 8020)
)

func (o Outcome) String() string {
	switch o {
	case Found:
		return "found"
	case NoData:
		return "no such record"
	}
	return "no such name"
}

// Answer is what the DNS says to a question. It is shared between all who ask and never changed.
type Answer struct {
	Question Question
	Outcome  Outcome
	Records  []dns.RR       // of the type asked for, MaxRecords at most, in the order of the answer
	Left     int            // records that were left out because there are more
	Aliases  []string       // the names that CNAMEs led through, the last being the owner of Records
	Server   netip.AddrPort // who said so
	Network  string         // "udp" or "tcp"
	Took     time.Duration  // from the first attempt to the answer
	Expires  time.Time      // when it is to be asked for again; not after Received: it is not kept at all
	Received time.Time      // by the clock of the Resolver
	glue     []dns.RR       // addresses that came with an SRV answer, for targets in its own domain
	bytes    int            // what it counts for in the cache
}

// addresses gives the addresses of one family that came along for an SRV target, and until when they hold; none is no
// statement.
func (a *Answer) addresses(target string, qtype uint16, now time.Time) (list []netip.Addr, expires time.Time) {
	for _, rr := range a.glue {
		h := rr.Header()
		if h.Rrtype != qtype || h.Name != target || len(list) == MaxRecords {
			continue
		}
		// A lifetime of 0 is enough for the search that the answer came in.
		until := a.Received.Add(max(ttl(h.Ttl), time.Second))
		if !now.Before(until) {
			continue
		}
		if addr, ok := address(rr); ok {
			list = append(list, addr)
			if expires.IsZero() || until.Before(expires) {
				expires = until
			}
		}
	}
	return list, expires
}

// address gives the address of an A or AAAA record.
func address(rr dns.RR) (netip.Addr, bool) {
	var a netip.Addr
	var ok bool
	switch rr := rr.(type) {
	case *dns.A:
		a, ok = netip.AddrFromSlice(rr.A.To4())
	case *dns.AAAA:
		a, ok = netip.AddrFromSlice(rr.AAAA.To16())
	}
	return a.Unmap(), ok
}

// ttl is a lifetime from the wire. One with the top bit set is none (RFC 2181 §8).
func ttl(seconds uint32) time.Duration {
	if seconds > 1<<31-1 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// undot takes the last dot off a name, for people.
func undot(name string) string {
	if len(name) > 1 {
		return strings.TrimSuffix(name, ".")
	}
	return name
}

// dotted puts it there.
func dotted(name string) string {
	if strings.HasSuffix(name, ".") {
		return name
	}
	return name + "."
}
