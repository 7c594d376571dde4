package node

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"p2psip/dnsreg"
	"p2psip/overlay"
)

// controlVote bounds how long members are asked about a proxy peer.
const controlVote = 40 * time.Second

// startVoting has the node try proxy peers for those who ask whether others reach them (dnsreg, policy quorum).
func (n *Node) startVoting(oid overlay.ID) error {
	if n.cfg.Host != nil {
		return nil // in the simulation there is no network to try anything in
	}
	b, err := dnsreg.NewBooth(dnsreg.VoterConfig{OID: oid, Members: n.overlay, Override: n.cfg.Votes.Override, Network: n.cfg.Votes.Network, Now: n.cfg.Now})
	if err != nil {
		return err
	}
	n.booth = b
	n.overlay.HandleService(overlay.ServiceVote, b.Serve)
	return nil
}

func (n *Node) closeVoting() {
	if n.booth != nil {
		n.overlay.HandleService(overlay.ServiceVote, nil)
		n.booth.Close()
	}
}

// vote asks others whether they reach a proxy peer, for the control socket.
func (n *Node) vote(ctx context.Context, node string) ([]dnsreg.Vote, error) {
	id, err := peer.Decode(node)
	if err != nil {
		return nil, err
	}
	if n.booth == nil {
		return nil, overlay.ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, controlVote)
	defer cancel()
	return n.booth.Vote(ctx, dnsreg.Peer{Node: id})
}
