package network

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
)

// Peerstore is what a host knows of others: addresses with their time to live (one for all addresses of a peer),
// protocols, round trips. It shares the addresses themselves with all other hosts.
type Peerstore struct {
	net *Network

	mu    sync.Mutex
	peers map[peer.ID]*known // guarded by mu
	sweep int                // guarded by mu: size at which what has expired is thrown out
}

type known struct {
	addrs   []multiaddr.Multiaddr // replaced, never changed
	ttl     time.Duration
	expires time.Time
	protos  []protocol.ID
	latency time.Duration
	meta    map[string]any
}

var _ peerstore.Peerstore = (*Peerstore)(nil)

func newPeerstore(n *Network) *Peerstore {
	return &Peerstore{net: n, peers: map[peer.ID]*known{}, sweep: 256}
}

// entry gives what is known of a peer, making room for it. ps.mu is held.
func (ps *Peerstore) entry(p peer.ID) *known {
	k := ps.peers[p]
	if k == nil {
		if len(ps.peers) >= ps.sweep {
			now := time.Now()
			for q, o := range ps.peers {
				if o.meta == nil && !now.Before(o.expires) {
					delete(ps.peers, q)
				}
			}
			ps.sweep = max(256, 2*len(ps.peers))
		}
		k = &known{}
		ps.peers[p] = k
	}
	return k
}

func (k *known) living(now time.Time) []multiaddr.Multiaddr {
	if !now.Before(k.expires) {
		return nil
	}
	return k.addrs
}

func expiry(now time.Time, ttl time.Duration) time.Time {
	if ttl >= peerstore.ConnectedAddrTTL-1 {
		ttl = 1000 * time.Hour
	}
	return now.Add(ttl)
}

// set notes addresses. An equal list is taken from the network, so that all hosts share one.
func (ps *Peerstore) set(p peer.ID, addrs []multiaddr.Multiaddr, ttl time.Duration, replace bool) {
	if len(addrs) == 0 || ttl <= 0 && !replace {
		return
	}
	now := time.Now()
	shared := ps.net.addresses(p)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	k := ps.entry(p)
	all := addrs
	if !replace {
		all = slices.Clip(k.living(now))
		for _, a := range addrs {
			if !slices.ContainsFunc(all, a.Equal) {
				all = append(all, a)
			}
		}
	}
	if slices.EqualFunc(all, shared, func(a, b multiaddr.Multiaddr) bool { return a.Equal(b) }) {
		all = shared
	}
	if k.expires.Before(expiry(now, ttl)) || replace {
		k.expires, k.ttl = expiry(now, ttl), ttl
	}
	k.addrs = all
}

// addresses gives the shared list of a peer's addresses, nil where there is no such host.
func (n *Network) addresses(p peer.ID) []multiaddr.Multiaddr {
	if h := n.host(p); h != nil {
		return h.addrs
	}
	return nil
}

func (ps *Peerstore) connected(p peer.ID, addrs []multiaddr.Multiaddr) {
	ps.set(p, addrs, peerstore.ConnectedAddrTTL, true)
}

func (ps *Peerstore) disconnected(p peer.ID) {
	ps.UpdateAddrs(p, peerstore.ConnectedAddrTTL, peerstore.RecentlyConnectedAddrTTL)
}

// AddAddr is part of peerstore.Peerstore.
func (ps *Peerstore) AddAddr(p peer.ID, a multiaddr.Multiaddr, ttl time.Duration) {
	ps.set(p, []multiaddr.Multiaddr{a}, ttl, false)
}

// AddAddrs is part of peerstore.Peerstore.
func (ps *Peerstore) AddAddrs(p peer.ID, a []multiaddr.Multiaddr, ttl time.Duration) {
	ps.set(p, a, ttl, false)
}

// SetAddr is part of peerstore.Peerstore.
func (ps *Peerstore) SetAddr(p peer.ID, a multiaddr.Multiaddr, ttl time.Duration) {
	ps.set(p, []multiaddr.Multiaddr{a}, ttl, true)
}

// SetAddrs is part of peerstore.Peerstore.
func (ps *Peerstore) SetAddrs(p peer.ID, a []multiaddr.Multiaddr, ttl time.Duration) {
	ps.set(p, a, ttl, true)
}

// UpdateAddrs is part of peerstore.Peerstore.
func (ps *Peerstore) UpdateAddrs(p peer.ID, oldTTL, newTTL time.Duration) {
	now := time.Now()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if k := ps.peers[p]; k != nil && k.ttl == oldTTL && now.Before(k.expires) {
		k.ttl, k.expires = newTTL, expiry(now, newTTL)
	}
}

// Addrs is part of peerstore.Peerstore.
func (ps *Peerstore) Addrs(p peer.ID) []multiaddr.Multiaddr {
	now := time.Now()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if k := ps.peers[p]; k != nil {
		return slices.Clip(k.living(now))
	}
	return nil
}

// AddrStream is part of peerstore.Peerstore: the addresses of the moment.
func (ps *Peerstore) AddrStream(_ context.Context, p peer.ID) <-chan multiaddr.Multiaddr {
	list := ps.Addrs(p)
	c := make(chan multiaddr.Multiaddr, len(list))
	for _, a := range list {
		c <- a
	}
	close(c)
	return c
}

// ClearAddrs is part of peerstore.Peerstore.
func (ps *Peerstore) ClearAddrs(p peer.ID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if k := ps.peers[p]; k != nil {
		k.addrs, k.expires = nil, time.Time{}
	}
}

// PeersWithAddrs is part of peerstore.Peerstore.
func (ps *Peerstore) PeersWithAddrs() peer.IDSlice {
	now := time.Now()
	return ps.list(func(k *known) bool { return len(k.living(now)) > 0 })
}

// Peers is part of peerstore.Peerstore.
func (ps *Peerstore) Peers() peer.IDSlice { return ps.list(func(*known) bool { return true }) }

func (ps *Peerstore) list(f func(*known) bool) peer.IDSlice {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var out peer.IDSlice
	for p, k := range ps.peers {
		if f(k) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// PeerInfo is part of peerstore.Peerstore.
func (ps *Peerstore) PeerInfo(p peer.ID) peer.AddrInfo {
	return peer.AddrInfo{ID: p, Addrs: ps.Addrs(p)}
}

// RemovePeer is part of peerstore.Peerstore.
func (ps *Peerstore) RemovePeer(p peer.ID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.peers, p)
}

// GetProtocols is part of peerstore.Peerstore.
func (ps *Peerstore) GetProtocols(p peer.ID) ([]protocol.ID, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if k := ps.peers[p]; k != nil {
		return slices.Clone(k.protos), nil
	}
	return nil, nil
}

// AddProtocols is part of peerstore.Peerstore.
func (ps *Peerstore) AddProtocols(p peer.ID, protos ...protocol.ID) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	k := ps.entry(p)
	for _, pr := range protos {
		if !slices.Contains(k.protos, pr) {
			k.protos = append(slices.Clip(k.protos), pr)
		}
	}
	return nil
}

// SetProtocols is part of peerstore.Peerstore. It keeps the slice.
func (ps *Peerstore) SetProtocols(p peer.ID, protos ...protocol.ID) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.entry(p).protos = protos
	return nil
}

// RemoveProtocols is part of peerstore.Peerstore.
func (ps *Peerstore) RemoveProtocols(p peer.ID, protos ...protocol.ID) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if k := ps.peers[p]; k != nil {
		k.protos = slices.DeleteFunc(slices.Clone(k.protos), func(pr protocol.ID) bool { return slices.Contains(protos, pr) })
	}
	return nil
}

// SupportsProtocols is part of peerstore.Peerstore.
func (ps *Peerstore) SupportsProtocols(p peer.ID, protos ...protocol.ID) ([]protocol.ID, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var out []protocol.ID
	if k := ps.peers[p]; k != nil {
		for _, pr := range protos {
			if slices.Contains(k.protos, pr) {
				out = append(out, pr)
			}
		}
	}
	return out, nil
}

// FirstSupportedProtocol is part of peerstore.Peerstore.
func (ps *Peerstore) FirstSupportedProtocol(p peer.ID, protos ...protocol.ID) (protocol.ID, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if k := ps.peers[p]; k != nil {
		for _, pr := range protos {
			if slices.Contains(k.protos, pr) {
				return pr, nil
			}
		}
	}
	return "", nil
}

// RecordLatency is part of peerstore.Peerstore.
func (ps *Peerstore) RecordLatency(p peer.ID, d time.Duration) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	k := ps.entry(p)
	if k.latency == 0 {
		k.latency = d
	} else {
		k.latency = (9*k.latency + d) / 10
	}
}

// LatencyEWMA is part of peerstore.Peerstore.
func (ps *Peerstore) LatencyEWMA(p peer.ID) time.Duration {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if k := ps.peers[p]; k != nil {
		return k.latency
	}
	return 0
}

// Get is part of peerstore.Peerstore.
func (ps *Peerstore) Get(p peer.ID, key string) (any, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if k := ps.peers[p]; k != nil {
		if v, ok := k.meta[key]; ok {
			return v, nil
		}
	}
	return nil, peerstore.ErrNotFound
}

// Put is part of peerstore.Peerstore.
func (ps *Peerstore) Put(p peer.ID, key string, val any) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	k := ps.entry(p)
	if k.meta == nil {
		k.meta = map[string]any{}
	}
	k.meta[key] = val
	return nil
}

// PubKey is part of peerstore.Peerstore: Ed25519 keys are in the peer's name.
func (ps *Peerstore) PubKey(p peer.ID) crypto.PubKey {
	k, err := p.ExtractPublicKey()
	if err != nil {
		return nil
	}
	return k
}

// AddPubKey is part of peerstore.Peerstore.
func (ps *Peerstore) AddPubKey(peer.ID, crypto.PubKey) error { return nil }

// PrivKey is part of peerstore.Peerstore: the host knows its own, nobody needs it here.
func (ps *Peerstore) PrivKey(peer.ID) crypto.PrivKey { return nil }

// AddPrivKey is part of peerstore.Peerstore.
func (ps *Peerstore) AddPrivKey(peer.ID, crypto.PrivKey) error { return nil }

// PeersWithKeys is part of peerstore.Peerstore.
func (ps *Peerstore) PeersWithKeys() peer.IDSlice { return nil }

// Close is part of peerstore.Peerstore.
func (ps *Peerstore) Close() error { return nil }
