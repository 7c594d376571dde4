package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
	mdns "github.com/miekg/dns"
	"github.com/urfave/cli/v2"

	"p2psip/dnsreg"
	"p2psip/interwork/locate"
	"p2psip/overlay"
)

// dnsLogger logs decisions: they are what a registrar is run for.
func (p *program) dnsLogger(c *cli.Context) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if c.Bool("verbose") {
		o.Level = slog.LevelDebug
	}
	switch c.String("log-format") {
	case "text":
		return slog.New(slog.NewTextHandler(p.ui.LogWriter(), o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(p.ui.LogWriter(), o)), nil
	}
	return nil, withHint(usagef("there is no log format %q", c.String("log-format")), "text and json are known")
}

// planTimeout bounds one look at the overlay with all probes.
const planTimeout = 90 * time.Second

// plan looks at the overlay once, as a registrar does when it starts, and gives what would be in the zone.
func (p *program) plan(ctx context.Context, cfg dnsreg.RegistrarConfig) (dnsreg.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, planTimeout)
	defer cancel()
	if _, err := cfg.Source.SurveyRole(ctx, overlay.RoleProxy, 0); err != nil && !errors.Is(err, overlay.ErrNoRole) {
		return dnsreg.Report{}, err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	found := make(chan dnsreg.Report, 1)
	cfg.Backend, cfg.Logger, cfg.Look = &dnsreg.DryRun{}, slog.New(slog.DiscardHandler), time.Second
	cfg.Probes.Again = time.Second
	cfg.Report = func(r dnsreg.Report) {
		if r.Ready && !r.Applied.IsZero() && r.Voting == 0 {
			select {
			case found <- r:
			default:
			}
			stop()
		}
	}
	r, err := dnsreg.NewRegistrar(cfg)
	if err != nil {
		return dnsreg.Report{}, err
	}
	r.Run(run)
	select {
	case out := <-found:
		return out, nil
	default:
		return dnsreg.Report{}, fmt.Errorf("the proxy peers could not be looked at: %w", context.Cause(ctx))
	}
}

func (p *program) dnsPlan() *cli.Command {
	return &cli.Command{
		Name: "plan", Usage: "show what would be in the zone now, and who would not; nothing is changed",
		Description: "p2psip dns plan\np2psip dns plan --policy allowlist --allow 12D3KooW…\np2psip dns plan --zone-file peers.zone",
		Flags: dnsFlags(
			&cli.StringFlag{Name: "zone-file", Usage: "write the records to `FILE` as well"},
			jsonFlag()),
		Action: func(c *cli.Context) error {
			if _, err := exactArgs(c); err != nil {
				return err
			}
			_, cfg, err := p.dnsRegistrar(c)
			if err != nil {
				return err
			}
			done := p.ui.Progress("Looking at the proxy peers of " + string(cfg.Records.OID))
			r, err := p.plan(c.Context, cfg)
			done()
			if err != nil {
				return err
			}
			if path := c.String("zone-file"); path != "" {
				z := &dnsreg.ZoneFile{Path: path}
				if _, err := z.Reconcile(c.Context, func(dnsreg.Notes) ([]mdns.RR, error) { return r.Records, nil }); err != nil {
					return err
				}
			}
			v := dnsViewOf(cfg.Records.OID, r)
			if c.Bool("json") {
				return p.ui.JSON(v)
			}
			p.sayPlan(v)
			return nil
		},
	}
}

func (p *program) sayPlan(v dnsView) {
	for _, rr := range v.Records {
		p.ui.Say("%s", rr)
	}
	if len(v.Records) == 0 {
		p.ui.Say("; no proxy peer of %s would be in the zone", v.Overlay)
	}
	p.ui.Say("")
	for _, d := range v.Decisions {
		p.ui.Say("; %s %s (%s): %s", map[bool]string{true: "in ", false: "out"}[d.In], d.Host, d.Node, d.Reason)
	}
}

func (p *program) dnsExplain() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "say why a proxy peer is in the zone, or is not",
		ArgsUsage:   "PEER",
		Description: "p2psip dns explain 12D3KooW…\np2psip dns explain pabcdefghijklmnopqrst",
		Flags:       dnsFlags(jsonFlag()),
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "a proxy peer: its node identifier, or its host name in the zone")
			if err != nil {
				return err
			}
			data, cfg, err := p.dnsRegistrar(c)
			if err != nil {
				return err
			}
			v, running := p.loadDNS(data)
			if !running {
				done := p.ui.Progress("Looking at the proxy peers of " + string(cfg.Records.OID))
				r, err := p.plan(c.Context, cfg)
				done()
				if err != nil {
					return err
				}
				v = dnsViewOf(cfg.Records.OID, r)
			}
			host, _, _ := strings.Cut(strings.ToLower(args[0]), ".")
			i := slices.IndexFunc(v.Decisions, func(d dnsDecision) bool { return d.Node == args[0] || d.Host == host })
			if i < 0 {
				return withHint(fmt.Errorf("%s is not advertised as a proxy peer of %s", args[0], v.Overlay), "p2psip dns plan lists all that are; a proxy peer that has just started takes some seconds, and one that is gone up to a quarter of an hour")
			}
			d := v.Decisions[i]
			if c.Bool("json") {
				return p.ui.JSON(d)
			}
			what := "is not in the zone"
			if d.In {
				what = "is in the zone"
			}
			by := "as this program would decide now"
			if running {
				by = "as the registrar that runs has decided " + span(max(0, p.now().Sub(d.Since))) + " ago"
			}
			p.ui.Say("%s (%s) %s: %s", d.Host, d.Node, what, d.Reason)
			p.ui.Say("This is %s.", by)
			return nil
		},
	}
}

// dnsComparison is what check prints.
type dnsComparison struct {
	Overlay overlay.ID `json:"overlay"`
	Same    bool       `json:"same"`
	Both    []string   `json:"both"`
	Missing []string   `json:"missing"` // alive and let in, and the DNS does not lead there
	Extra   []string   `json:"extra"`   // the DNS leads there, and it is none that is alive and let in
	Errors  []string   `json:"errors,omitempty"`
}

func (p *program) dnsCheck() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "resolve the overlay's name as an outsider does (RFC 3263), and compare with the proxy peers that are alive",
		Description: "p2psip dns check\np2psip dns check --dns 9.9.9.9 --json",
		Flags: dnsFlags(
			&cli.StringSliceFlag{Name: "dns", Usage: "`ADDR` of a name server to ask (default: those of this machine)"},
			jsonFlag()),
		Action: func(c *cli.Context) error {
			if _, err := exactArgs(c); err != nil {
				return err
			}
			data, cfg, err := p.dnsRegistrar(c)
			if err != nil {
				return err
			}
			resolver, err := locate.NewResolver(locate.ResolverConfig{Servers: c.StringSlice("dns")})
			if err != nil {
				return withHint(usagef("--dns: %v", err), "such as --dns 192.0.2.53")
			}
			l, err := locate.New(locate.Config{Resolver: resolver})
			if err != nil {
				return err
			}
			v, running := p.loadDNS(data)
			if !running {
				done := p.ui.Progress("Looking at the proxy peers of " + string(cfg.Records.OID))
				r, err := p.plan(c.Context, cfg)
				done()
				if err != nil {
					return err
				}
				v = dnsViewOf(cfg.Records.OID, r)
			}
			cmp := compareDNS(v, seenFromOutside(c.Context, resolver, l, cfg.Records))
			if c.Bool("json") {
				if err := p.ui.JSON(cmp); err != nil {
					return err
				}
			} else {
				p.sayComparison(cmp)
			}
			if !cmp.Same {
				return &silentError{exitFailed}
			}
			return nil
		},
	}
}

// leads are the places that a name leads to.
type leads struct {
	targets map[string]bool
	errs    []string
}

// seenFromOutside finds all places that the overlay's name leads to, by each transport.
func seenFromOutside(ctx context.Context, r *locate.Resolver, l *locate.Locator, c dnsreg.Config) leads {
	out := leads{targets: map[string]bool{}}
	transports := c.Transports
	if len(transports) == 0 {
		transports = []dnsreg.Transport{dnsreg.UDP, dnsreg.TCP, dnsreg.TLS}
	}
	uris := []sip.Uri{{Scheme: "sip", Host: string(c.OID)}}
	for _, t := range transports {
		uris = append(uris, sip.Uri{Scheme: "sip", Host: string(c.OID), UriParams: sip.HeaderParams{{K: "transport", V: string(t)}}})
	}
	for i, u := range uris {
		res, err := l.Locate(ctx, u)
		if err != nil && (i == 0 || errors.Is(err, locate.ErrDNS)) {
			out.errs = append(out.errs, err.Error())
		}
		for _, t := range res.Targets {
			out.targets[strings.ToLower(t.Transport)+" "+t.Addr.String()] = true
		}
	}
	for _, t := range transports { // a locator stops after some, one asked many times finds all
		out.all(ctx, r, t, srvName[t]+"."+string(c.OID))
	}
	return out
}

// srvName is where the SRV records of a transport are (RFC 3263 §4.1).
var srvName = map[dnsreg.Transport]string{dnsreg.UDP: "_sip._udp", dnsreg.TCP: "_sip._tcp", dnsreg.TLS: "_sips._tcp"}

// all finds all places that SRV records lead to.
func (l *leads) all(ctx context.Context, r *locate.Resolver, t dnsreg.Transport, name string) {
	lookup := func(name string, kind uint16) []mdns.RR {
		a, _, err := r.Lookup(ctx, name, kind)
		if err != nil || a == nil {
			return nil
		}
		return a.Records
	}
	for _, rr := range lookup(name, mdns.TypeSRV) {
		s, ok := rr.(*mdns.SRV)
		if !ok {
			continue
		}
		for _, host := range append(lookup(s.Target, mdns.TypeA), lookup(s.Target, mdns.TypeAAAA)...) {
			var ip netip.Addr
			switch h := host.(type) {
			case *mdns.A:
				ip, _ = netip.AddrFromSlice(h.A)
			case *mdns.AAAA:
				ip, _ = netip.AddrFromSlice(h.AAAA)
			}
			if ip.IsValid() {
				l.targets[string(t)+" "+netip.AddrPortFrom(ip.Unmap(), s.Port).String()] = true
			}
		}
	}
}

// compareDNS compares what the DNS leads to with what the records should lead to.
func compareDNS(v dnsView, found leads) dnsComparison {
	cmp := dnsComparison{Overlay: v.Overlay, Both: []string{}, Missing: []string{}, Extra: []string{}, Errors: found.errs}
	want := map[string]bool{}
	hosts := map[string][]netip.Addr{}
	var srvs []*mdns.SRV
	for _, text := range v.Records {
		rr, err := mdns.NewRR(text)
		if err != nil || rr == nil {
			continue
		}
		switch rr := rr.(type) {
		case *mdns.A:
			if a, ok := netip.AddrFromSlice(rr.A); ok {
				hosts[rr.Hdr.Name] = append(hosts[rr.Hdr.Name], a.Unmap())
			}
		case *mdns.AAAA:
			if a, ok := netip.AddrFromSlice(rr.AAAA); ok {
				hosts[rr.Hdr.Name] = append(hosts[rr.Hdr.Name], a)
			}
		case *mdns.SRV:
			srvs = append(srvs, rr)
		}
	}
	for _, s := range srvs {
		transport := ""
		for t, name := range srvName {
			if s.Hdr.Name == name+"."+mdns.Fqdn(string(v.Overlay)) {
				transport = string(t)
			}
		}
		for _, a := range hosts[s.Target] {
			if transport != "" {
				want[transport+" "+netip.AddrPortFrom(a, s.Port).String()] = true
			}
		}
	}
	for _, t := range slices.Sorted(maps.Keys(want)) {
		if found.targets[t] {
			cmp.Both = append(cmp.Both, t)
		} else {
			cmp.Missing = append(cmp.Missing, t)
		}
	}
	for _, t := range slices.Sorted(maps.Keys(found.targets)) {
		if !want[t] {
			cmp.Extra = append(cmp.Extra, t)
		}
	}
	cmp.Same = len(cmp.Missing)+len(cmp.Extra) == 0
	return cmp
}

func (p *program) sayComparison(c dnsComparison) {
	for _, t := range c.Both {
		p.ui.Say("  good     %s", t)
	}
	for _, t := range c.Missing {
		p.ui.Say("  missing  %s", t)
	}
	for _, t := range c.Extra {
		p.ui.Say("  extra    %s", t)
	}
	for _, e := range c.Errors {
		p.ui.Say("  %s", e)
	}
	switch {
	case c.Same && len(c.Both) == 0:
		p.ui.Say("%s has no proxy peers that are alive, and the DNS names none.", c.Overlay)
	case c.Same:
		p.ui.Say("Outsiders find the proxy peers of %s that are alive, and no others.", c.Overlay)
	default:
		p.ui.Say("The DNS does not show %s as it is: %d missing, %d that should not be there.", c.Overlay, len(c.Missing), len(c.Extra))
	}
}
