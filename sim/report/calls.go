package report

import (
	"bytes"
	"fmt"
	"text/tabwriter"

	"p2psip/sim/result"
)

// callSentences says what callers felt.
func callSentences(k *result.Calls, say func(format string, a ...any)) {
	if k == nil {
		return
	}
	switch {
	case k.Count > 0 && !k.SetupP50MS.Known():
		say("No call went well, of %d tried.", k.Count)
	case k.Count > 0:
		say("%s went well.", capital(outOf(k.Success, k.Count, "call")))
	}
	if k.SetupP50MS.Known() {
		say("Half of the calls rang within %s, 95 %% within %s.", within(k.SetupP50MS), within(k.SetupP95MS))
	}
	if k.Stale.Or(0) > 0 {
		say("%s of the calls went to a device that had left.", result.Ratio.Write(k.Stale))
	}
	failed := 0
	for _, f := range k.Failures {
		failed += f.Count
	}
	if failed > 0 {
		say("%s heard of a failure, %s only after more than 4 s.", capital(count(failed, "caller")), fmt.Sprint(k.SlowFailures))
	}
	if k.Remains > 0 {
		say("%s left something behind in a phone or a node.", capital(count(k.Remains, "call")))
	}
	if o := k.Register; o != nil && o.P50MS.Known() {
		say("A phone that registers has its answer in %s, in 95 %% of the cases within %s.", duration(o.P50MS), within(o.P95MS))
	}
}

// failureRows lists what callers heard that nobody wanted.
func failureRows(k *result.Calls) (out [][]string) {
	if k == nil {
		return nil
	}
	for _, f := range k.Failures {
		out = append(out, []string{f.Callee, fmt.Sprint(f.Status), fmt.Sprint(f.Count),
			result.Millis.Write(f.P50MS), result.Millis.Write(f.P95MS), result.Millis.Write(f.MaxMS)})
	}
	return out
}

// callTables writes the parts of the set-up, the flows and the failures for the terminal.
func callTables(b *bytes.Buffer, k *result.Calls) {
	if k == nil {
		return
	}
	table := func(head string, rows [][]string) {
		if len(rows) == 0 {
			return
		}
		b.WriteByte('\n')
		w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, head)
		for _, row := range rows {
			for _, c := range row {
				fmt.Fprintf(w, "%s\t", c)
			}
			fmt.Fprintln(w)
		}
		w.Flush()
	}
	var parts, flows [][]string
	for _, p := range k.Parts {
		parts = append(parts, []string{p.Name, result.Millis.Write(p.P50MS), result.Millis.Write(p.P95MS), result.Millis.Write(p.MeanMS)})
	}
	for _, f := range k.Flows {
		flows = append(flows, []string{f.Name, fmt.Sprint(f.Count), result.Ratio.Write(f.Success), result.Millis.Write(f.P50MS), result.Millis.Write(f.P95MS)})
	}
	table("part of the set-up\thalf within\t95 %\tmean\t", parts)
	table("call flow\ttried\twent well\thalf ring within\t95 %\t", flows)
	table("callee\tcaller heard\tcalls\thalf within\t95 %\tlongest\t", failureRows(k))
}

// setupChart is the distribution of the set-up beside those of its parts.
func setupChart(r *result.Run) (Chart, bool) {
	c := Chart{
		ID: "setup", Title: "Until it rings",
		Caption: "Of the calls that rang, how many did so within the time below, and how many were through with each part of the way; what took less than 1 ms stands at 1 ms.",
		X:       Axis{Label: "within (virtual time)", Log: true, Unit: millis},
		Y:       Axis{Label: "of the calls", Unit: percents, Low: at(0), High: at(1)},
	}
	k := r.Calls
	if k == nil || len(k.Delays.MS) < 2 {
		return c, false
	}
	c.Series = append(c.Series, Series{Name: "rings", Points: cdf(k.Delays, 1), Style: ours})
	for _, p := range k.Parts {
		if len(p.Delays.MS) > 1 {
			c.Series = append(c.Series, Series{Name: clip(p.Name, 18), Points: cdf(p.Delays, 1), Style: ours})
		}
	}
	c.Finding = fmt.Sprintf("Half of the calls rang within %s, 95 %% within %s.", result.Millis.Write(k.SetupP50MS), result.Millis.Write(k.SetupP95MS))
	return c, true
}
