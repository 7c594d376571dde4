// Package overlaytest builds whole overlays for tests: an authority and any number of real peers on loopback.
package overlaytest

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"p2psip/overlay"
)

// Universe is an overlay with its peers.
type Universe struct {
	roles     func(i int) []overlay.Role
	Authority *overlay.Authority
	Peers     []*overlay.Peer // peer i speaks for sip:user<i>@ and for sip:shared@
	Configs   []overlay.Config
}

// ID names the overlays made here.
const ID = "p2psip.example"

// New starts an overlay of n peers, all joined through the first; they end with the test. adjust may change each peer's
// configuration.
func New(t testing.TB, n int, adjust func(i int, c *overlay.Config)) *Universe {
	t.Helper()
	return NewWithRoles(t, n, nil, adjust)
}

// NewWithRoles is New for an overlay in which peers may take roles.
func NewWithRoles(t testing.TB, n int, roles func(i int) []overlay.Role, adjust func(i int, c *overlay.Config)) *Universe {
	t.Helper()
	overlay.SilenceLibraries()
	a, err := overlay.NewAuthority(overlay.DocumentOptions{ID: ID}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	u := &Universe{Authority: a, roles: roles}
	for i := range n {
		c := u.Config(t, i)
		if adjust != nil {
			adjust(i, &c)
		}
		p := u.Start(t, c)
		u.Peers, u.Configs = append(u.Peers, p), append(u.Configs, c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, p := range u.Peers {
		if err := p.WaitJoined(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// Config gives the configuration of peer i: its own key, a credential, the first peer to bootstrap from.
func (u *Universe) Config(t testing.TB, i int) overlay.Config {
	t.Helper()
	key, err := overlay.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := overlay.Config{
		Key: key, Document: u.Authority.Document(),
		Credential: u.Entitle(t, key, u.rolesOf(i), fmt.Sprintf("user%d", i), "shared"),
		Listen:     []string{"/ip4/127.0.0.1/tcp/0"},
		PeersFile:  filepath.Join(dir, "peers.json"),
		StateFile:  filepath.Join(dir, "published.json"),
	}
	if len(u.Peers) > 0 {
		if c.Bootstrap, err = overlay.ParseBootstrap(u.Peers[0].Addrs()); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Credential issues a credential for users to the node with the given key.
func (u *Universe) Credential(t testing.TB, key crypto.PrivKey, users ...string) *overlay.Credential {
	t.Helper()
	return u.Entitle(t, key, nil, users...)
}

func (u *Universe) rolesOf(i int) []overlay.Role {
	if u.roles == nil {
		return nil
	}
	return u.roles(i)
}

// Entitle issues a credential for roles and users to the node with the given key.
func (u *Universe) Entitle(t testing.TB, key crypto.PrivKey, roles []overlay.Role, users ...string) *overlay.Credential {
	t.Helper()
	node, err := overlay.NodeOfKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var aors []overlay.AOR
	for _, s := range users {
		aors = append(aors, u.AOR(t, s))
	}
	cred, err := u.Authority.Issue(node, aors, roles, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

// AOR gives the address of a user.
func (u *Universe) AOR(t testing.TB, user string) overlay.AOR {
	t.Helper()
	a, err := u.Authority.Document().ID.AOR(user)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Start starts a peer that ends with the test.
func (u *Universe) Start(t testing.TB, c overlay.Config) *overlay.Peer {
	t.Helper()
	p, err := overlay.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}
