package proxy

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
)

// TestCorpus hands every message of RFC 4475 and RFC 5118 to a node, as a phone would send it in one datagram, and
// compares what happens with the index beside them: PROC is any processing, a status is the answer, NONE is silence.
// The overlay is called as the request's domain, so that what can be routed is.
func TestCorpus(t *testing.T) {
	const dir = "../message/testdata/corpus"
	index, err := os.ReadFile(filepath.Join(dir, "index.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for i, line := range strings.Split(strings.TrimRight(string(index), "\n"), "\n") {
		c := strings.Split(line, "\t")
		if i == 0 || len(c) < 12 || !strings.HasPrefix(c[0], "rfc") {
			continue
		}
		rows++
		name, file := c[1], c[2]
		want := append(strings.Split(c[7], "|"), strings.Split(c[8], "|")...)
		forward := c[11]
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			newWorld(t, func(w *world) { corpusMessage(w, b, want, forward) })
		})
	}
	if rows < 60 {
		t.Errorf("only %d rows", rows)
	}
}

func corpusMessage(w *world, b []byte, want []string, forward string) {
	a := w.node(1)
	caller := fakeFlow(flow.TransportUDP, "127.0.1.1", 5060)
	gate := fakeFlow(flow.TransportTCP, "127.0.1.1", 5060)
	a.out = func(sip.Uri) ([]Target, bool) { return []Target{{Flow: gate, Q: 1000}}, true }
	a.core.cfg.Outbound = outbound(func(u sip.Uri) ([]Target, bool) { return a.out(u) })

	m, err := message.Parse(b, true)
	if err == nil {
		a.core.Layer().HandleMessage(caller, m)
	} else {
		var e *message.Error
		if !errors.As(err, &e) {
			w.t.Fatal(err)
		}
		a.core.Layer().HandleMalformed(caller, e)
	}
	w.after(100 * time.Millisecond)
	var sent []sip.Message
	sent = append(sent, gate.Take()...)
	status := ""
	for _, r := range caller.Raw() {
		if f := strings.Fields(string(r)); len(f) > 1 && f[1] != "100" {
			status = f[1] // the rest may be as broken as what it answers
		}
	}
	got := "NONE"
	switch {
	case len(sent) > 0:
		got = "PROC"
	case status != "":
		got = status
	}
	ok := slices.ContainsFunc(want, func(s string) bool {
		return s == got || len(s) == 3 && strings.HasSuffix(s, "xx") && got[:1] == s[:1] && len(got) == 3 ||
			s == "PROC" && (got == "404" || got == "200") // processed: the user is not there, a registration is taken
	})
	if !ok {
		w.t.Errorf("outcome %s, want one of %q", got, want)
	}
	for _, s := range sent {
		checkForward(w.t, s.String(), forward)
	}
	if p := a.core.Stats(); p.Panics+p.Transactions.Panics != 0 {
		w.t.Error("a panic")
	}
}

// checkForward applies the rule for what is forwarded: "!" must not be, "+re" must match, "-re" must not, "u:-text" as
// the last two for plain text on UDP.
func checkForward(t *testing.T, text, rule string) {
	t.Helper()
	switch {
	case rule == "" || rule == "-":
	case rule == "!":
		t.Errorf("forwarded although it must not be:\n%s", text)
	case strings.HasPrefix(rule, "u:-"):
		if strings.Contains(text, strings.TrimPrefix(rule, "u:-")) {
			t.Errorf("%s in\n%s", rule, text)
		}
	case rule[0] == '+' || rule[0] == '-':
		re, err := regexp.Compile(rule[1:])
		if err != nil {
			t.Fatalf("rule %q: %v", rule, err)
		}
		if re.MatchString(text) != (rule[0] == '+') {
			t.Errorf("rule %s is broken by\n%s", rule, text)
		}
	default:
		t.Fatalf("unknown rule %q", rule)
	}
}
