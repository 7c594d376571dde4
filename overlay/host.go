package overlay

import (
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Connections of one node. Kademlia with k = 20 wants some tens of neighbours at hand; a manager squeezed far below that
// makes lookups fail (see DESIGN.md).
const (
	connLow   = 96
	connHigh  = 160
	connGrace = 30 * time.Second
	// connsPerAddress raises libp2p's 8: an office or a village behind one NAT is many members.
	connsPerAddress = 64
)

// DefaultListen is where a node listens for others if not told otherwise: on every interface, TCP and QUIC.
var defaultListen = []string{"/ip4/0.0.0.0/tcp/5080", "/ip4/0.0.0.0/udp/5080/quic-v1", "/ip6/::/tcp/5080", "/ip6/::/udp/5080/quic-v1"}

// DefaultListen gives the multiaddrs a node listens on if not told otherwise.
func DefaultListen() []string { return append([]string(nil), defaultListen...) }

// HostConfig says how a libp2p host is made.
type HostConfig struct {
	Key    crypto.PrivKey
	Listen []string // multiaddrs; none means DefaultListen
	Timing Timing
	// Dial replaces the way TCP connections are made, nil for the usual one. Benchmarks put distance in here.
	Dial tcp.DialerForAddr
	// Through gives addresses at which the node can be reached through others, to be told to those that it is connected with; nil:
	// there are none.
	Through func() []multiaddr.Multiaddr
}

// NewHost makes the libp2p host of a node: TCP with Noise, and QUIC.
func NewHost(c HostConfig) (host.Host, error) {
	listen, t := c.Listen, c.Timing.withDefaults()
	if len(listen) == 0 {
		listen = defaultListen
	}
	var addrs []multiaddr.Multiaddr
	for _, s := range listen {
		a, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("%q is no address to listen on: %w", s, err)
		}
		addrs = append(addrs, a)
	}
	// With SO_REUSEPORT, libp2p's usual way, a second node on the same port would start without an error, and the kernel
	// would hand it half of the first one's connections.
	tcpOptions := []any{tcp.DisableReuseport()}
	if c.Dial != nil {
		tcpOptions = append(tcpOptions, tcp.WithDialerForAddr(c.Dial))
	}
	cm, err := connmgr.NewConnManager(connLow, connHigh, connmgr.WithGracePeriod(connGrace))
	if err != nil {
		return nil, err
	}
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	rm, err := rcmgr.NewResourceManager(
		rcmgr.NewFixedLimiter(limits.AutoScale()),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{ConnCount: connsPerAddress, PrefixLength: 32}},
			[]rcmgr.ConnLimitPerSubnet{{ConnCount: connsPerAddress, PrefixLength: 56}, {ConnCount: 8 * connsPerAddress, PrefixLength: 48}},
		),
	)
	if err != nil {
		return nil, err
	}
	h, err := libp2p.New(
		libp2p.Identity(c.Key),
		libp2p.NoListenAddrs, // below: libp2p leaves goroutines behind when it cannot listen while it is made
		libp2p.Transport(tcp.NewTCPTransport, tcpOptions...),
		libp2p.Transport(quic.NewTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.ConnectionManager(cm),
		libp2p.ResourceManager(rm),
		libp2p.AddrsFactory(func(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
			if addrs = advertised(addrs); c.Through != nil {
				addrs = append(slices.Clip(addrs), c.Through()...)
			}
			return addrs
		}),
		libp2p.SwarmOpts(swarm.WithDialTimeout(t.Dial), swarm.WithDialTimeoutLocal(t.Dial)),
		libp2p.EnableRelay(), // to reach nodes behind NATs through others, see circuit.go
		libp2p.DisableMetrics(),
		libp2p.UserAgent("p2psip"),
	)
	if err != nil {
		return nil, fmt.Errorf("opening the overlay's sockets: %w", err)
	}
	if err := h.Network().Listen(addrs...); err != nil {
		h.Close()
		return nil, fmt.Errorf("opening the overlay's sockets: %w", err)
	}
	if len(h.Addrs()) == 0 {
		h.Close()
		return nil, fmt.Errorf("opening the overlay's sockets: none of %v could be opened; is another node running here?", listen)
	}
	return h, nil
}

// advertised leaves loopback addresses out unless there are no others: they would lead a stranger to himself.
func advertised(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	var out []multiaddr.Multiaddr
	for _, a := range addrs {
		if !manet.IsIPLoopback(a) && !manet.IsIP6LinkLocal(a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return addrs
	}
	return out
}
