package result

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Comparison is two runs side by side.
type Comparison struct {
	A    Side         `json:"a"`
	B    Side         `json:"b"`
	Rows []Difference `json:"differences"`
	Note string       `json:"note"`
}

// Side is what the comparison says about each run.
type Side struct {
	Name  string `json:"name"`
	Nodes int    `json:"nodes"`
	Seeds int    `json:"seeds"` // how many

	Settings []string `json:"settings"` // lines of the scenario that the other has not; seeds aside
}

// Difference is one figure in both runs.
type Difference struct {
	Key     string  `json:"key"`
	Title   string  `json:"title"`
	Unit    Unit    `json:"-"`
	A       Value   `json:"a"`
	B       Value   `json:"b"`
	Change  Value   `json:"change"` // (B−A)/A
	Test    string  `json:"test"`   // how P was found; empty: the figure alone does not allow a test
	P       Value   `json:"p"`      // probability of such a difference by chance, corrected for the number of tests (Benjamini–Hochberg)
	Verdict Verdict `json:"verdict"`
}

// Verdict is what a difference means.
type Verdict string

// The verdicts. Better and Worse are B's, seen from A.
const (
	Better   Verdict = "better"
	Worse    Verdict = "worse"
	Changed  Verdict = "changed" // a difference that is neither good nor bad
	Same     Verdict = "same"    // equal to the last digit
	Chance   Verdict = "chance"  // it differs, but chance explains it
	Untested Verdict = "untested"
)

// significant is the probability below which a difference is believed.
const significant = 0.05

// minSeeds is how many seeds each side needs before figures are compared seed by seed.
const minSeeds = 3

// Compare sets two runs side by side. With three seeds or more on each side every figure is tested over the seeds (Welch's
// t-test). Otherwise delays are tested by their samples (Mann–Whitney), successes by their counts (Fisher's exact test), and
// the rest not at all. Operations of one run are not quite independent of each other, so those two tests are somewhat too
// sure of themselves; that is in the note.
func Compare(a, b *Run) *Comparison {
	c := &Comparison{A: side(a, b), B: side(b, a)}
	theirs := map[string]Measure{}
	for _, m := range b.Measures() {
		theirs[m.Key] = m
	}
	sampled := false
	var better []int
	for _, m := range a.Measures() {
		o := theirs[m.Key]
		delete(theirs, m.Key)
		if !m.Value.Known() && !o.Value.Known() {
			continue
		}
		d := Difference{Key: m.Key, Title: m.Title, Unit: m.Unit, A: m.Value, B: o.Value, Verdict: Untested}
		if x, y := m.Value, o.Value; x.Known() && y.Known() {
			if x.Or(0) != 0 {
				d.Change = V((y.Or(0) - x.Or(0)) / x.Or(0))
			}
			if x == y {
				d.Verdict = Same
			} else {
				var fromSamples bool
				d.Test, d.P, fromSamples = test(a, b, m.Key)
				sampled = sampled || fromSamples
			}
		}
		c.Rows = append(c.Rows, d)
		better = append(better, m.Better)
	}
	for _, m := range b.Measures() { // what only B has
		if _, only := theirs[m.Key]; only && m.Value.Known() {
			c.Rows = append(c.Rows, Difference{Key: m.Key, Title: m.Title, Unit: m.Unit, B: m.Value, Verdict: Untested})
			better = append(better, m.Better)
		}
	}
	adjust(c.Rows)
	for i := range c.Rows {
		c.Rows[i].judge(better[i])
	}
	if sampled {
		c.Note = "Tested by the samples of one network each: operations of one run are not quite independent, so run both sides with --seeds 3 or more to be sure."
	}
	return c
}

func side(r, other *Run) Side {
	s := Side{Name: r.Name, Nodes: r.Nodes, Seeds: max(1, len(r.Seeds)), Settings: []string{}}
	theirs := strings.Split(other.Scenario, "\n")
	for line := range strings.SplitSeq(r.Scenario, "\n") {
		if !slices.Contains(theirs, line) && !strings.HasPrefix(line, "seed ") && len(s.Settings) < MaxList {
			s.Settings = append(s.Settings, line)
		}
	}
	return s
}

// test finds the probability that both runs differ in a figure by chance.
func test(a, b *Run, key string) (name string, p Value, fromSamples bool) {
	x, inA := a.Interval(key)
	y, inB := b.Interval(key)
	if inA && inB && len(x.Values) >= minSeeds && len(y.Values) >= minSeeds {
		return fmt.Sprintf("Welch, %d and %d seeds", len(x.Values), len(y.Values)), V(Welch(x.Values, y.Values)), false
	}
	s, t := tallies(a, key), tallies(b, key)
	if s == nil || t == nil {
		return "", Value{}, false
	}
	switch last(key) {
	case "success":
		if s.count > 0 && t.count > 0 {
			return fmt.Sprintf("Fisher, %d and %d tried", s.count, t.count), V(Fisher(s.ok, s.count, t.ok, t.count)), true
		}
	case "p50_ms", "setup_p50_ms": // a test of the whole distribution; it says little about its end
		if len(s.delays.MS) >= 8 && len(t.delays.MS) >= 8 {
			return fmt.Sprintf("Mann–Whitney, %d and %d samples", len(s.delays.MS), len(t.delays.MS)),
				V(MannWhitney(s.delays.MS, t.delays.MS)), true
		}
	case "p95_ms", "p99_ms", "setup_p95_ms", "setup_p99_ms":
		q := 0.95
		if l := last(key); l == "p99_ms" || l == "setup_p99_ms" {
			q = 0.99
		}
		if s.delays.N >= 100 && t.delays.N >= 100 {
			return fmt.Sprintf("above the joint %.0f %%, %d and %d samples", q*100, s.delays.N, t.delays.N),
				V(tailTest(s.delays, t.delays, q)), true
		}
	}
	return "", Value{}, false
}

func last(key string) string {
	for i := len(key) - 1; i >= 0; i-- {
		if key[i] == '.' {
			return key[i+1:]
		}
	}
	return key
}

// tally is the counts and delays behind a figure.
type tally struct {
	count, ok int
	delays    Delays
}

func tallies(r *Run, key string) *tally {
	var o *Operation
	prefix := key[:max(0, len(key)-len(last(key))-1)]
	switch prefix {
	case "lookup":
		o = r.Lookup
	case "publish":
		o = r.Publish
	case "unknown":
		o = r.Unknown
	case "calls":
		if k := r.Calls; k != nil {
			return &tally{k.Count, k.OK, k.Delays}
		}
	case "calls.register":
		if r.Calls != nil {
			o = r.Calls.Register
		}
	case "connect":
		o = r.Connect
	case "hostile.victim":
		if r.Hostile != nil {
			o = r.Hostile.Victim
		}
	case "stock.lookup", "stock.publish", "stock.unknown":
		if r.Stock != nil {
			o = map[string]*Operation{
				"stock.lookup": r.Stock.Lookup, "stock.publish": r.Stock.Publish, "stock.unknown": r.Stock.Unknown,
			}[prefix]
		}
	}
	if o == nil {
		return nil
	}
	return &tally{o.Count, o.OK, o.Delays}
}

// tailTest compares how many samples of each side lie above the q-quantile of both together, by Fisher's exact test.
func tailTest(a, b Delays, q float64) float64 {
	joint := poolDelays([]Delays{a, b})
	cut := Percentile(joint.MS, q*100).Or(0)
	above := func(d Delays) int { return int(math.Round((1 - d.At(cut)) * float64(d.N))) }
	return Fisher(above(a), a.N, above(b), b.N)
}

// adjust corrects the probabilities for the number of tests, by Benjamini and Hochberg's method: of what is then called
// different, one in twenty may be chance.
func adjust(rows []Difference) {
	var tested []int
	for i, r := range rows {
		if r.P.Known() {
			tested = append(tested, i)
		}
	}
	slices.SortStableFunc(tested, func(i, j int) int { return cmp.Compare(rows[i].P.Or(0), rows[j].P.Or(0)) })
	most := 1.0
	for rank := len(tested); rank > 0; rank-- {
		i := tested[rank-1]
		most = min(most, rows[i].P.Or(0)*float64(len(tested))/float64(rank))
		rows[i].P = V(most)
	}
}

// judge gives the verdict.
func (d *Difference) judge(better int) {
	if !d.P.Known() {
		return
	}
	up := d.B.Or(0) > d.A.Or(0)
	switch {
	case d.P.Or(1) >= significant:
		d.Verdict = Chance
	case better == 0:
		d.Verdict = Changed
	case up == (better > 0):
		d.Verdict = Better
	default:
		d.Verdict = Worse
	}
}
