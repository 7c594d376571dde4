package policy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestBadFiles: what is wrong is told with its place.
func TestBadFiles(t *testing.T) {
	for _, c := range []struct {
		text         string
		line, column int
		say          string
	}{
		{"[default]\noutbond = true\n", 2, 1, `there is no key "default.outbond"; did you mean "outbound"?`},
		{"[[domain]]\nnames = [\"a.test\"]\nrequire-tls = true\n", 3, 1, `did you mean "require_tls"?`},
		{"[[domains]]\nnames = [\"a.test\"]\n", 1, 3, `did you mean "domain"?`},
		{"[[route]]\nto = \"a.test\"\nnexthop = \"b.test\"\n", 3, 1, `did you mean "next_hop"?`},
		{"[default]\nzzzzzz = 1\n", 2, 1, `there is no key "default.zzzzzz"`},
		{"[default]\noutbound = \"yes\"\n", 2, 12, ""},
		{"[default]\noutbound = yes\n", 2, 12, ""},
		{"[default]\noutbound = true\noutbound = false\n", 3, 1, "second time"},
		{"[[domain]]\nnames = [\"a.test\", \"evil*.test\"]\n", 2, 20, "whole labels"},
		{"[[domain]]\nnames = [\"a..test\"]\n", 2, 10, "no domain"},
		{"[[domain]]\nnames = [\"a.test\"]\ntrusted = [\"192.0.2.1/24\"]\n", 3, 12, "192.0.2.0/24"},
		{"[[domain]]\nnames = [\"a.test\"]\ntrusted = [\"192.0.2.256\"]\n", 3, 12, "no address"},
		{"[[domain]]\nnames = [\"a.test\"]\ntransports = [\"SCTP\"]\n", 3, 15, "no transport"},
		{"[[domain]]\nnames = [\"a.test\"]\nsubjects = [\"*.a.test\"]\n", 3, 13, "without wildcard"},
		{"[[domain]]\nnames = [\"a.test\"]\nnext_hop = \"b.test:99999\"\n", 3, 12, "no host"},
		{"[[domain]]\nnames = [\"a.test\"]\nport = 70000\n", 1, 0, "no port"},
		{"\n[[domain]]\ndescription = \"nobody\"\n", 2, 0, `needs "names"`},
		{"[[domain]]\nnames = [\"a.test\"]\n\n[[domain]]\nnames = [\"b.test\", \"A.test.\"]\n", 4, 0, "a.test has an entry already, in line 1"},
		{"[[domain]]\nnames = [\"a.test\"]\n[[domain]]\nnames = [\"b.test\"]\naliases = [\"a.test\"]\n", 3, 0, "in line 1"},
		{"[[domain]]\nnames = [\"*.a.test\"]\naliases = [\"b.test\"]\n", 1, 0, "not one domain"},
		{"[[domain]]\nnames = [\"a.test\"]\nrequire_tls = true\ntransports = [\"udp\"]\n", 1, 0, "without TLS"},
		{"[[domain]]\nnames = [\"a.test\"]\ntransports = []\n", 1, 0, "empty"},
		{"[[domain]]\nnames = [\"a.test\"]\nhosted = true\n", 1, 0, "routing_domain"},
		{"[[domain]]\nnames = [\"a.test\"]\nnext_hop = \"b.test:5060\"\nport = 5060\n", 1, 0, "a port stands"},
		{"[[route]]\nto = \".com.acme\"\nnext_hop = \"b.test\"\n", 2, 6, "ends in"},
		{"[[route]]\nto = \"a.test\"\n", 1, 0, "next_hop"},
		{"[[route]]\nnext_hop = \"a.test\"\n", 1, 0, `needs "to"`},
		{"[[route]]\nto = \"a.test\"\nnext_hop = \"b.test\"\n[[route]]\nto = \"a.test\"\nnext_hop = \"c.test\"\n", 4, 0, "already, in line 1"},
		{strings.Repeat("# much\n", maxFile/6), 0, 0, "larger"},
	} {
		p, err := Parse([]byte(c.text))
		var e *FileError
		if p != nil || !errors.As(err, &e) {
			t.Errorf("%.60q: %v", c.text, err)
			continue
		}
		if e.Line != c.line || c.column != 0 && e.Column != c.column || !strings.Contains(e.Text, c.say) {
			t.Errorf("%.60q: %v, want line %d, column %d and %q", c.text, err, c.line, c.column, c.say)
		}
	}
}

func TestFileChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "federation.toml")
		n := 0
		write := func(s string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
			n++ // the clock of the file system is not this one
			if err := os.Chtimes(path, time.Time{}, time.Unix(int64(n), 0)); err != nil {
				t.Fatal(err)
			}
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		allowed := func(want bool) {
			t.Helper()
			if d := f.Policy().Outbound(uri("sip:carol@a.test")); d.Allowed != want {
				t.Errorf("%+v, want %v", d, want)
			}
		}
		allowed(true)

		var mu sync.Mutex
		var told []string // guarded by mu
		ctx, done := t.Context(), make(chan struct{})
		go func() {
			defer close(done)
			f.Watch(ctx, WatchEvery, func(err error) {
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					told = append(told, err.Error())
				} else {
					told = append(told, "new")
				}
			})
		}()
		step := func(want string) {
			t.Helper()
			mu.Lock()
			told = nil
			mu.Unlock()
			time.Sleep(3 * WatchEvery)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(told, "|"); !strings.Contains(got, want) || want == "" && got != "" || len(told) > 1 {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		step("")
		before := f.Policy()
		write("[default]\noutbound = false\n")
		allowed(true)
		step("new")
		allowed(false)
		if !before.Outbound(uri("sip:carol@a.test")).Allowed {
			t.Error("a decision under way sees the new policy")
		}
		write("[default]\noutbound = true\noutbnd = true\n")
		step(`line 3, column 1: there is no key "default.outbnd"`)
		allowed(false) // refused whole
		if f.Err() == nil {
			t.Error("nothing tells that the file is bad")
		}
		if _, err := f.Reload(); err == nil {
			t.Error("an explicit reload does not tell")
		}
		os.Remove(path)
		step("stays in force")
		allowed(false)
		write("[default]\noutbound = false\n")
		step("new")
		if f.Err() != nil {
			t.Error(f.Err())
		}
		write("[default]\noutbound = false\n") // touched
		step("")
		write("[default]\noutbound = true\n")
		if changed, err := f.Reload(); !changed || err != nil {
			t.Error(changed, err)
		}
		allowed(true)
		step("")
		t.Cleanup(func() { <-done })
	})
}

func TestOpenRefusesABadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "federation.toml")
	if err := os.WriteFile(path, []byte("outbound"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := Open(path); err == nil || !strings.Contains(err.Error(), "federation.toml: line 1") {
		t.Errorf("%v, %v", f, err)
	}
}

// FuzzParse: a file is read or refused, and decides whatever it is asked.
func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("[[route]]\nto = \".com.domaina.*\"\nnext_hop = \"[2001:db8::1]:5061\"\ntransport = \"tcp\"\n")
	f.Add("[[domain]]\nnames = [\"*.a.test\"]\nport = 1\nenabled = false\n")
	f.Add("[default]\nrouting_domain = \"x.test\"\nhosted = true\n[[domain]]\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse([]byte(text))
		if err != nil {
			var e *FileError
			if !errors.As(err, &e) {
				t.Errorf("%v", err)
			}
			return
		}
		for _, u := range []string{"sip:a@a.test", "sips:a@b.acme.com", "sip:192.0.2.1", "sip:x.test"} {
			if d := p.Outbound(uri(u)); d.Allowed != (len(d.Routes) > 0) || d.Reason == "" || d.Rule == "" {
				t.Errorf("%+v", d)
			}
		}
	})
}

// TestDocumentedExample: what the package comment shows is a policy.
func TestDocumentedExample(t *testing.T) {
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "//\t"); ok {
			text.WriteString(rest)
		} else if strings.TrimSpace(line) == "//" {
			text.WriteString("\n")
		}
	}
	p, err := Parse([]byte(text.String()))
	if err != nil || len(p.entries) != 1 || len(p.routes) != 1 {
		t.Errorf("%v\n%s", err, &text)
	}
}
