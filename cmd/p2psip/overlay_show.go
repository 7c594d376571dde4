package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"p2psip/overlay"
)

func (p *program) overlayShow() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "verify an overlay document and show what it says", ArgsUsage: "FILE|DIR",
		Description: "p2psip overlay show p2psip.example\np2psip overlay show --json overlay.json",
		Flags:       []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "an overlay document, or the directory it is in")
			if err != nil {
				return err
			}
			path := args[0]
			if fi, err := os.Stat(path); err == nil && fi.IsDir() {
				path = filepath.Join(path, overlay.DocumentFile)
			}
			d, err := overlay.LoadDocument(path, p.now())
			if err != nil {
				return fmt.Errorf("reading the overlay document: %w", err)
			}
			if c.Bool("json") {
				return p.ui.JSON(documentJSON(d, ""))
			}
			kind := "may connect to the public SIP network"
			if d.Isolated {
				kind = "isolated: never connects to the public SIP network"
			}
			who := "certified: members need a credential from its founder"
			if d.Policy == overlay.PolicyOpen {
				who = "open: anybody may join, under a name made from their key"
			}
			p.ui.Say("%s is a valid overlay document.\n", path)
			rows := [][]string{
				{"overlay", string(d.ID)},
				{"fingerprint", d.Fingerprint()},
				{"who joins", who},
				{"reach", kind},
				{"serial number", fmt.Sprint(d.Serial)},
				{"issued", date(d.Issued)},
				{"valid until", validUntil(d.Expires, p.now())},
				{"records", fmt.Sprintf("kept by %d nodes; a phone counts as reachable for %s, a user is remembered for %s", d.DHT.BucketSize, span(d.DHT.RecordLifetime), span(d.DHT.Retention))},
			}
			if len(d.Bootstrap) == 0 {
				rows = append(rows, []string{"bootstrap", "none"})
			}
			for i, a := range bootstrapOf(d) {
				name := "bootstrap"
				if i > 0 {
					name = ""
				}
				rows = append(rows, []string{name, a})
			}
			p.ui.Table(rows...)
			return nil
		},
	}
}
