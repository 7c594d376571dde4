package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/overlay"
)

func TestFirstRegistrationWaitsForTheOverlay(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		hold := make(chan struct{})
		b.pub.set(nil, hold)
		f := udpFrom("127.0.0.1", 5070)
		b.n++
		if res := b.send(f, ask{cseq: 100, lines: []string{here}}); res != nil {
			t.Fatalf("answered %d before the overlay confirmed", res.StatusCode)
		}
		if ts := b.e.Bindings(aor(t, "alice")); len(ts) != 1 {
			t.Error("the phone is not reachable at this node meanwhile")
		}
		if s := b.e.Status(); s.Waiting != 1 || s.Users[0].Published || s.Users[0].Why == "" {
			t.Errorf("%+v", s)
		}
		time.Sleep(3 * time.Second)
		close(hold)
		synctest.Wait()
		if rs := f.take(); len(rs) != 1 || rs[0].StatusCode != 200 || !strings.Contains(header(rs[0], "Contact"), "expires=3597") {
			t.Errorf("%v", rs)
		}
		if s := b.e.Status(); !s.Users[0].Published || !s.Users[0].Phones[0].Published || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatWaitsForTheOverlay(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		waits bool
	}{
		{"refresh", []string{here}, false},
		{"refresh with another time", []string{here + ";expires=60"}, false},
		{"query", nil, false},
		{"other q", []string{here + ";q=0.5"}, true},
		{"another device", []string{there}, true},
		{"removal", []string{here + ";expires=0"}, true},
		{"removal of all", []string{"Contact: *", "Expires: 0"}, true},
		{"removal of what is not there", []string{there + ";expires=0"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.register(200, here)
				b.pub.take()
				hold := make(chan struct{})
				b.pub.set(nil, hold)
				f := udpFrom("127.0.0.1", 5070)
				res := b.send(f, ask{lines: c.lines})
				if (res == nil) != c.waits {
					t.Errorf("waits: %v, want %v", res == nil, c.waits)
				}
				if n := len(b.pub.take()); (n > 0) != c.waits {
					t.Errorf("%d publications", n)
				}
				close(hold)
				synctest.Wait()
				if c.waits {
					if rs := f.take(); len(rs) != 1 || rs[0].StatusCode != 200 {
						t.Errorf("%v", rs)
					}
				}
			})
		})
	}
}

// A phone that leaves again after its first attempt got 503 must not hear 200 before the overlay knows.
func TestRemovalTriedAgainWaits(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.register(200, here)
		b.pub.set(overlay.ErrUnreachable, nil)
		b.register(503, here+";expires=0")
		hold := make(chan struct{})
		b.pub.set(nil, hold)
		f := udpFrom("127.0.0.1", 5070)
		if res := b.send(f, ask{lines: []string{there, here + ";expires=0"}}); res != nil {
			t.Errorf("answered %d at once", res.StatusCode)
		}
		close(hold)
		synctest.Wait()
		f.take()
		b.pub.set(overlay.ErrUnreachable, nil)
		b.register(503, there+";expires=0")
		b.register(503, there+";expires=0")
		b.register(503, "Contact: *", "Expires: 0")
		b.pub.set(nil, nil)
		b.register(200, there+";expires=0")
	})
}

func TestRetransmissionsWaitToo(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		hold := make(chan struct{})
		b.pub.set(nil, hold)
		f := udpFrom("127.0.0.1", 5070)
		a := ask{cseq: 7, lines: []string{here}}
		for range 4 {
			if res := b.send(f, a); res != nil {
				t.Fatal(res.StatusCode)
			}
			b.n-- // the same branch again
		}
		close(hold)
		synctest.Wait()
		if rs := f.take(); len(rs) != 1 || rs[0].StatusCode != 200 {
			t.Errorf("%v", rs)
		}
		if c := b.pub.take(); len(c) != 1 {
			t.Errorf("published %q", c)
		}
	})
}

func TestOverlayUnreachable(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.pub.set(fmt.Errorf("walk: %w", overlay.ErrUnreachable), nil)
		res := b.register(503, here)
		if header(res, "Retry-After") == "" || !strings.Contains(header(res, "Warning"), "registered at this node") {
			t.Errorf("Retry-After %q, Warning %s", header(res, "Retry-After"), header(res, "Warning"))
		}
		if ts := b.e.Bindings(aor(t, "alice")); len(ts) != 1 {
			t.Error("the phones of this node do not reach one another")
		}
		u := b.e.Status().Users[0]
		if u.Published || !strings.HasPrefix(u.Why, "registered here, not published: ") || u.Next.IsZero() {
			t.Errorf("%+v", u)
		}
		// It tries again by itself, with growing pauses.
		b.pub.take()
		time.Sleep(5 * time.Minute)
		if n := len(b.pub.take()); n < 5 || n > 12 {
			t.Errorf("%d attempts in five minutes", n)
		}
		b.pub.set(nil, nil)
		time.Sleep(3 * time.Minute)
		if u := b.e.Status().Users[0]; !u.Published || u.Why != "" {
			t.Errorf("%+v", u)
		}
		b.pub.take()
		b.register(200, here) // and then a refresh is answered at once
		if c := b.pub.take(); len(c) != 0 {
			t.Errorf("published %q", c)
		}
	})
}

func TestRepublishDoesNotWaitForThePause(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.pub.set(overlay.ErrUnreachable, nil)
		b.register(503, here)
		b.pub.set(nil, nil)
		b.e.Republish()
		synctest.Wait()
		if u := b.e.Status().Users[0]; !u.Published {
			t.Errorf("%+v", u)
		}
	})
}

func TestCredentialNotAccepted(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.pub.set(overlay.ErrNotEntitled, nil)
		b.register(403, here)
	})
}

// A publisher that never comes back must not cost the phone its transaction.
func TestAnsweredWithinTheTimersOfSIP(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.pub.set(nil, make(chan struct{}))
		f := udpFrom("127.0.0.1", 5070)
		b.send(f, ask{lines: []string{here}})
		time.Sleep(DefaultPublishTimeout + time.Second)
		if rs := f.take(); len(rs) != 1 || rs[0].StatusCode != 503 {
			t.Errorf("%v", rs)
		}
		b.pub.set(nil, nil)
	})
}

// deaf ignores its context, which no Publisher should.
type deaf struct{ release chan struct{} }

func (d deaf) Publish(context.Context, overlay.AOR, []overlay.Device) error {
	<-d.release
	return nil
}

func TestAnsweredEvenWhenThePublisherIsDeaf(t *testing.T) {
	var d deaf
	inBubble(t, func(c *Config) { d.release = make(chan struct{}); c.Publisher = d }, func(b *bench) {
		f := udpFrom("127.0.0.1", 5070)
		b.send(f, ask{lines: []string{here}})
		time.Sleep(answerWithin + time.Second)
		if rs := f.take(); len(rs) != 1 || rs[0].StatusCode != 503 {
			t.Errorf("%v", rs)
		}
		close(d.release)
	})
}

func TestChangesDuringAPublicationAreNotLost(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		hold := make(chan struct{})
		b.pub.set(nil, hold)
		f, g := udpFrom("127.0.0.1", 5070), udpFrom("127.0.0.1", 5071)
		b.send(f, ask{callID: "a", lines: []string{here}})
		b.send(g, ask{callID: "b", lines: []string{there + ";q=0.5"}})
		close(hold)
		synctest.Wait()
		if c := b.pub.take(); len(c) != 2 || c[1] != "alice 1000 500" {
			t.Errorf("published %q", c)
		}
		if len(f.take()) != 1 || len(g.take()) != 1 {
			t.Error("not both answered")
		}
	})
}

func TestPublicationsAreBounded(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxUsers = 40 }, func(b *bench) {
		b.owned = nil
		for i := range 50 {
			b.owned = append(b.owned, aor(t, fmt.Sprintf("user%d", i)))
		}
		hold := make(chan struct{})
		b.pub.set(nil, hold)
		f := udpFrom("127.0.0.1", 5070)
		refused := 0
		for i := range 50 {
			who := fmt.Sprintf("<sip:user%d@p2psip.example>", i)
			if res := b.send(f, ask{from: who, callID: who[1:8], lines: []string{fmt.Sprintf("Contact: <sip:u%d@127.0.0.1:5070>", i)}}); statusOf(res) == 503 {
				refused++
			}
		}
		if refused != 10 {
			t.Errorf("%d users refused, want those beyond 40", refused)
		}
		if n := len(b.pub.take()); n != maxPublishing {
			t.Errorf("%d publications at one time", n)
		}
		close(hold)
		synctest.Wait()
		if rs := f.take(); len(rs) != 40 {
			t.Errorf("%d answered", len(rs))
		}
	})
}

func TestRegistrationIsOnDiskBeforeTheAnswer(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		path := filepath.Join(b.c.DataDir, BindingsFile)
		f := udpFrom("127.0.0.1", 5070)
		answered := 0
		for _, seconds := range []int{60, 600} { // a first registration and a refresh
			f.onSend = func(res *sip.Response) {
				answered++
				raw, err := os.ReadFile(path)
				var doc bindingsDoc
				if err == nil {
					err = json.Unmarshal(raw, &doc)
				}
				if err != nil || len(doc.Users) != 1 || len(doc.Users[0].Phones) != 1 || doc.Users[0].Phones[0].Granted != time.Duration(seconds)*time.Second {
					t.Errorf("answered %d when the disk held %q (%v)", res.StatusCode, raw, err)
				}
			}
			if s := statusOf(b.send(f, ask{lines: []string{fmt.Sprintf("%s;expires=%d", here, seconds)}})); s != 200 {
				t.Error(s)
			}
		}
		if st, err := os.Stat(path); answered != 2 || err != nil || st.Mode().Perm() != 0o600 {
			t.Error(answered, err, st.Mode())
		}
	})
}

func TestDiskFull(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		dir := b.c.DataDir
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		b.register(500, here)
		if s := b.e.Status(); len(s.Problems) != 1 {
			t.Errorf("%+v", s.Problems)
		}
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(saveAgain + time.Second)
		if s := b.e.Status(); len(s.Problems) != 0 {
			t.Errorf("%+v", s.Problems)
		}
		b.register(200, here)
	})
}

// kill leaves an Edge as SIGKILL would: what is on disk at this moment is what the next one finds.
func (b *bench) kill() {
	path := filepath.Join(b.c.DataDir, BindingsFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	b.close()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func TestPhonesSurviveAKill(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.register(200, here+`;expires=600;q=0.7;+sip.instance="<urn:x>"`, "User-Agent: Phone 1")
		b.register(200, there+";expires=60")
		before := b.e.Bindings(aor(t, "alice"))
		b.kill()
		time.Sleep(100 * time.Second)
		b.pub.take()
		b.start()
		ts := b.e.Bindings(aor(t, "alice"))
		if len(ts) != 1 || ts[0].ID != before[1].ID || ts[0].Q != 700 || ts[0].Flow == nil || ts[0].URI.Port != 5070 {
			t.Fatalf("%+v, before %+v", ts, before)
		}
		time.Sleep(restoredAfter + time.Second)
		if c := b.pub.take(); len(c) != 1 || c[0] != "alice 700" {
			t.Errorf("published %q", c)
		}
		if got := header(b.register(200), "Contact"); !strings.Contains(got, "expires=497") || !strings.Contains(got, `+sip.instance="<urn:x>"`) {
			t.Error(got)
		}
		n := 0
		for a, ds := range b.e.Registered() {
			if n++; a != aor(t, "alice") || len(ds) != 1 {
				t.Error(a, ds)
			}
		}
		if n != 1 {
			t.Error(n)
		}
		// The old order of CSeq holds across the restart.
		if s := statusOf(b.send(udpFrom("127.0.0.1", 5070), ask{cseq: 1, lines: []string{here}})); s != 500 {
			t.Error(s)
		}
	})
}

// A removal that the overlay had not confirmed before the kill is finished afterwards.
func TestRemovalSurvivesAKill(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.register(200, here)
		b.pub.set(overlay.ErrUnreachable, nil)
		b.register(503, here+";expires=0")
		b.kill()
		b.pub.set(nil, nil)
		b.pub.take()
		b.start()
		time.Sleep(restoredAfter + time.Second)
		if c := b.pub.take(); len(c) != 1 || c[0] != "alice" {
			t.Errorf("published %q, want a tombstone", c)
		}
		if s := b.e.Status(); len(s.Users) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Phones that expired while the node was down are taken out of the overlay too.
func TestExpiredWhileDown(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.register(200, here+";expires=60")
		b.kill()
		time.Sleep(2 * time.Minute)
		b.pub.take()
		b.start()
		time.Sleep(restoredAfter + time.Second)
		if c := b.pub.take(); len(c) != 1 || c[0] != "alice" {
			t.Errorf("published %q", c)
		}
	})
}

func TestDamagedBindings(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"truncated":            func(b []byte) []byte { return b[:len(b)/2] },
		"empty":                func([]byte) []byte { return nil },
		"another overlay":      func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), "p2psip.example", "x.example")) },
		"of a newer version":   func(b []byte) []byte { return []byte(strings.Replace(string(b), `"version":1`, `"version":2`, 1)) },
		"contact that is none": func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), "sip:alice@127", "sip:al ice@127")) },
		"reached elsewhere": func(b []byte) []byte {
			i := strings.Index(string(b), `"reach"`)
			return append(b[:i:i], strings.Replace(string(b[i:]), "127.0.0.1", "203.0.113.9", 2)...)
		},
		"granted for ever": func(b []byte) []byte {
			s := strings.ReplaceAll(string(b), `"until":"20`, `"until":"21`)
			return []byte(strings.ReplaceAll(s, `"granted_ns":`, `"granted_ns":9`))
		},
		"registered for a year": func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), `"until":"20`, `"until":"21`)) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.register(200, here)
				b.kill()
				path := filepath.Join(b.c.DataDir, BindingsFile)
				raw, _ := os.ReadFile(path)
				os.WriteFile(path, damage(raw), 0o600)
				// A write that was cut off by the kill leaves such a file beside it.
				os.WriteFile(filepath.Join(b.c.DataDir, "."+BindingsFile+".new-123"), raw[:10], 0o600)
				b.start()
				for _, target := range b.e.Bindings(aor(t, "alice")) {
					if at := target.Flow.Remote(); at.Host != "127.0.0.1" {
						t.Errorf("reached at %s", at)
					}
				}
				time.Sleep(restoredAfter + 2*time.Hour)
				if ts := b.e.Bindings(aor(t, "alice")); len(ts) != 0 {
					t.Errorf("%+v", ts)
				}
				b.register(200, here)
			})
		})
	}
}

func TestCloseAnswersWhoWaits(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.pub.set(nil, make(chan struct{}))
		f := udpFrom("127.0.0.1", 5070)
		b.send(f, ask{lines: []string{here}})
		b.e.Close()
		if rs := f.take(); len(rs) != 1 || rs[0].StatusCode != 503 {
			t.Errorf("%v", rs)
		}
	})
}

func TestPause(t *testing.T) {
	for failures := 1; failures < 40; failures++ {
		if d := new(Edge).pause(failures); d < retryMin/2 || d > retryMax*3/2 {
			t.Errorf("after %d failures %v", failures, d)
		}
	}
}
