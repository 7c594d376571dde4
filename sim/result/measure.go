package result

import (
	"fmt"
	"math"
)

// Measure is one figure of a run under its JSON key.
type Measure struct {
	Key    string // "lookup.p50_ms"
	Title  string // "lookup, half of them within"
	Unit   Unit
	Better int // −1: less is better, +1: more is better, 0: neither
	Value  Value
}

// Unit tells how a figure is written for people.
type Unit int

// The units.
const (
	Plain  Unit = iota
	Millis      // milliseconds
	Ratio       // a share, 0 to 1, written as percents
	Bytes
	BytesPerS
)

// Measures gives every figure that is one number, in the order in which they are shown; those not measured too.
func (r *Run) Measures() []Measure {
	m := []Measure{}
	add := func(key, title string, u Unit, better int, v Value) {
		m = append(m, Measure{key, title, u, better, v})
	}
	operation := func(key, title string, o *Operation) {
		if o == nil {
			o = &Operation{}
		}
		add(key+".success", title+" succeeds", Ratio, +1, o.Success)
		add(key+".p50_ms", title+", half within", Millis, -1, o.P50MS)
		add(key+".p95_ms", title+", 95 % within", Millis, -1, o.P95MS)
		add(key+".p99_ms", title+", 99 % within", Millis, -1, o.P99MS)
		add(key+".hops_mean", title+", hops", Plain, -1, o.HopsMean)
		add(key+".messages_mean", title+", messages", Plain, -1, o.MessagesMean)
		add(key+".bytes_mean", title+", bytes", Bytes, -1, o.BytesMean)
	}
	operation("lookup", "finding a user", r.Lookup)
	operation("publish", "registering", r.Publish)
	operation("unknown", "hearing of no such user", r.Unknown)
	if r.Connect != nil {
		operation("connect", "reaching the node of a user", r.Connect)
	}
	add("fresh", "found records that were the newest", Ratio, +1, r.Fresh)
	calls := r.Calls
	if calls == nil {
		calls = &Calls{}
	}
	add("calls.success", "calls that go well", Ratio, +1, calls.Success)
	add("calls.setup_p50_ms", "call set-up, half within", Millis, -1, calls.SetupP50MS)
	add("calls.setup_p95_ms", "call set-up, 95 % within", Millis, -1, calls.SetupP95MS)
	add("calls.setup_p99_ms", "call set-up, 99 % within", Millis, -1, calls.SetupP99MS)
	add("calls.stale", "calls sent to a device that has left", Ratio, -1, calls.Stale)
	if calls.Register != nil {
		operation("calls.register", "REGISTER to its 200", calls.Register)
	}
	for _, p := range calls.Parts {
		add("calls.parts."+p.Name+".p50_ms", "call set-up, "+p.Name+", half within", Millis, -1, p.P50MS)
		add("calls.parts."+p.Name+".p95_ms", "call set-up, "+p.Name+", 95 % within", Millis, -1, p.P95MS)
	}
	for _, f := range calls.Flows {
		add("calls.flows."+f.Name+".success", "call flow "+f.Name+" succeeds", Ratio, +1, f.Success)
		add("calls.flows."+f.Name+".p95_ms", "call flow "+f.Name+", 95 % within", Millis, -1, f.P95MS)
	}
	add("messages_per_node_min", "messages of a node in a minute", Plain, -1, r.MessagesPerNodeMin)
	add("idle_bytes_per_s", "an idle node sends", BytesPerS, -1, r.IdleBytesPerS)
	loads := r.Load
	if loads == nil {
		loads = &Loads{}
	}
	load := func(key, title string, l *Load) {
		if l == nil {
			l = &Load{}
		}
		add("load."+key+".max_over_median", title+", busiest over middle node", Plain, -1, l.MaxOverMedian)
		add("load."+key+".p99_over_median", title+", 99 % over middle node", Plain, -1, l.P99OverMedian)
		add("load."+key+".gini", title+", Gini", Plain, -1, l.Gini)
	}
	load("requests", "requests served", loads.Requests)
	load("records", "records stored", loads.Records)
	load("bytes", "bytes sent", loads.Bytes)
	load("messages", "messages sent", loads.Messages)
	hot := r.HotKey
	if hot == nil {
		hot = &HotKey{}
	}
	add("hotkey.max_over_median", "hot key, busiest over middle node", Plain, -1, hot.MaxOverMedian)
	for _, w := range hot.Ways {
		add("hotkey.ways."+w.Name+".max_over_median", "hot key, "+w.Name+", busiest over middle node", Plain, -1, w.MaxOverMedian)
		add("hotkey.ways."+w.Name+".messages", "hot key, "+w.Name+", messages in all", Plain, -1, w.Messages)
		add("hotkey.ways."+w.Name+".p95_ms", "hot key, "+w.Name+", 95 % within", Millis, -1, w.P95MS)
	}
	if h := r.Hostile; h != nil {
		add("hostile.wrong", "lookups that believed what no owner had signed", Plain, -1, V(float64(h.Wrong)))
		if h.Finds > 0 {
			add("hostile.wrong_finds", "searches for a role that believed what nobody entitled had signed", Plain, -1, V(float64(h.WrongFinds)))
		}
		if v := h.Victim; v != nil {
			operation("hostile.victim", "finding the victim, or by it", v)
		}
	}
	if r.Stock != nil {
		operation("stock.lookup", "kad-dht's own: finding a user", r.Stock.Lookup)
		operation("stock.publish", "kad-dht's own: registering", r.Stock.Publish)
		operation("stock.unknown", "kad-dht's own: hearing of no such user", r.Stock.Unknown)
	}
	return m
}

// Interval gives the confidence interval of a figure, if the run has several seeds.
func (r *Run) Interval(key string) (Interval, bool) {
	for _, iv := range r.Intervals {
		if iv.Key == key {
			return iv, true
		}
	}
	return Interval{}, false
}

// Write gives a figure for people: "212 ms", "99.9 %", "480 B/s".
func (u Unit) Write(v Value) string {
	f, ok := v.Get()
	if !ok {
		return "–"
	}
	switch u {
	case Millis:
		switch {
		case f < 10:
			return fmt.Sprintf("%.1f ms", f)
		case f < 1000:
			return fmt.Sprintf("%.0f ms", f)
		case f < 60_000:
			return fmt.Sprintf("%.2f s", f/1000)
		}
		return fmt.Sprintf("%.1f min", f/60_000)
	case Ratio:
		return percent(f)
	case Bytes, BytesPerS:
		s := ""
		switch {
		case f < 1000:
			s = fmt.Sprintf("%.0f B", f)
		case f < 1e6:
			s = fmt.Sprintf("%.1f kB", f/1e3)
		case f < 1e9:
			s = fmt.Sprintf("%.1f MB", f/1e6)
		default:
			s = fmt.Sprintf("%.1f GB", f/1e9)
		}
		if u == BytesPerS {
			s += "/s"
		}
		return s
	}
	switch {
	case f == math.Trunc(f):
		return fmt.Sprintf("%.0f", f)
	case f < 10:
		return fmt.Sprintf("%.2f", f)
	case f < 100:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

// percent writes a share. It never rounds to all or nothing what is neither.
func percent(f float64) string {
	switch {
	case f == 1:
		return "100 %"
	case f == 0:
		return "0 %"
	case f > 0.9995:
		return fmt.Sprintf("%.3f %%", min(f*100, 99.999))
	case f > 0.99:
		return fmt.Sprintf("%.2f %%", f*100)
	case f < 0.001:
		return fmt.Sprintf("%.3f %%", max(f*100, 0.001))
	}
	return fmt.Sprintf("%.1f %%", f*100)
}
