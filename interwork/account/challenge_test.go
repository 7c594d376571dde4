package account

import (
	"errors"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/authparam"
)

// TestAnswerOfRFC7616 computes the examples of RFC 7616 §3.9.1, and the one of RFC 2069 §2.4 with its erratum.
func TestAnswerOfRFC7616(t *testing.T) {
	const common = `Digest realm="http-auth@example.org", qop="auth, auth-int", nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`
	mufasa := identity{user: "Mufasa", password: "Circle of Life", any: true}
	for _, c := range []struct {
		challenge string
		id        identity
		uri       string
		cnonce    string
		want      string
	}{
		{common + ", algorithm=MD5", mufasa, "/dir/index.html", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", "8ca523f5e9506fed4657c9700eebdbec"},
		{common + ", algorithm=SHA-256", mufasa, "/dir/index.html", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"},
		{`digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"`, identity{user: "Mufasa", password: "CircleOfLife"}, "/dir/index.html", "", "1949323746fe6a43ef61f9606e7febea"},
	} {
		ch, err := readChallenge(c.challenge)
		if err != nil {
			t.Fatal(err)
		}
		got, err := authparam.Parse(strings.TrimPrefix(c.id.respond(&ch, "GET", c.uri, 1, c.cnonce), "Digest "))
		if err != nil || got["response"] != c.want {
			t.Errorf("%s: %v, %v, want %s", c.challenge, got, err, c.want)
		}
		if ch.qop != (got["nc"] == "00000001") || got["opaque"] != ch.opaque || got["realm"] != ch.realm {
			t.Errorf("%v", got)
		}
	}
}

func unauthorized(values ...string) *sip.Response {
	res := sip.NewResponse(401, "Unauthorized")
	for _, v := range values {
		name := "WWW-Authenticate"
		if rest, ok := strings.CutPrefix(v, "proxy "); ok {
			name, v = "Proxy-Authenticate", rest
		}
		res.AppendHeader(sip.NewHeader(name, v))
	}
	return res
}

func TestChoose(t *testing.T) {
	md5, sha := `Digest realm="a",nonce="1",algorithm=MD5,qop="auth"`, `Digest realm="a",nonce="2",algorithm=SHA-256,qop="auth"`
	for name, c := range map[string]struct {
		id      identity
		offered []string
		want    string // realms with algorithm
		err     error
	}{
		"the stronger":           {identity{any: true}, []string{md5, sha}, "a+", nil},
		"what is left":           {identity{any: true}, []string{`Digest realm="a",nonce="2",algorithm=SHA-512-256`, md5}, "a", nil},
		"each realm":             {identity{any: true}, []string{md5, `proxy Digest realm="b",nonce="3"`}, "a b", nil},
		"known realms only":      {identity{realms: []string{"a"}}, []string{`Digest realm="evil",nonce="3"`, md5}, "a", nil},
		"none of the known":      {identity{realms: []string{"b"}}, []string{md5}, "", errRealm},
		"weaker than before":     {identity{realms: []string{"a"}, onlySHA256: true}, []string{md5}, "", errWeaker},
		"auth-int alone":         {identity{any: true}, []string{`Digest realm="a",nonce="2",qop="auth-int"`}, "", errNoChallenge},
		"another scheme":         {identity{any: true}, []string{`Basic realm="a"`}, "", errNoChallenge},
		"without nonce":          {identity{any: true}, []string{`Digest realm="a"`}, "", errNoChallenge},
		"none":                   {identity{any: true}, nil, "", errNoChallenge},
		"a parameter twice":      {identity{any: true}, []string{`Digest realm="a",nonce="1",nonce="2"`}, "", errNoChallenge},
		"too long":               {identity{any: true}, []string{`Digest realm="a",nonce="` + strings.Repeat("x", maxChallenge) + `"`}, "", errNoChallenge},
		"more than are read":     {identity{any: true}, append(repeat(`Basic x`, maxChallenges), md5), "", errNoChallenge},
		"more realms than given": {identity{any: true}, []string{`Digest realm="1",nonce="1"`, `Digest realm="2",nonce="1"`, `Digest realm="3",nonce="1"`, `Digest realm="4",nonce="1"`, `Digest realm="5",nonce="1"`}, "1 2 3 4", nil},
	} {
		chosen, err := c.id.choose(readChallenges(unauthorized(c.offered...)))
		var got []string
		for _, ch := range chosen {
			s := ch.realm
			if ch.sha256 {
				s += "+"
			}
			got = append(got, s)
		}
		if g := strings.Join(got, " "); g != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v; want %q, %v", name, g, err, c.want, c.err)
		}
	}
}

func repeat(s string, n int) (out []string) {
	for range n {
		out = append(out, s)
	}
	return out
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Digest realm="a \"b\"",nonce="1",algorithm=MD5-sess,qop="auth,auth-int",stale=true,opaque=""`)
	f.Add(`Digest realm="",nonce=1`)
	f.Fuzz(func(t *testing.T, s string) {
		c, err := readChallenge(s)
		if err != nil {
			return
		}
		id := identity{user: `al"ice`, password: "secret"}
		v := id.answer(&c, "REGISTER", "sip:a", 1).Value()
		got, err := authparam.Parse(strings.TrimPrefix(v, "Digest "))
		if err != nil || got["realm"] != c.realm || got["nonce"] != c.nonce || got["username"] != id.user {
			t.Errorf("%q answered with %q: %v, %v", s, v, got, err)
		}
	})
}
