package node

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"p2psip/overlay"
	"p2psip/relaypeer/client"
	"p2psip/relaypeer/credential"
)

// RelayStep is what a node does about relay peers (draft §5.1, steps 1 to 4 and 7 to 10).
type RelayStep string

// The steps, in the order in which they come the first time.
const (
	RelayAsked RelayStep = "asked" // the overlay, for relay peers: "Get Relay"
	RelayFound RelayStep = "found" // "Response"
	RelayInit  RelayStep = "init"  // a relay peer is asked for a credential, and then for an address: "Init Relay"
	RelayOK    RelayStep = "ok"    // it has given one
)

// RelayEvent is one such step; see MediaConfig.RelayTrace.
type RelayEvent struct {
	Time  time.Time
	Step  RelayStep
	Found int            // RelayFound: relay peers
	Node  overlay.NodeID // RelayInit, RelayOK: the relay peer
	Addr  netip.AddrPort // RelayOK: the relayed address
	Err   error          // RelayFound, RelayOK: it did not work
}

// FindRelays asks the overlay for relay peers that this node may use, whether it has a use for them or not.
func (n *Node) FindRelays(ctx context.Context) (found []overlay.NodeID, err error) {
	list, err := n.overlay.Find(ctx, overlay.RoleRelay, maxWanted)
	if c := n.cfg.Media; c != nil && len(c.RelayPeers) > 0 {
		list, err = relaySearch{n.overlay, c, n.cfg.Now}.wanted(ctx, overlay.RoleRelay, list, err)
	}
	for _, a := range list {
		found = append(found, a.Node)
	}
	return found, err
}

// relaySearch is the overlay as the search for relay peers sees it: within the bounds of the configuration, and watched.
type relaySearch struct {
	*overlay.Peer
	c   *MediaConfig
	now func() time.Time
}

var _ client.Overlay = relaySearch{}

func (s relaySearch) tell(e RelayEvent) {
	if s.c.RelayTrace != nil {
		e.Time = s.now()
		s.c.RelayTrace(e)
	}
}

// Find implements client.Overlay.
func (s relaySearch) Find(ctx context.Context, r overlay.Role, n int) ([]overlay.Advert, error) {
	s.tell(RelayEvent{Step: RelayAsked})
	list, err := s.Peer.Find(ctx, r, n)
	if len(s.c.RelayPeers) > 0 {
		list, err = s.wanted(ctx, r, list, err)
	}
	s.tell(RelayEvent{Step: RelayFound, Found: len(list), Err: err})
	return list, err
}

// A search ends when it has found some; those that are wanted may be found by one of the next.
const (
	wantedTries = 5
	wantedPause = 50 * time.Millisecond
)

// wanted leaves of what was found what is to be used, and searches on if that is nothing. The overlay is told to pass over the
// others: it would go on naming those that it has found before.
func (s relaySearch) wanted(ctx context.Context, r overlay.Role, list []overlay.Advert, err error) ([]overlay.Advert, error) {
	for try := 1; ; try++ {
		var wanted []overlay.Advert
		for _, a := range list {
			if slices.Contains(s.c.RelayPeers, a.Node) {
				wanted = append(wanted, a)
			}
		}
		for _, a := range list {
			if len(wanted) == 0 {
				s.Peer.Failed(r, a.Node)
			}
		}
		list = wanted
		if err != nil || len(list) > 0 || try == wantedTries {
			return list, err
		}
		select {
		case <-time.After(wantedPause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		list, err = s.Peer.Find(ctx, r, maxWanted)
	}
}

// maxWanted is more relay peers than one search finds.
const maxWanted = 16

// credentials watches how a relay peer is asked for a credential.
func (s relaySearch) credentials(ask func(context.Context, overlay.Advert) (credential.Grant, error)) func(context.Context, overlay.Advert) (credential.Grant, error) {
	return func(ctx context.Context, a overlay.Advert) (credential.Grant, error) {
		s.tell(RelayEvent{Step: RelayInit, Node: a.Node})
		g, err := ask(ctx, a)
		if err != nil {
			s.tell(RelayEvent{Step: RelayOK, Node: a.Node, Err: err})
		}
		return g, err
	}
}

// gave tells of the addresses that there are now.
func (s relaySearch) gave(list []*client.Allocation) {
	for _, a := range list {
		s.tell(RelayEvent{Step: RelayOK, Node: a.Relay(), Addr: a.Relayed()})
	}
}
