package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
	"p2psip/overlay"
	"p2psip/overlay/datadir"
)

func (p *program) nodeInit() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "make this node a member of an overlay, or give it a newer overlay document",
		Description: "p2psip node init --overlay overlay.json",
		Flags: []cli.Flag{dataFlag(),
			&cli.StringFlag{Name: "overlay", Usage: "`FILE` with the overlay document, from whoever runs the overlay"}, jsonFlag()},
		Action: func(c *cli.Context) error {
			if _, err := exactArgs(c); err != nil {
				return err
			}
			if c.String("overlay") == "" {
				return withHint(usagef("p2psip node init needs the overlay document"), "--overlay overlay.json; whoever runs the overlay gives it out")
			}
			data, err := p.dataDir(c)
			if err != nil {
				return err
			}
			doc, err := overlay.LoadDocument(c.String("overlay"), p.now())
			if err != nil {
				return fmt.Errorf("reading the overlay document: %w", err)
			}
			home, err := node.OpenHome(data)
			running := errors.Is(err, datadir.ErrLocked)
			if err != nil && !running {
				return err
			}
			if home != nil {
				defer home.Close()
			}
			id, err := node.Install(data, doc, p.now())
			if err != nil {
				return err
			}
			cred, err := node.LoadCredential(data, doc, p.now())
			if err != nil && !errors.Is(err, node.ErrNoCredential) {
				return err
			}
			if c.Bool("json") {
				v := map[string]any{"node": id.String(), "overlay": doc.ID, "fingerprint": doc.Fingerprint(), "data": data, "users": []string{}, "ready": cred != nil}
				if cred != nil {
					v["users"] = issued(cred, "").Users
				}
				return p.ui.JSON(v)
			}
			p.ui.Say("This node belongs to %s.\n", doc.ID)
			rows := [][]string{{"node", id.String()}, {"data directory", data}, {"fingerprint", doc.Fingerprint()}}
			if cred != nil {
				for i, u := range cred.Users() {
					rows = append(rows, []string{first(i, "speaks for"), u.String()})
				}
			}
			p.ui.Table(rows...)
			p.ui.Say("\nCompare the fingerprint with the one that the overlay's founder has.")
			switch {
			case running:
				p.ui.Say("A node is running there; it uses the new document from its next start on.")
			case cred != nil:
				p.ui.Say("Next:\n  p2psip node%s", dataHint(c))
			default:
				p.ui.Say("Next, give the node's identifier to the founder, who makes a credential of it:")
				p.ui.Say("  p2psip overlay issue --user NAME --node %s -o credential.pem", id)
				p.ui.Say("and install that here:\n  p2psip node install credential.pem%s", dataHint(c))
			}
			return nil
		},
	}
}
