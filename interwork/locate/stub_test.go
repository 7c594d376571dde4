package locate

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emiago/sipgo/sip"
	"github.com/miekg/dns"

	"p2psip/interwork/locate/zone"
)

// stub is a name server on 127.0.0.1 that serves a zone, misbehaves where told to, and keeps a log.
type stub struct {
	zone   *zone.Zone
	faults map[string]fault // by question, "SRV _sip._udp.example.com", or "*"

	addr string

	mu  sync.Mutex
	log []string // guarded by mu: "SRV _sip._udp.example.com", over TCP with " tcp" behind it
}

// fault changes an answer; nil stays silent. It may answer by itself several times in a row.
type fault func(network string, query, answer *dns.Msg) *dns.Msg

func rcode(code int) fault {
	return func(_ string, query, _ *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(query, code) }
}

func silent(string, *dns.Msg, *dns.Msg) *dns.Msg { return nil }

// soaOf is the zone that all rows share the beginning of.
const soaOf = `
	$ORIGIN example.com.
	@ 300 SOA ns hostmaster 1 3600 600 86400 60
`

// serve starts a stub; it is closed when the test ends.
func serve(t testing.TB, text string, faults map[string]fault) *stub {
	t.Helper()
	z, err := zone.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	s := &stub{zone: z, faults: faults}
	for range 50 { // the port has to be free for both
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.addr = pc.LocalAddr().String()
		ln, err := net.Listen("tcp4", s.addr)
		if err != nil {
			pc.Close()
			continue
		}
		server := zone.Serve(pc, ln, s, nil)
		t.Cleanup(func() { server.Close() })
		return s
	}
	t.Fatal("found no port that is free for UDP and TCP")
	return nil
}

// Answer implements zone.Answerer.
func (s *stub) Answer(network string, query *dns.Msg) *dns.Msg {
	q := Question{strings.ToLower(query.Question[0].Name), query.Question[0].Qtype}.String()
	s.mu.Lock()
	if network == "tcp" {
		s.log = append(s.log, q+" tcp")
	} else {
		s.log = append(s.log, q)
	}
	s.mu.Unlock()
	answer := s.zone.Answer(network, query)
	for _, key := range []string{q, "*"} {
		if f := s.faults[key]; f != nil {
			return f(network, query, answer)
		}
	}
	return answer
}

func (s *stub) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// locator asks the stubs, one question at a time, with chance that is the same each time.
func locator(t testing.TB, rc ResolverConfig, c Config, servers ...*stub) *Locator {
	t.Helper()
	for _, s := range servers {
		rc.Servers = append(rc.Servers, s.addr)
	}
	r, err := NewResolver(rc)
	if err != nil {
		t.Fatal(err)
	}
	c.Resolver = r
	c.Parallel = either(c.Parallel, 1)
	if c.Random == nil {
		c.Random = rand.New(rand.NewPCG(1, 2))
	}
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// uri reads a URI more freely than package message does: what is not allowed there has to be refused here all the same.
func uri(s string) sip.Uri {
	var u sip.Uri
	var params string
	u.Scheme, s, _ = strings.Cut(s, ":")
	s, params, _ = strings.Cut(s, ";")
	if user, host, ok := strings.Cut(s, "@"); ok {
		u.User, s = user, host
	}
	if host, port, err := net.SplitHostPort(s); err == nil {
		if u.Host = host; strings.HasPrefix(s, "[") {
			u.Host = "[" + host + "]"
		}
		fmt.Sscan(port, &u.Port)
	} else {
		u.Host = s
	}
	for p := range strings.SplitSeq(params, ";") {
		if p != "" {
			k, v, _ := strings.Cut(p, "=")
			u.UriParams = append(u.UriParams, sip.HeaderKV{K: k, V: v})
		}
	}
	return u
}

func shown(targets []Target) []string {
	var list []string
	for _, t := range targets {
		list = append(list, t.String())
	}
	return list
}
