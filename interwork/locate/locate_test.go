package locate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// TestWeights draws often and compares with what RFC 2782 makes of the weights: the first of a draw has the chance w/(sum+1),
// but for the one that stands first, which has one more number; that difference is below what is asked for here.
func TestWeights(t *testing.T) {
	const draws = 100_000
	random := rand.New(rand.NewPCG(3, 4))
	for _, weights := range [][]uint16{{10, 60, 30}, {1000, 1000}, {0, 0, 0, 0}, {0, 999}, {65535, 65535, 1}} {
		var group []*dns.SRV
		sum := 0.0
		for i, w := range weights {
			group = append(group, &dns.SRV{Weight: w, Port: uint16(i)})
			sum += float64(w)
		}
		first, second := make([]int, len(weights)), make([]int, len(weights))
		for range draws {
			g := slices.Clone(group)
			draw(g, func(n uint64) uint64 { return random.Uint64N(n) })
			first[g[0].Port]++
			second[g[1].Port]++
		}
		for i, w := range weights {
			// RFC 2782 draws from 0 to the sum, both included: a weight of 0 is picked by the number 0, shared by all zeros,
			// and without zeros that number falls to whichever stands first.
			zeros := float64(0)
			for _, v := range weights {
				if v == 0 {
					zeros++
				}
			}
			want := float64(w) / (sum + 1)
			switch {
			case w == 0:
				want = 1 / (sum + 1) / zeros
			case zeros == 0:
				want += 1 / (sum + 1) / float64(len(weights))
			}
			got := float64(first[i]) / draws
			if slack := 4*math.Sqrt(want*(1-want)/draws) + 1e-9; math.Abs(got-want) > slack {
				t.Errorf("weights %v: number %d came first in %.4f of the draws, want %.4f ± %.4f", weights, i, got, want, slack)
			}
			if len(weights) == 2 && second[i] != first[1-i] {
				t.Errorf("weights %v: %d second, %d first", weights, second, first)
			}
		}
	}
}

// TestWeightsPerCall: each Locate draws anew out of one cached answer, in the proportion of the weights.
func TestWeightsPerCall(t *testing.T) {
	z := parse(t, soaOf+"_sip._udp SRV 1 75 5060 a\n_sip._udp SRV 1 25 5060 b\na A 192.0.2.1\nb A 192.0.2.2")
	var n atomic.Int32
	r := resolver(t, ResolverConfig{Exchanger: counting(&n, z)})
	l, err := New(Config{Resolver: r, Family: OnlyIPv4, Random: rand.New(rand.NewPCG(5, 6))})
	if err != nil {
		t.Fatal(err)
	}
	first := 0
	for range 2000 {
		res, err := l.Locate(t.Context(), uri("sip:example.com;transport=udp"))
		if err != nil || len(res.Targets) != 2 {
			t.Fatalf("%v, %v", res, err)
		}
		if res.Targets[0].Addr.Addr() == netip.MustParseAddr("192.0.2.1") {
			first++
		}
	}
	if n.Load() != 1 {
		t.Errorf("%d questions", n.Load())
	}
	if first < 1400 || first > 1600 {
		t.Errorf("the one with 75 of 100 came first in %d of 2000 calls", first)
	}
}

func TestFailedTargetsComeLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := parse(t, soaOf+"_sip._udp SRV 1 0 5060 a\n_sip._udp SRV 2 0 5060 b\n_sip._udp SRV 3 0 5060 c\n"+
			"a A 192.0.2.1\nb A 192.0.2.2\nc A 192.0.2.3\nother A 192.0.2.1")
		l, err := New(Config{Resolver: resolver(t, ResolverConfig{Exchanger: z}), Family: OnlyIPv4})
		if err != nil {
			t.Fatal(err)
		}
		order := func(want string) []Target {
			t.Helper()
			res, err := l.Locate(t.Context(), uri("sip:example.com;transport=udp"))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, x := range res.Targets {
				got += x.Host[:1]
			}
			if got != want {
				t.Errorf("order %s, want %s", got, want)
			}
			return res.Targets
		}
		targets := order("abc")
		l.Failed(targets[0])
		order("bca")
		l.Failed(targets[1])
		order("cab")
		l.Failed(targets[2])
		order("abc") // all alike again, and none is left out
		l.Good(targets[1])
		order("bac")

		// The memory is of an address with port and transport, under whatever name; not of the domain.
		res, err := l.Locate(t.Context(), uri("sip:other.example.com:5060"))
		if err != nil || res.Rested.IsZero() {
			t.Errorf("the same address under another name: %v, %v", res, err)
		}
		for _, s := range []string{"sip:other.example.com:5062", "sip:other.example.com:5060;transport=tcp"} {
			if res, err := l.Locate(t.Context(), uri(s)); err != nil || !res.Rested.IsZero() {
				t.Errorf("%s: %v, %v", s, res, err)
			}
		}

		// It ends by itself, and later each time it happens again; at once again counts once.
		time.Sleep(firstPenalty)
		order("abc")
		want := firstPenalty
		for range 10 {
			want = min(2*want, maxPenalty)
			l.Failed(targets[0])
			l.Failed(targets[0])
			order("bca")
			time.Sleep(want - 1)
			order("bca")
			time.Sleep(time.Nanosecond)
			order("abc")
		}
		time.Sleep(forgetAfter + 1)
		l.Failed(targets[0])
		time.Sleep(firstPenalty)
		order("abc")
	})
}

func TestMemoryIsBounded(t *testing.T) {
	f := newFailures()
	now := time.Unix(1e9, 0)
	for i := range 3 * maxRemembered {
		f.bad(place{UDP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 5060)}, now)
	}
	if len(f.places) != maxRemembered || f.order.Len() != maxRemembered {
		t.Errorf("%d and %d remembered", len(f.places), f.order.Len())
	}
}

// TestPatience: a target that is known is not held up by name servers that do not tell about others.
func TestPatience(t *testing.T) {
	for _, parallel := range []int{1, 8} {
		t.Run(fmt.Sprint(parallel), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				z := parse(t, soaOf+"_sip._udp SRV 1 0 5060 a.example.com.\n_sip._udp SRV 2 0 5060 b.elsewhere.test.\na A 192.0.2.1")
				l, err := New(Config{Parallel: parallel, Resolver: resolver(t, ResolverConfig{Exchanger: memory(
					func(ctx context.Context, _ netip.AddrPort, network string, q *dns.Msg) (*dns.Msg, error) {
						if strings.HasSuffix(q.Question[0].Name, ".test.") {
							return mute(ctx)
						}
						m := z.Answer(network, q)
						m.Extra = m.Extra[:0]
						return m, nil
					})})})
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				res, err := l.Locate(t.Context(), uri("sip:example.com"))
				if err != nil || len(res.Targets) != 1 {
					t.Fatalf("%v, %v", res, err)
				}
				if took := time.Since(start); took != DefaultPatience {
					t.Errorf("took %v, want %v\n%v", took, DefaultPatience, res)
				}
				if !strings.Contains(res.String(), errPatience.Error()) {
					t.Errorf("not told:\n%v", res)
				}
			})
		})
	}
}

func TestLocateEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := New(Config{Resolver: resolver(t, ResolverConfig{Servers: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, Exchanger: memory(
			func(ctx context.Context, _ netip.AddrPort, _ string, _ *dns.Msg) (*dns.Msg, error) { return mute(ctx) })})})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = l.Locate(t.Context(), uri("sip:example.com"))
		if took := time.Since(start); !errors.Is(err, ErrTimeout) || took != DefaultTimeout {
			t.Errorf("after %v: %v", took, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		start = time.Now()
		_, err = l.Locate(ctx, uri("sip:other.example.com"))
		if took := time.Since(start); !errors.Is(err, context.Canceled) || errors.Is(err, ErrDNS) || took != time.Millisecond {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// TestBounds: a zone that names too much is cut down.
func TestBounds(t *testing.T) {
	var b strings.Builder
	b.WriteString(soaOf)
	for i := range 300 {
		fmt.Fprintf(&b, "_sip._udp SRV %d 1 5060 h%d.elsewhere.test.\n", i, i)
		fmt.Fprintf(&b, "@ NAPTR %d 1 \"s\" \"SIP+D2U\" \"\" _s%d._udp\n_s%d._udp SRV 1 1 5060 gone%d\n", i, i, i, i)
		fmt.Fprintf(&b, "@ A 192.0.%d.%d\n", i/250, i%250+1)
	}
	for i := range 20 {
		fmt.Fprintf(&b, "_sip._tcp SRV %d 1 5060 m%d\nm%d A 198.51.100.%d\nm%d A 203.0.113.%d\n", i, i, i, i, i, i)
	}
	z := parse(t, b.String()+"\nelsewhere.test. 60 SOA ns hostmaster 1 3600 600 86400 60\n*.elsewhere.test. A 192.0.2.1\n*.elsewhere.test. A 192.0.2.2")
	var n atomic.Int32
	l, err := New(Config{Resolver: resolver(t, ResolverConfig{Exchanger: counting(&n, z)})})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uri     string
		targets int
		err     error
	}{
		{"sip:example.com:5060", maxAddresses, nil},
		{"sip:example.com;transport=udp", 2, nil}, // many hosts of two addresses
		{"sip:example.com;transport=tcp", MaxTargets, nil},
		{"sip:example.com", 0, ErrTooMany},
	} {
		n.Store(0)
		res, err := l.Locate(t.Context(), uri(c.uri))
		if len(res.Targets) != c.targets || !errors.Is(err, c.err) {
			t.Errorf("%s: %d targets, %v", c.uri, len(res.Targets), err)
		}
		if n.Load() > 2*MaxQuestions || len(res.Steps) > 4*MaxQuestions {
			t.Errorf("%s: %d questions, %d steps", c.uri, n.Load(), len(res.Steps))
		}
	}
	a, _, err := l.resolver.Lookup(t.Context(), "_sip._udp.example.com", dns.TypeSRV)
	if err != nil || len(a.Records) != MaxRecords || a.Left != 300-MaxRecords {
		t.Errorf("%d records, %d left out, %v", len(a.Records), a.Left, err)
	}
}

func TestSources(t *testing.T) {
	z := parse(t, soaOf+`@ NAPTR 1 1 "s" "SIP+D2U" "" _out._udp
		_out._udp SRV 1 1 5060 n
		_sip._udp SRV 1 1 5060 u
		_sip._tcp SRV 9 1 5060 u
		_sipfederationtls._tcp SRV 1 1 5061 f
		u A 192.0.2.1
		u AAAA 2001:db8::1
		f A 127.0.0.2
		n A 192.0.2.3
		@ A 192.0.2.80
		plain A 192.0.2.4
		broken NAPTR 1 1 "s" "SIP+D2U" "" _sip._udp.fail
		absent A 192.0.2.5
		_sip._udp.absent SRV 0 0 0 .`)
	var n atomic.Int32
	ex := counting(&n, memory(func(ctx context.Context, s netip.AddrPort, network string, q *dns.Msg) (*dns.Msg, error) {
		if strings.Contains(q.Question[0].Name, "fail.") {
			return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure), nil
		}
		return z.Exchange(ctx, s, network, q)
	}))
	// What the node itself may send to plays no part.
	l, err := New(Config{Resolver: resolver(t, ResolverConfig{Exchanger: ex}), Transports: []string{TLS}, Family: OnlyIPv4, Permit: Public})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		domain, want string
		err          error
	}{
		{"Example.com.", "[127.0.0.2 192.0.2.1 192.0.2.3 2001:db8::1]", nil},
		{"plain.example.com", "[192.0.2.4]", nil},
		{"nobody.example.com", "[]", ErrNoSuchDomain},
		{"absent.example.com", "[]", nil},
		{"broken.example.com", "[]", ErrServFail},
		{"192.0.2.1", "[]", ErrHost},
		{"elsewhere.test", "[]", ErrDNS},
	} {
		src, err := l.Sources(t.Context(), c.domain)
		if fmt.Sprint(src.Addrs) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v, want %s, %v", c.domain, src.Addrs, err, c.want, c.err)
		}
		for _, a := range src.Addrs {
			if !src.Contains(a) || !src.Contains(netip.AddrFrom16(a.As16())) {
				t.Errorf("%v does not contain %v", src.Addrs, a)
			}
		}
	}
	before := n.Load()
	if _, err := l.Sources(t.Context(), "example.com"); err != nil || n.Load() != before {
		t.Errorf("asked again: %v", err)
	}
}

func TestNothingToAskWith(t *testing.T) {
	l, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if res, err := l.Locate(t.Context(), uri("sip:192.0.2.1")); err != nil || len(res.Targets) != 1 {
		t.Errorf("%v, %v", res, err)
	}
	if _, err := l.Locate(t.Context(), uri("sip:example.com")); !errors.Is(err, ErrNoServers) {
		t.Error(err)
	}
	for _, bad := range []Config{{Transports: []string{"SCTP"}}, {Transports: []string{UDP, UDP}}, {Family: 9}, {Timeout: -1}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestPublic(t *testing.T) {
	for _, s := range []string{"9.9.9.9", "2620:fe::9", "::ffff:9.9.9.9", "100.128.0.1"} {
		if !Public(netip.MustParseAddr(s)) {
			t.Errorf("%s is taken for private", s)
		}
	}
	for _, s := range []string{"0.0.0.0", "10.1.1.1", "127.0.0.1", "169.254.1.1", "172.31.0.1", "192.168.0.1", "100.64.0.1", "192.0.2.1", "224.0.0.1",
		"255.255.255.255", "240.0.0.1", "::", "::1", "fe80::1", "fd00::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "fec0::1"} {
		if Public(netip.MustParseAddr(s)) {
			t.Errorf("%s is taken for public", s)
		}
	}
}

// BenchmarkLocateCached is what a call costs once the domain is known: NAPTR, two services, two hosts with two addresses.
func BenchmarkLocateCached(b *testing.B) {
	z := parse(b, soaOf+`@ NAPTR 1 1 "s" "SIP+D2U" "" _sip._udp
		@ NAPTR 1 2 "s" "SIP+D2T" "" _sip._tcp
		_sip._udp SRV 1 1 5060 a
		_sip._udp SRV 1 1 5060 b
		_sip._tcp SRV 1 1 5060 a
		a A 192.0.2.1
		a AAAA 2001:db8::1
		b A 192.0.2.2
		b AAAA 2001:db8::2`)
	for _, c := range []struct{ name, uri string }{
		{"NAPTR", "sip:bob@example.com"}, {"SRV", "sip:bob@example.com;transport=udp"}, {"numeric", "sip:bob@192.0.2.1:5060"},
	} {
		b.Run(c.name, func(b *testing.B) {
			l, err := New(Config{Resolver: resolver(b, ResolverConfig{Exchanger: z})})
			if err != nil {
				b.Fatal(err)
			}
			u := uri(c.uri)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Locate(context.Background(), u); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
