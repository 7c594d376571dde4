package edge

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/authparam"
	"p2psip/interwork/message"
)

// offered gives the algorithms of a challenge, "SHA-256 MD5".
func offered(t *testing.T, r *sip.Response) string {
	t.Helper()
	if s := statusOf(r); s != 401 && s != 407 {
		t.Fatalf("%d instead of a challenge", s)
	}
	var algs []string
	for _, name := range []string{"WWW-Authenticate", "Proxy-Authenticate"} {
		for _, h := range r.GetHeaders(name) {
			params, err := authparam.Parse(strings.TrimPrefix(h.Value(), "Digest "))
			if err != nil {
				t.Fatal(err)
			}
			algs = append(algs, params["algorithm"])
		}
	}
	return strings.Join(algs, " ")
}

const both = "SHA-256 MD5"

func TestPhonesThatDoNotAnswerAreOfferedMD5(t *testing.T) {
	remote(t, func(b *bench, f *memFlow) {
		try := func(want string, a ask) *sip.Response {
			t.Helper()
			a.lines = append(a.lines, here)
			res := b.send(f, a)
			if got := offered(t, res); got != want {
				t.Errorf("offered %q, want %q", got, want)
			}
			return res
		}
		answer := func(a answerTo, res *sip.Response, want int) {
			t.Helper()
			a.nonce = nonceOf(t, res, "WWW-Authenticate")
			if s := statusOf(b.send(f, ask{callID: res.CallID().Value(), lines: []string{here, a.line("Authorization")}})); s != want {
				t.Errorf("%d, want %d", s, want)
			}
		}
		md5 := answerTo{user: "alice", password: password, method: "REGISTER", uri: "sip:p2psip.example", nc: 1}
		sha := md5
		sha.sha = true

		try(both, ask{})
		try("MD5", ask{})
		try(both, ask{}) // whatever made it fail, the next attempt is another one
		res := try("MD5", ask{})
		answer(md5, res, 200)
		answer(md5, try("MD5", ask{}), 200)                           // it is known now,
		answer(md5, try("MD5", ask{callID: "new@phone"}), 200)        // also with another Call-ID
		res = try("MD5", ask{method: "INVITE", callID: "call@phone"}) // and in a call
		md5.method, md5.nonce = "INVITE", nonceOf(t, res, "Proxy-Authenticate")
		if s := statusOf(b.send(f, ask{method: "INVITE", callID: "call@phone", lines: []string{md5.line("Proxy-Authorization")}})); s != 299 {
			t.Error(s)
		}
		md5.method = "REGISTER"
		try(both, ask{from: "<sip:bob@p2psip.example>"})
		try(both, ask{from: "<sip:nobody@p2psip.example>"})
		try("MD5", ask{from: "<sip:nobody@p2psip.example>"}) // as with somebody who exists
		f = udpFrom("192.0.2.2", 5060)
		try(both, ask{callID: "elsewhere"})
		f = udpFrom("192.0.2.1", 5061)
		res = try("MD5", ask{callID: "other-port"})
		answer(sha, res, 200) // a phone that knows SHA-256 after all
		res = try(both, ask{callID: "learned"})
		answer(sha, res, 200)
		try(both, ask{callID: "learned"}) // it always answers, so nothing is tried with it

		f = udpFrom("192.0.2.3", 5060)
		res = try(both, ask{callID: "mistyped"})
		sha.password = "x"
		sha.nonce = nonceOf(t, res, "WWW-Authenticate")
		try(both, ask{callID: "mistyped", lines: []string{sha.line("Authorization")}})
		try(both, ask{callID: "mistyped"}) // it understood
	})
}

// A phone that is offered MD5 for good may have been replaced by a better one. A call is not what finds out.
func TestAProvenPhoneIsPutToTheTestAgain(t *testing.T) {
	remote(t, func(b *bench, f *memFlow) {
		b.send(f, ask{lines: []string{here}})
		a := answerTo{user: "alice", password: password, method: "REGISTER", uri: "sip:p2psip.example", nc: 1}
		a.nonce = nonceOf(t, b.send(f, ask{lines: []string{here}}), "WWW-Authenticate")
		if s := statusOf(b.send(f, ask{lines: []string{here, a.line("Authorization")}})); s != 200 {
			t.Fatal(s)
		}
		time.Sleep(provenAge - time.Minute)
		if got := offered(t, b.send(f, ask{})); got != "MD5" {
			t.Error("before its time:", got)
		}
		time.Sleep(triedAge + time.Minute)
		res := b.send(f, ask{method: "INVITE", callID: "call"})
		if got := offered(t, res); got != "MD5" {
			t.Error("in a call:", got)
		}
		a.method, a.nonce = "INVITE", nonceOf(t, res, "Proxy-Authenticate")
		if s := statusOf(b.send(f, ask{method: "INVITE", callID: "call", lines: []string{a.line("Proxy-Authorization")}})); s != 299 {
			t.Error(s)
		}
		if got := offered(t, b.send(f, ask{})); got != both {
			t.Error("in a REGISTER:", got)
		}
		if got := offered(t, b.send(f, ask{})); got != "MD5" {
			t.Error("once it has failed:", got)
		}
	})
}

// A retransmission is no second attempt: neither one that the transaction absorbs nor one that comes after its end.
func TestARetransmissionIsNoSecondAttempt(t *testing.T) {
	remote(t, func(b *bench, f *memFlow) {
		raw := b.text(ask{lines: []string{here}})
		for _, pause := range []time.Duration{0, time.Second, 2 * time.Minute} {
			time.Sleep(pause)
			m, err := message.Parse([]byte(raw), true)
			if err != nil {
				t.Fatal(err)
			}
			b.layer.HandleMessage(f, m)
			synctest.Wait()
			rs := f.take()
			if len(rs) != 1 || offered(t, rs[0]) != both {
				t.Errorf("after %v: %d responses", pause, len(rs))
			}
		}
		if got := offered(t, b.send(f, ask{lines: []string{here}})); got != "MD5" {
			t.Error("the second attempt:", got)
		}
	})
}

// A phone whose credentials are stale has shown what it understands, also to a node that has just been started.
func TestAStaleAnswerIsMetInKind(t *testing.T) {
	for _, sha := range []bool{false, true} {
		remote(t, func(b *bench, f *memFlow) {
			a := answerTo{user: "alice", password: password, method: "REGISTER", uri: "sip:p2psip.example", nc: 1, sha: sha, nonce: "of another process"}
			res := b.send(f, ask{lines: []string{here, a.line("Authorization")}})
			if want := map[bool]string{false: "MD5", true: both}[sha]; offered(t, res) != want || !strings.Contains(header(res, "WWW-Authenticate"), "stale=true") {
				t.Errorf("SHA-256 %v: %s", sha, header(res, "WWW-Authenticate"))
			}
		})
	}
}

func TestUsersOfOneAlgorithm(t *testing.T) {
	for _, c := range []struct {
		digest   Digest
		offer    string
		md5, sha int
	}{
		{DigestBoth, both, 200, 200},
		{"both", both, 200, 200},
		{DigestMD5, "MD5", 200, 401},
		{DigestSHA256, "SHA-256", 401, 200},
	} {
		t.Run(string(c.digest), func(t *testing.T) {
			inBubble(t, func(cfg *Config) {
				us, err := OpenUsers(cfg.DataDir, oid)
				if err == nil {
					err = us.Add("alice", password, c.digest)
				}
				if err != nil {
					t.Fatal(err)
				}
			}, func(b *bench) {
				f := udpFrom("192.0.2.1", 5060)
				for i, sha := range []bool{false, true} {
					// A challenge to somebody else offers both: what was offered says nothing about what is taken.
					nonce := nonceOf(t, b.send(f, ask{from: fmt.Sprintf("<sip:nobody%d@p2psip.example>", i), lines: []string{here}}), "WWW-Authenticate")
					a := answerTo{user: "alice", password: password, method: "REGISTER", uri: "sip:p2psip.example", nc: 1, sha: sha, nonce: nonce}
					want := map[bool]int{false: c.md5, true: c.sha}[sha]
					res := b.send(f, ask{lines: []string{here, a.line("Authorization")}})
					if statusOf(res) != want {
						t.Errorf("SHA-256 %v: %d, want %d", sha, statusOf(res), want)
					}
					if statusOf(res) == 401 && offered(t, res) != c.offer {
						t.Errorf("offered %s", offered(t, res))
					}
				}
				if c.digest == DigestBoth || c.digest == "both" {
					return
				}
				for range 3 {
					if got := offered(t, b.send(f, ask{lines: []string{here}})); got != c.offer {
						t.Errorf("offered %s", got)
					}
				}
			})
		})
	}
}

func TestUserFilesWithAndWithoutDigest(t *testing.T) {
	ha1 := `"ha1":{"MD5 alice":"00000000000000000000000000000000"}`
	for extra, want := range map[string]string{
		"": "SHA-256 MD5", `"digest":"",`: "SHA-256 MD5", `"digest":"both",`: "SHA-256 MD5", `"digest":"md5",`: "MD5",
		`"digest":"sha256",`: "no secret", `"digest":"md4",`: `no digest "md4"`,
	} {
		dir := t.TempDir()
		doc := `{"version":1,"realm":"p2psip.example","users":[{"user":"alice","created":"2026-01-01T00:00:00Z",` + extra + ha1 + `}]}`
		if err := os.WriteFile(filepath.Join(dir, UsersFile), []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		us, err := OpenUsers(dir, oid)
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", extra, err)
			}
			continue
		}
		u, ok := us.Lookup("alice")
		var got []string
		for _, a := range u.offers() {
			got = append(got, string(a))
		}
		if !ok || strings.Join(got, " ") != want {
			t.Errorf("%s: %q", extra, got)
		}
	}
	// Nothing is kept for an algorithm that is not used.
	for d, not := range map[Digest]string{DigestSHA256: "MD5 ", DigestMD5: "SHA-256 "} {
		for key := range newUser(aor(t, "alice"), password, d, time.Now()).HA1 {
			if strings.HasPrefix(key, not) {
				t.Errorf("%s keeps %q", d, key)
			}
		}
	}
	if us, err := OpenUsers(t.TempDir(), oid); err != nil || us.Add("alice", password, "sha512") == nil {
		t.Errorf("an unknown digest is taken, or %v", err)
	}
}

// Whatever others do in the name of a phone, it finds what it understands within a few attempts.
func TestNobodyIsLockedOutByOffers(t *testing.T) {
	now := time.Unix(1e9, 0)
	victim := asker{source: lan, user: "alice", call: "phone"}
	forged := victim
	n := 0
	request := func() string { n++; return fmt.Sprint(n) }
	fresh := func() asker { a := victim; a.call = request(); return a }
	for name, disturb := range map[string]func(*offers){
		"nobody":      func(o *offers) {},
		"requests":    func(o *offers) { forged.call = request(); o.next(forged, request(), true) },
		"wrong MD5":   func(o *offers) { forged.call = request(); o.again(forged, algMD5) },
		"wrong SHA":   func(o *offers) { forged.call = request(); o.again(forged, algSHA256) },
		"other phone": func(o *offers) { forged.call = request(); o.again(forged, algMD5); o.passed(forged, algMD5, true) },
		"a full table": func(o *offers) {
			for i := range maxTried {
				o.next(asker{source: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32), user: request()}, "", true)
			}
		},
	} {
		for _, want := range []bool{false, true} { // MD5 alone or both
			o := newOffers(func() time.Time { return now })
			same := []bool{}
			for range 2 {
				same = append(same, o.next(victim, request(), true))
				if name != "a full table" {
					disturb(o)
				}
			}
			if !slices.Contains(same, want) {
				t.Errorf("%s: a phone with one Call-ID is offered %v", name, same)
			}
			attempts := 0
			for ok := false; !ok && attempts < 200; attempts++ {
				disturb(o)
				now = now.Add(time.Second)
				ok = o.next(fresh(), request(), true) == want
			}
			// There is no phone that knows SHA-256 only. Were there one beside one of the same user that knows MD5 only,
			// it would have to keep its Call-ID.
			if attempts == 200 && (want || name != "other phone") {
				t.Errorf("%s: a phone with a new Call-ID is never offered MD5 alone: %v", name, want)
			}
			if o.tried.order.Len() > maxTried || len(o.tried.at) != o.tried.order.Len() {
				t.Errorf("%s: %d and %d entries", name, len(o.tried.at), o.tried.order.Len())
			}
		}
	}
}

func TestMemoryOfOffersIsBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	o := newOffers(func() time.Time { return now })
	for i := range 3 * maxProven {
		a := asker{source: lan, user: fmt.Sprint(i), call: "x"}
		o.again(a, algMD5)
		o.passed(a, algMD5, true)
	}
	if len(o.proven.at) != maxProven || len(o.tried.at) != 0 {
		t.Errorf("%d proven and %d tried", len(o.proven.at), len(o.tried.at))
	}
	for i := range 10 {
		o.next(asker{source: lan, user: "alice", call: fmt.Sprint(i)}, "", true)
	}
	now = now.Add(triedAge + time.Second)
	o.next(asker{source: lan, user: "bob", call: "x"}, "", true)
	if len(o.tried.at) != 2 {
		t.Errorf("%d tried after their time", len(o.tried.at))
	}
}
