package network

import (
	"math"
	"slices"
	"time"
)

// Latency gives the distance between hosts. Hosts are numbered in the order in which they were added.
type Latency interface {
	// OneWay gives the time a small packet takes from a to b, without jitter. It is symmetric and does not change.
	OneWay(a, b int) time.Duration
}

// Constant puts all hosts at the same distance.
func Constant(rtt time.Duration) Latency { return constant(rtt / 2) }

type constant time.Duration

func (c constant) OneWay(_, _ int) time.Duration { return time.Duration(c) }

// regions is a coarse matrix of round trips between populated parts of the world, in milliseconds, as public ping tables
// of cloud regions show them: western Europe, eastern Europe, eastern and western North America, South America, south
// Asia, east Asia, Oceania. Only the proportions matter, the matrix is scaled to the wanted median.
var regions = [8][8]float64{
	{20, 40, 90, 145, 190, 130, 230, 270},
	{40, 25, 115, 165, 220, 130, 220, 290},
	{90, 115, 25, 65, 120, 200, 170, 205},
	{145, 165, 65, 20, 175, 220, 110, 145},
	{190, 220, 120, 175, 30, 300, 270, 310},
	{130, 130, 200, 220, 300, 35, 85, 150},
	{230, 220, 170, 110, 270, 85, 35, 115},
	{270, 290, 205, 145, 310, 150, 115, 25},
}

// population is how the hosts spread over the regions, in percent.
var population = [8]int{28, 14, 18, 10, 8, 8, 10, 4}

// Clustered puts hosts into regions: near within, far between, by a matrix of measured proportions. The median over all
// pairs of hosts is about the wanted one.
func Clustered(seed uint64, median time.Duration) Latency {
	return scaled(seed, median, func(a, b int, scale float64) float64 {
		rtt := regions[region(seed, a)][region(seed, b)]
		return scale * rtt * math.Exp(0.15*normal(pair(seed, a, b)))
	})
}

func region(seed uint64, i int) int {
	h := int(hash(seed, 0x5e610, uint64(i)) % 100)
	for r, p := range population {
		if h -= p; h < 0 {
			return r
		}
	}
	return 0
}

// HeavyTailed resembles what was measured between hosts on the Internet (King, iPlane, Vivaldi's fit of them): hosts have
// a place in a plane, an access line in front of it that is slow for some (log-normal), and each pair its own detour. The
// median over all pairs of hosts is about the wanted one, the 95th percentile nearly three times that.
func HeavyTailed(seed uint64, median time.Duration) Latency {
	return scaled(seed, median, func(a, b int, scale float64) float64 {
		ax, ay, ah := place(seed, a)
		bx, by, bh := place(seed, b)
		return scale * (math.Hypot(ax-bx, ay-by) + ah + bh) * math.Exp(0.25*normal(pair(seed, a, b)))
	})
}

func place(seed uint64, i int) (x, y, height float64) {
	h := hash(seed, 0x91ace, uint64(i))
	return unit(mix(h + 1)), unit(mix(h + 2)), 0.08 * math.Exp(0.9*normal(mix(h+3)))
}

// pair gives the two hosts' own number, the same both ways.
func pair(seed uint64, a, b int) uint64 {
	if a > b {
		a, b = b, a
	}
	return hash(seed, 0x9a12, uint64(a), uint64(b))
}

type model struct {
	rtt   func(a, b int, scale float64) float64
	scale float64
}

// scaled finds the scale at which the median over a sample of pairs is the wanted one.
func scaled(seed uint64, median time.Duration, rtt func(a, b int, scale float64) float64) Latency {
	var sample []float64
	for i := range 4001 {
		h := hash(seed, 0x5ca1e, uint64(i))
		sample = append(sample, rtt(int(h%10007), int(mix(h)%10009)+10007, 1))
	}
	slices.Sort(sample)
	return model{rtt, float64(median) / sample[len(sample)/2]}
}

func (m model) OneWay(a, b int) time.Duration {
	return max(50*time.Microsecond, time.Duration(m.rtt(a, b, m.scale)/2))
}
