package report

import (
	"fmt"
	"math"
	"slices"

	"p2psip/sim/result"
)

// Charts gives every chart whose figures a run has, in the order of the report.
func Charts(r *result.Run) []Chart {
	var out []Chart
	for _, make := range []func(*result.Run) (Chart, bool){
		delayChart, successChart, delayOverTimeChart, aliveChart, setupChart, partsChart, loadChart, keySpaceChart, hotKeyChart, hotLoadChart,
		hostileSuccess, hostileDelay, growthHops, growthDelay, growthMessages, growthMemory,
	} {
		if c, ok := make(r); ok {
			out = append(out, c)
		}
	}
	return out
}

func at(v float64) *float64 { return &v }

// operation is a kind of operation with the name it has in every chart.
type operation struct {
	name string
	op   *result.Operation
}

func operations(r *result.Run) []operation {
	out := []operation{{"find a user", r.Lookup}, {"register", r.Publish}, {"unknown user", r.Unknown}, {"reach the node", r.Connect}}
	out = append(out, operation{"set a call up", callsOf(r)})
	return slices.DeleteFunc(out, func(o operation) bool { return o.op == nil })
}

// delayChart is the distribution of delays, with stock kad-dht and the direct round trip beside.
func delayChart(r *result.Run) (Chart, bool) {
	c := Chart{
		ID: "delay", Title: "How long people wait",
		Caption: "Of all attempts, how many were settled within the time below; what took less than 1 ms stands at 1 ms. A curve that stays under 100 % has failures.",
		X:       Axis{Label: "within (virtual time)", Log: true, Unit: millis},
		Y:       Axis{Label: "settled", Unit: percents, Low: at(0), High: at(1)},
	}
	add := func(name string, d result.Delays, success float64, s style) {
		if len(d.MS) > 1 {
			c.Series = append(c.Series, Series{Name: name, Points: cdf(d, success), Style: s})
		}
	}
	for _, o := range operations(r) {
		add(o.name, o.op.Delays, o.op.Success.Or(1), ours)
	}
	if len(c.Series) == 0 {
		return c, false
	}
	if s := r.Stock; s != nil {
		for _, o := range []operation{{"find, kad-dht's own", s.Lookup}, {"register, kad-dht's own", s.Publish}} {
			if o.op != nil {
				add(o.name, o.op.Delays, o.op.Success.Or(1), baseline)
			}
		}
	}
	if r.Direct != nil {
		add("direct round trip", *r.Direct, 1, baseline)
	}
	if o := r.Lookup; o != nil {
		c.Finding = fmt.Sprintf("Finding a user took %s for half and at most %s for 95 %% of those found.",
			result.Millis.Write(o.P50MS), result.Millis.Write(o.P95MS))
	}
	return c, true
}

// cdfPoints is enough for a curve 400 pixels wide.
const cdfPoints = 160

// cdf gives a distribution's curve, up to the share that succeeded.
func cdf(d result.Delays, success float64) []point {
	n := len(d.MS)
	var out []point
	step := max(1, n/cdfPoints)
	for i := 0; ; i += step {
		i = min(i, n-1)
		out = append(out, point{max(d.MS[i], 1), float64(i+1) / float64(n) * success})
		if i == n-1 {
			return out
		}
	}
}

func marks(r *result.Run) []Mark {
	var out []Mark
	for _, m := range r.Marks {
		out = append(out, Mark{m.AtS, clip(m.Text, 34)})
	}
	return out[:min(len(out), 8)]
}

// clip shortens a text that would not fit.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// overTime makes a chart of what happened in each stretch of time.
func overTime(r *result.Run, c Chart, value func(result.Bucket) (float64, bool)) (Chart, bool) {
	c.X = Axis{Label: "virtual time", Unit: seconds, Low: at(0)}
	for _, o := range operations(r) {
		var points []point
		for _, b := range o.op.OverTime {
			if v, ok := value(b); ok {
				points = append(points, point{b.AtS, v})
			}
		}
		if len(points) > 1 {
			c.Series = append(c.Series, Series{Name: o.name, Points: thin(points)})
		}
	}
	c.Marks = marks(r)
	return c, len(c.Series) > 0
}

// thin keeps at most as many points as can be told apart, by taking means of neighbours.
func thin(points []point) []point {
	const most = 240
	if len(points) <= most {
		return points
	}
	out := make([]point, 0, most)
	for i := range most {
		group := points[i*len(points)/most : (i+1)*len(points)/most]
		var sum point
		for _, p := range group {
			sum.x += p.x
			sum.y += p.y
		}
		out = append(out, point{sum.x / float64(len(group)), sum.y / float64(len(group))})
	}
	return out
}

func successChart(r *result.Run) (Chart, bool) {
	c, ok := overTime(r, Chart{
		ID: "success", Title: "Success over time",
		Caption: "Share of the attempts that succeeded, in each stretch of time. The lower end of the axis is not nought.",
		Y:       Axis{Label: "succeeded", Unit: percents, High: at(1)},
	}, func(b result.Bucket) (float64, bool) {
		return float64(b.OK) / float64(max(1, b.Count)), b.Count > 0
	})
	worst := 1.0
	for _, s := range c.Series {
		for _, p := range s.Points {
			worst = min(worst, p.y)
		}
	}
	c.Y.Low = at(max(0, min(0.99, worst-0.1*(1-worst))))
	if worst < 0.6 {
		c.Y.Low = at(0)
		c.Caption = "Share of the attempts that succeeded, in each stretch of time."
	}
	c.Finding = "No stretch had a failure."
	if worst < 1 {
		c.Finding = fmt.Sprintf("The worst stretch had %s.", result.Ratio.Write(result.V(worst)))
	}
	return c, ok
}

func delayOverTimeChart(r *result.Run) (Chart, bool) {
	return overTime(r, Chart{
		ID: "delay-over-time", Title: "The slow ones over time",
		Caption: "95 % of the attempts in each stretch of time were settled within this.",
		Y:       Axis{Label: "95 % within", Unit: millis, Low: at(0)},
	}, func(b result.Bucket) (float64, bool) { return b.P95MS.Get() })
}

func aliveChart(r *result.Run) (Chart, bool) {
	c := Chart{
		ID: "alive", Title: "Living nodes", Caption: "How many nodes were there.",
		X: Axis{Label: "virtual time", Unit: seconds, Low: at(0)}, Y: Axis{Label: "nodes", Low: at(0)},
		Marks: marks(r),
	}
	var points []point
	for i, p := range r.Alive {
		if i > 0 && len(r.Alive) < 100 { // it stays until it changes
			points = append(points, point{p.AtS, r.Alive[i-1].Value})
		}
		points = append(points, point{p.AtS, p.Value})
	}
	c.Series = []Series{{Name: "nodes", Points: thin(points), Style: filled}}
	return c, len(points) > 1
}

func partsChart(r *result.Run) (Chart, bool) {
	c := Chart{
		ID: "parts", Title: "Where the time of a call goes",
		Caption: "What the set-up of a call waits for: half of the calls, and 95 % of them, no longer than this.",
		X:       Axis{Label: "waited", Unit: millis},
	}
	if r.Calls == nil {
		return c, false
	}
	for _, p := range r.Calls.Parts {
		for i, v := range []result.Value{p.P50MS, p.P95MS} {
			if ms, ok := v.Get(); ok {
				name := clip(p.Name, 18) + [...]string{", half", ", 95 %"}[i]
				c.Bars = append(c.Bars, Bar{Name: name, Value: ms, Text: result.Millis.Write(v), Ink: i})
			}
		}
	}
	return c, len(c.Bars) > 0
}

// loadChart draws the nodes' loads in ascending order, each relative to its mean: an even share would be a level line.
func loadChart(r *result.Run) (Chart, bool) {
	c := Chart{
		ID: "load", Title: "Load per node",
		Caption: "All nodes, those with the least to do on the left. A fair share is 1×.",
		X:       Axis{Label: "nodes, from the idlest to the busiest", Unit: percents, Low: at(0), High: at(1)},
		Y:       Axis{Label: "times the mean", Unit: times, Low: at(0)},
		Levels:  []Level{{At: 1, Text: "a fair share"}},
	}
	p := r.PerNode
	if p == nil {
		return c, false
	}
	for _, row := range []struct {
		name   string
		values result.Numbers
	}{{"requests served", p.Requests}, {"records stored", p.Records}, {"bytes sent", p.Bytes}, {"messages sent", p.Messages}} {
		if points := ranked(row.values); points != nil {
			c.Series = append(c.Series, Series{Name: row.name, Points: points})
		}
	}
	if l := r.Load; l != nil && l.Requests != nil {
		c.Finding = fmt.Sprintf("The busiest node served %s times as many requests as the one in the middle; Gini %s.",
			result.Plain.Write(l.Requests.MaxOverMedian), result.Plain.Write(l.Requests.Gini))
	}
	return c, len(c.Series) > 0
}

// ranked gives loads in ascending order relative to their mean.
func ranked(values []float64) []point {
	mean := result.Mean(values).Or(0)
	if len(values) < 2 || mean == 0 {
		return nil
	}
	s := slices.Clone(values)
	slices.Sort(s)
	n := len(s)
	var out []point
	step := max(1, n/200)
	for i := 0; ; i += step {
		i = min(i, n-1)
		out = append(out, point{float64(i) / float64(n-1), s[i] / mean})
		if i == n-1 {
			return out
		}
	}
}

// keySpaceChart is a map of the key space: who has much to do, and where.
func keySpaceChart(r *result.Run) (Chart, bool) {
	c := Chart{
		ID: "key-space", Title: "Map of the key space",
		Caption: "The ring of all keys, cut open and laid flat. Height: requests served in each stretch, relative to an even spread; strokes below: nodes.",
		X:       Axis{Label: "place in the key space", Unit: percents, Low: at(0), High: at(1)},
		Y:       Axis{Label: "times an even spread", Unit: times, Low: at(0)},
		Levels:  []Level{{At: 1, Text: "even"}},
	}
	p := r.PerNode
	if p == nil || len(p.Position) < 2 {
		return c, false
	}
	cells := max(8, min(40, len(p.Position)/5)) // a cell has several nodes, so that it tells more than where they are
	for _, row := range []struct {
		name   string
		values result.Numbers
	}{{"requests", p.Requests}, {"records", p.Records}} {
		sums := make([]float64, cells)
		var total float64
		if len(row.values) != len(p.Position) {
			continue
		}
		for i, v := range row.values {
			sums[min(cells-1, int(p.Position[i]*float64(cells)))] += v
			total += v
		}
		if total == 0 {
			continue
		}
		var points []point
		for i, v := range sums {
			y := v / total * float64(cells)
			points = append(points, point{float64(i) / float64(cells), y}, point{float64(i+1) / float64(cells), y})
		}
		s := Series{Name: row.name, Points: points, Style: filled}
		if len(c.Series) > 0 {
			s.Style = ours
		}
		c.Series = append(c.Series, s)
	}
	step := max(1, len(p.Position)/400)
	for i := 0; i < len(p.Position); i += step {
		c.rug = append(c.rug, p.Position[i])
	}
	return c, len(c.Series) > 0
}

// hotTarget is the goal for the busiest node over the one in the middle.
const hotTarget = 4

func hotKeyChart(r *result.Run) (Chart, bool) {
	c := Chart{
		ID: "hot-key", Title: "A key that everybody wants",
		Caption: "Requests of the busiest node over those of the node in the middle, for each way of finding the key (where the middle node has none, one is taken).",
		X:       Axis{Label: "busiest over middle node", Log: true, Unit: times, Low: at(1)},
		Levels:  []Level{{At: hotTarget, Text: "goal: 4×"}},
	}
	if r.HotKey == nil {
		return c, false
	}
	for i, w := range r.HotKey.Ways {
		v, ok := w.MaxOverMedian.Get()
		if !ok {
			continue
		}
		c.Bars = append(c.Bars, Bar{Name: clip(w.Name, 22), Value: max(v, 1), Text: result.Plain.Write(w.MaxOverMedian) + "×", Ink: i})
	}
	return c, len(c.Bars) > 0
}

func hotLoadChart(r *result.Run) (Chart, bool) {
	c := Chart{
		ID: "hot-key-load", Title: "Who serves the hot key",
		Caption: "Requests that each node served, those with the least to do on the left.",
		X:       Axis{Label: "nodes, from the idlest to the busiest", Unit: percents, Low: at(0), High: at(1)},
		Y:       Axis{Label: "requests served (at least 1)", Log: true, Low: at(1)},
	}
	if r.HotKey == nil {
		return c, false
	}
	for _, w := range r.HotKey.Ways {
		n := len(w.PerNode)
		if n < 2 {
			continue
		}
		var points []point
		step := max(1, n/200)
		for i := 0; ; i += step {
			i = min(i, n-1)
			points = append(points, point{float64(i) / float64(n-1), max(1, w.PerNode[i])})
			if i == n-1 {
				break
			}
		}
		c.Series = append(c.Series, Series{Name: clip(w.Name, 30), Points: points})
	}
	return c, len(c.Series) > 0
}

// growth makes a chart over the size of the overlay.
func growth(r *result.Run, c Chart, rows ...growthRow) (Chart, bool) {
	c.X = Axis{Label: "nodes", Log: true}
	for _, row := range rows {
		var points []point
		for _, g := range r.Growth {
			if v, ok := row.value(g).Get(); ok && g.Nodes > 0 {
				points = append(points, point{float64(g.Nodes), v})
			}
		}
		if len(points) > 0 {
			c.Series = append(c.Series, Series{Name: row.name, Points: points, Style: dotted})
		}
	}
	return c, len(r.Growth) > 1 && len(c.Series) > 0
}

type growthRow struct {
	name  string
	value func(result.Growth) result.Value
}

func growthHops(r *result.Run) (Chart, bool) {
	c, ok := growth(r, Chart{
		ID: "growth-hops", Title: "Hops as the overlay grows",
		Caption: "Mean number of hops to find a user. log2(N) is what a structured overlay with one contact for each bit would need.",
		Y:       Axis{Label: "hops", Low: at(0)},
	}, growthRow{"hops", func(g result.Growth) result.Value { return g.HopsMean }})
	if !ok {
		return c, false
	}
	var theory []point
	lo, hi := float64(max(2, r.Growth[0].Nodes)), float64(r.Growth[len(r.Growth)-1].Nodes)
	for i := range 20 {
		n := lo * math.Pow(hi/lo, float64(i)/19)
		theory = append(theory, point{n, math.Log2(n)})
	}
	c.Series = append(c.Series, Series{Name: "log2(N)", Points: theory, Style: baseline})
	return c, true
}

func growthDelay(r *result.Run) (Chart, bool) {
	c, ok := growth(r, Chart{
		ID: "growth-delay", Title: "Delay as the overlay grows", Caption: "Time to find a user.",
		Y: Axis{Label: "to find a user", Unit: millis, Low: at(0)},
	}, growthRow{"half within", func(g result.Growth) result.Value { return g.P50MS }},
		growthRow{"95 % within", func(g result.Growth) result.Value { return g.P95MS }})
	if d := r.Direct; ok && d != nil && len(d.MS) > 0 {
		middle := result.Percentile(d.MS, 50)
		c.Levels = []Level{{middle.Or(0), "direct round trip, median", true}}
	}
	return c, ok
}

func growthMessages(r *result.Run) (Chart, bool) {
	return growth(r, Chart{
		ID: "growth-messages", Title: "Messages as the overlay grows", Caption: "What finding a user costs, and what each node sends in a minute.",
		Y: Axis{Label: "messages", Log: true},
	}, growthRow{"to find a user", func(g result.Growth) result.Value { return g.MessagesPerLookup }},
		growthRow{"of a node in a minute", func(g result.Growth) result.Value { return g.MessagesPerNodeMin }})
}

func growthMemory(r *result.Run) (Chart, bool) {
	return growth(r, Chart{
		ID: "growth-memory", Title: "Memory as the overlay grows", Caption: "Memory of the simulation for each node; a node of its own needs more.",
		Y: Axis{Label: "memory for each node", Unit: binaryBytes, Low: at(0)},
	}, growthRow{"heap", func(g result.Growth) result.Value { return g.HeapPerNode }})
}

// growthCells is a row of the table of growth.
func growthCells(g result.Growth) []string {
	heap := "–"
	if v, ok := g.HeapPerNode.Get(); ok {
		heap = bytesUnit(v)
	}
	return []string{grouped(fmt.Sprint(g.Nodes)), result.Plain.Write(g.Log2), result.Plain.Write(g.HopsMean), result.Plain.Write(g.MessagesPerLookup),
		result.Plain.Write(g.MessagesPerNodeMin), result.Millis.Write(g.P50MS), result.Millis.Write(g.P95MS), result.Ratio.Write(g.Success), heap}
}
