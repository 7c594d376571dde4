package node

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/account"
	"p2psip/interwork/flow"
	"p2psip/interwork/locate/locatetest"
	"p2psip/interwork/message"
	"p2psip/interwork/phone"
	"p2psip/interwork/phonetest"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
	"p2psip/proxypeer"
	"p2psip/proxypeer/policy"
)

// publicWorld is what is outside an overlay: a name server (BIND), a provider (Kamailio) with a registrar that asks for digest, and
// the public sockets of two proxy peers.
type publicWorld struct {
	t        *testing.T
	dns      string // the name server
	bind     *locatetest.Server
	relay    atomic.Pointer[string] // the name server that Kamailio asks
	provider netip.AddrPort
	peers    [2]netip.AddrPort
}

// providerConfig is Kamailio as provider.example: everybody's password is "secret", and whoever is not here is looked for by
// RFC 3263.
const providerConfig = `#!KAMAILIO
debug=0
log_stderror=yes
children=2
tcp_children=1
auto_aliases=no
alias="provider.example"
listen=udp:%[1]s
listen=tcp:%[1]s
dns_cache_init=yes
dns_try_naptr=yes
use_dns_failover=yes
dns_srv_lb=yes
dns_retr_time=1
dns_retr_no=2
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("tm", "fr_timer", 2000)
request_route {
	if (!mf_process_maxfwd_header("70")) { sl_send_reply("483", "Too Many Hops"); exit; }
	if (is_method("CANCEL")) { if (t_check_trans()) { t_relay(); } exit; }
	if (has_totag()) {
		if (loose_route()) { t_relay(); exit; }
		if (is_method("ACK")) { if (t_check_trans()) { t_relay(); } exit; }
		if ($rd != "provider.example") { t_relay(); exit; }
		sl_send_reply("404", "Not Here"); exit;
	}
	t_check_trans();
	if (is_method("REGISTER")) {
		if (!pv_www_authenticate("provider.example", "secret", "0")) { www_challenge("provider.example", "0"); exit; }
		save("location"); exit;
	}
	remove_hf("Route");
	record_route();
	if ($rd == "provider.example") {
		if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
	}
	t_relay();
}
`

// newPublicWorld starts name server and provider. Kamailio reads /etc/resolv.conf, so it gets one of its own in a mount
// namespace.
func newPublicWorld(t *testing.T) *publicWorld {
	t.Helper()
	phonetest.Need(t, "kamailio")
	phonetest.Need(t, "unshare")
	w := &publicWorld{t: t}
	w.provider = phonetest.FreePort(t, "127.0.0.1")
	w.peers = [2]netip.AddrPort{phonetest.FreePort(t, "127.0.0.31"), phonetest.FreePort(t, "127.0.0.32")}
	w.bind = locatetest.StartBIND(t, w.zones(0, 1))
	w.dns = w.bind.Addr
	w.relay.Store(&w.dns)
	port53 := w.relayDNS()

	runProvider(t, fmt.Sprintf(providerConfig, w.provider), port53, w.provider)
	return w
}

// runProvider runs Kamailio until the test ends and waits for it to answer over UDP at an address. It asks the name server at port53.
func runProvider(t *testing.T, text, port53 string, at netip.AddrPort) {
	t.Helper()
	path, unshare := phonetest.Need(t, "kamailio"), phonetest.Need(t, "unshare")
	dir := t.TempDir()
	config, resolv := filepath.Join(dir, "kamailio.cfg"), filepath.Join(dir, "resolv.conf")
	// Now and then one of its processes does not hear the signal to end; by itself it would wait a minute for that.
	if err := os.WriteFile(config, []byte(text+"\nexit_timeout=2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(resolv, []byte("nameserver "+port53+"\noptions timeout:1 attempts:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(unshare, "-rm", "sh", "-c", `mount --bind "$1" /etc/resolv.conf && shift && exec "$@"`, "sh", resolv,
		path, "-DD", "-E", "-f", config, "-Y", dir, "-w", dir, "-m", "64", "-M", "8")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Kamailio said:\n%s", said.Bytes())
		}
	})
	probe, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	for range 100 {
		_, _ = fmt.Fprintf(probe, "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKp;rport\r\nMax-Forwards: 0\r\n"+
			"From: <sip:a@x>;tag=1\r\nTo: <sip:x>\r\nCall-ID: probe\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", probe.LocalAddr())
		_ = probe.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := probe.Read(make([]byte, 2000)); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond) // until then its port is closed
	}
	t.Fatal("Kamailio does not answer")
}

// zones are what the name server says; of the proxy peers it prefers the first one.
func (w *publicWorld) zones(first, second int) map[string]string {
	const head = `$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
`
	return map[string]string{
		"provider.example": head + fmt.Sprintf(`
@ NAPTR 10 50 "s" "SIP+D2U" "" _sip._udp
@ NAPTR 20 50 "s" "SIP+D2T" "" _sip._tcp
_sip._udp SRV 10 10 %[1]d proxy.hoster.example.
_sip._tcp SRV 10 10 %[1]d proxy.hoster.example.
`, w.provider.Port()),
		"hoster.example": head + "proxy A 127.0.0.1\n", // what the other zone says of it is not believed: it has to be asked for
		testID: head + fmt.Sprintf(`
@ NAPTR 10 50 "s" "SIP+D2U" "" _sip._udp
_sip._udp SRV 10 10 %d pp%d
_sip._udp SRV 20 10 %d pp%d
pp1 A 127.0.0.31
pp2 A 127.0.0.32
`, w.peers[first].Port(), first+1, w.peers[second].Port(), second+1),
	}
}

// relayDNS hands what comes to port 53 of a loopback address on to a name server, because Kamailio asks at port 53 and BIND
// answers at addresses of interfaces only. It gives the address.
func (w *publicWorld) relayDNS() (addr string) {
	t := w.t
	t.Helper()
	var in net.PacketConn
	var err error
	for last := 54; last < 80; last++ {
		addr = fmt.Sprintf("127.0.0.%d", last)
		if in, err = net.ListenPacket("udp", addr+":53"); err == nil {
			break
		}
	}
	if err != nil {
		if os.Getenv(phonetest.RequirePeers) == "1" {
			t.Fatalf("the provider's name server needs port 53: %v", err)
		}
		t.Skipf("the provider's name server needs port 53 of a loopback address (run as root, or with CAP_NET_BIND_SERVICE): %v", err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { in.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			b := make([]byte, 4096)
			n, from, err := in.ReadFrom(b)
			if err != nil {
				return
			}
			wg.Go(func() {
				out, err := net.Dial("udp", *w.relay.Load())
				if err != nil {
					return
				}
				defer out.Close()
				_ = out.SetDeadline(time.Now().Add(2 * time.Second))
				_, _ = out.Write(b[:n])
				if n, err := out.Read(b); err == nil {
					_, _ = in.WriteTo(b[:n], from)
				}
			})
		}
	})
	return addr
}

// asked gives what the name server has been asked about domains, each question once, in order.
func (w *publicWorld) asked(domains ...string) (out []string) {
	for _, q := range w.bind.Queries() {
		_, name, _ := strings.Cut(q, " ")
		if !slices.Contains(out, q) && slices.ContainsFunc(domains, func(d string) bool { return name == d || strings.HasSuffix(name, "."+d) }) {
			out = append(out, q)
		}
	}
	return out
}

// trace is what one element of the network has seen, as lines such as "in peer INVITE" and "out public 200 INVITE".
type trace struct {
	name string
	log  *traceLog
}

// traceLog has the traces of all elements in the order in which things happened.
type traceLog struct {
	mu    sync.Mutex // guards lines
	lines []traceLine
}

type traceLine struct {
	text string // "pp1 in peer INVITE"
	m    string
}

func (tr trace) event(e proxy.Event) {
	kind := [...]string{"phone", "node", "outside"}[flow.KindOf(e.Flow)]
	dir := "in from "
	if e.Out {
		dir = "out to "
	}
	what := ""
	switch m := e.Message.(type) {
	case *sip.Request:
		what = string(m.Method)
	case *sip.Response:
		what = fmt.Sprintf("%d %s", m.StatusCode, m.CSeq().MethodName)
	}
	tr.log.mu.Lock()
	defer tr.log.mu.Unlock()
	tr.log.lines = append(tr.log.lines, traceLine{tr.name + " " + dir + kind + ": " + what, string(message.Bytes(e.Message))})
}

// forget begins anew.
func (l *traceLog) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = nil
}

// follows looks for steps in the order in which they have to have happened, and gives the message of each.
func (l *traceLog) follows(t *testing.T, steps ...string) (messages []string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	at := 0
	for _, s := range steps {
		from := at
		for at < len(l.lines) && l.lines[at].text != s {
			at++
		}
		if at == len(l.lines) {
			var all []string
			for _, e := range l.lines {
				all = append(all, e.text)
			}
			t.Fatalf("step %q is missing after %d of\n%s", s, from, strings.Join(all, "\n"))
		}
		messages = append(messages, l.lines[at].m)
		at++
	}
	return messages
}

// crossing checks every message that was exchanged with the public side: no address of ours in Record-Route or Contact, no
// name of a node in Via.
func (l *traceLog) crossing(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.lines {
		if !strings.Contains(e.text, "out to outside") {
			continue
		}
		for _, line := range strings.Split(e.m, "\r\n") {
			name, value, _ := strings.Cut(line, ":")
			switch {
			case name == "Record-Route" && !strings.Contains(value, "<sip:p2psip.example;lr>") && !strings.Contains(value, "127.0.0.1"),
				(name == "Record-Route" || name == "Contact") && (strings.Contains(value, "127.0.0.3") || strings.Contains(value, ".p2psip.example")),
				name == "Via" && strings.Contains(value, ".p2psip.example"),
				name == "Contact" && !strings.Contains(value, "@p2psip.example"):
				t.Errorf("%s shows %s", e.text, line)
			}
			if name == "Record-Route" {
				n++
			}
		}
	}
	if n == 0 {
		t.Error("nothing was recorded")
	}
}

// borderWorld is an overlay with alice's node and two proxy peers, beside a public world.
type borderWorld struct {
	*universe
	out  *publicWorld
	log  *traceLog
	node *Node
	pp   [2]*Node

	processes [2]*proxyPeerProcess // instead of pp
	bootstrap []string
}

func newBorderWorld(t *testing.T, processes bool) *borderWorld {
	t.Helper()
	return newBorderWorldWith(t, processes, func(*borderWorld, *Config) {})
}

// newBorderWorldWith changes the configuration of alice's node before it starts.
func newBorderWorldWith(t *testing.T, processes bool, change func(*borderWorld, *Config)) *borderWorld {
	t.Helper()
	phonetest.Need(t, "baresip")
	w := &borderWorld{universe: newUniverse(t), out: newPublicWorld(t), log: &traceLog{}}
	var homes []string
	for i := range w.pp {
		dir := t.TempDir()
		homes = append(homes, dir)
		id, err := Install(dir, w.authority.Document(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		cred, err := w.authority.Issue(id, nil, []overlay.Role{overlay.RoleProxy}, 24*time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := InstallCredential(dir, cred.PEM(), time.Now()); err != nil {
			t.Fatal(err)
		}
		if processes {
			w.processes[i] = w.process(dir, i)
			continue
		}
		c := w.config(dir)
		c.Trace = trace{fmt.Sprintf("pp%d", i+1), w.log}.event
		c.ProxyPeer = &ProxyPeer{DNS: []string{w.out.dns}, Unlisted: true, Federation: filepath.Join(dir, policy.FileName)}
		for _, tr := range []string{"udp", "tcp"} {
			s, err := OpenPublic(tr+":"+w.out.peers[i].String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			c.ProxyPeer.Sockets = append(c.ProxyPeer.Sockets, s)
		}
		w.pp[i] = w.start(c)
	}
	// A node that looks before a proxy peer has made itself known is content with the others for some minutes.
	for _, dir := range homes {
		w.advertised(dir)
	}
	c := w.config(w.home("alice"))
	c.Bootstrap = append(c.Bootstrap, w.bootstrap...)
	c.Trace = trace{"node", w.log}.event
	change(w, &c)
	w.node = w.start(c)
	return w
}

// advertised waits until other nodes know of a proxy peer.
func (w *borderWorld) advertised(dir string) {
	w.t.Helper()
	ctx := testContext(w.t)
	for {
		res, err := Ask(ctx, dir, Request{Do: "status"})
		if err == nil && res.Status.Border.Adverts > 0 {
			return
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("a proxy peer is not advertised: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// phones starts alice's phone at her node and carol's at the provider, both registered.
func (w *borderWorld) phones(ctx context.Context) (alice, carol *phonetest.Baresip) {
	w.t.Helper()
	alice = phonetest.StartBaresip(w.t, phonetest.BaresipConfig{AOR: "sip:alice@" + testID, Proxy: w.node.SIP().String()})
	carol = phonetest.StartBaresip(w.t, phonetest.BaresipConfig{AOR: "sip:carol@provider.example", Proxy: w.out.provider.String(), AuthUser: "carol", Password: "secret"})
	for _, p := range []*phonetest.Baresip{alice, carol} {
		if err := p.Register(ctx); err != nil {
			w.t.Fatal(err)
		}
	}
	return alice, carol
}

// established has one phone call another, and gives both ends of the call.
func established(t *testing.T, ctx context.Context, from, to *phonetest.Baresip, uri string) (out, in *phonetest.BaresipCall) {
	t.Helper()
	out = from.Dial(ctx, uri)
	in, err := to.WaitIncoming(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	if err := out.WaitEstablished(ctx); err != nil {
		t.Fatal(err)
	}
	return out, in
}

// TestFlowOutbound is §5.2 of the draft, steps (5) to (9) and what follows, with Kamailio as carol's provider: alice's node
// finds a proxy peer, which finds the provider by RFC 3263 and records the overlay in the route.
func TestFlowOutbound(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	w := newBorderWorld(t, false)
	ctx := testContext(t)
	alice, carol := w.phones(ctx)
	out, in := established(t, ctx, alice, carol, "sip:carol@provider.example")

	// (5) and (6), the search for proxy peers, leave their trace in what the node knows.
	known := w.node.Status().Border.Known
	if len(known) == 0 {
		t.Fatal("the node knows no proxy peer")
	}
	first, name := w.pp[0], "pp1"
	if known[0] == w.pp[1].ID().String() {
		first, name = w.pp[1], "pp2"
	}
	ms := w.log.follows(t, "node in from phone: INVITE",
		"node out to node: INVITE", name+" in from node: INVITE", // (7)
		name+" out to outside: INVITE", // (8); (9) is Kamailio's
		name+" in from outside: 200 INVITE", name+" out to node: 200 INVITE", "node out to phone: 200 INVITE")
	if !strings.Contains(ms[3], "\r\nRecord-Route: <sip:p2psip.example;lr>\r\n") || !strings.Contains(ms[3], "Contact: <sip:alice@p2psip.example;gr=") {
		t.Errorf("(8) INVITE:\n%s", ms[3])
	}
	// baresip copies its transport into the URI that it dials, so there is no NAPTR to ask for (RFC 3263 §4.1).
	if q := w.out.asked("provider.example"); !slices.Contains(q, "SRV _sip._udp.provider.example") {
		t.Errorf("the name server was asked for %q", q)
	}

	// The proxy peer of the call ends; carol hangs up through the other one.
	if err := first.Close(); err != nil {
		t.Log(err)
	}
	if err := in.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := out.WaitClosed(ctx); err != nil {
		t.Errorf("carol's BYE: %v", err)
	}
	w.log.crossing(t)
}

// TestFlowInbound is §5.3: carol's provider resolves the overlay's identifier and sends her INVITE to a proxy peer, which
// brings it to alice's node; the proxy peer ends, and alice hangs up through the other one.
func TestFlowInbound(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	w := newBorderWorld(t, false)
	ctx := testContext(t)
	alice, carol := w.phones(ctx)
	out, in := established(t, ctx, carol, alice, "sip:alice@"+testID)
	ms := w.log.follows(t, "pp1 in from outside: INVITE", // (1): SRV prefers it
		"pp1 out to node: INVITE", "node in from node: INVITE", "node out to phone: INVITE", // (2) and (3)
		"node in from phone: 200 INVITE", "node out to node: 200 INVITE", "pp1 out to outside: 200 INVITE")
	if !strings.Contains(ms[6], "\r\nRecord-Route: <sip:p2psip.example;lr>\r\n") || !strings.Contains(ms[6], "Contact: <sip:alice@p2psip.example;gr=") {
		t.Errorf("200 INVITE:\n%s", ms[6])
	}
	if q := w.out.asked(testID); !slices.Contains(q, "NAPTR p2psip.example") {
		t.Errorf("the name server was asked for %q", q)
	}
	if err := w.pp[0].Close(); err != nil {
		t.Log(err)
	}
	if err := in.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := out.WaitClosed(ctx); err != nil {
		t.Errorf("alice's BYE: %v", err)
	}
	w.log.follows(t, "node in from phone: BYE", "node out to node: BYE", "pp2 in from node: BYE", "pp2 out to outside: BYE")
	w.log.crossing(t)
}

// TestFlowsByDNS has both ways of a call found by RFC 3263 from nothing but a domain: alice dials carol at her domain, and
// carol alice at hers. BIND writes down what the proxy peer and what Kamailio ask.
func TestFlowsByDNS(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	w := newBorderWorld(t, false)
	ctx := testContext(t)
	alice := w.universe.phone(w.node, "alice", phone.AnswerAfter(0))
	var at seen
	carol := customer(t, w.out.provider, &at)
	if q := w.out.bind.Queries(); len(q) > 0 {
		t.Fatalf("asked before any call: %q", q)
	}
	for _, c := range []struct {
		from   *phone.Phone
		to     string
		domain string
		want   []string // in this order
		never  string
	}{
		{alice, "sip:carol@provider.example", "provider.example",
			[]string{"NAPTR provider.example", "SRV _sip._udp.provider.example", "A proxy.hoster.example"}, "SRV _sip._tcp.provider.example"},
		{carol, "sip:alice@" + testID, testID, []string{"NAPTR " + testID}, // BIND sends SRV and A along, and Kamailio takes them
			"SRV _sip._tcp." + testID},
	} {
		if err := talk(t, c.from, c.to).Hangup(ctx); err != nil {
			t.Errorf("%s: %v", c.to, err)
		}
		q := w.out.asked(c.domain, "hoster.example")
		rest := q
		for _, want := range c.want {
			i := slices.Index(rest, want)
			if i < 0 {
				t.Fatalf("for %s the name server was asked %q, want %q in this order", c.to, q, c.want)
			}
			rest = rest[i+1:]
		}
		if slices.Contains(q, c.never) {
			t.Errorf("for %s the name server was asked %q: NAPTR had said UDP", c.to, q)
		}
		// What is known is not asked again while it lasts.
		before := len(w.out.bind.Queries())
		if err := talk(t, c.from, c.to).Hangup(ctx); err != nil {
			t.Errorf("%s: %v", c.to, err)
		}
		if again := w.out.bind.Queries()[before:]; len(again) > 0 {
			t.Errorf("for the second call to %s the name server was asked %q", c.to, again)
		}
	}
	w.log.crossing(t)
}

// proxyPeerProcess is a proxy peer in a process of its own, which can be killed.
type proxyPeerProcess struct {
	id  string
	cmd *exec.Cmd
}

const proxyPeerEnv = "P2PSIP_TEST_PROXY_PEER"

// process starts one from a data directory.
func (w *borderWorld) process(dir string, i int) *proxyPeerProcess {
	w.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestProxyPeerProcess$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %s", proxyPeerEnv, dir, w.out.peers[i], w.out.dns, strings.Join(w.bootstrap, " ")))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	f := strings.Fields(line)
	if err != nil || len(f) < 2 {
		w.t.Fatalf("the proxy peer says %q: %v", line, err)
	}
	w.bootstrap = append(w.bootstrap, f[1])
	return &proxyPeerProcess{id: f[0], cmd: cmd}
}

// TestProxyPeerProcess is the process of a proxy peer.
func TestProxyPeerProcess(t *testing.T) {
	f := strings.Fields(os.Getenv(proxyPeerEnv))
	if len(f) < 3 {
		t.Skip("started by TestKilledProxyPeer only")
	}
	s, err := OpenPublic("udp:"+f[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := Start(Config{
		DataDir: f[0], Listen: []string{"/ip4/127.0.0.1/tcp/0"}, SIP: "127.0.0.1:0", NoLAN: true, Control: true, Bootstrap: f[3:],
		Logger: slog.New(slog.DiscardHandler), ProxyPeer: &ProxyPeer{DNS: []string{f[2]}, Unlisted: true, Sockets: []proxypeer.Socket{s}},
	})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(n.ID(), n.Addrs()[0])
	select {} // until it is killed
}

// TestKilledProxyPeer has the proxy peer of a call killed: either side goes on through the other one, and who is calling at
// that moment hears of it soon and gets through at the second attempt.
func TestKilledProxyPeer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	for _, c := range []string{"caller", "callee", "ringing"} {
		t.Run(c, func(t *testing.T) {
			w := newBorderWorld(t, true)
			ctx := testContext(t)
			alice, carol := w.phones(ctx)
			for len(w.node.Status().Border.Known) < 2 { // one to be killed, and one in reserve
				select {
				case <-ctx.Done():
					t.Fatalf("the node knows %q", w.node.Status().Border.Known)
				case <-time.After(50 * time.Millisecond):
				}
			}
			if c == "ringing" {
				call := alice.Dial(ctx, "sip:carol@provider.example")
				if _, err := carol.WaitIncoming(ctx); err != nil {
					t.Fatal(err)
				}
				if err := call.WaitRinging(ctx); err != nil {
					t.Fatal(err)
				}
				w.killInUse()
				began := time.Now()
				reason, err := call.WaitClosed(ctx)
				if took := time.Since(began); err != nil || took > 4*time.Second {
					t.Errorf("the caller heard %q (%v) after %v", reason, err, took)
				}
				carol.Stop() // it rings until its provider gives up
				carol = phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: "sip:dave@provider.example", Proxy: w.out.provider.String(), AuthUser: "dave", Password: "secret"})
				if err := carol.Register(ctx); err != nil {
					t.Fatal(err)
				}
				established(t, ctx, alice, carol, "sip:dave@provider.example")
				return
			}
			out, in := established(t, ctx, alice, carol, "sip:carol@provider.example")
			w.killInUse()
			began := time.Now()
			first, second := out, in
			if c == "callee" {
				first, second = in, out
			}
			if c == "caller" {
				if err := first.Hold(ctx); err != nil {
					t.Errorf("re-INVITE: %v", err)
				}
			}
			if err := first.Hangup(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := second.WaitClosed(ctx); err != nil {
				t.Errorf("BYE: %v", err)
			}
			t.Logf("over after %v", time.Since(began))
		})
	}
}

// TestKilledAfterRegister is §5.4 with a proxy peer that is killed between the REGISTER that went through it and the call:
// the provider resolves the overlay's identifier, and the call arrives through the other proxy peer.
func TestKilledAfterRegister(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	w := newBorderWorld(t, true)
	ctx := testContext(t)
	store, err := account.Open(w.node.cfg.DataDir, testID)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Add(account.Account{AOR: "sip:alice@provider.example", User: "alice", Password: "secret", Added: time.Now()}); err != nil {
		t.Fatal(err)
	}
	w.universe.phone(w.node, "alice", phone.AnswerAfter(0))
	var at seen
	carol := customer(t, w.out.provider, &at)
	state := func() (s account.Status) {
		for _, s = range w.node.Status().Accounts {
		}
		return s
	}
	until(t, "the registration with the provider", func() bool { return state().State == account.Registered })
	through := state().Through
	survivor := ""
	for i, p := range w.processes {
		if p.id == through {
			// The provider asks for the first time at the call. It is told of the dead one first.
			dead := locatetest.StartBIND(t, w.out.zones(i, 1-i))
			w.out.relay.Store(&dead.Addr)
			if err := p.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = p.cmd.Wait()
		} else {
			survivor = p.id
		}
	}
	began := time.Now()
	call := talk(t, carol, "sip:alice@provider.example")
	t.Logf("%s was killed; answered after %v", through, time.Since(began))
	if len(w.log.follows(t, "node in from node: INVITE", "node out to phone: INVITE", "node out to node: 200 INVITE")) != 3 {
		t.Error("the call did not come through the overlay")
	}
	if err := call.Hangup(ctx); err != nil {
		t.Errorf("carol hangs up: %v", err)
	}
	if survivor == "" || survivor == through {
		t.Errorf("registered through %s, which is neither proxy peer", through)
	}
}

// killInUse kills the proxy peer that the node uses.
func (w *borderWorld) killInUse() {
	w.t.Helper()
	known := w.node.Status().Border.Known
	for _, p := range w.processes {
		if len(known) > 0 && p.id == known[0] {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
			return
		}
	}
	w.t.Fatalf("no proxy peer in use: %q", known)
}

// TestPlainPhoneOutside has a SIPp outside, without any provider, ask a proxy peer what it can, and call alice through it.
func TestPlainPhoneOutside(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	phonetest.Need(t, "sipp")
	w := newBorderWorld(t, false)
	ctx := testContext(t)
	alice := phonetest.StartBaresip(t, phonetest.BaresipConfig{AOR: "sip:alice@" + testID, Proxy: w.node.SIP().String(), Answer: true})
	if err := alice.Register(ctx); err != nil {
		t.Fatal(err)
	}
	out := phonetest.NewSIPp(t, phonetest.SIPpConfig{AOR: "sip:carol@elsewhere.example", Proxy: w.out.peers[0].String()})
	if err := out.Start(phonetest.Call{To: "sip:alice@" + testID, HangUp: 300 * time.Millisecond}).Wait(ctx); err != nil {
		t.Errorf("a call: %v", err)
	}
	for to, status := range map[string]int{"sip:nobody@" + testID: 404, "sip:carol@elsewhere.example": 403} {
		if err := out.Start(phonetest.Fail{To: to, Status: status}).Wait(ctx); err != nil {
			t.Errorf("a call to %s: %v", to, err)
		}
	}
	if s := w.pp[0].Status().Border; s.Entered == 0 || s.Requests < 5 {
		t.Errorf("%+v", s)
	}
}
