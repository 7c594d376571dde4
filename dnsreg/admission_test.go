package dnsreg

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"p2psip/overlay"
)

// facts is Evidence by hand; who is not in it is alive.
type facts struct {
	health map[overlay.NodeID]Health
	votes  map[overlay.NodeID][]Vote
}

func (f facts) Health(n overlay.NodeID) Health {
	if h, ok := f.health[n]; ok {
		return h
	}
	return Health{State: Alive}
}
func (f facts) Votes(n overlay.NodeID) []Vote { return f.votes[n] }

func candidate(t *testing.T, n string, uris ...string) Candidate {
	t.Helper()
	return Candidate{Peer: Peer{Node: overlay.NodeID(n), Endpoints: endpointsOf(t, uris...)}, Expires: time.Now().Add(time.Hour)}
}

func admission(t *testing.T, c AdmissionConfig) (*Admission, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a, err := NewAdmission(c)
	if err != nil {
		t.Fatal(err)
	}
	return a, &log
}

func decisionOf(list []Decision, n string) Decision {
	for _, d := range list {
		if d.Node == overlay.NodeID(n) {
			return d
		}
	}
	return Decision{}
}

func TestAdmissionPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		in := candidate(t, "good", "sip:8.8.8.8")
		for _, c := range []struct {
			name string
			conf AdmissionConfig
			cand Candidate
			ev   facts
			in   bool
			why  string
		}{
			{"certified", AdmissionConfig{}, in, facts{}, true, "permitted"},
			{"not yet probed", AdmissionConfig{}, in, facts{health: map[overlay.NodeID]Health{"good": {}}}, false, "being probed"},
			{"dead", AdmissionConfig{}, in, facts{health: map[overlay.NodeID]Health{"good": {State: Dead, Detail: "udp 8.8.8.8:5060: no answer"}}}, false, "does not answer: udp 8.8.8.8"},
			{"on the list", AdmissionConfig{Policy: Allowlist, Allow: []overlay.NodeID{"good"}}, in, facts{}, true, "list"},
			{"not on the list", AdmissionConfig{Policy: Allowlist, Allow: []overlay.NodeID{"other"}}, in, facts{}, false, "not on the list"},
			{"no votes", AdmissionConfig{Policy: Quorum}, in, facts{}, false, "0 networks"},
			{"votes of one network", AdmissionConfig{Policy: Quorum}, in, facts{votes: map[overlay.NodeID][]Vote{"good": {{"a", "n1", now}, {"b", "n1", now}}}}, false, "1 networks"},
			{"old votes", AdmissionConfig{Policy: Quorum}, in, facts{votes: map[overlay.NodeID][]Vote{"good": {{"a", "n1", now}, {"b", "n2", now.Add(-3 * time.Hour)}}}}, false, "1 networks"},
			{"enough votes", AdmissionConfig{Policy: Quorum}, in, facts{votes: map[overlay.NodeID][]Vote{"good": {{"a", "n1", now}, {"b", "n2", now}}}}, true, "2 networks"},
			{"open", AdmissionConfig{Policy: Open}, in, facts{}, true, ""},
			{"nowhere", AdmissionConfig{}, candidate(t, "good"), facts{}, false, "no address"},
			{"expired", AdmissionConfig{}, Candidate{Peer: in.Peer, Expires: now}, facts{}, false, "expired"},
			{"private", AdmissionConfig{}, candidate(t, "good", "sip:10.1.2.3"), facts{}, false, "10.1.2.3 is private"},
			{"shared", AdmissionConfig{}, candidate(t, "good", "sip:100.64.0.1"), facts{}, false, "shared"},
			{"loopback", AdmissionConfig{}, candidate(t, "good", "sip:127.0.0.1"), facts{}, false, "loopback"},
			{"loopback, mapped", AdmissionConfig{}, candidate(t, "good", "sip:[::ffff:127.0.0.1]:5060"), facts{}, false, "loopback"},
			{"documentation", AdmissionConfig{}, candidate(t, "good", "sip:[2001:db8::1]:5060"), facts{}, false, "documentation"},
			{"one of two is private", AdmissionConfig{}, candidate(t, "good", "sip:8.8.8.8", "sip:192.168.1.1;transport=tcp"), facts{}, false, "private"},
			{"overridden", AdmissionConfig{Override: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, candidate(t, "good", "sip:127.0.0.1"), facts{}, true, ""},
		} {
			a, _ := admission(t, c.conf)
			d := decisionOf(a.Judge([]Candidate{c.cand}, c.ev, now), "good")
			if d.In != c.in || !strings.Contains(d.Reason, c.why) {
				t.Errorf("%s: %+v", c.name, d)
			}
		}
		for what, c := range map[string]AdmissionConfig{"unknown policy": {Policy: "x"}, "empty list": {Policy: Allowlist},
			"list for nothing": {Allow: []overlay.NodeID{"a"}}, "votes": {Votes: 100}} {
			if _, err := NewAdmission(c); err == nil {
				t.Errorf("%s is taken", what)
			}
		}
	})
}

// A peer's way in and out, by the clock.
func TestAdmissionOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, log := admission(t, AdmissionConfig{Limits: Limits{MemberHour: 2}})
		good := candidate(t, "good", "sip:8.8.8.8")
		dead := facts{health: map[overlay.NodeID]Health{"good": {State: Dead, Detail: "no"}}}
		first := time.Now()
		lines := func() int { return strings.Count(log.String(), "\n") }
		judge := func(ev facts, list ...Candidate) Decision {
			return decisionOf(a.Judge(list, ev, time.Now()), "good")
		}
		if d := judge(facts{}, good); !d.In || d.Since != first || d.Host != HostLabel("good") || lines() != 1 {
			t.Fatalf("%+v\n%s", d, log)
		}
		time.Sleep(time.Minute)
		unknown := facts{health: map[overlay.NodeID]Health{"good": {}}}
		if d := judge(unknown, good); !d.In || d.Since != first || lines() != 1 {
			t.Errorf("nothing speaks against it: %+v\n%s", d, log)
		}
		if d := judge(dead, good); d.In || d.Since != time.Now() || lines() != 2 {
			t.Errorf("dead: %+v\n%s", d, log)
		}
		if d := judge(facts{}, good); !d.In || lines() != 3 {
			t.Errorf("back: %+v", d)
		}
		judge(facts{}) // no longer advertised; coming back does not get around the limit
		if d := judge(facts{}, good); d.In || !strings.Contains(d.Reason, "2 times within an hour") {
			t.Errorf("a third time: %+v", d)
		}
		time.Sleep(time.Hour)
		good.Expires = time.Now().Add(time.Hour)
		if d := judge(facts{}, good); !d.In {
			t.Errorf("an hour later: %+v", d)
		}
		if err := a.Reconfigure(AdmissionConfig{Policy: Allowlist, Allow: []overlay.NodeID{"other"}}); err != nil {
			t.Fatal(err)
		}
		if d := judge(facts{}, good); d.In {
			t.Errorf("another policy: %+v", d)
		}
		b, _ := admission(t, AdmissionConfig{Limits: Limits{MemberHour: 1, Hour: 1, GroupHour: 1}})
		b.Was([]overlay.NodeID{"good"}, time.Now())
		if d := decisionOf(b.Judge([]Candidate{good}, unknown, time.Now()), "good"); !d.In {
			t.Errorf("after a restart: %+v", d)
		}
		if len(b.added) != 0 {
			t.Error("what was in the zone counts as new")
		}
	})
}

func TestAdmissionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		many := func(n int, uri func(i int) string) (out []Candidate) {
			for i := range n {
				out = append(out, candidate(t, fmt.Sprint("node", i), uri(i)))
			}
			return out
		}
		count := func(list []Decision) (n int) {
			for _, d := range list {
				if d.In {
					n++
				}
			}
			return n
		}
		near := many(20, func(i int) string { return fmt.Sprintf("sip:8.8.8.%d", i+1) })
		a, _ := admission(t, AdmissionConfig{})
		if n := count(a.Judge(near, facts{}, time.Now())); n != 4 {
			t.Errorf("%d of one group at a time", n)
		}
		// One goes, another takes its place; until the group has had its adds of the hour.
		in := 0
		for range 20 {
			ev := facts{health: map[overlay.NodeID]Health{}}
			for _, d := range a.Judge(near, facts{}, time.Now()) {
				if d.In {
					ev.health[d.Node] = Health{State: Dead}
				}
			}
			in = count(a.Judge(near, ev, time.Now()))
			if in == 0 {
				break
			}
		}
		if l := a.groups[netip.MustParsePrefix("8.8.8.0/24")]; in != 0 || len(l) != 8 {
			t.Errorf("one group was let in %d times within an hour", len(l))
		}
		far := many(300, func(i int) string { return fmt.Sprintf("sip:9.%d.%d.1", i/200, i%200) })
		a, _ = admission(t, AdmissionConfig{})
		if n := count(a.Judge(far, facts{}, time.Now())); n != 120 {
			t.Errorf("%d within an hour", n)
		}
		a, _ = admission(t, AdmissionConfig{Policy: Open})
		if n := count(a.Judge(far, facts{}, time.Now())); n != 60 {
			t.Errorf("%d within an hour under the policy open", n)
		}
		six := many(20, func(i int) string { return fmt.Sprintf("sip:[2600:1:2:%x::1]:5060", i) })
		a, _ = admission(t, AdmissionConfig{})
		if n := count(a.Judge(six, facts{}, time.Now())); n != 4 {
			t.Errorf("%d of one /48", n)
		}
	})
}

// A flood of advertisements costs neither memory nor the log, nor those who are in their place.
func TestAdmissionFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, log := admission(t, AdmissionConfig{})
		good := candidate(t, "good", "sip:8.8.8.8")
		a.Judge([]Candidate{good}, facts{}, time.Now())
		for round := range 60 {
			list := []Candidate{}
			for i := range 1000 {
				list = append(list, candidate(t, fmt.Sprintf("bad%d-%d", round, i), fmt.Sprintf("sip:10.0.%d.%d", i/250, i%250)))
			}
			good.Expires = time.Now().Add(time.Hour)
			if d := decisionOf(a.Judge(append(list, good), facts{}, time.Now()), "good"); !d.In {
				t.Fatalf("who was in is out: %+v", d)
			}
			if len(a.m) > maxCandidates {
				t.Fatalf("%d are remembered", len(a.m))
			}
			time.Sleep(10 * time.Second)
		}
		if n := strings.Count(log.String(), "\n"); n > 1+logBurst+2*20+1 || n < 10 {
			t.Errorf("%d lines within 10 minutes", n)
		}
		if !strings.Contains(log.String(), "decisions=") {
			t.Error("nothing tells of what is not told")
		}
	})
}
