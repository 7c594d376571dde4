package network

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ErrDeadlock: every goroutine of a virtual run waits for another one.
var ErrDeadlock = errors.New("every goroutine of the simulation waits and no timer is set")

var (
	virtualMu sync.Mutex // one run at a time: package testing's state is global
	prepared  sync.Once
)

// RunVirtual runs f in virtual time and returns when f and all goroutines started in it have ended. The clock begins at
// midnight UTC on 2000-01-01 and moves when all of them wait for it. A panic of f becomes an error, and so does a
// deadlock, whose goroutines stay behind; a panic in another goroutine ends the process, as anywhere. Channels, timers and
// the like must not be shared with the outside, except for reading from the outside what is guarded by a mutex or atomic.
//
// It stands on testing/synctest, which wants a *testing.T, and gets one in a normal binary through testing.MainStart with
// dependencies that do nothing. MainStart and RunTests are outside the Go 1 promise: TestRunVirtual and the test of the
// example binary tell when a toolchain has changed them.
func RunVirtual(f func()) error {
	virtualMu.Lock()
	defer virtualMu.Unlock()
	prepare()
	ran := false
	var err error
	test := func(t *testing.T) {
		ran = true
		defer func() {
			if p := recover(); p != nil {
				err = errors.Join(err, fmt.Errorf("%w: %v", ErrDeadlock, p))
			}
		}()
		synctest.Test(t, func(*testing.T) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("the simulation panicked: %v\n%s", p, debug.Stack())
				}
			}()
			f()
		})
	}
	ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "virtual", F: func(t *testing.T) {
		if !ran { // -test.count and -test.cpu do not concern this one
			test(t)
		}
	}}})
	if err == nil && (!ok || !ran) {
		err = errors.New("package testing did not let the simulation pass; is -skip or -failfast set, or did the race detector find something?")
	}
	return err
}

// prepare brings package testing into the state that RunTests needs, in a binary that is no test.
func prepare() {
	prepared.Do(func() {
		if testing.Testing() {
			return
		}
		testing.Init()
		if !flag.Parsed() {
			// MainStart would parse the program's own arguments.
			flag.CommandLine.Parse(nil)
		}
		// Run says PASS, and that there was nothing to do.
		out, errOut := os.Stdout, os.Stderr
		if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
			os.Stdout, os.Stderr = null, null
			defer null.Close()
		}
		defer func() { os.Stdout, os.Stderr = out, errOut }()
		testing.MainStart(noDeps{}, nil, nil, nil, nil).Run()
	})
}

// noDeps is what `go test` would put between package testing and the test binary.
type noDeps struct{}

type corpusEntry = struct {
	Parent     string
	Path       string
	Data       []byte
	Values     []any
	Generation int
	IsSeed     bool
}

func (noDeps) ImportPath() string                          { return "" }
func (noDeps) ModulePath() string                          { return "" }
func (noDeps) MatchString(string, string) (bool, error)    { return true, nil }
func (noDeps) SetPanicOnExit0(bool)                        {}
func (noDeps) StartCPUProfile(io.Writer) error             { return nil }
func (noDeps) StopCPUProfile()                             {}
func (noDeps) StartTestLog(io.Writer)                      {}
func (noDeps) StopTestLog() error                          { return nil }
func (noDeps) WriteProfileTo(string, io.Writer, int) error { return nil }
func (noDeps) CoordinateFuzzing(time.Duration, int64, time.Duration, int64, int, []corpusEntry, []reflect.Type, string, string) error {
	return nil
}
func (noDeps) RunFuzzWorker(func(corpusEntry) error) error              { return nil }
func (noDeps) ReadCorpus(string, []reflect.Type) ([]corpusEntry, error) { return nil, nil }
func (noDeps) CheckCorpus([]any, []reflect.Type) error                  { return nil }
func (noDeps) ResetCoverage()                                           {}
func (noDeps) SnapshotCoverage()                                        {}
func (noDeps) InitRuntimeCoverage() (string, func(string, string) (string, error), func() float64) {
	return "", nil, nil
}
