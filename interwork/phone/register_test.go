package phone

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"

	"p2psip/interwork/message"
)

// registrar answers REGISTER as told.
func registrar(t *testing.T, reply func(*sip.Request) *sip.Response) *relay {
	r := startRelay(t)
	r.mu.Lock()
	r.replies = reply
	r.mu.Unlock()
	return r
}

func ok(req *sip.Request, expires string) *sip.Response {
	res := message.NewResponse(req, 200, "")
	res.AppendHeader(sip.NewHeader("Contact", "<sip:alice@192.0.2.1:5060>;expires=7"))
	res.AppendHeader(sip.NewHeader("Contact", "<"+req.Contact().Address.String()+">;expires="+expires))
	return res
}

func TestRegister(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	requests := make(chan *sip.Request, 4)
	r := registrar(t, func(req *sip.Request) *sip.Response {
		requests <- req
		expires, _ := req.Contact().Params.Get("expires")
		if expires == "60" {
			res := message.NewResponse(req, 423, "")
			res.AppendHeader(sip.NewHeader("Min-Expires", "90"))
			return res
		}
		return ok(req, expires)
	})
	p := startPhone(t, aliceAOR, r.addr.String(), listen(t), nil)
	granted, err := p.Register(ctx, time.Minute)
	if err != nil || granted != 90*time.Second {
		t.Fatalf("granted %v, %v", granted, err)
	}
	first, second := <-requests, <-requests
	if first.Recipient.String() != "sip:p2psip.example" || first.Contact().Address.String() != p.Contact() {
		t.Errorf("registered with\n%s", first)
	}
	if first.CallID().Value() != second.CallID().Value() || first.CSeq().SeqNo >= second.CSeq().SeqNo {
		t.Error("the second request does not follow the first")
	}
	if err := p.Unregister(ctx); err != nil {
		t.Fatal(err)
	}
	if v, _ := (<-requests).Contact().Params.Get("expires"); v != "0" {
		t.Errorf("unregistered with expires=%s", v)
	}
}

// A short registration is renewed in time, without anybody asking.
func TestRegistrationIsRefreshed(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	requests := make(chan *sip.Request, 16)
	r := registrar(t, func(req *sip.Request) *sip.Response {
		requests <- req
		return ok(req, "2")
	})
	p := startPhone(t, aliceAOR, r.addr.String(), listen(t), nil)
	if _, err := p.Register(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case <-requests:
		case <-ctx.Done():
			t.Fatal("not renewed")
		}
	}
}

func TestRegisterRefused(t *testing.T) {
	t.Parallel()
	r := registrar(t, func(req *sip.Request) *sip.Response { return message.NewResponse(req, 403, "") })
	p := startPhone(t, aliceAOR, r.addr.String(), listen(t), nil)
	_, err := p.Register(testContext(t), time.Minute)
	var status *StatusError
	if !errors.As(err, &status) || status.Status != 403 {
		t.Errorf("refused registration: %v", err)
	}
}

func TestDigest(t *testing.T) {
	const password = "Mellon"
	for name, tc := range map[string]struct {
		challenges []string
		algorithm  string // of the answer; "": none is given
		password   string
	}{
		"MD5":          {[]string{`Digest realm="p2psip.example", nonce="n1", qop="auth", algorithm=MD5`}, "MD5", password},
		"SHA-256":      {[]string{`Digest realm="p2psip.example", nonce="n1", qop="auth", algorithm=SHA-256`}, "SHA-256", password},
		"both":         {[]string{`Digest realm="p2psip.example", nonce="n1", qop="auth", algorithm=SHA-256`, `Digest realm="p2psip.example", nonce="n1", qop="auth", algorithm=MD5`}, "SHA-256", password},
		"unknown, MD5": {[]string{`Digest realm="p2psip.example", nonce="n1", qop="auth", algorithm=WHIRLPOOL`, `Digest realm="p2psip.example", nonce="n1", qop="auth", algorithm=MD5`}, "MD5", password},
		"wrong":        {[]string{`Digest realm="p2psip.example", nonce="n1", qop="auth", algorithm=MD5`}, "", "friend"},
		"no password":  {[]string{`Digest realm="p2psip.example", nonce="n1", qop="auth", algorithm=MD5`}, "", ""},
		"basic":        {[]string{`Basic realm="p2psip.example"`}, "", password},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := make(chan string, 8)
			r := registrar(t, func(req *sip.Request) *sip.Response {
				if h := req.GetHeader("Authorization"); h != nil {
					have, err := digest.ParseCredentials(h.Value())
					if err != nil {
						t.Error(err)
						return nil
					}
					want, err := digest.Digest(
						&digest.Challenge{Realm: have.Realm, Nonce: "n1", QOP: []string{"auth"}, Algorithm: have.Algorithm},
						digest.Options{Method: "REGISTER", URI: "sip:p2psip.example", Count: 1, Cnonce: have.Cnonce, Username: "alice", Password: password})
					if err == nil && want.Response == have.Response {
						seen <- have.Algorithm
						return ok(req, "60")
					}
				}
				res := message.NewResponse(req, 401, "")
				for _, c := range tc.challenges {
					res.AppendHeader(sip.NewHeader("WWW-Authenticate", c))
				}
				return res
			})
			p := startPhone(t, aliceAOR, r.addr.String(), listen(t), func(c *Config) { c.Password = tc.password })
			_, err := p.Register(testContext(t), time.Minute)
			if tc.algorithm == "" {
				if err == nil || !strings.Contains(err.Error(), "401") {
					t.Errorf("registered: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if a := <-seen; a != tc.algorithm {
				t.Errorf("answered with %s, want %s", a, tc.algorithm)
			}
		})
	}
}

// A proxy may ask again inside the dialog: the call, the hold and the end each get through.
func TestProxyChallenges(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	r := startRelay(t)
	challenged := map[string]int{}
	r.mu.Lock()
	r.replies = func(req *sip.Request) *sip.Response {
		if req.Method == "ACK" || req.Method == "CANCEL" || req.GetHeader("Proxy-Authorization") != nil {
			return nil
		}
		challenged[string(req.Method)]++
		res := message.NewResponse(req, 407, "")
		res.AppendHeader(sip.NewHeader("Proxy-Authenticate", `Digest realm="p2psip.example", nonce="n2", qop="auth", algorithm=SHA-256`))
		return res
	}
	r.mu.Unlock()
	alice := startPhone(t, aliceAOR, r.addr.String(), listen(t), func(c *Config) { c.Password = "x" })
	bob := startPhone(t, bobAOR, r.addr.String(), listen(t), func(c *Config) { c.Incoming = AnswerAfter(0) })
	r.mu.Lock()
	r.users["bob"] = bob.host
	r.mu.Unlock()
	out, err := alice.Call(ctx, bobAOR)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, out, Answered)
	if err := out.Hold(ctx); err != nil {
		t.Error(err)
	}
	if err := out.Hangup(ctx); err != nil {
		t.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if challenged["INVITE"] != 2 || challenged["BYE"] != 1 {
		t.Errorf("challenged %v", challenged)
	}
}
