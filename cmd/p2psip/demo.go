package main

import "github.com/urfave/cli/v2"

func (p *program) demo() *cli.Command {
	return &cli.Command{Name: "demo", Usage: "see it work: an overlay and a call across it, in one process", Action: func(*cli.Context) error { return nil }}
}
