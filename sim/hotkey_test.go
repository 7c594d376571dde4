package sim

import (
	"context"
	"testing"
)

// R36: everybody looks for the same role, and no node melts.
func TestHotKey(t *testing.T) {
	if testing.Short() {
		t.Skip("takes several seconds")
	}
	s, err := ParseScenario("name hot\nnodes 100\nusers 5\nadvertisers 12\nfinders 1000\nfind-time 10m\nsettle 1m\nidle 0\nduration 1s\nlookups 0/s\nunknown 0/s\npublishes 0/s\n")
	if err != nil {
		t.Fatal(err)
	}
	run, err := Run(context.Background(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Validate(); err != nil {
		t.Fatal(err)
	}
	hot := run.HotKey
	if hot == nil || len(hot.Ways) != 4 || hot.Way != "both" || hot.MaxOverMedian != hot.Ways[3].MaxOverMedian {
		t.Fatalf("%+v", hot)
	}
	naive, both := hot.Ways[0], hot.Ways[3]
	for _, w := range hot.Ways {
		t.Logf("%s: busiest %v, middle %v, ratio %v, messages %v, %v of %d within %v ms", w.Name, w.Max, w.Median, w.MaxOverMedian, w.Messages, w.Success, w.Finders, w.P95MS)
		if w.Finders < 990 || w.Success.Or(0) < 0.995 {
			t.Errorf("%s: %v of %d succeeded", w.Name, w.Success, w.Finders)
		}
		if w.Used == nil || w.Used.Mean.Or(0) < 75 {
			t.Errorf("%s: %+v", w.Name, w.Used)
		}
	}
	if naive.MaxOverMedian.Or(0) < 15 {
		t.Errorf("the naive way: ratio %v, there is nothing to mend", naive.MaxOverMedian)
	}
	// The figures are small, so one run is rough: the goal of 4 is looked at with larger ones (testdata/hotkey.sim). The time
	// is longer than the pause between two advertisements, so that every shard is written.
	if both.MaxOverMedian.Or(1e9) > 6 {
		t.Errorf("the way in use: the busiest node serves %v times as many requests as the one in the middle", both.MaxOverMedian)
	}
	if both.Messages.Or(1e9) > 1.3*naive.Messages.Or(0) {
		t.Errorf("the way in use takes %v messages, the naive one %v", both.Messages, naive.Messages)
	}
	if both.Used.Max.Or(1e9) > 4*both.Used.Mean.Or(0) {
		t.Errorf("one of those who offer gets %v of the finders, the mean is %v", both.Used.Max, both.Used.Mean)
	}
}

func TestHotKeyScenarioChecked(t *testing.T) {
	for _, bad := range []string{"finders 10", "finders 10\nadvertisers 200", "finders 10\nadvertisers 5\nfind-time 1ms"} {
		if _, err := ParseScenario("nodes 100\n" + bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}
