package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/overlay/datadir"
)

const (
	demoNodes    = 12
	demoMinNodes = 2
	demoMaxNodes = 100
	demoTimeout  = 60 * time.Second // with a hundred nodes; twelve take a few seconds
)

func (p *program) demo() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "see it work: an overlay of twelve nodes and a call across it, in one process",
		Description: "p2psip demo\np2psip demo --nodes 30 --json result.json\np2psip demo --flow all       the draft's flows, with relay peers, and the public SIP world",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "nodes", Value: demoNodes, Usage: "`N` nodes (default: 12)"},
			&cli.StringFlag{Name: "flow", Usage: "`SECTION` of the draft to show: 5.1, 5.2, 5.3, 5.4 or all (default: a call inside the overlay, without relay peers)"},
			&cli.StringFlag{Name: "json", Usage: "`FILE` for the result as JSON; - means standard output"},
			&cli.BoolFlag{Name: "verbose", Usage: "show the nodes' logs"},
		},
		Action: p.runDemo,
	}
}

// demoResult is what --json writes.
type demoResult struct {
	OK    bool       `json:"ok"`
	Nodes int        `json:"nodes"`
	MS    float64    `json:"ms"`
	Steps []demoStep `json:"steps"`
}

type demoStep struct {
	Flow  string  `json:"flow,omitempty"` // section of the draft
	Name  string  `json:"name"`
	OK    bool    `json:"ok"`
	MS    float64 `json:"ms"`
	Error string  `json:"error,omitempty"`
}

// demoShow is how the demonstration talks: to standard output, or beside it when that carries the JSON.
type demoShow struct {
	p   *program
	say func(format string, a ...any)
}

// demoAct is one step of a demonstration.
type demoAct struct {
	flow    string // section of the draft, "" for none
	name    string // for --json
	begin   string // said while it takes long
	do      func(context.Context) (said string, err error)
	visible bool // its messages are drawn
}

// perform goes through the steps; the first that fails is the last.
func (d demoShow) perform(ctx context.Context, nodes int, l *ladder, steps []demoAct) demoResult {
	start := time.Now()
	r := demoResult{OK: true, Nodes: nodes, Steps: []demoStep{}}
	for _, s := range steps {
		began := time.Now()
		done := func() {}
		if s.visible {
			l.begin(s.begin)
		} else {
			done = d.p.ui.Progress(s.begin)
		}
		said, err := s.do(ctx)
		done()
		if s.visible {
			l.end()
		}
		took := time.Since(began)
		step := demoStep{Name: s.name, Flow: s.flow, OK: err == nil, MS: float64(took.Microseconds()) / 1000}
		if err != nil {
			step.Error = err.Error()
			r.OK = false
			d.say("FAILED  %s: %v (%s)", s.begin, err, ms(took))
		} else {
			d.say("ok      %s (%s)", said, ms(took))
		}
		if r.Steps = append(r.Steps, step); err != nil {
			break
		}
	}
	r.MS = float64(time.Since(start).Microseconds()) / 1000
	return r
}

// sum says what a demonstration that went well has proven.
func (d demoShow) sum(r demoResult, proven []string) {
	if !r.OK {
		return
	}
	d.say("\nProven:")
	for _, s := range proven {
		d.say("  - %s", s)
	}
}

func (p *program) runDemo(c *cli.Context) error {
	if _, err := exactArgs(c); err != nil {
		return err
	}
	n := c.Int("nodes")
	if n < demoMinNodes || n > demoMaxNodes {
		return withHint(usagef("--nodes %d is not between %d and %d", n, demoMinNodes, demoMaxNodes), "such as --nodes 12")
	}
	var flows []string
	if c.IsSet("flow") {
		if c.IsSet("nodes") {
			return withHint(usagef("--nodes does not go with --flow"), "the flows are shown with %d nodes", flowNodes)
		}
		var err error
		if flows, err = parseFlows(c.String("flow")); err != nil {
			return err
		}
		n = flowNodes
	}
	show := demoShow{p, p.ui.Say}
	file := c.String("json")
	if file == "-" {
		show.say = p.ui.Note
	}
	if file != "" && file != "-" { // before the work, so that it is not in vain
		if err := datadir.WriteFile(file, nil, 0o644); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "p2psip-demo-")
	if err != nil {
		return fmt.Errorf("making a folder for the demonstration: %w", err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(c.Context, demoTimeout)
	defer cancel()

	show.say("An overlay of %d nodes, each with its own identity and sockets, all in this process and on this machine.", n)
	log := p.demoLogger(c.Bool("verbose"))
	var result demoResult
	if flows == nil {
		show.say("alice's and bob's phones are plain SIP phones; each knows only the node beside it.\n")
		result = newDemonstration(show, dir, n, log).run(ctx)
	} else {
		show.say("alice's and bob's phones are plain SIP phones and know only the node beside them; carol's is a customer of a provider outside.\n")
		result = runFlows(ctx, show, dir, flows, log)
	}

	if file != "" {
		if err := p.writeDemoResult(file, result); err != nil {
			return err
		}
	}
	if !result.OK {
		if c.Context.Err() != nil {
			return context.Cause(c.Context)
		}
		return withHint(errors.New("the demonstration failed"), "p2psip demo --verbose shows the nodes' logs")
	}
	show.say("\nAll of it in %s. To do the same with your own phones: p2psip help overlay create", ms(time.Duration(result.MS*float64(time.Millisecond))))
	return nil
}

func (p *program) writeDemoResult(file string, r demoResult) error {
	if file == "-" {
		return p.ui.JSON(r)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return datadir.WriteFile(file, append(b, '\n'), 0o644)
}
