package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"
	"golang.org/x/term"
)

// ui is the only thing in this program that writes to the terminal. Results go to standard output, everything about how
// it went to standard error: so a script that reads the one is not disturbed by the other.
type ui struct {
	in          *bufio.Reader
	terminal    *os.File // standard input if it is a terminal, else nil
	interactive bool     // standard error is a terminal: progress may overwrite itself

	mu  sync.Mutex // guards out and err: a node's events and a demonstration's ladder come from several goroutines
	out io.Writer
	err io.Writer
}

func newUI(in io.Reader, out, err io.Writer) *ui {
	u := &ui{in: bufio.NewReader(in), out: out, err: err}
	if f, ok := in.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		u.terminal = f
	}
	if f, ok := err.(*os.File); ok {
		u.interactive = isatty.IsTerminal(f.Fd())
	}
	return u
}

// Say prints a line of the result.
func (u *ui) Say(format string, a ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprintf(u.out, format+"\n", a...)
}

// Table prints rows with their columns one below the other, indented by two.
func (u *ui) Table(rows ...[]string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	w := tabwriter.NewWriter(u.out, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, "  "+strings.TrimRight(strings.Join(r, "\t"), "\t"))
	}
	w.Flush()
}

// JSON prints v for a machine.
func (u *ui) JSON(v any) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := json.NewEncoder(u.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// JSONLine prints v for a machine that reads line by line.
func (u *ui) JSONLine(v any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := json.NewEncoder(u.out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // nobody reads any more
}

// Note says something beside the result.
func (u *ui) Note(format string, a ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprintf(u.err, format+"\n", a...)
}

// Warn says what may go wrong, and what to do about it.
func (u *ui) Warn(hint, format string, a ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprintf(u.err, "warning: "+format+"\n", a...)
	if hint != "" {
		fmt.Fprintf(u.err, "hint: %s\n", hint)
	}
}

// Fail tells an error with its hint and gives the exit code that belongs to it.
func (u *ui) Fail(err error) int {
	code, hint := outcome(err)
	var silent *silentError
	if errors.As(err, &silent) {
		return code
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprintf(u.err, "p2psip: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
	if hint != "" {
		fmt.Fprintf(u.err, "hint: %s\n", hint)
	}
	return code
}

// progressAfter is how long something may take before the terminal says that it still goes on.
const progressAfter = 2 * time.Second

// Progress says on standard error that something is still going on when it takes longer than two seconds: on a terminal
// with the seconds counting up, elsewhere once. The returned function ends it.
func (u *ui) Progress(what string) (done func()) {
	start := time.Now()
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTimer(progressAfter)
		defer t.Stop()
		shown := false
		for {
			select {
			case <-quit:
				if shown && u.interactive {
					u.raw("\r\x1b[K")
				}
				return
			case <-t.C:
			}
			switch {
			case u.interactive:
				u.raw(fmt.Sprintf("\r\x1b[K%s … %d s", what, int(time.Since(start).Seconds())))
				t.Reset(time.Second)
			case !shown:
				u.raw(what + " …\n")
			}
			shown = true
		}
	})
	var once sync.Once
	return func() { once.Do(func() { close(quit); wg.Wait() }) }
}

func (u *ui) raw(s string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	io.WriteString(u.err, s)
}

// maxLine bounds what ReadLine takes.
const maxLine = 4096

// ReadLine reads one line from standard input, without its end.
func (u *ui) ReadLine() (string, error) {
	var b []byte
	for {
		c, err := u.in.ReadByte()
		switch {
		case err == io.EOF && len(b) > 0, err == nil && c == '\n':
			return strings.TrimSuffix(string(b), "\r"), nil
		case err == io.EOF:
			return "", errors.New("standard input is empty")
		case err != nil:
			return "", fmt.Errorf("reading standard input: %w", err)
		case len(b) >= maxLine:
			return "", errors.New("the first line of standard input is too long")
		}
		b = append(b, c)
	}
}

// ReadSecret asks for a secret on the terminal, which does not show what is typed, until ctx ends. Without a terminal it
// fails.
func (u *ui) ReadSecret(ctx context.Context, prompt string) (string, error) {
	if u.terminal == nil {
		return "", errors.New("standard input is no terminal to ask for the password on")
	}
	fd := int(u.terminal.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("reading from the terminal: %w", err)
	}
	type typed struct {
		b   []byte
		err error
	}
	done := make(chan typed, 1)
	u.raw(prompt)
	go func() { // ends with the line, or with the process
		b, err := term.ReadPassword(fd)
		done <- typed{b, err}
	}()
	select {
	case t := <-done:
		u.raw("\n")
		switch {
		case t.err != nil:
			return "", fmt.Errorf("reading from the terminal: %w", t.err)
		case len(t.b) > maxLine:
			return "", errors.New("what was typed is too long")
		}
		return string(t.b), nil
	case <-ctx.Done():
		u.raw("\n")
		return "", errors.Join(ctx.Err(), term.Restore(fd, before))
	}
}

// LogWriter gives a writer to standard error for a log, whose lines do not mix with others.
func (u *ui) LogWriter() io.Writer { return logWriter{u} }

type logWriter struct{ u *ui }

func (w logWriter) Write(b []byte) (int, error) {
	w.u.mu.Lock()
	defer w.u.mu.Unlock()
	return w.u.err.Write(b)
}

// ms prints a duration as people read it.
func ms(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// span prints a longer duration in words: "1 hour", "50 minutes", "7 days".
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return plural(int(d.Round(time.Hour).Hours()/24), "day")
	case d >= 2*time.Hour || d == time.Hour:
		return plural(int(d.Round(time.Hour).Hours()), "hour")
	case d >= 2*time.Minute:
		return plural(int(d.Round(time.Minute).Minutes()), "minute")
	}
	return plural(int(d.Round(time.Second).Seconds()), "second")
}

// plural writes "1 phone", "2 phones".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
