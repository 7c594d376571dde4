package result

import "math"

// published are figures that others have printed. Each is as in its source and was measured in a network of their own, so it
// is something to stand beside, not something to beat.
var published = Baselines{
	{
		Name: "BitTorrent's Mainline DHT with changed clients, upper end of \"100 to 200 ms\"", Measure: "lookup.p50_ms", Value: V(200),
		Source: "R. Jimenez, F. Osmani, B. Knutsson: Sub-Second Lookups on a Large-Scale Kademlia-Based Overlay. IEEE P2P 2011, doi 10.1109/P2P.2011.6038665",
	},
	{
		Name: "IPFS provider records, lower end of \"around six to seven seconds\"", Measure: "publish.p50_ms", Value: V(6000),
		Source: "D. Trautwein: Design and Evaluation of IPFS, talk at IETF 118 (2023), summary at probelab.io",
	},
}

// AddBaselines puts beside the figures that a run has what theory, physics and others say: log2(N) hops, the direct round
// trip, and published figures. What is there already stays, and is not added twice.
func (r *Run) AddBaselines() {
	var list Baselines
	if o := r.Lookup; o != nil {
		if o.HopsMean.Known() && r.Nodes > 1 {
			list = append(list, Baseline{
				Name: "log2(N)", Measure: "lookup.hops_mean", Value: V(math.Log2(float64(r.Nodes))),
				Source: "theory: each hop settles one bit of the key",
			})
		}
		if d := r.Direct; d != nil && o.P50MS.Known() {
			list = append(list,
				Baseline{Name: "direct round trip", Measure: "lookup.p50_ms", Value: Percentile(d.MS, 50), Source: "the simulated network: nobody who has to ask can be faster"},
				Baseline{Name: "direct round trip", Measure: "lookup.p95_ms", Value: Percentile(d.MS, 95), Source: "the simulated network"},
			)
		}
	}
	has := map[string]bool{}
	for _, m := range r.Measures() {
		has[m.Key] = m.Value.Known()
	}
	for _, b := range published {
		if has[b.Measure] {
			list = append(list, b)
		}
	}
	for _, b := range list {
		there := false
		for _, old := range r.Limits {
			there = there || old.Name == b.Name && old.Measure == b.Measure
		}
		if !there && b.Value.Known() {
			r.Limits = append(r.Limits[:len(r.Limits):len(r.Limits)], b)
		}
	}
}
