package report_test

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"p2psip/sim/report"
	"p2psip/sim/result"
	"p2psip/sim/result/resulttest"
)

func page(t testing.TB, r *result.Run) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.HTML(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var all = strings.Fields("delay success delay-over-time alive setup parts load key-space hot-key hot-key-load hostile-success hostile-delay growth-hops growth-delay growth-messages growth-memory")

func TestThePageNeedsNothing(t *testing.T) {
	s := page(t, resulttest.Example(1, 1, 0.01))
	for _, bad := range []string{"<script", "http:", "https:", "//", "url(", "@import", "src=", "NaN", "Inf", "%!"} {
		if i := strings.Index(s, bad); i >= 0 {
			t.Errorf("%q in …%s…", bad, s[max(0, i-40):min(len(s), i+40)])
		}
	}
	for _, id := range all {
		if !strings.Contains(s, `<figure id="`+id+`">`) {
			t.Errorf("no chart %s", id)
		}
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`\bid="([^"]*)"`).FindAllStringSubmatch(s, -1) {
		if seen[m[1]] {
			t.Errorf("id %s twice", m[1])
		}
		seen[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`aria-labelledby="([^"]*)"`).FindAllStringSubmatch(s, -1) {
		for _, id := range strings.Fields(m[1]) {
			if !seen[id] {
				t.Errorf("nothing is called %s", id)
			}
		}
	}
	if s != page(t, resulttest.Example(1, 1, 0.01)) {
		t.Error("not the same twice")
	}
}

func TestTextsAreEscaped(t *testing.T) {
	r := resulttest.Example(1, 1, 0.01)
	evil := `"><script>alert(1)</script>&`
	r.Name, r.Scenario, r.Notes = evil, evil, []string{evil}
	r.Marks[0].Text, r.HotKey.Ways[0].Name, r.Calls.Parts[0].Name, r.Calls.Flows[0].Name = evil, evil, evil, evil
	r.Limits[0].Name, r.Limits[0].Source, r.Limits[0].Measure = evil, evil, evil
	if s := page(t, r); strings.Contains(s, "<script") {
		t.Error("a text became markup")
	}
}

func TestSVGIsWellFormed(t *testing.T) {
	for _, c := range report.Charts(resulttest.Example(1, 1, 0.01)) {
		d := xml.NewDecoder(strings.NewReader(c.SVG()))
		var text []string
		for {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", c.ID, err)
			}
			if b, ok := token.(xml.CharData); ok {
				text = append(text, string(b))
			}
		}
		if all := strings.Join(text, "|"); !strings.Contains(all, c.Title) || len(c.Describe()) < 20 || !strings.Contains(all, c.Describe()) {
			t.Errorf("%s: no title or no description: %s", c.ID, all)
		}
	}
}

// The charts beside which something is to be drawn have it.
func TestBaselinesAreDrawn(t *testing.T) {
	names := map[string]string{}
	for _, c := range report.Charts(resulttest.Example(1, 1, 0.01)) {
		for _, s := range c.Series {
			names[c.ID] += s.Name + ";"
		}
	}
	for id, want := range map[string][]string{
		"delay":       {"find a user", "direct round trip", "find, kad-dht's own"},
		"growth-hops": {"hops", "log2(N)"},
	} {
		for _, w := range want {
			if !strings.Contains(names[id], w+";") {
				t.Errorf("%s lacks %q: %s", id, w, names[id])
			}
		}
	}
}

// A curve ends where the failures begin.
func TestDelayCurveEndsAtSuccess(t *testing.T) {
	r := resulttest.Example(1, 1, 0.2)
	for _, c := range report.Charts(r) {
		if c.ID != "delay" {
			continue
		}
		for _, s := range c.Series {
			if s.Name != "find a user" {
				continue
			}
			if got, want := s.End(), r.Lookup.Success.Or(0); got != want {
				t.Errorf("ends at %v, want %v", got, want)
			}
		}
	}
}

// odd are runs at the edge of what can be drawn.
func odd() map[string]*result.Run {
	one := &result.Run{Format: 1, Nodes: 1, VirtualS: 1, Lookup: result.Summarize([]result.Sample{{OK: true}}, time.Second)}
	one.PerNode = &result.PerNode{Position: result.Numbers{1}, Requests: result.Numbers{0}}
	one.Load = result.NewLoads(one.PerNode)
	none := &result.Run{Format: 1, Lookup: result.Summarize([]result.Sample{{}, {}}, time.Second), Calls: result.SummarizeCalls([]result.Sample{{}}, time.Second), Publish: result.Summarize([]result.Sample{{}}, 0)}
	idle := resulttest.Example(1, 1, 1)
	for i := range idle.PerNode.Requests {
		idle.PerNode.Requests[i] = 0
	}
	long := resulttest.Example(1, 1, 0)
	long.VirtualS = 1e17
	long.Alive = append(long.Alive, result.Point{AtS: 1e17, Value: 1e17})
	long.Marks = append(long.Marks, result.Mark{AtS: 1e17, Text: strings.Repeat("x", 200)})
	same := &result.Run{Format: 1, Lookup: result.Summarize([]result.Sample{
		{At: 0, Took: time.Second, OK: true}, {At: time.Second, Took: time.Second, OK: true},
	}, time.Second)}
	lists := &result.Run{
		Format: 1, HotKey: &result.HotKey{Ways: []result.HotWay{{}}}, Calls: &result.Calls{Parts: []result.Part{{}}},
		Growth: []result.Growth{{Nodes: 0}, {Nodes: 1, HopsMean: result.V(0)}}, Stock: &result.Stock{}, Direct: &result.Delays{},
		PerNode: &result.PerNode{Position: result.Numbers{0, 1}}, Load: &result.Loads{},
	}
	return map[string]*result.Run{"empty": {Format: 1}, "one": one, "none": none, "idle": idle, "long": long, "same": same, "lists": lists}
}

func TestOddRuns(t *testing.T) {
	for name, r := range odd() {
		if err := r.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for what, s := range map[string]string{"page": page(t, r), "summary": report.Summary(r)} {
			for _, bad := range []string{"NaN", "Inf", "%!", "-0 ", "null"} {
				if strings.Contains(s, bad) {
					t.Errorf("%s: %s in the %s", name, bad, what)
				}
			}
		}
		var b bytes.Buffer
		if err := report.CSV(&b, r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, c := range report.Charts(r)[:min(4, len(report.Charts(r)))] {
			if err := c.PNG(io.Discard); err != nil {
				t.Errorf("%s: %s: %v", name, c.ID, err)
			}
		}
	}
}

func TestPNGs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pictures")
	names, err := report.WritePNGs(dir, resulttest.Example(1, 1, 0.01))
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != len(all) {
		t.Errorf("%d pictures, want %d", len(names), len(all))
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(f)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		colours := map[color.RGBA]int{}
		b := img.Bounds()
		for y := b.Min.Y; y < b.Max.Y; y += 2 {
			for x := b.Min.X; x < b.Max.X; x += 2 {
				colours[color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)]++
			}
		}
		white, text := colours[color.RGBA{255, 255, 255, 255}], colours[color.RGBA{0x1b, 0x1f, 0x24, 255}]
		blue := colours[color.RGBA{0x00, 0x68, 0xa8, 255}] + colours[color.RGBA{0x26, 0x7e, 0xb5, 255}] // a curve, or a bar that lets a little through
		if b.Dx() != 1200 || b.Dy() < 400 || white < 1000 || text == 0 || blue == 0 {
			t.Errorf("%s: %v, white %d, text %d, first curve %d", name, b, white, text, blue)
		}
	}
	if _, err := report.WritePNGs(names[0], resulttest.Example(1, 1, 0)); err == nil {
		t.Error("wrote into a file as if it were a directory")
	}
}

func TestCSV(t *testing.T) {
	r := resulttest.Example(1, 1, 0.01)
	var b bytes.Buffer
	if err := report.CSV(&b, r); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]int{}
	for _, row := range rows[1:] {
		tables[row[0]]++
		if row[3] == "" || row[3] == "null" {
			t.Fatalf("a row without a value: %v", row)
		}
		if row[1] == "lookup.p95_ms" && row[0] == "measure" && row[3] != r.Lookup.P95MS.String() {
			t.Errorf("%v, want %v", row, r.Lookup.P95MS)
		}
	}
	for _, want := range strings.Fields("measure cdf over_time alive node growth hotkey baseline") {
		if tables[want] == 0 {
			t.Errorf("no rows of %s", want)
		}
	}
	if tables["node"] != 600 {
		t.Errorf("%d rows of nodes, want three of each of 200", tables["node"])
	}
}

func TestSummary(t *testing.T) {
	r := resulttest.Example(1, 1, 0)
	r.Lookup.P50MS, r.Lookup.P95MS, r.Calls.Success = result.V(212), result.V(480), result.V(0.999)
	s := report.Summary(r)
	for _, want := range []string{
		"mass-failure: 200 nodes, 1 h of virtual time, seed 1, simulated in 13 s",
		"bob was found in 0.2 s; all 2,000 lookups found their user, 95 % of them within 0.5 s.",
		"999 of 1000 calls went well",
		"find a user   2000",
		"find, kad-dht's own",
		"naive",
		"Note: Made up for a test",
	} {
		if !strings.Contains(s, want) {
			t.Errorf("no %q in\n%s", want, s)
		}
	}
	if strings.Contains(s, " \n") {
		t.Error("blanks at the end of a line")
	}
}

// Failures are never rounded away.
func TestSharesAreNotRoundedUp(t *testing.T) {
	for f, want := range map[float64]string{
		1: "All 1,000 calls", 0.999: "999 of 1000 calls", 0.9994: "9994 of 10000 calls", 0.99999: "99999 of 100000 calls", 0.95: "95 of 100 calls",
		0.959: "95 of 100 calls", 0.5: "50 of 100 calls", 0: "None of 1,000 calls", 0.001: "1 of 1000 calls",
	} {
		r := &result.Run{Format: 1, Calls: &result.Calls{Count: 1000, Success: result.V(f), SetupP50MS: result.V(1), SetupP95MS: result.V(1)}}
		if s := strings.Join(report.Sentences(r), " "); !strings.HasPrefix(s, want+" went well") {
			t.Errorf("%v: %s", f, s)
		}
	}
}

func TestCompareText(t *testing.T) {
	s := report.CompareText(result.Compare(resulttest.Example(1, 1, 0.002), resulttest.Example(1, 1.2, 0.03)))
	for _, want := range []string{"A: mass-failure, 200 nodes, 1 seed", "finding a user, 95 % within", "worse", "p < 0.001", "not tested", "--seeds 3"} {
		if !strings.Contains(s, want) {
			t.Errorf("no %q in\n%s", want, s)
		}
	}
	if strings.Contains(s, "messages of a node in a minute") {
		t.Error("shows what is equal")
	}
}

func TestMeter(t *testing.T) {
	var m report.Meter
	var line string
	for s := 1; s <= 20; s++ {
		done := float64(s) / 100
		line = m.Line(result.Progress{
			Phase: "measuring", Done: done, VirtualS: 3600 * done, TotalS: 3600, Nodes: 1000, Messages: uint64(s) * 5000,
		}, time.Duration(s)*time.Second)
	}
	if want := " 20 %  80 s left  measuring  12 min of 1 h  1,000 nodes  5,000 messages/s"; line != want {
		t.Errorf("got  %q\nwant %q", line, want)
	}
	for s := 21; s <= 40; s++ { // and twice as fast from now on
		line = m.Line(result.Progress{Done: 0.2 + float64(s-20)/50}, time.Duration(s)*time.Second)
	}
	if !strings.Contains(line, "  20 s left") {
		t.Errorf("it has become faster: %q", line)
	}
	var idle report.Meter
	if got := idle.Line(result.Progress{}, 0); strings.Contains(got, "left") || strings.Contains(got, "NaN") {
		t.Errorf("at the beginning: %q", got)
	}
	if got := idle.Line(result.Progress{Done: 2}, time.Hour); strings.Contains(got, "left") || !strings.HasPrefix(got, "100 %") {
		t.Errorf("past the end: %q", got)
	}
}

// FuzzReport: whatever file is believed can be shown.
func FuzzReport(f *testing.F) {
	for _, r := range odd() {
		var b bytes.Buffer
		if err := result.Write(&b, r); err != nil {
			f.Fatal(err)
		}
		if b.Len() < 4096 { // a mutation in a large file seldom matters
			f.Add(b.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := result.Parse(b)
		if err != nil {
			return
		}
		if s := page(t, r) + report.Summary(r); strings.Contains(s, "NaN") && !bytes.Contains(b, []byte("NaN")) {
			t.Error("NaN in the report")
		}
		if err := report.CSV(io.Discard, r); err != nil {
			t.Error(err)
		}
		report.CompareText(result.Compare(r, r))
	})
}
