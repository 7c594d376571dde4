package report

import (
	"fmt"
	"math"
	"strings"
)

// Chart is one figure of the report.
type Chart struct {
	ID      string // a word: file name and anchor
	Title   string
	Caption string // how to read it
	X, Y    Axis
	Series  []Series
	Marks   []Mark    // events along X
	Levels  []Level   // horizontal lines to compare with
	Bars    []Bar     // instead of Series: one bar for each name, along X
	Finding string    // what it shows, in a sentence
	rug     []float64 // small strokes along X
}

// Axis is one axis. Its ends are found from what is drawn, and widened to Low and High.
type Axis struct {
	Label     string
	Log       bool
	Unit      unit
	Low, High *float64
}

// Series is a curve.
type Series struct {
	Name   string
	Points []point // in the units of the axes; y grows upwards
	Style  style
}

type style int

const (
	ours     style = iota // a full line
	baseline              // dashed: somebody else's, or theory
	filled                // a line with the space below it filled
	dotted                // a line with a dot for each point
)

// Mark is an event at a place along X.
type Mark struct {
	At   float64
	Text string
}

// Level is a horizontal line to compare with; in a chart of bars a vertical one.
type Level struct {
	At    float64
	Text  string
	AtEnd bool // the text stands at the right, not at the left
}

// Bar is one named quantity.
type Bar struct {
	Name  string
	Value float64
	Text  string // how the value is written
	Ink   int
}

// unit is how an axis writes its numbers.
type unit int

const (
	plain unit = iota
	millis
	percents
	seconds // virtual time: 10 min, 2 h
	binaryBytes
	times // 3×
)

func (u unit) write(v float64) string {
	short := func(v float64) string { return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".") }
	switch u {
	case millis:
		if v >= 1000 {
			return short(v/1000) + " s"
		}
		return short(v) + " ms"
	case percents:
		return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", v*100), "0"), ".") + " %"
	case seconds:
		switch {
		case v >= 3600:
			return short(v/3600) + " h"
		case v >= 60:
			return short(v/60) + " min"
		}
		return short(v) + " s"
	case binaryBytes:
		for _, p := range []struct {
			of   float64
			name string
		}{{1 << 30, " GiB"}, {1 << 20, " MiB"}, {1 << 10, " KiB"}} {
			if v >= p.of*0.9995 {
				return short(v/p.of) + p.name
			}
		}
		return short(v) + " B"
	case times:
		return short(v) + "×"
	}
	switch {
	case v >= 1e6:
		return short(v/1e6) + " M"
	case v >= 1e4:
		return short(v/1e3) + " k"
	}
	return short(v)
}

// Describe says in words what the chart shows, for those who do not see it.
func (c Chart) Describe() string {
	parts := []string{c.Caption}
	if c.Finding != "" {
		parts = append(parts, c.Finding)
	}
	var names []string
	for _, s := range c.Series {
		names = append(names, s.Name)
	}
	for _, b := range c.Bars {
		names = append(names, b.Name+" "+b.Text)
	}
	for _, l := range c.Levels {
		names = append(names, l.Text)
	}
	if len(names) > 0 {
		parts = append(parts, "Shown: "+strings.Join(names, "; ")+".")
	}
	for _, m := range c.Marks {
		parts = append(parts, fmt.Sprintf("At %s: %s.", c.X.Unit.write(m.At), m.Text))
	}
	return strings.Join(parts, " ")
}

// ends gives the ends of an axis for the values on it.
func (a Axis) ends(values []float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) || a.Log && v <= 0 {
			continue
		}
		lo, hi = min(lo, v), max(hi, v)
	}
	if a.Low != nil {
		lo = min(lo, *a.Low)
	}
	if a.High != nil {
		hi = max(hi, *a.High)
	}
	switch {
	case lo > hi:
		lo, hi = 0, 1
		if a.Log {
			lo, hi = 1, 10
		}
	case a.Log && hi/lo < 4:
		lo, hi = lo/2, hi*2
	case lo == hi && lo == 0:
		hi = 1
	case lo == hi:
		lo, hi = lo-math.Abs(lo)/2, hi+math.Abs(hi)/2
	}
	return lo, hi
}

// ticks gives the places of an axis to be named.
func (a Axis) ticks(lo, hi float64) []float64 {
	var out []float64
	if a.Log {
		steps := []float64{1, 2, 5}
		if decades := math.Log10(hi / lo); decades > 4 {
			steps = []float64{1}
		} else if decades > 2 {
			steps = []float64{1, 3}
		}
		if a.Unit == plain && math.Log10(hi/lo) > 2 {
			steps = []float64{1}
		}
		for e := math.Floor(math.Log10(lo)); e <= math.Ceil(math.Log10(hi)); e++ {
			for _, s := range steps {
				if v := s * math.Pow(10, e); v >= lo*(1-1e-9) && v <= hi*(1+1e-9) {
					out = append(out, v)
				}
			}
		}
		return out
	}
	step := niceStep((hi-lo)/5, a.Unit)
	for i := math.Ceil(lo/step - 1e-9); i*step <= hi+step*1e-9 && len(out) < 20; i++ {
		out = append(out, i*step+0) // never −0
	}
	return out
}

// niceStep rounds a step up to one that people count in.
func niceStep(step float64, u unit) float64 {
	if u == seconds && step > 1 {
		for _, s := range []float64{2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400} {
			if step <= s {
				return s
			}
		}
	}
	if u == binaryBytes && step > 1 {
		return math.Pow(2, math.Ceil(math.Log2(step)))
	}
	e := math.Pow(10, math.Floor(math.Log10(step)))
	for _, s := range []float64{1, 2, 5, 10} {
		if step <= s*e*(1+1e-9) {
			return s * e
		}
	}
	return 10 * e
}

// End gives the height at which a curve ends.
func (s Series) End() float64 {
	if len(s.Points) == 0 {
		return 0
	}
	return s.Points[len(s.Points)-1].y
}
