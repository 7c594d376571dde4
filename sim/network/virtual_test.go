package network_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"p2psip/sim/network"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRunVirtual pins what this package relies on in package testing.
func TestRunVirtual(t *testing.T) {
	start := time.Now()
	for range 3 { // callable repeatedly
		var outside atomic.Int64 // progress can be watched from outside
		done := make(chan struct{})
		go func() {
			defer close(done)
			for outside.Load() == 0 {
				runtime.Gosched()
			}
		}()
		err := network.RunVirtual(func() {
			if got := time.Now().UTC().Format(time.RFC3339); got != "2000-01-01T00:00:00Z" {
				t.Errorf("the clock begins at %s", got)
			}
			c := make(chan time.Time)
			go func() { time.Sleep(time.Hour); c <- time.Now() }()
			begin := time.Now()
			if d := (<-c).Sub(begin); d != time.Hour {
				t.Errorf("an hour took %s", d)
			}
			outside.Store(1)
		})
		if err != nil {
			t.Fatal(err)
		}
		<-done
	}
	if real := time.Since(start); real > time.Minute {
		t.Errorf("three virtual hours took %s", real)
	}
}

func TestRunVirtualPanic(t *testing.T) {
	err := network.RunVirtual(func() { panic("on purpose") })
	if err == nil || !strings.Contains(err.Error(), "on purpose") {
		t.Errorf("got %v", err)
	}
	if err := network.RunVirtual(func() {}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestRunVirtualDeadlock(t *testing.T) {
	if os.Getenv("P2PSIP_TEST_DEADLOCK") == "" {
		// The goroutines of a deadlock stay behind, so this runs in a process of its own.
		cmd := exec.Command(os.Args[0], "-test.run", "^TestRunVirtualDeadlock$")
		cmd.Env = append(os.Environ(), "P2PSIP_TEST_DEADLOCK=1")
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), "found it") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	err := network.RunVirtual(func() { <-make(chan struct{}) })
	if !errors.Is(err, network.ErrDeadlock) {
		t.Fatalf("got %v", err)
	}
	t.Log("found it")
	os.Stdout.WriteString("found it\n")
	os.Exit(0)
}

// TestRunVirtualBinary: the same works in a binary that is no test, which prints nothing of package testing's and keeps
// its arguments to itself.
func TestRunVirtualBinary(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary")
	}
	bin := filepath.Join(t.TempDir(), "virtual")
	if out, err := exec.Command("go", "build", "-o", bin, "./testdata/virtual").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(bin, "sim", "--nodes", "7").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := string(out), "1h0m0s\n1h0m0s\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
