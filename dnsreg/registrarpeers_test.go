package dnsreg

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"p2psip/interwork/locate/locatetest"
	"p2psip/overlay"
)

// Two registrars of one zone of BIND's and Knot's: one works, the other takes over when it ends. A key that the server does not know
// costs nothing but a clear word, and the operator's records are as they were.
func TestRegistrarsOfServers(t *testing.T) {
	for name, start := range locatetest.Dynamics() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, map[string]string{"example.org": handMade}, testKey)
			before := contents(t, s)
			w := newWorld()
			w.offer("one", "sip:8.8.1.8", "sips:8.8.1.8")
			w.offer("two", "sip:8.8.2.8")
			run := func(by string, change func(*Updater)) (*Registrar, func()) {
				u := updater(s, by)
				if change != nil {
					change(u)
				}
				r, err := NewRegistrar(RegistrarConfig{Records: Config{OID: "example.org"}, Source: w, Backend: u, By: by,
					Probes: ProberConfig{Dial: w.dial, Every: 100 * time.Millisecond, Again: 20 * time.Millisecond},
					Look:   50 * time.Millisecond, Check: 100 * time.Millisecond, Takeover: 500 * time.Millisecond, Settle: time.Second,
					RetryMin: 50 * time.Millisecond, RetryMax: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)).With("registrar", by)})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan struct{})
				go func() { defer close(done); r.Run(ctx) }()
				stop := func() { cancel(); <-done }
				t.Cleanup(func() { stop(); w.running.Wait() })
				return r, stop
			}
			reader := updater(s, "reader")
			state := func() state {
				st, err := reader.read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return st
			}
			follow := func(what, by string, nodes ...overlay.NodeID) {
				t.Helper()
				deadline := time.Now().Add(15 * time.Second)
				for {
					st := state()
					var hosts []string
					for h := range hostsOf(st.own) {
						hosts = append(hosts, h)
					}
					slices.Sort(hosts)
					if slices.Equal(hosts, hostsFor(nodes...)) && st.by == by {
						return
					}
					if time.Now().After(deadline) {
						t.Fatalf("%s: by %q, %v", what, st.by, hosts)
					}
					time.Sleep(20 * time.Millisecond) // a poll of another process
				}
			}
			stranger, stopStranger := run("stranger", func(u *Updater) { u.Key.Name = "other.example.org" })
			_, stopA := run("a", nil)
			follow("the first", "a", "one", "two")
			_, stopB := run("b", nil)
			w.withdraw("two")
			follow("both, and one leaves", "a", "one")
			stopA()
			w.offer("three", "sip:8.8.3.8")
			follow("the first has ended", "b", "one", "three")
			w.do(func() { w.dead["8.8.3.8:5060"] = true })
			follow("one is killed", "b", "one")
			if r := stranger.Report(); !strings.Contains(r.Trouble, ErrKey.Error()) {
				t.Errorf("with a strange key: %+v", r.Trouble)
			}
			stopStranger()
			w.withdraw("one")
			follow("nobody is left", "b")
			stopB()
			if after := slices.DeleteFunc(contents(t, s), isNote); !slices.Equal(after, before) {
				t.Errorf("the operator's records were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
		})
	}
}
