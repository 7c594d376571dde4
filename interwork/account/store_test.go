package account

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestStore(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, oid)
	if err != nil {
		t.Fatal(err)
	}
	a := Account{AOR: "sip:alice@Provider.Example.", User: "alice", Password: "s3cret", Proxy: "edge.provider.example;lr;transport=tcp", Prefix: "9", Added: time.Unix(1e9, 0).UTC()}
	if err := s.Add(a); err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(filepath.Join(dir, File)); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	got, err := s.Find("sip:alice@provider.example")
	if err != nil || got.AOR != "sip:alice@provider.example" || got.Proxy != "sip:edge.provider.example;transport=tcp" || got.Password != "s3cret" {
		t.Errorf("%+v, %v", got, err)
	}
	for name, c := range map[string]struct {
		a    Account
		want error
	}{
		"twice":               {a, ErrExists},
		"the same prefix":     {Account{AOR: "sip:alice@other.example", User: "alice", Password: "x", Prefix: "99"}, ErrBadAccount},
		"in the overlay":      {Account{AOR: "sip:alice@p2psip.example", User: "alice", Password: "x"}, ErrBadAccount},
		"no password":         {Account{AOR: "sip:alice@other.example", User: "alice"}, ErrBadAccount},
		"no user":             {Account{AOR: "sip:alice@other.example", Password: "x"}, ErrBadAccount},
		"a parameter":         {Account{AOR: "sip:alice@other.example;x", User: "alice", Password: "x"}, ErrBadAccount},
		"tel":                 {Account{AOR: "tel:+1", User: "alice", Password: "x"}, ErrBadAccount},
		"a line break":        {Account{AOR: "sip:alice@other.example", User: "alice", Password: "x\r\nFrom: y"}, ErrBadAccount},
		"a proxy of ours":     {Account{AOR: "sip:alice@other.example", User: "alice", Password: "x", Proxy: "node.p2psip.example"}, ErrBadAccount},
		"a registrar's user":  {Account{AOR: "sip:alice@other.example", User: "alice", Password: "x", Registrar: "sip:x@other.example"}, ErrBadAccount},
		"too short a time":    {Account{AOR: "sip:alice@other.example", User: "alice", Password: "x", Expires: time.Second}, ErrBadAccount},
		"an unknown contact":  {Account{AOR: "sip:alice@other.example", User: "alice", Password: "x", Contact: "x"}, ErrBadAccount},
		"a prefix of letters": {Account{AOR: "sip:alice@other.example", User: "alice", Password: "x", Prefix: "A b"}, ErrBadAccount},
	} {
		if err := s.Add(c.a); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		} else if c.a.Password != "" && len(c.a.Password) > 1 && strings.Contains(err.Error(), c.a.Password) {
			t.Errorf("%s: the password is told: %v", name, err)
		}
	}
	two := Account{AOR: "sip:alice@second.example", User: "alice", Password: "x", Default: true}
	if err := s.Add(two); err != nil {
		t.Error(err)
	}
	two.AOR = "sip:alice@third.example"
	if err := s.Add(two); !errors.Is(err, ErrBadAccount) {
		t.Errorf("two for all calls: %v", err)
	}
	two.User = "bob"
	if err := s.Add(two); err != nil {
		t.Error(err)
	}
	if _, err := s.Remove("sip:nobody@provider.example"); !errors.Is(err, ErrNoAccount) {
		t.Error(err)
	}
	if _, err := Open(dir, "elsewhere.example"); err == nil || !strings.Contains(err.Error(), "belongs to the overlay") {
		t.Error(err)
	}
}

// TestStoreThatMustNotBeUsed keeps the last good content, says why, and writes nothing over it.
func TestStoreThatMustNotBeUsed(t *testing.T) {
	dir := t.TempDir()
	s, _ := Open(dir, oid)
	if err := s.Add(Account{AOR: "sip:alice@provider.example", User: "alice", Password: "x"}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, File)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(); len(list) != 1 || err == nil {
		t.Errorf("%v, %v", list, err)
	}
	if err := s.Add(Account{AOR: "sip:bob@provider.example", User: "bob", Password: "x"}); err == nil {
		t.Error("written over a damaged file")
	}
	os.Remove(path)
	os.WriteFile(path, []byte(`{"version":1,"overlay":"p2psip.example","accounts":[]}`), 0o644)
	if _, err := s.List(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("open to all: %v", err)
	}
	os.Chmod(path, 0o600)
	os.WriteFile(path, []byte(`{"version":1,"overlay":"p2psip.example","accounts":[] }`), 0o600)
	if list, err := s.List(); len(list) != 0 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
}
