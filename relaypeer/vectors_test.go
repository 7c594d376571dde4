package relaypeer

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/pion/stun"
)

func vector(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "rfc5769", name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRFC5769 reads the test vectors of RFC 5769 as the gate reads what comes from the network.
func TestRFC5769(t *testing.T) {
	const password = "VOkJxbRl1RmTxUk/WvJxBt"
	for name, key := range map[string]stun.MessageIntegrity{
		"2.1-request": stun.NewShortTermIntegrity(password), "respv4": stun.NewShortTermIntegrity(password), "respv6": stun.NewShortTermIntegrity(password),
		"2.4-request-longterm": stun.NewLongTermIntegrity("マトリックス", "example.org", "TheMatrIX"),
	} {
		var g gate
		if !g.decode(vector(t, name)) {
			t.Errorf("%s is not read", name)
			continue
		}
		if err := key.Check(&g.in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// The last octet is in the fingerprint, or in the integrity where there is no fingerprint.
		if g.decode(vector(t, name+".bad-last-octet")) && key.Check(&g.in) == nil {
			t.Errorf("%s with another last octet is believed", name)
		}
	}
	for name, want := range map[string]string{"respv4": "192.0.2.1:32853", "respv6": "[2001:db8:1234:5678:11:2233:4455:6677]:32853"} {
		var g gate
		if !g.decode(vector(t, name)) {
			t.Fatal(name)
		}
		v, err := g.in.Get(stun.AttrXORMappedAddress)
		if err != nil {
			t.Fatal(err)
		}
		if a, ok := xorAddress(v, g.in.TransactionID); !ok || a != netip.MustParseAddrPort(want) {
			t.Errorf("%s: %s, want %s", name, a, want)
		}
	}
	var g gate
	if g.decode(vector(t, "2.4-request-longterm")) {
		for attr, want := range map[stun.AttrType]string{stun.AttrUsername: "マトリックス", stun.AttrRealm: "example.org", stun.AttrNonce: "f//499k954d6OL34oL9FSTvy64sA"} {
			if v, err := g.in.Get(attr); err != nil || string(v) != want {
				t.Errorf("%s: %q %v", attr, v, err)
			}
		}
	}
}

// TestVectorsOverTheWire sends them to a relay peer, which knows none of their users.
func TestVectorsOverTheWire(t *testing.T) {
	w := newWorld(t, nil)
	c := w.raw(t, "")
	m := &stun.Message{Raw: vector(t, "2.1-request")}
	if err := m.Decode(); err != nil {
		t.Fatal(err)
	}
	if code := c.exchange(m); code != 0 || !c.last.Contains(stun.AttrXORMappedAddress) {
		t.Errorf("2.1: code %d", code)
	}
	for _, name := range []string{"2.1-request.bad-last-octet", "2.4-request-longterm", "2.4-request-longterm.bad-last-octet", "respv4", "respv6"} {
		c.send(vector(t, name))
	}
	if code := c.exchange(stun.MustBuild(stun.TransactionID, stun.BindingRequest)); code != 0 {
		t.Errorf("afterwards: %d", code)
	}
	if s := w.Status(); s.Malformed == 0 || s.Panics > 0 {
		t.Errorf("%+v", s)
	}
}
