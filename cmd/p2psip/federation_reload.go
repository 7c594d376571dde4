package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"p2psip/cmd/p2psip/node"
)

// federationReload has the running node read its policy. It does so by itself within seconds; this says at once what came of it.
func (p *program) federationReload() *cli.Command {
	return &cli.Command{
		Name: "reload", Usage: "have the running proxy peer read its policy now, and say whether it is in force",
		Description: "p2psip federation reload",
		Flags:       []cli.Flag{dataFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			if _, err := exactArgs(c); err != nil {
				return err
			}
			data, err := p.dataDir(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, askTimeout)
			defer cancel()
			res, err := node.Ask(ctx, data, node.Request{Do: "reload"})
			if err != nil {
				return reloadHint(err)
			}
			if c.Bool("json") {
				return p.ui.JSON(res.Reload)
			}
			p.ui.Say("%s", reloaded(res.Reload))
			return nil
		},
	}
}

// reloaded says in a sentence what is in force.
func reloaded(r *node.Reloaded) string {
	what := "the policy before"
	switch {
	case r == nil || !r.Exists:
		return "There is no federation policy in a file: everything is allowed."
	case r.Changed:
		what = "a new policy"
	}
	return fmt.Sprintf("%s is in force as it is, %s: %s with an entry, %s.", r.Federation, what, plural(r.Domains, "domain"), plural(r.Routes, "static route"))
}

func reloadHint(err error) error {
	if errors.Is(err, node.ErrNoPolicy) {
		return withHint(err, "this is for a node that was started with --proxy-peer")
	}
	return err
}

// reloadOnSignal reads the policy of a node again on SIGHUP, until stop is called.
func (p *program) reloadOnSignal(n *node.Node) (stop func()) {
	hup, quit, done := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-hup:
				r, err := n.Reload()
				switch {
				case errors.Is(err, node.ErrNoPolicy): // a terminal that was closed; the node goes on
				case err != nil:
					p.ui.Warn("mend the file and send SIGHUP again, or run p2psip federation reload", "the policy before stays in force: %v", err)
				default:
					p.ui.Note("%s", reloaded(&r))
				}
			}
		}
	}()
	return func() { signal.Stop(hup); close(quit); <-done }
}
