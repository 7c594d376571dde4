package main

import (
	"github.com/urfave/cli/v2"
)

func (p *program) bench() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "measure what this machine can carry",
		Subcommands: []*cli.Command{p.benchRelay(), p.benchServe()},
	}
}
