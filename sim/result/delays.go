package result

import "slices"

// MaxSamples is how many numbers a distribution keeps at most: 1,000 steps of a thousandth and both ends.
const MaxSamples = 1001

// Delays is a distribution, kept so that its curve can be drawn: all the samples up to MaxSamples of them, above that as
// many quantiles, from the smallest to the largest at equal steps.
type Delays struct {
	N  int     `json:"n"`  // how many there were
	MS Numbers `json:"ms"` // ascending, milliseconds
}

// NewDelays keeps a distribution of samples in any order, in milliseconds.
func NewDelays(ms []float64) Delays {
	s := slices.Clone(ms)
	slices.Sort(s)
	return Delays{N: len(s), MS: quantiles(s)}
}

// quantiles gives at most MaxSamples of the sorted samples, at equal steps.
func quantiles(sorted []float64) Numbers {
	out := make(Numbers, 0, min(len(sorted), MaxSamples))
	if len(sorted) <= MaxSamples {
		for _, v := range sorted {
			out = append(out, rounded(v))
		}
		return out
	}
	for i := range MaxSamples {
		out = append(out, rounded(sorted[i*(len(sorted)-1)/(MaxSamples-1)]))
	}
	return out
}

// At gives the share of the samples that took at most so many milliseconds, from 0 to 1.
func (d Delays) At(ms float64) float64 {
	if len(d.MS) == 0 {
		return 0
	}
	i, _ := slices.BinarySearchFunc(d.MS, ms, func(v, ms float64) int {
		if v <= ms {
			return -1
		}
		return 1
	})
	return float64(i) / float64(len(d.MS))
}
