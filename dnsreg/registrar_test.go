package dnsreg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"p2psip/overlay"
)

// world is an overlay of proxy peers, and a zone, by hand.
type world struct {
	mu        sync.Mutex // guards all below
	adverts   map[overlay.NodeID]overlay.Advert
	withdrawn map[overlay.NodeID]overlay.Advert
	offline   error           // of the overlay
	dead      map[string]bool // addresses where nobody answers
	broken    error           // of the zone's server
	notes     Notes
	updates   int
	running   sync.WaitGroup
	votes     map[overlay.NodeID][]Vote
}

func newWorld() *world {
	return &world{adverts: map[overlay.NodeID]overlay.Advert{}, withdrawn: map[overlay.NodeID]overlay.Advert{}, dead: map[string]bool{}, votes: map[overlay.NodeID][]Vote{}}
}

func (w *world) do(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }

// offer has a node advertise itself.
func (w *world) offer(n overlay.NodeID, services ...string) {
	w.do(func() {
		now := time.Now()
		w.adverts[n] = overlay.Advert{Role: overlay.RoleProxy, Node: n, Offer: overlay.Offer{Services: services, Capacity: 100},
			Sequence: uint64(now.UnixMilli()), Issued: now, Expires: now.Add(overlay.AdvertLifetime)}
	})
}

// withdraw has a node give the role up.
func (w *world) withdraw(n overlay.NodeID) {
	w.do(func() {
		a := w.adverts[n]
		a.Sequence++
		delete(w.adverts, n)
		w.withdrawn[n] = a
	})
}

func (w *world) SurveyRole(context.Context, overlay.Role, int) (overlay.Survey, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := overlay.Survey{Complete: true}
	for _, a := range w.adverts {
		s.Offered = append(s.Offered, a)
	}
	for _, a := range w.withdrawn {
		s.Withdrawn = append(s.Withdrawn, a)
	}
	return s, w.offline
}

func (w *world) Vote(_ context.Context, p Peer) ([]Vote, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.votes[p.Node], nil
}

// dial reaches proxy peers.
func (w *world) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead[addr] {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	w.running.Go(func() {
		defer far.Close()
		buf := make([]byte, 4096)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			for one := range strings.SplitAfterSeq(response(string(buf[:n]), 200), "\r\n\r\n") {
				if _, err := io.WriteString(far, one); err != nil {
					return
				}
			}
		}
	})
	return near, nil
}

// memoryZone is a zone's server as an Updater sees it.
type memoryZone struct {
	*world
	by string
}

func (z memoryZone) Reconcile(_ context.Context, want func(Notes) ([]dns.RR, error)) (Change, error) {
	z.mu.Lock()
	broken, notes := z.broken, z.notes
	z.mu.Unlock()
	if broken != nil {
		return Change{}, broken
	}
	records, err := want(notes)
	if err != nil {
		return Change{}, err
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.notes.Serial != notes.Serial {
		return Change{}, ErrRace
	}
	var c Change
	if c.Added, c.Removed = difference(notes.Own, records); len(c.Added)+len(c.Removed) > 0 {
		z.notes = Notes{Serial: notes.Serial + 1, By: z.by, Own: records}
		z.updates++
	}
	return c, nil
}

// hosts gives the peers that the zone names.
func (w *world) hosts() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for h := range hostsOf(w.notes.Own) {
		out = append(out, h)
	}
	slices.Sort(out)
	return out
}

func hostsFor(nodes ...overlay.NodeID) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, HostLabel(n))
	}
	slices.Sort(out)
	return out
}

// registrar runs a registrar until stop.
func (w *world) registrar(t *testing.T, by string, change func(*RegistrarConfig)) (r *Registrar, log *bytes.Buffer, stop func()) {
	t.Helper()
	log = new(bytes.Buffer)
	c := RegistrarConfig{Records: Config{OID: "example.org", MaxPeers: 64}, Source: w, Backend: memoryZone{w, by}, By: by,
		Probes: ProberConfig{Dial: w.dial}, Logger: slog.New(slog.NewTextHandler(log, nil))}
	if change != nil {
		change(&c)
	}
	r, err := NewRegistrar(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(func() { stop(); w.running.Wait() })
	return r, log, stop
}

// within waits until the zone names just these peers, and says how long it took.
func (w *world) within(t *testing.T, d time.Duration, what string, nodes ...overlay.NodeID) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		synctest.Wait()
		if slices.Equal(w.hosts(), hostsFor(nodes...)) {
			return time.Since(begin)
		}
		if time.Since(begin) > d {
			t.Fatalf("%s: not within %v; the zone names %v, not %v", what, d, w.hosts(), hostsFor(nodes...))
		}
		time.Sleep(time.Second)
	}
}

// stays has the zone name just these peers for a time.
func (w *world) stays(t *testing.T, d time.Duration, what string, nodes ...overlay.NodeID) {
	t.Helper()
	for range d / time.Second {
		time.Sleep(time.Second)
		synctest.Wait()
		if !slices.Equal(w.hosts(), hostsFor(nodes...)) {
			t.Fatalf("%s: the zone names %v, not %v", what, w.hosts(), hostsFor(nodes...))
		}
	}
}

// Every way in and out.
func TestRegistrar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		renew := func(nodes ...overlay.NodeID) {
			for i, n := range []overlay.NodeID{"one", "two", "three"} {
				if slices.Contains(nodes, n) {
					w.offer(n, fmt.Sprintf("sip:8.8.%d.8", i))
				}
			}
		}
		w.offer("inside", "sip:192.168.1.1")
		renew("one", "two")
		r, log, stop := w.registrar(t, "a", nil)
		defer func() { stop(); w.running.Wait() }()
		w.within(t, 30*time.Second, "at the start", "one", "two")
		renew("three")
		w.within(t, 20*time.Second, "a new one", "one", "two", "three")
		w.withdraw("three")
		if d := w.within(t, 15*time.Second, "a clean stop", "one", "two"); d > 11*time.Second {
			t.Errorf("a clean stop took %v", d)
		}
		w.do(func() { w.dead["8.8.1.8:5060"] = true })
		d := w.within(t, 90*time.Second, "kill -9", "one")
		t.Logf("kill -9: out after %v", d)
		w.do(func() { w.dead["8.8.1.8:5060"] = false })
		w.within(t, 2*time.Minute, "back", "one", "two")
		// Partitioned from the overlay, but reachable from outside: its advertisement runs out.
		renew("one")
		w.do(func() { delete(w.adverts, "two") })
		w.stays(t, 5*time.Minute, "not found for a while", "one", "two")
		renew("one")
		w.within(t, overlay.AdvertLifetime, "its advertisement has run out", "one")
		// The zone's server is down for an hour; meanwhile one peer dies, and another one comes. It catches up within a minute.
		w.do(func() { w.broken = fmt.Errorf("%w: nobody there", ErrUnreachable) })
		for range 12 {
			renew("one", "three")
			time.Sleep(5 * time.Minute)
		}
		w.do(func() { w.dead["8.8.0.8:5060"] = true })
		time.Sleep(2 * time.Minute)
		if s := r.Report(); !strings.Contains(s.Trouble, "nobody there") {
			t.Errorf("%+v", s)
		}
		if n := strings.Count(log.String(), "not as it should be"); n != 1 {
			t.Errorf("%d lines about the server", n)
		}
		w.do(func() { w.broken = nil })
		w.within(t, time.Minute, "the server is back", "three")
		// Another policy.
		if err := r.Reconfigure(AdmissionConfig{Deny: []overlay.NodeID{"three"}}); err != nil {
			t.Fatal(err)
		}
		w.within(t, 2*time.Second, "barred")
		for _, d := range r.Report().Decisions {
			if d.In || d.Node == "inside" && !strings.Contains(d.Reason, "private") {
				t.Errorf("%+v", d)
			}
		}
	})
}

// Nothing that happens every day changes the zone.
func TestRegistrarIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.offer("one", "sip:8.8.8.8")
		_, log, stop := w.registrar(t, "a", nil)
		defer func() { stop(); w.running.Wait() }()
		w.within(t, 30*time.Second, "at the start", "one")
		before, lines := w.updates, strings.Count(log.String(), "\n")
		for range 36 {
			w.offer("one", "sip:8.8.8.8")
			w.do(func() { w.dead["8.8.8.8:5060"] = true })
			time.Sleep(4 * time.Second)
			w.do(func() { w.dead["8.8.8.8:5060"] = false })
			time.Sleep(296 * time.Second)
		}
		if n := strings.Count(log.String(), "\n") - lines; w.updates != before || n != 0 {
			t.Errorf("%d updates, %d lines in three hours", w.updates-before, n)
		}
	})
}

// A registrar that is started again changes nothing of what is there, and does not empty the zone before it knows better.
func TestRegistrarRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var nodes []overlay.NodeID
		for i := range 20 {
			n := overlay.NodeID(fmt.Sprint("node", i))
			w.offer(n, fmt.Sprintf("sip:8.8.%d.8", i))
			nodes = append(nodes, n)
		}
		limits := func(c *RegistrarConfig) { c.Admission.Limits = Limits{Hour: 20} }
		_, _, stop := w.registrar(t, "a", limits)
		w.within(t, 30*time.Second, "at the start", nodes...)
		stop()
		before := w.updates
		// The overlay is not there yet, and then it is found bit by bit.
		all := w.adverts
		w.do(func() { w.offline, w.adverts = overlay.ErrUnreachable, map[overlay.NodeID]overlay.Advert{} })
		_, _, stop = w.registrar(t, "a", limits)
		w.stays(t, 2*time.Minute, "without the overlay", nodes...)
		w.do(func() { w.offline, w.adverts = nil, map[overlay.NodeID]overlay.Advert{nodes[0]: all[nodes[0]]} })
		w.stays(t, 15*time.Second, "with a part of it", nodes...)
		w.do(func() { w.adverts = all })
		w.stays(t, 2*time.Minute, "with all of it", nodes...)
		if w.updates != before {
			t.Errorf("%d updates", w.updates-before)
		}
		stop()
		w.running.Wait()
	})
}

// A registrar that is cut off from the overlay keeps those who answer, and takes out those who do not.
func TestRegistrarAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.offer("one", "sip:8.8.1.8")
		w.offer("two", "sip:8.8.2.8")
		_, log, stop := w.registrar(t, "a", nil)
		defer func() { stop(); w.running.Wait() }()
		w.within(t, 30*time.Second, "at the start", "one", "two")
		w.do(func() { w.offline = overlay.ErrUnreachable })
		w.stays(t, 40*time.Minute, "cut off", "one", "two")
		w.do(func() { w.dead["8.8.2.8:5060"] = true })
		w.within(t, 90*time.Second, "kill -9 while cut off", "one")
		w.within(t, time.Hour, "cut off for too long")
		if n := strings.Count(log.String(), "cannot be looked at"); n != 1 {
			t.Errorf("%d lines", n)
		}
	})
}

// Of two registrars one works; the other takes over within a minute. If they differ for good, they do not quarrel for ever.
func TestTwoRegistrars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.offer("one", "sip:8.8.1.8")
		_, _, stopA := w.registrar(t, "a", nil)
		w.within(t, 30*time.Second, "the first", "one")
		b, logB, stopB := w.registrar(t, "b", nil)
		w.stays(t, time.Minute, "both", "one")
		for i := range 10 {
			w.offer(overlay.NodeID(fmt.Sprint("more", i)), fmt.Sprintf("sip:9.9.%d.9", i))
			w.offer("one", "sip:8.8.1.8")
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if w.notes.By != "a" || len(w.hosts()) != 11 {
			t.Errorf("by %q, %d peers", w.notes.By, len(w.hosts()))
		}
		if s := b.Report(); s.Holder != "a" {
			t.Errorf("%+v", s)
		}
		stopA()
		w.do(func() { clear(w.adverts) })
		w.offer("one", "sip:8.8.1.8")
		w.do(func() {
			for i := range 10 {
				w.dead[fmt.Sprintf("9.9.%d.9:5060", i)] = true
			}
		})
		died := time.Now()
		for w.hosts(); len(w.hosts()) != 1; time.Sleep(time.Second) {
			if time.Since(died) > 41*time.Second+time.Minute {
				t.Fatalf("nobody takes over: %v", w.hosts())
			}
		}
		t.Logf("another registrar's peers are out after %v", time.Since(died))
		synctest.Wait()
		if w.notes.By != "b" || !strings.Contains(logB.String(), "keeps the zone from now on") {
			t.Errorf("by %q\n%s", w.notes.By, logB)
		}
		// One that wants otherwise for good.
		_, _, stopC := w.registrar(t, "c", func(c *RegistrarConfig) { c.Admission.Deny = []overlay.NodeID{"one"} })
		before := w.updates
		for range 6 * 12 {
			w.offer("one", "sip:8.8.1.8")
			time.Sleep(5 * time.Minute)
		}
		if n := w.updates - before; n < 2 || n > 30 {
			t.Errorf("%d changes in 6 hours", n)
		}
		stopB()
		stopC()
		w.running.Wait()
	})
}

func TestRegistrarQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.offer("one", "sip:8.8.1.8")
		w.offer("two", "sip:8.8.2.8")
		if _, err := NewRegistrar(RegistrarConfig{Records: Config{OID: "example.org"}, Source: w, Backend: &DryRun{}, Admission: AdmissionConfig{Policy: Quorum}}); err == nil {
			t.Error("a quorum of nobody")
		}
		w.votes["one"] = []Vote{{"x", "1.1.0.0/16", time.Now()}, {"y", "2.2.0.0/16", time.Now()}}
		w.votes["two"] = []Vote{{"x", "1.1.0.0/16", time.Now()}, {"z", "1.1.0.0/16", time.Now()}}
		_, _, stop := w.registrar(t, "a", func(c *RegistrarConfig) { c.Admission.Policy, c.Voter = Quorum, w })
		defer func() { stop(); w.running.Wait() }()
		w.within(t, time.Minute, "with votes", "one")
		w.do(func() { w.votes["two"] = append(w.votes["two"], Vote{"q", "3.3.0.0/16", time.Now()}) })
		w.within(t, 3*time.Minute, "with more votes", "one", "two")
	})
}

func TestZoneFile(t *testing.T) {
	z := &ZoneFile{Path: filepath.Join(t.TempDir(), "peers.zone")}
	s := setOf(t, Config{}, Peer{Node: "one", Endpoints: endpointsOf(t, "sip:192.0.2.1", "sips:[2001:db8::1]")})
	for i, want := range []int{len(s.Records), 0} {
		c, err := z.Reconcile(t.Context(), func(Notes) ([]dns.RR, error) { return s.Records, nil })
		if err != nil || len(c.Added) != want || len(c.Removed) != 0 {
			t.Fatalf("%d: %+v, %v", i, c, err)
		}
	}
	c, err := z.Reconcile(t.Context(), func(n Notes) ([]dns.RR, error) {
		if len(n.Own) != len(s.Records) {
			t.Errorf("%d records are read back", len(n.Own))
		}
		return nil, nil
	})
	if err != nil || len(c.Removed) != len(s.Records) {
		t.Errorf("%+v, %v", c, err)
	}
	z.Path = "registrar_test.go"
	if _, err := z.Reconcile(t.Context(), func(Notes) ([]dns.RR, error) { return nil, nil }); !errors.Is(err, ErrForeign) {
		t.Errorf("somebody's own file: %v", err)
	}
}
