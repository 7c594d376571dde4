package phonetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// Life is how long a phone lives at most; it ends itself then, even if the test binary was killed before.
	Life = 3 * time.Minute

	// grace is how long a program may take to end after SIGTERM before it gets SIGKILL.
	grace = 2 * time.Second

	// logBytes is how much of a program's output is kept: its end.
	logBytes = 256 << 10
)

// process is one program, in a process group of its own.
type process struct {
	cmd  *exec.Cmd
	log  *tail
	done chan struct{} // closed when the program is reaped
	err  error         // of Wait; read after done
}

// startProcess runs path; what it writes goes to log. The process is ended and reaped when the test ends.
func startProcess(t testing.TB, log *tail, dir, path string, files []*os.File, args ...string) (*process, error) {
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = grace // a grandchild holding the output open does not keep Wait
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.stop)
	return p, nil
}

// signal sends sig to the process group if the program still runs. The number cannot be another's: it is only given
// away after the program was reaped, and done tells of that.
func (p *process) signal(sig syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, sig)
	}
}

// stop ends the program, first politely, and waits for it.
func (p *process) stop() {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return
	case <-time.After(grace):
	}
	p.kill()
}

// kill ends the program at once and waits for it.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// exitCode is the exit status; -1 for a program that still runs or was ended by a signal.
func (p *process) exitCode() int {
	select {
	case <-p.done:
	default:
		return -1
	}
	var exit *exec.ExitError
	switch {
	case p.err == nil:
		return 0
	case errors.As(p.err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// tail is a writer that keeps the last logBytes written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte // guarded by mu
	cut bool   // guarded by mu: something was dropped
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if over := len(l.buf) - logBytes; over > 0 {
		l.buf = append(l.buf[:0], l.buf[over:]...)
		l.cut = true
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := string(bytes.ToValidUTF8(l.buf, []byte("?")))
	if l.cut {
		return "…" + s
	}
	return s
}

// showOnFailure prints what the phone said if the test fails. It must be called before the process is started: clean-up
// runs backwards, and the log is whole only when the program has ended.
func (l *tail) showOnFailure(t testing.TB, name string) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("==== %s said:\n%s\n==== end of %s", name, l, name)
		}
	})
}
