package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"p2psip/interwork/flow"
	"p2psip/interwork/locate"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
	"p2psip/proxypeer"
	"p2psip/proxypeer/policy"
	"p2psip/relaypeer"
)

// ProxyPeer makes a node carry SIP between the overlay and the public world (draft §3.1). The node's credential has to
// permit it.
type ProxyPeer struct {
	// Sockets face the public side; see OpenPublic. The node closes them, also when Start fails.
	Sockets []proxypeer.Socket
	// Locator finds the servers of other domains; nil: RFC 3263 with the name servers in DNS, addresses or address:port, or
	// those of the machine if there are none.
	Locator proxypeer.Locator
	DNS     []string
	Policy  proxypeer.Policy // nil: that of Federation
	// Federation is the file with the federation policy (package proxypeer/policy), which is looked at again and again while
	// the node runs. "", or no such file: everything is allowed.
	Federation string

	TLS      *tls.Config // for connections to other servers: roots, and the domain certificate
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	Capacity uint32
	Limits   proxypeer.Limits
	// Session is the interval that calls across the border get where nobody asks for one (RFC 4028); 0: half an hour.
	Session time.Duration
	// Unlisted says that the DNS is not meant to lead to this proxy peer, so nobody looks whether it does.
	Unlisted bool
	// ShowVias has the public side see the names of nodes and the addresses of phones in Via; for who looks for a fault.
	ShowVias bool
}

// MinSession and MaxSession bound ProxyPeer.Session: RFC 4028 §5, and a day.
const (
	MinSession = 90 * time.Second
	MaxSession = 24 * time.Hour
)

// close closes sockets that nobody has taken over.
func (c *ProxyPeer) close() {
	if c == nil {
		return
	}
	for _, s := range c.Sockets {
		if s.Packet != nil {
			_ = s.Packet.Close()
		}
		if s.Listener != nil {
			_ = s.Listener.Close()
		}
	}
}

// Close closes the sockets of a role that no node was started with.
func (c *ProxyPeer) Close() { c.close() }

// OpenPublic opens a public socket: "udp:192.0.2.1:5060", "tcp:[2001:db8::1]:5060" or "tls:192.0.2.1:5061", with
// "=198.51.100.7:5060" after it where a NAT makes it known by another address. config is for TLS.
func OpenPublic(text string, config *tls.Config) (s proxypeer.Socket, err error) {
	transport, rest, ok := strings.Cut(text, ":")
	at, name, named := strings.Cut(rest, "=")
	ap, err := netip.ParseAddrPort(at)
	if !ok || err != nil {
		return s, fmt.Errorf("%q is no public socket such as udp:192.0.2.1:5060", text)
	}
	if named {
		if s.Name, err = netip.ParseAddrPort(name); err != nil {
			return s, fmt.Errorf("%q is not the address and port that a public socket is known by", name)
		}
	}
	switch s.Transport = flow.Transport(strings.ToUpper(transport)); s.Transport {
	case flow.TransportUDP:
		s.Packet, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(ap))
	case flow.TransportTCP, flow.TransportTLS:
		if s.Transport == flow.TransportTLS && config == nil {
			return s, fmt.Errorf("%s: there is no domain certificate", text)
		}
		s.Listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(ap))
		s.TLS = config
	default:
		return s, fmt.Errorf("%q: the transports are udp, tcp and tls", text)
	}
	if err != nil {
		return proxypeer.Socket{}, fmt.Errorf("the public socket %s: %w", text, err)
	}
	return s, nil
}

// DomainTLS makes what the TLS sockets of a proxy peer and its connections to other servers need: the domain certificate
// (RFC 5922) from files in PEM form, or one made on the fly when there are none, and the roots to believe besides the
// system's.
func DomainTLS(oid overlay.ID, certFile, keyFile, rootsFile string, c Config) (server, client *tls.Config, err error) {
	var cert tls.Certificate
	if certFile != "" || keyFile != "" {
		cert, err = tls.LoadX509KeyPair(certFile, keyFile)
	} else {
		cert, err = proxypeer.SelfSigned(oid, c.now())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the domain certificate: %w", err)
	}
	var roots *x509.CertPool
	if rootsFile != "" {
		if roots, err = x509.SystemCertPool(); err != nil {
			roots = x509.NewCertPool()
		}
		pem, err := os.ReadFile(rootsFile)
		if err != nil {
			return nil, nil, fmt.Errorf("the certificates to believe: %w", err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("the certificates to believe: %s has none in PEM form", rootsFile)
		}
	}
	return proxypeer.ServerTLS(cert, roots), &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// ErrNotPermitted: the node's credential does not permit the role of a proxy peer.
var ErrNotPermitted = errors.New("the node's credential does not permit it to be a proxy peer")

// entitled says whether the credential permits the roles that the configuration asks for, before anything has begun.
func (c Config) entitled(id *Identity) error {
	switch {
	case c.ProxyPeer != nil && !id.Credential.Permits(overlay.RoleProxy):
		return fmt.Errorf("%w of %s", ErrNotPermitted, id.Document.ID)
	case c.Relay != nil && !id.Credential.Permits(overlay.RoleRelay):
		return fmt.Errorf("%w of %s", relaypeer.ErrNotPermitted, id.Document.ID)
	}
	return nil
}

// openBorder makes the public side, if the node is to have one, and what finds proxy peers if not. It completes core.
func (n *Node) openBorder(oid overlay.ID, core *proxy.Config) error {
	c := n.cfg.ProxyPeer
	if c == nil {
		n.finder = proxypeer.NewFinder(oid, n.overlay, n.log)
		core.Proxies = n.finder
		return nil
	}
	locator := c.Locator
	if locator == nil {
		r, err := locate.NewResolver(locate.ResolverConfig{Servers: c.DNS, MixedCase: len(c.DNS) == 0})
		if err != nil {
			return fmt.Errorf("name servers: %w", err)
		}
		l, err := locate.New(locate.Config{Resolver: r, Transports: transports(c.Sockets), Permit: func(a netip.Addr) bool {
			return n.border != nil && n.border.Permits(a)
		}})
		if err != nil {
			return err
		}
		locator = l
	}
	rules := c.Policy
	if finds, ok := locator.(policy.Locator); ok && rules == nil && c.Federation != "" {
		file, err := policy.Open(c.Federation)
		if err != nil {
			return fmt.Errorf("the federation policy: %w", err)
		}
		n.federation, rules = file, policy.NewEnforcer(file, finds)
	}
	b, err := proxypeer.New(proxypeer.Config{
		OID: oid, Sockets: c.Sockets, Locator: locator, Policy: rules, TLS: c.TLS, Dial: c.Dial,
		Capacity: c.Capacity, Limits: c.Limits, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.border = b
	core.Limits.Session = c.Session
	core.Border, core.Public, core.ShowVias, core.Words = b, b.Public(), c.ShowVias, words{n.overlay}
	return nil
}

// transports gives those that a proxy peer speaks, in the order of preference.
func transports(sockets []proxypeer.Socket) (out []string) {
	for _, t := range []flow.Transport{flow.TransportUDP, flow.TransportTCP, flow.TransportTLS} {
		for _, s := range sockets {
			if s.Transport == t {
				out = append(out, string(t))
				break
			}
		}
	}
	return out
}

// startBorder opens the doors to the public side and tells the overlay of them; a node without looks for one that has.
func (n *Node) startBorder(r flow.Handler) error {
	if n.border == nil {
		n.prepared = background(func(ctx context.Context) {
			if n.overlay.WaitJoined(ctx) == nil && len(n.Users()) > 0 {
				n.finder.Prepare(ctx)
			}
		})
		return nil
	}
	if err := n.border.Start(r); err != nil {
		return err
	}
	n.prepared = background(n.watchFederation, n.watchBinding) // they look at the sockets, which are whole now
	return n.border.Advertise(func(role overlay.Role, describe func() overlay.Offer) (proxypeer.Offering, error) {
		return n.overlay.Offer(role, describe)
	}, func() int { return n.core.Stats().Carried })
}

// background runs functions until they end or stop is called, which waits for them.
func background(fs ...func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, f := range fs {
		wg.Go(func() { f(ctx) })
	}
	return func() { cancel(); wg.Wait() }
}

// watchFederation takes up changes of the federation policy until ctx ends.
func (n *Node) watchFederation(ctx context.Context) {
	if n.federation == nil {
		return
	}
	n.federation.Watch(ctx, policy.WatchEvery, func(err error) {
		if err != nil {
			n.log.Warn("the federation policy is not taken up; the one before stays in force", "error", err)
			return
		}
		n.log.Info("a new federation policy is in force")
	})
}

// Border is how the way out of the overlay, and into it, stands.
type Border struct {
	Role     bool     `json:"proxy_peer"`          // this node is one
	Services []string `json:"services,omitempty"`  // advertised
	Known    []string `json:"known,omitempty"`     // proxy peers at hand, for a node that is none
	Requests uint64   `json:"requests,omitempty"`  // from the public side
	Entered  uint64   `json:"entered,omitempty"`   // of those, for users of the overlay
	Left     uint64   `json:"left,omitempty"`      // requests that a place outside has answered
	Refused  uint64   `json:"refused,omitempty"`   // requests that found no way out
	Failed   uint64   `json:"failed,omitempty"`    // places outside that did not serve
	Scanners uint64   `json:"scanners,omitempty"`  // requests of scanners, not answered
	Limited  uint64   `json:"limited,omitempty"`   // requests of sources that ask too much
	Withheld uint64   `json:"withheld,omitempty"`  // responses that were too large for their source
	Conns    int      `json:"connected,omitempty"` // connections with other servers
	Adverts  int      `json:"advertised,omitempty"`
	Policy   string   `json:"federation_error,omitempty"` // why the federation policy as it is now is not in force
	Binding  *Binding `json:"dns,omitempty"`              // of a proxy peer: what the DNS makes of the overlay's identifier
}

func (n *Node) borderStatus() Border {
	if n.border == nil {
		b := Border{}
		for _, id := range n.finder.Known() {
			b.Known = append(b.Known, id.String())
		}
		return b
	}
	s := n.border.Status()
	bad := ""
	if n.federation != nil && n.federation.Err() != nil {
		bad = n.federation.Err().Error()
	}
	return Border{
		Policy: bad, Binding: n.binding.Load(),
		Role: true, Services: s.Services, Requests: s.Requests, Entered: s.Entered, Left: s.Left, Refused: s.Refused, Failed: s.Failed,
		Scanners: s.Scanners, Limited: s.Limited, Withheld: s.Withheld, Conns: s.Conns, Adverts: n.border.Advertised(),
	}
}
