package result

import "slices"

// Load is how evenly something is shared between nodes.
type Load struct {
	Max    Value `json:"max"`
	P99    Value `json:"p99"`
	Median Value `json:"median"`
	Mean   Value `json:"mean"`
	Gini   Value `json:"gini"` // 0: all the same; 1: one node has it all

	// Ratios to the median. Where the middle node has less than one, one is taken: so the ratio is finite, and the maximum
	// itself.
	MaxOverMedian Value `json:"max_over_median"`
	P99OverMedian Value `json:"p99_over_median"`
}

// NewLoad gives the figures of one number for each node, in any order, none negative. Without nodes there are none.
func NewLoad(perNode []float64) *Load {
	if len(perNode) == 0 {
		return nil
	}
	s := slices.Clone(perNode)
	slices.Sort(s)
	l := &Load{
		Max: Percentile(s, 100), P99: Percentile(s, 99), Median: Percentile(s, 50), Mean: Mean(s), Gini: Gini(s),
	}
	middle := max(1, l.Median.Or(0))
	l.MaxOverMedian = V(l.Max.Or(0) / middle)
	l.P99OverMedian = V(l.P99.Or(0) / middle)
	return l
}

// NewLoads gives the figures of every row that was measured.
func NewLoads(p *PerNode) *Loads {
	if p == nil {
		return nil
	}
	return &Loads{
		Requests: NewLoad(p.Requests), Records: NewLoad(p.Records), Bytes: NewLoad(p.Bytes), Messages: NewLoad(p.Messages),
	}
}

// NewHotWay gives the figures of one way to find a hot key: the finders' samples and the requests each node served.
func NewHotWay(name string, finders []Sample, served []float64, messages uint64) HotWay {
	w := HotWay{Name: name, Finders: len(finders), Messages: V(float64(messages))}
	if o := Summarize(finders, 0); o != nil {
		w.Success, w.P50MS, w.P95MS = o.Success, o.P50MS, o.P95MS
	}
	if l := NewLoad(served); l != nil {
		w.Max, w.Median, w.Gini, w.MaxOverMedian, w.P99OverMedian = l.Max, l.Median, l.Gini, l.MaxOverMedian, l.P99OverMedian
	}
	s := slices.Clone(served)
	slices.Sort(s)
	w.PerNode = quantiles(s)
	return w
}
