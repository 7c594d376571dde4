package sim_test

import (
	"slices"
	"testing"

	"p2psip/sim/result"
)

// callers is a small overlay whose users have phones.
const callers = "nodes 30\nusers 20\nsettle 10s\nidle 0\nduration 2m\ncalls 1/s\ntalk 5s\nlookups 0/s\nunknown 0/s"

// TestCalls: people call each other through whole nodes, and every call takes the course they want.
func TestCalls(t *testing.T) {
	r := run(t, small(t, callers))
	k := r.Calls
	if k == nil {
		t.Fatal("no calls")
	}
	known(t, "calls.success", k.Success, 1, 1)
	if k.Count < 60 || k.Remains != 0 || len(k.Failures) != 0 || k.Away+k.Left != 0 {
		t.Errorf("%d calls, %d left something, failures %v, %d away, %d left", k.Count, k.Remains, k.Failures, k.Away, k.Left)
	}
	known(t, "calls.setup_p50_ms", k.SetupP50MS, 40, 400)
	known(t, "calls.setup_p95_ms", k.SetupP95MS, 80, 1000)
	known(t, "calls.stale", k.Stale, 0, 0)
	// Some are busy, some do not answer: those ring or do not, and none of them counts as a failure.
	if k.Delays.N >= k.Count || k.Delays.N < k.Count*8/10 {
		t.Errorf("%d of %d calls rang", k.Delays.N, k.Count)
	}
	if o := k.Register; o == nil || o.Count != 20 || o.OK != 20 {
		t.Errorf("registrations: %+v", o)
	} else {
		known(t, "calls.register.p50_ms", o.P50MS, 50, 2000)
	}
	var names []string
	total := 0.0
	for _, p := range k.Parts {
		names = append(names, p.Name)
		total += p.MeanMS.Or(0)
		if p.Delays.N < k.Delays.N/2 {
			t.Errorf("part %s of %d calls only", p.Name, p.Delays.N)
		}
	}
	if !slices.Equal(names, []string{"lookup", "connect", "signalling"}) {
		t.Errorf("parts %v", names)
	}
	var mean float64
	for _, ms := range k.Delays.MS {
		mean += ms / float64(len(k.Delays.MS))
	}
	if total < 0.8*mean || total > 1.2*mean {
		t.Errorf("the parts make %.0f ms on average, the whole is %.0f ms", total, mean)
	}
}

// TestCallsSameSeed: one seed, one result.
func TestCallsSameSeed(t *testing.T) {
	if testing.Short() {
		t.Skip("two runs")
	}
	s := "nodes 30\nusers 10\nsettle 10s\nidle 0\nduration 1m\ncalls 1/s\ntalk 5s\nlookups 0/s\nunknown 0/s"
	a, b := run(t, small(t, s)), run(t, small(t, s))
	if a.Calls.Count != b.Calls.Count || !slices.Equal(a.Calls.Delays.MS, b.Calls.Delays.MS) {
		t.Errorf("one seed gave\n%v and\n%v", a.Calls.Delays.MS, b.Calls.Delays.MS)
	}
}

// TestCallsKill: when nodes die without a word, whoever calls their users hears so, and calls between the others go on.
func TestCallsKill(t *testing.T) {
	r := run(t, small(t, callers+"\nkill 30%@50s"))
	k := r.Calls
	known(t, "calls.success", k.Success, 0.95, 1)
	if k.Away < 10 || k.BranchesDead < 10 {
		t.Errorf("%d calls to users who were away, %d branches to dead nodes", k.Away, k.BranchesDead)
	}
	known(t, "calls.stale", k.Stale, 0.05, 0.4)
	away := 0
	for _, f := range k.Failures {
		if f.Callee == "away" {
			if f.Status != 480 && f.Status != 408 {
				t.Errorf("callers of users who were away heard %d", f.Status)
			}
			away += f.Count
		}
	}
	if away != k.Away {
		t.Errorf("%d callers of users who were away, of whom %d heard so", k.Away, away)
	}
}

func failures(k *result.Calls, callee string) (n int) {
	for _, f := range k.Failures {
		if f.Callee == callee {
			n += f.Count
		}
	}
	return n
}

// TestCallsPartition: a call across the cut fails while it lasts, and goes through afterwards.
func TestCallsPartition(t *testing.T) {
	if testing.Short() {
		t.Skip("six virtual minutes")
	}
	r := run(t, small(t, "nodes 30\nusers 20\nsettle 10s\nidle 0\nduration 6m\ncalls 1/s\ntalk 5s\nlookups 0/s\nunknown 0/s\npartition 30%@1m+1m"))
	if failures(r.Calls, "there") < 10 {
		t.Errorf("only %d calls failed during a partition: %+v", failures(r.Calls, "there"), r.Calls.Failures)
	}
	buckets := r.Calls.OverTime
	for _, b := range buckets[len(buckets)-10:] {
		if b.OK < b.Count {
			t.Errorf("at %g s, long after the partition, %d of %d calls went well", b.AtS, b.OK, b.Count)
		}
	}
}
