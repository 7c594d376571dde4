package result

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// Validate tells whether a run is within bounds and makes sense. It says which key is wrong.
func (r *Run) Validate() error {
	c := &checker{}
	c.that(r.Format == Format, "format")
	c.name("name", r.Name)
	c.text("scenario", r.Scenario)
	c.count("nodes", r.Nodes)
	c.that(r.Nodes <= 100_000_000, "nodes")
	c.number("wall_s", r.WallS)
	c.number("virtual_s", r.VirtualS)
	c.operation("lookup", r.Lookup)
	c.operation("publish", r.Publish)
	c.operation("unknown", r.Unknown)
	c.operation("connect", r.Connect)
	c.share("fresh", r.Fresh)
	c.values("", r.MessagesPerNodeMin, r.IdleBytesPerS)
	c.calls(r.Calls)
	c.hotKey(r.HotKey)
	c.hostile(r.Hostile)
	if l := r.Load; l != nil {
		c.load("load.requests", l.Requests)
		c.load("load.records", l.Records)
		c.load("load.bytes", l.Bytes)
		c.load("load.messages", l.Messages)
	}
	c.perNode(r.PerNode)
	c.length("alive", len(r.Alive), MaxPoints)
	for i, p := range r.Alive {
		c.number("alive", p.AtS)
		c.number("alive", p.Value)
		c.that(i == 0 || r.Alive[i-1].AtS <= p.AtS, "alive: out of order")
	}
	c.length("marks", len(r.Marks), MaxList)
	for _, m := range r.Marks {
		c.number("marks", m.AtS)
		c.name("marks", m.Text)
	}
	c.length("growth", len(r.Growth), MaxList)
	for i, g := range r.Growth {
		c.count("growth", g.Nodes)
		c.that(i == 0 || r.Growth[i-1].Nodes <= g.Nodes, "growth: out of order")
		c.share("growth.success", g.Success)
		c.values("growth", g.Log2, g.HopsMean, g.MessagesPerLookup, g.MessagesPerNodeMin, g.IdleBytesPerS, g.P50MS, g.P95MS, g.HeapPerNode)
	}
	if s := r.Stock; s != nil {
		c.operation("stock.lookup", s.Lookup)
		c.operation("stock.publish", s.Publish)
		c.operation("stock.unknown", s.Unknown)
	}
	if r.Direct != nil {
		c.delays("direct", *r.Direct)
	}
	c.length("baselines", len(r.Limits), MaxList)
	for _, b := range r.Limits {
		c.name("baselines", b.Name)
		c.name("baselines", b.Measure)
		c.text("baselines", b.Source)
		c.values("baselines", b.Value)
	}
	c.length("seeds", len(r.Seeds), MaxList)
	c.length("intervals", len(r.Intervals), MaxList)
	for _, iv := range r.Intervals {
		c.name("intervals", iv.Key)
		c.row("intervals", iv.Values, MaxList)
	}
	c.length("notes", len(r.Notes), MaxList)
	for _, n := range r.Notes {
		c.text("notes", n)
	}
	if s := r.Self; s != nil {
		c.values("self", s.CPUS, s.HeapPeakBytes, s.RSSPeakBytes, s.GoroutinesPeak, s.Messages, s.MessagesPerS, s.LivePerNodeBytes)
	}
	return c.err
}

// checker keeps the first thing that is wrong.
type checker struct{ err error }

func (c *checker) that(ok bool, what string) {
	if !ok && c.err == nil {
		c.err = fmt.Errorf("%s is out of bounds", what)
	}
}

func (c *checker) count(key string, n int) { c.that(n >= 0 && n <= 1e15, key) }

func (c *checker) length(key string, n, most int) { c.that(n <= most, key+": the list") }

func (c *checker) number(key string, v float64) { c.that(v >= 0 && v <= largest, key) }

func (c *checker) values(key string, vs ...Value) {
	for _, v := range vs {
		c.number(key, v.Or(0))
	}
}

func (c *checker) share(key string, v Value) { c.that(v.Or(0) >= 0 && v.Or(0) <= 1, key) }

func (c *checker) name(key, s string) {
	ok := len(s) <= MaxName && utf8.ValidString(s)
	for _, r := range s {
		ok = ok && r >= ' ' && r != 0x7f
	}
	c.that(ok, key)
}

func (c *checker) text(key, s string) {
	ok := len(s) <= MaxText && utf8.ValidString(s)
	for _, r := range s {
		ok = ok && (r >= ' ' || r == '\n' || r == '\t') && r != 0x7f
	}
	c.that(ok, key)
}

func (c *checker) row(key string, n Numbers, most int) {
	c.length(key, len(n), most)
	for _, v := range n {
		c.that(!math.IsNaN(v) && math.Abs(v) <= largest, key)
	}
}

func (c *checker) ascending(key string, n Numbers, most int) {
	c.row(key, n, most)
	for i, v := range n {
		c.that(v >= 0 && (i == 0 || n[i-1] <= v), key+": out of order")
	}
}

func (c *checker) delays(key string, d Delays) {
	c.count(key+".n", d.N)
	c.that(len(d.MS) <= d.N || d.N == 0 && len(d.MS) == 0, key+".n")
	c.ascending(key+".ms", d.MS, MaxSamples)
}

func (c *checker) tally(key string, count, ok int, success Value) {
	c.count(key+".count", count)
	c.that(ok >= 0 && ok <= count, key+".ok")
	c.share(key+".success", success)
}

func (c *checker) buckets(key string, list []Bucket) {
	c.length(key, len(list), MaxPoints)
	for i, b := range list {
		c.number(key, b.AtS)
		c.tally(key, b.Count, b.OK, Value{})
		c.values(key, b.P95MS)
		c.that(i == 0 || list[i-1].AtS <= b.AtS, key+": out of order")
	}
}

func (c *checker) operation(key string, o *Operation) {
	if o == nil {
		return
	}
	c.tally(key, o.Count, o.OK, o.Success)
	c.values(key, o.P50MS, o.P95MS, o.P99MS, o.MaxMS, o.MeanMS, o.HopsMean, o.HopsP95, o.MessagesMean, o.BytesMean)
	c.delays(key+".delays", o.Delays)
	c.buckets(key+".over_time", o.OverTime)
}

func (c *checker) calls(k *Calls) {
	if k == nil {
		return
	}
	c.tally("calls", k.Count, k.OK, k.Success)
	c.share("calls.stale", k.Stale)
	c.values("calls", k.SetupP50MS, k.SetupP95MS, k.SetupP99MS)
	c.delays("calls.delays", k.Delays)
	c.buckets("calls.over_time", k.OverTime)
	c.length("calls.parts", len(k.Parts), MaxList)
	for _, p := range k.Parts {
		c.name("calls.parts", p.Name)
		c.values("calls.parts", p.MeanMS, p.P50MS, p.P95MS)
		c.delays("calls.parts.delays", p.Delays)
	}
	c.operation("calls.register", k.Register)
	c.length("calls.failures", len(k.Failures), MaxList)
	for _, f := range k.Failures {
		c.name("calls.failures", f.Callee)
		c.that(f.Status >= 0 && f.Status <= 699, "calls.failures.status")
		c.count("calls.failures", f.Count)
		c.values("calls.failures", f.P50MS, f.P95MS, f.MaxMS)
	}
	for _, n := range []int{k.SlowFailures, k.Away, k.Left, k.Unended, k.Remains, k.Branches, k.BranchesDead} {
		c.count("calls", n)
	}
	c.length("calls.flows", len(k.Flows), MaxList)
	for _, f := range k.Flows {
		c.name("calls.flows", f.Name)
		c.tally("calls.flows", f.Count, f.OK, f.Success)
		c.values("calls.flows", f.P50MS, f.P95MS)
	}
}

func (c *checker) load(key string, l *Load) {
	if l == nil {
		return
	}
	c.values(key, l.Max, l.P99, l.Median, l.Mean, l.MaxOverMedian, l.P99OverMedian)
	c.share(key+".gini", l.Gini)
}

func (c *checker) hotKey(h *HotKey) {
	if h == nil {
		return
	}
	c.name("hotkey.way", h.Way)
	c.values("hotkey", h.MaxOverMedian)
	c.length("hotkey.ways", len(h.Ways), MaxList)
	for _, w := range h.Ways {
		c.name("hotkey.ways", w.Name)
		c.count("hotkey.ways", w.Finders)
		c.share("hotkey.ways", w.Success)
		c.share("hotkey.ways", w.Gini)
		c.load("hotkey.ways.used", w.Used)
		c.values("hotkey.ways", w.P50MS, w.P95MS, w.Max, w.Median, w.MaxOverMedian, w.P99OverMedian, w.Messages)
		c.ascending("hotkey.ways", w.PerNode, MaxSamples)
	}
}

func (c *checker) perNode(p *PerNode) {
	if p == nil {
		return
	}
	n := 0
	for _, row := range []Numbers{p.Position, p.Requests, p.Records, p.Bytes, p.Messages} {
		c.row("per_node", row, MaxNodes)
		for _, v := range row {
			c.that(v >= 0, "per_node")
		}
		if len(row) == 0 {
			continue
		}
		c.that(n == 0 || n == len(row), "per_node: rows of unequal length, one")
		n = len(row)
	}
	for _, v := range p.Position {
		c.that(v <= 1, "per_node.position")
	}
}
