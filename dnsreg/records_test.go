package dnsreg

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"p2psip/overlay"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func endpointsOf(t *testing.T, uris ...string) (out []Endpoint) {
	t.Helper()
	for _, u := range uris {
		e, err := ParseService(u)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func text(s Set) string {
	var b strings.Builder
	for _, rr := range s.Records {
		b.WriteString(strings.ReplaceAll(rr.String(), "\t", " ") + "\n")
	}
	return b.String()
}

func TestDesired(t *testing.T) {
	one, two := overlay.NodeID("one"), overlay.NodeID("two")
	h1, h2 := HostLabel(one), HostLabel(two)
	for _, c := range []struct {
		name  string
		c     Config
		peers []Peer
		want  string
	}{
		{"nobody", Config{}, nil, ""},
		{"every transport", Config{}, []Peer{{Node: one, Capacity: 100, Endpoints: endpointsOf(t,
			"sip:192.0.2.1:5060;transport=udp", "sip:192.0.2.1:5060;transport=tcp", "sip:192.0.2.1:5061;transport=tls")}},
			`_sip._tcp.example.org. 60 IN SRV 10 100 5060 H1.example.org.
_sip._udp.example.org. 60 IN SRV 10 100 5060 H1.example.org.
_sipfederationtls._tcp.example.org. 60 IN SRV 10 100 5061 H1.example.org.
_sips._tcp.example.org. 60 IN SRV 10 100 5061 H1.example.org.
example.org. 60 IN NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp.example.org.
example.org. 60 IN NAPTR 10 20 "s" "SIP+D2T" "" _sip._tcp.example.org.
example.org. 60 IN NAPTR 10 30 "s" "SIPS+D2T" "" _sips._tcp.example.org.
H1.example.org. 60 IN A 192.0.2.1
`},
		{"both families", Config{TTL: 30 * time.Second}, []Peer{{Node: one, Capacity: 10, Load: 500,
			Endpoints: endpointsOf(t, "sip:[2001:db8::1]:5070;transport=udp", "sip:192.0.2.1:5070;transport=udp")}},
			`_sip._udp.example.org. 30 IN SRV 10 5 5070 H1.example.org.
example.org. 30 IN NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp.example.org.
H1.example.org. 30 IN A 192.0.2.1
H1.example.org. 30 IN AAAA 2001:db8::1
`},
		{"another address for each transport", Config{Transports: []Transport{TCP, UDP}}, []Peer{{Node: one,
			Endpoints: endpointsOf(t, "sip:192.0.2.1;transport=udp", "sip:192.0.2.2;transport=tcp")}},
			`_sip._tcp.example.org. 60 IN SRV 10 1 5060 H1-tcp5060.example.org.
_sip._udp.example.org. 60 IN SRV 10 1 5060 H1-udp5060.example.org.
example.org. 60 IN NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp.example.org.
example.org. 60 IN NAPTR 10 20 "s" "SIP+D2U" "" _sip._udp.example.org.
H1-tcp5060.example.org. 60 IN A 192.0.2.2
H1-udp5060.example.org. 60 IN A 192.0.2.1
`},
		{"two peers, one without a usable endpoint", Config{}, []Peer{{Node: one}, {Node: two, Capacity: 7,
			Endpoints: endpointsOf(t, "sips:192.0.2.9")}, {Node: two, Endpoints: endpointsOf(t, "sip:192.0.2.10")}},
			`_sipfederationtls._tcp.example.org. 60 IN SRV 10 7 5061 H2.example.org.
_sips._tcp.example.org. 60 IN SRV 10 7 5061 H2.example.org.
example.org. 60 IN NAPTR 10 30 "s" "SIPS+D2T" "" _sips._tcp.example.org.
H2.example.org. 60 IN A 192.0.2.9
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.c.OID = "example.org"
			got, err := Desired(c.c, c.peers, Set{}, noon)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.NewReplacer("H1", h1, "H2", h2).Replace(c.want)
			if g := sorted(text(got)); g != sorted(want) {
				t.Errorf("got\n%s\nwant\n%s", g, sorted(want))
			}
		})
	}
}

func sorted(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A peer's load goes up and down all day; the zone says so only when it matters.
func TestWeightsDoNotFlutter(t *testing.T) {
	p := Peer{Node: "one", Capacity: 1000, Endpoints: endpointsOf(t, "sip:192.0.2.1")}
	var s Set
	changes := 0
	for i := range 1000 {
		p.Load = 200 + uint16(i%7)*30
		next, err := Desired(Config{OID: "example.org"}, []Peer{p}, s, noon)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && text(next) != text(s) {
			changes++
		}
		s = next
	}
	if changes != 0 {
		t.Errorf("%d changes of the zone for a load between 20 and 38 %%", changes)
	}
	p.Load = 900
	if next, _ := Desired(Config{OID: "example.org"}, []Peer{p}, s, noon); text(next) == text(s) {
		t.Error("a peer that is nearly full keeps its weight")
	}
}

// With more peers than places each gets its turn, about as often as any other, and one after the other.
func TestTurns(t *testing.T) {
	var peers []Peer
	for i := range 40 {
		peers = append(peers, Peer{Node: overlay.NodeID(fmt.Sprint("peer ", i)), Capacity: 10,
			Endpoints: []Endpoint{{UDP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 5060)}}})
	}
	c := Config{OID: "example.org", MaxPeers: 8, Rotation: time.Hour}
	in := map[overlay.NodeID]int{}
	var before Set
	largest := 0
	// A day minute by minute, for what changes at a time; then ten days by quarters of an hour, for the shares.
	const minutes, quarters = 24 * 60, 10 * 24 * 4
	for m := range minutes + quarters {
		at, fine := noon.Add(time.Duration(m)*time.Minute), m < minutes
		if !fine {
			at = noon.Add(time.Duration(m-minutes) * 15 * time.Minute)
		}
		rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
		s, err := Desired(c, peers, before, at)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Named) != 8 {
			t.Fatalf("%d peers named", len(s.Named))
		}
		changed := 0
		for _, n := range s.Named {
			if !fine {
				in[n]++
			}
			if m > 0 && !slices.Contains(before.Named, n) {
				changed++
			}
		}
		if fine {
			largest = max(largest, changed)
		}
		before = s
	}
	for n, times := range in {
		if share := float64(times) / quarters; share < 0.1 || share > 0.3 {
			t.Errorf("%s had a place for %.0f %% of the time, its share is 20 %%", string(n), 100*share)
		}
	}
	if len(in) != len(peers) {
		t.Errorf("%d of %d peers had a turn", len(in), len(peers))
	}
	if largest > 4 {
		t.Errorf("%d of 8 peers changed within a minute", largest)
	}
}

func TestParseService(t *testing.T) {
	for uri, want := range map[string]string{
		"sip:192.0.2.1:5060;transport=udp":   "udp 192.0.2.1:5060",
		"sip:192.0.2.1:5070;transport=TCP":   "tcp 192.0.2.1:5070",
		"sip:192.0.2.1:5061;transport=tls":   "tls 192.0.2.1:5061",
		"SIPS:[2001:db8::1]:5061":            "tls [2001:db8::1]:5061",
		"sips:192.0.2.1;transport=tcp":       "tls 192.0.2.1:5061",
		"sip:[2001:db8::1]":                  "udp [2001:db8::1]:5060",
		"sip:192.0.2.1;lr;transport=tcp;x=y": "tcp 192.0.2.1:5060",
	} {
		e, err := ParseService(uri)
		if got := fmt.Sprint(e.Transport, " ", e.Addr); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", uri, got, err, want)
		}
	}
	for _, uri := range []string{"", "sip", "sip:", "sip:example.org", "tel:+4930", "sip:alice@192.0.2.1", "sip:192.0.2.1:0",
		"sip:192.0.2.1:99999", "sip:192.0.2.1;transport=sctp", "sips:192.0.2.1;transport=udp", "sip:[fe80::1%eth0]:5060",
		"sip:192.0.2.1:5060;" + strings.Repeat("a", 200)} {
		if e, err := ParseService(uri); !errors.Is(err, ErrBadService) {
			t.Errorf("%q: %v, %v", uri, e, err)
		}
	}
}

func FuzzParseService(f *testing.F) {
	for _, s := range []string{"sip:192.0.2.1:5060;transport=udp", "sips:[2001:db8::1]:5061", "sip:[::ffff:192.0.2.1]", "sip:192.0.2.1;;=;transport"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseService(s)
		if err != nil {
			return
		}
		set, err := Desired(Config{OID: "example.org"}, []Peer{{Node: "n", Endpoints: []Endpoint{e}}}, Set{}, noon)
		if err != nil {
			t.Fatal(err)
		}
		for _, rr := range set.Records {
			if _, err := dns.NewRR(rr.String()); err != nil {
				t.Errorf("%q makes the record %q: %v", s, rr, err)
			}
		}
	})
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []Config{{OID: "localhost"}, {OID: "example.org", TTL: time.Hour}, {OID: "example.org", MaxPeers: 1000},
		{OID: "example.org", Rotation: time.Second}, {OID: "example.org", Transports: []Transport{"sctp"}},
		{OID: "example.org", Transports: []Transport{UDP, UDP}}, {}} {
		if c.Validate() == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
