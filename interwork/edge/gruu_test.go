package edge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

const (
	instance   = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
	instanceAs = `;+sip.instance="<urn:uuid:F81D4FAE-7dec-11d0-a765-00a0c91e6bf6>"`
)

// nodeOf makes the identifier of a node whose public key is all of one byte.
func nodeOf(b byte) overlay.NodeID {
	return overlay.NodeID(nodePrefix + strings.Repeat(string([]byte{b}), tempNode))
}

func withTemps(c *Config) { c.Node, c.Shared = nodeOf('a'), []byte("the root certificate") }

// gruus gives the two GRUUs of the first Contact of a 200.
func gruus(t *testing.T, res *sip.Response) (pub, temp sip.Uri) {
	t.Helper()
	cs := message.Contacts(res)
	if len(cs) == 0 {
		t.Fatalf("no Contact in\n%s", res)
	}
	for name, to := range map[string]*sip.Uri{"pub-gruu": &pub, "temp-gruu": &temp} {
		v, ok := cs[0].Params.Get(name)
		if !ok {
			t.Fatalf("no %s in %s", name, cs[0].Value())
		}
		u, err := message.ParseURI(strings.Trim(v, `"`))
		if err != nil || !strings.HasPrefix(v, `"`) {
			t.Fatalf("%s=%s: %v", name, v, err)
		}
		*to = u
	}
	return pub, temp
}

// TestGRUUsOfARegistration asks for GRUUs as a phone does that knows them (RFC 5627 §4.1, §5.3).
func TestGRUUsOfARegistration(t *testing.T) {
	const ask5627 = "Supported: path, GRUU"
	inBubble(t, withTemps, func(b *bench) {
		alice := aor(t, "alice")
		if c := header(b.register(200, here+instanceAs), "Contact"); strings.Contains(c, "gruu=") || !strings.Contains(c, "+sip.instance=") {
			t.Errorf("not asked for GRUUs: %s", c)
		}
		pub, temp := gruus(t, b.register(200, here+instanceAs, ask5627))
		if got, want := pub.String(), "sip:alice@p2psip.example;gr="+instance; got != want {
			t.Errorf("pub-gruu is %s, want %s", got, want)
		}
		if ids := b.pub.ids["alice"]; len(ids) != 1 || ids[0] != instance {
			t.Errorf("published as %q", ids)
		}
		if g, ok := b.e.ReadGRUU(pub); !ok || g != (proxy.GRUU{AOR: alice, Device: instance, Known: true}) {
			t.Errorf("%+v %v", g, ok)
		}
		want := proxy.GRUU{AOR: alice, Device: instance, Known: true, Local: true}
		if g, ok := b.e.ReadGRUU(temp); !ok || g != want {
			t.Errorf("%+v %v", g, ok)
		}
		if s := temp.String(); strings.Contains(s, "alice") || !strings.HasSuffix(s, "@p2psip.example;gr") || len(temp.User) > 128 {
			t.Errorf("temp-gruu %s", s)
		}

		// Each is another one, shares nothing with the one before, and both are good.
		_, second := gruus(t, b.register(200, here+instanceAs, ask5627))
		if n := common(temp.User, second.User); n > len(tempPrefix)+3 {
			t.Errorf("%s and %s begin alike", temp.User, second.User)
		}
		for _, u := range []sip.Uri{temp, second} {
			if g, ok := b.e.ReadGRUU(u); !ok || g != want {
				t.Errorf("%+v %v", g, ok)
			}
		}

		// They survive a restart, but not another Call-ID.
		b.close()
		b.start()
		if _, ok := b.e.ReadGRUU(temp); !ok {
			t.Error("forgotten by a restart")
		}
		res := b.send(udpFrom("127.0.0.1", 5070), ask{callID: "two@phone", lines: []string{here + instanceAs, ask5627}})
		_, third := gruus(t, res)
		for i, u := range []sip.Uri{temp, second, third} {
			if _, ok := b.e.ReadGRUU(u); ok != (i == 2) {
				t.Errorf("after another Call-ID, temporary GRUU %d is good: %v", i, ok)
			}
		}

		// The end of the registration ends the temporary one; the public one stays known.
		b.send(udpFrom("127.0.0.1", 5070), ask{callID: "two@phone", lines: []string{here + instanceAs + ";expires=0"}})
		if _, ok := b.e.ReadGRUU(third); ok {
			t.Error("a temporary GRUU outlives its registration")
		}
		b.close()
		b.start()
		if g, ok := b.e.ReadGRUU(pub); !ok || !g.Known {
			t.Errorf("%+v %v", g, ok)
		}
		time.Sleep(knownFor)
		if g, ok := b.e.ReadGRUU(pub); !ok || g.Known {
			t.Errorf("after a month: %+v %v", g, ok)
		}
		if g, _ := b.e.ReadGRUU(publicGRUU(alice, "urn:uuid:other")); g.Known {
			t.Error("a device that never was is known")
		}
	})
}

func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// TestTemporaryAtOtherNodes: every node of the overlay can tell which node made a temporary GRUU, nobody else can, and
// nobody can make one for another's phone.
func TestTemporaryAtOtherNodes(t *testing.T) {
	shared := []byte("root")
	a, b := newTemps(nodeOf('a'), shared, []byte("secret of a")), newTemps(nodeOf('b'), shared, []byte("secret of b"))
	stranger := newTemps(nodeOf('a'), []byte("other root"), []byte("secret of a"))
	r := a.ref(aor(t, "alice"), instance, "call")
	user := a.registration(r)
	if node, payload, ok := a.open(user); !ok || node != nodeOf('a') || !bytes.Equal(payload[1:], r[:]) {
		t.Errorf("at home: %q %x %v", node, payload, ok)
	}
	if node, payload, ok := b.open(user); !ok || node != nodeOf('a') || payload != nil {
		t.Errorf("elsewhere: %q %x %v", node, payload, ok)
	}
	if _, _, ok := stranger.open(user); ok {
		t.Error("another overlay reads it")
	}
	impostor := newTemps(nodeOf('a'), shared, []byte("secret of b"))
	if _, _, ok := a.open(impostor.registration(r)); ok {
		t.Error("made by a member who is not a")
	}
	for i := range user {
		if _, _, ok := b.open(user[:i] + string(user[i]^1) + user[i+1:]); ok {
			t.Fatalf("changed at %d", i)
		}
	}
	at := proxy.Endpoint{Transport: "UDP", Remote: udpFrom("192.0.2.1", 5070).remote}
	if n := len(a.place(at, time.Now())); n != len(user) {
		t.Errorf("an address makes %d characters, a registration %d", n, len(user))
	}
	if none := newTemps(nodeOf('a'), nil, nil); none.registration(r) != "" {
		t.Error("made without a key")
	}
}

// TestGRUUForAContact is what a proxy asks for phones that do not know GRUUs.
func TestGRUUForAContact(t *testing.T) {
	inBubble(t, withTemps, func(b *bench) {
		alice, bob := aor(t, "alice"), aor(t, "bob")
		at, other := udpFrom("127.0.0.1", 5070), udpFrom("127.0.0.1", 5071)
		b.register(200, here)
		b.send(other, ask{lines: []string{there + instanceAs}})
		contact := func(port int) sip.Uri { return sip.Uri{Scheme: "sip", User: "alice", Host: "127.0.0.1", Port: port} }
		give := func(a overlay.AOR, f *memFlow, c sip.Uri) string {
			t.Helper()
			u, ok := b.e.GRUU(a, f, c)
			if !ok {
				return ""
			}
			return u.String()
		}
		made := give(alice, at, contact(5070))
		if !strings.HasPrefix(made, "sip:alice@p2psip.example;gr=urn:uuid:") || strings.HasSuffix(made, instance) {
			t.Errorf("without an instance: %q", made)
		}
		pub := "sip:alice@p2psip.example;gr=" + instance
		if got := give(alice, other, contact(5071)); got != pub {
			t.Errorf("with an instance: %q", got)
		}
		if got := give(alice, other, contact(9)); got != pub {
			t.Errorf("with a Contact that is not registered: %q", got)
		}
		if got := give(overlay.AOR{}, other, contact(5071)); got != pub {
			t.Errorf("for nobody in particular: %q", got)
		}
		u, _ := message.ParseURI(pub)
		if got := give(alice, at, u); got != pub {
			t.Errorf("for one that is a GRUU: %q", got)
		}
		if got := give(bob, at, u); got == pub || got == "" {
			t.Errorf("for somebody else's GRUU: %q", got)
		}
		sips := contact(5070)
		sips.Scheme = "sips"
		if got := give(alice, at, sips); !strings.HasPrefix(got, "sips:alice@p2psip.example;gr=") {
			t.Errorf("sips: %q", got)
		}
		peer := udpFrom("127.0.0.1", 5070)
		peer.peer = true
		if got := give(alice, peer, contact(5070)); got != "" {
			t.Errorf("for another node: %q", got)
		}

		// A phone that is not registered is reached at its address, for a day.
		stranger := udpFrom("127.0.0.1", 5099)
		temp, ok := b.e.GRUU(bob, stranger, contact(5099))
		if !ok || strings.Contains(temp.String(), "bob") {
			t.Fatalf("not registered: %v %v", temp, ok)
		}
		g, ok := b.e.ReadGRUU(temp)
		if !ok || g.Place == nil || g.Place.URI.String() != "sip:127.0.0.1:5099" || g.Place.Flow.Remote() != stranger.remote {
			t.Errorf("%+v %v", g, ok)
		}
		time.Sleep(tempLife + time.Second)
		if _, ok := b.e.ReadGRUU(temp); ok {
			t.Error("good for longer than a day")
		}
		// The made one is the same after a restart and another registration.
		b.close()
		b.start()
		b.send(at, ask{callID: "two@phone", lines: []string{"Contact: <sip:alice-7f12@127.0.0.1:5070>"}})
		if got := give(alice, at, sip.Uri{Scheme: "sip", User: "alice-7f12", Host: "127.0.0.1", Port: 5070}); got != made {
			t.Errorf("after a restart %q, before %q", got, made)
		}
		if n := len(b.e.Bindings(alice)); n != 1 {
			t.Errorf("one socket counts as %d phones", n)
		}
	})
}

func TestContactIsNoGRUU(t *testing.T) {
	inBubble(t, withTemps, func(b *bench) {
		b.register(403, "Contact: <sip:alice@p2psip.example;gr="+instance+">")
		b.register(200, here+instanceAs, "Require: gruu")
	})
}

func TestInstanceID(t *testing.T) {
	for in, want := range map[string]string{
		"<urn:uuid:F81D4FAE-7dec-11d0-a765-00a0c91e6bf6>":      instance,
		"urn:gsma:imei:90420156-025763-0":                      "urn:gsma:imei:90420156-025763-0",
		"<sip:alice@example.com>":                              "",
		"<urn:x:a;b>":                                          "",
		"<urn:x:" + strings.Repeat("a", maxInstance) + ">":     "",
		"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6\r\n>":  "",
		"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6> <x>'": "",
	} {
		if got := instanceID(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		c := claim{instance: in}
		one, two := deviceID([]byte("node one"), aor(t, "alice"), &c), deviceID([]byte("node two"), aor(t, "alice"), &c)
		if one != two || instanceID(one) != one {
			t.Errorf("%q: %q at one node, %q at another", in, one, two)
		}
	}
}

func TestKnownDevicesAreBounded(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for i := range maxKnown + 10 {
			id := fmt.Sprintf("urn:x:%d", i)
			b.register(200, here+`;+sip.instance="<`+id+`>"`)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if n := len(b.e.devices[aor(t, "alice")]); n != maxKnown {
			t.Errorf("%d devices are remembered", n)
		}
		last := fmt.Sprintf("urn:x:%d", maxKnown+9)
		if g, _ := b.e.ReadGRUU(publicGRUU(aor(t, "alice"), last)); !g.Known {
			t.Error("the newest is forgotten")
		}
	})
}

// FuzzTemporaryGRUU reads user parts that a stranger made.
func FuzzTemporaryGRUU(f *testing.F) {
	a := newTemps(nodeOf('a'), []byte("root"), []byte("secret"))
	f.Add(a.registration(ref{1}))
	f.Add(a.place(proxy.Endpoint{Transport: "TCP", Remote: udpFrom("2001:db8::1", 5070).remote}, time.Unix(1e9, 0)))
	f.Add(tempPrefix)
	f.Fuzz(func(t *testing.T, user string) {
		node, payload, ok := a.open(user)
		if ok && node == a.self {
			readPlace(payload, time.Unix(1e9, 0))
		}
	})
}
