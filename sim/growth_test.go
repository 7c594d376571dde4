package sim_test

import (
	"fmt"
	"math"
	"testing"
)

func sprint(v any) string { return fmt.Sprint(v) }

// TestRunGrowth: one overlay grows over the run, and each stretch is measured by itself.
func TestRunGrowth(t *testing.T) {
	r := run(t, small(t, "grow 10 -> 40 over 3m\nduration 3m\nidle 0"))
	if n := len(r.Growth); n != 4 {
		t.Fatalf("%d points for two doublings", n)
	}
	for i, g := range r.Growth {
		want := 10 * math.Pow(2, (float64(i)+0.5)/2)
		if math.Abs(float64(g.Nodes)-want) > 0.15*want+1 {
			t.Errorf("point %d is at %d nodes, want %.0f", i, g.Nodes, want)
		}
		if math.Abs(g.Log2.Or(0)-math.Log2(float64(g.Nodes))) > 1e-6 {
			t.Errorf("the logarithm of %d is %v", g.Nodes, g.Log2)
		}
		known(t, "growth.success", g.Success, 0.98, 1)
		known(t, "growth.messages_per_node_min", g.MessagesPerNodeMin, 1, 1000)
		known(t, "growth.heap_per_node", g.HeapPerNode, 10_000, 5e6)
		if i > 0 && g.Nodes <= r.Growth[i-1].Nodes {
			t.Error("it does not grow")
		}
	}
	if r.Alive[0].Value > 12 || r.Alive[len(r.Alive)-1].Value != 40 {
		t.Errorf("from %g nodes to %g", r.Alive[0].Value, r.Alive[len(r.Alive)-1].Value)
	}
}
