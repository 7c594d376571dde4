package overlay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	record "github.com/libp2p/go-libp2p-record"
	"google.golang.org/protobuf/proto"
)

func TestRoleKeys(t *testing.T) {
	const id = ID("p2psip.example")
	for _, r := range Roles() {
		for _, k := range []roleKey{{role: r}, {role: r, level: 1, index: 1}, {role: r, level: 5, index: 9}, {role: r, level: maxLevel, index: 1<<maxLevel - 1}} {
			key := k.key(id)
			back, err := parseRoleKey(key, id)
			if err != nil || back != k {
				t.Errorf("%s reads as %+v (%v), want %+v", key, back, err, k)
			}
			if k.level > 0 && !k.holds(sha256.Sum256([]byte(key))) {
				t.Errorf("%s does not lie in its shard", key)
			}
			if _, err := parseRoleKey(key, "other.example"); err == nil {
				t.Errorf("%s passes in another overlay", key)
			}
		}
	}
	good := RoleKey(RoleProxy, id, 5, 9)
	for _, bad := range []string{
		"", "/role/", good + "/", good + "0000000", strings.Replace(good, "/5/", "/05/", 1), strings.Replace(good, "/5/9/", "/5/32/", 1),
		strings.Replace(good, "/5/9/", "/13/9/", 1), strings.Replace(good, "/5/9/", "/5/10/", 1), "/user/x", RoleKey(RoleProxy, id, 0, 0) + "/node/x",
	} {
		if k, err := parseRoleKey(bad, id); err == nil {
			t.Errorf("%q passes as %+v", bad, k)
		}
	}
}

// Which shards a node writes under changes by the hour, and all shards get their share.
func TestShardsAreSpread(t *testing.T) {
	const level, nodes, each = 5, 200, 4
	count := map[uint32]int{}
	for i := range nodes {
		place := placeOf("sip:p2psip.example", NodeID(fmt.Sprint(i)), time.Unix(1, 0))
		for _, k := range shards(RoleProxy, level, place, each) {
			count[k.index]++
		}
	}
	for i := range uint32(1 << level) {
		if mean := nodes * each >> level; count[i] < mean/3 || count[i] > 2*mean {
			t.Errorf("shard %d has %d nodes, %d is the mean", i, count[i], mean)
		}
	}
}

func TestRoleStore(t *testing.T) {
	m := newMarket(t)
	s := newRoleStore(m.v)
	key := RoleKey(RoleProxy, m.doc.ID, 2, 1)
	k := roleKey{role: RoleProxy, level: 2, index: 1}
	a, b := m.seller(RoleProxy), m.seller(RoleProxy)
	first := a.says(RoleProxy, false)
	if err := s.put(key, first); err != nil {
		t.Fatal(err)
	}
	if err := s.put(key, b.says(RoleProxy, false)); err != nil {
		t.Fatal(err)
	}
	if got := s.under(k); len(got) != 2 {
		t.Fatalf("%d are stored", len(got))
	}
	if err := s.put(key, first); !errors.Is(err, ErrStale) {
		t.Fatalf("a replay: %v", err)
	}
	m.pass(time.Minute)
	if err := s.put(key, a.says(RoleProxy, true)); err != nil {
		t.Fatal(err)
	}
	if got := s.under(k); got.living() != 1 || !got.find(a.node).withdrawn {
		t.Fatal("the tombstone has not replaced the advertisement")
	}
	if err := s.put(key, first); !errors.Is(err, ErrStale) {
		t.Fatalf("a replay after the tombstone: %v", err)
	}
	for name, c := range map[string]struct {
		key string
		set adverts
	}{
		"the key of another role": {RoleKey(RoleRelay, m.doc.ID, 2, 1), b.says(RoleProxy, false)},
		"the key of another node": {roleKey{role: RoleProxy, node: a.node}.key(m.doc.ID), b.says(RoleProxy, false)},
		"no key":                  {"/role/x", b.says(RoleProxy, false)},
	} {
		if err := s.put(c.key, c.set); !errors.Is(err, ErrBadAdvert) {
			t.Errorf("under %s: %v", name, err)
		}
	}
	m.pass(AdvertLifetime - 30*time.Second)
	if got := s.under(k); len(got) != 1 || !got[0].withdrawn {
		t.Fatalf("what has expired is given out: %v", got)
	}
	m.pass(time.Hour)
	s.sweep()
	if keys, bytes := s.size(); keys != 0 || bytes != 0 || len(s.keys) != 0 {
		t.Fatalf("%d keys, %d bytes, %d signers are left", keys, bytes, len(s.keys))
	}
}

// One signer takes no more than its share, whatever it writes; the budget is bounded; users' records have their own.
func TestRoleStoreBounds(t *testing.T) {
	m := newMarket(t)
	s := newRoleStore(m.v)
	a := m.seller(RoleProxy).says(RoleProxy, false)
	write := func(a adverts, from, keys uint32) (stored int) {
		for i := range keys {
			err := s.put(RoleKey(RoleProxy, m.doc.ID, 11, from+i), a)
			if err == nil {
				stored++
			} else if !errors.Is(err, ErrStoreFull) {
				t.Fatal(err)
			}
		}
		return stored
	}
	if n := write(a, 0, 2*maxKeysOfSigner); n != maxKeysOfSigner {
		t.Fatalf("one signer is stored under %d keys", n)
	}
	for i := range uint32(maxRoleKeys/maxKeysOfSigner + 1) {
		write(m.seller(RoleProxy).says(RoleProxy, false), (i+1)*maxKeysOfSigner, maxKeysOfSigner)
	}
	if keys, bytes := s.size(); keys != maxRoleKeys || bytes > maxRoleBytes {
		t.Fatalf("%d keys, %d bytes", keys, bytes)
	}
}

// kad-dht sees one datastore; what belongs to a role goes into the store of its own.
func TestStoresKeepRolesApart(t *testing.T) {
	m := newMarket(t)
	both := stores{newStore(m.v.verifier), newRoleStore(m.v)}
	key := RoleKey(RoleProxy, m.doc.ID, 0, 0)
	value := m.seller(RoleProxy).sign(m.seller(RoleProxy).advert(RoleProxy), false)
	data, err := proto.Marshal(record.MakePutRecord(key, value))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := both.Put(ctx, dsKey(key), data); err != nil {
		t.Fatal(err)
	}
	if ok, err := both.Has(ctx, dsKey(key)); !ok || err != nil {
		t.Fatal("it is not there")
	}
	if users, _ := both.store.size(); users != 0 {
		t.Fatal("it counts against the budget of users' records")
	}
	if err := both.Delete(ctx, dsKey(key)); err != nil {
		t.Fatal(err)
	}
	if ok, _ := both.Has(ctx, dsKey(key)); ok {
		t.Fatal("it is still there")
	}
}

func TestRoleValidatorSelects(t *testing.T) {
	m := newMarket(t)
	v := roleValidator{m.v}
	key := RoleKey(RoleProxy, m.doc.ID, 3, 2)
	a := m.seller(RoleProxy)
	old := a.sign(a.advert(RoleProxy), false)
	m.pass(time.Second)
	young := a.sign(a.advert(RoleProxy), false)
	if err := v.Validate(key, young); err != nil {
		t.Fatal(err)
	}
	if err := v.Validate(RoleKey(RoleRelay, m.doc.ID, 3, 2), young); !errors.Is(err, ErrBadAdvert) {
		t.Fatalf("under the key of another role: %v", err)
	}
	for _, c := range []struct {
		put, there []byte
		want       int
	}{{young, old, 0}, {old, young, 1}, {young, young, 1}} {
		if i, err := v.Select(key, [][]byte{c.put, c.there}); err != nil || i != c.want {
			t.Errorf("selected %d (%v), want %d", i, err, c.want)
		}
	}
}
