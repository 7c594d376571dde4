package sim_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"p2psip/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseScenario(t *testing.T) {
	s, err := sim.ParseScenario(`
# a comment
name try
nodes 40        # and another
rtt 120ms
churn heavy-tailed 30m
kill 20%@5m
kill 10%@6m
partition 30%@1m+30s
lookups 90/m
nat port-filtering 25%
duration 10m`)
	if err != nil {
		t.Fatal(err)
	}
	if s.Nodes != 40 || s.RTT != 120*time.Millisecond || s.Churn != sim.HeavyTailed || s.Session != 30*time.Minute ||
		len(s.Kills) != 2 || s.Kills[0] != (sim.Kill{Share: 0.2, At: 5 * time.Minute}) || s.Lookups != 1.5 ||
		s.Partitions[0] != (sim.Partition{Share: 0.3, At: time.Minute, For: 30 * time.Second}) || s.NAT[0].Share != 0.25 {
		t.Errorf("%+v", s)
	}
	if s.Seed != sim.DefaultScenario().Seed {
		t.Error("what is not set is not the default")
	}
}

func TestParseScenarioErrors(t *testing.T) {
	for text, want := range map[string]string{
		"nodes 10\nnodes 20":      "line 2: nodes was set in line 1",
		"\n\nnods 10":             `line 3: there is no setting "nods"`,
		"nodes":                   "line 1",
		"nodes ten":               "a number from 2 to 200000",
		"nodes 1":                 "a number from 2",
		"kill 20%":                "20%@10m",
		"kill 120%@1m":            "from 0 to 100",
		"kill NaN%@1m":            "from 0 to 100",
		"kill 20%@30m":            "after the end",
		"partition 20%@1m":        "30%@10m+5m",
		"partition 20%@8m+5m":     "ends after the end",
		"lookups 5":               "/s, /m or /h",
		"lookups -1/s":            "a rate",
		"lookups NaN/s":           "a rate",
		"latency far":             "constant, clustered",
		"rtt -80ms":               "a duration",
		"rtt 0":                   "round trip",
		"churn pareto 3m":         "exponential or heavy-tailed",
		"nat cone 10%":            "a NAT is",
		"seed -1":                 "a seed",
		"name Two Words":          "a name is",
		"users 6000":              "too many for 100 nodes",
		"loss 95%":                "90%",
		strings.Repeat("x", 1000): "longer than",
	} {
		if _, err := sim.ParseScenario(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q in it", text, err, want)
		}
	}
}

// TestTestdata: every scenario in testdata is good, is called like its file, and its text form says the same.
func TestTestdata(t *testing.T) {
	files, err := filepath.Glob("testdata/*.sim")
	if err != nil || len(files) < 8 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		s, err := sim.ParseScenario(string(b))
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		if s.Name+".sim" != filepath.Base(f) {
			t.Errorf("%s is called %s", f, s.Name)
		}
		roundTrip(t, s)
	}
}

func roundTrip(t *testing.T, s sim.Scenario) {
	t.Helper()
	text := s.String()
	again, err := sim.ParseScenario(text)
	if err != nil {
		t.Fatalf("its own text form is refused: %v\n%s", err, text)
	}
	if got := again.String(); got != text {
		t.Errorf("became\n%s\nfrom\n%s", got, text)
	}
}

func TestNames(t *testing.T) {
	names, help := sim.Names()
	if len(names) != len(help) || len(names) < 20 {
		t.Fatalf("%d names, %d helps", len(names), len(help))
	}
	seen := map[string]bool{}
	for i, n := range names {
		if seen[n] || help[i] == "" {
			t.Errorf("%s: twice or without help", n)
		}
		seen[n] = true
	}
}

func FuzzParseScenario(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.sim")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("nat port-filtering 33.3%\nkill 0.1%@1s\npartition 7%@1s+1s\nbandwidth 1000\nalpha 3\nhedge 150ms\nseed 18446744073709551615")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := sim.ParseScenario(text)
		if err != nil {
			return
		}
		roundTrip(t, s)
	})
}
