package sim_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"p2psip/sim"
	"p2psip/sim/network"
	"p2psip/sim/result"
)

// octets gives what must be the same with one seed.
func octets(t *testing.T, r *result.Run) []byte {
	t.Helper()
	r.Strip()
	var b bytes.Buffer
	if err := result.Write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// shaken runs a scenario while the goroutines of every instant are brought into a random order: each gives way at random at
// everything that its host does. It gives the sequence of all happenings, too.
func shaken(t *testing.T, s sim.Scenario, procs int, shake bool) (json []byte, trace []network.Event) {
	t.Helper()
	var mu sync.Mutex
	r, err := sim.RunProbed(context.Background(), s, procs, func(e network.Event) {
		if e.What == network.Happens {
			mu.Lock()
			trace = append(trace, e)
			mu.Unlock()
		}
		for shake && rand.IntN(2) == 0 {
			runtime.Gosched()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return octets(t, r), trace
}

// TestRunSameSeed: one seed gives the same octets, in whatever order the goroutines of one instant run, on one processor or
// two; another seed gives others. Where two runs part, the first happening in which they differ is told.
func TestRunSameSeed(t *testing.T) {
	for i, c := range []struct{ name, lines string }{
		{"deaths", "kill 20%@10s\nloss 2%\nbandwidth 20000\nidle 20s\nduration 30s"},
		{"churn", "churn 40s\ndown 20s\nlookups 1/s\nunknown 0/s\npublishes 0/s\nduration 80s"},
		{"partition", "partition 30%@10s+30s\nduration 1m"},
		{"NAT", "nat port-filtering 40%\nlatency clustered\nduration 20s"},
	} {
		if testing.Short() && i > 0 {
			break
		}
		t.Run(c.name, func(t *testing.T) {
			s := small(t, "nodes 40\nusers 20\njoin 4s\nidle 0\n"+c.lines)
			want, reference := shaken(t, s, 1, false)
			got, trace := shaken(t, s, 1+i%2, true)
			if !bytes.Equal(got, want) {
				t.Error("other results with another order of goroutines")
			}
			for i, e := range trace[:min(len(trace), len(reference))] {
				if e != reference[i] {
					t.Fatalf("they part at happening %d of %d: %+v, and before %+v", i, len(reference), e, reference[i])
				}
			}
			if i == 0 {
				s.Seed++
				if other, _ := shaken(t, s, 1, false); bytes.Equal(other, want) {
					t.Error("another seed gave the same")
				}
			}
		})
	}
}
