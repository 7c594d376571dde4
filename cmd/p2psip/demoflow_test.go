package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
	"go.uber.org/goleak"
)

// The draft's flows across the border in this process: every numbered step is drawn, and nothing is left running.
func TestDemonstrationOfFlows(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var out, errs bytes.Buffer
	code := newProgram(newUI(strings.NewReader(""), &out, &errs)).run(t.Context(), []string{"demo", "--flow", "all", "--json", "-"})
	if code != exitOK {
		t.Fatalf("exit code %d\n%s%s", code, &out, &errs)
	}
	var r demoResult
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	flows := map[string]int{}
	for _, s := range r.Steps {
		if !s.OK {
			t.Errorf("step %+v", s)
		}
		flows[s.Flow]++
	}
	if !r.OK || flows["5.2"] != 4 || flows["5.3"] != 5 || flows["5.4"] != 4 {
		t.Errorf("result: %s", out.String())
	}
	drawn := errs.String()
	for _, step := range []string{
		"(7) INVITE -->", "(8) INVITE -->", "(9) INVITE -->", // 5.2
		"<-- (1) INVITE", "<-- (2) INVITE", "<-- (3) INVITE", // 5.3
		"(3) REGISTER ->", "(4) REGISTER ->", "<-- (5) INVITE", "<-- (6) INVITE", "<-- (7) INVITE", "<-- (8) INVITE", // 5.4
	} {
		if strings.Count(drawn, step) != 1 {
			t.Errorf("%q is drawn %d times\n%s", step, strings.Count(drawn, step), drawn)
		}
	}
}

// A step that does not come, or too early, is told.
func TestWitness(t *testing.T) {
	invite, bye := sip.NewRequest(sip.INVITE, sip.Uri{Host: "a"}), sip.NewRequest(sip.BYE, sip.Uri{Host: "a"})
	steps := []draftStep{{"(1)", colAlice, colNode, "INVITE"}, {"(2)", colNode, colProxy, "BYE"}}
	for _, tt := range []struct {
		name string
		see  func(w *witness)
		want string
	}{
		{"all", func(w *witness) { w.saw(colAlice, colNode, invite); w.saw(colNode, colProxy, bye) }, ""},
		{"missing", func(w *witness) { w.saw(colAlice, colNode, invite) }, "step (2) BYE from her node to proxy peer is missing"},
		{"elsewhere", func(w *witness) { w.saw(colAlice, colNode, invite); w.saw(colProxy, colNode, bye) }, "is missing"},
		{"order", func(w *witness) { w.saw(colNode, colProxy, bye); w.saw(colAlice, colNode, invite) }, "came out of order"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &witness{ladder: newLadder(func(string, ...any) {}, 19, flowColumns...)}
			defer w.ladder.close()
			w.expect(steps...)
			tt.see(w)
			if err := w.missing(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
