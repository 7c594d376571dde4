package datadir_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"p2psip/overlay/datadir"
)

func TestOneProcessAtATime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d, err := datadir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(dir); st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", st.Mode())
	}
	if _, err := datadir.Open(dir); !errors.Is(err, datadir.ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = datadir.Open(dir); err != nil {
		t.Fatal(err)
	}
	d.Close()
}

func TestReadFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := datadir.WriteFile(path, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := datadir.ReadFile(path, 100); err != nil || len(b) != 100 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := datadir.ReadFile(path, 99); err == nil {
		t.Error("a file over the limit was read")
	}
}

// TestKilledWhileWriting kills a process that rewrites a file as fast as it can, at no particular moment, many times: the
// file is always whole, and what was left over is removed.
func TestKilledWhileWriting(t *testing.T) {
	if path := os.Getenv("DATADIR_TEST_WRITE"); path != "" {
		for i := 0; ; i++ {
			c := string(rune('a' + i%26))
			if err := datadir.WriteFile(path, []byte(strings.Repeat(c, 64<<10)), 0o600); err != nil {
				os.Exit(2)
			}
			if i == 0 {
				os.Stdout.WriteString("go\n")
			}
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for round := range 20 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledWhileWriting$")
		cmd.Env = append(os.Environ(), "DATADIR_TEST_WRITE="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out.Read(make([]byte, 3)) // the first version is there; the next are on their way
		cmd.Process.Kill()
		cmd.Wait()
		b, err := os.ReadFile(path)
		if err != nil || len(b) != 64<<10 || strings.Trim(string(b), string(b[0])) != "" {
			t.Fatalf("round %d: the file is torn: %d bytes, %v", round, len(b), err)
		}
	}
	d, err := datadir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != "state.json" && e.Name() != "lock" {
			t.Errorf("left over: %s", e.Name())
		}
	}
}
