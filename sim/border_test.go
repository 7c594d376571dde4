package sim_test

import (
	"slices"
	"testing"
)

// crossing is a small overlay with a border: calls in each of the draft's four flows.
const crossing = "nodes 30\nusers 12\nproxypeers 3\npublic 6\nsettle 10s\nidle 0\nduration 2m\ntalk 5s\nlookups 0/s\nunknown 0/s\n" +
	"calls 20/m\ncalls-out 20/m\ncalls-in 20/m\ncalls-home 20/m"

// TestCallFlows: calls within the overlay, out of it, into it, and to public addresses of its users.
func TestCallFlows(t *testing.T) {
	k := run(t, small(t, crossing)).Calls
	var names []string
	for _, f := range k.Flows {
		names = append(names, f.Name[:3])
		if f.Count < 12 || f.OK != f.Count {
			t.Errorf("%s: %d of %d calls went well", f.Name, f.OK, f.Count)
		}
		known(t, f.Name, f.P95MS, 80, 1500)
	}
	if !slices.Equal(names, []string{"5.1", "5.2", "5.3", "5.4"}) {
		t.Errorf("flows %v", names)
	}
	if k.Remains != 0 || failures(k, "there") != 0 {
		t.Errorf("%d calls left something, failures %+v", k.Remains, k.Failures)
	}
}

// TestProxyPeersDie: when some of the proxy peers vanish, calls find the others, and nobody waits long for bad news.
func TestProxyPeersDie(t *testing.T) {
	if testing.Short() {
		t.Skip("four virtual minutes")
	}
	r := run(t, small(t, crossing+"\nduration 4m\nkill-proxypeers 40%@80s"))
	for _, f := range r.Calls.Flows {
		known(t, f.Name, f.Success, 0.75, 1)
	}
	if len(r.Marks) != 1 || r.Calls.Success.Or(0) < 0.85 {
		t.Errorf("%v: %v of the calls went well: %+v", r.Marks, r.Calls.Success, r.Calls.Failures)
	}
	for _, b := range r.Calls.OverTime[len(r.Calls.OverTime)-8:] {
		if b.OK < b.Count-1 {
			t.Errorf("at %g s, long after, %d of %d calls went well", b.AtS, b.OK, b.Count)
		}
	}
}

// Without the border there is nothing to cross.
func TestCrossingNeedsABorder(t *testing.T) {
	s := small(t, "calls-out 1/s")
	if err := s.Validate(); err == nil {
		t.Error("calls leave the overlay where no proxy peer is")
	}
}
