package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
	"p2psip/dnsreg"
	"p2psip/overlay"
	"p2psip/overlay/datadir"
)

// dns groups what keeps the overlay's public names true.
func (p *program) dns() *cli.Command {
	return &cli.Command{
		Name: "dns", Usage: "the overlay's public names: have the DNS lead to the proxy peers that are alive",
		Description: "p2psip dns plan\np2psip dns run --server 192.0.2.53:53 --key p2psip.key\np2psip dns check",
		Subcommands: []*cli.Command{p.dnsRun(), p.dnsPlan(), p.dnsExplain(), p.dnsCheck()},
	}
}

// dnsFlags are those that say who is let in, and what the records are like.
func dnsFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{dataFlag(),
		&cli.StringFlag{Name: "policy", Value: string(dnsreg.Certified), Usage: "`NAME` of who is let in: certified (whoever has a credential for the role), allowlist, quorum (whoever members in other networks have reached), or open (as certified, with narrower limits) (default: certified)"},
		&cli.StringSliceFlag{Name: "allow", Usage: "`NODE` that is let in, for the policy allowlist"},
		&cli.StringSliceFlag{Name: "deny", Usage: "`NODE` that is not let in, under every policy"},
		&cli.IntFlag{Name: "votes", Value: 2, Usage: "`N` networks that members must have reached a proxy peer from, for the policy quorum (default: 2)"},
		&cli.StringSliceFlag{Name: "allow-network", Usage: "`CIDR` of a network that counts as public, for closed networks"},
		&cli.StringSliceFlag{Name: "transport", Usage: "`NAME` of a transport to register: udp, tcp or tls, the preferred one first (default: all three)"},
		&cli.IntFlag{Name: "max-peers", Value: dnsreg.DefaultMaxPeers, Usage: fmt.Sprintf("`N` proxy peers in the zone at a time; of more each has its turn (default: %d)", dnsreg.DefaultMaxPeers)},
		&cli.DurationFlag{Name: "ttl", Value: dnsreg.DefaultTTL, Usage: "`TIME` that resolvers keep the records (default: 1m0s, which is the most)"},
		&cli.DurationFlag{Name: "probe-every", Value: 20 * time.Second, Usage: "`TIME` between two probes of a proxy peer (default: 20s)"},
	}, more...)
}

// dnsRegistrar makes of the flags what a registrar needs, but for the zone.
func (p *program) dnsRegistrar(c *cli.Context) (data string, r dnsreg.RegistrarConfig, err error) {
	if data, err = p.dataDir(c); err != nil {
		return "", r, err
	}
	doc, err := node.LoadDocument(data, p.now())
	if err != nil {
		return "", r, withHint(err, "p2psip node init --overlay overlay.json%s; dns asks the node that runs with this directory", dataHint(c))
	}
	r.Records = dnsreg.Config{OID: doc.ID, TTL: c.Duration("ttl"), MaxPeers: c.Int("max-peers")}
	for _, t := range c.StringSlice("transport") {
		r.Records.Transports = append(r.Records.Transports, dnsreg.Transport(strings.ToLower(t)))
	}
	if err := r.Records.Validate(); err != nil {
		return "", r, withHint(&usageError{err.Error()}, "p2psip dns %s --help", c.Command.Name)
	}
	r.Admission.Policy = dnsreg.Policy(c.String("policy"))
	if r.Admission.Votes = c.Int("votes"); c.IsSet("votes") && r.Admission.Policy != dnsreg.Quorum {
		return "", r, withHint(usagef("--votes is for the policy quorum"), "add --policy quorum")
	}
	if r.Admission.Allow, err = nodesOf(c, "allow"); err != nil {
		return "", r, err
	}
	if r.Admission.Deny, err = nodesOf(c, "deny"); err != nil {
		return "", r, err
	}
	for _, s := range c.StringSlice("allow-network") {
		n, err := netip.ParsePrefix(s)
		if err != nil {
			return "", r, withHint(usagef("--allow-network: %q is no network", s), "such as 192.168.1.0/24 or fd00::/8")
		}
		r.Admission.Override = append(r.Admission.Override, n.Masked())
	}
	if err := r.Admission.Validate(); err != nil {
		return "", r, withHint(&usageError{err.Error()}, "p2psip dns %s --help", c.Command.Name)
	}
	if r.Probes.Every = c.Duration("probe-every"); r.Probes.Every < time.Second || r.Probes.Every > time.Minute {
		return "", r, withHint(usagef("--probe-every: %v is not between 1s and 1m", r.Probes.Every), "20s has a dead proxy peer out of the zone within 41 seconds")
	}
	r.Source, r.Voter = nodeSource{data}, nodeSource{data}
	return data, r, nil
}

// nodesOf reads the node identifiers of a flag.
func nodesOf(c *cli.Context, flag string) (out []overlay.NodeID, err error) {
	for _, s := range c.StringSlice(flag) {
		n, err := peer.Decode(s)
		if err != nil {
			return nil, withHint(usagef("--%s: %q is no node", flag, s), "p2psip node id tells it, and p2psip dns plan lists all that are advertised")
		}
		out = append(out, n)
	}
	return out, nil
}

// nodeSource asks the node that runs with a data directory.
type nodeSource struct{ data string }

const surveyTimeout = 25 * time.Second

func (n nodeSource) SurveyRole(ctx context.Context, r overlay.Role, turn int) (overlay.Survey, error) {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	res, err := node.Ask(ctx, n.data, node.Request{Do: "survey", Role: r, Turn: turn})
	if res.Survey == nil {
		if err == nil {
			err = errors.New("the node gave no survey (is it of another version?)")
		}
		return overlay.Survey{}, err
	}
	return *res.Survey, err
}

// Vote implements dnsreg.Voter.
func (n nodeSource) Vote(ctx context.Context, peer dnsreg.Peer) ([]dnsreg.Vote, error) {
	res, err := node.Ask(ctx, n.data, node.Request{Do: "vote", Node: peer.Node.String()})
	return res.Votes, err
}

// dnsView is what plan prints, and what run leaves for explain: the decisions and the records.
type dnsView struct {
	At        time.Time     `json:"at"`
	Overlay   overlay.ID    `json:"overlay"`
	Ready     bool          `json:"ready"`
	Alone     bool          `json:"cut_off,omitempty"` // the overlay could not be looked at
	Holder    string        `json:"holder,omitempty"`
	Standby   bool          `json:"standby,omitempty"`
	Applied   time.Time     `json:"applied,omitzero"`
	Changes   int           `json:"changes"`
	Trouble   string        `json:"trouble,omitempty"`
	Decisions []dnsDecision `json:"peers"`
	Records   []string      `json:"records"`
	Added     []string      `json:"would_add,omitempty"`
	Removed   []string      `json:"would_remove,omitempty"`
}

type dnsDecision struct {
	Node   string    `json:"node"`
	Host   string    `json:"host"`
	In     bool      `json:"in"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

func dnsViewOf(id overlay.ID, r dnsreg.Report) dnsView {
	v := dnsView{At: r.At.UTC(), Overlay: id, Ready: r.Ready, Alone: r.Alone, Holder: r.Holder, Standby: r.Standby, Applied: r.Applied, Changes: r.Changes,
		Trouble: r.Trouble, Decisions: []dnsDecision{}, Records: []string{}}
	for _, d := range r.Decisions {
		v.Decisions = append(v.Decisions, dnsDecision{d.Node.String(), d.Host, d.In, d.Reason, d.Since.UTC()})
	}
	for _, rr := range r.Records {
		v.Records = append(v.Records, spaced(rr.String()))
	}
	return v
}

func spaced(s string) string { return strings.ReplaceAll(s, "\t", " ") }

const (
	// dnsStateFile is what a registrar that runs leaves in the data directory, for explain and check.
	dnsStateFile = "dns-registrar.json"
	// dnsStateFresh is how old it may be until the registrar counts as ended.
	dnsStateFresh = time.Minute
)

// saveDNS leaves what a registrar knows; a failure costs explain its answer, and nothing else.
func saveDNS(data string, v dnsView) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return datadir.WriteFile(filepath.Join(data, dnsStateFile), append(b, '\n'), 0o600)
}

// loadDNS reads what a registrar that runs knows.
func (p *program) loadDNS(data string) (dnsView, bool) {
	var v dnsView
	b, err := os.ReadFile(filepath.Join(data, dnsStateFile))
	if err != nil || json.Unmarshal(b, &v) != nil {
		return v, false
	}
	age := p.now().Sub(v.At)
	return v, v.Ready && age < dnsStateFresh && age > -dnsStateFresh
}

func (p *program) dnsRun() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "keep the zone: enter proxy peers that are alive, and take out those that are not",
		Description: "p2psip dns run --server 192.0.2.53:53 --zone example.org --key p2psip.key\n" +
			"p2psip dns run --serve 0.0.0.0:53 --ns ns1.example.net\n" +
			"p2psip dns run --zone-file /etc/bind/p2psip-peers.zone",
		Flags: dnsFlags(
			&cli.StringFlag{Name: "server", Usage: "`ADDR:PORT` of the zone's primary name server, which takes dynamic updates (RFC 2136)"},
			&cli.StringFlag{Name: "zone", Usage: "`NAME` of the zone there (default: the overlay's identifier)"},
			&cli.StringFlag{Name: "key", Usage: "`FILE` with the TSIG key, as tsig-keygen writes it"},
			&cli.StringFlag{Name: "by", Usage: "`NAME` of this registrar, where there are several (default: this machine's)"},
			&cli.StringSliceFlag{Name: "serve", Usage: "be the zone's name server at `ADDR:PORT`, UDP and TCP"},
			&cli.StringSliceFlag{Name: "ns", Usage: "`NAME` of a name server of the zone, as the parent zone has it, for --serve"},
			&cli.StringFlag{Name: "zone-file", Usage: "keep the records in `FILE`, for those who edit the zone by hand"},
			&cli.BoolFlag{Name: "dry-run", Usage: "change nothing; log what would be changed"},
			&cli.StringFlag{Name: "log-format", Value: "text", Usage: "`FORMAT` of the log, text or json (default: text)"},
			&cli.BoolFlag{Name: "verbose", Usage: "log much more"},
		),
		Action: func(c *cli.Context) error {
			if _, err := exactArgs(c); err != nil {
				return err
			}
			data, cfg, err := p.dnsRegistrar(c)
			if err != nil {
				return err
			}
			if cfg.Logger, err = p.dnsLogger(c); err != nil {
				return err
			}
			closeZone, err := p.dnsBackend(c, &cfg)
			if err != nil {
				return err
			}
			defer closeZone()
			if _, err := cfg.Source.SurveyRole(c.Context, overlay.RoleProxy, 0); errors.Is(err, node.ErrNotRunning) {
				return err
			}
			said := false
			cfg.Report = func(r dnsreg.Report) {
				if err := saveDNS(data, dnsViewOf(cfg.Records.OID, r)); err != nil && !said {
					said = true
					p.ui.Warn("p2psip dns explain will not know", "the registrar's state cannot be written: %v", err)
				}
			}
			r, err := dnsreg.NewRegistrar(cfg)
			if err != nil {
				return err
			}
			p.ui.Note("Keeping the proxy peers of %s in the DNS. Ctrl-C ends it; the zone stays as it is then.", cfg.Records.OID)
			r.Run(c.Context)
			if err := os.Remove(filepath.Join(data, dnsStateFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		},
	}
}

// dnsBackend opens what keeps the zone: just one.
func (p *program) dnsBackend(c *cli.Context, cfg *dnsreg.RegistrarConfig) (closeZone func(), err error) {
	closeZone = func() {}
	n := 0
	for _, f := range []string{"server", "serve", "zone-file", "dry-run"} {
		if c.IsSet(f) {
			n++
		}
	}
	if n != 1 {
		return closeZone, withHint(usagef("one way to keep the zone is needed, and there are %d", n), "one of --server, --serve, --zone-file and --dry-run")
	}
	for _, f := range []string{"zone", "key"} {
		if c.IsSet(f) && !c.IsSet("server") {
			return closeZone, withHint(usagef("--%s is for a zone on another server", f), "add --server 192.0.2.53:53")
		}
	}
	if c.IsSet("ns") != c.IsSet("serve") {
		return closeZone, withHint(usagef("--serve and --ns belong together"), "such as --serve 0.0.0.0:53 --ns ns1.example.net")
	}
	if cfg.By = c.String("by"); cfg.By == "" {
		host, err := os.Hostname()
		if err != nil || host == "" {
			host = "registrar"
		}
		cfg.By = host
	}
	switch {
	case c.IsSet("server"):
		cfg.Backend, err = dnsUpdater(c, cfg)
	case c.IsSet("zone-file"):
		cfg.Backend = &dnsreg.ZoneFile{Path: c.String("zone-file")}
	case c.IsSet("serve"):
		cfg.Backend, closeZone, err = p.dnsServe(c, cfg)
	default:
		cfg.Backend = &dnsreg.DryRun{}
	}
	return closeZone, err
}

func dnsUpdater(c *cli.Context, cfg *dnsreg.RegistrarConfig) (*dnsreg.Updater, error) {
	file := c.String("key")
	if file == "" {
		return nil, withHint(usagef("--server needs --key"), "tsig-keygen p2psip makes one; the server has to allow it to update and query the zone")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("the key of the zone: %w", err)
	}
	key, err := dnsreg.ParseKey(string(b))
	if err != nil {
		return nil, withHint(fmt.Errorf("the key of the zone: %s: %w", file, err), "tsig-keygen p2psip > p2psip.key makes one")
	}
	u := &dnsreg.Updater{Server: c.String("server"), Zone: c.String("zone"), OID: string(cfg.Records.OID), Key: key, By: cfg.By}
	if err := u.Validate(); err != nil {
		return nil, withHint(&usageError{err.Error()}, "p2psip dns run --help")
	}
	return u, nil
}

// dnsServe opens the built-in name server.
func (p *program) dnsServe(c *cli.Context, cfg *dnsreg.RegistrarConfig) (*dnsreg.Authority, func(), error) {
	a, err := dnsreg.NewAuthority(dnsreg.AuthorityConfig{OID: string(cfg.Records.OID), Servers: c.StringSlice("ns"), TTL: cfg.Records.TTL, Logger: cfg.Logger})
	if err != nil {
		return nil, func() {}, withHint(&usageError{"--ns: " + err.Error()}, "such as --ns ns1.example.net")
	}
	stop := func() { _ = a.Close() }
	for _, at := range c.StringSlice("serve") {
		pc, err := net.ListenPacket("udp", at)
		if err == nil {
			err = a.ServeUDP(pc)
		}
		if err == nil {
			var ln net.Listener
			if ln, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
				err = a.ServeTCP(ln)
			}
		}
		if err != nil {
			stop()
			return nil, func() {}, withHint(fmt.Errorf("--serve: %w", err), "port 53 needs privileges (CAP_NET_BIND_SERVICE), and nobody else may have it")
		}
		p.ui.Note("Answering for %s at %s.", cfg.Records.OID, pc.LocalAddr())
	}
	return a, stop, nil
}
