package result_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"p2psip/sim/result"
	"p2psip/sim/result/resulttest"
)

func text(t testing.TB, r *result.Run) string {
	t.Helper()
	var b bytes.Buffer
	if err := result.Write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTheKeysOfTheIssueAreThere(t *testing.T) {
	for name, r := range map[string]*result.Run{"full": resulttest.Example(1, 1, 0.01), "empty": {Format: result.Format}} {
		var v map[string]any
		if err := json.Unmarshal([]byte(text(t, r)), &v); err != nil {
			t.Fatal(err)
		}
		for _, key := range strings.Fields("nodes seed wall_s virtual_s lookup publish messages_per_node_min idle_bytes_per_s hotkey calls fresh") {
			if _, ok := v[key]; !ok {
				t.Errorf("%s: no %s", name, key)
			}
		}
		if name == "empty" {
			if v["fresh"] != nil {
				t.Errorf("what was not measured is %v", v["fresh"])
			}
			continue
		}
		for _, path := range strings.Fields("lookup.p50_ms lookup.p95_ms lookup.p99_ms lookup.success lookup.hops_mean publish.p50_ms publish.p95_ms publish.success hotkey.max_over_median calls.setup_p50_ms calls.setup_p95_ms calls.success") {
			parent, key, _ := strings.Cut(path, ".")
			if _, ok := v[parent].(map[string]any)[key].(float64); !ok {
				t.Errorf("no %s", path)
			}
		}
	}
}

func TestWriteAndReadAgain(t *testing.T) {
	first := text(t, resulttest.Example(7, 1, 0.01))
	if first != text(t, resulttest.Example(7, 1, 0.01)) && !strings.Contains(first, "wall_s") {
		t.Error("the same run gives other bytes")
	}
	r, err := result.Read(strings.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	if second := text(t, r); second != first {
		t.Error("read and written again it is different")
	}
	if strings.Contains(first, "e+") || strings.Contains(first, "NaN") {
		t.Error("exponents or NaN")
	}
	if n := strings.Count(first, "\n"); n > 4000 {
		t.Errorf("%d lines: rows of numbers belong on one", n)
	}
	var compact, again bytes.Buffer
	json.Compact(&compact, []byte(first))
	b, _ := json.Marshal(r)
	again.Write(b)
	if compact.String() != again.String() {
		t.Error("laying out changes more than white space")
	}
}

func TestStripLeavesNothingThatDiffers(t *testing.T) {
	a, b := resulttest.Example(3, 1, 0), resulttest.Example(3, 1, 0)
	b.WallS, b.Self.CPUS = 99, result.V(99)
	b.Growth[0].HeapPerNode = result.V(5)
	a.Strip()
	b.Strip()
	if text(t, a) != text(t, b) {
		t.Error("still different")
	}
}

func TestReadRefuses(t *testing.T) {
	good := text(t, resulttest.Example(1, 1, 0))
	change := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, s := range map[string]string{
		"nothing":         "",
		"another file":    `{"overlay": "p2psip.example"}`,
		"another format":  change(`"format": 1`, `"format": 2`),
		"an unknown key":  change(`"nodes":`, `"nobes":`),
		"something after": good + "{}",
		"half":            good[:len(good)/2],
		"negative nodes":  change(`"nodes": 200`, `"nodes": -1`),
		"a huge number":   change(`"virtual_s": 3600`, `"virtual_s": 1e300`),
		"success over 1":  change(`"success": 1`, `"success": 1.5`),
		"an escape":       change(`"name": "mass-failure"`, `"name": "\u001b[31m"`),
		"a number as text": change(`"fresh": 0.995`,
			`"fresh": "0.995"`),
		"order":     change(`"at_s": 600,`, `"at_s": -600,`),
		"more ok":   change(`"count": 2000`, `"count": 2`),
		"long rows": change(`"seeds": null`, `"seeds": [`+strings.Repeat("1,", result.MaxList)+`1]`),
	} {
		if _, err := result.Read(strings.NewReader(s)); !errors.Is(err, result.ErrBad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := result.Read(&endless{}); !errors.Is(err, result.ErrBad) {
		t.Errorf("endless: %v", err)
	}
}

type endless struct{}

func (*endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func TestSummarize(t *testing.T) {
	var samples []result.Sample
	for i := range 100 {
		samples = append(samples, result.Sample{
			At: time.Duration(i) * time.Second, Took: time.Duration(100-i) * time.Millisecond, OK: i >= 10, Hops: 2, Messages: 4,
		})
	}
	o := result.Summarize(samples, 30*time.Second)
	got := fmt.Sprint(o.Count, o.OK, o.Success, o.P50MS, o.P95MS, o.P99MS, o.MaxMS, o.MeanMS, o.HopsMean, o.MessagesMean, o.BytesMean)
	if want := "100 90 0.9 45 86 90 90 45.5 2 4 null"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(o.OverTime), "[{0 30 20 89} {30 30 30 69} {60 30 30 39} {90 10 10 10}]"; got != want {
		t.Errorf("over time %s, want %s", got, want)
	}
	if result.Summarize(nil, 0) != nil {
		t.Error("nothing has figures")
	}
	if got := o.Delays.At(45); math.Abs(got-0.5) > 1e-9 {
		t.Errorf("CDF at the median: %v", got)
	}
	if o.Delays.At(0) != 0 || o.Delays.At(1e9) != 1 {
		t.Error("the ends of the CDF")
	}
}

func TestDelaysAreBounded(t *testing.T) {
	ms := make([]float64, 123_456)
	for i := range ms {
		ms[i] = float64(i)
	}
	d := result.NewDelays(ms)
	if d.N != len(ms) || len(d.MS) != result.MaxSamples || d.MS[0] != 0 || d.MS[1000] != 123_455 || d.MS[500] != 61727 {
		t.Errorf("%d of %d: %v…", len(d.MS), d.N, d.MS[:3])
	}
}

func TestGini(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{
		{[]float64{5, 5, 5, 5}, 0}, {[]float64{0, 0, 0, 1}, 0.75}, {[]float64{3, 1, 2}, 2.0 / 9}, {[]float64{0, 0}, 0},
	} {
		if got := result.Gini(c.of).Or(-1); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("Gini of %v: %v, want %v", c.of, got, c.want)
		}
	}
}

func TestLoad(t *testing.T) {
	l := result.NewLoad([]float64{0, 0, 0, 850})
	if l.MaxOverMedian.Or(0) != 850 {
		t.Errorf("over an idle middle: %v", l.MaxOverMedian)
	}
	l = result.NewLoad([]float64{10, 20, 30, 40, 80})
	if l.MaxOverMedian.String() != "2.66666667" || l.Median.Or(0) != 30 {
		t.Errorf("%+v", l)
	}
}

// Values from the tables of R: qt, t.test, wilcox.test(exact=FALSE), fisher.test.
func TestStatistics(t *testing.T) {
	near := func(what string, got, want, tolerance float64) {
		t.Helper()
		if math.Abs(got-want) > tolerance {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	iv := result.NewInterval("x", []float64{1, 2, 3, 4, 5})
	near("low", iv.Low.Or(0), 3-1.963243, 1e-5) // t(0.975, 4) = 2.776445, s = 1.581139
	near("high", iv.High.Or(0), 3+1.963243, 1e-5)
	near("one value", float64(len(result.NewInterval("x", []float64{1}).Low.String())), 4, 0)
	near("two", result.NewInterval("x", []float64{0, 2}).High.Or(0), 1+12.7062047, 1e-5)

	near("equal", result.Welch([]float64{1, 2, 3}, []float64{1, 2, 3}), 1, 1e-12)
	near("no spread", result.Welch([]float64{1, 1}, []float64{2, 2}), 0, 0)
	near("Student's sleep", result.Welch( // the classical data: t = −1.8608, df = 17.776, p = 0.07939
		[]float64{0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0, 2},
		[]float64{1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4}), 0.07939, 1e-5)

	near("sleep by ranks", result.MannWhitney( // W = 25.5, p = 0.06933
		[]float64{-1.6, -1.2, -0.2, -0.1, 0, 0.7, 0.8, 2, 3.4, 3.7},
		[]float64{-0.1, 0.1, 0.8, 1.1, 1.6, 1.9, 3.4, 4.4, 4.6, 5.5}), 0.06933, 1e-5)
	near("all tied", result.MannWhitney([]float64{1, 1, 1}, []float64{1, 1}), 1, 0)

	near("tea", result.Fisher(3, 4, 1, 4), 0.4857, 1e-4) // Fisher's own example
	near("tables", result.Fisher(1, 10, 11, 14), 0.0027594561, 1e-9)
	near("none", result.Fisher(0, 10, 0, 20), 1, 0)
	near("lossy", result.Fisher(1000, 1000, 980, 1000), 1.7328669e-06, 1e-12) // counted out with whole numbers
}

func TestPercentileIsNearestRank(t *testing.T) {
	s := []float64{15, 20, 35, 40, 50}
	for p, want := range map[float64]float64{5: 15, 30: 20, 40: 20, 50: 35, 100: 50, 0: 15} {
		if got := result.Percentile(s, p).Or(0); got != want {
			t.Errorf("%v %%: %v, want %v", p, got, want)
		}
	}
	if result.Percentile(nil, 50).Known() {
		t.Error("of nothing")
	}
}

func TestCombine(t *testing.T) {
	var runs []*result.Run
	for _, seed := range []uint64{3, 1, 2} {
		runs = append(runs, resulttest.Example(seed, 1, 0.01))
	}
	c, err := result.Combine(runs)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(c.Seeds) != "[1 2 3]" || c.Seed != 1 {
		t.Errorf("seeds %v, first %d", c.Seeds, c.Seed)
	}
	if c.Lookup.Count != 6000 || c.Lookup.Delays.N < 5900 || len(c.Lookup.Delays.MS) != result.MaxSamples {
		t.Errorf("pooled %d, %d in %d", c.Lookup.Count, c.Lookup.Delays.N, len(c.Lookup.Delays.MS))
	}
	iv, ok := c.Interval("lookup.p95_ms")
	if !ok || len(iv.Values) != 3 || iv.Mean != c.Lookup.P95MS || iv.Low.Or(0) >= iv.Mean.Or(0) || iv.High.Or(0) <= iv.Mean.Or(0) {
		t.Errorf("%+v for %v", iv, c.Lookup.P95MS)
	}
	if iv.Values[0] != runs[1].Lookup.P95MS.Or(0) {
		t.Error("values out of order")
	}
	if runs[0].Seed != 3 || runs[1].Lookup.Count != 2000 {
		t.Error("the runs were changed")
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if one, _ := result.Combine(runs[:1]); one != runs[0] {
		t.Error("one run is itself")
	}
	other := resulttest.Example(4, 1, 0)
	other.Name = "churn"
	for name, list := range map[string][]*result.Run{"none": nil, "twice": {runs[0], runs[0]}, "unlike": {runs[0], other}, "again": {c, runs[0]}} {
		if _, err := result.Combine(list); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func row(c *result.Comparison, key string) result.Difference {
	for _, d := range c.Rows {
		if d.Key == key {
			return d
		}
	}
	return result.Difference{Verdict: "missing"}
}

func TestCompareSamples(t *testing.T) {
	for _, x := range []struct {
		name        string
		b           *result.Run
		key, expect string
	}{
		{"slower", resulttest.Example(2, 1.5, 0.01), "lookup.p50_ms", "worse"},
		{"slower at the end", resulttest.Example(2, 1.5, 0.01), "lookup.p95_ms", "worse"},
		{"faster", resulttest.Example(2, 0.7, 0.01), "lookup.p95_ms", "better"},
		{"lossy", resulttest.Example(2, 1, 0.05), "lookup.success", "worse"},
		{"another seed", resulttest.Example(2, 1, 0.01), "lookup.p50_ms", "chance"},
		{"another seed, success", resulttest.Example(2, 1, 0.01), "lookup.success", "chance"},
		{"not testable", resulttest.Example(2, 1.5, 0.01), "messages_per_node_min", "untested"},
		{"the same", resulttest.Example(1, 1, 0.01), "lookup.p50_ms", "same"},
		{"the same, no test", resulttest.Example(1, 1, 0.01), "idle_bytes_per_s", "same"},
	} {
		c := result.Compare(resulttest.Example(1, 1, 0.01), x.b)
		if d := row(c, x.key); string(d.Verdict) != x.expect {
			t.Errorf("%s: %s is %s (p = %v, %s), want %s", x.name, x.key, d.Verdict, d.P, d.Test, x.expect)
		}
		if x.expect != "same" && c.Note == "" {
			t.Errorf("%s: no warning", x.name)
		}
	}
}

func TestCompareSeeds(t *testing.T) {
	group := func(from uint64, slow float64) *result.Run {
		var runs []*result.Run
		for i := range uint64(4) {
			runs = append(runs, resulttest.Example(from+i, slow, 0.01))
		}
		c, err := result.Combine(runs)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := result.Compare(group(1, 1), group(11, 1.4))
	if d := row(c, "lookup.p95_ms"); d.Verdict != result.Worse || !strings.HasPrefix(d.Test, "Welch, 4 and 4") {
		t.Errorf("%+v", d)
	}
	if d := row(c, "messages_per_node_min"); d.Verdict != result.Chance {
		t.Errorf("%+v", d)
	}
	if c.Note != "" {
		t.Error("warned without need")
	}
	var a, b bytes.Buffer
	if err := c.Write(&a); err != nil || !json.Valid(a.Bytes()) {
		t.Errorf("%v: %s", err, a.String())
	}
	result.Compare(group(1, 1), group(11, 1.4)).Write(&b)
	if a.String() != b.String() {
		t.Error("not the same twice")
	}
}

func TestCompareOneSided(t *testing.T) {
	a, b := resulttest.Example(1, 1, 0), resulttest.Example(1, 1, 0)
	a.Calls, b.Stock = nil, nil
	c := result.Compare(a, b)
	if d := row(c, "calls.success"); d.A.Known() || !d.B.Known() || d.Verdict != result.Untested {
		t.Errorf("%+v", d)
	}
	if d := row(c, "stock.lookup.p50_ms"); !d.A.Known() || d.B.Known() || d.Verdict != result.Untested {
		t.Errorf("%+v", d)
	}
}

func TestCompareTellsWhatWasSetOtherwise(t *testing.T) {
	a, b := resulttest.Example(1, 1, 0), resulttest.Example(2, 1, 0)
	a.Scenario, b.Scenario = "nodes 200\nseed 1\nrtt 80ms\n", "nodes 200\nseed 2\nrtt 90ms\nloss 1%\n"
	c := result.Compare(a, b)
	if got := fmt.Sprintf("%q %q", c.A.Settings, c.B.Settings); got != `["rtt 80ms"] ["rtt 90ms" "loss 1%"]` {
		t.Error(got)
	}
}

func TestCombineAddsCosts(t *testing.T) {
	a, b := resulttest.Example(1, 1, 0), resulttest.Example(2, 1, 0)
	b.Self.HeapPeakBytes = result.V(5 << 30)
	c, err := result.Combine([]*result.Run{a, b})
	if err != nil || c.Self.CPUS.Or(0) != 48 || c.Self.HeapPeakBytes != b.Self.HeapPeakBytes || a.Self.CPUS.Or(0) != 24 {
		t.Errorf("%+v, %v", c.Self, err)
	}
}

func TestAddBaselines(t *testing.T) {
	r := resulttest.Example(1, 1, 0)
	r.Nodes, r.Limits = 1024, nil
	r.AddBaselines()
	n := len(r.Limits)
	r.AddBaselines()
	got := map[string]string{}
	for _, b := range r.Limits {
		got[b.Name+" "+b.Measure] = b.Value.String()
		if b.Source == "" {
			t.Errorf("%s has no source", b.Name)
		}
	}
	if len(r.Limits) != n || n < 5 || got["log2(N) lookup.hops_mean"] != "10" || got["direct round trip lookup.p50_ms"] == "" {
		t.Errorf("%d, then %d: %v", n, len(r.Limits), got)
	}
	if err := r.Validate(); err != nil {
		t.Error(err)
	}
	empty := &result.Run{Format: result.Format}
	if empty.AddBaselines(); empty.Limits != nil {
		t.Error("something stands beside nothing")
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		u    result.Unit
		v    float64
		want string
	}{
		{result.Millis, 3.25, "3.2 ms"}, {result.Millis, 212.4, "212 ms"}, {result.Millis, 1540, "1.54 s"}, {result.Millis, 90000, "1.5 min"},
		{result.Ratio, 1, "100 %"}, {result.Ratio, 0.999999, "99.999 %"}, {result.Ratio, 0.999, "99.90 %"}, {result.Ratio, 0.5, "50.0 %"},
		{result.Ratio, 0.0000001, "0.001 %"}, {result.BytesPerS, 480, "480 B/s"}, {result.Bytes, 2048, "2.0 kB"}, {result.Plain, 0, "0"},
		{result.Plain, 2.666, "2.67"}, {result.Plain, 1234.5, "1234"},
	} {
		if got := c.u.Write(result.V(c.v)); got != c.want {
			t.Errorf("%v: %q, want %q", c.v, got, c.want)
		}
	}
	if result.Millis.Write(result.Value{}) != "–" {
		t.Error("what was not measured")
	}
}

// FuzzParse: whatever is believed can be written, and reads the same again; everything done with a result survives it.
func FuzzParse(f *testing.F) {
	small := resulttest.Example(1, 1, 0.01)
	small.PerNode, small.Lookup, small.Publish, small.Unknown, small.Stock = nil, nil, nil, nil, nil
	small.Calls.Delays, small.Calls.OverTime, small.HotKey.Ways, small.Direct = result.Delays{}, nil, nil, nil
	f.Add([]byte(text(f, small)))
	f.Add([]byte(text(f, &result.Run{Format: result.Format})))
	files, _ := os.ReadDir("testdata/seeds")
	for _, file := range files {
		b, err := os.ReadFile("testdata/seeds/" + file.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := result.Parse(b)
		if err != nil {
			if !errors.Is(err, result.ErrBad) {
				t.Fatalf("%v", err)
			}
			return
		}
		first := text(t, r)
		again, err := result.Parse([]byte(first))
		if err != nil {
			t.Fatalf("what was written is refused: %v\n%s", err, first)
		}
		if text(t, again) != first {
			t.Fatal("not the same again")
		}
		var out bytes.Buffer
		if err := result.Compare(r, again).Write(&out); err != nil {
			t.Fatal(err)
		}
		again.Seed++
		if c, err := result.Combine([]*result.Run{r, again}); err == nil {
			text(t, c)
		}
	})
}
