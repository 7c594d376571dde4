package network

import (
	"context"
	"errors"
	"slices"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multiaddr"
)

// swarm is the host's side of connections: libp2p's network.Network.
type swarm struct{ h *Host }

var _ network.Network = swarm{}

// Peerstore is part of network.Network.
func (s swarm) Peerstore() peerstore.Peerstore { return s.h.store }

// LocalPeer is part of network.Network.
func (s swarm) LocalPeer() peer.ID { return s.h.id }

// DialPeer is part of network.Network.
func (s swarm) DialPeer(ctx context.Context, p peer.ID) (network.Conn, error) {
	c, err := s.h.dial(ctx, p)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ClosePeer is part of network.Network.
func (s swarm) ClosePeer(p peer.ID) error {
	for _, c := range s.to(p) {
		c.close()
	}
	return nil
}

func (s swarm) to(p peer.ID) []*conn {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	return slices.Clone(s.h.conns[p])
}

// Connectedness is part of network.Network.
func (s swarm) Connectedness(p peer.ID) network.Connectedness {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if len(s.h.conns[p]) > 0 {
		return network.Connected
	}
	return network.NotConnected
}

// Peers is part of network.Network; sorted.
func (s swarm) Peers() []peer.ID {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	out := make([]peer.ID, 0, len(s.h.conns))
	for p := range s.h.conns {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

// Conns is part of network.Network.
func (s swarm) Conns() []network.Conn { return asConns(s.h.connections()) }

// ConnsToPeer is part of network.Network.
func (s swarm) ConnsToPeer(p peer.ID) []network.Conn { return asConns(s.to(p)) }

func asConns(list []*conn) []network.Conn {
	out := make([]network.Conn, len(list))
	for i, c := range list {
		out[i] = c
	}
	return out
}

// Notify is part of network.Network.
func (s swarm) Notify(f network.Notifiee) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.h.notifiees = append(slices.Clone(s.h.notifiees), f)
}

// StopNotify is part of network.Network.
func (s swarm) StopNotify(f network.Notifiee) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.h.notifiees = slices.DeleteFunc(slices.Clone(s.h.notifiees), func(g network.Notifiee) bool { return g == f })
}

// CanDial is part of network.Network.
func (s swarm) CanDial(p peer.ID, _ multiaddr.Multiaddr) bool { return p != s.h.id }

// Close is part of network.Network.
func (s swarm) Close() error { return s.h.Close() }

// SetStreamHandler is part of network.Network. Streams are handled by protocol, so it has no use here.
func (s swarm) SetStreamHandler(network.StreamHandler) {}

// NewStream is part of network.Network.
func (s swarm) NewStream(ctx context.Context, p peer.ID) (network.Stream, error) {
	c, err := s.h.dial(ctx, p)
	if err != nil {
		return nil, err
	}
	return c.open("")
}

// Listen is part of network.Network.
func (s swarm) Listen(...multiaddr.Multiaddr) error {
	return errors.New("a simulated host listens where the network has put it")
}

// ListenAddresses is part of network.Network.
func (s swarm) ListenAddresses() []multiaddr.Multiaddr { return s.h.Addrs() }

// InterfaceListenAddresses is part of network.Network.
func (s swarm) InterfaceListenAddresses() ([]multiaddr.Multiaddr, error) { return s.h.Addrs(), nil }

// ResourceManager is part of network.Network.
func (s swarm) ResourceManager() network.ResourceManager { return &network.NullResourceManager{} }
