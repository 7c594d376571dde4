package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
	"p2psip/overlay/datadir"
)

func (p *program) nodeInstall() *cli.Command {
	return &cli.Command{
		Name: "install", Usage: "install a credential that the overlay's founder made for this node", ArgsUsage: "FILE",
		Description: "p2psip node install credential.pem",
		Flags:       []cli.Flag{dataFlag()},
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "the file with the credential")
			if err != nil {
				return err
			}
			data, err := p.dataDir(c)
			if err != nil {
				return err
			}
			b, err := datadir.ReadFile(args[0], 64<<10)
			if err != nil {
				return fmt.Errorf("reading the credential: %w", err)
			}
			if _, err := node.InstallCredential(data, b, p.now()); err != nil {
				return err
			}
			doc, err := node.LoadDocument(data, p.now())
			if err != nil {
				return err
			}
			cred, err := node.LoadCredential(data, doc, p.now())
			if err != nil {
				return err
			}
			p.sayIssued(cred, "installed in "+data)
			p.ui.Say("\nStart the node, or restart it if it is running:\n  p2psip node%s", dataHint(c))
			return nil
		},
	}
}

func (p *program) nodeID() *cli.Command {
	return &cli.Command{
		Name: "id", Usage: "print the node's identifier",
		Description: "p2psip node id",
		Flags:       []cli.Flag{dataFlag()},
		Action: func(c *cli.Context) error {
			if _, err := exactArgs(c); err != nil {
				return err
			}
			data, err := p.dataDir(c)
			if err != nil {
				return err
			}
			if !node.HasKey(data) {
				return withHint(fmt.Errorf("there is no node in %s", data), "p2psip node init --overlay overlay.json%s", dataHint(c))
			}
			_, id, err := node.LoadKey(data)
			if errors.Is(err, fs.ErrPermission) {
				return withHint(err, "the key belongs to another user of this machine")
			}
			if err != nil {
				return err
			}
			p.ui.Say("%s", id)
			return nil
		},
	}
}
