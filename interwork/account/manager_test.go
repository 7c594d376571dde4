package account

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
	"p2psip/overlay"
)

func reply(status int, lines ...string) func(*sip.Request) *sip.Response {
	return func(req *sip.Request) *sip.Response {
		res := message.NewResponse(req, status, "")
		for _, l := range lines {
			name, value, _ := strings.Cut(l, ": ")
			res.AppendHeader(sip.NewHeader(name, value))
		}
		return res
	}
}

// TestRegistersAndRefreshes is the draft's §4.2, and what follows.
func TestRegistersAndRefreshes(t *testing.T) {
	inBubble(t, Account{}, func(b *bench) {
		b.wait(time.Second)
		b.expect("one 401, one 200 auth")
		s := b.status()
		if s.State != Registered || s.Contact != "sip:alice@p2psip.example" || s.Through != overlay.NodeID("one").String() || time.Until(s.Until).Round(time.Minute) != time.Hour {
			t.Errorf("%+v", s)
		}
		if s.Next.Before(time.Now().Add(30*time.Minute)) || s.Next.After(s.Until.Add(-4*time.Minute)) {
			t.Errorf("to be refreshed at %v, ends at %v", s.Next, s.Until)
		}
		b.wait(time.Until(s.Next) - time.Second)
		b.expect("")
		b.wait(3 * time.Second)
		b.expect("one 200 auth") // the same nonce, the next count
		if len(b.p.callIDs) != 1 {
			t.Errorf("%d Call-IDs", len(b.p.callIDs))
		}
		// The provider forgets its nonce.
		b.p.mu.Lock()
		b.p.nonce++
		b.p.mu.Unlock()
		b.wait(time.Until(b.status().Next) + 3*time.Second)
		b.expect("one 401 auth, one 200 auth")

		// A restart does not lose it; a second 401 is not needed to know whose realm it is.
		b.m.Close()
		b.expect("")
		b.p.lastCSeq = 0
		b.start()
		b.wait(time.Second)
		b.expect("one 401, one 200 auth")
		if st, _ := os.Stat(filepath.Join(b.dir, seenFile)); st == nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v", st)
		}
	})
}

func TestGrantedAndAsked(t *testing.T) {
	for name, c := range map[string]struct {
		ask, grant int
		want       time.Duration
	}{
		"less than asked": {3600, 300, 5 * time.Minute},
		"more than asked": {600, 7200, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Account{Expires: time.Duration(c.ask) * time.Second}, func(b *bench) {
				b.p.mu.Lock()
				b.p.grant = c.grant
				b.p.mu.Unlock()
				b.wait(time.Second)
				s := b.status()
				if got := time.Until(s.Until).Round(10 * time.Second); got != c.want {
					t.Errorf("registered for %v, want %v", got, c.want)
				}
				if !s.Next.Before(s.Until) {
					t.Error("refreshed too late")
				}
			})
		})
	}
}

func TestFirstInTheOverlay(t *testing.T) {
	inBubble(t, Account{}, func(b *bench) {
		b.m.Close()
		b.p.take()
		b.p.lastCSeq = 0
		b.have(false)
		b.start()
		b.wait(time.Minute)
		b.expect("")
		if s := b.status(); s.State != Waiting || !strings.Contains(s.Error, "no phone") {
			t.Errorf("%+v", s)
		}
		b.have(true)
		b.wait(5 * time.Second)
		b.expect("one 401, one 200 auth")

		// A phone that restarts is no reason to unregister; one that is gone is.
		b.have(false)
		b.wait(time.Minute)
		b.have(true)
		b.wait(time.Minute)
		b.expect("")
		b.have(false)
		b.wait(absentFor + 5*time.Second)
		b.expect("one 200 auth")
		if len(b.p.bound) != 0 || b.status().State != Waiting {
			t.Errorf("still bound: %v, %+v", b.p.bound, b.status())
		}
		b.have(true)
		b.wait(5 * time.Second)
		b.expect("one 200 auth")
	})
}

func TestAnotherProxyPeerAtOnce(t *testing.T) {
	inBubble(t, Account{}, func(b *bench) {
		b.wait(time.Second)
		b.p.take()
		b.p.mu.Lock()
		b.p.dead["one"] = true
		b.p.mu.Unlock()
		b.m.PeerLost("one")
		b.m.PeerLost("somebody else")
		b.wait(10 * time.Second)
		b.expect("lost at one, two 200 auth")
		if s := b.status(); s.State != Registered || s.Through != overlay.NodeID("two").String() {
			t.Errorf("%+v", s)
		}
		if len(b.failed) != 1 || b.failed[0] != "one" {
			t.Errorf("%q", b.failed)
		}
		b.wait(time.Until(b.status().Next) + 3*time.Second) // and stays there
		b.expect("two 200 auth")
		b.mu.Lock()
		b.peers = nil
		b.mu.Unlock()
		b.wait(time.Until(b.status().Next) + 3*time.Second)
		if s := b.status(); s.State != Registered || !strings.Contains(s.Error, "no proxy peer") || s.Failures != 1 {
			t.Errorf("the last registration holds still: %+v", s)
		}
		b.wait(time.Until(b.status().Until) + time.Second)
		if s := b.status(); s.State != Trying {
			t.Errorf("%+v", s)
		}
	})
}

// TestBackoff compares the pauses with RFC 5626 §4.5.
func TestBackoff(t *testing.T) {
	inBubble(t, Account{}, func(b *bench) {
		b.p.mu.Lock()
		for _, n := range b.peers {
			b.p.dead[n.Node] = true
		}
		b.p.mu.Unlock()
		for failures, want := range []time.Duration{45 * time.Second, 90 * time.Second, 3 * time.Minute, 6 * time.Minute, 12 * time.Minute, 1350 * time.Second, 1350 * time.Second} {
			for b.status().Failures != failures+1 {
				b.wait(time.Second)
			}
			if got := time.Until(b.status().Next).Round(5 * time.Second); got != want {
				t.Errorf("after %d failures a pause of %v, want %v", failures+1, got, want)
			}
		}
	})
	for f := 1; f < 40; f++ {
		if lo, hi := backoff(f, 0), backoff(f, 1); lo*2 != hi || hi > backoffMax {
			t.Errorf("%d: %v to %v", f, lo, hi)
		}
	}
	for _, g := range []time.Duration{time.Second, 20 * time.Second, time.Minute, time.Hour, 7 * 24 * time.Hour} {
		for _, chance := range []float64{0, 1} {
			if r := refreshAfter(g, chance); r >= g || r < 0 || g > 10*time.Second && g-r < g/10 && g-r < 10*time.Minute {
				t.Errorf("%v refreshed after %v", g, r)
			}
		}
	}
}

func TestIntervalTooBrief(t *testing.T) {
	inBubble(t, Account{Expires: time.Minute}, func(b *bench) {
		b.m.Close()
		b.p.take()
		b.p.lastCSeq = 0
		b.p.script = append(b.p.script, reply(423, "Min-Expires: 1800"))
		b.start()
		b.wait(time.Second)
		b.expect("one 423, one 401, one 200 auth")
		if got := time.Until(b.status().Until).Round(time.Minute); got != 30*time.Minute {
			t.Errorf("registered for %v", got)
		}
	})
}

// TestRefusals says what is told about each, and that a provider is not bothered again soon.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		script []func(*sip.Request) *sip.Response
		a      Account
		state  State
		err    string
		hint   string
		asked  int           // requests of the first attempt
		rest   time.Duration // at least, until the next
	}{
		"403":             {script: []func(*sip.Request) *sip.Response{reply(403)}, state: Refused, err: "does not let this address", hint: "ask the provider", asked: 1, rest: 30 * time.Minute},
		"404 explained":   {script: []func(*sip.Request) *sip.Response{reply(404, `Warning: 399 pp "no such domain"`)}, state: Refused, err: "no such domain", hint: "spelling", asked: 1, rest: 30 * time.Minute},
		"302":             {script: []func(*sip.Request) *sip.Response{reply(302, "Contact: <sip:elsewhere.example>")}, state: Refused, err: "sent elsewhere", hint: "--registrar", asked: 1, rest: 30 * time.Minute},
		"contact":         {script: []func(*sip.Request) *sip.Response{reply(478)}, state: Refused, err: "cannot resolve", hint: "--contact address", asked: 1, rest: 30 * time.Minute},
		"603":             {script: []func(*sip.Request) *sip.Response{reply(603)}, state: Refused, err: "603", asked: 1, rest: 30 * time.Minute},
		"wrong password":  {a: Account{Password: "wrong"}, state: Refused, err: "user name or the password", hint: "right password", asked: 2, rest: 30 * time.Minute},
		"busy":            {script: []func(*sip.Request) *sip.Response{reply(503, "Retry-After: 600 (busy)")}, state: Trying, err: "trouble", asked: 1, rest: 10 * time.Minute},
		"for ever":        {script: []func(*sip.Request) *sip.Response{reply(503, "Retry-After: 999999999")}, state: Trying, asked: 1, rest: time.Hour},
		"down everywhere": {script: []func(*sip.Request) *sip.Response{reply(503), reply(503), reply(504)}, state: Trying, asked: 3, rest: 30 * time.Second},
		"not kept":        {script: []func(*sip.Request) *sip.Response{reply(200, "Contact: <sip:alice@192.0.2.7>;expires=60")}, state: Refused, err: "other contacts", hint: "--contact address", asked: 1, rest: 30 * time.Minute},
		"for no time":     {script: []func(*sip.Request) *sip.Response{reply(200, "Contact: <sip:alice@p2psip.example>;expires=0")}, state: Refused, err: "no time", asked: 1, rest: 30 * time.Minute},
		"stale for ever": {script: []func(*sip.Request) *sip.Response{
			stale("1"), stale("2"), stale("3"), stale("4"), stale("5"), stale("6"), stale("7"), stale("8"),
		}, state: Refused, err: "again and again", asked: maxRounds, rest: 30 * time.Minute},
		"stale, the same nonce": {script: []func(*sip.Request) *sip.Response{stale("1"), stale("1"), stale("1")}, state: Refused, err: "password", asked: 2, rest: 30 * time.Minute},
		"another scheme":        {script: []func(*sip.Request) *sip.Response{reply(401, `WWW-Authenticate: Bearer realm="x"`)}, state: Refused, err: "none that can be answered", asked: 1, rest: 30 * time.Minute},
		"not its realm":         {a: Account{Realm: "mine"}, state: Refused, err: "another realm", asked: 1, rest: 30 * time.Minute},
		"too brief for us":      {script: []func(*sip.Request) *sip.Response{reply(423, "Min-Expires: 99999999")}, state: Refused, err: "423", asked: 1, rest: 30 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, c.a, func(b *bench) {
				if len(c.script) > 0 {
					b.m.Close()
					b.p.take()
					b.p.lastCSeq = 0
					b.p.script = c.script
					b.start()
				}
				b.wait(2 * time.Second)
				s := b.status()
				if s.State != c.state || !strings.Contains(s.Error, c.err) || !strings.Contains(s.Hint, c.hint) {
					t.Errorf("%+v", s)
				}
				if n := len(strings.Split(b.p.take(), ", ")); n != c.asked {
					t.Errorf("%d requests, want %d", n, c.asked)
				}
				if rest := time.Until(s.Next); rest < c.rest-3*time.Second {
					t.Errorf("tried again after %v", rest)
				}
				b.wait(min(c.rest-5*time.Second, time.Until(s.Next)-3*time.Second))
				b.expect("")
			})
		})
	}
}

func stale(nonce string) func(*sip.Request) *sip.Response {
	return reply(401, `WWW-Authenticate: Digest realm="provider.example",nonce="`+nonce+`",stale=true`)
}

// TestRealmIsRemembered: whoever comes between later gets no answer for a realm of its own.
func TestRealmIsRemembered(t *testing.T) {
	inBubble(t, Account{}, func(b *bench) {
		b.wait(time.Second)
		b.p.take()
		b.m.Close()
		b.p.lastCSeq = 0
		b.p.realm = "mallory"
		b.start()
		b.wait(2 * time.Second)
		b.expect("one 401")
		if s := b.status(); s.State != Refused || !strings.Contains(s.Error, `"mallory"`) {
			t.Errorf("%+v", s)
		}
	})
}

func TestRemovedAndAddedAgain(t *testing.T) {
	inBubble(t, Account{}, func(b *bench) {
		b.wait(time.Second)
		b.p.take()
		if len(b.p.bound) != 1 {
			t.Fatal(b.p.bound)
		}
		// Another process takes it out.
		other, err := Open(b.dir, oid)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Remove("sip:alice@PROVIDER.example"); err != nil {
			t.Fatal(err)
		}
		b.wait(5 * time.Second)
		b.expect("one 200 auth")
		if ss, _ := b.m.Status(); len(ss) != 0 || len(b.p.bound) != 0 {
			t.Errorf("%+v %v", ss, b.p.bound)
		}
		// Added again, it believes a new realm.
		b.p.realm, b.p.lastCSeq = "moved.example", 0
		if err := other.Add(Account{AOR: "sip:alice@provider.example", User: "alice", Password: "secret", Added: time.Now()}); err != nil {
			t.Fatal(err)
		}
		b.wait(5 * time.Second)
		b.expect("one 401, one 200 auth")
	})
}

func TestContactIsTheProxyPeersAddress(t *testing.T) {
	inBubble(t, Account{Contact: ContactAddress, Registrar: "sip.provider.example", Proxy: "sip:edge.provider.example:5070;transport=tcp"}, func(b *bench) {
		b.p.mu.Lock()
		b.p.script = append(b.p.script, func(req *sip.Request) *sip.Response {
			if got := req.Recipient.String(); got != "sip:sip.provider.example" {
				t.Errorf("REGISTER %s", got)
			}
			if got := req.GetHeader("Route").Value(); got != "<sip:edge.provider.example:5070;transport=tcp;lr>" {
				t.Errorf("Route: %s", got)
			}
			return nil
		})
		b.p.mu.Unlock()
		b.wait(time.Second)
		if s := b.status(); s.Contact != "sip:alice@192.0.2.1:5060;transport=udp" {
			t.Errorf("%+v", s)
		}
	})
}

func TestCloseLeavesNothing(t *testing.T) {
	inBubble(t, Account{}, func(b *bench) {
		b.p.mu.Lock()
		b.p.dead["one"] = true
		b.p.mu.Unlock()
		time.Sleep(20 * time.Millisecond) // within a request
	})
}

// TestProxyPeersFoundAnew: the one at hand fails, and the next is looked for at once.
func TestProxyPeersFoundAnew(t *testing.T) {
	inBubble(t, Account{}, func(b *bench) {
		b.mu.Lock()
		b.narrow = true
		b.mu.Unlock()
		b.p.mu.Lock()
		b.p.dead["one"], b.p.dead["two"] = true, true
		b.p.mu.Unlock()
		b.wait(5 * time.Second)
		b.expect("lost at one, lost at two, three 401, three 200 auth")
	})
}
