package locate

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// rule is a NAPTR record that leads to a service (RFC 3263 §4.1).
type rule struct {
	order, preference uint16
	service           service
	record            int // which one of the answer
}

// rules takes those NAPTR records out that lead to a service over one of the transports, ordered by order, preference, and
// for equals by the order of the transports. Verdicts says about each record why it is not used, or "".
func rules(records []dns.RR, transports []string) (list []rule, verdicts []string) {
	verdicts = make([]string, len(records))
	for i, rr := range records {
		n := rr.(*dns.NAPTR)
		transport, why := serviceOf(n)
		switch {
		case why != "":
			verdicts[i] = why
		case !slices.Contains(transports, transport):
			verdicts[i] = "left out: " + transport + " may not be used here"
		default:
			list = append(list, rule{n.Order, n.Preference, service{transport, n.Replacement}, i})
		}
	}
	slices.SortStableFunc(list, func(a, b rule) int {
		if a.order != b.order {
			return int(a.order) - int(b.order)
		}
		if a.preference != b.preference {
			return int(a.preference) - int(b.preference)
		}
		return slices.Index(transports, a.service.transport) - slices.Index(transports, b.service.transport)
	})
	return list, verdicts
}

// serviceOf gives the transport that a NAPTR record stands for, or why it stands for none.
func serviceOf(n *dns.NAPTR) (transport, why string) {
	switch strings.ToUpper(n.Service) {
	case "SIP+D2U":
		transport = UDP
	case "SIP+D2T":
		transport = TCP
	case "SIPS+D2T":
		transport = TLS
	default:
		return "", "left out: not a service that this node speaks"
	}
	switch {
	case !strings.EqualFold(n.Flags, "s"):
		return "", "left out: its flag is not \"s\", so it does not lead to SRV records"
	case n.Regexp != "":
		return "", "left out: it has a regular expression"
	case !hostName(strings.TrimSuffix(n.Replacement, ".")):
		return "", "left out: it leads to no name"
	}
	return transport, ""
}
