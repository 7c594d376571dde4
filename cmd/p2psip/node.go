package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
	"p2psip/relaypeer"
)

func (p *program) node() *cli.Command {
	return &cli.Command{
		Name: "node", Usage: "run a node: the phones beside it call through the overlay",
		Description: "p2psip node init --overlay overlay.json    join an overlay\n" +
			"p2psip node                               run; phones register at 127.0.0.1:5060\n" +
			"p2psip node --sip 0.0.0.0:5060            phones in the whole house, see p2psip user add",
		Flags: slices.Concat([]cli.Flag{
			dataFlag(),
			&cli.StringSliceFlag{Name: "listen", Usage: "`MULTIADDR` where other nodes reach this one (default: port 5080 everywhere, TCP and QUIC)"},
			&cli.StringFlag{Name: "sip", Value: node.DefaultSIP, Usage: "`ADDR:PORT` where phones reach this node, UDP and TCP (default: " + node.DefaultSIP + ")"},
			&cli.StringFlag{Name: "sip-tls", Usage: "`ADDR:PORT` where phones reach this node over TLS, such as 0.0.0.0:5061"},
			&cli.StringFlag{Name: "tls-cert", Usage: "`FILE` with the certificate for --sip-tls, in PEM form"},
			&cli.StringFlag{Name: "tls-key", Usage: "`FILE` with its key, in PEM form"},
			&cli.StringFlag{Name: "advertise", Usage: "`IP` address that phones are told when --sip is 0.0.0.0 (default: found out)"},
			&cli.StringFlag{Name: "trust", Value: "loopback", Usage: "`ADDRS` of phones that need no password: loopback, none, or addresses and networks such as 192.168.1.0/24 (default: loopback)"},
			&cli.StringSliceFlag{Name: "bootstrap", Usage: "`MULTIADDR` of a node to join through, besides those of the overlay document"},
			&cli.BoolFlag{Name: "no-lan", Usage: "do not look for nodes in the local network"},
			&cli.StringFlag{Name: "log-format", Value: "text", Usage: "`FORMAT` of the log on standard error, text or json (default: text)"},
			&cli.BoolFlag{Name: "verbose", Usage: "log more"},
		}, mediaFlags(), proxyPeerFlags(), relayFlags()),
		Action:      p.runNode,
		Subcommands: []*cli.Command{p.nodeInit(), p.nodeInstall(), p.nodeID()},
	}
}

func (p *program) runNode(c *cli.Context) error {
	if _, err := exactArgs(c); err != nil {
		return err
	}
	log, err := p.logger(c)
	if err != nil {
		return err
	}
	data, err := p.dataDir(c)
	if err != nil {
		return err
	}
	cfg := node.Config{
		DataDir: data, Listen: c.StringSlice("listen"), Bootstrap: c.StringSlice("bootstrap"), NoLAN: c.Bool("no-lan"),
		SIP: c.String("sip"), Advertise: c.String("advertise"), Trust: c.String("trust"), Control: true, Logger: log,
	}
	if err := checkBootstrap(cfg.Bootstrap); err != nil {
		return err
	}
	if cfg.Media, err = mediaConfig(c); err != nil {
		return err
	}
	if _, err := node.ParseSIP(cfg.SIP); err != nil {
		return withHint(&usageError{"--sip: " + err.Error()}, "0.0.0.0:5060 for phones elsewhere, 127.0.0.1:5060 for this machine only")
	}
	if err := cfg.Validate(); err != nil {
		return withHint(&usageError{err.Error()}, "p2psip node --help")
	}
	// Said before anything is opened, so that a mistake costs no port.
	doc, err := node.LoadDocument(data, p.now())
	if err != nil {
		return withHint(err, "p2psip node init --overlay overlay.json%s", dataHint(c))
	}
	if _, err := node.LoadCredential(data, doc, p.now()); err != nil {
		return err
	}
	if cfg.TLS, err = listenTLS(c); err != nil {
		return err
	}
	if cfg.ProxyPeer, err = proxyPeer(c, doc, cfg); err != nil {
		if cfg.TLS != nil {
			cfg.TLS.Close()
		}
		return err
	}
	if cfg.Relay, err = relayRole(c, cfg); err != nil {
		if cfg.TLS != nil {
			cfg.TLS.Close()
		}
		cfg.ProxyPeer.Close()
		return err
	}
	n, err := node.Start(cfg)
	if err != nil {
		return nodeHint(err)
	}
	if cfg.ProxyPeer != nil {
		defer p.reloadOnSignal(n)()
	}
	p.announce(n)
	stopped := p.watchJoin(c.Context, n)
	<-c.Context.Done()
	p.ui.Note("Stopping. Registered phones stay registered.")
	if k := n.Relayed(); k > 0 {
		p.ui.Note("Up to %s are given to calls that are relayed here (%d of them have sound now); Ctrl-C again ends them.", c.Duration("relay-drain"), k)
	}
	stopped()
	return n.Close()
}

func (p *program) logger(c *cli.Context) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: slog.LevelWarn}
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

func dataHint(c *cli.Context) string {
	if c.IsSet("data") {
		return " --data " + c.String("data")
	}
	return ""
}

// listenTLS opens the TLS socket for phones, nil if none is asked for.
func listenTLS(c *cli.Context) (net.Listener, error) {
	addr, cert, key := c.String("sip-tls"), c.String("tls-cert"), c.String("tls-key")
	if addr == "" && cert == "" && key == "" {
		return nil, nil
	}
	if addr == "" || cert == "" || key == "" {
		return nil, withHint(usagef("--sip-tls, --tls-cert and --tls-key belong together"), "such as --sip-tls 0.0.0.0:5061 --tls-cert cert.pem --tls-key key.pem")
	}
	if _, err := node.ParseSIP(addr); err != nil {
		return nil, withHint(&usageError{"--sip-tls: " + err.Error()}, "such as --sip-tls 0.0.0.0:5061")
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, withHint(fmt.Errorf("the certificate for phones: %w", err), "--tls-cert and --tls-key name files in PEM form that belong together")
	}
	ln, err := tls.Listen("tcp", addr, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, nodeHint(fmt.Errorf("the TLS address for phones: %w", err))
	}
	return ln, nil
}

// nodeHint adds what to do to the errors that people meet when they start a node.
func nodeHint(err error) error {
	switch {
	case errors.Is(err, relaypeer.ErrNotPermitted):
		return withHint(err, "ask the overlay's operator for a credential with --role relay (p2psip overlay issue)")
	case errors.Is(err, node.ErrNotPermitted):
		return withHint(err, "ask the overlay's operator for a credential with --role proxy (p2psip overlay issue)")
	case errors.Is(err, syscall.EADDRINUSE):
		return withHint(err, "another program uses that port; choose another one with --sip or --listen")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return withHint(err, "this machine does not have that address; 0.0.0.0 means all it has")
	case errors.Is(err, syscall.EACCES):
		return withHint(err, "ports below 1024 are for the administrator; choose a higher one")
	case strings.Contains(err.Error(), "failed to listen on any addresses"), strings.Contains(err.Error(), "none of "):
		return withHint(err, "another program uses that port, perhaps another node; choose another one with --listen")
	}
	return err
}

// announce says in a few lines what is running.
func (p *program) announce(n *node.Node) {
	s := n.Status()
	p.ui.Say("This is a node of %s (fingerprint %s).\n", s.Overlay.ID, s.Overlay.Fingerprint)
	rows := [][]string{{"node", s.Node}}
	for i, u := range s.Users {
		rows = append(rows, []string{first(i, "speaks for"), u})
	}
	var sip []string
	for _, a := range s.SIP {
		sip = append(sip, a.Transport+" "+a.Addr)
	}
	rows = append(rows, []string{"phones register at", strings.Join(sip, ", ")})
	for i, a := range s.Addrs {
		rows = append(rows, []string{first(i, "other nodes reach it at"), a})
	}
	for i, a := range s.Border.Services {
		rows = append(rows, []string{first(i, "proxy peer at"), a})
	}
	for i, v := range s.Relay.Services {
		rows = append(rows, []string{first(i, "relay peer at"), v.URI})
	}
	p.ui.Table(rows...)
	p.ui.Say("\nStop it with Ctrl-C. In another terminal, p2psip status tells how it stands.")
}

func first(i int, s string) string {
	if i == 0 {
		return s
	}
	return ""
}

// joinPatience is how long a node is given before it says that it has met nobody.
const joinPatience = 10 * time.Second

// watchJoin tells when the node has joined, or that it has not. The returned function ends it.
func (p *program) watchJoin(ctx context.Context, n *node.Node) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		soon, cancel := context.WithTimeout(ctx, joinPatience)
		defer cancel()
		err := n.WaitJoined(soon)
		if err != nil && ctx.Err() == nil {
			p.ui.Warn("is the network up, and is one of the nodes of the bootstrap list running? It goes on trying",
				"%s", n.Status().Trouble)
			err = n.WaitJoined(ctx)
		}
		if err != nil {
			return
		}
		switch s := n.Status(); {
		case s.Table > 0:
			p.ui.Say("Joined the overlay.")
		default:
			p.ui.Say("This node knows of no other one yet. Others join with: --bootstrap %s", s.Addrs[0])
		}
	}()
	return func() { cancel(); <-done }
}
