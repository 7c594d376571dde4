package proxypeer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/locate"
)

// Binding is what the DNS makes of the overlay's identifier. A proxy peer that it does not lead to carries calls out and
// brings none in (draft §1.1, §3.1).
type Binding struct {
	Asked time.Time // zero: not asked yet
	Bound bool      // the identifier leads to a public socket of this proxy peer
	Known bool      // the name servers gave an answer
	Why   string    // in words
	Hint  string    // what to do about it; "" if there is nothing to be done
}

// maxLeads is how many of the places that a domain leads to are named.
const maxLeads = 4

// Binding asks where somebody outside would send a request for the overlay (RFC 3263), with and without NAPTR and for each
// transport of the public sockets, and says whether that is here. It sends nothing there.
func (p *Peer) Binding(ctx context.Context, now time.Time) Binding {
	b := Binding{Asked: now}
	oid := string(p.cfg.OID)
	if !strings.Contains(oid, ".") {
		b.Known = true
		b.Why = oid + " is no domain name, so nobody outside can call its users"
		b.Hint = "an overlay that outsiders are to call has to be named like a domain"
		return b
	}
	uris := []sip.Uri{{Scheme: "sip", Host: oid}}
	for _, k := range p.sockets {
		uris = append(uris, sip.Uri{Scheme: "sip", Host: oid, UriParams: sip.HeaderParams{{K: "transport", V: lower(k.transport)}}})
	}
	var leads []string
	var failed, missing error
	for _, u := range uris {
		res, err := p.cfg.Locator.LocateFor(ctx, u, locate.Need{})
		switch {
		case errors.Is(err, locate.ErrDNS), err != nil && ctx.Err() != nil:
			failed = err
		case err != nil:
			missing = err
		}
		for _, t := range res.Targets {
			if p.named(t) {
				b.Bound, b.Known = true, true
				b.Why = fmt.Sprintf("%s leads here, to %s", oid, t)
				return b
			}
			if !slices.Contains(leads, t.String()) {
				leads = append(leads, t.String())
			}
		}
	}
	b.Known = failed == nil
	b.Hint = fmt.Sprintf("calls go out all the same; to let them in, have the zone of %s name this proxy peer: %s", oid, strings.Join(p.records(), ", "))
	switch {
	case !b.Known:
		b.Why = fmt.Sprintf("the name servers do not say where %s leads: %v", oid, failed)
		b.Hint = "it is asked again by itself; are the name servers of this machine, or those given with --dns, at work?"
	case len(leads) > maxLeads:
		b.Why = fmt.Sprintf("%s leads to %s and %d more places, and not to this proxy peer", oid, strings.Join(leads[:maxLeads], ", "), len(leads)-maxLeads)
	case len(leads) > 0:
		b.Why = fmt.Sprintf("%s leads to %s, and not to this proxy peer", oid, strings.Join(leads, ", "))
	default:
		b.Why = fmt.Sprintf("nobody outside can call through this proxy peer: %v", missing)
	}
	return b
}

// named says that a target is one of the public sockets, by the address that the public side knows.
func (p *Peer) named(t locate.Target) bool {
	return slices.ContainsFunc(p.sockets, func(k socket) bool {
		at, ok := k.name.AddrPort()
		if !ok || string(k.transport) != t.Transport || at.Port() != t.Addr.Port() {
			return false
		}
		return at.Addr().Unmap() == t.Addr.Addr().Unmap() || at.Addr().IsUnspecified() && ofThisMachine(t.Addr.Addr())
	})
}

// ofThisMachine says that one of its interfaces has the address.
func ofThisMachine(a netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(addrs, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr().Unmap() == a.Unmap()
	})
}

// records gives the SRV records that would lead here, for a person.
func (p *Peer) records() (out []string) {
	for _, k := range p.sockets {
		service := "_sip._" + lower(k.transport)
		if k.transport == flow.TransportTLS {
			service = "_sips._tcp"
		}
		host := "this machine's public address"
		ap, _ := k.name.AddrPort()
		if ap.Addr().IsValid() && !ap.Addr().IsUnspecified() {
			host = ap.Addr().String()
		}
		out = append(out, fmt.Sprintf("%s SRV with port %d and a host at %s", service, ap.Port(), host))
	}
	return out
}
