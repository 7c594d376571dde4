package locate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/locate"
	"p2psip/interwork/locate/locatetest"
)

// zones are the public DNS as an operator writes it.
func zones() map[string]string {
	const soa = "$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n  IN NS ns\nns IN A 127.0.0.1\n"
	big := soa
	for i := range 60 {
		big += fmt.Sprintf("_sip._udp IN SRV %d 10 5060 a-server-with-a-rather-long-name-%d\na-server-with-a-rather-long-name-%d IN A 192.0.2.%d\n", i, i, i, i+1)
	}
	return map[string]string{
		"provider.test": soa + `
@ IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp
@ IN NAPTR 10 20 "s" "SIP+D2T" "" _sip._tcp
@ IN NAPTR 10 10 "s" "SIPS+D2T" "" _sips._tcp
_sip._udp IN SRV 10 0 5060 one
_sip._udp IN SRV 20 0 5066 two
_sip._tcp IN SRV 10 0 5060 two
_sips._tcp IN SRV 10 0 5061 one
one IN A 192.0.2.1
one IN AAAA 2001:db8::1
two IN A 192.0.2.2
alias IN CNAME two
_sip._udp.moved IN CNAME _sip._udp
_sip._udp.elsewhere IN SRV 1 0 5060 h0.big.test.
_sip._udp.closed IN SRV 0 0 0 .
_sip._udp.dead IN SRV 1 0 5060 gone
_sip._udp.dead IN SRV 2 0 5060 one
*.wild IN A 192.0.2.3
plain IN A 192.0.2.4
mail IN MX 10 two
`,
		"big.test": big + "h0 IN A 192.0.2.9\n",
	}
}

// peerRows are the main rows of the matrix again, with name servers that others wrote.
var peerRows = []struct {
	uri   string
	need  locate.Need
	want  string
	asked []string // of BIND
	err   error
}{
	{uri: "sip:provider.test", want: "TLS [2001:db8::1]:5061, TLS 192.0.2.1:5061, TCP 192.0.2.2:5060", asked: []string{
		"NAPTR provider.test", "SRV _sips._tcp.provider.test", "SRV _sip._tcp.provider.test", "AAAA two.provider.test"}},
	{uri: "sip:provider.test;transport=udp", want: "UDP [2001:db8::1]:5060, UDP 192.0.2.1:5060, UDP 192.0.2.2:5066", asked: []string{
		"SRV _sip._udp.provider.test", "AAAA two.provider.test"}},
	{uri: "sips:provider.test", want: "TLS [2001:db8::1]:5061, TLS 192.0.2.1:5061", asked: []string{
		"NAPTR provider.test", "SRV _sips._tcp.provider.test"}},
	{uri: "sip:provider.test:5060", err: locate.ErrNoAddress, asked: []string{"AAAA provider.test", "A provider.test"}},
	{uri: "sip:plain.provider.test", want: "UDP 192.0.2.4:5060", asked: []string{
		"NAPTR plain.provider.test", "SRV _sip._udp.plain.provider.test", "SRV _sip._tcp.plain.provider.test",
		"SRV _sips._tcp.plain.provider.test", "AAAA plain.provider.test", "A plain.provider.test"}},
	{uri: "sip:alias.provider.test:5070", want: "UDP 192.0.2.2:5070", asked: []string{"AAAA alias.provider.test", "A alias.provider.test"}},
	{uri: "sip:moved.provider.test;transport=udp", want: "UDP [2001:db8::1]:5060, UDP 192.0.2.1:5060, UDP 192.0.2.2:5066", asked: []string{
		"SRV _sip._udp.moved.provider.test", "AAAA one.provider.test", "A one.provider.test", "AAAA two.provider.test", "A two.provider.test"}},
	{uri: "sip:elsewhere.provider.test;transport=udp", want: "UDP 192.0.2.9:5060", asked: []string{
		"SRV _sip._udp.elsewhere.provider.test", "AAAA h0.big.test", "A h0.big.test"}},
	{uri: "sip:closed.provider.test;transport=udp", err: locate.ErrNoService, asked: []string{"SRV _sip._udp.closed.provider.test"}},
	{uri: "sip:dead.provider.test;transport=udp", want: "UDP [2001:db8::1]:5060, UDP 192.0.2.1:5060", asked: []string{
		// The targets lie in provider.test, the question was about dead.provider.test: asked again.
		"SRV _sip._udp.dead.provider.test", "AAAA gone.provider.test", "A gone.provider.test", "AAAA one.provider.test", "A one.provider.test"}},
	{uri: "sip:any.wild.provider.test:5060", want: "UDP 192.0.2.3:5060", asked: []string{"AAAA any.wild.provider.test", "A any.wild.provider.test"}},
	{uri: "sip:nobody.provider.test", err: locate.ErrNoSuchDomain, asked: []string{"NAPTR nobody.provider.test"}},
	{uri: "sip:mail.provider.test", err: locate.ErrNoAddress, need: locate.Need{Transports: []string{locate.UDP}}, asked: []string{
		"NAPTR mail.provider.test", "SRV _sip._udp.mail.provider.test", "AAAA mail.provider.test", "A mail.provider.test"}},
	{uri: "sip:maddr.provider.test;maddr=192.0.2.1", err: locate.ErrMaddr},
}

func newLocator(t *testing.T, server string) *locate.Locator {
	t.Helper()
	r, err := locate.NewResolver(locate.ResolverConfig{Servers: []string{server}, Attempt: 10 * time.Second, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	l, err := locate.New(locate.Config{Resolver: r, Parallel: 1, Timeout: 30 * time.Second, Patience: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func parse(t *testing.T, s string) sip.Uri {
	t.Helper()
	var u sip.Uri
	if err := sip.ParseUri(s, &u); err != nil {
		t.Fatal(err)
	}
	return u
}

func list(targets []locate.Target) string {
	var b []string
	for _, x := range targets {
		b = append(b, x.String())
	}
	return strings.Join(b, ", ")
}

func TestWithBIND(t *testing.T) {
	bind := locatetest.StartBIND(t, zones())
	for _, row := range peerRows {
		t.Run(row.uri, func(t *testing.T) {
			l := newLocator(t, bind.Addr)
			before := len(bind.Queries())
			res, err := l.LocateFor(context.Background(), parse(t, row.uri), row.need)
			if list(res.Targets) != row.want || !errors.Is(err, row.err) {
				t.Errorf("%s, %v, want %s, %v\n%v", list(res.Targets), err, row.want, row.err, res)
			}
			if asked := bind.Queries()[before:]; !slices.Equal(asked, row.asked) {
				t.Errorf("asked\n %q, want\n %q", asked, row.asked)
			}
		})
	}
	t.Run("truncated", func(t *testing.T) {
		l := newLocator(t, bind.Addr)
		before := len(bind.Queries())
		res, err := l.Locate(context.Background(), parse(t, "sip:big.test;transport=udp"))
		if err != nil || len(res.Targets) != locate.MaxTargets || res.Targets[0].Addr.String() != "192.0.2.1:5060" {
			t.Errorf("%v, %v", res, err)
		}
		asked := bind.Queries()[before:]
		if len(asked) < 2 || asked[0] != "SRV _sip._udp.big.test" || asked[1] != "SRV _sip._udp.big.test tcp" {
			t.Errorf("asked %q", asked)
		}
	})
	t.Run("sources", func(t *testing.T) {
		src, err := newLocator(t, bind.Addr).Sources(context.Background(), "provider.test")
		if got := fmt.Sprint(src.Addrs); err != nil || got != "[192.0.2.1 192.0.2.2 2001:db8::1]" {
			t.Errorf("%s, %v", got, err)
		}
	})
}

// TestThroughUnbound: the same by way of a caching resolver, which is what a node has in most places.
func TestThroughUnbound(t *testing.T) {
	bind := locatetest.StartBIND(t, zones())
	cache := locatetest.StartUnbound(t, map[string]string{"provider.test": bind.Addr, "big.test": bind.Addr, "broken.test": bind.Addr})
	for _, row := range peerRows {
		t.Run(row.uri, func(t *testing.T) {
			res, err := newLocator(t, cache.Addr).LocateFor(context.Background(), parse(t, row.uri), row.need)
			if list(res.Targets) != row.want || !errors.Is(err, row.err) {
				t.Errorf("%s, %v, want %s, %v\n%v", list(res.Targets), err, row.want, row.err, res)
			}
			// A second node asks the same: nothing of that reaches the domain's own server any more.
			before := bind.Queries()
			again, err := newLocator(t, cache.Addr).LocateFor(context.Background(), parse(t, row.uri), row.need)
			if list(again.Targets) != row.want || !errors.Is(err, row.err) {
				t.Errorf("again: %s, %v", list(again.Targets), err)
			}
			if after := bind.Queries(); len(after) != len(before) {
				t.Errorf("asked again: %q", after[len(before):])
			}
		})
	}
	t.Run("truncated", func(t *testing.T) {
		res, err := newLocator(t, cache.Addr).Locate(context.Background(), parse(t, "sip:big.test;transport=udp"))
		if err != nil || len(res.Targets) != locate.MaxTargets || res.Steps[1].Answer.Network != "tcp" {
			t.Errorf("%v, %v", res, err)
		}
	})
	t.Run("a server that does not know its domain", func(t *testing.T) {
		_, err := newLocator(t, cache.Addr).LocateFor(context.Background(), parse(t, "sip:broken.test:5060"), locate.Need{})
		if !errors.Is(err, locate.ErrServFail) {
			t.Errorf("%v", err)
		}
	})
}
