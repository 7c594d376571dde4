package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/emiago/sipgo/sip"
	"github.com/urfave/cli/v2"

	"p2psip/interwork/locate"
	"p2psip/proxypeer/policy"
)

// federation groups what a proxy peer's rules about other domains have to do with.
func (p *program) federation() *cli.Command {
	return &cli.Command{
		Name: "federation", Usage: "a proxy peer's rules about calls to and from other domains",
		Description: "p2psip federation check sip:carol@example.com\np2psip federation reload",
		Subcommands: []*cli.Command{p.federationCheck(), p.federationReload()},
	}
}

func (p *program) federationCheck() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "explain which rule and which server a call would meet, step by step; nothing is sent but questions to name servers",
		ArgsUsage: "URI",
		Description: "p2psip federation check sip:carol@example.com\n" +
			"p2psip federation check --file federation.toml --dns 192.0.2.53 sip:carol@example.com\n" +
			"p2psip federation check --inbound --from sip:carol@example.com --source 192.0.2.7 sip:alice@p2psip.example",
		Flags: []cli.Flag{dataFlag(),
			&cli.StringFlag{Name: "file", Usage: "`FILE` with the policy (default: federation.toml in the node's data directory)"},
			&cli.StringSliceFlag{Name: "dns", Usage: "`ADDR` of a name server to ask (default: those of this machine)"},
			&cli.StringSliceFlag{Name: "transport", Usage: "`NAME` of a transport that the proxy peer speaks: udp, tcp or tls, the preferred one first (default: all three)"},
			&cli.BoolFlag{Name: "inbound", Usage: "ask about a call that comes in, for the user URI"},
			&cli.StringFlag{Name: "from", Usage: "`URI` of the caller, of a call that comes in"},
			&cli.StringFlag{Name: "source", Usage: "`ADDR` that it comes from"},
			&cli.StringSliceFlag{Name: "cert", Usage: "`NAME` in the certificate that it comes with, over TLS"},
			jsonFlag()},
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "an address, such as sip:carol@example.com")
			if err != nil {
				return err
			}
			uri, err := parseURI(args[0])
			if err != nil {
				return err
			}
			v := check{URI: args[0]}
			rules, err := p.openPolicy(c, &v)
			if err != nil {
				return err
			}
			if !c.Bool("inbound") {
				for _, f := range []string{"from", "source", "cert"} {
					if c.IsSet(f) {
						return withHint(usagef("--%s is about calls that come in", f), "add --inbound")
					}
				}
				v.decide(rules.Outbound(uri))
				return p.finishCheck(c, &v, v.followWith)
			}
			from, err := parseURI(c.String("from"))
			if err != nil {
				return withHint(usagef("--inbound needs --from, the caller"), "such as --from sip:carol@example.com")
			}
			source, err := netip.ParseAddr(strings.Trim(c.String("source"), "[]"))
			if err != nil {
				return withHint(usagef("--inbound needs --source, the address that the call comes from"), "such as --source 192.0.2.7")
			}
			v.From, v.Source = c.String("from"), source.String()
			v.decide(rules.Inbound(from, source, c.StringSlice("cert")))
			return p.finishCheck(c, &v, v.sourcesWith)
		},
	}
}

// check is what a check finds out, as it is printed for programs.
type check struct {
	URI      string          `json:"uri"`
	From     string          `json:"from,omitempty"`
	Source   string          `json:"source,omitempty"`
	Policy   string          `json:"policy"` // the file, "" if there is none
	Decision policy.Decision `json:"decision"`
	Attempts []attempt       `json:"attempts,omitempty"`
	Servers  *servers        `json:"servers,omitempty"` // of the caller's domain, if its address was compared with them

	failed string // why a call that is allowed leads nowhere
}

// attempt is one route that was tried.
type attempt struct {
	Kind     string          `json:"kind"`
	Rule     string          `json:"rule"`
	URI      string          `json:"uri"`
	Subjects []string        `json:"certificates,omitempty"`
	Targets  []locate.Target `json:"targets,omitempty"`
	Steps    []locate.Step   `json:"steps,omitempty"`
	Error    string          `json:"error,omitempty"`

	result locate.Result
}

type servers struct {
	Addrs []netip.Addr  `json:"addresses"`
	Steps []locate.Step `json:"steps"`
	Error string        `json:"error,omitempty"`
}

func parseURI(s string) (sip.Uri, error) {
	var u sip.Uri
	if !strings.HasPrefix(s, "sip:") && !strings.HasPrefix(s, "sips:") {
		return u, withHint(usagef("%q is no SIP address", s), "an address is written like sip:carol@example.com")
	}
	if err := sip.ParseUri(s, &u); err != nil || u.Host == "" {
		return u, withHint(usagef("%q is no SIP address", s), "an address is written like sip:carol@example.com")
	}
	return u, nil
}

// openPolicy reads the policy that a line names, or that of the node.
func (p *program) openPolicy(c *cli.Context, v *check) (*policy.Policy, error) {
	path := c.String("file")
	if path == "" {
		data, err := p.dataDir(c)
		if err != nil {
			return nil, err
		}
		path = filepath.Join(data, policy.FileName)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return &policy.Policy{}, nil
		}
	}
	v.Policy = path
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("the federation policy: %w", err)
	}
	rules, err := policy.Load(path)
	if errors.Is(err, policy.ErrBadFile) {
		return nil, withHint(err, "mend the file; a proxy peer that runs goes on with the policy that it had before")
	}
	return rules, err
}

func (v *check) decide(d policy.Decision) { v.Decision = d }

// followWith locates the ways out.
func (v *check) followWith(ctx context.Context, l *locate.Locator) {
	if !v.Decision.Allowed {
		return
	}
	v.failed = "there is no way out"
	for _, a := range v.Decision.Follow(ctx, l) {
		t := attempt{Kind: a.Route.Kind, Rule: a.Route.Rule, URI: a.Route.URI.String(), Subjects: a.Route.Subjects,
			Targets: a.Result.Targets, Steps: a.Result.Steps, result: a.Result}
		v.failed = ""
		if a.Err != nil {
			t.Error, v.failed = a.Err.Error(), a.Err.Error()
		}
		v.Attempts = append(v.Attempts, t)
	}
}

// sourcesWith finds the servers of the caller's domain, if they decide.
func (v *check) sourcesWith(ctx context.Context, l *locate.Locator) {
	if !v.Decision.CheckSource {
		return
	}
	src, err := l.Sources(ctx, v.Decision.Domain)
	v.Servers = &servers{Addrs: src.Addrs, Steps: src.Steps}
	if err != nil {
		v.Servers.Error = err.Error()
	}
	v.decide(v.Decision.WithSources(src, err))
}

// finishCheck asks the name servers and tells.
func (p *program) finishCheck(c *cli.Context, v *check, ask func(context.Context, *locate.Locator)) error {
	cfg := locate.Config{}
	for _, t := range c.StringSlice("transport") {
		cfg.Transports = append(cfg.Transports, strings.ToUpper(t))
	}
	r, err := locate.NewResolver(locate.ResolverConfig{Servers: c.StringSlice("dns")})
	switch {
	case err != nil && c.IsSet("dns"):
		return withHint(usagef("--dns: %v", err), "such as --dns 192.0.2.53")
	case err != nil:
		p.ui.Warn("name one with --dns", "%v", err) // numeric hosts can be told about all the same
	}
	cfg.Resolver = r
	l, err := locate.New(cfg)
	if err != nil {
		return withHint(usagef("--transport: %v", err), "udp, tcp or tls")
	}
	ask(c.Context, l)
	if c.Bool("json") {
		if err := p.ui.JSON(v); err != nil {
			return err
		}
	} else {
		p.sayCheck(v)
	}
	if !v.Decision.Allowed || v.failed != "" {
		return &silentError{exitFailed}
	}
	return nil
}

func (p *program) sayCheck(v *check) {
	d := &v.Decision
	if v.From == "" {
		p.ui.Say("A call to %s, out of the overlay:\n", v.URI)
	} else {
		p.ui.Say("A call to %s from %s at %s, into the overlay:\n", v.URI, v.From, v.Source)
	}
	file := v.Policy
	if file == "" {
		file = "none: everything is allowed"
	}
	verdict := "allowed"
	if !d.Allowed {
		verdict = fmt.Sprintf("refused with %d", d.Status)
	}
	rows := [][]string{{"policy", file}, {"domain", d.Domain}, {"rule", d.Rule}}
	for i, n := range d.Notes {
		rows = append(rows, []string{first(i, "because"), n})
	}
	p.ui.Table(append(rows, []string{"decision", verdict + ": " + d.Reason})...)
	for i := range v.Attempts {
		a := &v.Attempts[i]
		p.ui.Say("\n%d. by %s, %s:", i+1, a.Rule, map[string]string{policy.Static: "without the DNS choosing", policy.DNS: "as the DNS says"}[a.Kind])
		if len(a.Subjects) > 0 {
			p.ui.Say("the certificate of a TLS server has to be for %s", strings.Join(a.Subjects, " or "))
		}
		p.ui.Say("%s", strings.TrimSuffix(a.result.String(), "\n"))
		if a.Error != "" {
			p.ui.Say("%s", a.Error)
		}
	}
	if s := v.Servers; s != nil {
		p.ui.Say("\nThe servers of %s:\n", d.Domain)
		for _, step := range s.Steps {
			p.ui.Say("  %s", step)
		}
		if s.Error != "" {
			p.ui.Say("%s", s.Error)
		}
		p.ui.Say("addresses: %s", strings.Trim(fmt.Sprint(s.Addrs), "[]"))
	}
	if len(v.Attempts) > 0 && v.failed == "" {
		p.ui.Say("\nThe call would go to %s first.", v.Attempts[len(v.Attempts)-1].Targets[0])
	}
}
