package node

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"p2psip/interwork/locate/locatetest"
	"p2psip/interwork/phonetest"
	"p2psip/overlay"
	"p2psip/proxypeer"
)

// TestBinding has a proxy peer look where the DNS (BIND) leads to, by what is in the zone.
func TestBinding(t *testing.T) {
	here, there := phonetest.FreePort(t, "127.0.0.31"), phonetest.FreePort(t, "127.0.0.32")
	zone := func(records string) map[string]string {
		return map[string]string{testID: "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\npp A 127.0.0.31\nother A 127.0.0.32\n" + records}
	}
	srv := func(at netip.AddrPort, host string) string {
		return fmt.Sprintf("_sip._udp SRV 10 10 %d %s\n", at.Port(), host)
	}
	for _, c := range []struct {
		name    string
		records string
		bound   bool
		why     string
	}{
		{"named", srv(here, "pp"), true, "leads here, to UDP " + here.String()},
		{"one of two", srv(there, "other") + srv(here, "pp"), true, "leads here"},
		{"behind the others", "@ NAPTR 10 50 \"s\" \"SIP+D2U\" \"\" _other._udp\n_other._udp SRV 10 10 5060 other\n" + srv(here, "pp"), true, "leads here"},
		{"another one", srv(there, "other"), false, testID + " leads to UDP " + there.String() + ", and not to this proxy peer"},
		{"another port", srv(netip.AddrPortFrom(here.Addr(), here.Port()^1), "pp"), false, "and not to this proxy peer"},
		{"nobody", "", false, "nobody outside can call through this proxy peer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bind := locatetest.StartBIND(t, zone(c.records))
			u := newUniverse(t)
			s, err := OpenPublic("udp:"+here.String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			cfg := u.config(u.homeFor(nil, overlay.RoleProxy))
			cfg.ProxyPeer = &ProxyPeer{DNS: []string{bind.Addr}, Sockets: []proxypeer.Socket{s}}
			n := u.start(cfg)
			until(t, "a look at the DNS", func() bool { return n.Status().Border.Binding != nil })
			st := n.Status()
			b := st.Border.Binding
			if b.Bound != c.bound || !b.Known || !strings.Contains(b.Why, c.why) {
				t.Errorf("%+v", b)
			}
			warned := len(st.Problems) == 1 && st.Problems[0].What == b.Why && strings.Contains(st.Problems[0].Hint, fmt.Sprintf("_sip._udp SRV with port %d and a host at 127.0.0.31", here.Port()))
			if c.bound && len(st.Problems) > 0 || !c.bound && !warned {
				t.Errorf("problems: %+v", st.Problems)
			}
		})
	}
	t.Run("no answer", func(t *testing.T) {
		u := newUniverse(t)
		s, err := OpenPublic("udp:"+here.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		cfg := u.config(u.homeFor(nil, overlay.RoleProxy))
		cfg.ProxyPeer = &ProxyPeer{DNS: []string{there.String()}, Sockets: []proxypeer.Socket{s}} // nobody listens there
		n := u.start(cfg)
		until(t, "a look at the DNS", func() bool { return n.Status().Border.Binding != nil })
		if b := n.Status().Border.Binding; b.Bound || b.Known || !strings.Contains(b.Why, "do not say") {
			t.Errorf("%+v", b)
		}
	})
	t.Run("not wanted", func(t *testing.T) {
		u := newUniverse(t)
		s, err := OpenPublic("udp:"+here.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		cfg := u.config(u.homeFor(nil, overlay.RoleProxy))
		cfg.ProxyPeer = &ProxyPeer{DNS: []string{there.String()}, Sockets: []proxypeer.Socket{s}, Unlisted: true}
		n := u.start(cfg)
		if st := n.Status(); st.Border.Binding != nil || len(st.Problems) > 0 {
			t.Errorf("%+v", st)
		}
	})
}
