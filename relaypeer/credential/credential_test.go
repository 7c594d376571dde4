package credential

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"p2psip/overlay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testNode(t testing.TB) overlay.NodeID {
	t.Helper()
	key, err := overlay.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := overlay.NodeOfKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func testGrant() Grant {
	return Grant{
		URIs:     []string{"turn:192.0.2.7:3478?transport=udp", "turns:[2001:db8::7]:443?transport=tcp"},
		Username: "1800000000:12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp", Password: "cGFzc3dvcmQ=",
		Realm: "turn", Nonce: "abcdefgh", Lifetime: time.Hour, Keys: [][]byte{bytes.Repeat([]byte{7}, 32)},
	}
}

// stream is both directions of a stream, in memory.
type stream struct{ in, out bytes.Buffer }

func (s *stream) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *stream) Write(b []byte) (int, error) { return s.out.Write(b) }

func TestQuestionAndAnswer(t *testing.T) {
	want := testGrant()
	s := &stream{}
	if err := WriteGrant(&s.in, want); err != nil {
		t.Fatal(err)
	}
	got, err := Ask(s)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := ReadQuestion(&s.out); err != nil {
		t.Errorf("the question: %v", err)
	}
	if s.out.Len() > 0 {
		t.Errorf("%d bytes behind the question", s.out.Len())
	}
}

func TestRefusal(t *testing.T) {
	s := &stream{}
	if err := WriteRefusal(&s.in, &Refusal{Code: CodeQuota, Reason: "20 GiB this month", Retry: 90 * time.Minute}); err != nil {
		t.Fatal(err)
	}
	_, err := Ask(s)
	var no *Refusal
	if !errors.As(err, &no) || no.Code != CodeQuota || no.Reason != "20 GiB this month" || no.Retry != 90*time.Minute {
		t.Errorf("got %#v", err)
	}
	s = &stream{}
	if err := WriteRefusal(&s.in, &Refusal{Reason: strings.Repeat("ü", 300), Retry: 1000 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, err = Ask(s); !errors.As(err, &no) || no.Code != CodeBusy || len(no.Reason) > maxReason || no.Retry != 24*time.Hour {
		t.Errorf("got %#v", err)
	}
}

func TestAnotherVersion(t *testing.T) {
	var b bytes.Buffer
	if err := WriteMessage(&b, wireQuestion{2}, maxQuestion); err != nil {
		t.Fatal(err)
	}
	var no *Refusal
	if err := ReadQuestion(&b); !errors.As(err, &no) || no.Code != CodeVersion {
		t.Errorf("got %v", err)
	}
}

func TestGrantsBeyondTheBounds(t *testing.T) {
	for name, spoil := range map[string]func(*Grant){
		"no user":     func(g *Grant) { g.Username = "" },
		"no password": func(g *Grant) { g.Password = "" },
		"no realm":    func(g *Grant) { g.Realm = "" },
		"long user":   func(g *Grant) { g.Username = strings.Repeat("x", maxName+1) },
		"a newline":   func(g *Grant) { g.Realm = "a\nb" },
		"no lifetime": func(g *Grant) { g.Lifetime = 0 },
		"for ever":    func(g *Grant) { g.Lifetime = 25 * time.Hour },
		"a name":      func(g *Grant) { g.URIs[0] = "turn:relay.example" },
		"nine URIs": func(g *Grant) {
			for len(g.URIs) < 9 {
				g.URIs = append(g.URIs, g.URIs[0])
			}
		},
		"five keys": func(g *Grant) {
			for len(g.Keys) < 5 {
				g.Keys = append(g.Keys, g.Keys[0])
			}
		},
		"a short key": func(g *Grant) { g.Keys[0] = g.Keys[0][:31] },
	} {
		g := testGrant()
		spoil(&g)
		if err := WriteGrant(&bytes.Buffer{}, g); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: written, %v", name, err)
		}
	}
}

func TestSecret(t *testing.T) {
	member := testNode(t)
	s := NewSecret([]byte("one"))
	end := time.Unix(1800000000, 0)
	user, pass := s.Issue(member, end)
	at, whose, err := ParseUsername(user)
	if err != nil || !at.Equal(end) || whose != member.String() {
		t.Errorf("got %v %q %v", at, whose, err)
	}
	if s.Password(user) != pass {
		t.Error("the password does not follow from the user name")
	}
	if other := NewSecret([]byte("two")).Password(user); other == pass {
		t.Error("another secret gives the same password")
	}
	later, _ := s.Issue(member, end.Add(time.Second))
	if s.Password(later) == pass {
		t.Error("another expiry has the same password")
	}
	for _, bad := range []string{"", ":", "1:", ":x", "x:y", "-1:y", "+1:y", "1800000000", "99999999999999999999:y", "1:a b", "1:" + strings.Repeat("x", 300)} {
		if _, _, err := ParseUsername(bad); !errors.Is(err, ErrBadUsername) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestURI(t *testing.T) {
	for in, want := range map[string]string{
		"turn:192.0.2.7":                           "turn:192.0.2.7:3478?transport=udp",
		"TURN:192.0.2.7:80?Transport=TCP":          "turn:192.0.2.7:80?transport=tcp",
		"turns:192.0.2.7":                          "turns:192.0.2.7:5349?transport=tcp",
		"turns:[2001:db8::7]:443?transport=tcp":    "turns:[2001:db8::7]:443?transport=tcp",
		"turn:[2001:db8::7]":                       "turn:[2001:db8::7]:3478?transport=udp",
		"turn:relay.example":                       "",
		"turn:2001:db8::7":                         "",
		"turn:[192.0.2.7]:1":                       "",
		"turn:[fe80::1%25eth0]":                    "",
		"turn:192.0.2.7:0":                         "",
		"turn:192.0.2.7:65536":                     "",
		"turn:192.0.2.7:+1":                        "",
		"turn:192.0.2.7?transport=sctp":            "",
		"turns:192.0.2.7?transport=udp":            "",
		"turn:192.0.2.7?x=y":                       "",
		"turn:user@192.0.2.7":                      "",
		"stun:192.0.2.7":                           "",
		"turn:":                                    "",
		"turn:[":                                   "",
		"turn:[]x":                                 "",
		"turn:" + strings.Repeat("1", 200):         "",
		"turn:192.0.2.7:3478?transport=udp&more=1": "",
	} {
		u, err := ParseURI(in)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q: read as %s", in, u)
		case want != "" && (err != nil || u.String() != want):
			t.Errorf("%q: %s %v, want %s", in, u, err, want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	var b bytes.Buffer
	if err := WriteGrant(&b, testGrant()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	b.Reset()
	if err := WriteRefusal(&b, &Refusal{Code: CodeQuota, Reason: "enough", Retry: time.Minute}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		g, err := ReadAnswer(bytes.NewReader(in))
		var no *Refusal
		var out bytes.Buffer
		switch {
		case err == nil:
			if err := WriteGrant(&out, g); err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
			again, err := ReadAnswer(&out)
			if err != nil || len(again.URIs) != len(g.URIs) || again.Username != g.Username || again.Lifetime != g.Lifetime {
				t.Fatalf("%+v became %+v, %v", g, again, err)
			}
		case errors.As(err, &no):
			if len(no.Error()) > 2000 {
				t.Fatal("a refusal of any size")
			}
		}
	})
}

func FuzzQuestion(f *testing.F) {
	var b bytes.Buffer
	if err := WriteMessage(&b, wireQuestion{version}, maxQuestion); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(_ *testing.T, in []byte) { _ = ReadQuestion(bytes.NewReader(in)) })
}

func FuzzURI(f *testing.F) {
	f.Add("turns:[2001:db8::7]:443?transport=tcp")
	f.Add("turn:192.0.2.7")
	f.Fuzz(func(t *testing.T, in string) {
		u, err := ParseURI(in)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || again != u {
			t.Fatalf("%q was read as %+v, which is read as %+v, %v", in, u, again, err)
		}
	})
}
