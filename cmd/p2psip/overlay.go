package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"p2psip/overlay"
)

// overlay groups what the founder of an overlay does. None of it needs a network.
func (p *program) overlay() *cli.Command {
	return &cli.Command{
		Name: "overlay", Usage: "found an overlay and sign its members' credentials",
		Description: "p2psip overlay create p2psip.example\np2psip help overlay issue",
		Subcommands: []*cli.Command{p.overlayCreate(), p.overlayUpdate(), p.overlayShow(), p.overlayIssue()},
	}
}

// authorityFlag is the option that names the directory of an overlay's root key.
func authorityFlag() cli.Flag {
	return &cli.StringFlag{Name: "dir", Usage: "`DIR` with root.key and overlay.json (default: this one, or the only one below it)"}
}

// authorityDir finds the directory of the root key.
func authorityDir(c *cli.Context) (string, error) {
	if d := c.String("dir"); d != "" {
		return d, nil
	}
	if isFile(overlay.RootKeyFile) {
		return ".", nil
	}
	found, _ := filepath.Glob(filepath.Join("*", overlay.RootKeyFile))
	switch len(found) {
	case 1:
		return filepath.Dir(found[0]), nil
	case 0:
		return "", withHint(fmt.Errorf("there is no %s here or one directory below", overlay.RootKeyFile),
			"name the directory that p2psip overlay create made: --dir DIR")
	}
	return "", withHint(usagef("there are several overlays below this directory"), "name one with --dir: %s", filepath.Dir(found[0]))
}

// loadAuthority opens the overlay that the command line means.
func (p *program) loadAuthority(c *cli.Context) (*overlay.Authority, string, error) {
	dir, err := authorityDir(c)
	if err != nil {
		return nil, "", err
	}
	a, err := overlay.LoadAuthority(dir, p.now())
	if err != nil {
		return nil, "", fmt.Errorf("opening the overlay in %s: %w", dir, err)
	}
	return a, dir, nil
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}

func checkBootstrap(addrs []string) error {
	_, err := overlay.ParseBootstrap(addrs)
	return withHint(err, "a running node prints such an address when it starts, and p2psip status shows it")
}
