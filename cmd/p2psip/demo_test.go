package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The demonstration in this process: its result, and that nothing of twelve nodes and two phones is left running.
func TestDemonstration(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var out, errs bytes.Buffer
	file := filepath.Join(t.TempDir(), "result.json")
	start := time.Now()
	code := newProgram(newUI(strings.NewReader(""), &out, &errs)).run(t.Context(), []string{"demo", "--json", file})
	if code != exitOK {
		t.Fatalf("exit code %d\n%s%s", code, &out, &errs)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r demoResult
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if !r.OK || r.Nodes != demoNodes || len(r.Steps) != 11 {
		t.Errorf("result: %s", b)
	}
	for _, s := range r.Steps {
		if !s.OK || s.MS <= 0 {
			t.Errorf("step %+v", s)
		}
	}
	// Each message of the call is drawn once on each of its three ways.
	text := out.String()
	for what, n := range map[string]int{"| 180": 0, " 180 Ringing ": 3, " 200 OK ": 3, " 200 (BYE) ": 3} {
		if got := strings.Count(text, what); got != n {
			t.Errorf("%q is drawn %d times, want %d\n%s", what, got, n, text)
		}
	}
}

// A step that fails is the last, and the exit code says so.
func TestDemonstrationFails(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	code := newProgram(newUI(strings.NewReader(""), &out, &errs)).run(ctx, []string{"demo", "--nodes", "3", "--json", "-"})
	var r demoResult
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	last := r.Steps[len(r.Steps)-1]
	if code != exitFailed || r.OK || last.OK || last.Error == "" {
		t.Errorf("exit code %d, result %+v", code, r)
	}
}
