package overlay_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"

	"p2psip/overlay"
	"p2psip/overlay/overlaytest"
)

// TestCircuits: nodes 0 to 2 have public addresses, 3 and 4 have none. Node 4 is reached through the others, and through another
// one when that is gone.
func TestCircuits(t *testing.T) {
	public := func(a multiaddr.Multiaddr) bool { return strings.HasPrefix(a.String(), "/ip4/127.0.0.5/") }
	u := overlaytest.New(t, 5, func(i int, c *overlay.Config) {
		c.Public = public
		if i < 3 {
			c.Listen = []string{"/ip4/127.0.0.5/tcp/0"}
			return
		}
		h, err := overlay.NewHost(overlay.HostConfig{Key: c.Key, Listen: c.Listen, Dial: func(a multiaddr.Multiaddr) (tcp.ContextDialer, error) {
			if !public(a) {
				return nil, errors.New("nobody gets in there")
			}
			return &net.Dialer{}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		c.Host = h
	})
	from, to := u.Peers[3], u.Peers[4]
	got := make(chan string, 4)
	for _, p := range u.Peers {
		p.HandleStreams(func(s *overlay.Stream) {
			defer s.Close()
			b := make([]byte, 5)
			n, _ := s.Read(b)
			if strings.Contains(s.Conn().RemoteMultiaddr().String(), "p2p-circuit") {
				got <- string(b[:n])
			} else {
				got <- "not over a circuit"
			}
		})
	}
	ways := func(p *overlay.Peer) []string {
		w, _ := p.Through()
		return w
	}
	eventually(t, "the node is reached through two others", func() bool { return len(ways(to)) == 2 })
	if _, hidden := to.Through(); !hidden {
		t.Error("a node without a public address does not count as hidden")
	}
	if _, hidden := u.Peers[0].Through(); hidden {
		t.Error("a public node counts as hidden")
	}
	say := func(w string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := from.Disconnect(to.ID()); err != nil {
			t.Fatal(err)
		}
		s, err := from.OpenStream(ctx, to.ID(), []string{w})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := s.Greeted(); err != nil || !s.Member.Entitled(u.AOR(t, "user4")) {
			t.Errorf("the greeting of the far side: %v", err)
		}
		if text := <-got; text != "hello" {
			t.Errorf("the far side got %q", text)
		}
	}
	before := ways(to)
	for _, w := range before {
		say(w)
	}
	// One of the two ends: the third takes its place.
	for _, p := range u.Peers[:3] {
		if strings.Contains(before[0], "/p2p/"+p.ID().String()+"/") {
			p.Close()
		}
	}
	eventually(t, "another node has taken its place", func() bool {
		w := ways(to)
		return len(w) == 2 && w[0] != before[0] && w[1] != before[0]
	})
	for _, w := range ways(to) {
		say(w)
	}
}
