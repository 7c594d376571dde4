package edge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"p2psip/overlay"
)

func TestUserStore(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenUsers(dir, oid)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add("alice", password, DigestBoth); err != nil {
		t.Fatal(err)
	}
	if err := s.Add("%61lice", password, DigestBoth); !errors.Is(err, ErrUserExists) {
		t.Errorf("the same user in another spelling: %v", err)
	}
	for name, pw := range map[string]string{"": "x", "a b": "x", "bob": "", "bo": "a\nb", "b": strings.Repeat("x", maxPassword+1)} {
		if err := s.Add(name, pw, DigestBoth); err == nil {
			t.Errorf("user %q with password %q was added", name, pw)
		}
	}
	if us := s.List(); len(us) != 1 || us[0].Name != "alice" || us[0].Created.IsZero() {
		t.Errorf("%+v", us)
	}
	raw, err := os.ReadFile(filepath.Join(dir, UsersFile))
	if err != nil || strings.Contains(string(raw), password) {
		t.Errorf("%v; the clear password is in the file", err)
	}
	if st, _ := os.Stat(filepath.Join(dir, UsersFile)); st.Mode().Perm() != 0o600 {
		t.Error(st.Mode())
	}
	if err := s.Remove("bob"); !errors.Is(err, ErrNoUser) {
		t.Error(err)
	}
	if err := s.Remove("alice"); err != nil {
		t.Error(err)
	}
	if len(s.List()) != 0 {
		t.Error("still there")
	}
}

func TestUserStoreIsReadAgainWhenItChanges(t *testing.T) {
	dir := t.TempDir()
	node, err := OpenUsers(dir, oid)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	node.now = func() time.Time { return now }
	node.checked = now
	cli, err := OpenUsers(dir, oid)
	if err != nil {
		t.Fatal(err)
	}
	if err := cli.Add("alice", password, DigestBoth); err != nil {
		t.Fatal(err)
	}
	if _, ok := node.Lookup("alice"); ok {
		t.Error("looked at the file more than once a second")
	}
	now = now.Add(reloadEvery)
	if _, ok := node.Lookup("alice"); !ok {
		t.Error("the new user is not seen")
	}
	good, _ := os.ReadFile(filepath.Join(dir, UsersFile))
	for name, bad := range map[string]string{
		"truncated":         string(good[:len(good)/2]),
		"empty":             "",
		"other realm":       strings.ReplaceAll(string(good), "p2psip.example", "other.example"),
		"newer version":     strings.Replace(string(good), `"version": 1`, `"version": 9`, 1),
		"unknown field":     strings.Replace(string(good), `"version"`, `"password": "x", "version"`, 1),
		"trailing":          string(good) + "{}",
		"bad hash":          strings.Replace(string(good), `alice": "`, `alice": "x`, 1),
		"unknown algorithm": strings.ReplaceAll(string(good), "MD5", "MD4"),
		"user twice":        strings.Replace(string(good), `"users": [`, `"users": [{"user":"alice","created":"2026-01-01T00:00:00Z","ha1":{"MD5 alice":"00000000000000000000000000000000"}},`, 1),
		"bad name":          strings.Replace(string(good), `"user": "alice"`, `"user": "al ice"`, 1),
		"no hash":           `{"version":1,"realm":"p2psip.example","users":[{"user":"x","created":"2026-01-01T00:00:00Z"}]}`,
		"huge":              strings.Repeat(" ", maxUsersBytes+1),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, UsersFile), []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			now = now.Add(reloadEvery)
			if _, ok := node.Lookup("alice"); !ok {
				t.Error("the last good content is gone")
			}
			if err := node.Err(); err == nil || !strings.Contains(err.Error(), UsersFile) {
				t.Errorf("error: %v", err)
			}
			if err := node.Add("bob", "x", DigestBoth); err == nil {
				t.Error("a file that somebody has to look at was written over")
			}
			if _, err := OpenUsers(dir, oid); err == nil {
				t.Error("opened at the start")
			}
		})
	}
	if err := os.WriteFile(filepath.Join(dir, UsersFile), good, 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(reloadEvery)
	if err := node.Err(); err != nil {
		t.Error("still bad after it was repaired:", err)
	}
}

func TestUserAddedOnARunningNode(t *testing.T) {
	remote(t, func(b *bench, f *memFlow) {
		cli, err := OpenUsers(b.c.DataDir, oid)
		if err != nil {
			t.Fatal(err)
		}
		if err := cli.Remove("alice"); err != nil {
			t.Fatal(err)
		}
		if err := cli.Add("alice", "new password", DigestBoth); err != nil {
			t.Fatal(err)
		}
		time.Sleep(reloadEvery)
		a := answerTo{user: "alice", password: "new password", method: "REGISTER", uri: "sip:p2psip.example", nc: 1, nonce: b.e.digest.newNonce(lan)}
		if s := statusOf(b.send(f, ask{lines: []string{here, a.line("Authorization")}})); s != 200 {
			t.Error(s)
		}
		a.password = password
		if s := statusOf(b.send(f, ask{lines: []string{here, a.line("Authorization")}})); s != 401 {
			t.Error("the old password:", s)
		}
	})
}

// A process killed between writing the new file and renaming it leaves the old content, and no obstacle.
func TestUserStoreSurvivesAKillBeforeTheRename(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenUsers(dir, oid)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add("alice", password, DigestBoth); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"." + UsersFile + ".new-1", UsersFile + ".lock"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"version":1,"us`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err = OpenUsers(dir, oid)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add("bob", password, DigestBoth); err != nil {
		t.Fatal(err)
	}
	if us := s.List(); len(us) != 2 {
		t.Errorf("%+v", us)
	}
}

func TestConcurrentAdds(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := OpenUsers(dir, oid) // each like a process of its own
			if err == nil {
				err = s.Add(fmt.Sprintf("user%d", i), password, DigestBoth)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := OpenUsers(dir, oid)
	if err != nil || len(s.List()) != 8 {
		t.Errorf("%v %d", err, len(s.List()))
	}
}

func TestTooManyUsers(t *testing.T) {
	s, err := OpenUsers(t.TempDir(), oid)
	if err != nil {
		t.Fatal(err)
	}
	s.max = 1
	if err := s.Add("alice", password, DigestBoth); err != nil {
		t.Fatal(err)
	}
	if err := s.Add("bob", password, DigestBoth); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
}

func TestNewPassword(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		p := NewPassword()
		if len(p) != 24 || strings.Count(p, "-") != 4 || strings.Trim(p, passwordAlphabet+"-") != "" || seen[p] {
			t.Fatal(p)
		}
		seen[p] = true
	}
}

func TestConfigIsChecked(t *testing.T) {
	ok := Config{OID: oid, DataDir: t.TempDir(), Own: func() []overlay.AOR { return nil }, Publisher: &memPublisher{}, Flows: &memFlows{}}
	if err := ok.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"OID":         func(c *Config) { c.OID = "" },
		"Own":         func(c *Config) { c.Own = nil },
		"Publisher":   func(c *Config) { c.Publisher = nil },
		"Flows":       func(c *Config) { c.Flows = nil },
		"MinExpires":  func(c *Config) { c.MinExpires = 2 * time.Hour },
		"order":       func(c *Config) { c.DefaultExpires, c.MaxExpires = time.Hour, time.Minute },
		"MaxContacts": func(c *Config) { c.MaxContacts = overlay.MaxDevices + 1 },
		"timeout":     func(c *Config) { c.PublishTimeout = time.Hour },
	} {
		c := ok
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDamagedKey(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, keyFile), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{OID: oid, DataDir: dir, Own: func() []overlay.AOR { return nil }, Publisher: &memPublisher{}, Flows: &memFlows{}}); err == nil {
		t.Error("a node with half a key started")
	}
}
