package overlay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	kb "github.com/libp2p/go-libp2p-kbucket"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Config says how a peer takes part in an overlay.
type Config struct {
	Key        crypto.PrivKey // the node key
	Document   *Document
	Credential *Credential

	// Host is the libp2p host to use; nil makes one from Listen. The simulation brings its own. Close closes it.
	Host   host.Host
	Listen []string // multiaddrs

	Bootstrap []peer.AddrInfo // to be tried besides those of the document
	PeersFile string          // where to remember nodes met, "" to forget them
	StateFile string          // where to remember what was published, "" to forget it
	LAN       bool            // look for members in the local network by mDNS

	// Public says which addresses everybody can reach; nil: those of the public Internet. A node without one has others pass
	// streams on to it; with a Host of somebody else's making, only if Public is given.
	Public func(multiaddr.Multiaddr) bool

	Timing Timing
	Now    func() time.Time // nil: time.Now
	Random rand.Source      // spreads what nodes would else do at the same time; nil: the runtime's. The simulation gives a seeded one
	Logger *slog.Logger     // nil: none
}

// Peer is this node's place in the overlay.
type Peer struct {
	key       crypto.PrivKey
	doc       *Document
	cred      atomic.Pointer[Credential]
	host      host.Host
	dht       *dht.IpfsDHT
	store     *store
	roles     *roles
	sender    *sender
	messenger *pb.ProtocolMessenger
	verifier  *verifier
	timing    Timing
	now       func() time.Time
	random    *dice
	log       *slog.Logger
	regs      *Registrations
	join      *joiner
	upkeep    *upkeep
	circuits  atomic.Pointer[circuits] // nil with a host that somebody else has made
	public    func(multiaddr.Multiaddr) bool
	up        atomic.Bool // upkeep is set
	suspects  suspects
	lookups   chan struct{} // a slot for each search under way
	streams   atomic.Uint64 // to and from other members, so far

	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex // guards closed and orders it against wg.Add
	closed bool
	wg     sync.WaitGroup
}

// Start brings a peer up and begins to join the overlay in the background; WaitJoined waits for that. A failure leaves
// nothing running.
func Start(c Config) (_ *Peer, err error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	node, err := NodeOfKey(c.Key)
	if err != nil {
		return nil, err
	}
	if c.Credential.Node() != node {
		return nil, fmt.Errorf("%w: it is for node %s, this node is %s", ErrBadCredential, c.Credential.Node(), node)
	}
	o := &Peer{
		key: c.Key, doc: c.Document, host: c.Host,
		timing: c.Timing.withDefaults(), now: c.Now, random: newDice(c.Random), log: c.Logger,
		lookups: make(chan struct{}, maxLookups),
	}
	o.cred.Store(c.Credential)
	if o.public = c.Public; o.public == nil {
		o.public = manet.IsPublicAddr
	}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			o.Close()
		}
	}()
	if o.host == nil {
		if o.host, err = NewHost(HostConfig{Key: c.Key, Listen: c.Listen, Timing: o.timing, Through: o.through}); err != nil {
			return nil, err
		}
	}
	o.verifier = newVerifier(o.doc, o.now)
	o.store = newStore(o.verifier)
	o.roles = newRoles(o, newAdvertVerifier(o.verifier))
	if err := o.startDHT(); err != nil {
		return nil, err
	}
	if o.regs, err = newRegistrations(o, c.StateFile); err != nil {
		return nil, err
	}
	if o.join, err = newJoiner(o, c.Bootstrap, c.PeersFile); err != nil {
		return nil, err
	}
	o.upkeep = newUpkeep(o)
	o.up.Store(true)
	if c.Host == nil || c.Public != nil {
		w, err := newCircuits(o)
		if err != nil {
			return nil, fmt.Errorf("serving nodes behind NATs: %w", err)
		}
		o.circuits.Store(w)
		o.start(w.keep)
	}
	o.start(o.join.run)
	o.start(o.upkeep.run)
	o.start(o.sweep)
	if c.LAN {
		if err := o.join.startLAN(); err != nil {
			o.log.Warn("members in the local network cannot be discovered", "error", err)
		}
	}
	return o, nil
}

// startDHT sets kad-dht up for this overlay: its own protocol prefix, always a server (private addresses are as good as
// any here), this package's validator, store and sender, no provider records.
func (o *Peer) startDHT() error {
	prefix := protocol.ID(o.doc.protocolPrefix())
	var err error
	o.dht, err = dht.New(o.ctx, o.host,
		dht.ProtocolPrefix(prefix),
		dht.Mode(dht.ModeServer),
		dht.BucketSize(o.doc.DHT.BucketSize),
		dht.Concurrency(o.timing.Alpha),
		dht.Validator(record.NamespacedValidator{userNamespace: userValidator{o.verifier}, roleNamespace: roleValidator{o.roles.v}}),
		dht.Datastore(stores{o.store, o.roles.store}),
		dht.MaxRecordAge(o.doc.DHT.Retention+ClockSkew),
		dht.DisableProviders(),
		dht.ProviderStore(noProviders{}),
		dht.AddressFilter(boundAddrs),
		// The routing table is upkeep's. Without its refresh and its look-up of every new connection, kad-dht leaves it alone,
		// but for taking those out that speak another protocol.
		dht.DisableAutoRefresh(),
		dht.LookupCheckConcurrency(0),
		dht.OnRequestHook(func(_ context.Context, s network.Stream, _ *pb.Message) {
			if p := s.Conn().RemotePeer(); o.up.Load() && o.mayServe(p, s.Protocol()) {
				o.upkeep.heard(p)
			}
		}),
		dht.WithCustomMessageSender(func(h host.Host, protos []protocol.ID) pb.MessageSenderWithDisconnect {
			o.sender = newSender(h, protos, o.timing.RPC)
			return o.sender
		}),
	)
	if err != nil {
		return fmt.Errorf("starting the DHT: %w", err)
	}
	o.messenger, err = pb.NewProtocolMessenger(o.sender)
	return err
}

// mayServe says whether a node that asks would answer as well: it is not known yet what it speaks, or the DHT's protocol is
// among that. One that only asks, because nobody could connect to it, must not be named to others, who would wait for it.
func (o *Peer) mayServe(p NodeID, kad protocol.ID) bool {
	spoken, err := o.host.Peerstore().GetProtocols(p)
	return err != nil || len(spoken) == 0 || slices.Contains(spoken, kad)
}

// boundAddrs is kad-dht's address filter: private addresses are wanted, long lists are not.
func boundAddrs(a []multiaddr.Multiaddr) []multiaddr.Multiaddr { return a[:min(len(a), maxAddrs)] }

// start runs f in a goroutine that Close waits for, unless the peer is closed already.
func (o *Peer) start(f func()) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.wg.Add(1)
	go func() {
		defer o.wg.Done()
		f()
	}()
	return true
}

// Close leaves the overlay and waits for everything that runs. The records stay with the nodes that store them until they
// expire; call Registrations.Set with no devices first to take users out.
func (o *Peer) Close() error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil
	}
	o.closed = true
	o.mu.Unlock()
	o.cancel()
	var errs []error
	if o.join != nil {
		errs = append(errs, o.join.close())
	}
	if w := o.circuits.Load(); w != nil {
		errs = append(errs, w.close())
	}
	o.wg.Wait()
	if o.dht != nil {
		errs = append(errs, o.dht.Close())
	}
	if o.sender != nil {
		o.sender.close()
	}
	if o.host != nil {
		errs = append(errs, o.host.Close())
	}
	return errors.Join(errs...)
}

func (o *Peer) sweep() {
	for sleep(o.ctx, sweepInterval) {
		o.store.sweep()
		o.roles.store.sweep()
	}
}

// ID gives the node identifier.
func (o *Peer) ID() NodeID { return o.host.ID() }

// Name gives the node's name in the overlay; see NodeName.
func (o *Peer) Name() string { return NodeName(o.host.ID(), o.doc.ID) }

// Document gives the overlay document.
func (o *Peer) Document() *Document { return o.doc }

// Credential gives the node's credential.
func (o *Peer) Credential() *Credential { return o.cred.Load() }

// Registrations gives what keeps this node's users in the overlay.
func (o *Peer) Registrations() *Registrations { return o.regs }

// Through gives the multiaddrs at which a node behind a NAT can be reached through others. behind says that it is behind one: it has
// no public address, and others have.
func (o *Peer) Through() (ways []string, behind bool) {
	if o.circuits.Load() == nil || !o.hidden() {
		return nil, false
	}
	return o.circuits.Load().addrs(), slices.ContainsFunc(o.host.Network().Conns(), func(c network.Conn) bool { return o.public(c.RemoteMultiaddr()) })
}

// through gives the same for those that this node is connected with.
func (o *Peer) through() (out []multiaddr.Multiaddr) {
	for _, s := range o.circuits.Load().addrs() {
		if a, err := multiaddr.NewMultiaddr(s); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// Addrs gives the multiaddrs at which the node can be reached, each with /p2p/<node>, as bootstrap addresses are written.
func (o *Peer) Addrs() []string {
	var out []string
	for _, a := range slices.DeleteFunc(o.host.Addrs(), overOther) {
		out = append(out, a.String()+"/p2p/"+o.host.ID().String())
	}
	return out
}

// ListenPorts gives the ports that this node listens on for others.
func (o *Peer) ListenPorts() (out []uint16) {
	for _, a := range o.host.Network().ListenAddresses() {
		for _, p := range []int{multiaddr.P_TCP, multiaddr.P_UDP} {
			if v, err := a.ValueForProtocol(p); err == nil {
				if n, err := strconv.ParseUint(v, 10, 16); err == nil {
					out = append(out, uint16(n))
				}
			}
		}
	}
	return out
}

// publicAddrs gives the node's addresses as they go into its records.
func (o *Peer) publicAddrs() []string {
	var out []string
	ways := o.circuits.Load().addrs()
	own := slices.DeleteFunc(o.host.Addrs(), overOther)
	for _, a := range own[:max(0, min(len(own), maxAddrs-len(ways)))] {
		out = append(out, a.String())
	}
	return append(out, ways...)
}

func kadTarget(key string) [32]byte { return sha256.Sum256([]byte(key)) }

func kadID(key string) kb.ID { return kb.ConvertKey(key) }

// Status describes a peer to its owner.
type Status struct {
	Node      NodeID
	Name      string
	Overlay   ID
	Addrs     []string
	Connected int    // nodes of the routing table that are connected
	Routing   int    // nodes in the routing table
	Joined    bool   // at least one other node is there, or none is to be expected
	Trouble   string // why not joined, in a sentence with what to do
	Records   int    // stored for others
	Bytes     int    // of those
	Requests  uint64 // DHT requests sent
	Failures  uint64 // of those without an answer
	Publish   []Publishing
}

// Status gives the state at present.
func (o *Peer) Status() Status {
	s := Status{
		Node: o.ID(), Name: o.Name(), Overlay: o.doc.ID, Addrs: o.Addrs(),
		Connected: o.neighbours(), Routing: o.dht.RoutingTable().Size(),
		Joined: o.joined(), Requests: o.sender.requests.Load(), Failures: o.sender.failures.Load(),
		Publish: o.regs.Status(),
	}
	s.Records, s.Bytes = o.store.size()
	if !s.Joined {
		s.Trouble = o.joinTrouble()
	}
	return s
}
