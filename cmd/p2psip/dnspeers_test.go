package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/libp2p/go-libp2p/core/peer"
	mdns "github.com/miekg/dns"

	"p2psip/cmd/p2psip/node"
	"p2psip/dnsreg"
	"p2psip/interwork/locate"
	"p2psip/interwork/locate/locatetest"
)

const (
	dnsLab      = "lab.example.org"
	dnsLabZone  = "$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 1\n@ IN NS ns\n@ IN MX 10 mail\nns IN A 192.0.2.53\nmail IN A 192.0.2.25\nlab IN TXT \"by hand\"\nwww.lab IN A 192.0.2.80\n"
	dnsLabProxy = "127.0.0.61"
)

// dnsZone is one zone that a registrar keeps, and a resolver (unbound) in front of its server.
type dnsZone struct {
	name      string
	server    string
	resolver  string
	backend   dnsreg.Backend
	registrar *dnsreg.Registrar
	news      chan struct{}
	before    []string // what an operator has put there by hand
	axfr      func(t *testing.T) []string
}

// lead gives the SRV targets and ports that the zone's own server tells.
func (z *dnsZone) lead(t *testing.T) (hosts []string) {
	t.Helper()
	m := new(mdns.Msg)
	m.SetQuestion("_sip._udp."+dnsLab+".", mdns.TypeSRV)
	r, _, err := new(mdns.Client).Exchange(m, z.server)
	if err != nil {
		t.Fatalf("%s: %v", z.name, err)
	}
	for _, rr := range r.Answer {
		if s, ok := rr.(*mdns.SRV); ok {
			label, _, _ := strings.Cut(s.Target, ".")
			hosts = append(hosts, label)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// dnsProxies are processes of an overlay: one plain node, whose control socket the registrars ask, and proxy peers.
type dnsProxies struct {
	t     *testing.T
	root  string
	first string
	asked string // data directory of the plain node
	cmds  map[string]*exec.Cmd
	hosts map[string]string // the host labels by data directory
}

func (l *dnsProxies) run(args ...string) {
	l.t.Helper()
	c := exec.Command(binary, args...)
	c.Dir = l.root
	if out, err := c.CombinedOutput(); err != nil {
		l.t.Fatalf("p2psip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (l *dnsProxies) start(dir string, more ...string) {
	l.t.Helper()
	args := append([]string{"node", "--data", dir, "--listen", "/ip4/127.0.0.1/tcp/0", "--sip", "127.0.0.1:0", "--no-lan", "--media", "off"}, more...)
	if l.first != "" {
		args = append(args, "--bootstrap", l.first)
	}
	c := exec.Command(binary, args...)
	c.Dir = l.root
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.cmds[dir] = c
	data := filepath.Join(l.root, dir)
	var s *node.Status
	l.until("the node in "+dir+" to be there", func() bool {
		res, err := node.Ask(l.t.Context(), data, node.Request{Do: "status"})
		if err == nil {
			s = res.Status
		}
		return err == nil && (l.first == "" || s.Joined)
	})
	if l.first == "" {
		l.first = s.Addrs[0]
	}
	id, err := peer.Decode(s.Node)
	if err != nil {
		l.t.Fatal(err)
	}
	l.hosts[dir] = dnsreg.HostLabel(id)
}

func (l *dnsProxies) end(dir string, sig syscall.Signal) {
	l.t.Helper()
	c := l.cmds[dir]
	if c == nil {
		return
	}
	delete(l.cmds, dir)
	_ = c.Process.Signal(sig)
	_ = c.Wait()
}

// until polls other processes.
func (l *dnsProxies) until(what string, ok func() bool) time.Duration {
	l.t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > 30*time.Second {
			l.t.Fatalf("in vain waited for %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(begin)
}

// TestDNSPeers: the zones of BIND, Knot and the built-in server follow proxy peers that start, stop and are killed; who asks a
// resolver finds them; what an operator has in his zone stays.
func TestDNSPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("three zones and four nodes take ten seconds")
	}
	l := &dnsProxies{t: t, root: t.TempDir(), asked: "plain", cmds: map[string]*exec.Cmd{}, hosts: map[string]string{}}
	t.Cleanup(func() {
		for dir := range l.cmds {
			l.end(dir, syscall.SIGKILL)
		}
	})
	l.run("overlay", "create", dnsLab, "--dir", "root")
	l.run("overlay", "issue", "--dir", "root", "--user", "bob", "--data", "plain")
	l.start("plain")
	for i := range 3 {
		l.run("overlay", "issue", "--dir", "root", "--role", "proxy", "--data", fmt.Sprint("door", i))
	}
	door := func(i int) {
		l.start(fmt.Sprint("door", i), "--proxy-peer", "--unlisted", "--public", "udp:"+dnsLabProxy+":0")
	}
	door(0)
	door(1)

	var zones []*dnsZone
	key := locatetest.TSIG{Name: "p2psip.example.org", Algorithm: "hmac-sha256", Secret: "c2VjcmV0IG9mIHRoZSByZWdpc3RyYXIgdGVzdHMhISE="}
	for name, start := range locatetest.Dynamics() {
		s := start(t, map[string]string{"example.org": dnsLabZone}, key)
		u := &dnsreg.Updater{Server: s.Addr, Zone: "example.org", OID: dnsLab, By: "test", Key: dnsreg.Key(key)}
		zones = append(zones, &dnsZone{name: name, server: s.Addr, resolver: locatetest.StartUnbound(t, map[string]string{"example.org": s.Addr}).Addr, backend: u,
			axfr: func(t *testing.T) []string { return operatorsOwn(t, s.Addr, key) }})
	}
	a, err := dnsreg.NewAuthority(dnsreg.AuthorityConfig{OID: dnsLab, Servers: []string{"ns1.example.net"}, TTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	own := serveAuthority(t, a)
	zones = append(zones, &dnsZone{name: "built-in", server: own, backend: a, resolver: locatetest.StartUnbound(t, map[string]string{dnsLab: own}).Addr})

	for _, z := range zones {
		if z.axfr != nil {
			z.before = z.axfr(t)
		}
		z.news = make(chan struct{}, 1)
		r, err := dnsreg.NewRegistrar(dnsreg.RegistrarConfig{
			Records: dnsreg.Config{OID: dnsLab, TTL: time.Second}, Admission: dnsreg.AdmissionConfig{Override: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
			Probes: dnsreg.ProberConfig{Every: 200 * time.Millisecond, Again: 100 * time.Millisecond, Timeout: 500 * time.Millisecond},
			Source: nodeSource{filepath.Join(l.root, l.asked)}, Backend: z.backend, By: "test", Look: 200 * time.Millisecond, Check: time.Second,
			Settle: 2 * time.Second, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)).With("zone", z.name),
		})
		if err != nil {
			t.Fatal(err)
		}
		z.registrar = r
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	follow := func(what string, doors ...string) {
		t.Helper()
		var want []string
		for _, d := range doors {
			want = append(want, l.hosts[d])
		}
		slices.Sort(want)
		for _, z := range zones {
			d := l.until(fmt.Sprintf("%s: %s to name %v", what, z.name, doors), func() bool { return slices.Equal(z.lead(t), want) })
			t.Logf("%s: %s after %v", what, z.name, d.Round(10*time.Millisecond))
			// What an outsider finds, through a resolver: as many places, each of which is one of a living proxy peer.
			var found []locate.Target
			l.until(what+": an outsider to find them by "+z.name, func() bool {
				found = outsider(t, z.resolver)
				return len(found) == len(want)
			})
			for _, f := range found {
				if err := answers(f.Addr); err != nil {
					t.Errorf("%s: %s by %s: %v", what, f, z.name, err)
				}
			}
		}
	}
	follow("at the start", "door0", "door1")
	door(2)
	follow("another one", "door0", "door1", "door2")
	l.end("door2", syscall.SIGINT)
	follow("a clean stop", "door0", "door1")
	l.end("door1", syscall.SIGKILL)
	follow("kill -9", "door0")
	door(1)
	follow("back again", "door0", "door1")
	for _, z := range zones {
		if z.axfr != nil && !slices.Equal(z.before, z.axfr(t)) {
			t.Errorf("%s: the operator's records were\n%s\nand are\n%s", z.name, strings.Join(z.before, "\n"), strings.Join(z.axfr(t), "\n"))
		}
	}
}

// outsider finds the overlay as somebody outside does (RFC 3263), by a resolver.
func outsider(t *testing.T, resolver string) []locate.Target {
	t.Helper()
	r, err := locate.NewResolver(locate.ResolverConfig{Servers: []string{resolver}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := locate.New(locate.Config{Resolver: r})
	if err != nil {
		t.Fatal(err)
	}
	res, err := l.Locate(t.Context(), sip.Uri{Scheme: "sip", Host: dnsLab})
	if err != nil && !errors.Is(err, locate.ErrDNS) {
		return nil
	}
	return res.Targets
}

// answers sends OPTIONS to a place.
func answers(at netip.AddrPort) error {
	p := dnsreg.NewProber(dnsreg.ProberConfig{OID: dnsLab})
	defer p.Close()
	return p.Try(context.Background(), dnsreg.Peer{Endpoints: []dnsreg.Endpoint{{Transport: dnsreg.UDP, Addr: at}}})
}

// serveAuthority opens the built-in server.
func serveAuthority(t *testing.T, a *dnsreg.Authority) string {
	t.Helper()
	for range 50 { // the port has to be free for both
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp4", pc.LocalAddr().String())
		if err != nil {
			pc.Close()
			continue
		}
		if err := errors.Join(a.ServeUDP(pc), a.ServeTCP(ln)); err != nil {
			t.Fatal(err)
		}
		return pc.LocalAddr().String()
	}
	t.Fatal("found no port that is free for UDP and TCP")
	return ""
}

// operatorsOwn gives what is in a zone besides the registrar's records and notes, and the SOA, whose serial number counts.
func operatorsOwn(t *testing.T, server string, key locatetest.TSIG) (out []string) {
	t.Helper()
	m := new(mdns.Msg)
	m.SetAxfr("example.org.")
	name := mdns.Fqdn(key.Name)
	m.SetTsig(name, mdns.HmacSHA256, 300, time.Now().Unix())
	in, err := (&mdns.Transfer{TsigSecret: map[string]string{name: key.Secret}}).In(m, server)
	if err != nil {
		t.Fatal(err)
	}
	for e := range in {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		for _, rr := range e.RR {
			h := rr.Header()
			if h.Ttl == 300 && h.Rrtype != mdns.TypeSOA && h.Rrtype != mdns.TypeTSIG {
				out = append(out, rr.String())
			}
		}
	}
	if len(out) < 6 {
		t.Fatalf("of the operator's records there are %q", out)
	}
	slices.Sort(out)
	return out
}
