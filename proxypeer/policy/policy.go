package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/locate"
)

// Policy decides. The zero value is the policy of a proxy peer without a file: everything is allowed.
type Policy struct {
	entries  []*entry
	fallback *entry // [default]; nil in the zero value
	aliases  map[string]*entry
	routes   []*route
	routing  string // the default routing domain, "" if none
}

// Decision is what a policy makes of a request, and why.
type Decision struct {
	Allowed bool   `json:"allowed"`
	Status  int    `json:"status,omitempty"` // how a request that is not allowed is answered
	Rule    string `json:"rule"`             // what in the file decided
	Reason  string `json:"reason"`           // in words
	Domain  string `json:"domain"`           // the foreign domain, an alias replaced
	// Notes is what was concluded on the way.
	Notes []string `json:"notes,omitempty"`

	// Of a request that leaves: the URI with an alias replaced, and the ways to try, in order.
	URI    sip.Uri `json:"-"`
	Routes []Route `json:"routes,omitempty"`

	RequireTLS bool `json:"require_tls,omitempty"`

	// CheckSource, of a request from outside: it is not decided yet. Where the servers of Domain are decides; see WithSources.
	CheckSource bool `json:"check_source,omitempty"`

	source netip.Addr
	listed []network // of the entry that decided: addresses that are the domain's own
}

// Route is one way out.
type Route struct {
	Kind string `json:"kind"` // Static or DNS
	Rule string `json:"rule"`
	// URI is to be located with Need; the next route is taken when the DNS says that there is nothing.
	URI  sip.Uri     `json:"-"`
	Need locate.Need `json:"-"`
	// Subjects are the names of which a TLS server's certificate has to bear one; none: that of the URI's host.
	Subjects []string `json:"subjects,omitempty"`
}

// Kinds of routes.
const (
	Static = "static"
	DNS    = "DNS"
)

// Trusts says that some domain lists an address as its own, and is not closed to calls from outside.
func (p *Policy) Trusts(a netip.Addr) bool {
	a = a.WithZone("").Unmap()
	return slices.ContainsFunc(p.entries, func(e *entry) bool {
		return (e.Enabled == nil || *e.Enabled) && *e.Inbound && slices.ContainsFunc(e.Trusted, func(n network) bool { return netip.Prefix(n).Contains(a) })
	})
}

// Len is how many domains have an entry of their own, and how many static routes there are.
func (p *Policy) Len() (domains, routes int) { return len(p.entries), len(p.routes) }

// find gives the entry for a domain, the closest one if several match, and [default] if none does.
func (p *Policy) find(domain string) *entry {
	var best *entry
	weight := 0
	l := labels(domain)
	for _, e := range p.entries {
		for i := range e.Names {
			if n := &e.Names[i]; n.matches(l) && n.weight() > weight {
				best, weight = e, n.weight()
			}
		}
	}
	if best != nil {
		return best
	}
	if p.fallback == nil {
		return &entry{common: common{Outbound: new(true), Inbound: new(true), RequireTLS: new(false), FederationSRV: new(false), Hosted: new(false), CheckSource: new(false)}}
	}
	return p.fallback
}

// static gives the static route for a domain.
func (p *Policy) static(domain string) *route {
	var best *route
	weight := 0
	l := labels(domain)
	for _, r := range p.routes {
		if r.To.matches(l) && r.To.weight() > weight {
			best, weight = r, r.To.weight()
		}
	}
	return best
}

// begin names the domain of a URI and finds its entry.
func (p *Policy) begin(uri sip.Uri) (d Decision, e *entry) {
	d.URI = uri
	host, ok := locate.Domain(uri.Host)
	if !ok { // an address, or nothing that can be located; package locate tells them apart
		d.Domain = strings.Trim(strings.ToLower(uri.Host), "[]")
	} else {
		d.Domain = host
		if a := p.aliases[host]; a != nil {
			d.Domain = a.Names[0].domain()
			d.URI.Host = d.Domain
			d.note("%s is an alias of %s, by %s", host, d.Domain, a.label())
		}
	}
	e = p.find(d.Domain)
	d.Rule, d.listed = e.label(), e.Trusted
	switch {
	case p.fallback == nil:
		d.Rule = "no policy file"
	case e == p.fallback:
		d.note("no entry names %s, so [default] holds", d.Domain)
	case e.Description != "":
		d.note("%s: %s", e.label(), e.Description)
	}
	return d, e
}

func (d *Decision) note(format string, a ...any) {
	d.Notes = append(d.Notes, fmt.Sprintf(format, a...))
}

func (d *Decision) refuse(status int, format string, a ...any) Decision {
	d.Allowed, d.Status, d.Reason = false, status, fmt.Sprintf(format, a...)
	return *d
}

// Outbound decides about a request of a member that is to leave for uri.
func (p *Policy) Outbound(uri sip.Uri) Decision {
	d, e := p.begin(uri)
	switch {
	case e.Enabled != nil && !*e.Enabled:
		return d.refuse(403, "federation with %s is switched off", d.Domain)
	case !*e.Outbound:
		return d.refuse(403, "calls to %s are not allowed", d.Domain)
	}
	d.Allowed, d.Reason = true, fmt.Sprintf("calls to %s are allowed", d.Domain)
	d.RequireTLS = *e.RequireTLS
	need := locate.Need{Federation: *e.FederationSRV}
	switch {
	case *e.RequireTLS:
		need.Transports = []string{locate.TLS}
		d.note("over TLS only, by %s", e.label())
	default:
		for _, t := range e.Transports {
			need.Transports = append(need.Transports, string(t))
		}
	}
	subjects := texts(e.Subjects)

	// The four steps of a routing domain: static(host), SRV(host), static(default), SRV(default).
	if e.NextHop != nil {
		h := *e.NextHop
		port := h.port
		if port == 0 {
			port = e.Port
		}
		if port == 0 {
			if port = defaultPort; *e.RequireTLS || d.URI.Scheme == "sips" {
				port = tlsPort
			}
		}
		need.Permit = anywhere
		d.Routes = append(d.Routes, Route{Kind: Static, Rule: "next hop of " + e.label(), URI: hopURI(d.URI, h.host, port, ""), Need: need, Subjects: orHop(subjects, d.Domain, h.host)})
		return d
	}
	if r := p.static(d.Domain); r != nil {
		return d.static(r, e, need)
	}
	hosted := *e.Hosted && p.routing != ""
	own := need
	own.ServicesOnly = hosted || e.Port != 0
	if !hosted || d.Domain != p.routing {
		d.Routes = append(d.Routes, Route{Kind: DNS, Rule: d.Rule, URI: d.URI, Need: own, Subjects: subjects})
	}
	if e.Port != 0 && d.URI.Port == 0 {
		d.Routes = append(d.Routes, Route{Kind: DNS, Rule: fmt.Sprintf("port %d of %s", e.Port, e.label()), URI: hopURI(d.URI, d.URI.Host, e.Port, ""), Need: need, Subjects: subjects})
	}
	if hosted {
		d.note("hosted by the routing domain %s: taken where the DNS has no service for %s", p.routing, d.Domain)
		if r := p.static(p.routing); r != nil {
			return d.static(r, e, need)
		}
		host := d.URI
		host.Host, host.Port = p.routing, 0
		if subjects == nil && d.Domain != p.routing {
			subjects = []string{p.routing, d.Domain}
		}
		need.ServicesOnly = false
		d.Routes = append(d.Routes, Route{Kind: DNS, Rule: "routing domain " + p.routing, URI: host, Need: need, Subjects: subjects})
	}
	return d
}

// anywhere lets a request go to whatever place the operator has written into the file, be it in a private network.
func anywhere(netip.Addr) bool { return true }

// static appends a static route as the last one.
func (d *Decision) static(r *route, e *entry, need locate.Need) Decision {
	t := string(r.Transport)
	if len(need.Transports) > 0 && !slices.Contains(need.Transports, t) {
		return d.refuse(403, "%s goes over %s, which %s does not allow", r.label(), t, e.label())
	}
	need.Transports, need.Permit = []string{t}, anywhere
	subjects := texts(r.Subjects)
	if subjects == nil {
		subjects = texts(e.Subjects)
	}
	d.Routes = append(d.Routes, Route{
		Kind: Static, Rule: r.label(), URI: hopURI(d.URI, r.NextHop.host, r.NextHop.port, t), Need: need, Subjects: orHop(subjects, d.Domain, r.NextHop.host),
	})
	return *d
}

// hopURI is where to send to instead; transport "" leaves it open.
func hopURI(uri sip.Uri, host string, port int, transport string) sip.Uri {
	u := sip.Uri{Scheme: uri.Scheme, Host: host, Port: port}
	if u.Scheme == "" {
		u.Scheme = "sip"
	}
	if t, ok := uri.UriParams.Get("transport"); ok && transport == "" {
		transport = t
	}
	if transport != "" && !(u.Scheme == "sips" && strings.EqualFold(transport, locate.TLS)) {
		u.UriParams = sip.HeaderParams{{K: "transport", V: strings.ToLower(transport)}}
	}
	return u
}

// orHop is what a server that the file names may prove to be, if the file does not say: the domain, or itself.
func orHop(subjects []string, domain, host string) []string {
	if subjects != nil {
		return subjects
	}
	return []string{domain, strings.Trim(host, "[]")}
}

func texts[T ~string](list []T) []string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	return out
}

// Inbound decides about a request from outside that claims to come from a user of from's domain. names are the names in the
// certificate that the connection was made with (RFC 5922 §7.1), nil if it is not TLS, empty if it is without certificate.
func (p *Policy) Inbound(from sip.Uri, source netip.Addr, names []string) Decision {
	d, e := p.begin(from)
	source = source.WithZone("").Unmap()
	d.source = source
	switch {
	case e.Enabled != nil && !*e.Enabled:
		return d.refuse(403, "federation with %s is switched off", d.Domain)
	case !*e.Inbound:
		return d.refuse(403, "calls from %s are not allowed", d.Domain)
	}
	if *e.RequireTLS {
		allowed := texts(e.Subjects)
		if allowed == nil {
			allowed = []string{d.Domain}
		}
		switch {
		case names == nil:
			return d.refuse(403, "calls from %s come over TLS or not at all", d.Domain)
		case len(names) == 0:
			return d.refuse(403, "calls from %s come with a certificate or not at all", d.Domain)
		case !slices.ContainsFunc(names, func(n string) bool {
			s, ok := locate.Domain(strings.TrimPrefix(n, "sip:"))
			return ok && slices.Contains(allowed, s)
		}):
			return d.refuse(403, "the certificate is for %s; %s has to show one for %s", strings.Join(names, ", "), d.Domain, strings.Join(allowed, " or "))
		}
		d.note("the certificate is one for %s", d.Domain)
	}
	for _, n := range e.Trusted {
		if netip.Prefix(n).Contains(source) {
			d.Allowed, d.Reason = true, fmt.Sprintf("%s is among the trusted addresses of %s", source, d.Domain)
			return d
		}
	}
	switch {
	case *e.CheckSource:
		d.CheckSource, d.Status, d.Reason = true, 403, fmt.Sprintf("calls from %s have to come from one of its servers", d.Domain)
		return d
	case len(e.Trusted) > 0:
		return d.refuse(403, "%s is not among the trusted addresses of %s", source, d.Domain)
	}
	d.Allowed, d.Reason = true, fmt.Sprintf("calls from %s are allowed", d.Domain)
	return d
}

// WithSources completes a Decision that wants its source checked. err is what Locator.Sources said: an address that is missing
// from an incomplete list proves nothing, so that is answered 503 and the sender tries again.
func (d Decision) WithSources(src locate.Sources, err error) Decision {
	if !d.CheckSource {
		return d
	}
	d.CheckSource = false
	switch {
	case src.Contains(d.source):
		d.Allowed, d.Status, d.Reason = true, 0, fmt.Sprintf("%s is one of the servers of %s", d.source, d.Domain)
		return d
	case err != nil && isUnknown(err):
		return d.refuse(503, "where the servers of %s are cannot be found out now: %v", d.Domain, err)
	case err != nil:
		return d.refuse(403, "%s is no server of %s: %v", d.source, d.Domain, err)
	}
	return d.refuse(403, "%s is none of the servers of %s", d.source, d.Domain)
}
