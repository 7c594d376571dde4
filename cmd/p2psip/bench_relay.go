package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"p2psip/relaypeer/load"
)

func (p *program) benchRelay() *cli.Command {
	return &cli.Command{
		Name: "relay", Usage: "measure what relaying costs, beside coturn's turnserver if that is installed",
		Description: "p2psip bench relay\n" +
			"p2psip bench relay --allocations 50 --rate 500 --payload 1000       video\n" +
			"p2psip bench relay --relay p2psip --rounds 1 --json",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "relay", Usage: "`NAME` of a relay to measure: coturn, pion (its server on ordinary sockets) or p2psip (default: all)"},
			&cli.IntFlag{Name: "allocations", Usage: fmt.Sprintf("`N` allocations (default: %d)", load.DefaultAllocations)},
			&cli.Float64Flag{Name: "rate", Usage: fmt.Sprintf("`N` packets a second through each allocation, each way (default: %d, a call's)", load.DefaultRate)},
			&cli.IntFlag{Name: "payload", Usage: fmt.Sprintf("`OCTETS` in a packet (default: %d, 20 ms of G.711)", load.DefaultPayload)},
			&cli.DurationFlag{Name: "duration", Usage: fmt.Sprintf("`TIME` of a round (default: %v)", load.DefaultDuration)},
			&cli.IntFlag{Name: "rounds", Usage: fmt.Sprintf("`N` rounds, in which each relay has its turn (default: %d)", load.DefaultRounds)},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := exactArgs(c); err != nil {
				return err
			}
			return p.runBenchRelay(c)
		},
	}
}

func (p *program) runBenchRelay(c *cli.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program, to run it as a relay: %w", err)
	}
	config := load.Config{
		Allocations: c.Int("allocations"), Rate: c.Float64("rate"), Payload: c.Int("payload"),
		Duration: c.Duration("duration"), Rounds: c.Int("rounds"),
		Command: func(r load.Relay) (string, []string) { return self, []string{"bench", "serve", string(r)} },
		Progress: func(round int, r load.Relay) {
			if p.ui.interactive {
				p.ui.Note("round %d: %s", round, r)
			}
		},
	}
	for _, r := range c.StringSlice("relay") {
		config.Relays = append(config.Relays, load.Relay(r))
	}
	config = config.Defaults()
	if err := config.Validate(); err != nil {
		return withHint(usagef("%s", err), "p2psip bench relay --help")
	}
	result, err := load.Run(c.Context, config)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		b, err := json.MarshalIndent(result, "", "  ")
		if err != nil {
			return err
		}
		p.ui.Say("%s", b)
		return nil
	}
	p.ui.Say("%s\n", result.Conditions())
	p.ui.Table(result.Table()...)
	return nil
}

// benchServe is what bench relay runs as the relay.
func (p *program) benchServe() *cli.Command {
	return &cli.Command{
		Name: "serve", Hidden: true, Usage: "be a relay to be measured, on the loopback interface, open to everybody there",
		Action: func(c *cli.Context) error {
			args, err := exactArgs(c, "pion or p2psip")
			if err != nil {
				return err
			}
			if r := load.Relay(args[0]); r != load.Ours && r != load.Plain {
				return usagef("%s and %s can be measured, not %q", load.Plain, load.Ours, strings.TrimSpace(args[0]))
			}
			return load.Serve(c.Context, load.Relay(args[0]), os.Stdout)
		},
	}
}
