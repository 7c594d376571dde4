package relaypeer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun"

	"p2psip/overlay"
	"p2psip/overlay/overlaytest"
	"p2psip/relaypeer/credential"
)

// universe is an overlay of n members, of which the first may be a relay peer; all try addresses for it.
func universe(t *testing.T, n int) *overlaytest.Universe {
	t.Helper()
	u := overlaytest.NewWithRoles(t, n, func(i int) []overlay.Role {
		if i == 0 {
			return []overlay.Role{overlay.RoleRelay}
		}
		return nil
	}, nil)
	for _, p := range u.Peers {
		prober := NewProber(nil, nil)
		p.HandleService(overlay.ServiceReach, prober.Serve)
		t.Cleanup(prober.Close)
	}
	return u
}

// askFor asks a relay peer for a credential.
func askFor(t *testing.T, from *overlay.Peer, relay *overlay.Peer) (credential.Grant, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	st, err := from.OpenService(ctx, overlay.ServiceTURN, relay.ID(), relay.Addrs())
	if err != nil {
		return credential.Grant{}, err
	}
	defer st.Close()
	_ = st.SetDeadline(time.Now().Add(5 * time.Second))
	return credential.Ask(st)
}

// TestCredentialsForMembers is the whole way: a member finds the relay peer in the overlay, asks it for a credential over a
// stream and allocates with it; so does one in the midst of a flood.
func TestCredentialsForMembers(t *testing.T) {
	u := universe(t, 3)
	w := newWorld(t, func(c *Config) { c.AssumeReachable = true })
	if err := w.Join(u.Peers[0], nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var found []overlay.Advert
	eventually(t, "it is advertised", func() bool {
		var err error
		found, err = u.Peers[2].Find(ctx, overlay.RoleRelay, 3)
		return err == nil && len(found) == 1
	})
	want := []string{"turn:" + w.udp.String() + "?transport=udp", "turn:" + w.udp6.String() + "?transport=udp", "turn:" + w.tcp.String() + "?transport=tcp", "turns:" + w.tls.String() + "?transport=tcp"}
	if got := fmt.Sprint(found[0].Services); found[0].Node != u.Peers[0].ID() || got != fmt.Sprint(want) || found[0].Capacity != 1000 {
		t.Errorf("found %+v", found[0])
	}
	g, err := askFor(t, u.Peers[2], u.Peers[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(w.sources.known) != 1 {
		t.Error("where it asked from is not noted")
	}
	_, member, err := credential.ParseUsername(g.Username)
	if err != nil || member != u.Peers[2].ID().String() || g.Lifetime != time.Hour || g.Realm != Realm || fmt.Sprint(g.URIs) != fmt.Sprint(want) {
		t.Errorf("granted %+v", g)
	}
	leaf, err := w.certificate.Leaf, error(nil)
	if err != nil || len(g.Keys) != 1 || !bytes.Equal(g.Keys[0], publicKeyHash(w.cfg.Sockets[3].TLS)) || leaf == nil {
		t.Errorf("keys %x", g.Keys)
	}
	c := w.raw(t, "")
	c.username, c.pass, c.nonce, c.realm = g.Username, g.Password, g.Nonce, g.Realm
	c.allocate(false)
	if use := w.Usage(); len(use) != 1 || use[0].Member != member || use[0].Allocations != 1 {
		t.Errorf("usage %+v", use)
	}
	eventually(t, "its load is told", func() bool { return w.role.offer().Load == 1 })

	// Draining: nobody gets a credential, and the advertisement is withdrawn.
	if err := w.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	var no *credential.Refusal
	if _, err := askFor(t, u.Peers[2], u.Peers[0]); !errors.As(err, &no) || no.Code != credential.CodeDraining {
		t.Errorf("while draining: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := askFor(t, u.Peers[1], u.Peers[0]); err == nil || errors.As(err, &no) {
		t.Errorf("after the end: %v", err)
	}
}

func TestAskingForCredentialsTooOften(t *testing.T) {
	u := universe(t, 2)
	w := newWorld(t, func(c *Config) { c.AssumeReachable, c.Limits.Grants = true, 3 })
	if err := w.Join(u.Peers[0], nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is ready", func() bool { return len(w.role.services()) > 0 })
	for i := range 5 {
		_, err := askFor(t, u.Peers[1], u.Peers[0])
		var no *credential.Refusal
		if refused := errors.As(err, &no) && no.Code == credential.CodeQuota && no.Retry > 0; refused != (i >= 3) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestNotEntitled: without the credential, the role is refused with a word that says so.
func TestNotEntitled(t *testing.T) {
	u := universe(t, 2)
	w := newWorld(t, func(c *Config) { c.AssumeReachable, c.Logger = true, slog.New(slog.DiscardHandler) })
	if err := w.Join(u.Peers[1], nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is refused", func() bool { return strings.Contains(w.Status().Trouble, ErrNotPermitted.Error()) })
}

// groups tells networks apart by the port's last digit, so that members on loopback can be in different ones.
func groups(a netip.AddrPort) string { return fmt.Sprint(a.Port() % 1000) }

// TestVerified: an address behind a NAT, or what looks like one, is advertised when two members in different networks have
// reached it. The addresses here are on loopback, which Forbidden would refuse, so the check is asked directly.
func TestVerified(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		members  int
		group    func(netip.AddrPort) string
		prober   bool // members try addresses
		name     func(w *world) netip.AddrPort
		verified bool
		trouble  string
	}{
		"by two networks":            {members: 4, group: groups, prober: true, verified: true},
		"by one network":             {members: 4, group: func(a netip.AddrPort) string { return fmt.Sprint(a.Port() > 0) }, prober: true, trouble: "1 of 3 members"},
		"only by the relay's own":    {members: 4, group: func(netip.AddrPort) string { return "" }, prober: true, trouble: "0 of 3 members"},
		"by one member":              {members: 2, group: groups, prober: true, trouble: "1 of 1 members"},
		"by nobody":                  {members: 3, group: groups, trouble: "no member could be asked"},
		"alone":                      {members: 1, group: groups, trouble: "no member is there"},
		"a mapping that leads away":  {members: 4, group: groups, prober: true, name: func(*world) netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:9") }, trouble: "0 of 3 members"},
		"an address of another host": {members: 4, group: groups, prober: true, name: func(*world) netip.AddrPort { return netip.MustParseAddrPort("127.0.0.77:3478") }, trouble: "another address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := universe(t, c.members)
			if !c.prober {
				for _, p := range u.Peers {
					p.HandleService(overlay.ServiceReach, nil)
				}
			}
			w := newWorld(t, nil)
			r := &role{s: w.Server, overlay: u.Peers[0], dial: new(net.Dialer).DialContext, group: c.group}
			r.ctx, r.stop = context.WithCancel(t.Context())
			defer r.stop()
			v := &reach{Service: Service{Transport: UDP, Public: w.udp}, pause: recheckMin}
			if c.name != nil {
				v.Public = c.name(w)
			}
			tcp := &reach{Service: Service{Transport: TLS, Public: w.tls}, pause: recheckMin}
			list := []*reach{v, tcp}
			if c.name != nil {
				list = list[:1]
			}
			eventually(t, "all are connected", func() bool { return len(u.Peers[0].Connected()) >= c.members-1 })
			r.askOthers(r.ctx, list, time.Now())
			for _, v := range list {
				if c.verified {
					if v.good != byMembers || len(v.confirmed) < 2 {
						t.Errorf("%s is not verified: %+v", v.Public, v)
					}
				} else if v.good != "" || !strings.Contains(v.trouble, c.trouble) {
					t.Errorf("%s: %q because %q", v.Public, v.good, v.trouble)
				}
			}
			if n := w.Allocations(); n != 0 {
				t.Errorf("%d allocations", n)
			}
		})
	}
}

// TestLiarsDoNotVerify: a member that says it has reached an address without having done so counts for nothing.
func TestLiarsDoNotVerify(t *testing.T) {
	u := universe(t, 4)
	for _, p := range u.Peers[1:] {
		p.HandleService(overlay.ServiceReach, func(st *overlay.Stream) {
			defer st.Close()
			list, err := readTargets(st)
			if err != nil {
				t.Error(err)
				return
			}
			_ = writeOutcomes(st, "", make([]outcome, len(list))) // all reached
			linger(st)
		})
	}
	w := newWorld(t, nil)
	r := &role{s: w.Server, overlay: u.Peers[0], dial: new(net.Dialer).DialContext, group: groups}
	r.ctx, r.stop = context.WithCancel(t.Context())
	defer r.stop()
	v := &reach{Service: Service{Transport: UDP, Public: w.udp}, pause: recheckMin}
	r.askOthers(r.ctx, []*reach{v}, time.Now())
	if v.good != "" || !strings.Contains(v.trouble, "0 of 3 members") {
		t.Errorf("%q because %q", v.good, v.trouble)
	}
}

// TestHowAddressesAreJudged: what is public and on an interface is looked at by the relay peer itself, what is not public is
// not advertised, and what was good has a second chance.
func TestHowAddressesAreJudged(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Logger = slog.New(slog.DiscardHandler) })
	r := &role{s: w.Server, overlay: nobody{}, group: networkGroup}
	r.ctx, r.stop = context.WithCancel(t.Context())
	defer r.stop()
	public := netip.MustParseAddrPort("198.20.0.1:3478")
	w.peers.setOwn([]netip.Prefix{netip.MustParsePrefix("198.20.0.1/24"), netip.MustParsePrefix("10.0.0.1/8")})
	works := true
	r.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != public.String() || !works {
			return nil, errors.New("no way")
		}
		return new(net.Dialer).DialContext(ctx, network, w.udp.String()) // as if it were on this machine
	}
	own := &reach{Service: Service{Transport: UDP, Public: public}, pause: recheckMin}
	private := &reach{Service: Service{Transport: UDP, Public: netip.MustParseAddrPort("10.0.0.1:3478")}, pause: recheckMin}
	nat := &reach{Service: Service{Transport: UDP, Public: netip.MustParseAddrPort("198.20.7.7:3478")}, pause: recheckMin}
	r.reaches = []*reach{own, private, nat}
	now := time.Now()
	r.verify(r.ctx, now)
	if own.good != byInterface || own.next != now.Add(recheck) {
		t.Errorf("the machine's own: %+v", own)
	}
	if private.good != "" || !strings.Contains(private.trouble, "private") {
		t.Errorf("a private one: %+v", private)
	}
	if nat.good != "" || !strings.Contains(nat.trouble, "no member is there") || nat.next != now.Add(awaitMembers) {
		t.Errorf("one behind a NAT: %+v", nat)
	}
	if got := r.services(); len(got) != 1 || got[0] != "turn:198.20.0.1:3478?transport=udp" {
		t.Errorf("advertised: %v", got)
	}
	works = false
	for i, good := range []string{byInterface, ""} {
		now = now.Add(recheck)
		r.verify(r.ctx, now)
		if own.good != good || own.trouble == "" {
			t.Errorf("after %d failures: %+v", i+1, own)
		}
	}
	works = true
	r.verify(r.ctx, now.Add(recheck))
	if own.good != byInterface {
		t.Errorf("when it works again: %+v", own)
	}
}

// TestDoubt: members try addresses that are advertised without their word too, and the owner hears when none gets through.
func TestDoubt(t *testing.T) {
	t.Parallel()
	u := universe(t, 4)
	w := newWorld(t, nil)
	r := &role{s: w.Server, overlay: u.Peers[0], group: networkGroup}
	r.ctx, r.stop = context.WithCancel(t.Context())
	defer r.stop()
	good := &reach{Service: Service{Transport: UDP, Public: w.udp}, good: byInterface}
	hidden := &reach{Service: Service{Transport: UDP, Public: netip.AddrPortFrom(localhost, 9)}, good: byInterface}
	r.reaches = []*reach{good, hidden}
	if !r.untried() {
		t.Error("nothing is to be tried")
	}
	eventually(t, "all are connected", func() bool { return len(u.Peers[0].Connected()) == 3 })
	r.doubt(r.ctx, time.Now())
	if len(good.confirmed) == 0 || good.doubt != "" || good.good != byInterface {
		t.Errorf("%+v", good)
	}
	if hidden.doubt == "" || hidden.good != byInterface || r.untried() {
		t.Errorf("%+v", hidden)
	}
}

// nobody is an overlay without others.
type nobody struct{ Overlay }

func (nobody) Connected() []overlay.NodeID { return nil }

// TestProbersHelpOnlyRelayPeersReachThemselves: nobody can have a member send packets to a third party, or often.
func TestProbersHelpOnlyRelayPeersReachThemselves(t *testing.T) {
	u := universe(t, 2)
	victim := udpPeer(t)
	ask := func(from, to *overlay.Peer, addr netip.AddrPort) ([]outcome, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		st, err := from.OpenService(ctx, overlay.ServiceReach, to.ID(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		if err := writeTargets(st, []target{{UDP, addr, [12]byte{1}}}); err != nil {
			t.Fatal(err)
		}
		out, why, err := readOutcomes(st, 1)
		if err != nil {
			t.Fatal(err)
		}
		return out, why
	}
	if out, why := ask(u.Peers[1], u.Peers[0], addrPort(victim.LocalAddr())); len(out) != 0 || !strings.Contains(why, "does not permit") {
		t.Errorf("a plain member: %v %q", out, why)
	}
	// The address must be the one that the question comes from; here that is 127.0.0.1.
	if out, why := ask(u.Peers[0], u.Peers[1], netip.MustParseAddrPort("127.0.0.2:9999")); len(out) != 1 || out[0] != notTried || why != "" {
		t.Errorf("somebody else's address: %v %q", out, why)
	}
	if out, why := ask(u.Peers[0], u.Peers[1], addrPort(victim.LocalAddr())); len(out) != 0 || !strings.Contains(why, "too often") {
		t.Errorf("asked again at once: %v %q", out, why)
	}
	_ = victim.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, _, err := victim.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("%d octets were sent", n)
	}
}

func FuzzReach(f *testing.F) {
	var b bytes.Buffer
	if err := writeTargets(&b, []target{{UDP, netip.MustParseAddrPort("192.0.2.1:3478"), [12]byte{1}}, {TLS, netip.MustParseAddrPort("[2001:db8::1]:443"), [12]byte{2}}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	b.Reset()
	if err := writeOutcomes(&b, "busy", nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	b.Reset()
	if err := writeOutcomes(&b, "", []outcome{reached, notTried}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		if list, err := readTargets(bytes.NewReader(in)); err == nil {
			var out bytes.Buffer
			if err := writeTargets(&out, list); err != nil {
				t.Fatal(err)
			}
			if again, err := readTargets(&out); err != nil || fmt.Sprint(again) != fmt.Sprint(list) {
				t.Fatalf("%v became %v, %v", list, again, err)
			}
		}
		if list, why, err := readOutcomes(bytes.NewReader(in), 2); err == nil && (len(list) > 2 || len(why) > maxReachReason) {
			t.Fatalf("%v %q", list, why)
		}
	})
}

// TestBindingIsSeen: a Binding request with an expected token is told of, another is not.
func TestBindingIsSeen(t *testing.T) {
	w := newWorld(t, nil)
	token, a := w.expect()
	defer w.forget(token)
	c := w.raw(t, "")
	for _, id := range [][12]byte{{1, 2, 3}, token} {
		m := &stun.Message{TransactionID: id, Type: stun.BindingRequest}
		m.WriteHeader()
		if code := c.exchange(m); code != 0 {
			t.Fatalf("code %d", code)
		}
		if from := came(a); from.IsValid() != (id == token) {
			t.Errorf("token %x: %s", id, from)
		}
	}
}

// TestAdvertisementFollows: what is advertised is what can be reached, and nothing when nothing can.
func TestAdvertisementFollows(t *testing.T) {
	u := universe(t, 2)
	u.Peers[1].SetFinding(overlay.FindNaive)
	w := newWorld(t, func(c *Config) { c.Logger = slog.New(slog.DiscardHandler) })
	w.peers.setOwn([]netip.Prefix{netip.MustParsePrefix("198.20.0.1/24")})
	udp, tcp := netip.MustParseAddrPort("198.20.0.1:3478"), netip.MustParseAddrPort("198.20.0.1:3479")
	real := map[string]netip.AddrPort{udp.String(): w.udp}
	r := &role{s: w.Server, overlay: u.Peers[0], group: networkGroup, dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		at, ok := real[addr]
		if !ok {
			return nil, errors.New("no way")
		}
		return new(net.Dialer).DialContext(ctx, network, at.String())
	}}
	r.ctx, r.stop = context.WithCancel(t.Context())
	defer r.stop()
	r.reaches = []*reach{{Service: Service{Transport: UDP, Public: udp}, pause: recheckMin}, {Service: Service{Transport: TCP, Public: tcp}, pause: recheckMin}}
	now := time.Now()
	look := func(later time.Duration, want ...string) {
		t.Helper()
		now = now.Add(later)
		r.verify(r.ctx, now)
		r.publish()
		eventually(t, fmt.Sprintf("%d services are advertised", len(want)), func() bool {
			found, err := u.Peers[1].Find(t.Context(), overlay.RoleRelay, 1)
			if len(want) == 0 {
				return errors.Is(err, overlay.ErrNoRole)
			}
			return err == nil && len(found) == 1 && fmt.Sprint(found[0].Services) == fmt.Sprint(want)
		})
	}
	look(0, "turn:198.20.0.1:3478?transport=udp")
	real[tcp.String()] = w.tcp
	look(recheckMin, "turn:198.20.0.1:3478?transport=udp", "turn:198.20.0.1:3479?transport=tcp")
	clear(real)
	look(recheck, "turn:198.20.0.1:3478?transport=udp", "turn:198.20.0.1:3479?transport=tcp") // a second chance
	look(recheck)
	real[udp.String()] = w.udp
	look(recheck, "turn:198.20.0.1:3478?transport=udp")
	if err := r.withdraw(); err != nil {
		t.Error(err)
	}
}
