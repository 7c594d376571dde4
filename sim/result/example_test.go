package result_test

import (
	"math/rand/v2"
	"time"

	"p2psip/sim/result"
)

// example is a run with everything in it, made of random numbers: what slow makes slower, and lossy makes fail.
func example(seed uint64, slow, lossy float64) *result.Run {
	rng := rand.New(rand.NewPCG(seed, 1))
	samples := func(n int, ms float64) []result.Sample {
		out := make([]result.Sample, n)
		for i := range out {
			out[i] = result.Sample{
				At:   time.Duration(rng.Int64N(int64(time.Hour))),
				Took: time.Duration((ms + rng.ExpFloat64()*ms) * slow * float64(time.Millisecond)),
				OK:   rng.Float64() >= lossy,
				Hops: 1 + rng.IntN(4), Messages: 5 + rng.IntN(20), Bytes: 1000 + rng.IntN(4000),
			}
		}
		return out
	}
	p := &result.PerNode{}
	for range 200 {
		p.Position = append(p.Position, rng.Float64())
		p.Requests = append(p.Requests, float64(rng.IntN(100)))
		p.Records = append(p.Records, float64(rng.IntN(20)))
	}
	r := &result.Run{
		Format: result.Format, Name: "steady", Scenario: "nodes 200\nrtt 80ms\n", Nodes: 200, Seed: seed,
		WallS: 12.5 + rng.Float64(), VirtualS: 3600,
		Lookup:  result.Summarize(samples(2000, 120), time.Minute),
		Publish: result.Summarize(samples(300, 500), time.Minute),
		Unknown: result.Summarize(samples(300, 400), time.Minute),
		Fresh:   result.Share(1990, 2000), MessagesPerNodeMin: result.V(31 + rng.Float64()), IdleBytesPerS: result.V(310),
		Calls: result.SummarizeCalls(samples(1000, 300), time.Minute),
		HotKey: &result.HotKey{Way: "both", MaxOverMedian: result.V(3.2), Ways: []result.HotWay{
			result.NewHotWay("naive", samples(100, 100), p.Requests, 1000),
		}},
		PerNode: p, Load: result.NewLoads(p),
		Alive:  []result.Point{{AtS: 0, Value: 200}, {AtS: 600, Value: 160}},
		Marks:  []result.Mark{{AtS: 600, Text: "20 % of the nodes die"}},
		Growth: []result.Growth{{Nodes: 10, HopsMean: result.V(1)}, {Nodes: 1000, HopsMean: result.V(2.7)}},
		Stock:  &result.Stock{Lookup: result.Summarize(samples(100, 9000), time.Minute)},
		Limits: result.Baselines{{Name: "direct round trip", Measure: "lookup.p50_ms", Value: result.V(80), Source: "the network simulated"}},
		Notes:  []string{"ICE is not simulated"},
		Self:   &result.Self{CPUS: result.V(24), HeapPeakBytes: result.V(1 << 30)},
	}
	r.Calls.Parts = []result.Part{result.SummarizePart("lookup", []time.Duration{time.Second, 2 * time.Second})}
	r.Calls.Flows = []result.Flow{{Name: "overlay to overlay", Count: 10, OK: 9, Success: result.Share(9, 10)}}
	return r
}
