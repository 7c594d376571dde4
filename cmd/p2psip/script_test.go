package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"p2psip/cmd/p2psip/node"
	"p2psip/interwork/locate/zone"
	"p2psip/sim/result"
)

// TestScripts plays testdata/*.txtar against the real binary. UPDATE_SCRIPTS=1 writes down what it prints where a script
// compares that with a file.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Deadline:      time.Now().Add(3 * time.Minute), // one that hangs is told of
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "wrong": wrong, "ready": ready, "setnode": setnode, "same": same, "dns": serveZone, "holds": waitFile,
			"sound": makeSound, "heard": heardSound, "phones": waitPhones, "calls": waitCalls,
		},
	})
}

// exitCode runs a program in a script and gives its exit code.
func exitCode(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	var e *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.ExitCode()
	}
	ts.Fatalf("%v", err)
	return 0
}

// exits: "exits 3 p2psip lookup …" wants that exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitCode(ts, args[1:]); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// wrong: "wrong 2 p2psip …" wants that exit code, nothing on standard output, and on standard error one line that says what
// is wrong and one that says what to do.
func wrong(ts *testscript.TestScript, _ bool, args []string) {
	exits(ts, false, args)
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("standard output: %q", out)
	}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile("stderr"), "\n"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "p2psip: ") || !strings.HasPrefix(lines[1], "hint: ") {
		ts.Fatalf("not one line with a hint:\n%s", strings.Join(lines, "\n"))
	}
}

// ready: "ready DIR [N]" waits until the node with that data directory runs and knows N others.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	n := 0
	if len(args) > 1 {
		n, _ = strconv.Atoi(args[1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		res, err := node.Ask(ctx, ts.MkAbs(args[0]), node.Request{Do: "status"})
		if err == nil && res.Status.Table >= n {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("the node in %s is not ready: %v", args[0], err)
		case <-time.After(20 * time.Millisecond): // a poll across processes
		}
	}
}

// setnode: "setnode NAME DIR" puts the address of the node that runs there into the variable NAME, to bootstrap from, and
// its identifier into NAME_ID.
func setnode(ts *testscript.TestScript, _ bool, args []string) {
	res, err := node.Ask(context.Background(), ts.MkAbs(args[1]), node.Request{Do: "status"})
	ts.Check(err)
	ts.Setenv(args[0], res.Status.Addrs[0])
	ts.Setenv(args[0]+"_ID", res.Status.Node)
}

// waitFile: "holds FILE TEXT" waits until a file has the text in it.
func waitFile(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		b, _ := os.ReadFile(ts.MkAbs(args[0]))
		if strings.Contains(string(b), args[1]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s has no %q: %s", args[0], args[1], b)
		}
		time.Sleep(20 * time.Millisecond) // a poll across processes
	}
}

// serveZone: "dns FILE NAME" serves the zones in a file and puts the name server's address into the variable NAME.
func serveZone(ts *testscript.TestScript, _ bool, args []string) {
	z, err := zone.Parse(ts.ReadFile(args[0]))
	ts.Check(err)
	for range 50 { // the port has to be free for both
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		ts.Check(err)
		ln, err := net.Listen("tcp4", pc.LocalAddr().String())
		if err != nil {
			pc.Close()
			continue
		}
		s := zone.Serve(pc, ln, z, nil)
		ts.Defer(func() { s.Close() })
		ts.Setenv(args[1], pc.LocalAddr().String())
		return
	}
	ts.Fatalf("found no port that is free for UDP and TCP")
}

// same: "same A B" wants two results of simulations to be equal but for what the runs cost.
func same(ts *testscript.TestScript, _ bool, args []string) {
	var texts [2]string
	for i, name := range args {
		r, err := result.Read(strings.NewReader(ts.ReadFile(name)))
		ts.Check(err)
		r.Strip()
		var b strings.Builder
		ts.Check(result.Write(&b, r))
		texts[i] = b.String()
	}
	if texts[0] != texts[1] {
		ts.Fatalf("%s and %s differ", args[0], args[1])
	}
}
