package dnsreg

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"p2psip/interwork/locate/locatetest"
	"p2psip/overlay"
)

const handMade = `$TTL 300
@ IN SOA ns.example.org. hostmaster.example.org. 1 3600 600 86400 60
@ IN NS ns
@ IN A 192.0.2.80
@ IN MX 10 mail
@ IN TXT "v=spf1 mx -all"
ns IN A 192.0.2.53
mail IN A 192.0.2.25
_sip._tcp IN SRV 0 0 5060 pbx
pbx IN A 192.0.2.99
`

var testKey = locatetest.TSIG{Name: "p2psip.example.org", Algorithm: "hmac-sha256", Secret: "c2VjcmV0IG9mIHRoZSByZWdpc3RyYXIgdGVzdHMhISE="}

func updater(s *locatetest.Server, by string) *Updater {
	return &Updater{Server: s.Addr, OID: "example.org", By: by, Key: Key(testKey)}
}

// contents gives the whole zone by transfer, without the SOA, whose serial number counts.
func contents(t *testing.T, s *locatetest.Server) []string {
	t.Helper()
	m := new(dns.Msg)
	m.SetAxfr("example.org.")
	key := dns.Fqdn(testKey.Name)
	m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
	tr := &dns.Transfer{TsigSecret: map[string]string{key: testKey.Secret}}
	in, err := tr.In(m, s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for e := range in {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		for _, rr := range e.RR {
			if rr.Header().Rrtype != dns.TypeSOA && rr.Header().Rrtype != dns.TypeTSIG {
				out = append(out, strings.ReplaceAll(rr.String(), "\t", " "))
			}
		}
	}
	slices.Sort(out)
	return out
}

// notes tells the registrar's own notes.
func isNote(line string) bool { return strings.HasPrefix(line, "_p2psip") }

func setOf(t *testing.T, c Config, peers ...Peer) Set {
	t.Helper()
	c.OID = "example.org"
	s, err := Desired(c, peers, Set{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestUpdate(t *testing.T) {
	for name, start := range locatetest.Dynamics() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, map[string]string{"example.org": handMade}, testKey)
			before := contents(t, s)
			ctx := context.Background()
			u := updater(s, "one")
			p1 := Peer{Node: "one", Capacity: 100, Endpoints: endpointsOf(t, "sip:192.0.2.1", "sips:192.0.2.1", "sip:[2001:db8::1]")}
			p2 := Peer{Node: "two", Capacity: 50, Endpoints: endpointsOf(t, "sip:192.0.2.2", "sip:192.0.2.2;transport=tcp")}

			// The operator has a SRV record for TCP of his own: there the registrar leaves off, and says so; the rest goes on.
			both := setOf(t, Config{}, p1, p2)
			c, err := u.Apply(ctx, both.Records)
			if !errors.Is(err, ErrForeign) || !slices.Equal(c.Foreign, []string{"_sip._tcp.example.org. SRV"}) {
				t.Fatalf("%+v, %v", c, err)
			}
			now := contents(t, s)
			for _, line := range before {
				if !slices.Contains(now, line) {
					t.Errorf("the operator's record is gone: %s", line)
				}
			}
			for _, rr := range both.Records {
				if line := strings.ReplaceAll(rr.String(), "\t", " "); slices.Contains(now, line) != !strings.Contains(line, "_sip._tcp.") {
					t.Errorf("%q: in the zone: %v", line, slices.Contains(now, line))
				}
			}

			// Nothing to do is nothing done; another registrar sees the same state.
			c, err = updater(s, "two").Apply(ctx, both.Records)
			if len(c.Added)+len(c.Removed) != 0 || !errors.Is(err, ErrForeign) {
				t.Errorf("the same again: %+v, %v", c, err)
			}

			// Only what has changed changes. Beside the registrar's, somebody puts a record of the same name and type: it stays.
			stranger := `_sip._udp.example.org. 300 IN SRV 50 0 5060 pbx.example.org.`
			insert(t, s, stranger)
			c, err = u.Apply(ctx, setOf(t, Config{}, p1).Records)
			if err != nil || len(c.Added) != 0 || len(c.Removed) != 2 {
				t.Errorf("one peer less: %+v, %v", c, err)
			}
			if now := contents(t, s); !slices.Contains(now, stranger) {
				t.Errorf("a stranger's record is gone: %q", now)
			}
			c, err = u.Apply(ctx, nil)
			if err != nil || len(c.Removed) != 7 {
				t.Errorf("nobody left: %+v, %v", c, err)
			}
			after := slices.DeleteFunc(contents(t, s), isNote)
			if want := append(slices.Clone(before), stranger); !slices.Equal(after, sortedLines(want)) {
				t.Errorf("before\n%s\nafter\n%s", strings.Join(want, "\n"), strings.Join(after, "\n"))
			}
		})
	}
}

func sortedLines(l []string) []string { slices.Sort(l); return l }

// insert is another holder of the key at work.
func insert(t *testing.T, s *locatetest.Server, text string) {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	m.SetUpdate("example.org.")
	m.Insert([]dns.RR{rr})
	if _, err := updater(s, "hand").exchange(context.Background(), m); err != nil {
		t.Fatal(err)
	}
}

// Two registrars that have read the same state: the second does not undo what the first has done.
func TestRace(t *testing.T) {
	for name, start := range locatetest.Dynamics() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, map[string]string{"example.org": handMade}, testKey)
			ctx := context.Background()
			a, b := updater(s, "a"), updater(s, "b")
			want := setOf(t, Config{Transports: []Transport{UDP}}, Peer{Node: "one", Endpoints: endpointsOf(t, "sip:192.0.2.1")}).Records
			for range 2 { // with and without notes in the zone
				old, err := b.read(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := a.Apply(ctx, want); err != nil {
					t.Fatal(err)
				}
				add, remove := difference(old.own, nil)
				if len(remove) == 0 {
					add, remove = difference(nil, want[:1])
				}
				if err := b.update(ctx, old, Change{Added: add, Removed: remove}); !errors.Is(err, ErrRace) && !errors.Is(err, ErrForeign) {
					t.Errorf("an update after old notes: %v", err)
				}
				want = append(want[:len(want):len(want)], setOf(t, Config{Transports: []Transport{UDP}},
					Peer{Node: "two", Endpoints: endpointsOf(t, "sip:192.0.2.2")}).Records[:1]...)
			}
		})
	}
}

// Everything that goes wrong between a registrar and a name server has a name and a hint, and leaves the zone alone.
func TestUpdateRefused(t *testing.T) {
	want := setOf(t, Config{}, Peer{Node: "one", Endpoints: endpointsOf(t, "sip:192.0.2.1")}).Records
	for name, start := range locatetest.Dynamics() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, map[string]string{"example.org": handMade}, testKey)
			before := contents(t, s)
			for what, c := range map[string]struct {
				change func(u *Updater)
				want   error
			}{
				"another secret":    {func(u *Updater) { u.Key.Secret = "AAAA" + u.Key.Secret[4:] }, ErrKey},
				"unknown key":       {func(u *Updater) { u.Key.Name = "other.example.org" }, ErrKey},
				"no secret at all":  {func(u *Updater) { u.Key.Secret = "!" }, nil},
				"another zone":      {func(u *Updater) { u.OID, u.Zone = "example.net", "example.net" }, nil},
				"nobody listens":    {func(u *Updater) { u.Server = closedPort(t) }, ErrUnreachable},
				"says nothing":      {func(u *Updater) { u.Server, u.Timeout = silentPort(t), 50*time.Millisecond }, ErrUnreachable},
				"answers unsigned":  {func(u *Updater) { u.Server = answering(t, 0, false) }, ErrUnsigned},
				"is out of order":   {func(u *Updater) { u.Server = answering(t, dns.RcodeServerFailure, true) }, ErrServer},
				"refuses":           {func(u *Updater) { u.Server = answering(t, dns.RcodeRefused, true) }, ErrRefused},
				"has another time":  {func(u *Updater) { u.Server = answering(t, badTime, true) }, ErrClock},
				"is no primary":     {func(u *Updater) { u.Server = answering(t, 0, true) }, ErrNotZone},
				"refuses, unsigned": {func(u *Updater) { u.Server = answering(t, dns.RcodeRefused, false) }, ErrUnsigned},
				"breaks off":        {func(u *Updater) { u.Server = answering(t, breakOff, false) }, ErrUnreachable},
				"a name, no address": {func(u *Updater) {
					u.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no such host") }
				}, ErrUnreachable},
			} {
				u := updater(s, "one")
				c.change(u)
				_, err := u.Apply(context.Background(), want)
				if err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if after := contents(t, s); !slices.Equal(before, after) {
				t.Errorf("the zone has changed: %q", after)
			}
		})
	}
}

func closedPort(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	return ln.Addr().String()
}

func silentPort(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

const (
	badTime  = -1
	breakOff = -2
)

// answering runs a name server that says the same to everything; signed or not.
func answering(t *testing.T, code int, sign bool) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	key := dns.Fqdn(testKey.Name)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		switch code {
		case breakOff:
			w.Hijack()
			w.Close()
			return
		case badTime:
			m.Rcode = dns.RcodeNotAuth
			m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Add(-time.Hour).Unix())
			m.IsTsig().Error = dns.RcodeBadTime
		default:
			m.Rcode = code
			if sign {
				m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
			}
		}
		_ = w.WriteMsg(m)
	})
	s := &dns.Server{Listener: ln, Handler: handler, TsigSecret: map[string]string{key: testKey.Secret},
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }}
	started, done := make(chan struct{}), make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go func() { defer close(done); _ = s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = s.Shutdown(); <-done })
	return ln.Addr().String()
}

func TestUpdaterValidate(t *testing.T) {
	good := Updater{Server: "192.0.2.53:53", OID: "example.org", By: "one", Key: Key(testKey)}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Updater){
		"no port": func(u *Updater) { u.Server = "192.0.2.53" }, "MD5": func(u *Updater) { u.Key.Algorithm = "hmac-md5" },
		"no key": func(u *Updater) { u.Key.Name = "" }, "no secret": func(u *Updater) { u.Key.Secret = "" },
		"outside": func(u *Updater) { u.Zone = "example.net" }, "nameless": func(u *Updater) { u.By = "" },
	} {
		u := good
		change(&u)
		if u.Validate() == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

// Notes that others have put into the zone lead to no record that is not of a registrar's making.
func FuzzOwned(f *testing.F) {
	u := &Updater{OID: "example.org"}
	for _, s := range []string{"@ NAPTR 60 10 10 's' 'SIP+D2U' '' _sip._udp.example.org.", "_sip._udp SRV 60 10 1 5060 p.example.org.",
		HostLabel("n") + " A 60 192.0.2.1", "@ A 60 192.0.2.80", "mail A 60 192.0.2.25", "@ SOA 60 a b 1 2 3 4 5", "$INCLUDE /etc/passwd A 1 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rr, ok := u.owned(&dns.TXT{Txt: []string{s}})
		if !ok {
			return
		}
		switch h := rr.Header(); h.Rrtype {
		case dns.TypeNAPTR, dns.TypeSRV, dns.TypeA, dns.TypeAAAA:
			if !dns.IsSubDomain("example.org.", h.Name) {
				t.Errorf("%q leads to %s", s, rr)
			}
			if label := strings.TrimSuffix(h.Name, ".example.org."); (h.Rrtype == dns.TypeA || h.Rrtype == dns.TypeAAAA) && !ours(label, h.Rrtype) {
				t.Errorf("%q leads to %s", s, rr)
			}
		default:
			t.Errorf("%q leads to %s", s, rr)
		}
	})
}

func TestNotesRoundTrip(t *testing.T) {
	u := &Updater{OID: "example.org"}
	for _, rr := range setOf(t, Config{}, Peer{Node: overlay.NodeID("one"), Endpoints: endpointsOf(t, "sip:192.0.2.1", "sip:192.0.2.2;transport=tcp",
		"sips:[2001:db8::1]")}).Records {
		got, ok := u.owned(u.note(rr).(*dns.TXT))
		if !ok || got.String() != rr.String() {
			t.Errorf("%s\ncomes back as\n%v", rr, got)
		}
	}
}
