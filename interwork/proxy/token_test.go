package proxy

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"testing"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
)

var endpoints = []Endpoint{
	{flow.TransportUDP, flow.Addr{Host: "127.0.0.1", Port: 5060}, flow.Addr{Host: "127.0.0.1", Port: 40000}},
	{flow.TransportTCP, flow.Addr{Host: "192.0.2.1", Port: 5060}, flow.Addr{Host: "198.51.100.7", Port: 1}},
	{flow.TransportTLS, flow.Addr{Host: "::1", Port: 5061}, flow.Addr{Host: "2001:db8::7", Port: 65535}},
}

func TestToken(t *testing.T) {
	ours := tokens{key: deriveMAC(bytes.Repeat([]byte{1}, 32), "flow token")}
	theirs := tokens{key: deriveMAC(bytes.Repeat([]byte{2}, 32), "flow token")}
	party := partyOf(&sip.Uri{User: "bob", Host: "p2psip.example"})
	for _, e := range endpoints {
		s := ours.make(e, party, "call")
		if got, ok := ours.read(s, "call"); !ok || got.to != e || got.party != party {
			t.Errorf("%v became %v, %v", e, got, ok)
		}
		if _, ok := theirs.read(s, "call"); ok {
			t.Error("a token of another secret was taken")
		}
		if _, ok := ours.read(s, "another call"); ok {
			t.Error("a token of another call was taken")
		}
		for i := range s {
			b := []byte(s)
			b[i] ^= 1
			if _, ok := ours.read(string(b), "call"); ok {
				t.Errorf("a changed token was taken: %s", b)
			}
		}
	}
	if s := ours.make(Endpoint{Transport: flow.TransportP2P}, party, "call"); s != "" {
		t.Errorf("a token for no address: %s", s)
	}
	if partyOf(&sip.Uri{User: "bob", Host: "P2PSIP.example", Port: 5060}) != party {
		t.Error("two spellings of one party differ")
	}
}

// TestMAC compares with the standard library.
func TestMAC(t *testing.T) {
	for _, keyLen := range []int{16, 32, 64, 65, 200} {
		key := bytes.Repeat([]byte{7}, keyLen)
		m := newMAC(key)
		for _, n := range []int{0, 1, 63, 64, 300, maxMAC} {
			msg := bytes.Repeat([]byte{9}, n)
			h := hmac.New(sha256.New, key)
			h.Write(msg)
			if got := m.sum(msg); !bytes.Equal(got[:], h.Sum(nil)) {
				t.Errorf("key %d, message %d: differs from HMAC-SHA256", keyLen, n)
			}
		}
		a, b := m.sum(bytes.Repeat([]byte{1}, maxMAC+1)), m.sum(bytes.Repeat([]byte{1}, maxMAC+2))
		if a == b {
			t.Error("long messages are cut")
		}
	}
}

func FuzzToken(f *testing.F) {
	k := tokens{key: deriveMAC(bytes.Repeat([]byte{1}, 32), "flow token")}
	for _, e := range endpoints {
		f.Add(k.make(e, [tokenParty]byte{}, "c"))
	}
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if tok, ok := k.read(s, "c"); ok && k.make(tok.to, tok.party, "c") != s {
			t.Errorf("%q was taken, but is not what is made for %v", s, tok)
		}
	})
}

func FuzzRoute(f *testing.F) {
	f.Add(`<sip:a@b;lr>, "x, y" <sip:c;lr>;p="q,>"`)
	f.Add(`sip:a`)
	f.Add(`,,<sip:[::1]:5060>`)
	f.Add(`"\"`)
	f.Fuzz(func(t *testing.T, line string) {
		rs, ok := appendRoutes(nil, line)
		if ok && len(rs) > maxRoutes {
			t.Errorf("%d routes", len(rs))
		}
		for _, part := range splitList(line) {
			if len(part) > len(line) {
				t.Errorf("%q from %q", part, line)
			}
		}
	})
}

func TestSplitList(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{`<sip:a,b>, "x,\"y" <sip:c>;q="1,2" ,z`, []string{`<sip:a,b>`, `"x,\"y" <sip:c>;q="1,2"`, `z`}},
		{``, []string{``}},
		{`a`, []string{`a`}},
	} {
		got := splitList(c.in)
		if len(got) != len(c.want) {
			t.Errorf("%q: %q", c.in, got)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%q: %q", c.in, got)
			}
		}
	}
}

func TestBranchProof(t *testing.T) {
	b := newBranches(bytes.Repeat([]byte{1}, 32), nil)
	below := &sip.ViaHeader{Host: "192.0.2.1", Port: 5060, Params: sip.HeaderParams{{K: "branch", V: "z9hG4bK1"}, {K: "rport", V: "9"}}}
	s := b.make(below, false, loopHash([]byte("0123456789abcdef")))
	if !b.proves(s, below, false) {
		t.Error("the proof of our own branch does not hold")
	}
	for _, other := range []*sip.ViaHeader{
		{Host: "192.0.2.2", Port: 5060, Params: below.Params}, {Host: "192.0.2.1", Port: 5061, Params: below.Params},
		{Host: "192.0.2.1", Port: 5060, Params: sip.HeaderParams{{K: "branch", V: "z9hG4bK1"}, {K: "rport", V: "8"}}},
		{Host: "192.0.2.1", Port: 5060, Params: sip.HeaderParams{{K: "branch", V: "z9hG4bK1"}, {K: "rport", V: "9"}, {K: "received", V: "1.1.1.1"}}},
		nil,
	} {
		if b.proves(s, other, false) {
			t.Errorf("the proof holds for %v", other)
		}
	}
	if first, second := b.make(below, false, loopHash{}), b.make(below, false, loopHash{}); first == second {
		t.Error("two branches are equal")
	}
}

func TestOwn(t *testing.T) {
	cfg := Config{OID: "p2psip.example", NodeName: "k51.p2psip.example", Advertise: "192.0.2.1",
		Own: []flow.Addr{{Host: "127.0.0.1", Port: 5060}, {Host: "0.0.0.0", Port: 5070}, {Host: "::1", Port: 5061}}}
	o := newOwn(&cfg)
	for _, c := range []struct {
		uri  string
		want bool
	}{
		{"sip:p2psip.example", true}, {"sip:P2PSIP.example.", true}, {"sip:x@K51.p2psip.example", true},
		{"sip:127.0.0.1", true}, {"sip:127.0.0.1:5060", true}, {"sip:localhost", true}, {"sip:127.0.0.1:5061", false},
		{"sip:192.0.2.1:5070", true}, {"sip:127.0.0.1:5070", true}, {"sip:192.0.2.1", false},
		{"sips:[::1]", true}, {"sip:[::1];transport=tls", true}, {"sip:[0:0::1]:5061", true}, {"sip:[::1]", false},
		{"sip:k52.p2psip.example", false}, {"sip:evilp2psip.example", false}, {"sip:10.0.0.1", false},
	} {
		var u sip.Uri
		if err := sip.ParseUri(c.uri, &u); err != nil {
			t.Fatal(err)
		}
		if got := o.uri(&u, nil); got != c.want {
			t.Errorf("%s: %v", c.uri, got)
		}
	}
	f := fakeFlow(flow.TransportUDP, "0.0.0.0", 5070)
	if got := o.stamp(f); got.Host != "192.0.2.1" || !o.is(got.Host, got.Port, false, nil) {
		t.Errorf("the stamp of a wildcard socket is %v", got)
	}
}
