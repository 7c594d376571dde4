package node

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"p2psip/interwork/edge"
	"p2psip/interwork/proxy"
	"p2psip/interwork/transaction"
	"p2psip/overlay"
)

const (
	// DefaultSIP is where phones beside the node expect it: SIP's own port, on this machine only, because whoever reaches
	// that port from loopback needs no password.
	DefaultSIP = "127.0.0.1:5060"
)

// Config makes a Node. Either DataDir, which holds the key, the overlay document and the credential (see Install), or an
// Identity is required.
type Config struct {
	DataDir string
	// Identity is used instead of what DataDir holds. The node keeps nothing on disk then: it forgets its phones and the
	// nodes it has met when it ends. The simulation runs such nodes by the hundred.
	Identity *Identity

	// Host is the libp2p host to use instead of one made from Listen. The node closes it, also when Start fails.
	Host      host.Host
	Listen    []string // multiaddrs for other nodes; none means overlay.DefaultListen
	Bootstrap []string // multiaddrs with /p2p/, tried besides those of the overlay document
	NoLAN     bool     // do not look for nodes in the local network; it is not done either if all of Listen is loopback

	// SIP is the address and port for phones, UDP and TCP; port 0 finds one that is free for both. "" means DefaultSIP.
	SIP string
	// UDP and TCP are used instead of sockets opened at SIP. The node closes them, also when Start fails.
	UDP net.PacketConn
	TCP net.Listener
	// TLS is a listener of crypto/tls for phones, nil for none; closed like the others.
	TLS net.Listener
	// Advertise is the IP address that phones are told when a socket is bound to all of them; "" finds one.
	Advertise string
	// Trust says which source addresses of phones need no password, see edge.ParseTrust; "" means loopback.
	Trust string

	// ProxyPeer, when set, makes the node a proxy peer.
	ProxyPeer *ProxyPeer

	// Relay, when set, makes the node a relay peer.
	Relay *RelayRole

	// Media, when set, has the sound of phones that do no ICE pass through the node; nil: session descriptions pass untouched.
	Media *MediaConfig

	// Votes is for tests and closed networks: where this node tries proxy peers for others, and which network its voters are in.
	Votes struct {
		Override []netip.Prefix
		Network  func(member overlay.NodeID, at netip.Addr) string
	}

	Control bool // answer questions on a socket in the data directory

	Timing       overlay.Timing
	Transactions transaction.Timers
	Trace        func(proxy.Event) // sees every SIP message; see proxy.Config
	Progress     func(proxy.Step)  // sees where a request's time goes; see proxy.Config
	Logger       *slog.Logger      // nil: slog.Default()
	Now          func() time.Time  // nil: time.Now
	Random       rand.Source       // spreads what nodes would else do at the same time; nil: the runtime's. No secret comes from it
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.DataDir == "" && c.Identity == nil:
		return errors.New("no data directory")
	case c.DataDir != "" && c.Identity != nil:
		return errors.New("a data directory and an identity beside it")
	case c.Identity != nil && c.Control:
		return errors.New("questions are answered on a socket in the data directory, and there is none")
	}
	for _, s := range c.Listen {
		if _, err := multiaddr.NewMultiaddr(s); err != nil {
			return fmt.Errorf("%q is no address to listen on for other nodes: %w", s, err)
		}
	}
	if _, err := overlay.ParseBootstrap(c.Bootstrap); err != nil {
		return err
	}
	if (c.UDP == nil) != (c.TCP == nil) {
		return errors.New("of the sockets for phones, UDP and TCP, only one is given")
	}
	if c.UDP == nil {
		if _, err := ParseSIP(c.sip()); err != nil {
			return err
		}
	}
	if c.Advertise != "" {
		if _, err := netip.ParseAddr(c.Advertise); err != nil {
			return fmt.Errorf("the address to advertise, %q, is no IP address", c.Advertise)
		}
	}
	if err := c.Media.validate(); err != nil {
		return err
	}
	if _, err := edge.ParseTrust(c.Trust); err != nil {
		return fmt.Errorf("the addresses to trust: %w", err)
	}
	return c.Transactions.Validate()
}

// ParseSIP reads an IP address and port for phones.
func ParseSIP(s string) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return ap, fmt.Errorf("%q is not an IP address and port such as %s", s, DefaultSIP)
	}
	return ap, nil
}

func (c Config) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

func (c Config) sip() string {
	if c.SIP == "" {
		return DefaultSIP
	}
	return c.SIP
}

// lan says whether to look for nodes in the local network.
func (c Config) lan() bool {
	if c.NoLAN || c.Host != nil {
		return false
	}
	for _, s := range c.listen() {
		if m, err := multiaddr.NewMultiaddr(s); err == nil && !manet.IsIPLoopback(m) {
			return true
		}
	}
	return false
}

func (c Config) listen() []string {
	if len(c.Listen) == 0 {
		return overlay.DefaultListen()
	}
	return c.Listen
}
