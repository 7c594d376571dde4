package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"p2psip/interwork/phone"
	"p2psip/interwork/phonetest"
)

// shellBlocks gives the commands of the README's fenced blocks, block by block.
func shellBlocks(t *testing.T) (blocks [][]string, readme string) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var in bool
	for _, l := range strings.Split(string(b), "\n") {
		switch {
		case l == "```sh":
			in = true
			blocks = append(blocks, nil)
		case strings.HasPrefix(l, "```"):
			in = false
		case in:
			blocks[len(blocks)-1] = append(blocks[len(blocks)-1], l)
		}
	}
	return blocks, string(b)
}

var portInCommand = regexp.MustCompile(`(:|/tcp/)[0-9]+\b`)

// TestReadme does what the README tells the reader to do, in that order. Only the ports are others, those the README names
// may be in use.
func TestReadme(t *testing.T) {
	blocks, readme := shellBlocks(t)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ports := map[string]string{}
	for _, p := range []string{"5061", "5062", "5063", "5064", "5070", "5081", "5082", "5083", "5084", "3478"} {
		ports[p] = strconv.Itoa(int(phonetest.FreePort(t, "127.0.0.1").Port()))
	}
	edit := func(s string) string {
		s = portInCommand.ReplaceAllStringFunc(s, func(at string) string { // at once: a port given may begin with one of those
			i := strings.LastIndexAny(at, ":/") + 1
			if to, ok := ports[at[i:]]; ok {
				return at[:i] + to
			}
			return at
		})
		s = strings.ReplaceAll(s, "go run ", "go run -C "+root+" ")
		return strings.ReplaceAll(s, "go build -o p2psip", "go build -C "+root+" -o "+dir+"/p2psip")
	}
	ran := map[string]bool{}
	for _, block := range blocks {
		for _, line := range block {
			verb := strings.Join(strings.Fields(line)[:min(3, len(strings.Fields(line)))], " ")
			ran[verb] = true
			switch {
			case line == "go test ./...":
				// This is it. That the continuous integration runs the same is checked below.
			case strings.HasPrefix(line, "./p2psip node "):
				readmeNode(t, dir, edit(line))
			case strings.HasPrefix(line, "./p2psip echo "):
				readmeEcho(t, dir, line)
			case strings.HasPrefix(line, "./p2psip status"):
				readmeCall(t, "127.0.0.1:"+ports["5061"], "127.0.0.1:"+ports["5062"])
				fallthrough
			default:
				cmd := exec.Command("bash", "-c", edit(line))
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", line, err, out)
				}
			}
		}
	}
	for _, want := range []string{"go run ./cmd/p2psip", "go test ./...", "./p2psip overlay create", "./p2psip lookup --data"} {
		if !ran[want] {
			t.Errorf("the README does not show %q", want)
		}
	}
	for _, e := range exitCodes {
		if row := fmt.Sprintf("| %d | %s |", e.code, e.meaning); !strings.Contains(readme, row) {
			t.Errorf("the README lacks the exit code %q", row)
		}
	}
	ci, err := os.ReadFile("../../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"go test ./...", "go run ./cmd/p2psip demo"} {
		if !strings.Contains(string(ci), line) {
			t.Errorf(".ci/run does not run %q", line)
		}
	}
}

// readmeNode runs a node until the test ends, and waits until it answers.
func readmeNode(t *testing.T, dir, line string) {
	t.Helper()
	log := &safeBuffer{}
	cmd := exec.Command("bash", "-c", "exec "+line)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, log)
		}
	})
	data := strings.Fields(line)[3] // ./p2psip node --data DIR
	for start := time.Now(); ; {
		status := exec.Command("./p2psip", "status", "--data", data)
		status.Dir = dir
		out, err := status.CombinedOutput()
		if err == nil {
			return
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("%s: %v\n%s\n%s", line, err, out, log)
		}
	}
}

// readmeEcho runs an echo until the test ends, and waits until its phone is registered.
func readmeEcho(t *testing.T, dir, line string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	cmd := exec.CommandContext(ctx, "bash", "-c", "exec "+line)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &safeBuffer{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		for first := true; lines.Scan(); first = false {
			if first {
				close(ready)
			}
			fmt.Fprintln(said, lines.Text())
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = cmd.Wait()
	})
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("%s ended: %s", line, said)
	}
}

// readmeCall sets two phones up as the README's table says and lets them call. They stay registered.
func readmeCall(t *testing.T, aliceProxy, bobProxy string) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	start := func(user, proxy string, incoming func(*phone.Call)) *phone.Phone {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p, err := phone.New(phone.Config{
			AOR: "sip:" + user + "@p2psip.example", Outbound: proxy, Local: pc, Incoming: incoming, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		if _, err := p.Register(ctx, time.Hour); err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		return p
	}
	alice := start("alice", aliceProxy, nil)
	start("bob", bobProxy, phone.AnswerAfter(0))
	call, err := alice.Call(ctx, "sip:bob@p2psip.example")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call.Wait(ctx, phone.Answered); err != nil {
		t.Fatal(err)
	}
	if err := call.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
}
