//go:build linux

package datapath

import (
	"context"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"p2psip/interwork/phonetest"
)

var uclientLost = regexp.MustCompile(`Total lost packets (\d+) `)

// TestCoturnsClient sends through two allocations, from one to the other, by coturn's client: with channels and with indications.
func TestCoturnsClient(t *testing.T) {
	t.Parallel()
	path := phonetest.Need(t, "turnutils_uclient")
	for _, args := range []string{"", "-s"} { // -s: Send method, that is indications
		t.Run("batched"+args, func(t *testing.T) {
			t.Parallel() // it waits, most of the time
			w := newWorld(t, LoopOptions{}, Options{}, nil)
			host, port, _ := strings.Cut(w.front.LocalAddr().String(), ":")
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			words := append(strings.Fields(args), "-u", "eve", "-w", "secret", "-p", port, "-y", "-c", "-m", "4", "-n", "50", "-l", "172", "-z", "5", host)
			out, err := exec.CommandContext(ctx, path, words...).CombinedOutput()
			m := uclientLost.FindAllStringSubmatch(string(out), -1)
			if err != nil || len(m) == 0 || m[len(m)-1][1] != "0" {
				t.Errorf("turnutils_uclient %q: %v\n%s", words, err, out)
			}
			if n := w.loop.Stats().Short; w.loop.engine != nil && (n > 0) != (args == "") {
				t.Errorf("turnutils_uclient %q: %d packets took the short cut", words, n)
			}
		})
	}
}
