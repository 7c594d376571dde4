package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"p2psip/interwork/locate"
)

// pattern is a domain, or all the domains below one, or both.
type pattern struct {
	labels []string // from the top: com, acme
	exact  bool     // the domain itself
	below  bool     // those below it
	text   string   // as written
}

var errWildcard = errors.New(`"*" stands for whole labels in front: "*.acme.com"`)

// UnmarshalText reads "acme.com" or "*.acme.com".
func (p *pattern) UnmarshalText(b []byte) error {
	name := string(b)
	below := false
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		name, below = rest, true
	}
	if strings.Contains(name, "*") {
		return errWildcard
	}
	d, ok := locate.Domain(name)
	if !ok {
		return fmt.Errorf("%q is no domain", name)
	}
	*p = pattern{labels: labels(d), exact: !below, below: below, text: string(b)}
	return nil
}

// destination is a pattern that may be written from the top as well: ".com.acme.*" is acme.com and all below it.
type destination struct{ pattern }

func (d *destination) UnmarshalText(b []byte) error {
	s := string(b)
	if !strings.HasPrefix(s, ".") {
		return d.pattern.UnmarshalText(b)
	}
	inner, ok := strings.CutSuffix(s[1:], ".*")
	if !ok || strings.Contains(inner, "*") {
		return errors.New(`a destination that begins with a dot is written from the top and ends in ".*": ".com.acme.*"`)
	}
	turned := strings.Split(inner, ".")
	slices.Reverse(turned)
	name, ok := locate.Domain(strings.Join(turned, "."))
	if !ok {
		return fmt.Errorf("%q is no domain written from the top", inner)
	}
	d.pattern = pattern{labels: labels(name), exact: true, below: true, text: s}
	return nil
}

// labels takes a domain apart, from the top.
func labels(domain string) []string {
	l := strings.Split(domain, ".")
	slices.Reverse(l)
	return l
}

// matches compares label by label: "*.acme.com" is not evilacme.com.
func (p *pattern) matches(domain []string) bool {
	if len(domain) < len(p.labels) || !slices.Equal(domain[:len(p.labels)], p.labels) {
		return false
	}
	if len(domain) == len(p.labels) {
		return p.exact
	}
	return p.below
}

// weight orders patterns that match the same domain: more labels first, and the domain itself before a wildcard.
func (p *pattern) weight() int {
	w := 2 * len(p.labels)
	if !p.below {
		w++
	}
	return w
}

func (p *pattern) domain() string {
	l := slices.Clone(p.labels)
	slices.Reverse(l)
	return strings.Join(l, ".")
}

// domainName is one domain.
type domainName string

func (d *domainName) UnmarshalText(b []byte) error {
	name, ok := locate.Domain(string(b))
	if !ok {
		return fmt.Errorf("%q is no domain", b)
	}
	*d = domainName(name)
	return nil
}

// subject is a name in a certificate: a domain, or sip:domain.
type subject string

func (s *subject) UnmarshalText(b []byte) error {
	name, ok := locate.Domain(strings.TrimPrefix(string(b), "sip:"))
	if !ok {
		return fmt.Errorf("%q is no domain; a certificate for SIP names one, without wildcard (RFC 5922 §7.2)", b)
	}
	*s = subject(name)
	return nil
}

// hop is a host with a port, or 0.
type hop struct {
	host string // a domain, an IPv4 address or an IPv6 address in brackets, as in a URI
	port int
}

func (h *hop) UnmarshalText(b []byte) error {
	s := string(b)
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Addr().Zone() == "" && ap.Port() != 0 {
		*h = hop{uriHost(ap.Addr()), int(ap.Port())}
		return nil
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && a.Zone() == "" {
		*h = hop{host: uriHost(a)}
		return nil
	}
	name, port, has := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	d, ok := locate.Domain(name)
	if !ok || has && (err != nil || n == 0) {
		return fmt.Errorf("%q is no host, nor a host with a port such as sip.acme.com:5061", s)
	}
	*h = hop{d, int(n)}
	return nil
}

func uriHost(a netip.Addr) string {
	if a = a.Unmap(); a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// network is a range of addresses, or one.
type network netip.Prefix

func (n *network) UnmarshalText(b []byte) error {
	if a, err := netip.ParseAddr(string(b)); err == nil && a.Zone() == "" {
		a = a.Unmap()
		*n = network(netip.PrefixFrom(a, a.BitLen()))
		return nil
	}
	p, err := netip.ParsePrefix(string(b))
	if err != nil || p.Addr().Is4In6() {
		return fmt.Errorf("%q is no address and no range such as 192.0.2.0/24", b)
	}
	if p != p.Masked() {
		return fmt.Errorf("%q has bits behind its length; write %s", b, p.Masked())
	}
	*n = network(p)
	return nil
}

// transport is UDP, TCP or TLS, in any case.
type transport string

func (t *transport) UnmarshalText(b []byte) error {
	switch s := strings.ToUpper(string(b)); s {
	case locate.UDP, locate.TCP, locate.TLS:
		*t = transport(s)
		return nil
	}
	return fmt.Errorf("%q is no transport; there are UDP, TCP and TLS", b)
}
