package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/account"
	"p2psip/interwork/locate"
	"p2psip/interwork/message"
	"p2psip/interwork/phone"
	"p2psip/interwork/phonetest"
	"p2psip/overlay"
	"p2psip/proxypeer"
)

// telcoConfig is Kamailio as a SIP provider: registrar and proxy of provider.example, whose users all have the password
// "secret". It challenges REGISTER, and of its users every INVITE and BYE, inside a dialog too. Instead of
// the DNS, its configuration says that the servers of p2psip.example are %[2]s and, when that is silent, %[3]s.
const telcoConfig = `#!KAMAILIO
debug=1
log_stderror=yes
children=2
disable_tcp=yes
auto_aliases=no
alias="provider.example"
listen=udp:%[1]s
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
modparam("pv", "shvset", "overlay=s:sip:%[2]s")
modparam("auth", "qop", "auth")
modparam("auth", "nonce_count", 1)
modparam("auth", "nc_array_size", 1024)
modparam("tm", "fr_timer", 2000)
modparam("registrar", "min_expires", 60)
request_route {
	if (!mf_process_maxfwd_header("70")) { sl_send_reply("483", "Too Many Hops"); exit; }
	if (is_method("REGISTER")) {
		if (!pv_www_authenticate("provider.example", "secret", "0")) { www_challenge("provider.example", "1"); exit; }
		if ($fU != $au) { sl_send_reply("403", "Not Yours"); exit; }
		save("location");
		exit;
	}
	if (has_totag()) {
		if (loose_route()) {
			if (is_method("INVITE|BYE")) { route(AUTH); }
			route(OUT);
		}
		if (is_method("ACK")) { if (t_check_trans()) { t_relay(); } exit; }
		sl_send_reply("404", "Not Found"); exit;
	}
	if (is_method("CANCEL")) { if (t_check_trans()) { t_relay(); } exit; }
	t_check_trans();
	route(AUTH);
	remove_hf("Route");
	record_route();
	if ($rd == "provider.example") {
		if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
	}
	route(OUT);
}
route[AUTH] {
	if ($fd == "provider.example") {
		if (!pv_proxy_authenticate("provider.example", "secret", "0")) { proxy_challenge("provider.example", "1"); exit; }
		consume_credentials();
	}
}
route[OUT] {
	if ($rd == "p2psip.example" || $du =~ "p2psip.example") {
		$du = $shv(overlay);
		if (is_method("INVITE|BYE")) { t_on_failure("NEXT"); }
	}
	t_relay();
	exit;
}
failure_route[NEXT] {
	if (t_branch_timeout() || t_check_status("503")) {
		$shv(overlay) = "sip:%[3]s";
		$du = $shv(overlay);
		t_relay();
	}
}
`

func spareUDP(t *testing.T) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// startTelco runs Kamailio until the test ends.
func startTelco(t *testing.T, pps ...netip.AddrPort) netip.AddrPort {
	t.Helper()
	path := phonetest.Need(t, "kamailio")
	at := spareUDP(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "kamailio.cfg")
	if err := os.WriteFile(config, fmt.Appendf(nil, telcoConfig, at, pps[0], pps[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(path, "-DD", "-E", "-f", config, "-Y", dir, "-w", dir, "-m", "32", "-M", "4")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Kamailio says:\n%s", said.Bytes())
		}
	})
	probe, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	buf := make([]byte, 2048)
	for range 100 {
		_, _ = fmt.Fprintf(probe, "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKp;rport\r\nMax-Forwards: 0\r\n"+
			"From: <sip:a@x>;tag=1\r\nTo: <sip:x>\r\nCall-ID: probe\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", probe.LocalAddr())
		_ = probe.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := probe.Read(buf); err == nil {
			return at
		}
		time.Sleep(20 * time.Millisecond) // until then its port is closed
	}
	t.Fatalf("Kamailio does not answer:\n%s", said.Bytes())
	return at
}

// hosts is what the DNS would say.
type hosts struct {
	mu sync.Mutex
	at map[string]netip.AddrPort
}

func (h *hosts) LocateFor(_ context.Context, uri sip.Uri, _ locate.Need) (locate.Result, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok := h.at[uri.Host]
	if ip, err := netip.ParseAddr(uri.Host); err == nil {
		at, ok = netip.AddrPortFrom(ip, uint16(uri.Port)), true
	}
	if !ok {
		return locate.Result{}, locate.ErrNoSuchDomain
	}
	return locate.Result{Targets: []locate.Target{{Transport: "UDP", Addr: at, Name: uri.Host}}}, nil
}
func (h *hosts) Failed(locate.Target) {}
func (h *hosts) Good(locate.Target)   {}

// proxyPeer starts a node that is a proxy peer at an address.
func (u *universe) proxyPeer(at netip.AddrPort, h *hosts) *Node {
	u.t.Helper()
	dir := u.t.TempDir()
	id, err := Install(dir, u.authority.Document(), time.Now())
	if err != nil {
		u.t.Fatal(err)
	}
	cred, err := u.authority.Issue(id, nil, []overlay.Role{overlay.RoleProxy}, 24*time.Hour, time.Now())
	if err != nil {
		u.t.Fatal(err)
	}
	if _, err := InstallCredential(dir, cred.PEM(), time.Now()); err != nil {
		u.t.Fatal(err)
	}
	c := u.config(dir)
	s, err := OpenPublic("udp:"+at.String(), nil)
	if err != nil {
		u.t.Fatal(err)
	}
	c.ProxyPeer = &ProxyPeer{Sockets: []proxypeer.Socket{s}, Locator: h}
	return u.start(c)
}

// seen keeps the requests that a phone got.
type seen struct {
	mu   sync.Mutex
	reqs []string
}

func (s *seen) trace(out bool, _ string, m sip.Message) {
	if req, ok := m.(*sip.Request); ok && !out {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reqs = append(s.reqs, string(message.Bytes(req)))
	}
}

func (s *seen) find(method string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.reqs) - 1; i >= 0; i-- {
		if strings.HasPrefix(s.reqs[i], method+" ") {
			return s.reqs[i]
		}
	}
	return ""
}

// until polls what other processes and nodes do by themselves.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited for: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestAccountWithKamailio is the draft's §5.4 with a provider that nobody of this project wrote: alice's node registers her
// overlay URL for her public address through a proxy peer; carol calls the public address, also when that proxy peer is
// gone; alice calls carol as the public address.
func TestAccountWithKamailio(t *testing.T) {
	if testing.Short() {
		t.Skip("runs for several seconds")
	}
	phonetest.Need(t, "kamailio")
	u := newUniverse(t)
	at1, at2 := spareUDP(t), spareUDP(t)
	provider := startTelco(t, at1, at2)
	h := &hosts{at: map[string]netip.AddrPort{"provider.example": provider}}
	pp1 := u.proxyPeer(at1, h)
	u.proxyPeer(at2, h)

	home := u.home("alice")
	store, err := account.Open(home, testID)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Add(account.Account{AOR: "sip:alice@provider.example", User: "alice", Password: "secret", Prefix: "9", Added: time.Now()}); err != nil {
		t.Fatal(err)
	}
	a := u.start(u.config(home))
	state := func() account.Status {
		s := a.Status()
		if len(s.Accounts) != 1 {
			t.Fatalf("%+v", s.Accounts)
		}
		return s.Accounts[0]
	}
	defer func() {
		if t.Failed() {
			t.Logf("the account: %+v", a.Status().Accounts)
		}
	}()
	if s := state(); s.State != account.Waiting {
		t.Errorf("before a phone has registered: %+v", s)
	}
	alice := u.phone(a, "alice", phone.AnswerAfter(0))
	until(t, "the registration with the provider", func() bool { return state().State == account.Registered })
	if s := state(); s.Contact != "sip:alice@"+testID || s.Through == "" || s.Error != "" {
		t.Errorf("%+v", s)
	}

	var at seen
	carol := customer(t, provider, &at)
	ctx := testContext(t)
	talk := func(from *phone.Phone, to string) *phone.Call {
		t.Helper()
		return talk(t, from, to)
	}
	if err := talk(carol, "sip:alice@provider.example").Hangup(ctx); err != nil {
		t.Errorf("carol hangs up: %v", err)
	}

	// alice calls as her public address. The provider challenges the INVITE, a re-INVITE and the BYE.
	call := talk(alice, "sip:9carol@"+testID)
	inv := at.find("INVITE")
	for _, want := range []string{"From: <sip:alice@provider.example>", "Contact: <sip:alice@p2psip.example;gr=urn:uuid:"} {
		if !strings.Contains(inv, want) {
			t.Errorf("no %q in carol's\n%s", want, inv)
		}
	}
	if strings.Contains(inv, "Authorization") {
		t.Errorf("the credentials went on to carol:\n%s", inv)
	}
	if err := call.Hold(ctx); err != nil {
		t.Errorf("hold: %v", err)
	}
	if err := call.Resume(ctx); err != nil {
		t.Errorf("resume: %v", err)
	}
	if err := call.Hangup(ctx); err != nil {
		t.Errorf("alice hangs up: %v", err)
	}
	until(t, "carol's end of the call", func() bool { return len(carol.Calls()) == 0 })

	// carol calls by GRUU: the one that alice's phone does not know of, and a temporary one of a phone that is not registered.
	contact, _ := message.ParseURI("sip:alice@127.0.0.1:9")
	raw := newRawPhone(t, a)
	temp, ok := a.edge.GRUU(a.Users()[0], raw.flow(t, a), contact)
	if !ok {
		t.Fatal("no temporary GRUU")
	}
	var status *phone.StatusError
	if c, err := carol.Call(ctx, temp.String()); err != nil {
		t.Error(err)
	} else if _, err := c.Wait(ctx, phone.Answered); !errors.As(err, &status) || status.Status != 486 || raw.last("INVITE") == "" {
		t.Errorf("%s: %v, want what the phone says", temp.String(), err)
	}
	pub := a.Status().Phones.Users[0].Phones[0].ID
	if err := talk(carol, "sip:alice@"+testID+";gr="+pub).Hangup(ctx); err != nil {
		t.Errorf("carol hangs up: %v", err)
	}

	// The first proxy peer goes; whoever it was that registered, calls come in through the other one.
	pp1.Close()
	if err := talk(carol, "sip:alice@provider.example").Hangup(ctx); err != nil {
		t.Errorf("carol hangs up: %v", err)
	}
	until(t, "the registration through the other proxy peer", func() bool {
		s := state()
		return s.State == account.Registered && s.Through != pp1.ID().String()
	})

	// Removed, it is unregistered.
	if _, err := store.Remove("sip:alice@provider.example"); err != nil {
		t.Fatal(err)
	}
	until(t, "the provider to forget", func() bool {
		c, err := carol.Call(ctx, "sip:alice@provider.example")
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Wait(ctx, phone.Answered)
		_ = c.Hangup(ctx)
		var status *phone.StatusError
		return errors.As(err, &status) && status.Status == 404
	})
}

// customer is carol, who has a phone at the provider.
func customer(t *testing.T, provider netip.AddrPort, at *seen) *phone.Phone {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	carol, err := phone.New(phone.Config{AOR: "sip:carol@provider.example", Outbound: provider.String(), Local: pc, Password: "secret",
		Incoming: phone.AnswerAfter(0), Trace: at.trace, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { carol.Close() })
	if _, err := carol.Register(testContext(t), time.Hour); err != nil {
		t.Fatal(err)
	}
	return carol
}

func talk(t *testing.T, from *phone.Phone, to string) *phone.Call {
	t.Helper()
	ctx := testContext(t)
	call, err := from.Call(ctx, to)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := call.Wait(ctx, phone.Answered); err != nil {
		t.Fatalf("%s: %v, %v", to, st, err)
	}
	return call
}

// TestAccountByAddressWithKamailio registers the proxy peer's address, as for a provider that takes no domain, and then
// with a wrong password.
func TestAccountByAddressWithKamailio(t *testing.T) {
	for _, where := range []string{"a node", "the proxy peer itself"} {
		t.Run("a user of "+where, func(t *testing.T) { testAccountByAddress(t, where != "a node") })
	}
}

func testAccountByAddress(t *testing.T, itself bool) {
	phonetest.Need(t, "kamailio")
	u := newUniverse(t)
	here := spareUDP(t)
	provider := startTelco(t, here, here)
	h := &hosts{at: map[string]netip.AddrPort{"provider.example": provider}}
	home := u.homeFor([]string{"alice"}, overlay.RoleProxy)
	if !itself {
		u.proxyPeer(here, h)
	}
	store, err := account.Open(home, testID)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []account.Account{
		{AOR: "sip:alice@provider.example", Password: "secret", Contact: account.ContactAddress},
		{AOR: "sip:zoe@provider.example", Password: "guess"},
	} {
		a.User, a.Added = "alice", time.Now()
		if err := store.Add(a); err != nil {
			t.Fatal(err)
		}
	}
	c := u.config(home)
	if itself {
		s, err := OpenPublic("udp:"+here.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		c.ProxyPeer = &ProxyPeer{Sockets: []proxypeer.Socket{s}, Locator: h}
	}
	a := u.start(c)
	u.phone(a, "alice", phone.AnswerAfter(0))
	until(t, "both attempts", func() bool {
		s := a.Status()
		return s.Accounts[0].State == account.Registered && s.Accounts[1].State == account.Refused
	})
	s := a.Status()
	if c := s.Accounts[0].Contact; s.Accounts[0].AOR != "sip:alice@provider.example" || !strings.HasPrefix(c, "sip:alice@"+here.String()) {
		t.Errorf("%+v", s.Accounts[0])
	}
	if w := s.Accounts[1]; !strings.Contains(w.Error, "user name or the password") || w.Failures != 1 || time.Until(w.Next) < 20*time.Minute {
		t.Errorf("%+v", w)
	}
	if n := len(s.Problems); n != 1 || !strings.Contains(s.Problems[0].What, "zoe@provider.example") {
		t.Errorf("%+v", s.Problems)
	}
	var at seen
	if err := talk(t, customer(t, provider, &at), "sip:alice@provider.example").Hangup(testContext(t)); err != nil {
		t.Error(err)
	}
}
