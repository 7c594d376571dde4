package report

import (
	"bytes"
	"fmt"
	"strings"
	"text/tabwriter"

	"p2psip/sim/result"
)

// Summary is a run for the terminal: sentences for everybody, then the figures.
func Summary(r *result.Run) string {
	var b bytes.Buffer
	fmt.Fprintln(&b, Headline(r))
	for _, s := range Sentences(r) {
		fmt.Fprintln(&b, "  "+s)
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	intervals := len(r.Intervals) > 0
	rows := operations(r)
	if s := r.Stock; s != nil {
		for _, o := range []operation{{"find, kad-dht's own", s.Lookup}, {"register, kad-dht's own", s.Publish}, {"unknown user, kad-dht's own", s.Unknown}} {
			if o.op != nil {
				rows = append(rows, o)
			}
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(w, "\ttried\tsucceeded\thalf within\t95 %\t99 %\thops\tmessages\tbytes\t")
	}
	for _, o := range rows {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", o.name, o.op.Count, result.Ratio.Write(o.op.Success),
			result.Millis.Write(o.op.P50MS), result.Millis.Write(o.op.P95MS), result.Millis.Write(o.op.P99MS),
			result.Plain.Write(o.op.HopsMean), result.Plain.Write(o.op.MessagesMean), result.Bytes.Write(o.op.BytesMean))
	}
	w.Flush()
	callTables(&b, r.Calls)
	if h := r.HotKey; h != nil && len(h.Ways) > 0 {
		b.WriteByte('\n')
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "hot key\tsucceeded\thalf within\t95 %\tbusiest\tmiddle\tratio\tmessages\tmost used\t")
		for _, y := range h.Ways {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", y.Name, result.Ratio.Write(y.Success), result.Millis.Write(y.P50MS),
				result.Millis.Write(y.P95MS), result.Plain.Write(y.Max), result.Plain.Write(y.Median), result.Plain.Write(y.MaxOverMedian),
				result.Plain.Write(y.Messages), mostUsed(y))
		}
		w.Flush()
	}
	if rows := hostileRows(r); len(rows) > 0 {
		b.WriteByte('\n')
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, row := range append([][]string{hostileHead}, rows...) {
			fmt.Fprintln(w, strings.Join(row, "\t")+"\t")
		}
		w.Flush()
	}
	if len(r.Growth) > 1 {
		b.WriteByte('\n')
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "nodes\tlog2\thops\tmessages\tof a node a minute\thalf within\t95 % within\tsucceeded\theap a node\t")
		for _, g := range r.Growth {
			fmt.Fprintln(w, strings.Join(growthCells(g), "\t")+"\t")
		}
		w.Flush()
	}
	if intervals {
		fmt.Fprintf(&b, "\nMeans over %d seeds, with 95 %% confidence:\n", len(r.Seeds))
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, m := range r.Measures() {
			if iv, ok := r.Interval(m.Key); ok && m.Value.Known() {
				fmt.Fprintf(w, "  %s\t%s\t%s to %s\n", m.Title, m.Unit.Write(m.Value), m.Unit.Write(iv.Low), m.Unit.Write(iv.High))
			}
		}
		w.Flush()
	}
	if s := r.Self; s != nil {
		var costs []string
		if v, ok := s.CPUS.Get(); ok {
			costs = append(costs, fmt.Sprintf("%s of CPU", length(v)))
		}
		if v, ok := s.HeapPeakBytes.Get(); ok {
			costs = append(costs, bytesUnit(v)+" of heap")
		}
		if v, ok := s.Messages.Get(); ok {
			costs = append(costs, grouped(fmt.Sprintf("%.0f", v))+" messages")
		}
		if len(costs) > 0 {
			fmt.Fprintf(&b, "\nThe simulation itself took %s.\n", strings.Join(costs, ", "))
		}
		b.WriteString(limits(r.WallS, s))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "Note: %s\n", strings.ReplaceAll(n, "\n", " "))
	}
	return trimLines(b.String())
}

// limits says what held a run up and what one with more nodes would need.
func limits(wall float64, s *result.Self) string {
	var out []string
	cpu, ok := s.CPUS.Get()
	messages, counted := s.Messages.Get()
	if ok && counted && wall > 0 && messages > 0 {
		busy := cpu / wall
		what := "one processor, which it kept busy"
		if busy < 0.9 {
			what = fmt.Sprintf("one processor, of which it got %.0f %%: other programs wanted it too", 100*busy)
		}
		out = append(out, fmt.Sprintf("limited by %s, at %.0f µs for a message", what, 1e6*cpu/messages))
	}
	if live, ok := s.LivePerNodeBytes.Get(); ok {
		out = append(out, fmt.Sprintf("in memory by %s in use for each node", bytesUnit(live)))
	}
	if len(out) == 0 {
		return ""
	}
	return "It was " + strings.Join(out, ", ") + ".\n"
}

// mostUsed is how often the node that was found most was given, over the mean.
func mostUsed(w result.HotWay) string {
	if w.Used == nil || w.Used.Mean.Or(0) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f× the mean", w.Used.Max.Or(0)/w.Used.Mean.Or(0))
}

// bytesUnit writes an amount of memory, in powers of two.
func bytesUnit(v float64) string { return binaryBytes.write(v) }

// CompareText is a comparison for the terminal.
func CompareText(c *result.Comparison) string {
	var b bytes.Buffer
	for i, side := range []result.Side{c.A, c.B} {
		fmt.Fprintf(&b, "%c: %s, %s, %s", 'A'+i, named(side.Name), count(side.Nodes, "node"), count(side.Seeds, "seed"))
		if len(side.Settings) > 0 {
			fmt.Fprintf(&b, "; only here: %s", clip(strings.Join(side.Settings, ", "), 200))
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tA\tB\tchange\tB is\tby chance")
	tally := map[result.Verdict]int{}
	for _, d := range c.Rows {
		tally[d.Verdict]++
		if d.Verdict == result.Same {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Title, d.Unit.Write(d.A), d.Unit.Write(d.B), change(d.Change), verdict(d.Verdict), probability(d.P))
	}
	w.Flush()
	fmt.Fprintf(&b, "\nB is better in %s and worse in %d. In %d chance may explain the difference, %d cannot be tested, %d are equal and not shown.\n",
		count(tally[result.Better], "figure"), tally[result.Worse], tally[result.Chance], tally[result.Untested], tally[result.Same])
	if c.Note != "" {
		fmt.Fprintf(&b, "Note: %s\n", c.Note)
	}
	return trimLines(b.String())
}

func named(s string) string {
	if s == "" {
		return "a run without a name"
	}
	return s
}

func change(v result.Value) string {
	f, ok := v.Get()
	switch {
	case !ok:
		return "–"
	case f == 0:
		return "0 %"
	case f > 10 || f < -0.9995:
		return fmt.Sprintf("%+.0f %%", f*100)
	}
	return fmt.Sprintf("%+.1f %%", f*100)
}

func verdict(v result.Verdict) string {
	switch v {
	case result.Chance:
		return "no clear difference"
	case result.Untested:
		return "not tested"
	case result.Same:
		return "the same"
	}
	return string(v)
}

func probability(v result.Value) string {
	p, ok := v.Get()
	switch {
	case !ok:
		return ""
	case p < 0.001:
		return "p < 0.001"
	}
	return fmt.Sprintf("p = %.3f", p)
}

// trimLines takes away the blanks that a table leaves at the ends of lines.
func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.Join(lines, "\n")
}
