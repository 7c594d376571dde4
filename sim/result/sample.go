package result

import (
	"math"
	"slices"
	"time"
)

// Sample is one operation as it was measured.
type Sample struct {
	At       time.Duration // when it began, since the beginning of the run
	Took     time.Duration // until it was settled
	OK       bool
	Hops     int // 0: not measured
	Messages int // 0: not measured
	Bytes    int // 0: not measured
}

// Summarize makes an operation of its samples. Buckets of the given width go over time; a width of 0 makes none. Without
// samples there is no operation.
func Summarize(samples []Sample, width time.Duration) *Operation {
	if len(samples) == 0 {
		return nil
	}
	o := &Operation{Count: len(samples)}
	var took, hops, messages, bytes []float64
	for _, s := range samples {
		if s.Messages > 0 {
			messages = append(messages, float64(s.Messages))
		}
		if s.Bytes > 0 {
			bytes = append(bytes, float64(s.Bytes))
		}
		if !s.OK {
			continue
		}
		o.OK++
		took = append(took, milliseconds(s.Took))
		if s.Hops > 0 {
			hops = append(hops, float64(s.Hops))
		}
	}
	slices.Sort(took)
	slices.Sort(hops)
	o.Success = Share(o.OK, o.Count)
	o.P50MS, o.P95MS, o.P99MS = Percentile(took, 50), Percentile(took, 95), Percentile(took, 99)
	o.MaxMS, o.MeanMS = Percentile(took, 100), Mean(took)
	o.HopsMean, o.HopsP95 = Mean(hops), Percentile(hops, 95)
	o.MessagesMean, o.BytesMean = Mean(messages), Mean(bytes)
	o.Delays = NewDelays(took)
	o.OverTime = Buckets(samples, width)
	return o
}

// SummarizeCalls makes the calls' figures of their samples; parts, flows and staleness are the caller's to fill in.
func SummarizeCalls(samples []Sample, width time.Duration) *Calls {
	o := Summarize(samples, width)
	if o == nil {
		return nil
	}
	return &Calls{
		Count: o.Count, OK: o.OK, Success: o.Success,
		SetupP50MS: o.P50MS, SetupP95MS: o.P95MS, SetupP99MS: o.P99MS,
		Delays: o.Delays, OverTime: o.OverTime,
	}
}

// Rang has the set-up's figures be those of the calls that rang, whatever became of them afterwards, and not of those that
// went well: among the latter are calls to a busy phone, which never rings.
func (k *Calls) Rang(samples []Sample, width time.Duration) {
	k.SetupP50MS, k.SetupP95MS, k.SetupP99MS, k.Delays = Value{}, Value{}, Value{}, Delays{}
	slow := map[float64]Value{}
	if o := Summarize(samples, width); o != nil {
		k.SetupP50MS, k.SetupP95MS, k.SetupP99MS, k.Delays = o.P50MS, o.P95MS, o.P99MS, o.Delays
		for _, b := range o.OverTime {
			slow[b.AtS] = b.P95MS
		}
	}
	for i := range k.OverTime {
		k.OverTime[i].P95MS = slow[k.OverTime[i].AtS]
	}
}

// SummarizePart makes a part of a call's set-up of its durations.
func SummarizePart(name string, took []time.Duration) Part {
	ms := make([]float64, len(took))
	for i, d := range took {
		ms[i] = milliseconds(d)
	}
	slices.Sort(ms)
	return Part{Name: name, MeanMS: Mean(ms), P50MS: Percentile(ms, 50), P95MS: Percentile(ms, 95), Delays: NewDelays(ms)}
}

// NewFailure makes the figures of one kind of failure of its durations.
func NewFailure(callee string, status int, took []time.Duration) Failure {
	ms := make([]float64, len(took))
	for i, d := range took {
		ms[i] = milliseconds(d)
	}
	slices.Sort(ms)
	return Failure{Callee: callee, Status: status, Count: len(ms), P50MS: Percentile(ms, 50), P95MS: Percentile(ms, 95), MaxMS: Percentile(ms, 100)}
}

// Buckets counts samples over time, from the first second on; stretches without a sample are left out.
func Buckets(samples []Sample, width time.Duration) []Bucket {
	if width <= 0 {
		return nil
	}
	type cell struct {
		count, ok int
		took      []float64
	}
	cells := map[int64]*cell{}
	for _, s := range samples {
		i := int64(math.Floor(float64(s.At) / float64(width)))
		c := cells[i]
		if c == nil {
			c = &cell{}
			cells[i] = c
		}
		c.count++
		if s.OK {
			c.ok++
			c.took = append(c.took, milliseconds(s.Took))
		}
	}
	keys := make([]int64, 0, len(cells))
	for i := range cells {
		keys = append(keys, i)
	}
	slices.Sort(keys)
	if len(keys) > MaxPoints {
		keys = keys[:MaxPoints]
	}
	out := make([]Bucket, 0, len(keys))
	for _, i := range keys {
		c := cells[i]
		slices.Sort(c.took)
		out = append(out, Bucket{
			AtS: rounded((time.Duration(i) * width).Seconds()), Count: c.count, OK: c.ok, P95MS: Percentile(c.took, 95),
		})
	}
	return out
}

func milliseconds(d time.Duration) float64 { return rounded(float64(d) / float64(time.Millisecond)) }
