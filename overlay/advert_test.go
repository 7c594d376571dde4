package overlay

import (
	"bytes"
	"crypto/ed25519"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// market is an overlay's authority with a clock, for tests of what members say of their roles.
type market struct {
	t     testing.TB
	auth  *Authority
	doc   *Document
	clock atomic.Int64 // nanoseconds since 1970
	v     *advertVerifier
}

func (m *market) now() time.Time { return time.Unix(0, m.clock.Load()).UTC() }

func (m *market) pass(d time.Duration) { m.clock.Add(int64(d)) }

func newMarket(t testing.TB) *market {
	t.Helper()
	m := &market{t: t}
	m.clock.Store(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	var err error
	if m.auth, err = NewAuthority(DocumentOptions{ID: "p2psip.example"}, m.now()); err != nil {
		t.Fatal(err)
	}
	m.doc = m.auth.Document()
	m.v = newAdvertVerifier(newVerifier(m.doc, m.now))
	return m
}

// seller is a member with a key.
type seller struct {
	m    *market
	key  crypto.PrivKey
	cred *Credential
	node NodeID
}

func (m *market) seller(roles ...Role) *seller {
	m.t.Helper()
	key, err := NewKey()
	if err != nil {
		m.t.Fatal(err)
	}
	s := &seller{m: m, key: key}
	if s.node, err = NodeOfKey(key); err != nil {
		m.t.Fatal(err)
	}
	bob, err := m.doc.ID.AOR("bob")
	if err != nil {
		m.t.Fatal(err)
	}
	if s.cred, err = m.auth.Issue(s.node, []AOR{bob}, roles, 30*24*time.Hour, m.now()); err != nil {
		m.t.Fatal(err)
	}
	return s
}

// advert is what the seller would say now.
func (s *seller) advert(r Role) Advert {
	return Advert{
		Role: r, Addrs: []string{"/ip4/192.0.2.1/tcp/5080"}, Offer: Offer{Services: []string{wellKnownScheme[r] + ":192.0.2.1:5060;transport=udp"}, Capacity: 10, Load: 250},
		Sequence: uint64(s.m.now().UnixMilli()), Expires: s.m.now().Add(AdvertLifetime),
	}
}

func (s *seller) sign(a Advert, withdrawn bool) []byte {
	s.m.t.Helper()
	value, err := signAdvert(s.key, s.cred, s.m.doc, a, 3, withdrawn)
	if err != nil {
		s.m.t.Fatal(err)
	}
	return value
}

// says gives the seller's word as a verified set.
func (s *seller) says(r Role, withdrawn bool) adverts {
	s.m.t.Helper()
	set, err := s.m.v.set(s.sign(s.advert(r), withdrawn), false)
	if err != nil {
		s.m.t.Fatal(err)
	}
	return set
}

// resignAdvert lets change alter the signed part, and signs the result again.
func (s *seller) resign(value []byte, change func(w *wireAdvert)) []byte {
	var list []wireSigned
	if err := unmarshalAll(value, &list); err != nil {
		s.m.t.Fatal(err)
	}
	var w wireAdvert
	if err := unmarshalAll(list[0].Entry, &w); err != nil {
		s.m.t.Fatal(err)
	}
	change(&w)
	list[0].Entry, _ = asn1.Marshal(w)
	priv, err := ed25519Key(s.key)
	if err != nil {
		s.m.t.Fatal(err)
	}
	list[0].Signature = ed25519.Sign(priv, append([]byte(advertContext), list[0].Entry...))
	out, err := asn1.Marshal(list)
	if err != nil {
		s.m.t.Fatal(err)
	}
	return out
}

func TestAdvertReadsAsWritten(t *testing.T) {
	m := newMarket(t)
	s := m.seller(RoleProxy)
	want := s.advert(RoleProxy)
	set := s.says(RoleProxy, false)
	a := set[0]
	if a.Role != RoleProxy || a.Node != s.node || a.Addrs[0] != want.Addrs[0] || a.Services[0] != want.Services[0] || a.Capacity != 10 ||
		a.Load != 250 || a.Sequence != want.Sequence || !a.Expires.Equal(want.Expires) || !a.Issued.Equal(m.now()) || a.level != 3 || a.withdrawn {
		t.Fatalf("%+v", a)
	}
	again, err := set.encode()
	if err != nil || !bytes.Equal(again, s.sign(want, false)) {
		t.Fatalf("written again it differs (%v)", err)
	}
	if s.says(RoleProxy, true)[0].withdrawn != true {
		t.Fatal("a tombstone does not read as one")
	}
}

func TestAdvertRefused(t *testing.T) {
	m := newMarket(t)
	s, relay, plain := m.seller(RoleProxy), m.seller(RoleRelay), m.seller()
	good := s.sign(s.advert(RoleProxy), false)
	if _, err := m.v.set(good, false); err != nil {
		t.Fatal(err)
	}
	change := func(f func(w *wireAdvert)) []byte { return s.resign(good, f) }
	takeOver := func(by *seller) []byte { // signed by one node, with its own credential, for a role it may not take
		var list []wireSigned
		unmarshalAll(good, &list)
		list[0].Chain = by.cred.raw()
		b, _ := asn1.Marshal(list)
		return by.resign(b, func(*wireAdvert) {})
	}
	steal := func() []byte { // another's credential
		var list []wireSigned
		unmarshalAll(plain.resign(good, func(*wireAdvert) {}), &list)
		b, _ := asn1.Marshal(list)
		return b
	}
	for name, c := range map[string]struct {
		value []byte
		want  error
	}{
		"altered":         {bytes.Replace(good, []byte("192.0.2.1:5060"), []byte("192.0.2.9:5060"), 1), ErrForged},
		"another's name":  {steal(), ErrForged},
		"no role":         {takeOver(plain), ErrNotEntitled},
		"another role":    {takeOver(relay), ErrNotEntitled},
		"role unknown":    {change(func(w *wireAdvert) { w.URI = "teredo:p2psip.example" }), ErrBadAdvert},
		"other overlay's": {change(func(w *wireAdvert) { w.Overlay = bytes.Repeat([]byte{1}, 32) }), ErrForeign},
		"version":         {change(func(w *wireAdvert) { w.Version = 2 }), ErrBadAdvert},
		"expired": {change(func(w *wireAdvert) {
			w.Sequence -= AdvertLifetime.Milliseconds()
			w.Expires -= AdvertLifetime.Milliseconds()
		}), ErrExpired},
		"from the future":    {change(func(w *wireAdvert) { w.Sequence += 360_000; w.Expires += 360_000 }), ErrBadAdvert},
		"too long":           {change(func(w *wireAdvert) { w.Expires++ }), ErrBadAdvert},
		"no life":            {change(func(w *wireAdvert) { w.Expires = w.Sequence }), ErrBadAdvert},
		"negative":           {change(func(w *wireAdvert) { w.Sequence = -1 }), ErrBadAdvert},
		"load":               {change(func(w *wireAdvert) { w.Load = 1001 }), ErrBadAdvert},
		"capacity":           {change(func(w *wireAdvert) { w.Capacity = 1 << 32 }), ErrBadAdvert},
		"level":              {change(func(w *wireAdvert) { w.Level = maxLevel + 1 }), ErrBadAdvert},
		"address":            {change(func(w *wireAdvert) { w.Addrs = [][]byte{{255, 255}} }), ErrBadAdvert},
		"many addresses":     {change(func(w *wireAdvert) { w.Addrs = make([][]byte, maxAddrs+1) }), ErrBadAdvert},
		"service of another": {change(func(w *wireAdvert) { w.Services = []wireText{{"turn:192.0.2.1"}} }), ErrBadAdvert},
		"service with a gap": {change(func(w *wireAdvert) { w.Services = []wireText{{"sip:a\r\nb"}} }), ErrBadAdvert},
		"many services":      {change(func(w *wireAdvert) { w.Services = make([]wireText, MaxServices+1) }), ErrBadAdvert},
		"large":              {change(func(w *wireAdvert) { w.Overlay = make([]byte, maxAdvert) }), ErrTooLarge},
		"bytes behind":       {append(bytes.Clone(good), 0), ErrBadAdvert},
		"nothing":            {[]byte{0x30, 0}, ErrBadAdvert},
	} {
		if _, err := m.v.set(c.value, false); !errors.Is(err, c.want) || !errors.Is(err, ErrBadAdvert) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := m.v.set(make([]byte, MaxRecord+1), false); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large set: %v", err)
	}
	// What was verified once expires all the same.
	m.pass(AdvertLifetime)
	if _, err := m.v.set(good, false); !errors.Is(err, ErrExpired) {
		t.Errorf("remembered for too long: %v", err)
	}
	if _, err := signAdvert(plain.key, plain.cred, m.doc, plain.advert(RoleProxy), 0, false); !errors.Is(err, ErrNotEntitled) {
		t.Errorf("signed without being entitled: %v", err)
	}
}

func TestAdvertDoesNotOutliveItsCredential(t *testing.T) {
	m := newMarket(t)
	s := m.seller(RoleProxy)
	var err error
	if s.cred, err = m.auth.Issue(s.node, s.cred.users, []Role{RoleProxy}, 5*time.Minute, m.now()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.v.set(s.sign(s.advert(RoleProxy), false), false); !errors.Is(err, ErrBadAdvert) || !strings.Contains(err.Error(), "outlives") {
		t.Fatal(err)
	}
}

// crowd gives the words of n nodes, with sequence numbers as given.
func (m *market) crowd(n int) (list []adverts) {
	for range n {
		list = append(list, m.seller(RoleProxy).says(RoleProxy, false))
	}
	return list
}

func TestMergeAdverts(t *testing.T) {
	m := newMarket(t)
	k := roleKey{role: RoleProxy, level: 2, index: 1}
	d := rand.New(rand.NewPCG(1, 1))
	all := m.crowd(40)
	s := m.seller(RoleProxy)
	first := s.says(RoleProxy, false)
	m.pass(time.Second)
	gone := s.says(RoleProxy, true)
	merge := func(list []adverts) (out adverts) {
		for _, a := range list {
			out = mergeAdverts(k, out, a, m.now())
		}
		return out
	}
	want := merge(all)
	if len(want) != MaxAdverts {
		t.Fatalf("%d are kept", len(want))
	}
	for range 20 {
		d.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		half := d.IntN(len(all))
		if got := mergeAdverts(k, merge(all[half:]), merge(all[:half]), m.now()); !got.equal(want) {
			t.Fatal("the order decides what is kept")
		}
	}
	if got := mergeAdverts(k, first, gone, m.now()); len(got) != 1 || !got[0].withdrawn {
		t.Fatal("the tombstone does not replace the advertisement")
	}
	if got := mergeAdverts(k, gone, first, m.now()); len(got) != 1 || !got[0].withdrawn {
		t.Fatal("a replay replaces the tombstone")
	}
	if mergeAdverts(k, want, gone, m.now()).find(s.node) != nil {
		t.Fatal("a tombstone keeps out somebody who offers")
	}
	// In another shard, and in another hour, others stay.
	if mergeAdverts(roleKey{role: RoleProxy, level: 2, index: 2}, nil, merge(all), m.now()).equal(want) && len(all) > MaxAdverts {
		other := adverts(nil)
		for _, a := range all {
			other = mergeAdverts(roleKey{role: RoleProxy, level: 2, index: 2}, other, a, m.now())
		}
		if other.equal(want) {
			t.Fatal("the same nodes stay everywhere")
		}
	}
	if placeOf("sip:x", s.node, m.now()) == placeOf("sip:x", s.node, m.now().Add(turnOfPlaces)) {
		t.Fatal("a place is kept for ever")
	}
}

// Who has not renewed its advertisement in time makes room first.
func TestMergeAdvertsPrefersTheRenewed(t *testing.T) {
	m := newMarket(t)
	k := roleKey{role: RoleProxy}
	var old adverts
	for _, a := range m.crowd(MaxAdverts) {
		old = mergeAdverts(k, old, a, m.now())
	}
	m.pass(AdvertLifetime - overdue + time.Second)
	late := m.seller(RoleProxy).says(RoleProxy, false)
	if got := mergeAdverts(k, old, late, m.now()); got.find(late[0].Node) == nil {
		t.Fatal("a fresh one does not get in among sixteen overdue ones")
	}
}

// A node that writes under every key gets into full sets only where its score says so, as any other.
func TestFloodingGainsNothing(t *testing.T) {
	m := newMarket(t)
	all := m.crowd(3 * MaxAdverts)
	const level = 6
	in := map[NodeID]int{}
	for i := range uint32(1 << level) {
		k := roleKey{role: RoleProxy, level: level, index: i}
		var set adverts
		for _, a := range all { // here everybody floods
			set = mergeAdverts(k, set, a, m.now())
		}
		for _, a := range set {
			in[a.Node]++
		}
	}
	mean := float64(MaxAdverts<<level) / float64(len(all))
	for n, c := range in {
		if float64(c) > 1.8*mean || float64(c) < 0.3*mean {
			t.Errorf("node %s is in %d of %d shards, %.1f is the mean", n, c, 1<<level, mean)
		}
	}
	// And beside nodes that keep to their best shards it comes last.
	flooder := all[0]
	beaten := 0
	for i := range uint32(1 << level) {
		k := roleKey{role: RoleProxy, level: level, index: i}
		set := adverts(nil)
		for _, a := range all[1:] {
			for _, best := range shards(RoleProxy, level, a[0].place, 1<<level*MaxAdverts*2/len(all)) {
				if best == k {
					set = mergeAdverts(k, set, a, m.now())
				}
			}
		}
		if len(set) == MaxAdverts && mergeAdverts(k, set, flooder, m.now()).find(flooder[0].Node) == nil {
			beaten++
		}
	}
	if beaten < 1<<level/2 {
		t.Errorf("the flooder is kept out of %d of %d shards only", beaten, 1<<level)
	}
}

func TestEstimateOfAdvertisers(t *testing.T) {
	m := newMarket(t)
	k := roleKey{role: RoleProxy}
	for _, n := range []int{1, 5, 14, 60, 200} {
		sum := 0.0
		const rounds = 5
		for range rounds {
			var set adverts
			for range n {
				a := &advert{Advert: Advert{Role: RoleProxy, Node: NodeID(fmt.Sprint(rand.Uint64())), Expires: m.now().Add(time.Hour)}, place: rand.Uint64()}
				set = mergeAdverts(k, set, adverts{a}, m.now())
			}
			sum += set.advertisers(k)
		}
		if got := sum / rounds; got < 0.6*float64(n) || got > 1.7*float64(n) {
			t.Errorf("%d advertisers are taken for %.1f", n, got)
		}
	}
}

// FuzzAdvert: whatever a stranger sends as a set of advertisements, it is refused or reads the same after being written
// again.
func FuzzAdvert(f *testing.F) {
	v, value := fuzzAdverts(f)
	f.Add(value)
	f.Add(value[:len(value)/2])
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := v.set(b, false)
		if pruned, perr := v.set(b, true); err != nil {
			if perr == nil && len(pruned) == 0 {
				t.Fatal("a set without advertisements was accepted")
			}
			return
		}
		again, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := v.set(again, false); err != nil || !back.equal(s) {
			t.Fatalf("written again it reads differently: %v", err)
		}
		if m := mergeAdverts(roleKey{role: s[0].Role}, s, s, fuzzTime); !m.equal(s) {
			t.Fatal("merged with itself it is another set")
		}
	})
}

// FuzzAdvertFields lets the fuzzer write the signed part, so that it gets behind the checks of credential and signature.
func FuzzAdvertFields(f *testing.F) {
	_, value := fuzzAdverts(f)
	var list []wireSigned
	if err := unmarshalAll(value, &list); err != nil {
		f.Fatal(err)
	}
	f.Add(list[0].Entry)
	f.Fuzz(func(t *testing.T, b []byte) {
		var w wireAdvert
		if unmarshalAll(b, &w) != nil {
			return
		}
		a := advert{Advert: Advert{Role: RoleProxy}}
		if a.fill(w) == nil && a.current(fuzzTime) == nil {
			if len(a.Services) > MaxServices || len(a.Addrs) > maxAddrs || a.Load > 1000 || a.Expires.After(fuzzTime.Add(AdvertLifetime+ClockSkew)) {
				t.Fatalf("out of bounds: %+v", a.Advert)
			}
			for _, s := range a.Services {
				if strings.ContainsAny(s, "\r\n <>\"") {
					t.Fatalf("a service %q", s)
				}
			}
		}
	})
}

// FuzzRoleKey: a DHT key is refused, or stands for one key of a role.
func FuzzRoleKey(f *testing.F) {
	const id = ID("p2psip.example")
	n, _ := ParseNodeName("k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r.p2psip.example", id)
	f.Add(RoleKey(RoleProxy, id, 0, 0))
	f.Add(RoleKey(RoleRelay, id, 5, 17))
	f.Add(roleKey{role: RoleProxy, node: n}.key(id))
	f.Add("/role/x/1/2/3")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := parseRoleKey(s, id)
		if err != nil {
			return
		}
		if k.level == 0 && k.key(id) != s {
			t.Fatalf("%q is taken for %q", s, k.key(id))
		}
		if back, err := parseRoleKey(k.key(id), id); err != nil || back != k {
			t.Fatalf("%q reads as %+v and that as %+v (%v)", s, k, back, err)
		}
	})
}

func fuzzAdverts(f *testing.F) (*advertVerifier, []byte) {
	v, _, doc, cred := fuzzOverlay(f)
	key, err := LoadOrCreateKey("testdata/overlay/node.key")
	if err != nil {
		f.Fatal(err)
	}
	value, err := signAdvert(key, cred, doc, Advert{
		Role: RoleProxy, Addrs: []string{"/ip4/127.0.0.1/tcp/5080"}, Offer: Offer{Services: []string{"sip:127.0.0.1:5060"}, Capacity: 10, Load: 1},
		Sequence: uint64(fuzzTime.UnixMilli()), Expires: fuzzTime.Add(AdvertLifetime),
	}, 3, false)
	if err != nil {
		f.Fatal(err)
	}
	return newAdvertVerifier(v), value
}
