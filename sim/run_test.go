package sim_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"p2psip/sim"
	"p2psip/sim/result"
)

// small is an overlay that a test can afford.
func small(t *testing.T, lines string) sim.Scenario {
	t.Helper()
	s, err := sim.ParseScenario("nodes 60\nusers 30\njoin 6s\nsettle 20s\nidle 1m\nduration 1m\nlookups 4/s\nunknown 1/s\npublishes 1/s")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(lines) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err := s.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func run(t *testing.T, s sim.Scenario) *result.Run {
	t.Helper()
	r, err := sim.Run(context.Background(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func known(t *testing.T, name string, v result.Value, lo, hi float64) {
	t.Helper()
	if x, ok := v.Get(); !ok || x < lo || x > hi {
		t.Errorf("%s is %v, expected between %g and %g", name, v, lo, hi)
	}
}

func TestRun(t *testing.T) {
	begin := time.Now()
	s := small(t, "")
	var calls atomic.Int64
	r, err := sim.Run(context.Background(), s, func(p result.Progress) {
		calls.Add(1)
		if p.Done < 0 || p.Done > 1 || p.TotalS != 146 {
			t.Errorf("%+v", p)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if calls.Load() == 0 {
		t.Error("nobody was told of progress")
	}
	known(t, "lookup.success", r.Lookup.Success, 1, 1)
	known(t, "lookup.p50", r.Lookup.P50MS, 20, 200)
	known(t, "lookup.hops", r.Lookup.HopsMean, 1, 3)
	known(t, "publish.success", r.Publish.Success, 1, 1)
	known(t, "publish.p95", r.Publish.P95MS, 100, 2000)
	known(t, "unknown.success", r.Unknown.Success, 1, 1)
	known(t, "fresh", r.Fresh, 0.99, 1)
	known(t, "messages_per_node_min", r.MessagesPerNodeMin, 1, 1000)
	known(t, "idle_bytes_per_s", r.IdleBytesPerS, 10, 20000)
	known(t, "load.requests.max_over_median", r.Load.Requests.MaxOverMedian, 1, 20)
	if r.VirtualS < 146 || r.VirtualS > 147 || len(r.PerNode.Bytes) != 60 || r.Direct == nil {
		t.Errorf("virtual %g s, %d nodes", r.VirtualS, len(r.PerNode.Bytes))
	}
	if err := r.Validate(); err != nil {
		t.Error(err)
	}
	t.Logf("%v of wall time", time.Since(begin))
}

// TestRunKill: silent deaths cost time, not success.
func TestRunKill(t *testing.T) {
	r := run(t, small(t, "kill 30%@10s\nidle 0\nduration 90s"))
	known(t, "lookup.success", r.Lookup.Success, 0.99, 1)
	known(t, "publish.success", r.Publish.Success, 0.95, 1)
	if len(r.Marks) != 1 || r.Alive[len(r.Alive)-1].Value != 42 {
		t.Errorf("%v, %v", r.Marks, r.Alive[len(r.Alive)-1])
	}
	if r.IdleBytesPerS.Known() {
		t.Error("idle traffic was not measured, and yet is there")
	}
}

// TestRunChurn: nodes come and go, and come back under the same name.
func TestRunChurn(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	r := run(t, small(t, "idle 0\nduration 10m\nchurn 3m\ndown 1m\nlookups 1/s\nunknown 0/s\npublishes 0/s"))
	known(t, "lookup.success", r.Lookup.Success, 0.99, 1)
	known(t, "fresh", r.Fresh, 0.9, 1)
	least, most := 60.0, 0.0
	for _, p := range r.Alive[len(r.Alive)/2:] {
		least, most = min(least, p.Value), max(most, p.Value)
	}
	if least < 25 || most > 58 {
		t.Errorf("between %g and %g of 60 nodes up, about 45 expected", least, most)
	}
}

// TestRunPartition: what is cut off is found again when it is healed.
func TestRunPartition(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	r := run(t, small(t, "idle 0\nduration 8m\npartition 30%@1m+2m\nlookups 3/s\nunknown 0/s"))
	known(t, "lookup.success", r.Lookup.Success, 0.6, 1)
	last := r.Lookup.OverTime[len(r.Lookup.OverTime)-5:]
	for _, b := range last {
		if b.OK < b.Count {
			t.Errorf("at %g s only %d of %d were found", b.AtS, b.OK, b.Count)
		}
	}
}

func TestRunStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := sim.Run(ctx, small(t, "duration 10m"), nil); !errors.Is(err, sim.ErrStopped) {
		t.Errorf("got %v", err)
	}
	bad := sim.DefaultScenario()
	bad.Nodes = 1
	if _, err := sim.Run(context.Background(), bad, nil); err == nil {
		t.Error("one node is no overlay")
	}
}
