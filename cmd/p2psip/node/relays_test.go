package node

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"p2psip/overlay"
	"p2psip/relaypeer/client"
	"p2psip/relaypeer/datapath"
)

// relayPeer starts a node that relays, with a socket of each kind.
func (u *universe) relayPeer() *Node {
	u.t.Helper()
	c := u.config(u.homeFor(nil, overlay.RoleRelay))
	c.Relay = u.relayRole()
	return u.start(c)
}

// relayRole makes the role, with open sockets.
func (u *universe) relayRole() *RelayRole {
	u.t.Helper()
	loop, err := datapath.NewLoop(datapath.LoopOptions{})
	if err != nil {
		u.t.Fatal(err)
	}
	r := &RelayRole{Loop: loop, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AssumeReachable: true}
	tls, err := RelayTLS("", "", Config{})
	if err != nil {
		u.t.Fatal(err)
	}
	for _, at := range []string{"udp:127.0.0.1:0", "tcp:127.0.0.1:0", "tls:127.0.0.1:0"} {
		s, err := OpenRelay(loop, at, tls)
		if err != nil {
			r.Close()
			u.t.Fatal(err)
		}
		r.Sockets = append(r.Sockets, s)
	}
	return r
}

// A node finds the relay peers of its overlay by itself, is given credentials over a stream, and gets addresses at them.
func TestRelays(t *testing.T) {
	u := newUniverse(t)
	c := u.config(u.home("alice"))
	c.Media = &MediaConfig{PortMin: 21800, PortMax: 21819}
	alice := u.start(c)
	relays := map[overlay.NodeID]*Node{}
	for range 2 {
		r := u.relayPeer()
		relays[r.ID()] = r
	}
	ctx := testContext(t)
	var list []*client.Allocation
	for len(list) < 2 { // until both have been found
		for _, a := range list {
			_ = a.Close()
		}
		var err error
		if list, err = alice.relays.pool.Allocate(ctx, 3); ctx.Err() != nil {
			t.Fatalf("%d allocations, %v", len(list), err)
		}
		if len(list) < 2 {
			select {
			case <-time.After(50 * time.Millisecond): // they are being advertised
			case <-ctx.Done():
			}
		}
	}
	for _, a := range list {
		if relays[a.Relay()] == nil || a.Transport() != client.UDP {
			t.Errorf("an allocation at %s over %s", a.Relay(), a.Transport())
		}
	}
	// From one relay peer to the other.
	one, other := list[0], list[1]
	for _, x := range [][2]*client.Allocation{{one, other}, {other, one}} {
		if err := x[0].Permit(x[1].Relayed().Addr()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := one.WriteTo([]byte("hello"), other.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	_ = other.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, from, err := other.ReadFrom(b)
	if err != nil || !bytes.Equal(b[:n], []byte("hello")) || from.String() != one.Relayed().String() {
		t.Errorf("%q from %v, %v", b[:n], from, err)
	}
	if got := len(alice.relayServers()); got != 2 {
		t.Errorf("%d STUN servers", got)
	}
	if s := alice.Status().Relays; len(s) != 2 || s[0].Credential.IsZero() || s[0].Allocations == 0 || !s[0].Chosen || len(s[0].Servers) != 3 || s[0].Transport != "udp" {
		t.Errorf("status %+v", s)
	}

	// Over TLS, whose key came with the credential.
	p, err := client.New(client.Config{
		Overlay: alice.overlay, Credentials: alice.relayCredential, Ready: -1, Logger: alice.log, Permit: netip.Addr.IsLoopback,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if network == "udp" {
				return nil, net.ErrClosed
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if list, err = p.Allocate(ctx, 1); err != nil || list[0].Transport() == client.UDP {
		t.Fatalf("without UDP: %d allocations, %v", len(list), err)
	}

	// One that closes is missed by nobody: its allocations end, and the next ones are at the other.
	_ = relays[one.Relay()].Close()
	if err := one.Alive(ctx); err == nil {
		t.Error("an allocation at a relay peer that is closed is said to be alive")
	}
	<-one.Done()
	if list, err = alice.relays.pool.Allocate(ctx, 2); err != nil || len(list) != 1 || list[0].Relay() == one.Relay() {
		t.Errorf("after one has closed: %d allocations, %v", len(list), err)
	}
}
