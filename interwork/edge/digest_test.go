package edge

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/authparam"
)

// The examples of RFC 7616 §3.9.1 (both algorithms) and of RFC 2617 §3.5 with its erratum.
func TestDigestVectors(t *testing.T) {
	for _, c := range []struct{ name, password, header, want string }{
		{"RFC 7616 MD5", "Circle of Life", `Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=MD5,
			nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
			qop=auth, response="8ca523f5e9506fed4657c9700eebdbec", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`, "8ca523f5e9506fed4657c9700eebdbec"},
		{"RFC 7616 SHA-256", "Circle of Life", `Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=SHA-256,
			nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
			qop=auth, response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`,
			"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"},
		{"RFC 2617", "Circle Of Life", `Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html",
			qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"`, "6629fae49393a05397450978507c4ef1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cr, err := parseAuthorization(strings.Join(strings.Fields(c.header), " "))
			if err != nil {
				t.Fatal(err)
			}
			ha1 := cr.Algorithm.hash(cr.Username + ":" + cr.Realm + ":" + c.password)
			if got := cr.expected(ha1, "GET"); got != c.want || cr.Response != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// lan is where the phones of these tests are that are not on loopback.
var lan = whose(netip.MustParseAddr("192.0.2.1"))

const password = "k7dq-29fm-hh3x-ptbz-c4wn"

// remote makes alice's and bob's phones need passwords; f is where alice's is.
func remote(t *testing.T, test func(*bench, *memFlow)) {
	t.Helper()
	inBubble(t, func(c *Config) {
		us, err := OpenUsers(c.DataDir, oid)
		if err != nil {
			t.Fatal(err)
		}
		us.Add("alice", password, DigestBoth)
		us.Add("bob", "another password", DigestBoth)
	}, func(b *bench) { test(b, udpFrom("192.0.2.1", 5060)) })
}

// answerTo makes the credentials that answer a challenge, written from the RFCs and not with the code under test.
type answerTo struct {
	user, password, method, uri string
	sha                         bool
	nc                          int
	nonce                       string
}

func (a answerTo) line(header string) string {
	h := func(s string) string {
		if a.sha {
			return algSHA256.hash(s) // checked by the vectors above
		}
		m := md5.Sum([]byte(s))
		return hex.EncodeToString(m[:])
	}
	alg := "MD5"
	if a.sha {
		alg = "SHA-256"
	}
	nc := fmt.Sprintf("%08x", a.nc)
	res := h(h(a.user+":p2psip.example:"+a.password) + ":" + a.nonce + ":" + nc + ":c:auth:" + h(a.method+":"+a.uri))
	return fmt.Sprintf(`%s: Digest username="%s", realm="p2psip.example", nonce="%s", uri="%s", response="%s", algorithm=%s, cnonce="c", qop=auth, nc=%s`,
		header, a.user, a.nonce, a.uri, res, alg, nc)
}

func nonceOf(t *testing.T, r *sip.Response, header string) string {
	t.Helper()
	hs := r.GetHeaders(header)
	if len(hs) == 0 {
		t.Fatalf("%d challenges in a %d", len(hs), r.StatusCode)
	}
	params, err := authparam.Parse(strings.TrimPrefix(hs[0].Value(), "Digest "))
	if err != nil {
		t.Fatal(err)
	}
	return params["nonce"]
}

func TestAuthenticatedRegistration(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*answerTo)
		status int
	}{
		{"MD5", func(a *answerTo) {}, 200},
		{"SHA-256", func(a *answerTo) { a.sha = true }, 200},
		{"with the domain", func(a *answerTo) { a.user = "alice@p2psip.example" }, 200},
		{"with the domain, SHA-256", func(a *answerTo) { a.user, a.sha = "alice@p2psip.example", true }, 200},
		{"wrong password", func(a *answerTo) { a.password = "x" }, 401},
		{"unknown user", func(a *answerTo) { a.user = "mallory" }, 401},
		{"user of another domain", func(a *answerTo) { a.user = "alice@other.example" }, 401},
		{"another user", func(a *answerTo) { a.user, a.password = "bob", "another password" }, 403},
		{"another method", func(a *answerTo) { a.method = "INVITE" }, 401},
		{"another URI", func(a *answerTo) { a.uri = "sip:other.example" }, 400},
		{"same URI written differently", func(a *answerTo) { a.uri = "sip:P2PSIP.example" }, 200},
		{"a nonce of its own", func(a *answerTo) { a.nonce = strings.Repeat("A", 43) }, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			remote(t, func(b *bench, f *memFlow) {
				res := b.send(f, ask{lines: []string{here}})
				if statusOf(res) != 401 {
					t.Fatal(statusOf(res))
				}
				chs := res.GetHeaders("WWW-Authenticate")
				if !strings.Contains(chs[0].Value(), "algorithm=SHA-256") || !strings.Contains(chs[1].Value(), "algorithm=MD5") || strings.Contains(chs[0].Value(), "stale") {
					t.Error(header(res, "WWW-Authenticate"))
				}
				a := answerTo{user: "alice", password: password, method: "REGISTER", uri: "sip:p2psip.example", nc: 1, nonce: nonceOf(t, res, "WWW-Authenticate")}
				c.change(&a)
				res = b.send(f, ask{lines: []string{here, a.line("Authorization")}})
				if statusOf(res) != c.status {
					t.Errorf("%d %s, want %d", statusOf(res), header(res, "Warning"), c.status)
				}
				if n := len(b.e.Bindings(aor(t, "alice"))); (n == 1) != (c.status == 200) {
					t.Errorf("%d bindings", n)
				}
			})
		})
	}
}

func TestUnknownUserLooksLikeAWrongPassword(t *testing.T) {
	remote(t, func(b *bench, f *memFlow) {
		shape := func(user string) string {
			from := "<sip:" + user + "@p2psip.example>"
			first := b.send(f, ask{from: from, lines: []string{here}})
			nonce := nonceOf(t, first, "WWW-Authenticate")
			a := answerTo{user: user, password: "guess", method: "REGISTER", uri: "sip:p2psip.example", nc: 1, nonce: nonce}
			res := b.send(f, ask{from: from, lines: []string{here, a.line("Authorization")}})
			s := ""
			for _, r := range []*sip.Response{first, res, b.send(f, ask{from: from, lines: []string{here}})} {
				s += fmt.Sprint(r.StatusCode, r.Reason)
				for _, h := range r.Headers() {
					s += " " + h.Name()
				}
			}
			return s
		}
		if known, unknown := shape("alice"), shape("mallory"); known != unknown {
			t.Errorf("%s and %s", known, unknown)
		}
	})
}

func TestNonceAgesAndReplays(t *testing.T) {
	remote(t, func(b *bench, f *memFlow) {
		a := answerTo{user: "alice", password: password, method: "REGISTER", uri: "sip:p2psip.example"}
		a.nonce = nonceOf(t, b.send(f, ask{lines: []string{here}}), "WWW-Authenticate")
		try := func(nc int) (int, bool) {
			a.nc = nc
			res := b.send(f, ask{lines: []string{here, a.line("Authorization")}})
			return statusOf(res), strings.Contains(header(res, "WWW-Authenticate"), "stale=true")
		}
		for i, want := range []struct {
			nc, status int
		}{{1, 200}, {1, 401}, {2, 200}, {5, 200}, {4, 200}, {4, 401}, {100, 200}, {36, 401}, {37, 200}} {
			if s, stale := try(want.nc); s != want.status || stale != (s == 401) {
				t.Errorf("step %d, count %d: %d (stale %v), want %d", i, want.nc, s, stale, want.status)
			}
		}
		time.Sleep(nonceAge - time.Second)
		if s, _ := try(200); s != 200 {
			t.Error("refused before its time:", s)
		}
		time.Sleep(2 * time.Second)
		if s, stale := try(201); s != 401 || !stale {
			t.Errorf("aged nonce: %d, stale %v", s, stale)
		}
		// A wrong password is never called stale: that would tell that the name is right.
		a.password = "x"
		if s, stale := try(202); s != 401 || stale {
			t.Errorf("aged nonce and wrong password: %d, stale %v", s, stale)
		}
	})
}

func TestNonceOfAnEarlierProcess(t *testing.T) {
	remote(t, func(b *bench, f *memFlow) {
		a := answerTo{user: "alice", password: password, method: "REGISTER", uri: "sip:p2psip.example", nc: 1}
		a.nonce = nonceOf(t, b.send(f, ask{lines: []string{here}}), "WWW-Authenticate")
		b.close()
		b.start()
		res := b.send(f, ask{lines: []string{here, a.line("Authorization")}})
		if statusOf(res) != 401 || !strings.Contains(header(res, "WWW-Authenticate"), "stale=true") {
			t.Errorf("%d %s", statusOf(res), header(res, "WWW-Authenticate"))
		}
	})
}

func TestReplayTableIsBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	d := newDigest(oid, func() time.Time { return now })
	first := d.newNonce(lan)
	issued, _ := d.issued(first, lan)
	if !d.use(first, issued, 1) {
		t.Fatal("the first use is refused")
	}
	for range 3 * maxReplay {
		now = now.Add(time.Millisecond)
		n := d.newNonce(lan)
		at, ok := d.issued(n, lan)
		if !ok || !d.use(n, at, 1) || d.use(n, at, 1) {
			t.Fatal("a fresh nonce is refused, or good twice")
		}
	}
	if len(d.windows) > maxReplay {
		t.Error(len(d.windows))
	}
	// Its window was dropped; that must not make the count usable again.
	if d.use(first, issued, 1) {
		t.Error("a replay passed because the table was full")
	}
}

func TestSomeCredentialsAreNone(t *testing.T) {
	remote(t, func(b *bench, f *memFlow) {
		for line, want := range map[string]int{
			`Authorization: NoOneKnowsThisScheme opaque-data=here`:                                                                                             401, // RFC 4475 §3.3.7
			`Authorization: Digest username="alice", realm="other.example", nonce="n", uri="sip:x", response="00000000000000000000000000000000"`:               401,
			`Authorization: Digest username="alice`:                                                                                                            400,
			`Authorization: Digest username="alice", realm="p2psip.example", nonce="n", uri="sip:x", response="zz"`:                                            400,
			`Authorization: Digest username="alice", realm="p2psip.example", nonce="n", uri="sip:p2psip.example", response="00000000000000000000000000000000"`: 400, // no qop
		} {
			if s := statusOf(b.send(f, ask{lines: []string{here, line}})); s != want {
				t.Errorf("%s: %d, want %d", line, s, want)
			}
		}
		twice := answerTo{user: "alice", password: password, method: "REGISTER", uri: "sip:p2psip.example", nc: 1, nonce: b.e.digest.newNonce(lan)}.line("Authorization")
		if s := statusOf(b.send(f, ask{lines: []string{here, twice, twice}})); s != 400 {
			t.Error("two answers for one realm:", s)
		}
	})
}

func TestGuessingIsSlowedDownAndNobodyLockedOut(t *testing.T) {
	remote(t, func(b *bench, f *memFlow) {
		a := answerTo{user: "alice", password: "guess", method: "REGISTER", uri: "sip:p2psip.example", nc: 1, nonce: b.e.digest.newNonce(lan)}
		line := a.line("Authorization")
		immediate := 0
		for range 30 {
			if b.send(f, ask{lines: []string{here, line}}) != nil {
				immediate++
			}
		}
		if immediate != freeFailures {
			t.Errorf("%d answered at once, want %d", immediate, freeFailures)
		}
		a.password = password
		if s := statusOf(b.send(f, ask{lines: []string{here, a.line("Authorization")}})); s != 200 {
			t.Error("the right password from the same address:", s)
		}
		time.Sleep(maxFailureDelay + time.Second)
		late := f.take()
		if len(late) != maxDelayed {
			t.Errorf("%d answered later, want %d", len(late), maxDelayed)
		}
		for _, res := range late {
			if res.StatusCode != 403 || header(res, "WWW-Authenticate") != "" {
				t.Errorf("%d invites the next guess", res.StatusCode)
			}
		}
		time.Sleep(10 * time.Minute)
		if b.send(f, ask{lines: []string{here, line}}) == nil {
			t.Error("a mistake is held against the source for ever")
		}
	})
}

func TestThrottleIsBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	th := newThrottle(func() time.Time { return now })
	for i := range 3 * maxSources {
		now = now.Add(time.Millisecond)
		th.failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if len(th.sources) > maxSources {
		t.Error(len(th.sources))
	}
	if whose(netip.MustParseAddr("2001:db8::1")) != whose(netip.MustParseAddr("2001:db8::ffff:1")) {
		t.Error("one IPv6 host is many sources")
	}
}

func TestParseAuthorizationRefuses(t *testing.T) {
	good := `Digest username="a", realm="r", nonce="n", uri="u", response="00000000000000000000000000000000"`
	if _, err := parseAuthorization(good); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"Digest", "Digest ", good + ",", good + ", username=\"b\"", good + ` qop=auth`, good + `, qop=auth`, good + `, qop=auth, cnonce="c", nc=1`,
		good + `, qop=auth, cnonce="c", nc=00000000`, good + `, algorithm=MD5-sess`, good + `, =x`, good + `, x=`, good + `, x="`, good + `, x="\`,
		good + ", x=\"\x00\"", good + ", x=" + strings.Repeat("y", maxAuthorization), strings.Replace(good, `realm="r", `, "", 1),
		good + strings.Repeat(`, x=y`, 2), good + `, userhash`,
	} {
		if c, err := parseAuthorization(bad); err == nil {
			t.Errorf("%s: %+v", clip(bad), c)
		}
	}
	c, err := parseAuthorization(`digest USERNAME="a \"b\" \\c" , realm = "r",nonce="n",uri="sip:x, y",response="ABCDEF00000000000000000000000000",qop="auth",cnonce="c",nc=0000000a`)
	if err != nil || c.Username != `a "b" \c` || c.URI != "sip:x, y" || c.NC != 10 || c.Response[:6] != "abcdef" {
		t.Errorf("%+v %v", c, err)
	}
}

// What a challenge says is bound to the address it went to: see digest.
func TestANonceIsForOneAddress(t *testing.T) {
	remote(t, func(b *bench, f *memFlow) {
		a := answerTo{user: "alice", password: password, method: "REGISTER", uri: "sip:p2psip.example", nc: 1}
		a.nonce = nonceOf(t, b.send(f, ask{lines: []string{here}}), "WWW-Authenticate")
		victim := udpFrom("198.51.100.1", 53)
		res := b.send(victim, ask{lines: []string{"Contact: <sip:alice@198.51.100.1:53>", a.line("Authorization")}})
		if statusOf(res) != 401 || !strings.Contains(header(res, "WWW-Authenticate"), "stale=true") {
			t.Errorf("from an address that was sent no challenge: %d %s", statusOf(res), header(res, "WWW-Authenticate"))
		}
		if ts := b.e.Bindings(aor(t, "alice")); len(ts) != 0 {
			t.Errorf("calls would be sent to %v", ts[0].Flow.Remote())
		}
		if res = b.send(f, ask{lines: []string{here, a.line("Authorization")}}); statusOf(res) != 200 {
			t.Error("from where it was sent:", statusOf(res))
		}
	})
	d := newDigest(oid, time.Now)
	if _, ok := d.issued(d.newNonce(whose(netip.MustParseAddr("2001:db8::1"))), whose(netip.MustParseAddr("2001:db8::2"))); !ok {
		t.Error("an IPv6 host that changes its address within its network is challenged again")
	}
}
