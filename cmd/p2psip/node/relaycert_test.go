package node

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRelayCertificateIsKept: a relay peer shows the same key after a restart, a new one in time, and never one that is damaged.
func TestRelayCertificateIsKept(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	key := func(now time.Time) []byte {
		t.Helper()
		c, err := RelayTLS("", "", Config{DataDir: dir, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		return c.Certificates[0].Leaf.RawSubjectPublicKeyInfo
	}
	first := key(now)
	if !bytes.Equal(first, key(now.Add(24*time.Hour))) {
		t.Error("another key after a restart")
	}
	if fi, err := os.Stat(filepath.Join(dir, relayCertFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	second := key(now.AddDate(1, 0, -10))
	if bytes.Equal(first, second) {
		t.Error("the same certificate ten days before its end")
	}
	if err := os.WriteFile(filepath.Join(dir, relayCertFile), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if third := key(now); bytes.Equal(second, third) || !bytes.Equal(third, key(now)) {
		t.Error("a damaged file is not replaced")
	}
}
