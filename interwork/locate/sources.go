package locate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// MaxSources is how many addresses of one domain are looked at.
const MaxSources = 64

// Sources is where the servers of a domain are.
type Sources struct {
	Domain  string
	Addrs   []netip.Addr // sorted, each once; MaxSources at most
	Expires time.Time    // when to ask again; the answers behind it are kept until then, so asking often costs little
	Steps   []Step
}

// Contains says that a is one of them.
func (s Sources) Contains(a netip.Addr) bool { return slices.Contains(s.Addrs, a.WithZone("").Unmap()) }

// Sources gives the addresses that the servers of a domain resolve to, over every service that RFC 3263 knows and
// _sipfederationtls._tcp: where a request that claims to come from the domain may come from, for a domain that sends from
// the servers it publishes. The domain's own addresses count only if it has no SRV records, as in Locate.
//
// With an error the addresses may be incomplete: then an address that is missing proves nothing.
func (l *Locator) Sources(ctx context.Context, name string) (Sources, error) {
	src := Sources{Domain: name}
	d, ok := Domain(name)
	if !ok {
		return src, fmt.Errorf("sources of %q: %w", name, ErrHost)
	}
	src.Domain = d
	if l.resolver == nil {
		return src, fmt.Errorf("sources of %s: %w", d, ErrNoServers)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.timeout, ErrTimeout)
	defer cancel()
	all := []string{UDP, TCP, TLS}
	s := &search{l: l, ctx: ctx, quest: quest{host: d, name: d + ".", allowed: all}, types: PreferIPv6.types(), any: true, left: MaxQuestions}
	err := s.sources(&src, services(s.name, all, true))
	src.Steps = s.steps
	slices.SortFunc(src.Addrs, netip.Addr.Compare)
	if err != nil {
		return src, fmt.Errorf("sources of %s: %w", d, err)
	}
	return src, nil
}

func (s *search) sources(src *Sources, list []service) error {
	a, err := s.ask(Question{s.name, dns.TypeNAPTR})
	switch {
	case err != nil && !errors.Is(err, ErrDNS):
		return err
	case err == nil && a.Outcome == NXDomain && len(a.Aliases) == 0:
		return ErrNoSuchDomain
	case err == nil:
		src.until(a.Expires)
		var more []rule
		more, s.steps[len(s.steps)-1].Verdicts = rules(a.Records, s.allowed)
		for _, r := range more {
			if !slices.Contains(list, r.service) && len(list) < 2*maxServices {
				list = append(list, r.service)
			}
		}
	}
	var questions []Question
	for _, sv := range list {
		if len(sv.name) <= 254 {
			questions = append(questions, Question{sv.name, dns.TypeSRV})
		}
	}
	var targets []string
	var from []*Answer
	var failure error
	found := false
	for _, r := range s.askAll(questions, nil) {
		if r.err != nil {
			failure = r.err
			continue
		}
		src.until(r.answer.Expires)
		if r.answer.Outcome != Found {
			continue
		}
		found = true
		for _, rr := range r.answer.Records {
			srv := rr.(*dns.SRV)
			if usableSRV(srv) == "" && !slices.Contains(targets, srv.Target) && len(targets) < MaxTargets {
				targets = append(targets, srv.Target)
				from = append(from, r.answer)
			}
		}
	}
	if !found && failure == nil {
		targets, from = []string{s.name}, nil
	}
	if len(targets) == 0 {
		return failure // nil: the domain says that it has no SIP, so nothing comes from there
	}
	hosts, err := s.hosts(targets, from)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if h.err != nil {
			failure = h.err
		}
		src.until(h.expires)
		for _, family := range h.families {
			for _, a := range family {
				if len(src.Addrs) < MaxSources && !slices.Contains(src.Addrs, a) {
					src.Addrs = append(src.Addrs, a)
				}
			}
		}
	}
	return failure
}

// until brings the expiry forward.
func (s *Sources) until(t time.Time) {
	if !t.IsZero() && (s.Expires.IsZero() || t.Before(s.Expires)) {
		s.Expires = t
	}
}
