package result

import (
	"math"
	"slices"
)

// Percentile gives the p-th percentile (0 to 100) of ascending samples by nearest rank: the smallest sample that at least p
// percent of them do not exceed.
func Percentile(sorted []float64, p float64) Value {
	n := len(sorted)
	if n == 0 {
		return Value{}
	}
	rank := int(math.Ceil(p/100*float64(n) - 1e-9))
	return V(sorted[min(max(rank, 1), n)-1])
}

// Mean is the arithmetic mean.
func Mean(samples []float64) Value {
	if len(samples) == 0 {
		return Value{}
	}
	return V(mean(samples))
}

// mean adds with Kahan's correction: so the order of a million samples does not show.
func mean(samples []float64) float64 {
	var sum, lost float64
	for _, v := range samples {
		y := v - lost
		t := sum + y
		lost = (t - sum) - y
		sum = t
	}
	return sum / float64(len(samples))
}

// variance is the sample variance (n−1), of two samples at least.
func variance(samples []float64) float64 {
	m := mean(samples)
	var sum float64
	for _, v := range samples {
		sum += (v - m) * (v - m)
	}
	return sum / float64(len(samples)-1)
}

// Gini is the Gini coefficient of numbers that are not negative: half the mean difference between any two, relative to
// the mean.
func Gini(samples []float64) Value {
	s := slices.Clone(samples)
	slices.Sort(s)
	var sum, weighted float64
	for i, v := range s {
		sum += v
		weighted += float64(i+1) * v
	}
	n := float64(len(s))
	switch {
	case n == 0:
		return Value{}
	case sum == 0:
		return V(0)
	}
	return V(2*weighted/(n*sum) - (n+1)/n)
}

// Interval is a figure over several seeds: its mean and the 95 % confidence interval of that mean by Student's t.
type Interval struct {
	Key    string  `json:"key"`
	Mean   Value   `json:"mean"`
	Low    Value   `json:"low"`
	High   Value   `json:"high"`
	Values Numbers `json:"values"` // by seed
}

// NewInterval gives the interval of one value for each seed. With one value only there is no interval around it.
func NewInterval(key string, values []float64) Interval {
	iv := Interval{Key: key, Mean: Mean(values), Values: make(Numbers, len(values))}
	for i, v := range values {
		iv.Values[i] = rounded(v)
	}
	if n := len(values); n > 1 {
		half := tQuantile(0.975, float64(n-1)) * math.Sqrt(variance(values)/float64(n))
		iv.Low, iv.High = V(mean(values)-half), V(mean(values)+half)
	}
	return iv
}

// tTail gives the two-sided tail of Student's t with so many degrees of freedom: the probability of |t| or more.
func tTail(t, df float64) float64 {
	if math.IsInf(t, 0) {
		return 0
	}
	return incompleteBeta(df/2, 0.5, df/(df+t*t))
}

// tQuantile gives the t that p of the distribution stays below, for p over 0.5.
func tQuantile(p, df float64) float64 {
	lo, hi := 0.0, 1.0
	for 1-tTail(hi, df)/2 < p && hi < 1e9 {
		hi *= 2
	}
	for range 200 {
		mid := (lo + hi) / 2
		if 1-tTail(mid, df)/2 < p {
			lo = mid
		} else {
			hi = mid
		}
	}
	return (lo + hi) / 2
}

// incompleteBeta is the regularized incomplete beta function, by its continued fraction (Lentz's method).
func incompleteBeta(a, b, x float64) float64 {
	switch {
	case x <= 0:
		return 0
	case x >= 1:
		return 1
	case x > (a+1)/(a+b+2):
		return 1 - incompleteBeta(b, a, 1-x)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab-la-lb+a*math.Log(x)+b*math.Log1p(-x)) / a
	const tiny = 1e-300
	c, d := 1.0, 1-(a+b)*x/(a+1)
	if math.Abs(d) < tiny {
		d = tiny
	}
	d = 1 / d
	f := d
	for m := 1.0; m <= 500; m++ {
		for _, n := range [2]float64{
			m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m)),
			-(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1)),
		} {
			if d = 1 + n*d; math.Abs(d) < tiny {
				d = tiny
			}
			if c = 1 + n/c; math.Abs(c) < tiny {
				c = tiny
			}
			d = 1 / d
			f *= d * c
		}
		if math.Abs(d*c-1) < 1e-14 {
			break
		}
	}
	return front * f
}
