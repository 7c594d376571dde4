package edge

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseTrust(t *testing.T) {
	for _, c := range []struct{ trust, yes, no string }{
		{"", "127.0.0.1 127.9.9.9 ::1", "192.0.2.1 2001:db8::1"},
		{"loopback", "127.0.0.1 ::1", "192.0.2.1"},
		{"none", "", "127.0.0.1 ::1 192.0.2.1"},
		{"192.168.1.0/24", "192.168.1.7 ::ffff:192.168.1.7", "192.168.2.1 127.0.0.1"},
		{"192.168.1.77/24", "192.168.1.7", "192.168.2.1"},
		{"loopback, 192.0.2.1,2001:db8::/32", "127.0.0.1 ::1 192.0.2.1 2001:db8::5", "192.0.2.2 2001:db9::5"},
		{"::ffff:192.168.1.0/120", "192.168.1.7", "192.168.2.1"},
		{"fe80::/10", "fe80::1%eth0", "2001:db8::1"},
	} {
		trusted, err := ParseTrust(c.trust)
		if err != nil {
			t.Errorf("%q: %v", c.trust, err)
			continue
		}
		for want, list := range map[bool]string{true: c.yes, false: c.no} {
			for _, s := range strings.Fields(list) {
				if got := trusted(netip.MustParseAddr(s)); got != want {
					t.Errorf("%q trusts %s: %v", c.trust, s, got)
				}
			}
		}
	}
	for _, bad := range []string{"0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96", "::ffff:1.2.3.4/90", "none,127.0.0.1", "localhost", "127.0.0.1,", "127.0.0.1/33", "fe80::1%eth0"} {
		if _, err := ParseTrust(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
