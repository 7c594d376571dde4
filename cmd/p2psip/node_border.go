package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
	"p2psip/overlay"
	"p2psip/proxypeer/policy"
)

func proxyPeerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "proxy-peer", Usage: "carry calls between the overlay and the public SIP world; needs a credential with the role proxy"},
		&cli.StringSliceFlag{Name: "public", Usage: "`SOCKET` for the public side, such as udp:192.0.2.1:5060, tcp:[2001:db8::1]:5060, tls:192.0.2.1:5061, or udp:10.0.0.2:5060=192.0.2.1:5060 behind a NAT"},
		&cli.StringSliceFlag{Name: "dns", Usage: "`ADDR` of a name server for the domains of others (default: those of this machine)"},
		&cli.StringFlag{Name: "domain-cert", Usage: "`FILE` with the overlay's domain certificate, in PEM form (default: one made on the fly)"},
		&cli.StringFlag{Name: "domain-key", Usage: "`FILE` with its key, in PEM form"},
		&cli.StringFlag{Name: "domain-roots", Usage: "`FILE` with certificates of authorities to believe besides the system's, in PEM form"},
		&cli.StringFlag{Name: "domain-tls", Value: "1.2", Usage: "lowest `VERSION` of TLS with other servers, 1.2 or 1.3 (default: 1.2)"},
		&cli.DurationFlag{Name: "session-interval", Usage: "`TIME` after which a call across the border counts as over if nothing was heard of it, where the phones have not agreed on one (default: 30m)"},
		&cli.BoolFlag{Name: "unlisted", Usage: "do not look whether the DNS leads to this proxy peer, because it is only to carry calls out"},
		&cli.BoolFlag{Name: "show-vias", Usage: "show the public side where a call comes from inside the overlay, for who looks for a fault"},
	}
}

// proxyPeer makes of the flags what the node needs for the role, nil if it is not asked for.
func proxyPeer(c *cli.Context, doc *overlay.Document, cfg node.Config) (*node.ProxyPeer, error) {
	if !c.Bool("proxy-peer") {
		for _, f := range []string{"public", "dns", "domain-cert", "domain-key", "domain-roots", "domain-tls", "session-interval", "unlisted", "show-vias"} {
			if c.IsSet(f) {
				return nil, withHint(usagef("--%s is for proxy peers", f), "add --proxy-peer")
			}
		}
		return nil, nil
	}
	cert, key := c.String("domain-cert"), c.String("domain-key")
	if (cert == "") != (key == "") {
		return nil, withHint(usagef("--domain-cert and --domain-key belong together"), "such as --domain-cert cert.pem --domain-key key.pem")
	}
	server, client, err := node.DomainTLS(doc.ID, cert, key, c.String("domain-roots"), cfg)
	if err != nil {
		return nil, withHint(err, "--domain-cert, --domain-key and --domain-roots name files in PEM form")
	}
	switch c.String("domain-tls") {
	case "1.2": // which they have
	case "1.3":
		server.MinVersion, client.MinVersion = tls.VersionTLS13, tls.VersionTLS13
	default:
		return nil, withHint(usagef("--domain-tls: there is no TLS %q here", c.String("domain-tls")), "1.2 or 1.3")
	}
	interval := c.Duration("session-interval")
	if c.IsSet("session-interval") && (interval < node.MinSession || interval > node.MaxSession) {
		return nil, withHint(usagef("--session-interval: %v is not between %v and %v", interval, node.MinSession, node.MaxSession), "such as --session-interval 30m")
	}
	p := &node.ProxyPeer{Session: interval, DNS: c.StringSlice("dns"), TLS: client, ShowVias: c.Bool("show-vias"), Unlisted: c.Bool("unlisted"), Federation: filepath.Join(cfg.DataDir, policy.FileName)}
	sockets := c.StringSlice("public")
	if len(sockets) == 0 {
		return nil, withHint(usagef("--proxy-peer needs the public sockets"), "--public udp:192.0.2.1:5060 --public tcp:192.0.2.1:5060 --public tls:192.0.2.1:5061")
	}
	for _, text := range sockets {
		s, err := node.OpenPublic(text, server)
		if err != nil {
			for _, open := range p.Sockets {
				if open.Packet != nil {
					open.Packet.Close()
				} else {
					open.Listener.Close()
				}
			}
			return nil, publicHint(fmt.Errorf("--public: %w", err))
		}
		p.Sockets = append(p.Sockets, s)
	}
	return p, nil
}

// publicHint adds what to do to an error of a public socket.
func publicHint(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return withHint(err, "phones have 127.0.0.1:5060 unless --sip says otherwise; give public sockets this machine's public address, or other ports")
	}
	return withHint(err, "a transport, an address and a port, such as udp:192.0.2.1:5060")
}
