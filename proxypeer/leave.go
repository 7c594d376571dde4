package proxypeer

import (
	"context"
	"errors"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/locate"
	"p2psip/interwork/proxy"
)

// Hops implements proxy.Border: policy first, then RFC 3263.
func (p *Peer) Hops(ctx context.Context, uri sip.Uri, _ flow.Flow, req *sip.Request) ([]proxy.Hop, error) {
	var way Way
	if p.cfg.Policy != nil {
		var err error
		if way, err = p.cfg.Policy.Outbound(ctx, uri, req); err != nil {
			p.stats.refused.Add(1)
			return nil, err
		}
	}
	if way.URI.Host == "" {
		way.URI = uri
	}
	res, err := p.cfg.Locator.LocateFor(ctx, way.URI, way.Need)
	if err != nil {
		p.stats.refused.Add(1)
		return nil, refusal(err)
	}
	var hops []proxy.Hop
	for _, t := range res.Targets {
		h := proxy.Hop{Transport: flow.Transport(t.Transport), Addr: t.Addr}
		if h.Transport == flow.TransportTLS {
			h.Name = subjects(t.Name, way.Subjects)
		}
		if !p.own(h) && p.speaks(h) {
			hops = append(hops, h)
		}
	}
	if len(hops) == 0 {
		p.stats.refused.Add(1)
		return nil, &proxy.Refusal{Status: 404, Reason: "Not Found", Warning: "no server of the domain can be reached from this proxy peer"}
	}
	return hops, nil
}

// refusal turns an error of package locate into an answer. A name server that does not say is nobody's last word: 503 has
// the caller's node try another proxy peer, which asks others.
func refusal(err error) error {
	for _, r := range []struct {
		err     error
		status  int
		reason  string
		warning string
	}{
		{locate.ErrMaddr, 403, "Forbidden", "maddr is not followed"},
		{locate.ErrScheme, 416, "Unsupported URI Scheme", ""},
		{locate.ErrNoSuchDomain, 404, "Not Found", "no such domain"},
		{locate.ErrNoService, 404, "Not Found", "the domain offers no SIP service"},
		{locate.ErrNoAddress, 404, "Not Found", "no server of the domain has an address"},
		{locate.ErrHost, 404, "Not Found", "the host cannot be reached from here"},
		{locate.ErrTransport, 404, "Not Found", "this proxy peer does not speak the transport that is asked for"},
		{locate.ErrDNS, 503, "Name Servers Silent", "the name servers gave no answer about the domain"},
		{context.DeadlineExceeded, 503, "Name Servers Silent", "the name servers gave no answer in time"},
	} {
		if errors.Is(err, r.err) {
			return &proxy.Refusal{Status: r.status, Reason: r.reason, Warning: r.warning}
		}
	}
	return err
}

// Tried implements proxy.Border.
func (p *Peer) Tried(h proxy.Hop, err error) {
	t := locate.Target{Transport: string(h.Transport), Addr: h.Addr, Name: h.Name}
	if err != nil {
		p.stats.failed.Add(1)
		p.cfg.Locator.Failed(t)
		return
	}
	p.stats.left.Add(1)
	p.cfg.Locator.Good(t)
}
