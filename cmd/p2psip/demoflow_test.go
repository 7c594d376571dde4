package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"go.uber.org/goleak"
)

// The draft's flows in this process: every numbered step is drawn, and nothing is left running.
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
	if !r.OK || flows["5.1"] != 8 || flows["5.2"] != 9 || flows["5.3"] != 10 || flows["5.4"] != 9 {
		t.Errorf("result: %s", out.String())
	}
	// Each flow begins with its own title; within it the numbered steps stand in the order of the draft, each once.
	drawn := errs.String()
	for _, flow := range []struct {
		title, until string
		steps        []string
	}{
		{"5.1  alice calls", "5.2  alice calls", []string{
			"- (1) Get Relay ->", "<- (2) Response -", "(3) Init Relay -", "- (4) Ok -", "- (5) INVITE -", "- (6) INVITE -", "- (7) Get Relay -",
			"- (8) Response -", "(9) Init", "- (10) Ok -", "- 200 OK -", "- (11) ICE -", "<==", "(12) Media ==>"}},
		{"5.2  alice calls", "5.3  carol calls", []string{
			"- (1) Get Relay ->", "<- (2) Response -", "- (3) Init Relay -", "- (4) Ok -", "- (7) INVITE -", "- (8) INVITE -->", "- (9) INVITE -->", "(11) Media =", "bytes relayed ="}},
		{"5.3  carol calls", "5.4  alice's node", []string{
			"<-- (1) INVITE -", "- (2) INVITE -", "<-- (3) INVITE -", "- (4) Get Relay ->", "<- (5) Response -", "- (6) Init Relay -", "- (7) Ok -", "- 200 OK -", "(9) Media =", "bytes relayed ="}},
		{"5.4  alice's node", "Proven:", []string{
			"- (3) REGISTER -", "(4) REGISTER -", "<-- (5) INVITE -", "<-- (6) INVITE -", "- (7) INVITE -", "<-- (8) INVITE -", "- (9) Get Relay ->",
			"< (10) Response -", "- (11) Init Relay -", "- (12) Ok -", "- 200 OK -", "(14) Media =", "bytes relayed ="}},
	} {
		_, part, ok := strings.Cut(drawn, flow.title)
		part, _, end := strings.Cut(part, flow.until)
		if !ok || !end {
			t.Fatalf("%q is not drawn\n%s", flow.title, drawn)
		}
		rest := part
		for _, step := range flow.steps {
			_, after, ok := strings.Cut(rest, step)
			if !ok {
				t.Errorf("%q is not drawn, or out of order:\n%s", step, part)
				break
			}
			rest = after
			if strings.HasPrefix(strings.TrimLeft(step, "<- "), "(") && !strings.Contains(step, "Media") && strings.Count(part, step) != 1 {
				t.Errorf("%q is drawn %d times:\n%s", step, strings.Count(part, step), part)
			}
		}
	}
}

// Without relay peers there is no flow 5.1: it fails at the first step that needs one, and says so.
func TestFlowWithoutRelays(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var errs bytes.Buffer
	p := newProgram(newUI(strings.NewReader(""), io.Discard, &errs))
	d := newFlowDemo(demoShow{p, p.ui.Note}, t.TempDir(), "5.1", slog.New(slog.DiscardHandler))
	defer d.close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, do := range []func(context.Context) (string, error){d.start, d.register, d.relaysReady} {
		if _, err := do(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for i := range flowRelays { // they go, and take their advertisements back
		d.closed[flowDoors+i] = true
		if err := d.relay(i).Close(); err != nil {
			t.Error(err)
		}
	}
	if said, err := d.callBob(ctx); err == nil {
		t.Errorf("it worked without relay peers: %s", said)
	}
}

// What the nodes told each other is looked at.
func TestOffers(t *testing.T) {
	good := "m=audio 9 UDP/TLS/RTP/SAVP 0\r\na=fingerprint:sha-256 00\r\na=candidate:1 1 udp 1 127.0.0.1 5000 typ relay raddr 0.0.0.0 rport 0\r\n"
	given := []string{"127.0.0.1:5000"}
	for name, tt := range map[string]struct{ text, want string }{
		"relayed only":   {good, ""},
		"a host":         {good + "a=candidate:2 1 udp 1 127.0.0.1 6000 typ host\r\n", "type host"},
		"another relay":  {strings.ReplaceAll(good, " 5000 ", " 5001 "), "is none that"},
		"no candidates":  {good[:strings.Index(good, "a=candidate")], "no ICE candidates"},
		"plain RTP":      {strings.ReplaceAll(good, "UDP/TLS/RTP/SAVP", "RTP/AVP"), "DTLS-SRTP"},
		"no fingerprint": {strings.ReplaceAll(good, "a=fingerprint", "a=x"), "DTLS-SRTP"},
	} {
		if err := offers(tt.text, given); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	d := &flowDemo{witness: &witness{ladder: newLadder(func(string, ...any) {}, 19, flowColumns...)}}
	defer d.witness.ladder.close()
	d.witness.see(colRelay, colAlice, "Ok", "127.0.0.1:5000")
	const sdp = "c=IN IP4 127.0.0.1\r\nm=audio 5000 RTP/AVP 0\r\n"
	for text, want := range map[string]bool{
		sdp: true, strings.ReplaceAll(sdp, "5000", "5002"): false, strings.ReplaceAll(sdp, "0.0.1", "0.0.2"): false,
		strings.ReplaceAll(sdp, "AVP", "SAVP"): false, "": false,
	} {
		if err := d.relayed(text); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A step that does not come, or too early, is told.
func TestWitness(t *testing.T) {
	invite, bye := sip.NewRequest(sip.INVITE, sip.Uri{Host: "a"}), sip.NewRequest(sip.BYE, sip.Uri{Host: "a"})
	steps := []draftStep{{"(1)", colAlice, colOverlay, "INVITE"}, {"(2)", colOverlay, colProxy, "BYE"}}
	for _, tt := range []struct {
		name string
		see  func(w *witness)
		want string
	}{
		{"all", func(w *witness) { w.saw(colAlice, colOverlay, invite); w.saw(colOverlay, colProxy, bye) }, ""},
		{"missing", func(w *witness) { w.saw(colAlice, colOverlay, invite) }, "step (2) BYE from overlay to proxy peer is missing"},
		{"elsewhere", func(w *witness) { w.saw(colAlice, colOverlay, invite); w.saw(colProxy, colOverlay, bye) }, "is missing"},
		{"order", func(w *witness) { w.saw(colOverlay, colProxy, bye); w.saw(colAlice, colOverlay, invite) }, "came out of order"},
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
