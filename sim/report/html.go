package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"regexp"

	"p2psip/sim/result"
)

//go:embed report.html
var pageText string

var page = template.Must(template.New("report").Funcs(template.FuncMap{"glue": glue}).Parse(pageText))

var beforeUnit = regexp.MustCompile(`(\d) (s|ms|min|h|%|kB|MB|GB|B/s|kB/s)([^\pL]|$)`)

// glue keeps a number and its unit on one line.
func glue(s string) string { return beforeUnit.ReplaceAllString(s, "$1\u00a0$2$3") }

// tile is one of the large figures on top.
type tile struct{ Figure, What, Beside string }

// HTML writes the report as one page that needs nothing from elsewhere: no script, no picture, no font is loaded.
func HTML(w io.Writer, r *result.Run) error {
	type drawn struct {
		ID, Title, Caption, Finding string
		SVG                         template.HTML
	}
	type measure struct{ Key, Title, Value, Interval string }
	data := struct {
		Title, Headline, Scenario string
		Sentences, Notes          []string
		Tiles                     []tile
		Charts                    []drawn
		Measures                  []measure
		Intervals                 bool
		HotWays                   [][]string
		Flows                     [][]string
		Failures                  [][]string
		Growth                    [][]string
		HostileHead               []string
		Hostile                   [][]string
		Baselines                 []struct{ Name, Measure, Value, Ours, Source string }
		Self                      [][2]string
	}{
		Title: named(r.Name), Headline: Headline(r), Scenario: r.Scenario,
		Sentences: Sentences(r), Notes: r.Notes, Tiles: tiles(r), Intervals: len(r.Intervals) > 0,
		HostileHead: hostileHead, Hostile: hostileRows(r),
	}
	for _, c := range Charts(r) {
		data.Charts = append(data.Charts, drawn{c.ID, c.Title, c.Caption, c.Finding, template.HTML(c.SVG())}) // every text in it is escaped there
	}
	ours := map[string]result.Measure{}
	for _, m := range r.Measures() {
		ours[m.Key] = m
		if !m.Value.Known() {
			continue
		}
		row := measure{m.Key, m.Title, m.Unit.Write(m.Value), ""}
		if iv, ok := r.Interval(m.Key); ok && iv.Low.Known() {
			row.Interval = m.Unit.Write(iv.Low) + " to " + m.Unit.Write(iv.High)
		}
		data.Measures = append(data.Measures, row)
	}
	if h := r.HotKey; h != nil {
		for _, y := range h.Ways {
			data.HotWays = append(data.HotWays, []string{y.Name, result.Plain.Write(y.Max), result.Plain.Write(y.Median),
				result.Plain.Write(y.MaxOverMedian), result.Plain.Write(y.Gini), result.Plain.Write(y.Messages), result.Millis.Write(y.P50MS), result.Millis.Write(y.P95MS), result.Ratio.Write(y.Success), mostUsed(y)})
		}
	}
	if k := r.Calls; k != nil {
		for _, f := range k.Flows {
			data.Flows = append(data.Flows, []string{f.Name, fmt.Sprint(f.Count), result.Ratio.Write(f.Success),
				result.Millis.Write(f.P50MS), result.Millis.Write(f.P95MS)})
		}
	}
	data.Failures = failureRows(r.Calls)
	for _, g := range r.Growth {
		data.Growth = append(data.Growth, growthCells(g))
	}
	for _, b := range r.Limits {
		m := ours[b.Measure]
		data.Baselines = append(data.Baselines, struct{ Name, Measure, Value, Ours, Source string }{
			b.Name, titleOf(m, b.Measure), m.Unit.Write(b.Value), m.Unit.Write(m.Value), b.Source,
		})
	}
	if s := r.Self; s != nil {
		add := func(name string, v result.Value, u func(float64) string) {
			if f, ok := v.Get(); ok {
				data.Self = append(data.Self, [2]string{name, u(f)})
			}
		}
		number := func(v float64) string { return grouped(fmt.Sprintf("%.0f", v)) }
		add("time on the clock", result.V(r.WallS), length)
		add("CPU time", s.CPUS, length)
		add("most heap", s.HeapPeakBytes, bytesUnit)
		add("most resident memory", s.RSSPeakBytes, bytesUnit)
		add("memory in use for a node", s.LivePerNodeBytes, bytesUnit)
		add("most goroutines", s.GoroutinesPeak, number)
		add("messages", s.Messages, number)
		add("messages in a second", s.MessagesPerS, number)
	}
	if err := page.Execute(w, data); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func titleOf(m result.Measure, key string) string {
	if m.Title == "" {
		return key
	}
	return m.Title
}

// tiles gives the figures that a reader looks for first.
func tiles(r *result.Run) []tile {
	var out []tile
	add := func(u result.Unit, v result.Value, what, beside string) {
		if v.Known() {
			out = append(out, tile{u.Write(v), what, beside})
		}
	}
	if o := r.Lookup; o != nil {
		add(result.Ratio, o.Success, "of users are found", count(o.Count, "lookup"))
		add(result.Millis, o.P95MS, "finds 95 % of them", "half within "+result.Millis.Write(o.P50MS))
	}
	if k := r.Calls; k != nil {
		add(result.Ratio, k.Success, "of calls go well", count(k.Count, "call"))
		add(result.Millis, k.SetupP95MS, "until 95 % ring", "half within "+result.Millis.Write(k.SetupP50MS))
	}
	if o := r.Publish; o != nil {
		add(result.Millis, o.P95MS, "registers 95 %", result.Ratio.Write(o.Success)+" succeed")
	}
	add(result.Ratio, r.Fresh, "of records are the newest", "")
	add(result.BytesPerS, r.IdleBytesPerS, "sent by an idle node", "")
	if h := r.HotKey; h != nil && h.MaxOverMedian.Known() {
		out = append(out, tile{result.Plain.Write(h.MaxOverMedian) + "×", "busiest node of a hot key", "goal: at most 4×"})
	}
	return out
}
