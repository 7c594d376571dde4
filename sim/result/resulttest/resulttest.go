// Package resulttest makes up results for tests of what reads them. Its numbers come from a random source, never from a
// simulation; nothing but a test may use them.
package resulttest

import (
	"math"
	"math/rand/v2"
	"time"

	"p2psip/sim/result"
)

// Example is a run with everything in it: what slow multiplies the delays by, and lossy is the share that fails. The same
// arguments give the same run.
func Example(seed uint64, slow, lossy float64) *result.Run {
	rng := rand.New(rand.NewPCG(seed, 1))
	samples := func(n int, ms float64) []result.Sample {
		out := make([]result.Sample, n)
		for i := range out {
			s := result.Sample{
				At:   time.Duration(rng.Int64N(int64(time.Hour))),
				Took: time.Duration((ms*0.5 + rng.ExpFloat64()*ms*0.6) * slow * float64(time.Millisecond)),
				OK:   rng.Float64() >= lossy,
				Hops: 1 + rng.IntN(4), Messages: 5 + rng.IntN(20), Bytes: 1000 + rng.IntN(4000),
			}
			if s.At > 20*time.Minute && s.At < 24*time.Minute { // something happens
				s.Took *= 2
				s.OK = s.OK && rng.Float64() >= 2*lossy
			}
			out[i] = s
		}
		return out
	}
	p := &result.PerNode{}
	for range 200 {
		p.Position = append(p.Position, rng.Float64())
		p.Requests = append(p.Requests, math.Floor(20+rng.ExpFloat64()*60))
		p.Records = append(p.Records, float64(rng.IntN(20)))
		p.Bytes = append(p.Bytes, float64(100_000+rng.IntN(400_000)))
	}
	hot := func(skew float64) (served result.Numbers) {
		for range 500 {
			served = append(served, math.Floor(5*math.Pow(1/(rng.Float64()+0.001), skew)))
		}
		return served
	}
	r := &result.Run{
		Format: result.Format, Name: "mass-failure", Nodes: 200, Seed: seed,
		Scenario: "nodes 200\nrtt 80ms\nkill 20%@20m\nusers 100\ncalls 5/s\nduration 1h\nseed 1\n",
		WallS:    12.5 + rng.Float64(), VirtualS: 3600,
		Lookup:  result.Summarize(samples(2000, 160), time.Minute),
		Publish: result.Summarize(samples(300, 700), 2*time.Minute),
		Unknown: result.Summarize(samples(300, 450), 2*time.Minute),
		Fresh:   result.Share(1990, 2000), MessagesPerNodeMin: result.V(31 + rng.Float64()), IdleBytesPerS: result.V(310 + 20*rng.Float64()),
		Calls: result.SummarizeCalls(samples(1000, 300), time.Minute),
		HotKey: &result.HotKey{Way: "both", Ways: []result.HotWay{
			result.NewHotWay("naive", samples(500, 160), hot(1.1), 81_000),
			result.NewHotWay("cached", samples(500, 40), hot(0.8), 16_000),
			result.NewHotWay("sharded", samples(500, 180), hot(0.3), 96_000),
			result.NewHotWay("both", samples(500, 50), hot(0.15), 21_000),
		}},
		PerNode: p, Load: result.NewLoads(p),
		Alive:  []result.Point{{AtS: 0, Value: 200}, {AtS: 1200, Value: 160}, {AtS: 3600, Value: 160}},
		Marks:  []result.Mark{{AtS: 1200, Text: "20 % of the nodes die"}},
		Stock:  &result.Stock{Lookup: result.Summarize(samples(100, 9000), time.Minute), Publish: result.Summarize(samples(100, 20000), 0)},
		Limits: result.Baselines{{Name: "log2(N)", Measure: "lookup.hops_mean", Value: result.V(math.Log2(200)), Source: "theory: one contact for each bit of the key"}},
		Notes:  []string{"Made up for a test: no simulation gave these figures."},
		Self:   &result.Self{CPUS: result.V(24), HeapPeakBytes: result.V(1 << 30), Messages: result.V(1_234_567)},
	}
	r.HotKey.MaxOverMedian = r.HotKey.Ways[3].MaxOverMedian
	var direct []float64
	for range 400 {
		direct = append(direct, 40+80*rng.Float64())
	}
	d := result.NewDelays(direct)
	r.Direct = &d
	for _, n := range []int{10, 30, 100, 300, 1000, 3000, 10_000} {
		r.Growth = append(r.Growth, result.Growth{
			Nodes: n, Log2: result.Log2(n), HopsMean: result.V(0.5 * math.Log2(float64(n)) * (0.9 + 0.2*rng.Float64())),
			MessagesPerLookup: result.V(4 * math.Log2(float64(n))), MessagesPerNodeMin: result.V(20 + 3*math.Log2(float64(n))),
			P50MS: result.V(60 + 12*math.Log2(float64(n))), P95MS: result.V(140 + 25*math.Log2(float64(n))),
			Success: result.V(1), HeapPerNode: result.V(77_000 + 3e6/float64(n)),
		})
	}
	r.Hostile = &result.Hostile{
		Share: result.V(0.1), Kinds: []result.HostileKind{{Name: "liars", Nodes: 20}}, Lies: 5000, Lookups: 2300, Refused: 700,
		Victim: result.Summarize(samples(200, 300), 5*time.Minute),
	}
	for _, share := range []float64{0, 0.05, 0.1, 0.2, 0.3} {
		bad := result.V(1 - share*share*rng.Float64())
		r.Hostile.Sweep = append(r.Hostile.Sweep, result.HostileShare{
			Share: result.V(share), LookupSuccess: bad, PublishSuccess: bad, UnknownSuccess: bad, Fresh: bad, VictimSuccess: bad,
			LookupP50MS: result.V(70), LookupP95MS: result.V(200 + 500*share), LookupMessages: result.V(14),
			PublishP95MS: result.V(900 + 3000*share), UnknownP95MS: result.V(800 + 3000*share), VictimP95MS: result.V(250 + 900*share),
			Refused: int(3000 * share),
		})
	}
	r.Calls.Stale = result.V(0.002)
	for _, name := range []string{"lookup", "connect", "signalling"} {
		var took []time.Duration
		for range 50 {
			took = append(took, time.Duration((50+rng.ExpFloat64()*90)*float64(time.Millisecond)))
		}
		r.Calls.Parts = append(r.Calls.Parts, result.SummarizePart(name, took))
	}
	r.Calls.Flows = []result.Flow{{Name: "overlay to overlay", Count: 10, OK: 9, Success: result.Share(9, 10)}}
	return r
}
