package sim

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	production "p2psip/cmd/p2psip/node"
	"p2psip/interwork/phone"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
	"p2psip/sim/network"
	"p2psip/sim/result"
)

const (
	sipPort    = 5060
	phonePort  = 20000 // of a node's first phone
	soundPort  = 30000 // of a phone's first call; nothing is ever sent from it
	soundPorts = 30000
	// registration is for how long a phone registers, registerAgain how long it waits after a refusal.
	registration = 10 * time.Minute
	// maxCalls of one phone at a time: nobody is busy but those who want to be.
	maxCalls      = 1000
	registerAgain = 5 * time.Second
)

// startNode brings a whole node up, as the program's main does: registrar, proxy and overlay. Only nodes with phones need
// that; the others take part in the overlay alone.
func (n *node) startNode(h *network.Host, boot []peer.AddrInfo) (*production.Node, error) {
	r := n.r
	place := h.Place()
	udp, err := place.ListenPacket(sipPort)
	if err != nil {
		h.Close()
		return nil, err
	}
	var addrs []string
	for _, b := range boot {
		for _, a := range b.Addrs {
			addrs = append(addrs, a.String()+"/p2p/"+b.ID.String())
		}
	}
	border, err := n.proxyPeer(place)
	if err != nil {
		udp.Close()
		h.Close()
		return nil, err
	}
	return production.Start(production.Config{
		Identity:  &production.Identity{Key: n.key, Document: r.doc, Credential: n.cred, Secret: n.secret(), Accounts: n.accounts()},
		ProxyPeer: border,
		Host:      n.wrap(h), Bootstrap: addrs, UDP: udp, TCP: place.Quiet(sipPort), Trust: place.IP().String(),
		Timing: r.s.Timing, Random: rand.NewPCG(r.s.Seed, n.dice.Uint64()), Logger: slog.New(slog.DiscardHandler),
		Progress: func(s proxy.Step) { r.calls.step(n, s) },
	})
}

// secret gives the node's key for flow tokens, the same each time it comes back, as a real one's.
func (n *node) secret() []byte {
	d := rand.New(rand.NewPCG(n.r.s.Seed, 0x5ec<<40|uint64(n.index)))
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(d.Uint32())
	}
	return b
}

// startPhone connects a user's phone to its node and registers it; it goes on trying while the node is up.
func (r *run) startPhone(ctx context.Context, n *node, full *production.Node, u *user) {
	n.mu.Lock()
	h := n.host
	n.mu.Unlock()
	if h == nil {
		return
	}
	place := h.Place()
	slot := 0
	for n.users[slot] != u {
		slot++
	}
	pc, err := place.ListenPacket(uint16(phonePort + slot))
	if err != nil {
		r.fail(err)
		return
	}
	p, err := r.newPhone(place, pc, phone.Config{
		AOR: u.aor.String(), Outbound: full.SIP().String(), Incoming: func(c *phone.Call) { r.calls.incoming(c) },
	})
	if err != nil {
		pc.Close()
		r.fail(err)
		return
	}
	n.mu.Lock()
	gone := n.full != full
	if !gone {
		n.phones = append(n.phones, p)
	}
	n.mu.Unlock()
	if gone {
		p.Close()
		return
	}
	for {
		begin := time.Now()
		_, err := p.Register(ctx, registration)
		if ctx.Err() != nil {
			return // the node has gone meanwhile
		}
		r.calls.registered(result.Sample{At: begin.Sub(r.measured), Took: time.Since(begin), OK: err == nil})
		if err == nil {
			break
		}
		t := time.NewTimer(registerAgain)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.full == full && u.place < 0 {
		u.phone = p
		r.enter(u)
		r.calls.known(u)
	}
}

// newPhone makes a phone without sound.
func (r *run) newPhone(place *network.Place, pc *network.PacketConn, c phone.Config) (*phone.Phone, error) {
	c.Local, c.Silent, c.MaxCalls, c.Logger = pc, true, maxCalls, slog.New(slog.DiscardHandler)
	c.Media = r.calls.sockets(place)
	return phone.New(c)
}

// closePhones ends the phones of a node that goes down. They live and die with it: the house has lost its power, or its
// owner has shut the machine down.
func closePhones(phones []*phone.Phone) {
	for _, p := range phones {
		p.Close()
	}
}

// isUp says whether a node takes part at present.
func (r *run) isUp(id overlay.NodeID) bool {
	n := r.byID[id]
	if n == nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peer != nil && !n.host.Silent()
}
