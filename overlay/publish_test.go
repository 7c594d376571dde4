package overlay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"p2psip/overlay"
	"p2psip/overlay/overlaytest"
)

// TestStoredAlready: a node that was handed a record by somebody else refuses the very same from its owner. It stores it, so it
// counts; one that stores an older record counts when it has taken the new one, and one that holds something else does not.
func TestStoredAlready(t *testing.T) {
	u := overlaytest.New(t, 2, nil)
	doc, c, ctx := u.Authority.Document(), u.Configs[0], context.Background()
	a := u.AOR(t, "user0")
	key := overlay.UserKey(a)
	value := func(sequence time.Time) []byte {
		v, err := overlay.SignEntry(c.Key, c.Credential, doc, a, overlay.NodeEntry{
			Sequence: uint64(sequence.UnixMilli()), Expires: sequence.Add(time.Hour),
			Devices: []overlay.Device{{ID: "phone", Expires: sequence.Add(time.Hour)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	now := time.Now()
	there := u.Peers[1].ID()
	same := value(now)
	if err := u.Peers[0].PutAt(ctx, there, key, same); err != nil {
		t.Fatal(err)
	}
	if p, err := u.Peers[0].PutRecord(ctx, key, same); err != nil || p.Stored != 2 {
		t.Errorf("what is there already: %+v, %v", p, err)
	}
	if err := u.Peers[0].PutAt(ctx, there, key, value(now.Add(2*time.Second))); err != nil {
		t.Fatal(err)
	}
	if p, err := u.Peers[0].PutRecord(ctx, key, value(now.Add(time.Second))); err != nil || p.Stored != 2 {
		t.Errorf("where a newer one is: %+v, %v", p, err)
	}
	other := overlay.UserKey(u.AOR(t, "user1"))
	if _, err := u.Peers[0].PutRecord(ctx, other, same); err == nil || errors.Is(err, overlay.ErrNoQuorum) {
		t.Errorf("under a key that is not the user's: %v", err)
	}
}
