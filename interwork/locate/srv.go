package locate

import (
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// service is one way to SIP at a domain: the transport, and the name with the SRV records.
type service struct {
	transport string
	name      string // as in a Question
}

// services are the names that a domain's services have by themselves (RFC 3263 §4.1), in the order of the transports.
func services(domain string, transports []string, federation bool) []service {
	var list []service
	for _, t := range transports {
		switch t {
		case UDP:
			list = append(list, service{UDP, "_sip._udp." + domain})
		case TCP:
			list = append(list, service{TCP, "_sip._tcp." + domain})
		case TLS:
			list = append(list, service{TLS, "_sips._tcp." + domain})
			if federation {
				list = append(list, service{TLS, "_sipfederationtls._tcp." + domain})
			}
		}
	}
	return list
}

// absent says that the records name the target "." and nothing else: the service is decidedly not there (RFC 2782).
func absent(records []dns.RR) bool {
	for _, rr := range records {
		if rr.(*dns.SRV).Target != "." {
			return false
		}
	}
	return len(records) > 0
}

// arrange puts SRV records into the order in which to try them: by priority, and within one by the weighted draw of RFC
// 2782. chance gives a number in [0, n).
func arrange(records []dns.RR, chance func(n uint64) uint64) []*dns.SRV {
	left := make([]*dns.SRV, 0, len(records))
	for _, rr := range records {
		left = append(left, rr.(*dns.SRV))
	}
	slices.SortStableFunc(left, func(a, b *dns.SRV) int { return int(a.Priority) - int(b.Priority) })
	for start := 0; start < len(left); {
		end := start
		for end < len(left) && left[end].Priority == left[start].Priority {
			end++
		}
		draw(left[start:end], chance)
		start = end
	}
	return left
}

// draw orders records of one priority: "arrange all SRV RRs in any order, except that all those with weight 0 are placed at
// the beginning", then again and again a number between 0 and the sum of the weights picks the first record whose running
// sum reaches it. Any order is here an order by chance, so that equal zeros share the load.
func draw(group []*dns.SRV, chance func(n uint64) uint64) {
	if len(group) < 2 {
		return
	}
	for i := len(group) - 1; i > 0; i-- {
		j := int(chance(uint64(i) + 1))
		group[i], group[j] = group[j], group[i]
	}
	slices.SortStableFunc(group, func(a, b *dns.SRV) int { return min(int(a.Weight), 1) - min(int(b.Weight), 1) })
	var sum uint64
	for _, s := range group {
		sum += uint64(s.Weight)
	}
	for len(group) > 1 {
		pick := chance(sum + 1)
		var running uint64
		for i, s := range group {
			if running += uint64(s.Weight); running < pick {
				continue
			}
			copy(group[1:i+1], group[:i]) // the others keep their order
			group[0] = s
			sum -= uint64(s.Weight)
			break
		}
		group = group[1:]
	}
}

// chance draws a number in [0, n) from the Locator's generator.
func (l *Locator) chance(n uint64) uint64 {
	if l.random == nil {
		return rand.Uint64N(n)
	}
	l.randomMu.Lock()
	defer l.randomMu.Unlock()
	return l.random.Uint64N(n)
}

// usableSRV says why an SRV record cannot be used, or "".
func usableSRV(s *dns.SRV) string {
	switch {
	case s.Target == ".":
		return "names no server"
	case s.Port == 0:
		return "left out: port 0"
	case !hostName(strings.TrimSuffix(s.Target, ".")):
		return "left out: not the name of a host"
	}
	return ""
}
