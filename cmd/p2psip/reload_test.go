package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"p2psip/overlay/datadir"
)

// TestReloadOnSignal: SIGHUP has a proxy peer read its policy and say what came of it.
func TestReloadOnSignal(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "door")
	for _, args := range [][]string{
		{"overlay", "create", "p2psip.example", "--dir", dir + "/root"},
		{"overlay", "issue", "--dir", dir + "/root", "--role", "proxy", "--data", data},
	} {
		if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	said := &safeBuffer{}
	cmd := exec.Command(binary, "node", "--data", data, "--listen", "/ip4/127.0.0.1/tcp/0", "--sip", "127.0.0.1:0", "--no-lan", "--proxy-peer", "--public", "udp:127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the node ended with %v:\n%s", err, said)
		}
	}()
	waitFor := func(text string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !strings.Contains(said.String(), text); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%q was not said:\n%s", text, said)
			}
		}
	}
	waitFor("Stop it with Ctrl-C.")
	for _, c := range []struct{ policy, want string }{
		{"", "everything is allowed"},
		{"[default]\ninbound = false\n[[domain]]\nnames = [\"acme.example\"]\n", "is in force as it is, "},
		{"[default]\nimbound = false\n", "the policy before stays in force: " + data + "/federation.toml: line 2, column 1: there is no key \"default.imbound\"; did you mean \"inbound\"?"},
	} {
		if c.policy != "" {
			if err := datadir.WriteFile(filepath.Join(data, "federation.toml"), []byte(c.policy), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		waitFor(c.want)
	}
}
