package overlay_test

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"p2psip/overlay"
)

func newNode(t testing.TB) (crypto.PrivKey, overlay.NodeID) {
	t.Helper()
	k, err := overlay.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	n, err := overlay.NodeOfKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return k, n
}

func aor(t testing.TB, s string) overlay.AOR {
	t.Helper()
	a, err := overlay.ParseAOR(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCredential(t *testing.T) {
	a := authority(t, overlay.DocumentOptions{})
	_, n := newNode(t)
	alice := aor(t, "sip:alice@p2psip.example")
	now := time.Now()
	c, err := a.Issue(n, []overlay.AOR{alice}, []overlay.Role{overlay.RoleProxy}, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	back, err := overlay.ParseCredentialPEM(c.PEM(), a.Document(), now)
	if err != nil {
		t.Fatal(err)
	}
	if back.Node() != n || !back.Entitled(alice) || back.Entitled(aor(t, "sip:bob@p2psip.example")) ||
		!back.Permits(overlay.RoleProxy) || back.Permits(overlay.RoleRelay) {
		t.Errorf("read back as %v %v %v", back.Node(), back.Users(), back.Roles())
	}
	for _, x := range []struct {
		name string
		pem  []byte
		doc  *overlay.Document
		at   time.Time
		why  string
	}{
		{"expired", c.PEM(), a.Document(), now.Add(2 * time.Hour), "expired"},
		{"not yet valid", c.PEM(), a.Document(), now.Add(-time.Hour), "clock"},
		{"another root", c.PEM(), authority(t, overlay.DocumentOptions{}).Document(), now, "not issued by the root"},
		{"another overlay", c.PEM(), authority(t, overlay.DocumentOptions{ID: "other.example"}).Document(), now, "another overlay"},
		{"no PEM", []byte("x"), a.Document(), now, "PEM"},
		{"too many", append(append(append(c.PEM(), c.PEM()...), c.PEM()...), c.PEM()...), a.Document(), now, "chain of 4"},
	} {
		_, err := overlay.ParseCredentialPEM(x.pem, x.doc, x.at)
		if !errors.Is(err, overlay.ErrBadCredential) || !strings.Contains(err.Error(), x.why) {
			t.Errorf("%s: %v, want something with %q", x.name, err, x.why)
		}
	}
}

func TestCredentialIssueRefused(t *testing.T) {
	a := authority(t, overlay.DocumentOptions{})
	_, n := newNode(t)
	_, n2 := newNode(t)
	now := time.Now()
	if _, err := a.Issue(n, nil, nil, time.Hour, now); err == nil {
		t.Error("a credential for nobody was issued")
	}
	if _, err := a.Issue(n, []overlay.AOR{aor(t, "sip:alice@other.example")}, nil, time.Hour, now); err == nil {
		t.Error("a credential for a user of another overlay was issued")
	}
	if _, err := a.Issue(n, []overlay.AOR{aor(t, "sip:alice@p2psip.example")}, nil, -time.Hour, now); err == nil {
		t.Error("a credential with a negative life was issued")
	}
	pub, _ := n2.ExtractPublicKey()
	raw, _ := pub.Raw()
	derived := aor(t, "sip:"+overlay.DerivedUser(ed25519.PublicKey(raw))+"@p2psip.example")
	if _, err := a.Issue(n, []overlay.AOR{derived}, nil, time.Hour, now); err == nil {
		t.Error("a name derived from one key was given to another")
	}
}

// Under the open policy a name proves itself: the key's own derived name is accepted, nobody else's is, and no role.
func TestOpenPolicy(t *testing.T) {
	open := authority(t, overlay.DocumentOptions{Policy: overlay.PolicyOpen})
	certified := authority(t, overlay.DocumentOptions{})
	k, n := newNode(t)
	now := time.Now()
	c, err := overlay.SelfSigned(k, open.Document(), now)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Users()) != 1 || c.Node() != n || len(c.Roles()) != 0 {
		t.Errorf("self-signed for %v, %v", c.Users(), c.Roles())
	}
	if _, err := overlay.ParseCredentialPEM(c.PEM(), open.Document(), now); err != nil {
		t.Error(err)
	}
	if _, err := overlay.ParseCredentialPEM(c.PEM(), certified.Document(), now); !errors.Is(err, overlay.ErrBadCredential) {
		t.Errorf("a certified overlay took a self-signed credential: %v", err)
	}
	if _, err := overlay.SelfSigned(k, certified.Document(), now); err == nil {
		t.Error("a credential was made for a certified overlay without its root")
	}
	// The root may still hand out readable names and roles.
	r, err := open.Issue(n, []overlay.AOR{aor(t, "sip:alice@p2psip.example")}, []overlay.Role{overlay.RoleRelay}, time.Hour, now)
	if err != nil || !r.Permits(overlay.RoleRelay) {
		t.Errorf("issued in an open overlay: %v", err)
	}
	// A self-signed certificate that claims a readable name: made with another authority's help, shown here.
	forged, err := overlay.ForgeSelfSigned(k, open.Document(), []overlay.AOR{aor(t, "sip:alice@p2psip.example")}, nil, now)
	if err == nil {
		t.Errorf("a self-signed credential for alice was taken: %v", forged.Users())
	}
	if _, err := overlay.ForgeSelfSigned(k, open.Document(), c.Users(), []overlay.Role{overlay.RoleProxy}, now); err == nil {
		t.Error("a self-signed credential with a role was taken")
	}
	k2, _ := newNode(t)
	if _, err := overlay.ForgeSelfSigned(k2, open.Document(), c.Users(), nil, now); err == nil {
		t.Error("another's derived name was taken")
	}
}
