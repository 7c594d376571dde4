package network_test

import (
	"crypto/rand"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"p2psip/sim/network"
)

// TestDatagrams: a phone beside a node is a millisecond away, a place in the public network as far as the hosts are; what
// a silent house sends does not arrive.
func TestDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := network.New(network.Config{Seed: 1, Latency: network.Constant(80 * time.Millisecond)})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		h, err := n.AddHost(key, network.NoNAT)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		house := h.Place()
		public := n.AddPlace(network.PublicIP(1))
		open := func(p *network.Place, port uint16) *network.PacketConn {
			c, err := p.ListenPacket(port)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
		node, phone, far := open(house, 5060), open(house, 20000), open(public, 5060)
		if _, err := house.ListenPacket(5060); err == nil {
			t.Error("a port was opened twice")
		}
		took := func(from, to *network.PacketConn) time.Duration {
			begin := time.Now()
			if _, err := from.WriteTo([]byte("hello"), to.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 100)
			k, at, err := to.ReadFrom(b)
			if err != nil || string(b[:k]) != "hello" || at.String() != from.LocalAddr().String() {
				t.Fatalf("%q from %v, %v", b[:k], at, err)
			}
			return time.Since(begin)
		}
		if d := took(phone, node); d != time.Millisecond {
			t.Errorf("%v inside the house", d)
		}
		if d := took(node, far); d != 40*time.Millisecond {
			t.Errorf("%v to the public network", d)
		}
		n.Silence(h)
		node.WriteTo([]byte("lost"), far.LocalAddr())
		time.Sleep(time.Second)
		go func() { time.Sleep(time.Second); far.Close() }()
		if k, _, err := far.ReadFrom(make([]byte, 100)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%d bytes from a silent house, %v", k, err)
		}
	})
}
