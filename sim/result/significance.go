package result

import (
	"math"
	"slices"
)

// Welch gives the two-sided probability that the means of two groups differ so much by chance, by Welch's t-test. Each group
// needs two values.
func Welch(a, b []float64) float64 {
	if len(a) < 2 || len(b) < 2 {
		return 1
	}
	va, vb := variance(a)/float64(len(a)), variance(b)/float64(len(b))
	d := mean(a) - mean(b)
	if va+vb == 0 {
		if d == 0 {
			return 1
		}
		return 0
	}
	df := (va + vb) * (va + vb) / (va*va/float64(len(a)-1) + vb*vb/float64(len(b)-1))
	return tTail(d/math.Sqrt(va+vb), df)
}

// MannWhitney gives the two-sided probability that two ascending groups of samples come from one distribution, by the
// rank-sum test with the normal approximation, corrected for ties and continuity; good from 8 samples on.
func MannWhitney(a, b []float64) float64 {
	n, m := float64(len(a)), float64(len(b))
	if n == 0 || m == 0 {
		return 1
	}
	all := slices.Concat(a, b)
	slices.Sort(all)
	var ranks, ties float64 // the sum of a's ranks; Σ(t³−t) over groups of equal values
	i := 0
	for j := 0; j < len(all); {
		end := j
		for end < len(all) && all[end] == all[j] {
			end++
		}
		t := float64(end - j)
		ties += t*t*t - t
		rank := float64(j+end+1) / 2
		for i < len(a) && a[i] == all[j] {
			ranks += rank
			i++
		}
		j = end
	}
	u := ranks - n*(n+1)/2
	total := n + m
	sigma := math.Sqrt(n * m / 12 * (total + 1 - ties/(total*(total-1))))
	if sigma == 0 || math.IsNaN(sigma) {
		return 1
	}
	z := max(0, math.Abs(u-n*m/2)-0.5) / sigma
	return math.Erfc(z / math.Sqrt2)
}

// Fisher gives the two-sided probability that two shares, a of n and b of m, differ so much by chance, by Fisher's exact test:
// the sum of all tables with these margins that are no more likely than this one.
func Fisher(a, n, b, m int) float64 {
	hits := a + b
	if n <= 0 || m <= 0 || a < 0 || b < 0 || a > n || b > m || hits == 0 || hits == n+m {
		return 1
	}
	if n+m-hits < hits { // count the rarer of the two
		a, b = n-a, m-b
		hits = a + b
	}
	choose := func(n, k int) float64 {
		x, _ := math.Lgamma(float64(n + 1))
		y, _ := math.Lgamma(float64(k + 1))
		z, _ := math.Lgamma(float64(n - k + 1))
		return x - y - z
	}
	all := choose(n+m, hits)
	table := func(k int) float64 { return choose(n, k) + choose(m, hits-k) - all }
	here := table(a) + 1e-7
	lo, hi := max(0, hits-m), min(hits, n)
	if hi-lo > 1_000_000 { // more than that is as good as normal
		p := float64(hits) / float64(n+m)
		z := (float64(a)/float64(n) - float64(b)/float64(m)) / math.Sqrt(p*(1-p)*(1/float64(n)+1/float64(m)))
		return math.Erfc(math.Abs(z) / math.Sqrt2)
	}
	var sum float64
	for k := lo; k <= hi; k++ {
		if t := table(k); t <= here {
			sum += math.Exp(t)
		}
	}
	return min(1, sum)
}
