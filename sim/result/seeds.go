package result

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Combine puts runs of one scenario with different seeds together, in the order of their seeds. Each figure becomes the mean
// over the seeds, with its confidence interval in Intervals. Counts are added, and distributions are pooled, so that the
// curves show all of them. What belongs to one network only (the nodes' loads one by one, growth, marks) is the first seed's.
func Combine(runs []*Run) (*Run, error) {
	if len(runs) == 0 {
		return nil, errors.New("no run to put together")
	}
	runs = slices.Clone(runs)
	slices.SortStableFunc(runs, func(a, b *Run) int {
		switch {
		case a.Seed < b.Seed:
			return -1
		case a.Seed > b.Seed:
			return +1
		}
		return 0
	})
	first := runs[0]
	if len(runs) == 1 {
		return first, nil
	}
	for i, r := range runs {
		switch {
		case i > 0 && r.Seed == runs[i-1].Seed:
			return nil, fmt.Errorf("two runs have the seed %d", r.Seed)
		case r.Name != first.Name:
			return nil, fmt.Errorf("runs of different scenarios: %q and %q", first.Name, r.Name)
		case len(r.Seeds) > 0:
			return nil, errors.New("a run that has been put together already")
		}
	}
	out := *first
	out.Seeds, out.WallS = nil, 0
	for _, r := range runs {
		out.Seeds = append(out.Seeds, r.Seed)
		out.WallS = rounded(out.WallS + r.WallS)
		out.Nodes = max(out.Nodes, r.Nodes)
		for _, n := range r.Notes {
			if !slices.Contains(out.Notes, n) {
				out.Notes = append(slices.Clip(out.Notes), n)
			}
		}
	}
	out.Intervals = intervals(runs)
	mean := func(key string, v *Value) {
		*v = Value{}
		if iv, ok := out.Interval(key); ok {
			*v = iv.Mean
		}
	}
	pick := func(f func(*Run) *Operation) (list []*Operation) {
		for _, r := range runs {
			if o := f(r); o != nil {
				list = append(list, o)
			}
		}
		return list
	}
	operation := func(key string, f func(*Run) *Operation) *Operation {
		o := pooled(pick(f))
		if o == nil {
			return nil
		}
		mean(key+".success", &o.Success)
		mean(key+".p50_ms", &o.P50MS)
		mean(key+".p95_ms", &o.P95MS)
		mean(key+".p99_ms", &o.P99MS)
		mean(key+".hops_mean", &o.HopsMean)
		mean(key+".messages_mean", &o.MessagesMean)
		mean(key+".bytes_mean", &o.BytesMean)
		return o
	}
	out.Lookup = operation("lookup", func(r *Run) *Operation { return r.Lookup })
	out.Publish = operation("publish", func(r *Run) *Operation { return r.Publish })
	out.Hostile = poolHostile(runs)
	if out.Hostile != nil && out.Hostile.Victim != nil {
		v := *out.Hostile.Victim
		mean("hostile.victim.success", &v.Success)
		mean("hostile.victim.p50_ms", &v.P50MS)
		mean("hostile.victim.p95_ms", &v.P95MS)
		mean("hostile.victim.p99_ms", &v.P99MS)
		out.Hostile.Victim = &v
	}
	out.Connect = operation("connect", func(r *Run) *Operation { return r.Connect })
	out.Unknown = operation("unknown", func(r *Run) *Operation { return r.Unknown })
	if first.Stock != nil {
		stock := func(f func(*Stock) *Operation) func(*Run) *Operation {
			return func(r *Run) *Operation {
				if r.Stock == nil {
					return nil
				}
				return f(r.Stock)
			}
		}
		out.Stock = &Stock{
			Lookup:  operation("stock.lookup", stock(func(s *Stock) *Operation { return s.Lookup })),
			Publish: operation("stock.publish", stock(func(s *Stock) *Operation { return s.Publish })),
			Unknown: operation("stock.unknown", stock(func(s *Stock) *Operation { return s.Unknown })),
		}
	}
	mean("fresh", &out.Fresh)
	mean("messages_per_node_min", &out.MessagesPerNodeMin)
	mean("idle_bytes_per_s", &out.IdleBytesPerS)
	out.Calls = combineCalls(runs, mean)
	if first.HotKey != nil {
		hot := *first.HotKey
		hot.Ways = slices.Clone(hot.Ways)
		mean("hotkey.max_over_median", &hot.MaxOverMedian)
		for i := range hot.Ways {
			w := &hot.Ways[i]
			mean("hotkey.ways."+w.Name+".max_over_median", &w.MaxOverMedian)
			mean("hotkey.ways."+w.Name+".messages", &w.Messages)
			mean("hotkey.ways."+w.Name+".p95_ms", &w.P95MS)
		}
		out.HotKey = &hot
	}
	out.Load = combineLoads(first.Load, mean)
	out.Self = combineSelves(runs)
	return &out, nil
}

// intervals gives the interval of every figure that every run has.
func intervals(runs []*Run) []Interval {
	values := map[string][]float64{}
	for _, r := range runs {
		for _, m := range r.Measures() {
			if v, ok := m.Value.Get(); ok {
				values[m.Key] = append(values[m.Key], v)
			}
		}
	}
	var out []Interval
	for _, m := range runs[0].Measures() {
		if v := values[m.Key]; len(v) == len(runs) && len(out) < MaxList {
			iv := NewInterval(m.Key, v)
			if iv.Low.Known() { // no figure is negative, no share above 1
				iv.Low = V(max(0, iv.Low.Or(0)))
				if m.Unit == Ratio {
					iv.High = V(min(1, iv.High.Or(0)))
				}
			}
			out = append(out, iv)
		}
	}
	return out
}

// pooled adds the counts of operations and pools their delays.
func pooled(list []*Operation) *Operation {
	if len(list) == 0 {
		return nil
	}
	out := &Operation{}
	var delays []Delays
	var times [][]Bucket
	var hops, means, largestMS []float64
	for _, o := range list {
		out.Count += o.Count
		out.OK += o.OK
		delays = append(delays, o.Delays)
		times = append(times, o.OverTime)
		hops = appendKnown(hops, o.HopsP95)
		means = appendKnown(means, o.MeanMS)
		largestMS = appendKnown(largestMS, o.MaxMS)
	}
	out.HopsP95, out.MeanMS = Mean(hops), Mean(means)
	if len(largestMS) > 0 {
		out.MaxMS = V(slices.Max(largestMS))
	}
	out.Delays, out.OverTime = poolDelays(delays), poolBuckets(times)
	return out
}

func appendKnown(list []float64, v Value) []float64 {
	if f, ok := v.Get(); ok {
		return append(list, f)
	}
	return list
}

// poolDelays puts distributions together; each kept sample stands for as many as it was taken from.
func poolDelays(list []Delays) Delays {
	type weighted struct{ ms, weight float64 }
	var all []weighted
	var out Delays
	for _, d := range list {
		out.N += d.N
		for _, v := range d.MS {
			all = append(all, weighted{v, float64(d.N) / float64(len(d.MS))})
		}
	}
	if len(all) == 0 {
		return out
	}
	slices.SortFunc(all, func(a, b weighted) int {
		switch {
		case a.ms < b.ms:
			return -1
		case a.ms > b.ms:
			return +1
		}
		return 0
	})
	n := min(len(all), MaxSamples)
	var total float64
	for _, w := range all {
		total += w.weight
	}
	var passed float64
	at := 0
	for i := range n {
		share := 1.0
		if n > 1 {
			share = float64(i) / float64(n-1)
		}
		for at < len(all)-1 && passed+all[at].weight <= share*total*(1-1e-12) {
			passed += all[at].weight
			at++
		}
		out.MS = append(out.MS, all[at].ms)
	}
	return out
}

// poolBuckets adds the counts of the same stretches; their 95th percentiles are averaged.
func poolBuckets(list [][]Bucket) []Bucket {
	at := map[float64]*Bucket{}
	slow := map[float64][]float64{}
	for _, buckets := range list {
		for _, b := range buckets {
			sum := at[b.AtS]
			if sum == nil {
				sum = &Bucket{AtS: b.AtS}
				at[b.AtS] = sum
			}
			sum.Count += b.Count
			sum.OK += b.OK
			slow[b.AtS] = appendKnown(slow[b.AtS], b.P95MS)
		}
	}
	var out []Bucket
	for s, b := range at {
		b.P95MS = Mean(slow[s])
		out = append(out, *b)
	}
	slices.SortFunc(out, func(a, b Bucket) int {
		if a.AtS < b.AtS {
			return -1
		}
		return +1
	})
	return out[:min(len(out), MaxPoints)]
}

func combineCalls(runs []*Run, mean func(string, *Value)) *Calls {
	var list []*Operation
	for _, r := range runs {
		if k := r.Calls; k != nil {
			list = append(list, &Operation{Count: k.Count, OK: k.OK, Delays: k.Delays, OverTime: k.OverTime})
		}
	}
	o := pooled(list)
	if o == nil || runs[0].Calls == nil {
		return nil
	}
	k := *runs[0].Calls
	k.Count, k.OK, k.Delays, k.OverTime = o.Count, o.OK, o.Delays, o.OverTime
	mean("calls.success", &k.Success)
	mean("calls.setup_p50_ms", &k.SetupP50MS)
	mean("calls.setup_p95_ms", &k.SetupP95MS)
	mean("calls.setup_p99_ms", &k.SetupP99MS)
	mean("calls.stale", &k.Stale)
	combineCallCounts(&k, runs, mean)
	k.Parts, k.Flows = slices.Clone(k.Parts), slices.Clone(k.Flows)
	for i := range k.Parts {
		p := &k.Parts[i]
		mean("calls.parts."+p.Name+".p50_ms", &p.P50MS)
		mean("calls.parts."+p.Name+".p95_ms", &p.P95MS)
	}
	for i := range k.Flows {
		f := &k.Flows[i]
		f.Count, f.OK = 0, 0
		for _, r := range runs {
			if r.Calls == nil {
				continue
			}
			for _, g := range r.Calls.Flows {
				if g.Name == f.Name {
					f.Count += g.Count
					f.OK += g.OK
				}
			}
		}
		mean("calls.flows."+f.Name+".success", &f.Success)
		mean("calls.flows."+f.Name+".p95_ms", &f.P95MS)
	}
	return &k
}

// combineCallCounts adds what was counted, and pools the failures: their times are the longest and the means of the seeds'.
func combineCallCounts(k *Calls, runs []*Run, mean func(string, *Value)) {
	k.SlowFailures, k.Away, k.Left, k.Unended, k.Remains, k.Branches, k.BranchesDead = 0, 0, 0, 0, 0, 0, 0
	type kind struct {
		callee string
		status int
	}
	failures := map[kind][]Failure{}
	var kinds []kind
	var registers []*Operation
	for _, r := range runs {
		c := r.Calls
		if c == nil {
			continue
		}
		k.SlowFailures += c.SlowFailures
		k.Away += c.Away
		k.Left += c.Left
		k.Unended += c.Unended
		k.Remains += c.Remains
		k.Branches += c.Branches
		k.BranchesDead += c.BranchesDead
		for _, f := range c.Failures {
			id := kind{f.Callee, f.Status}
			if failures[id] == nil {
				kinds = append(kinds, id)
			}
			failures[id] = append(failures[id], f)
		}
		if c.Register != nil {
			registers = append(registers, c.Register)
		}
	}
	slices.SortFunc(kinds, func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.callee, b.callee), cmp.Compare(a.status, b.status))
	})
	k.Failures = nil
	for _, id := range kinds {
		sum := Failure{Callee: id.callee, Status: id.status}
		var p50, p95, longest []float64
		for _, f := range failures[id] {
			sum.Count += f.Count
			p50, p95, longest = appendKnown(p50, f.P50MS), appendKnown(p95, f.P95MS), appendKnown(longest, f.MaxMS)
		}
		sum.P50MS, sum.P95MS = Mean(p50), Mean(p95)
		if len(longest) > 0 {
			sum.MaxMS = V(slices.Max(longest))
		}
		k.Failures = append(k.Failures, sum)
	}
	if k.Register = pooled(registers); k.Register != nil {
		mean("calls.register.success", &k.Register.Success)
		mean("calls.register.p50_ms", &k.Register.P50MS)
		mean("calls.register.p95_ms", &k.Register.P95MS)
		mean("calls.register.p99_ms", &k.Register.P99MS)
	}
}

func combineLoads(first *Loads, mean func(string, *Value)) *Loads {
	if first == nil {
		return nil
	}
	one := func(key string, l *Load) *Load {
		if l == nil {
			return nil
		}
		c := *l
		mean("load."+key+".max_over_median", &c.MaxOverMedian)
		mean("load."+key+".p99_over_median", &c.P99OverMedian)
		mean("load."+key+".gini", &c.Gini)
		return &c
	}
	return &Loads{
		Requests: one("requests", first.Requests), Records: one("records", first.Records),
		Bytes: one("bytes", first.Bytes), Messages: one("messages", first.Messages),
	}
}

// combineSelves adds what the runs took, one after the other; what was highest stays so.
func combineSelves(runs []*Run) *Self {
	var out *Self
	for _, r := range runs {
		s := r.Self
		switch {
		case s == nil:
			return nil
		case out == nil:
			c := *s
			out = &c
			continue
		}
		add := func(to *Value, v Value) {
			if to.Known() && v.Known() {
				*to = V(to.Or(0) + v.Or(0))
			}
		}
		highest := func(to *Value, v Value) {
			if to.Known() && v.Known() {
				*to = V(max(to.Or(0), v.Or(0)))
			}
		}
		add(&out.CPUS, s.CPUS)
		add(&out.Messages, s.Messages)
		highest(&out.HeapPeakBytes, s.HeapPeakBytes)
		highest(&out.RSSPeakBytes, s.RSSPeakBytes)
		highest(&out.GoroutinesPeak, s.GoroutinesPeak)
		highest(&out.LivePerNodeBytes, s.LivePerNodeBytes)
		out.MessagesPerS = Value{}
	}
	return out
}
