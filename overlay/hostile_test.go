package overlay_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"p2psip/overlay"
	"p2psip/overlay/overlaytest"
)

// TestHostileRecordsAreRefusedByEveryPeer has a member try to get each kind of bad record stored at each of the others,
// and looks into their stores afterwards (R42, R39 to R41).
func TestHostileRecordsAreRefusedByEveryPeer(t *testing.T) {
	u := overlaytest.New(t, 6, nil)
	mallory := u.Peers[5]
	malloryKey, malloryCred := u.Configs[5].Key, u.Configs[5].Credential
	victim, own := u.AOR(t, "user0"), u.AOR(t, "user5")
	doc := u.Authority.Document()
	now := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	entry := func(at time.Time, life time.Duration) overlay.NodeEntry {
		return overlay.NodeEntry{
			Sequence: uint64(at.UnixMilli()), Expires: at.Add(life),
			Devices: []overlay.Device{{ID: "x", Q: 1000, Expires: at.Add(min(life, 30*time.Minute))}},
		}
	}
	sign := func(a overlay.AOR, e overlay.NodeEntry) []byte {
		v, err := overlay.SignEntry(malloryKey, malloryCred, doc, a, e)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	good := sign(own, entry(now, time.Hour))

	other, err := overlay.NewAuthority(overlay.DocumentOptions{ID: overlaytest.ID}, now)
	if err != nil {
		t.Fatal(err)
	}
	node, _ := overlay.NodeOfKey(malloryKey)
	foreignCred, err := other.Issue(node, []overlay.AOR{victim}, nil, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := overlay.SignEntry(malloryKey, foreignCred, other.Document(), victim, entry(now, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	foreignHere, err := overlay.SignEntry(malloryKey, foreignCred, doc, victim, entry(now, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	expiredCred, err := u.Authority.Issue(node, []overlay.AOR{own}, nil, time.Minute, now.Add(-4*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	lapsed, err := overlay.SignEntry(malloryKey, expiredCred, doc, own, entry(now, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	hijack, err := overlay.SignAs(malloryKey, malloryCred, doc, victim, entry(now, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	swapped, err := overlay.SignAs(malloryKey, u.Configs[0].Credential, doc, victim, entry(now, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	fat := entry(now, time.Hour)
	fat.Devices = nil
	for i := range overlay.MaxDevices + 1 {
		fat.Devices = append(fat.Devices, overlay.Device{ID: string(rune('a' + i)), Expires: fat.Expires})
	}

	cases := []struct {
		name  string
		key   string
		value []byte
		want  error // nil: any refusal
	}{
		{"hijacked user", overlay.UserKey(victim), hijack, overlay.ErrNotEntitled},
		{"another's credential", overlay.UserKey(victim), swapped, overlay.ErrForged},
		{"altered signature", overlay.UserKey(own), flipped, overlay.ErrForged},
		{"credential of another root", overlay.UserKey(victim), foreignHere, overlay.ErrBadCredential},
		{"foreign overlay of the same name", overlay.UserKey(victim), foreign, overlay.ErrForeign},
		{"expired", overlay.UserKey(own), sign(own, entry(now.Add(-2*time.Hour), time.Hour)), overlay.ErrExpired},
		{"signed in the future", overlay.UserKey(own), sign(own, entry(now.Add(time.Hour), time.Hour)), overlay.ErrBadRecord},
		{"good for too long", overlay.UserKey(own), sign(own, entry(now, 60*24*time.Hour)), overlay.ErrBadRecord},
		{"oversized", overlay.UserKey(own), append(bytes.Clone(good), make([]byte, overlay.MaxRecord)...), overlay.ErrTooLarge},
		{"too many devices", overlay.UserKey(own), sign(own, fat), overlay.ErrBadRecord},
		{"truncated", overlay.UserKey(own), good[:len(good)/2], overlay.ErrBadRecord},
		{"something behind it", overlay.UserKey(own), append(bytes.Clone(good), 0), overlay.ErrBadRecord},
		{"empty", overlay.UserKey(own), []byte{}, overlay.ErrBadRecord},
		{"garbage", overlay.UserKey(own), []byte("INVITE sip:bob SIP/2.0\r\n\r\n"), overlay.ErrBadRecord},
		{"under another's key", overlay.UserKey(victim), good, overlay.ErrBadRecord},
		{"unknown version", overlay.UserKey(own), overlay.Resign(malloryKey, good, func(v *int, _ *[]byte, _ *string, _ int) { *v = 99 }), overlay.ErrBadRecord},
		{"user of another domain", overlay.UserKey(own), overlay.Resign(malloryKey, good, func(_ *int, _ *[]byte, a *string, _ int) { *a = "sip:user5@other.example" }), overlay.ErrForeign},
		{"no user part", overlay.UserKey(own), overlay.Resign(malloryKey, good, func(_ *int, _ *[]byte, a *string, _ int) { *a = "sip:" + overlaytest.ID }), overlay.ErrBadAOR},
		{"user not canonical", overlay.UserKey(own), overlay.Resign(malloryKey, good, func(_ *int, _ *[]byte, a *string, _ int) { *a = "sip:user%35@" + overlaytest.ID }), overlay.ErrBadRecord},
		{"expired credential", overlay.UserKey(own), lapsed, overlay.ErrBadCredential},
		{"unknown namespace", "/other/x", good, nil},
		{"no namespace", "x", good, nil},
	}
	for _, c := range cases {
		for i, p := range u.Peers[:5] {
			if err := mallory.PutAt(ctx, p.ID(), c.key, c.value); err == nil {
				t.Errorf("%s: peer %d stored it", c.name, i)
			}
			if c.want != nil {
				if err := p.ValidateAt(c.key, c.value); !errors.Is(err, c.want) {
					t.Errorf("%s: peer %d refuses with %v, want %v", c.name, i, err, c.want)
				}
			}
			if p.Holds(own) != -1 || p.Holds(victim) != -1 {
				t.Errorf("%s: peer %d holds something now", c.name, i)
			}
		}
	}

	// The same member's honest record is stored, a replay and an older one are refused, a newer one replaces it.
	older := sign(own, entry(now.Add(-time.Second), time.Hour))
	newer := sign(own, entry(now.Add(time.Second), time.Hour))
	for i, p := range u.Peers[:5] {
		if err := mallory.PutAt(ctx, p.ID(), overlay.UserKey(own), good); err != nil {
			t.Errorf("peer %d refused a good record: %v", i, err)
		}
		for name, v := range map[string][]byte{"replayed": good, "older": older} {
			if err := mallory.PutAt(ctx, p.ID(), overlay.UserKey(own), v); err == nil {
				t.Errorf("peer %d took the %s record", i, name)
			}
		}
		if got := p.HoldsSequence(own); got != uint64(now.UnixMilli()) {
			t.Errorf("peer %d holds sequence %d", i, got)
		}
		if err := mallory.PutAt(ctx, p.ID(), overlay.UserKey(own), newer); err != nil {
			t.Errorf("peer %d refused a newer record: %v", i, err)
		}
		if best, err := p.SelectAt(overlay.UserKey(own), older, newer, good); err != nil || best != 1 {
			t.Errorf("peer %d selects value %d (%v), want the newest", i, best, err)
		}
	}
}
