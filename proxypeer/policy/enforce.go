package policy

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/locate"
	"p2psip/interwork/proxy"
	"p2psip/proxypeer"
)

// Locator is RFC 3263 in both directions; locate.Locator implements it.
type Locator interface {
	LocateFor(ctx context.Context, uri sip.Uri, need locate.Need) (locate.Result, error)
	Sources(ctx context.Context, domain string) (locate.Sources, error)
}

var _ Locator = (*locate.Locator)(nil)

// isUnknown says that the DNS did not say, as opposed to "there is none".
func isUnknown(err error) bool {
	return errors.Is(err, locate.ErrDNS) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// Attempt is one route of a decision, tried.
type Attempt struct {
	Route  Route
	Result locate.Result
	Err    error
}

// Follow tries the routes of a decision in order until one leads somewhere, and gives all that were tried; the last one is
// the one to take if its Err is nil. A route is passed over only if the DNS says that there is nothing: what it fails to say
// is no reason to send a call elsewhere.
func (d Decision) Follow(ctx context.Context, l Locator) []Attempt {
	var tried []Attempt
	for _, r := range d.Routes {
		res, err := l.LocateFor(ctx, r.URI, r.Need)
		tried = append(tried, Attempt{r, res, err})
		if !errors.Is(err, locate.ErrNoService) && !errors.Is(err, locate.ErrNoSuchDomain) && !errors.Is(err, locate.ErrNoAddress) {
			break
		}
	}
	return tried
}

// Enforcer is the policy of a proxypeer.Peer.
//
// What is inside a dialog goes to where the dialog's Contact and routes say, which often is an address. So it is judged by the
// domain of the far party (To of what leaves, From of what comes in), whichever proxy peer it passes. A call that this proxy
// peer has let through goes on whatever the policy says since, and a BYE passes always.
type Enforcer struct {
	file    *File
	locator Locator
	calls   calls
}

var _ proxypeer.Policy = (*Enforcer)(nil)

// NewEnforcer makes one; file and locator stay the caller's.
func NewEnforcer(file *File, locator Locator) *Enforcer {
	return &Enforcer{file: file, locator: locator}
}

// Outbound implements proxypeer.Policy.
func (e *Enforcer) Outbound(ctx context.Context, uri sip.Uri, req *sip.Request) (proxypeer.Way, error) {
	now := time.Now()
	if !inside(req) {
		d := e.file.Policy().Outbound(uri)
		if !d.Allowed {
			return proxypeer.Way{}, d.refusal()
		}
		e.calls.add(callID(req), now)
		tried := d.Follow(ctx, e.locator)
		last := tried[len(tried)-1].Route
		// An error comes up again, from the cache, where the Peer locates this way, and is answered there.
		return proxypeer.Way{URI: last.URI, Need: last.Need, Subjects: last.Subjects}, nil
	}
	d := e.file.Policy().Outbound(req.To().Address)
	if !d.Allowed && !ends(req) && !e.calls.known(callID(req), now) {
		return proxypeer.Way{}, d.refusal()
	}
	e.calls.add(callID(req), now)
	way := proxypeer.Way{}
	if d.RequireTLS {
		way.Need.Transports = []string{locate.TLS}
	}
	way.Need.Permit = e.places(ctx, &d)
	return way, nil
}

// places says where requests inside a dialog with a domain may go besides the public Internet: to its static next hop, and to
// the addresses that the file lists as its own. nil: nowhere else.
func (e *Enforcer) places(ctx context.Context, d *Decision) func(netip.Addr) bool {
	var static []Route
	for _, r := range d.Routes {
		if r.Kind == Static {
			static = append(static, r)
		}
	}
	if len(static) == 0 && len(d.listed) == 0 {
		return nil
	}
	return func(a netip.Addr) bool {
		if slices.ContainsFunc(d.listed, func(n network) bool { return netip.Prefix(n).Contains(a.WithZone("").Unmap()) }) {
			return true
		}
		for _, r := range static {
			res, err := e.locator.LocateFor(ctx, r.URI, r.Need)
			if err == nil && slices.ContainsFunc(res.Targets, func(t locate.Target) bool { return t.Addr.Addr().Unmap() == a.Unmap() }) {
				return true
			}
		}
		return false
	}
}

// Inbound implements proxypeer.Policy.
func (e *Enforcer) Inbound(ctx context.Context, f flow.Flow, req *sip.Request) error {
	from := req.From()
	if from == nil {
		return &proxy.Refusal{Status: 400, Reason: "Bad Request", Warning: "no From"}
	}
	now := time.Now()
	if inside(req) && (ends(req) || e.calls.known(callID(req), now)) {
		return nil
	}
	source, _ := netip.ParseAddr(f.Remote().Host)
	d := e.file.Policy().Inbound(from.Address, source, names(f))
	if d.CheckSource {
		d = d.WithSources(e.locator.Sources(ctx, d.Domain))
	}
	if !d.Allowed {
		return d.refusal()
	}
	e.calls.add(callID(req), now)
	return nil
}

// Trusts says that the policy lists an address as one of a domain's.
func (e *Enforcer) Trusts(a netip.Addr) bool { return e.file.Policy().Trusts(a) }

// Returned implements proxypeer.Policy: what follows in the call passes as well.
func (e *Enforcer) Returned(req *sip.Request) { e.calls.add(callID(req), time.Now()) }

// names are those in the certificate of a TLS connection, nil for another flow.
func names(f flow.Flow) []string {
	if f.Transport() != flow.TransportTLS {
		return nil
	}
	list := []string{}
	if peer, ok := f.Peer().(flow.TLSPeer); ok && len(peer.Certificates) > 0 {
		list = append(list, proxypeer.Identities(peer.Certificates[0])...)
	}
	return list
}

func (d *Decision) refusal() error {
	reason := "Forbidden"
	if d.Status == 503 {
		reason = "Name Servers Silent"
	}
	return &proxy.Refusal{Status: d.Status, Reason: reason, Warning: d.Reason}
}
