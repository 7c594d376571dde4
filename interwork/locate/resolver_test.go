package locate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"p2psip/interwork/locate/zone"
)

// memory is an Exchanger without sockets, for virtual time.
type memory func(ctx context.Context, server netip.AddrPort, network string, query *dns.Msg) (*dns.Msg, error)

func (m memory) Exchange(ctx context.Context, server netip.AddrPort, network string, query *dns.Msg) (*dns.Msg, error) {
	return m(ctx, server, network, query)
}

// mute waits for the end of its context, as for a server that stays silent.
func mute(ctx context.Context) (*dns.Msg, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func parse(t testing.TB, text string) *zone.Zone {
	t.Helper()
	z, err := zone.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func resolver(t testing.TB, c ResolverConfig) *Resolver {
	t.Helper()
	if c.Servers == nil {
		c.Servers = []string{"192.0.2.53"}
	}
	r, err := NewResolver(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// counting counts the questions that reach next.
func counting(n *atomic.Int32, next Exchanger) Exchanger {
	return memory(func(ctx context.Context, s netip.AddrPort, network string, q *dns.Msg) (*dns.Msg, error) {
		n.Add(1)
		return next.Exchange(ctx, s, network, q)
	})
}

func TestAnswersAreKeptAsLongAsTheZoneSays(t *testing.T) {
	z := parse(t, `example.com. 50 SOA ns hostmaster 1 3600 600 86400 40
		a.example.com. 90 A 192.0.2.1
		zero.example.com. 0 A 192.0.2.1
		long.example.com. 9999999 A 192.0.2.1
		short.example.com. 10 CNAME a.example.com.
		slow.test. 86400 SOA ns hostmaster 1 3600 600 86400 86400
		a.slow.test. 60 A 192.0.2.1`)
	for _, c := range []struct {
		name string
		keep time.Duration
	}{
		{"a.example.com", 90 * time.Second},
		{"A.EXAMPLE.com.", 90 * time.Second},
		{"zero.example.com", 0},
		{"long.example.com", maxKept},
		{"short.example.com", 10 * time.Second},  // the least of the way
		{"nobody.example.com", 40 * time.Second}, // the SOA's minimum
		{"example.com", 40 * time.Second},        // no such record
		{"nobody.slow.test", maxNegative},        // capped
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int32
				r := resolver(t, ResolverConfig{Exchanger: counting(&n, z)})
				look := func(want int32) {
					t.Helper()
					if _, _, err := r.Lookup(t.Context(), c.name, dns.TypeA); err != nil {
						t.Fatal(err)
					}
					if n.Load() != want {
						t.Errorf("asked %d times, want %d", n.Load(), want)
					}
				}
				look(1)
				if c.keep > 0 {
					time.Sleep(c.keep - 1)
					look(1)
					time.Sleep(time.Nanosecond)
				}
				look(2)
				r.Flush()
				look(3)
			})
		})
	}
}

func TestNegativeAnswerWithoutSOAIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		r := resolver(t, ResolverConfig{Exchanger: counting(&n, memory(func(_ context.Context, _ netip.AddrPort, _ string, q *dns.Msg) (*dns.Msg, error) {
			m := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
			m.RecursionAvailable = true
			return m, nil
		}))})
		for range 3 {
			a, cached, err := r.Lookup(t.Context(), "example.com", dns.TypeA)
			if err != nil || cached || a.Outcome != NXDomain {
				t.Fatalf("%v, cached %v, %v", a, cached, err)
			}
		}
		if n.Load() != 3 {
			t.Errorf("asked %d times", n.Load())
		}
	})
}

func TestFailureIsKeptForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		r := resolver(t, ResolverConfig{Exchanger: counting(&n, memory(func(ctx context.Context, _ netip.AddrPort, _ string, _ *dns.Msg) (*dns.Msg, error) {
			return mute(ctx)
		}))})
		start := time.Now()
		for range 5 {
			if _, _, err := r.Lookup(t.Context(), "example.com", dns.TypeA); !errors.Is(err, ErrTimeout) || !errors.Is(err, ErrDNS) {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); n.Load() != 2 || took != 3*time.Second {
			t.Errorf("asked %d times in %v, want twice in 3 s", n.Load(), took)
		}
		time.Sleep(maxFailureKept)
		r.Lookup(t.Context(), "example.com", dns.TypeA)
		if n.Load() != 4 {
			t.Errorf("asked %d times", n.Load())
		}
	})
}

// TestOneQuestionForManyCallers: whoever asks the same waits for the answer, also when the one who asked first goes away.
func TestOneQuestionForManyCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := parse(t, "example.com. 0 SOA ns hostmaster 1 3600 600 86400 60\nexample.com. 0 A 192.0.2.1")
		var n atomic.Int32
		r := resolver(t, ResolverConfig{Exchanger: memory(func(ctx context.Context, s netip.AddrPort, network string, q *dns.Msg) (*dns.Msg, error) {
			n.Add(1)
			select {
			case <-time.After(500 * time.Millisecond):
				return z.Answer(network, q), nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		})})
		first, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := r.Lookup(first, "example.com", dns.TypeA); !errors.Is(err, context.Canceled) {
				t.Errorf("the first: %v", err)
			}
		})
		synctest.Wait()
		for range 100 {
			wg.Go(func() {
				a, _, err := r.Lookup(t.Context(), "example.com", dns.TypeA)
				if err != nil || len(a.Records) != 1 {
					t.Errorf("%v, %v", a, err)
				}
			})
		}
		synctest.Wait()
		if n.Load() != 1 {
			t.Errorf("%d questions for 101 callers", n.Load())
		}
		leave()
		wg.Wait()
		if n.Load() != 2 {
			t.Errorf("%d questions, want a second one for those who stayed", n.Load())
		}
	})
}

func TestTheNextServerAnswers(t *testing.T) {
	z := parse(t, "example.com. 60 SOA ns hostmaster 1 3600 600 86400 60\na.example.com. 1 A 192.0.2.1")
	first, second := netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.2:5353")
	for _, c := range []struct {
		name string
		bad  func(ctx context.Context, q *dns.Msg) (*dns.Msg, error)
		took time.Duration
		rest bool // the bad one is asked last from then on
	}{
		{"silent", func(ctx context.Context, _ *dns.Msg) (*dns.Msg, error) { return mute(ctx) }, time.Second, true},
		{"closed", func(context.Context, *dns.Msg) (*dns.Msg, error) { return nil, errors.New("connection refused") }, 0, true},
		{"SERVFAIL", func(_ context.Context, q *dns.Msg) (*dns.Msg, error) {
			return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure), nil
		}, 0, false},
		{"lame", func(_ context.Context, q *dns.Msg) (*dns.Msg, error) { return new(dns.Msg).SetReply(q), nil }, 0, false},
		{"another question's answer", func(_ context.Context, q *dns.Msg) (*dns.Msg, error) {
			o := q.Copy()
			o.Question[0].Name = "b.example.com."
			return z.Answer("udp", o), nil
		}, 0, false},
		{"another identifier", func(_ context.Context, q *dns.Msg) (*dns.Msg, error) {
			m := z.Answer("udp", q)
			m.Id++
			return m, nil
		}, 0, false},
		{"the question itself", func(_ context.Context, q *dns.Msg) (*dns.Msg, error) { return q, nil }, 0, false},
		{"nothing", func(_ context.Context, q *dns.Msg) (*dns.Msg, error) { return nil, nil }, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log []netip.AddrPort
				r := resolver(t, ResolverConfig{Servers: []string{"192.0.2.1", "192.0.2.2:5353"}, Exchanger: memory(
					func(ctx context.Context, s netip.AddrPort, network string, q *dns.Msg) (*dns.Msg, error) {
						log = append(log, s)
						if s == first {
							return c.bad(ctx, q)
						}
						return z.Answer(network, q), nil
					})})
				start := time.Now()
				a, _, err := r.Lookup(t.Context(), "a.example.com", dns.TypeA)
				if err != nil || a.Server != second {
					t.Fatalf("%v, %v", a, err)
				}
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				log = nil
				time.Sleep(2 * time.Second)
				r.Lookup(t.Context(), "a.example.com", dns.TypeA)
				want := []netip.AddrPort{first, second}
				if c.rest {
					want = want[1:]
				}
				if !slices.Equal(log, want) {
					t.Errorf("the second time %v were asked, want %v", log, want)
				}
				log = nil
				time.Sleep(serverRest)
				r.Lookup(t.Context(), "a.example.com", dns.TypeA)
				if !slices.Equal(log, []netip.AddrPort{first, second}) {
					t.Errorf("after its rest %v were asked", log)
				}
			})
		})
	}
}

func TestAllServersAreToldInTheError(t *testing.T) {
	r := resolver(t, ResolverConfig{Servers: []string{"192.0.2.1", "192.0.2.2"}, Exchanger: memory(
		func(_ context.Context, s netip.AddrPort, _ string, q *dns.Msg) (*dns.Msg, error) {
			if s.Addr() == netip.MustParseAddr("192.0.2.1") {
				return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure), nil
			}
			return new(dns.Msg).SetRcode(q, dns.RcodeRefused), nil
		})})
	_, _, err := r.Lookup(t.Context(), "a.example.com", dns.TypeSRV)
	if !errors.Is(err, ErrServFail) {
		t.Fatal(err)
	}
	for _, part := range []string{"SRV a.example.com", "192.0.2.1:53: SERVFAIL", "192.0.2.2:53: REFUSED"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestMixedCase(t *testing.T) {
	z := parse(t, "example.com. 60 SOA ns hostmaster 1 3600 600 86400 60\n*.example.com. 60 SRV 1 1 5060 abcdefghijklmnop.example.com.\n")
	written := make(map[string]bool)
	r := resolver(t, ResolverConfig{MixedCase: true, Exchanger: memory(
		func(_ context.Context, _ netip.AddrPort, network string, q *dns.Msg) (*dns.Msg, error) {
			written[q.Question[0].Name] = true
			return z.Answer(network, q), nil
		})})
	for range 20 {
		a, _, err := r.Lookup(t.Context(), "abcdefghijklmnop.example.com", dns.TypeSRV)
		if err != nil || len(a.Records) != 1 || a.Records[0].(*dns.SRV).Target != "abcdefghijklmnop.example.com." {
			t.Fatalf("%v, %v", a, err)
		}
		r.Flush()
	}
	if len(written) < 15 {
		t.Errorf("20 questions were written in %d ways", len(written))
	}
}

func TestCacheIsBounded(t *testing.T) {
	for _, c := range []struct {
		name           string
		entries, bytes int
	}{{"entries", 10, 1 << 20}, {"bytes", 1 << 20, 20 << 10}} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Unix(1e9, 0)
			k := newCache(c.entries, c.bytes)
			for i := range 1000 {
				q := Question{fmt.Sprintf("%d.example.com.", i), dns.TypeA}
				a := &Answer{Question: q, Expires: now.Add(time.Hour)}
				for range i % 20 {
					rr, _ := dns.NewRR(q.Name + " A 192.0.2.1")
					a.Records = append(a.Records, rr)
				}
				a.bytes = weigh(a)
				k.put(q, a, nil, now)
				k.get(Question{"0.example.com.", dns.TypeA}, now) // used all the time, so it stays
				sum := 0
				for el := k.order.Front(); el != nil; el = el.Next() {
					sum += el.Value.(*entry).bytes
				}
				if len(k.entries) > c.entries || k.bytes > c.bytes || sum != k.bytes || k.order.Len() != len(k.entries) {
					t.Fatalf("%d entries in map, %d in order, %d bytes (counted %d)", len(k.entries), k.order.Len(), k.bytes, sum)
				}
			}
			if len(k.entries) < 5 {
				t.Errorf("%d entries only", len(k.entries))
			}
			if _, _, ok := k.get(Question{"0.example.com.", dns.TypeA}, now); !ok {
				t.Error("the entry that is used all the time is gone")
			}
		})
	}
}

func TestResolvConfIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewResolver(ResolverConfig{ResolvConf: path}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	write("search example.com\n")
	if _, err := NewResolver(ResolverConfig{ResolvConf: path}); !errors.Is(err, ErrNoServers) {
		t.Errorf("no server: %v", err)
	}
	write("nameserver 192.0.2.1\nnameserver 2001:db8::53\n")
	now := time.Unix(1e9, 0)
	r, err := NewResolver(ResolverConfig{ResolvConf: path, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	want := func(s string) {
		t.Helper()
		if got, err := r.order(); fmt.Sprint(got) != s {
			t.Errorf("%v, %v, want %s", got, err, s)
		}
	}
	want("[192.0.2.1:53 [2001:db8::53]:53]")
	write("nameserver 192.0.2.9\n")
	want("[192.0.2.1:53 [2001:db8::53]:53]")
	now = now.Add(resolvConfAge)
	want("[192.0.2.9:53]")
	os.Remove(path)
	now = now.Add(resolvConfAge)
	want("[192.0.2.9:53]") // better than none
}

func TestServersAsWritten(t *testing.T) {
	got, err := parseServers([]string{"192.0.2.1", "192.0.2.1:5353", "2001:db8::53", "[2001:db8::53]:5353"})
	if s := fmt.Sprint(got); err != nil || s != "[192.0.2.1:53 192.0.2.1:5353 [2001:db8::53]:53 [2001:db8::53]:5353]" {
		t.Errorf("%s, %v", s, err)
	}
	for _, bad := range []string{"", "ns.example.com", "192.0.2.1:0", "192.0.2.1:99999", "[2001:db8::53"} {
		if got, err := parseServers([]string{bad}); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}
