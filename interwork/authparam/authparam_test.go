package authparam

import (
	"maps"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]map[string]string{
		`realm="a \"b\" \\", nonce=abc`:    {"realm": `a "b" \`, "nonce": "abc"},
		`QOP="auth,auth-int" ,stale=TRUE `: {"qop": "auth,auth-int", "stale": "TRUE"},
		`a=b,`:                             nil,
		`a=b,a=c`:                          nil,
		`a="b`:                             nil,
		`a="b" c`:                          nil,
		`=b`:                               nil,
		`a`:                                nil,
		`a="` + "\n" + `"`:                 nil,
		strings.Repeat("a", 100) + `=`:     nil,
	} {
		got, err := Parse(in)
		if (err == nil) != (want != nil) || want != nil && !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	var many []string
	for i := range maxParams + 1 {
		many = append(many, strings.Repeat("a", i+1)+"=b")
	}
	if _, err := Parse(strings.Join(many, ",")); err == nil {
		t.Error("any number of parameters")
	}
}

func TestQuote(t *testing.T) {
	for _, s := range []string{"", "a", `a"b`, `\`, "ü"} {
		if got, err := Parse("x=" + Quote(s)); err != nil || got["x"] != s {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`realm="a \"b\"", nonce=abc, qop="auth"`)
	f.Fuzz(func(t *testing.T, s string) {
		params, err := Parse(s)
		if err != nil {
			return
		}
		var parts []string
		for k, v := range params {
			parts = append(parts, k+"="+Quote(v))
		}
		if again, err := Parse(strings.Join(parts, ", ")); err != nil || !maps.Equal(params, again) {
			t.Errorf("%q: read as %v, written and read back as %v, %v", s, params, again, err)
		}
	})
}
