package node

import (
	"net/netip"
	"testing"

	"p2psip/overlay"
	"p2psip/proxypeer"
)

// Nodes try a proxy peer for another one that asks through its control socket, as the registrar of the public names does.
func TestVoteByControl(t *testing.T) {
	u := newUniverse(t)
	start := func(dir string, public string) *Node {
		c := u.config(dir)
		c.Votes.Override = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.Votes.Network = func(n overlay.NodeID, _ netip.Addr) string { return n.String() }
		if public != "" {
			s, err := OpenPublic(public, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.ProxyPeer = &ProxyPeer{Sockets: []proxypeer.Socket{s}, Unlisted: true}
		}
		return u.start(c)
	}
	dir := u.home("alice")
	asker := start(dir, "")
	start(u.home("bob"), "")
	start(u.home("carol"), "")
	door := start(u.homeFor(nil, overlay.RoleProxy), "udp:127.0.0.71:0")
	until(t, "the proxy peer is advertised, and everybody connected", func() bool {
		_, err := asker.Overlay().AskRole(t.Context(), overlay.RoleProxy, door.ID())
		return err == nil && len(asker.Overlay().Connected()) == 3
	})
	res, err := Ask(testContext(t), dir, Request{Do: "vote", Node: door.ID().String()})
	if err != nil || len(res.Votes) != 2 || res.Votes[0].By == res.Votes[1].By || res.Votes[0].By == door.ID() {
		t.Errorf("%+v, %v", res.Votes, err)
	}
	if _, err := Ask(testContext(t), dir, Request{Do: "vote", Node: "nobody"}); err == nil {
		t.Error("a vote about nobody")
	}
}
