package dnsreg

import (
	"errors"
	"testing"
)

func TestParseKey(t *testing.T) {
	want := Key{Name: "p2psip.example", Algorithm: "hmac-sha256", Secret: "c2VjcmV0Cg=="}
	for _, s := range []string{
		"key \"p2psip.example\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0Cg==\";\n};\n",
		"# made by tsig-keygen\nkey p2psip.example { algorithm HMAC-SHA256; secret c2VjcmV0Cg==; }",
		"hmac-sha256:p2psip.example:c2VjcmV0Cg==\n",
	} {
		if k, err := ParseKey(s); err != nil || k != want {
			t.Errorf("%q: %+v, %v", s, k, err)
		}
	}
	for _, s := range []string{"", "key x { };", "hmac-sha256:x:???", "hmac-sha256:x:", "a:b"} {
		if _, err := ParseKey(s); !errors.Is(err, ErrKeyFile) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
