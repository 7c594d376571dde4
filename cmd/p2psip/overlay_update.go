package main

import (
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/overlay"
)

func (p *program) overlayUpdate() *cli.Command {
	return &cli.Command{
		Name: "update", Usage: "sign the overlay document anew, with other bootstrap addresses or a later end",
		Description: "p2psip overlay update --bootstrap /ip4/192.0.2.1/tcp/5080/p2p/12D3KooW…\n" +
			"p2psip overlay update --days 3650",
		Flags: []cli.Flag{
			authorityFlag(),
			&cli.StringSliceFlag{Name: "bootstrap", Usage: "`MULTIADDR` of a node through which others join; these replace the old ones"},
			&cli.IntFlag{Name: "days", Usage: "`N` days that the document is valid from now on"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := exactArgs(c); err != nil {
				return err
			}
			if !c.IsSet("bootstrap") && !c.IsSet("days") {
				return withHint(usagef("nothing to change"), "name new addresses with --bootstrap, or a new end with --days")
			}
			life, err := days(c)
			if err != nil {
				return err
			}
			var list []string // nil keeps the old one
			if c.IsSet("bootstrap") {
				list = c.StringSlice("bootstrap")
			}
			if err := checkBootstrap(list); err != nil {
				return err
			}
			a, dir, err := p.loadAuthority(c)
			if err != nil {
				return err
			}
			if err := a.Update(list, life, p.now()); err != nil {
				return err
			}
			if err := a.Save(dir); err != nil {
				return err
			}
			if c.Bool("json") {
				return p.ui.JSON(documentJSON(a.Document(), dir))
			}
			p.ui.Say("The overlay document now has serial number %d. Give %s to the members:", a.Document().Serial, filepath.Join(dir, overlay.DocumentFile))
			p.ui.Say("  p2psip node init --overlay %s    on each node, then restart it", overlay.DocumentFile)
			return nil
		},
	}
}

// maxDays keeps a number of days within what a time can hold.
const maxDays = 36500

// days reads the option --days; 0 if it is not set.
func days(c *cli.Context) (time.Duration, error) {
	if !c.IsSet("days") {
		return 0, nil
	}
	n := c.Int("days")
	if n < 1 || n > maxDays {
		return 0, withHint(usagef("--days %d is not between 1 and %d", n, maxDays), "such as --days %d", 365)
	}
	return time.Duration(n) * 24 * time.Hour, nil
}

func date(t time.Time) string { return t.Local().Format(time.DateOnly) }

func validUntil(t, now time.Time) string {
	return fmt.Sprintf("%s (%s)", date(t), plural(int(math.Round(t.Sub(now).Hours()/24)), "day"))
}
