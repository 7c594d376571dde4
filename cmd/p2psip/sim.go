package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"p2psip/overlay/datadir"
	"p2psip/sim"
	"p2psip/sim/report"
	"p2psip/sim/result"
)

// maxSeeds is how many runs one command makes at most.
const maxSeeds = 100

// simSettings are the settings of a scenario that have an option of their own; --set reaches all of them.
var simSettings = []struct{ name, usage string }{
	{"nodes", "`N` nodes"},
	{"users", "`N` users, spread evenly over the nodes"},
	{"lookups", "`RATE` of lookups of users that are there, such as 10/s"},
	{"calls", "`RATE` of calls, such as 5/s"},
	{"rtt", "`TIME` of the median round trip between two nodes"},
	{"loss", "`SHARE` of packets that have to be sent again, such as 1%"},
	{"churn", "`TIME` that a node stays on average, such as 30m; or \"heavy-tailed 30m\", most shorter and a few very long"},
	{"kill", "`SHARE@TIME` at which nodes fall silent for good, such as 20%@10m"},
	{"partition", "`SHARE@TIME+TIME` for which nodes are cut off, such as 30%@10m+5m"},
	{"duration", "`TIME` that the overlay is used, once the nodes have joined, such as 1h"},
	{"hostile", "`KIND SHARE` of the nodes that are hostile, such as \"liars 10%\"; p2psip sim list names the kinds"},
	{"stock", "`yes` to run the same network once more with kad-dht's own calls, to set beside ours"},
	{"seed", "`N` from which all chance follows"},
}

func (p *program) sim() *cli.Command {
	known, _ := sim.Names()
	def := sim.DefaultScenario()
	defaults := map[string]any{
		"nodes": def.Nodes, "users": def.Users, "lookups": fmt.Sprintf("%g/s", def.Lookups), "rtt": def.RTT, "duration": span(def.Duration), "seed": def.Seed,
	}
	var flags []cli.Flag
	for _, s := range simSettings {
		if slices.Contains(known, s.name) {
			if d, ok := defaults[s.name]; ok {
				s.usage += fmt.Sprintf(" (default: %v)", d)
			}
			if repeats(s.name) {
				flags = append(flags, &cli.StringSliceFlag{Name: s.name, Usage: s.usage})
			} else {
				flags = append(flags, &cli.StringFlag{Name: s.name, Usage: s.usage})
			}
		}
	}
	flags = append(flags,
		&cli.StringSliceFlag{Name: "set", Usage: "`NAME=VALUE` for any other setting; p2psip sim list names them"},
		&cli.IntFlag{Name: "seeds", Value: 1, Usage: "`N` runs with seeds one after the other, for confidence intervals (default: 1)"},
		&cli.StringSliceFlag{Name: "grow", Usage: "`N` nodes to run the scenario with as well, to see what growing costs"},
		&cli.StringSliceFlag{Name: "share", Usage: "`SHARE` of hostile nodes to run the scenario with as well, to see what more of them do"},
		&cli.StringFlag{Name: "json", Usage: "`FILE` for the result as JSON; - means standard output"},
		&cli.StringFlag{Name: "csv", Usage: "`FILE` for all figures and curves as CSV"},
		&cli.StringFlag{Name: "html", Usage: "`FILE` for the report with charts, one page that needs nothing else"},
		&cli.StringFlag{Name: "png", Usage: "`DIR` for the charts as pictures"},
	)
	return &cli.Command{
		Name: "sim", Usage: "simulate an overlay of many nodes in virtual time: what would its users feel?",
		ArgsUsage: "[FILE|SCENARIO]",
		Description: "p2psip sim --nodes 200 --html report.html\n" +
			"p2psip sim churn --nodes 100 --html report.html\n" +
			"p2psip sim --nodes 1000 --churn 30m --duration 1h --seeds 3 --json churn.json\n" +
			"p2psip sim --nodes 1000 --grow 10 --grow 100 --png charts\n" +
			"p2psip sim hostile --share 0% --share 5% --share 20% --share 30% --html hostile.html\n" +
			"p2psip sim compare before.json after.json",
		Flags: flags,
		Subcommands: []*cli.Command{
			{
				Name: "compare", Usage: "set two results side by side: what differs, and what may be chance", ArgsUsage: "A.json B.json",
				Description: "p2psip sim compare before.json after.json\np2psip sim compare --json before.json after.json | jq '.differences[] | select(.verdict == \"worse\")'",
				Flags:       []cli.Flag{jsonFlag()},
				Action:      p.simCompare,
			},
			{
				Name: "list", Usage: "the scenarios that come with the program, and the settings there are",
				Description: "p2psip sim list",
				Action:      p.simList,
			},
		},
		Action: p.simRun,
	}
}

// repeats says whether a setting may be given several times.
func repeats(name string) bool {
	return name == "kill" || name == "partition" || name == "nat" || name == "hostile"
}

// scenario puts the scenario together: a file or one that comes with the program, and the options over it.
func (p *program) scenario(c *cli.Context) (sim.Scenario, error) {
	s := sim.DefaultScenario()
	switch words := c.Args().Slice(); len(words) {
	case 0:
	case 1:
		text, err := scenarioText(words[0])
		if err != nil {
			return s, err
		}
		if s, err = sim.ParseScenario(text); err != nil {
			return s, withHint(fmt.Errorf("%s: %w", words[0], err), "p2psip sim list names the settings there are")
		}
	default:
		return s, withHint(usagef("p2psip sim runs one scenario; %q is too much", words[1]), "p2psip sim --help")
	}
	set := func(name, value string) error {
		if err := s.Set(name, value); err != nil {
			return withHint(usagef("%s", err), "p2psip sim list names the settings there are")
		}
		return nil
	}
	for _, f := range simSettings {
		if !c.IsSet(f.name) {
			continue
		}
		values := []string{c.String(f.name)}
		if repeats(f.name) {
			values = c.StringSlice(f.name)
		}
		for _, v := range values {
			if err := set(f.name, v); err != nil {
				return s, err
			}
		}
	}
	for _, pair := range c.StringSlice("set") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return s, withHint(usagef("--set %s has no value", pair), "such as --set bucket=10")
		}
		if err := set(name, value); err != nil {
			return s, err
		}
	}
	if err := s.Validate(); err != nil {
		return s, withHint(usagef("this scenario does not fit together: %s", err), "p2psip sim --help")
	}
	return s, nil
}

// maxScenarioFile is more than any scenario has.
const maxScenarioFile = 1 << 20

// scenarioText gives the text of a file, or of the program's scenario of that name.
func scenarioText(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		for _, b := range sim.Scenarios() {
			if b.Name == name {
				return b.Text, nil
			}
		}
		return "", withHint(err, "p2psip sim list names the scenarios that come with the program")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxScenarioFile))
	return string(b), err
}

func (p *program) simRun(c *cli.Context) error {
	s, err := p.scenario(c)
	if err != nil {
		return err
	}
	seeds := c.Int("seeds")
	if seeds < 1 || seeds > maxSeeds {
		return withHint(usagef("--seeds %d is not between 1 and %d", seeds, maxSeeds), "such as --seeds 5")
	}
	for _, name := range []string{"csv", "html", "png"} {
		if c.String(name) == "-" {
			return withHint(usagef("--%s cannot go to standard output", name), "name a file, or take --json -")
		}
	}
	for _, name := range []string{"json", "csv", "html"} { // before the work, so that it is not in vain
		if file := c.String(name); file != "" && file != "-" {
			if err := datadir.WriteFile(file, nil, 0o644); err != nil {
				return err
			}
		}
	}
	sizes, err := simSizes(c, s)
	if err != nil {
		return err
	}
	shares, err := simShares(c, s)
	if err != nil {
		return err
	}
	var points []result.Growth
	for _, n := range sizes {
		one := s
		one.Nodes = n
		r, err := p.simOne(c.Context, one, fmt.Sprintf("%d nodes ", n))
		if err != nil {
			return err
		}
		points = append(points, r.GrowthPoint())
	}
	var swept []result.HostileShare
	for _, one := range shares {
		r, err := p.simOne(c.Context, one, fmt.Sprintf("%g %% hostile ", 100*one.HostileShare()))
		if err != nil {
			return err
		}
		swept = append(swept, r.HostilePoint())
	}
	var runs []*result.Run
	for i := range seeds {
		one := s
		one.Seed += uint64(i)
		prefix := ""
		if seeds > 1 {
			prefix = fmt.Sprintf("seed %d of %d ", i+1, seeds)
		}
		r, err := p.simOne(c.Context, one, prefix)
		if err != nil {
			return err
		}
		runs = append(runs, r)
	}
	r, err := result.Combine(runs)
	if err != nil {
		return err
	}
	if len(points) > 0 {
		points = append(points, r.GrowthPoint())
		slices.SortFunc(points, func(a, b result.Growth) int { return cmp.Compare(a.Nodes, b.Nodes) })
		r.Growth = points
	}
	if len(swept) > 0 {
		swept = append(swept, r.HostilePoint())
		slices.SortFunc(swept, func(a, b result.HostileShare) int { return cmp.Compare(a.Share.Or(0), b.Share.Or(0)) })
		r.Hostile.Sweep = swept
	}
	r.AddBaselines()
	return p.simReport(c, r)
}

// maxSizes is how many sizes one command runs at most.
const maxSizes = 20

// simShares gives the scenario with each share of --share, but the one it has.
func simShares(c *cli.Context, s sim.Scenario) ([]sim.Scenario, error) {
	words := c.StringSlice("share")
	if len(words) > maxSizes {
		return nil, withHint(usagef("--share can be given %d times", maxSizes), "p2psip sim --help")
	}
	seen := map[float64]bool{s.HostileShare(): true}
	var out []sim.Scenario
	for _, w := range words {
		one, err := s.WithHostile(w)
		if err != nil {
			return nil, withHint(usagef("--share %s: %s", w, err), "such as --hostile \"liars 10%%\" --share 0%% --share 5%%")
		}
		if share := one.HostileShare(); !seen[share] {
			seen[share] = true
			out = append(out, one)
		}
	}
	return out, nil
}

// simSizes gives the sizes of --grow, smallest first, each fit for the scenario.
func simSizes(c *cli.Context, s sim.Scenario) ([]int, error) {
	words := c.StringSlice("grow")
	if len(words) > 0 && s.Grow.From > 0 {
		return nil, withHint(usagef("this scenario grows by itself"), "leave --grow out")
	}
	if len(words) > maxSizes {
		return nil, withHint(usagef("--grow can be given %d times", maxSizes), "p2psip sim --help")
	}
	seen := map[int]bool{s.Nodes: true}
	var out []int
	for _, w := range words {
		if err := s.Set("nodes", w); err != nil {
			return nil, withHint(usagef("--grow: %s", err), "such as --grow 10 --grow 100")
		}
		if err := s.Validate(); err != nil {
			return nil, withHint(usagef("this scenario does not fit together with %s nodes: %s", w, err), "such as --grow 10 --grow 100")
		}
		if !seen[s.Nodes] {
			seen[s.Nodes] = true
			out = append(out, s.Nodes)
		}
	}
	slices.Sort(out)
	return out, nil
}

// simOne makes one run and shows its progress on a terminal.
func (p *program) simOne(ctx context.Context, s sim.Scenario, prefix string) (*result.Run, error) {
	runtime.GC()                                // what an earlier run has left does not count as this one's memory
	var reached atomic.Pointer[result.Progress] // the run tells it in its own time, the terminal shows it in ours
	done := p.meter(&reached, prefix)
	defer done()
	r, err := sim.Run(ctx, s, func(progress result.Progress) { reached.Store(&progress) })
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, sim.ErrStopped) {
			return nil, cause
		}
		return nil, fmt.Errorf("simulating: %w", err)
	}
	return r, nil
}

// meterEvery is how often the line of progress is written anew.
const meterEvery = 500 * time.Millisecond

// meter shows a line of progress until the returned function is called; on a terminal only.
func (p *program) meter(reached *atomic.Pointer[result.Progress], prefix string) (done func()) {
	if !p.ui.interactive {
		return func() {}
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		m := report.Meter{Prefix: prefix}
		start := time.Now()
		t := time.NewTicker(meterEvery)
		defer t.Stop()
		for {
			select {
			case <-quit:
				p.ui.raw("\r\x1b[K")
				return
			case <-t.C:
				if now := reached.Load(); now != nil {
					p.ui.raw("\r\x1b[K" + m.Line(*now, time.Since(start)))
				}
			}
		}
	})
	var once sync.Once
	return func() { once.Do(func() { close(quit); wg.Wait() }) }
}

// simReport shows a result and writes the files asked for.
func (p *program) simReport(c *cli.Context, r *result.Run) error {
	write := func(flag string, to func(io.Writer, *result.Run) error) error {
		file := c.String(flag)
		if file == "" {
			return nil
		}
		var b bytes.Buffer
		if err := to(&b, r); err != nil {
			return err
		}
		if file == "-" {
			p.ui.Say("%s", strings.TrimSuffix(b.String(), "\n"))
			return nil
		}
		return datadir.WriteFile(file, b.Bytes(), 0o644)
	}
	say := p.ui.Say
	if c.String("json") == "-" {
		say = p.ui.Note
	}
	say("%s", strings.TrimSuffix(report.Summary(r), "\n"))
	for _, f := range []struct {
		flag string
		to   func(io.Writer, *result.Run) error
	}{{"json", result.Write}, {"csv", report.CSV}, {"html", report.HTML}} {
		if err := write(f.flag, f.to); err != nil {
			return err
		}
	}
	if dir := c.String("png"); dir != "" {
		if _, err := report.WritePNGs(dir, r); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) simCompare(c *cli.Context) error {
	args, err := exactArgs(c, "two results, as --json wrote them", "a second result to compare with")
	if err != nil {
		return err
	}
	var runs [2]*result.Run
	for i, name := range args {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		runs[i], err = result.Read(f)
		f.Close()
		if err != nil {
			return withHint(fmt.Errorf("%s: %w", name, err), "compare wants what p2psip sim --json FILE has written")
		}
	}
	differences := result.Compare(runs[0], runs[1])
	if c.Bool("json") {
		var b bytes.Buffer
		if err := differences.Write(&b); err != nil {
			return err
		}
		p.ui.Say("%s", strings.TrimSuffix(b.String(), "\n"))
		return nil
	}
	p.ui.Say("%s", strings.TrimSuffix(report.CompareText(differences), "\n"))
	return nil
}

func (p *program) simList(c *cli.Context) error {
	if _, err := exactArgs(c); err != nil {
		return err
	}
	var rows [][]string
	for _, b := range sim.Scenarios() {
		rows = append(rows, []string{b.Name, b.About})
	}
	p.ui.Say("Scenarios that come with the program, to be run as p2psip sim NAME:")
	p.ui.Table(rows...)
	rows = nil
	names, help := sim.Names()
	for i, n := range names {
		rows = append(rows, []string{n, help[i]})
	}
	p.ui.Say("\nSettings, a line each in a file (NAME VALUE), or as --set NAME=VALUE:")
	p.ui.Table(rows...)
	return nil
}
