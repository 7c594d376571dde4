package overlay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/multiformats/go-multiaddr"
)

// A node behind a NAT can connect to others and nobody can connect to it. So it asks nodes with public addresses to be reached
// through them (libp2p's circuit relay, version 2) and names those ways in what it publishes. Over a circuit go streams
// between members, which are small: signalling. They are encrypted from end to end, so the node between sees who talks to whom
// and no more. The DHT does without circuits: who cannot be reached is passed over there.

const (
	// wantCircuits is how many nodes one behind a NAT is reached through: one, and another when that dies.
	wantCircuits = 2
	// maxCircuitAddrs is how many addresses of each of them are named.
	maxCircuitAddrs = 2
	// lookForCircuits is the pause between looks at whether there are enough, and firstLooks how often there is none but
	// lookAtOnce, after the start.
	lookForCircuits = 15 * time.Second
	lookAtOnce      = time.Second
	firstLooks      = 30
	// circuitTime is what asking one node may take, and circuitRefused how long it is not asked again if it will not; longer
	// each time. It may only not know yet that this is a member.
	circuitTime    = 5 * time.Second
	circuitRefused = 2 * time.Second
	maxRefused     = 5 * time.Minute
)

// What a node with a public address does for those without: libp2p's defaults are for a public network of strangers, and its
// two minutes for less than a call.
const (
	circuitLife   = time.Hour // of a reservation
	circuitFor    = 2 * time.Hour
	circuitBytes  = 4 << 20 // each way
	maxReserved   = 512
	maxReservedIP = connsPerAddress
	maxCircuits   = 32 // of one node
)

// circuits is what a node does about NATs: its own, and those of others.
type circuits struct {
	o    *Peer
	wake chan struct{}

	mu       sync.Mutex             // guards all below
	held     map[NodeID]reservation // where this node can be reached through others
	refused  map[NodeID]refusal     // nodes that would not
	searched time.Time              // when strangers last searched

	serving *relay.Relay // nil: this node has no public address
	stop    func()
}

// reservation is the word of a node that this one can be reached through it.
type reservation struct {
	addrs []string // with /p2p-circuit at the end
	renew time.Time
}

// refusal is a node that would not have this one be reached through it.
type refusal struct {
	times int
	until time.Time // when it may be asked again
	end   time.Time // when it is forgotten
}

// newCircuits makes the node serve those behind NATs, if it has a public address, and look for its own way in, if it has none.
func newCircuits(o *Peer) (*circuits, error) {
	c := &circuits{o: o, wake: make(chan struct{}, 1), held: map[NodeID]reservation{}, refused: map[NodeID]refusal{}, stop: func() {}}
	if slices.ContainsFunc(o.interfaces(), o.public) {
		var err error
		c.serving, err = relay.New(o.host, relay.WithACL(circuitMembers{o}), relay.WithReservationAddressFilter(o.public), relay.WithResources(relay.Resources{
			Limit:          &relay.RelayLimit{Duration: circuitFor, Data: circuitBytes},
			ReservationTTL: circuitLife, MaxReservations: maxReserved, MaxCircuits: maxCircuits, BufferSize: 2048,
			MaxReservationsPerIP: maxReservedIP, MaxReservationsPerASN: maxReserved,
		}))
		return c, err
	}
	notify := &network.NotifyBundle{DisconnectedF: func(_ network.Network, conn network.Conn) { c.gone(conn.RemotePeer()) }}
	o.host.Network().Notify(notify)
	c.stop = func() { o.host.Network().StopNotify(notify) }
	return c, nil
}

func (c *circuits) close() error {
	c.stop()
	if c.serving == nil {
		return nil
	}
	return c.serving.Close()
}

// interfaces gives the addresses of this machine that the node listens on, and not those that others have seen it at.
func (o *Peer) interfaces() []multiaddr.Multiaddr {
	addrs, err := o.host.Network().InterfaceListenAddresses()
	if err != nil {
		return nil
	}
	return addrs
}

// hidden says that this node listens on no public address.
func (o *Peer) hidden() bool { return !slices.ContainsFunc(o.interfaces(), o.public) }

// addrs gives the ways through others to this node.
func (c *circuits) addrs() (out []string) {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.held {
		out = append(out, r.addrs...)
	}
	slices.Sort(out)
	return out
}

// gone forgets a node that this one was reached through when the last connection with it has ended.
func (c *circuits) gone(n NodeID) {
	if c.o.host.Network().Connectedness(n) == network.Connected {
		return
	}
	c.mu.Lock()
	_, held := c.held[n]
	delete(c.held, n)
	if held {
		c.searched = time.Time{}
	}
	c.mu.Unlock()
	if held {
		c.o.host.ConnManager().Unprotect(n, "circuit")
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// keep sees to it that this node can be reached, until it closes.
func (c *circuits) keep() {
	if c.serving != nil {
		return
	}
	for n := 0; c.o.ctx.Err() == nil; n++ {
		if c.o.hidden() && c.look() {
			c.o.regs.renew()
			c.o.roles.renew()
		}
		wait := lookForCircuits
		if n < firstLooks {
			wait = lookAtOnce
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-c.wake:
		case <-c.o.ctx.Done():
		}
		t.Stop()
	}
}

// look renews what is due and asks further nodes as long as there are too few. It says whether the addresses have changed.
func (c *circuits) look() (changed bool) {
	before := c.addrs()
	now := c.o.now()
	c.mu.Lock()
	var due []NodeID
	for n, r := range c.held {
		if now.After(r.renew) {
			due = append(due, n)
		}
	}
	missing := wantCircuits - len(c.held)
	for n, r := range c.refused {
		if now.After(r.end) {
			delete(c.refused, n)
		}
	}
	c.mu.Unlock()
	for _, n := range due {
		c.ask(n)
	}
	for _, candidates := range []func() []NodeID{c.candidates, c.strangers} {
		if missing <= 0 {
			break
		}
		for _, n := range candidates() {
			if c.o.ctx.Err() != nil || missing <= 0 {
				break
			}
			if c.ask(n) {
				missing--
			}
		}
	}
	return !slices.Equal(before, c.addrs())
}

// passed says that a node is not to be asked now.
func (c *circuits) passed(n NodeID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, held := c.held[n]
	return held || n == c.o.host.ID() || c.o.now().Before(c.refused[n].until)
}

// strangers searches the overlay for nodes with a public address, somewhere at random, now and then.
func (c *circuits) strangers() (out []NodeID) {
	now := c.o.now()
	c.mu.Lock()
	early := now.Before(c.searched.Add(lookForCircuits))
	if !early {
		c.searched = now
	}
	c.mu.Unlock()
	if early {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.o.ctx, c.o.timing.Walk)
	defer cancel()
	var mu sync.Mutex
	c.o.newWalk(fmt.Sprint("a way in ", rand.Uint64()), func(ctx context.Context, p NodeID, _ int) ([]*peer.AddrInfo, error) {
		closer, err := c.o.messenger.GetClosestPeers(ctx, p, p)
		mu.Lock()
		defer mu.Unlock()
		for _, ai := range closer {
			if len(out) < 2*wantCircuits && slices.ContainsFunc(ai.Addrs, c.o.public) && !slices.Contains(out, ai.ID) && !c.passed(ai.ID) {
				c.o.host.Peerstore().AddAddrs(ai.ID, boundAddrs(ai.Addrs), peerstore.TempAddrTTL)
				out = append(out, ai.ID)
			}
		}
		return closer, err
	}).run(ctx)
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(out)
}

// candidates gives the nodes that could be asked: first those that are connected at a public address and known to be willing,
// then a few others that have one.
func (c *circuits) candidates() (out []NodeID) {
	h := c.o.host
	passed := func(n NodeID) bool { return slices.Contains(out, n) || c.passed(n) }
	for _, conn := range h.Network().Conns() {
		n := conn.RemotePeer()
		if conn.Stat().Limited || !c.o.public(conn.RemoteMultiaddr()) || passed(n) {
			continue
		}
		if p, err := h.Peerstore().SupportsProtocols(n, proto.ProtoIDv2Hop); err == nil && len(p) > 0 {
			out = append(out, n)
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	others := c.o.dht.RoutingTable().ListPeers()
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	for _, n := range others {
		if len(out) < wantCircuits && !passed(n) && h.Network().Connectedness(n) != network.Connected && slices.ContainsFunc(h.Peerstore().Addrs(n), c.o.public) {
			out = append(out, n)
		}
	}
	return out
}

// ask has a node agree to this one being reached through it, or does so again.
func (c *circuits) ask(n NodeID) bool {
	o := c.o
	ctx, cancel := context.WithTimeout(o.ctx, circuitTime)
	defer cancel()
	res, err := client.Reserve(ctx, o.host, o.host.Peerstore().PeerInfo(n))
	now := o.now()
	var addrs []string
	if err == nil {
		for _, a := range res.Addrs {
			if len(addrs) < maxCircuitAddrs && len(a.Bytes()) < maxAddr-8 && o.public(a) {
				if !overOther(a) {
					a = a.Encapsulate(circuitPart)
				}
				addrs = append(addrs, a.String())
			}
		}
		if len(addrs) == 0 {
			err = errors.New("it names no public address of its own")
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if o.ctx.Err() == nil {
			o.log.Debug("a node does not have this one be reached through it", "node", n, "error", err)
		}
		delete(c.held, n)
		r := c.refused[n]
		r.until = now.Add(min(circuitRefused<<min(r.times, 10), maxRefused))
		r.times, r.end = r.times+1, r.until.Add(maxRefused)
		c.refused[n] = r
		return false
	}
	delete(c.refused, n)
	o.host.ConnManager().Protect(n, "circuit")
	c.held[n] = reservation{addrs: addrs, renew: now.Add(res.Expiration.Sub(now) / 2)}
	return true
}

// overOther says that an address leads through another node.
func overOther(a multiaddr.Multiaddr) bool {
	_, err := a.ValueForProtocol(multiaddr.P_CIRCUIT)
	return err == nil
}

var circuitPart = multiaddr.StringCast("/p2p-circuit")

// circuitMembers lets nodes of this overlay use circuits, which is seen from what they speak: that protocol's name holds the
// hash of the overlay's root.
type circuitMembers struct{ o *Peer }

var _ relay.ACLFilter = circuitMembers{}

// AllowReserve implements relay.ACLFilter.
func (m circuitMembers) AllowReserve(n NodeID, _ multiaddr.Multiaddr) bool { return m.speaks(n) }

// AllowConnect implements relay.ACLFilter.
func (m circuitMembers) AllowConnect(from NodeID, _ multiaddr.Multiaddr, to NodeID) bool {
	return m.speaks(from) && m.speaks(to)
}

func (m circuitMembers) speaks(n NodeID) bool {
	p, err := m.o.host.Peerstore().SupportsProtocols(n, m.o.protocol(ServiceSIP))
	return err == nil && len(p) > 0
}

// direct keeps a stream, or a connection, from going through another node.
func direct(ctx context.Context) context.Context {
	return network.WithForceDirectDial(ctx, "the DHT does without circuits")
}

// overCircuit lets a stream, or the connection for it, go through another node.
func overCircuit(ctx context.Context) context.Context {
	return network.WithAllowLimitedConn(ctx, "streams between members are small")
}
