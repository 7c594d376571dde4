package report_test

import (
	"os"
	"testing"

	"p2psip/sim/report"
	"p2psip/sim/result"
	"p2psip/sim/result/resulttest"
)

// TestLook writes everything into the directory LOOK, to be looked at.
func TestLook(t *testing.T) {
	dir := os.Getenv("LOOK")
	if dir == "" {
		t.Skip("LOOK is not set")
	}
	var runs []*result.Run
	for seed := range uint64(3) {
		runs = append(runs, resulttest.Example(seed+1, 1, 0.002))
	}
	r, err := result.Combine(runs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.WritePNGs(dir, r); err != nil {
		t.Fatal(err)
	}
	f, _ := os.Create(dir + "/report.html")
	defer f.Close()
	if err := report.HTML(f, r); err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString(report.Summary(runs[0]) + "\n" + report.Summary(r))
	os.Stdout.WriteString(report.CompareText(result.Compare(resulttest.Example(1, 1, 0.002), resulttest.Example(1, 1.2, 0.01))))
}
