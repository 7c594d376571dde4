package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"p2psip/overlay"
	"p2psip/relaypeer"
	"p2psip/relaypeer/client"
)

// TestRelayPeerDrains: a relay peer that is to stop tells the overlay first, takes nothing new, lets a call go on for a while and
// ends then.
func TestRelayPeerDrains(t *testing.T) {
	u := newUniverse(t)
	alice := u.start(u.config(u.home("alice")))
	alice.overlay.SetFinding(overlay.FindNaive) // without a memory of what it has found before
	relay := u.relayPeer()
	relay.cfg.Relay.Drain = time.Second
	p, err := client.New(client.Config{Overlay: alice.overlay, Credentials: alice.relayCredential, Ready: -1, Logger: alice.log, Permit: netip.Addr.IsLoopback})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx := testContext(t)
	var list []*client.Allocation
	for len(list) == 0 {
		if list, err = p.Allocate(ctx, 1); ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	a := list[0]
	peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	talk := func() bool { // a packet each way
		b := make([]byte, 100)
		for range 10 {
			_, _ = a.WriteTo([]byte("hello"), peer.LocalAddr())
			_ = peer.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, _, err := peer.ReadFrom(b); err == nil {
				return true
			}
		}
		return false
	}
	if !talk() {
		t.Fatal("nothing is relayed")
	}
	for relay.Relayed() == 0 { // it is noticed with the next tick
		talk()
	}
	closed := make(chan error, 1)
	start := time.Now()
	go func() { closed <- relay.Close() }()
	for !relay.Status().Relay.Draining {
		time.Sleep(5 * time.Millisecond)
	}
	if !talk() {
		t.Error("the call ends at once")
	}
	soon, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if more, err := p.Allocate(soon, 1); err == nil {
		t.Errorf("it takes new ones: %s", more[0].Relayed())
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d < time.Second || d > 10*time.Second {
		t.Errorf("it took %s", d)
	}
	if _, err := alice.overlay.Find(ctx, overlay.RoleRelay, 1); err == nil {
		t.Error("it is still advertised")
	}
}

// TestRelayPeerNotPermitted: without the role in the credential a node does not start as a relay peer, and leaves nothing open.
func TestRelayPeerNotPermitted(t *testing.T) {
	u := newUniverse(t)
	c := u.config(u.home("alice"))
	c.Relay = u.relayRole()
	at := c.Relay.Sockets[0].Front.LocalAddr().String()
	n, err := Start(c)
	if err == nil {
		n.Close()
	}
	if !errors.Is(err, relaypeer.ErrNotPermitted) {
		t.Errorf("got %v", err)
	}
	l, err := net.ListenPacket("udp4", at)
	if err != nil {
		t.Fatalf("a socket is still open: %v", err)
	}
	l.Close()
}
