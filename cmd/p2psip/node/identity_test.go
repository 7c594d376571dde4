package node

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"p2psip/interwork/phone"
	"p2psip/overlay"
)

// identity makes one for a node that keeps nothing.
func (u *universe) identity(users ...string) *Identity {
	u.t.Helper()
	key, err := overlay.NewKey()
	if err != nil {
		u.t.Fatal(err)
	}
	id, err := overlay.NodeOfKey(key)
	if err != nil {
		u.t.Fatal(err)
	}
	var aors []overlay.AOR
	for _, s := range users {
		aor, err := u.authority.Document().ID.AOR(s)
		if err != nil {
			u.t.Fatal(err)
		}
		aors = append(aors, aor)
	}
	cred, err := u.authority.Issue(id, aors, nil, time.Hour, time.Now())
	if err != nil {
		u.t.Fatal(err)
	}
	return &Identity{Key: key, Document: u.authority.Document(), Credential: cred, Secret: bytes.Repeat([]byte{7}, 32)}
}

// TestNodeWithoutDataDirectory: a node with a host and an identity of its owner's takes part like any other, and leaves no
// file anywhere.
func TestNodeWithoutDataDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	u := newUniverse(t)
	u.start(u.config(u.home("alice")))
	id := u.identity("bob")
	h, err := overlay.NewHost(overlay.HostConfig{Key: id.Key, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		t.Fatal(err)
	}
	c := u.config("")
	c.Identity, c.Host, c.Control, c.Random = id, h, false, rand.NewPCG(1, 2)
	b := u.start(c)
	if b.ID() != h.ID() {
		t.Errorf("the node is %v, its host is %v", b.ID(), h.ID())
	}
	alice := u.phone(u.first, "alice", nil)
	u.phone(b, "bob", phone.AnswerAfter(0))
	ctx := testContext(t)
	call, err := alice.Call(ctx, "sip:bob@"+testID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call.Wait(ctx, phone.Answered); err != nil {
		t.Fatal(err)
	}
	if len(b.Calls()) != 1 {
		t.Errorf("calls: %+v", b.Calls())
	}
	if err := call.Hangup(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	files, err := os.ReadDir(".")
	if err != nil || len(files) > 0 {
		t.Errorf("files %v, %v", files, err)
	}
	c.DataDir = t.TempDir()
	if _, err := Start(c); err == nil {
		t.Error("a node has an identity, and another one in its data directory")
	}
}
