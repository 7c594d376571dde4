package sim

import (
	"context"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"p2psip/overlay"
	simnet "p2psip/sim/network"
	"p2psip/sim/result"
)

// clientHost is the light host of a node that does not answer the DHT's questions. Others see so in its list of protocols
// and do not take it into their tables; it asks as all do.
type clientHost struct{ *simnet.Host }

// SetStreamHandler is part of host.Host.
func (h clientHost) SetStreamHandler(p protocol.ID, f network.StreamHandler) {
	if !strings.HasSuffix(string(p), "/kad/1.0.0") {
		h.Host.SetStreamHandler(p, f)
	}
}

// hidden says whether strangers cannot connect to the node, because of its NAT.
func (n *node) hidden() bool {
	return n.nat.Present && (n.nat.Mapping != simnet.EndpointIndependent || n.nat.Filtering != simnet.EndpointIndependent)
}

// answers has a node take the streams that others open to it when they have found a user, in place of the SIP element that
// would be there.
func (n *node) answers(p *overlay.Peer) {
	if n.r.s.Connect {
		p.HandleStreams(func(s *overlay.Stream) { s.Close() })
	}
}

// connect has who has found a user open a stream to that user's node, as a call would begin. It ends when the far side has
// shown its credential.
func (r *run) connect(n *node, p *overlay.Peer, u *user, rec overlay.Record) {
	var addrs []string
	for _, e := range rec.Nodes {
		if e.Node == u.node.id {
			addrs = e.Addrs
		}
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(r.ctx, opTimeout)
	defer cancel()
	s, err := p.OpenStream(ctx, u.node.id, addrs)
	if err == nil {
		s.SetReadDeadline(begin.Add(opTimeout))
		// Nothing is said on it but the greeting, so that reading ends with an error either way; whether the greeting came is
		// what the member's credential tells.
		s.Read(make([]byte, 1))
		s.Reset()
	}
	ok := err == nil && s.Member.Entitled(u.aor)
	if r.ctx.Err() != nil || !n.has(p) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.place >= 0 { // it is still there
		r.connects = append(r.connects, &measured{result.Sample{At: begin.Sub(r.measured), Took: time.Since(begin), OK: ok}, nil})
	}
}
