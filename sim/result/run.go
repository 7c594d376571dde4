package result

import "math"

// Format is the version of the JSON form.
const Format = 1

// Run is what one simulation has shown, or several of them with different seeds (see Combine).
type Run struct {
	Format   int     `json:"format"`
	Name     string  `json:"name"`     // of the scenario, one word: "steady"
	Scenario string  `json:"scenario"` // the whole scenario in its text form, so that the run can be done again
	Nodes    int     `json:"nodes"`    // at most, at one time
	Seed     uint64  `json:"seed"`
	WallS    float64 `json:"wall_s"`    // seconds the run took; not the same twice
	VirtualS float64 `json:"virtual_s"` // seconds that passed inside

	Lookup  *Operation `json:"lookup"`  // of known users, to the first record
	Publish *Operation `json:"publish"` // Registrations.Set, to the write quorum
	Unknown *Operation `json:"unknown"` // of users nobody has; success is "no such user" heard
	Connect *Operation `json:"connect"` // to the node of a user that was found, where that was measured
	Fresh   Value      `json:"fresh"`   // share of the records found that were the newest there is, 0 to 1

	MessagesPerNodeMin Value `json:"messages_per_node_min"` // requests and replies sent, for each living node and minute
	IdleBytesPerS      Value `json:"idle_bytes_per_s"`      // sent by a node that nobody uses

	Calls   *Calls   `json:"calls"`
	HotKey  *HotKey  `json:"hotkey"`
	Hostile *Hostile `json:"hostile"` // nil: all nodes were honest
	Load    *Loads   `json:"load"`

	PerNode *PerNode  `json:"per_node"`
	Alive   []Point   `json:"alive"`  // living nodes over time
	Marks   []Mark    `json:"marks"`  // what happened when: "20 % of the nodes die"
	Growth  []Growth  `json:"growth"` // one for each size, smallest first
	Stock   *Stock    `json:"stock"`  // kad-dht's own calls in the same network
	Direct  *Delays   `json:"direct"` // one round trip between two nodes that do not need to search: the physical limit
	Limits  Baselines `json:"baselines"`

	Seeds     []uint64   `json:"seeds"`     // when there were several
	Intervals []Interval `json:"intervals"` // 95 % confidence over the seeds, by key

	Notes []string `json:"notes"` // what a reader has to know: what was left out, what limits the run
	Self  *Self    `json:"self"`  // the run as a program; not the same twice
}

// Operation is one kind of thing done often.
type Operation struct {
	Count   int   `json:"count"` // tried
	OK      int   `json:"ok"`    // succeeded
	Success Value `json:"success"`

	P50MS  Value `json:"p50_ms"`
	P95MS  Value `json:"p95_ms"`
	P99MS  Value `json:"p99_ms"`
	MaxMS  Value `json:"max_ms"`
	MeanMS Value `json:"mean_ms"`

	HopsMean     Value `json:"hops_mean"`
	HopsP95      Value `json:"hops_p95"`
	MessagesMean Value `json:"messages_mean"` // for one operation
	BytesMean    Value `json:"bytes_mean"`    // for one operation

	Delays   Delays   `json:"delays"`
	OverTime []Bucket `json:"over_time"`
}

// Calls is what callers feel: from the INVITE to the ringing. Counted are calls whose callee's phone was registered from
// the beginning to the end; a call goes well if it takes the course that its two people want: it rings, is answered and
// ended by either of them, or is refused or given up, and nothing of it remains in any phone or node.
type Calls struct {
	Count      int      `json:"count"`
	OK         int      `json:"ok"`
	Success    Value    `json:"success"`
	SetupP50MS Value    `json:"setup_p50_ms"`
	SetupP95MS Value    `json:"setup_p95_ms"`
	SetupP99MS Value    `json:"setup_p99_ms"`
	Stale      Value    `json:"stale"` // share of the calls sent to a device that has left
	Parts      []Part   `json:"parts"` // where the time went: lookup, connect, signalling, ICE; those that were simulated
	Flows      []Flow   `json:"flows"` // the draft's call flows, those that were simulated
	Delays     Delays   `json:"delays"`
	OverTime   []Bucket `json:"over_time"`

	Register     *Operation `json:"register"`      // from a phone's first REGISTER to its 200
	Failures     []Failure  `json:"failures"`      // what callers heard that nobody wanted
	SlowFailures int        `json:"slow_failures"` // of those, heard more than 4 s after the INVITE
	Away         int        `json:"away"`          // calls to users who were not there
	Left         int        `json:"left"`          // calls during which the callee's phone went away
	Unended      int        `json:"unended"`       // not over when the run ended
	Remains      int        `json:"remains"`       // calls of which something was left over in a phone or node
	Branches     int        `json:"branches"`      // copies of an INVITE meant for another node
	BranchesDead int        `json:"branches_dead"` // of those, for a node that had left
}

// Failure is one way in which calls fail.
type Failure struct {
	Callee string `json:"callee"` // the callee's phone was "there", "away", or "left" meanwhile
	Status int    `json:"status"` // the final response to the INVITE
	Count  int    `json:"count"`
	P50MS  Value  `json:"p50_ms"` // from the INVITE until the caller heard of it
	P95MS  Value  `json:"p95_ms"`
	MaxMS  Value  `json:"max_ms"`
}

// Part is a share of a call's set-up.
type Part struct {
	Name   string `json:"name"`
	MeanMS Value  `json:"mean_ms"`
	P50MS  Value  `json:"p50_ms"`
	P95MS  Value  `json:"p95_ms"`
	Delays Delays `json:"delays"`
}

// Flow is one of the draft's call flows.
type Flow struct {
	Name    string `json:"name"`
	Count   int    `json:"count"`
	OK      int    `json:"ok"`
	Success Value  `json:"success"`
	P50MS   Value  `json:"p50_ms"`
	P95MS   Value  `json:"p95_ms"`
}

// Bucket is what was tried in a stretch of virtual time.
type Bucket struct {
	AtS   float64 `json:"at_s"` // its beginning
	Count int     `json:"count"`
	OK    int     `json:"ok"`
	P95MS Value   `json:"p95_ms"`
}

// Point is a value at a time.
type Point struct {
	AtS   float64 `json:"at_s"`
	Value float64 `json:"value"`
}

// Mark is an event of the scenario.
type Mark struct {
	AtS  float64 `json:"at_s"`
	Text string  `json:"text"`
}

// HotKey is what a key that everybody wants does to the nodes that hold it.
type HotKey struct {
	MaxOverMedian Value    `json:"max_over_median"` // of the way that is in use
	Way           string   `json:"way"`             // its name
	Ways          []HotWay `json:"ways"`            // measured beside each other: naive, cached, sharded, both
}

// HotWay is one way to find a hot key.
type HotWay struct {
	Name          string  `json:"name"`
	Finders       int     `json:"finders"`
	Success       Value   `json:"success"`
	P50MS         Value   `json:"p50_ms"`
	P95MS         Value   `json:"p95_ms"`
	Max           Value   `json:"max"`    // requests served by the busiest node
	Median        Value   `json:"median"` // by the node in the middle
	MaxOverMedian Value   `json:"max_over_median"`
	P99OverMedian Value   `json:"p99_over_median"`
	Gini          Value   `json:"gini"`
	Messages      Value   `json:"messages"` // in total
	Used          *Load   `json:"used"`     // how often each of those found was the first one given
	PerNode       Numbers `json:"per_node"` // requests served, ascending; at most MaxSamples quantiles
}

// PerNode has one number for each node, all rows in the same order; a row that was not measured is empty.
type PerNode struct {
	Position Numbers `json:"position"` // in the key space: the node's Kademlia key as a fraction from 0 to 1
	Requests Numbers `json:"requests"` // served for others
	Records  Numbers `json:"records"`  // stored for others at the end
	Bytes    Numbers `json:"bytes"`    // sent
	Messages Numbers `json:"messages"` // sent
}

// Loads is how evenly the work is shared.
type Loads struct {
	Requests *Load `json:"requests"`
	Records  *Load `json:"records"`
	Bytes    *Load `json:"bytes"`
	Messages *Load `json:"messages"`
}

// Growth is what one size of the overlay cost.
type Growth struct {
	Nodes              int   `json:"nodes"`
	Log2               Value `json:"log2_nodes"` // theory beside the hops
	HopsMean           Value `json:"hops_mean"`
	MessagesPerLookup  Value `json:"messages_per_lookup"`
	MessagesPerNodeMin Value `json:"messages_per_node_min"`
	IdleBytesPerS      Value `json:"idle_bytes_per_s"`
	P50MS              Value `json:"p50_ms"`
	P95MS              Value `json:"p95_ms"`
	Success            Value `json:"success"`
	HeapPerNode        Value `json:"heap_per_node"` // bytes of the simulation; nearly the same twice, so it is not part of the promise
}

// Stock is the same network with kad-dht's own PutValue and GetValue in place of ours.
type Stock struct {
	Lookup  *Operation `json:"lookup"`
	Publish *Operation `json:"publish"`
	Unknown *Operation `json:"unknown"`
}

// Baseline is a figure of somebody else, or of theory, beside one of ours.
type Baseline struct {
	Name    string `json:"name"`
	Measure string `json:"measure"` // the key it stands beside: "lookup.p50_ms"
	Value   Value  `json:"value"`
	Source  string `json:"source"`
}

// Baselines is a list of them.
type Baselines []Baseline

// Self is the run as a program.
type Self struct {
	CPUS           Value `json:"cpu_s"`
	HeapPeakBytes  Value `json:"heap_peak_bytes"`
	RSSPeakBytes   Value `json:"rss_peak_bytes"`
	GoroutinesPeak Value `json:"goroutines_peak"`
	Messages       Value `json:"messages"`
	MessagesPerS   Value `json:"messages_per_s"` // of wall time

	// What is in use at the end, after a collection: objects and the stacks of goroutines, for each node that is up.
	LivePerNodeBytes Value `json:"live_per_node_bytes"`
}

// Strip takes away what differs between two runs with the same seed.
func (r *Run) Strip() {
	r.WallS, r.Self = 0, nil
	for i := range r.Growth {
		r.Growth[i].HeapPerNode = Value{}
	}
}

// Log2 gives the hops that theory expects among n nodes.
func Log2(n int) Value {
	if n < 1 {
		return Value{}
	}
	return V(math.Log2(float64(n)))
}

// GrowthPoint gives the run as one point of a growth curve.
func (r *Run) GrowthPoint() Growth {
	g := Growth{Nodes: r.Nodes, Log2: Log2(r.Nodes), MessagesPerNodeMin: r.MessagesPerNodeMin, IdleBytesPerS: r.IdleBytesPerS}
	if o := r.Lookup; o != nil {
		g.HopsMean, g.MessagesPerLookup, g.P50MS, g.P95MS, g.Success = o.HopsMean, o.MessagesMean, o.P50MS, o.P95MS, o.Success
	}
	if r.Self != nil && r.Nodes > 0 {
		if live := r.Self.LivePerNodeBytes; live.Known() {
			g.HeapPerNode = live
		} else if heap, ok := r.Self.HeapPeakBytes.Get(); ok {
			g.HeapPerNode = V(heap / float64(r.Nodes))
		}
	}
	return g
}
