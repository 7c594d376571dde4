package node

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"p2psip/dnsreg"
	"p2psip/interwork/account"
	"p2psip/interwork/edge"
	"p2psip/interwork/flow"
	"p2psip/interwork/media"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
	"p2psip/overlay/datadir"
	"p2psip/proxypeer"
	"p2psip/proxypeer/policy"
	"p2psip/relaypeer"
)

// Node is a running node. Make one with Start, end it with Close.
type Node struct {
	cfg          Config
	log          *slog.Logger
	started      time.Time
	home         *datadir.Dir
	sockets      *sockets
	own          []flow.Addr
	overlay      *overlay.Peer
	peers        *peers
	users        *edge.UserStore
	edge         *edge.Edge
	core         *proxy.Core
	accounts     atomic.Pointer[account.Manager] // nil until it has started, and without a data directory
	control      *control
	border       *proxypeer.Peer   // nil: the node is no proxy peer
	finder       *proxypeer.Finder // nil: it is one
	relayPeer    *relaypeer.Server // nil: the node is no relay peer
	mediaSockets addrPorts         // of the node's own media
	booth        *dnsreg.Booth     // nil: there is no network to try proxy peers in
	prober       *relaypeer.Prober // nil: there is no network to try addresses in
	prepared     func()            // ends the search for proxy peers, or the watch over federation

	media        *media.Manager // nil: the phones see to their sound themselves
	mediaStreams *mediaStreams  // with media
	relays       *relays        // with media; nil: others were given

	federation *policy.File // nil: the node is no proxy peer, or has no such file to look at
	binding    atomic.Pointer[Binding]
	rebind     chan struct{} // asks for a look at the binding

	once sync.Once
	err  error
}

// Start brings a node up from its data directory. It returns when phones can register; joining the overlay goes on in
// the background, see WaitJoined. A failure leaves nothing running.
func Start(c Config) (_ *Node, err error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	n := &Node{cfg: c, log: c.Logger, started: c.Now(), rebind: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			n.Close()
			if n.sockets == nil {
				closeGiven(c)
			}
			if n.border == nil {
				c.ProxyPeer.close()
			}
			if n.overlay == nil {
				c.Relay.close()
			}
			if n.overlay == nil && c.Host != nil {
				c.Host.Close()
			}
		}
	}()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	id := c.Identity
	if id == nil {
		if n.home, err = OpenHome(c.DataDir); err != nil {
			return nil, err
		}
		if id, err = loadIdentity(c.DataDir, c.Now()); err != nil {
			return nil, err
		}
	}
	if err := c.entitled(id); err != nil {
		return nil, err
	}
	bootstrap, err := overlay.ParseBootstrap(c.Bootstrap)
	if err != nil {
		return nil, err
	}
	if n.sockets, err = openSockets(c); err != nil {
		return nil, err
	}
	if n.overlay, err = overlay.Start(overlay.Config{
		Key: id.Key, Document: id.Document, Credential: id.Credential,
		Host: c.Host, Listen: c.listen(), Bootstrap: bootstrap,
		PeersFile: n.file(peersFile), StateFile: n.file(stateFile), LAN: c.lan(),
		Timing: c.Timing, Now: c.Now, Random: n.random(), Logger: c.Logger,
	}); err != nil {
		return nil, err
	}
	if err := n.assemble(id.Document, id.Secret); err != nil {
		return nil, err
	}
	return n, nil
}

// file gives the path of a file that the node keeps, "" if it keeps nothing.
func (n *Node) file(name string) string {
	if n.home == nil {
		return ""
	}
	return n.home.Path(name)
}

// random gives a part of the node its own source, so that none has to wait for another.
func (n *Node) random() rand.Source {
	if n.cfg.Random == nil {
		return nil
	}
	return rand.NewPCG(n.cfg.Random.Uint64(), n.cfg.Random.Uint64())
}

// chance gives numbers from 0 to 1, safe for concurrent use; nil for the runtime's.
func (n *Node) chance() func() float64 {
	src := n.random()
	if src == nil {
		return nil
	}
	var mu sync.Mutex
	r := rand.New(src)
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64()
	}
}

// assemble builds what stands between the sockets and the overlay, and opens the doors.
func (n *Node) assemble(doc *overlay.Document, secret []byte) (err error) {
	n.own = n.sockets.addrs()
	n.peers = newPeers(n.overlay, n.log)
	if err := n.openMedia(); err != nil {
		return err
	}
	publish := publisher{n.overlay, n.warmMedia}
	trusted, err := edge.ParseTrust(n.cfg.Trust)
	if err != nil {
		return err
	}
	if n.users, err = edge.OpenUsers(n.cfg.DataDir, doc.ID); err != nil {
		return err
	}
	if n.edge, err = edge.New(edge.Config{
		OID: doc.ID, DataDir: n.cfg.DataDir, Users: n.users, Node: n.overlay.ID(), Shared: doc.Root().Raw,
		Own:       func() []overlay.AOR { return n.overlay.Credential().Users() },
		Publisher: publish, Flows: n.sockets, Trusted: trusted, Random: n.random(), Logger: n.log, Now: n.cfg.Now,
	}); err != nil {
		return err
	}
	core := proxy.Config{
		OID: doc.ID, NodeName: n.overlay.Name(), Secret: secret, Own: n.own, Advertise: n.advertise(),
		Edge: n.edge, Sockets: n.sockets, Locator: locator{n.overlay}, Peers: n.peers, Lines: lines{n},
		Random: n.random(), Logger: n.log, Trace: n.cfg.Trace, Progress: n.cfg.Progress,
	}
	core.Transactions.Timers = n.cfg.Transactions
	if err := n.openBorder(doc.ID, &core); err != nil {
		return err
	}
	if n.media != nil {
		core.Media = anchors{n.media}
	}
	if n.core, err = proxy.New(core); err != nil {
		return err
	}
	if n.cfg.Control {
		if n.control, err = listenControl(n); err != nil {
			return err
		}
	}
	publish.retire(n.edge)
	r := &router{layer: n.core.Layer(), peers: n.peers, edge: n.edge, lost: n.peerLost}
	n.peers.start(r)
	if n.mediaStreams != nil {
		n.mediaStreams.serve(n.media.Renegotiated)
	}
	n.sockets.start(r, n.log)
	if err := n.startBorder(r); err != nil {
		return err
	}
	if err := n.startRelayPeer(doc.ID, secret); err != nil {
		return err
	}
	if err := n.startVoting(doc.ID); err != nil {
		return err
	}
	return n.startAccounts(doc.ID)
}

// advertise gives the address that phones are told where a socket is bound to all.
func (n *Node) advertise() string {
	if n.cfg.Advertise != "" {
		return n.cfg.Advertise
	}
	for _, a := range n.own {
		if ip, err := netip.ParseAddr(a.Host); err == nil && ip.IsUnspecified() {
			return reachable()
		}
	}
	return ""
}

func closeGiven(c Config) {
	if c.UDP != nil {
		c.UDP.Close()
	}
	if c.TCP != nil {
		c.TCP.Close()
	}
	if c.TLS != nil {
		c.TLS.Close()
	}
}

// Run keeps the node up until ctx ends and then closes it.
func (n *Node) Run(ctx context.Context) error {
	<-ctx.Done()
	return n.Close()
}

// Close ends the node and waits for all that runs. Registered phones stay in the overlay and in the data directory.
func (n *Node) Close() error {
	n.once.Do(func() { n.err = n.close() })
	return n.err
}

// close goes from the doors inwards: nothing new comes in, then what is under way ends, then what it stood on.
func (n *Node) close() error {
	errs := []error{n.drainRelayPeer()}
	if n.control != nil {
		n.control.close()
	}
	if n.border != nil {
		errs = append(errs, n.border.Close()) // withdraws the advertisement while others can still be told
	}
	if n.prepared != nil {
		n.prepared()
	}
	if n.finder != nil {
		n.finder.Close()
	}
	if a := n.accounts.Load(); a != nil {
		a.Close()
	}
	if n.edge != nil {
		errs = append(errs, n.edge.Close()) // answers the REGISTERs that wait, while there are sockets
	}
	if n.peers != nil && n.peers.started() {
		n.peers.close()
	}
	if n.sockets != nil {
		errs = append(errs, n.sockets.close())
	}
	if n.core != nil {
		n.core.Close()
	}
	n.closeMedia()
	if n.overlay != nil {
		n.closeVoting()
		errs = append(errs, n.closeRelayPeer()) // after the media of this node, which may go through itself
		errs = append(errs, n.overlay.Close())
	}
	if n.home != nil {
		errs = append(errs, n.home.Close())
	}
	return errors.Join(errs...)
}

// WaitJoined waits until the node has met another one; at once where nobody is to be expected.
func (n *Node) WaitJoined(ctx context.Context) error { return n.overlay.WaitJoined(ctx) }

// Addrs gives the multiaddrs at which other nodes reach this one, with /p2p/.
func (n *Node) Addrs() []string { return n.overlay.Addrs() }

// Overlay gives the node's place in the overlay.
func (n *Node) Overlay() *overlay.Peer { return n.overlay }

// Calls lists the calls in progress.
func (n *Node) Calls() []proxy.Call { return n.core.Calls() }

// ID gives the node's identifier.
func (n *Node) ID() overlay.NodeID { return n.overlay.ID() }

// SIP gives the address where phones reach the node over UDP and TCP.
func (n *Node) SIP() netip.AddrPort {
	ap, _ := n.own[0].AddrPort()
	return ap
}

// Users gives the users of the node's credential.
func (n *Node) Users() []overlay.AOR { return n.overlay.Credential().Users() }
