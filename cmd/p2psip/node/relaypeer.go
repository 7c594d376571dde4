package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"p2psip/overlay"
	"p2psip/overlay/datadir"
	"p2psip/relaypeer"
	"p2psip/relaypeer/credential"
	"p2psip/relaypeer/datapath"
)

// usageFile remembers what was relayed this month.
const usageFile = "relay-usage.json"

// relayCertFile keeps the certificate of a relay peer that was given none, and its key.
const relayCertFile = "relay.pem"

// RelayRole makes a node carry media for the other members of the overlay (draft §3.2). The node's credential has to permit it.
type RelayRole struct {
	Loop    *datapath.Loop     // what the sockets belong to; the node closes it, and them, also when Start fails
	Sockets []relaypeer.Socket // see OpenRelay
	Allow   []netip.Prefix     // where it may send besides public addresses, for closed networks
	Limits  relaypeer.Limits
	// MinPort and MaxPort bound the ports of relayed addresses; both 0: 49152 to 65535.
	MinPort, MaxPort uint16
	// AssumeReachable has the sockets advertised as they are, without asking others whether they reach them.
	AssumeReachable bool
	// Drain is how long Close waits for the calls that are relayed.
	Drain time.Duration
}

// close closes sockets that nobody has taken over.
func (c *RelayRole) close() {
	if c == nil {
		return
	}
	for _, s := range c.Sockets {
		if s.Front != nil {
			_ = s.Front.Close()
		}
		if s.Listener != nil {
			_ = s.Listener.Close()
		}
	}
	if c.Loop != nil {
		_ = c.Loop.Close()
	}
}

// Close closes the sockets of a role that no node was started with.
func (c *RelayRole) Close() { c.close() }

// OpenRelay opens a socket for clients of a relay peer: "udp:192.0.2.1:3478", "tcp:[2001:db8::1]:3478" or "tls:192.0.2.1:443",
// with "=198.51.100.7:3478" after it where a NAT makes it known by another address. config is for TLS.
func OpenRelay(loop *datapath.Loop, text string, config *tls.Config) (s relaypeer.Socket, err error) {
	transport, rest, ok := strings.Cut(text, ":")
	at, name, named := strings.Cut(rest, "=")
	ap, err := netip.ParseAddrPort(at)
	if !ok || err != nil {
		return s, fmt.Errorf("%q is no socket for a relay peer such as udp:192.0.2.1:3478", text)
	}
	if named {
		if s.Name, err = netip.ParseAddrPort(name); err != nil {
			return s, fmt.Errorf("%q is not the address and port that a relay peer's socket is known by", name)
		}
	} else if ap.Addr().IsUnspecified() {
		return s, fmt.Errorf("%q needs the address that others reach it at, as in %s=192.0.2.1:3478", text, text)
	}
	six := ap.Addr().Unmap().Is6()
	switch s.Transport = relaypeer.Transport(strings.ToLower(transport)); s.Transport {
	case relaypeer.UDP:
		network := "udp4"
		if six {
			network = "udp6"
		}
		s.Front, err = loop.Listen(network, ap.String(), datapath.Options{})
	case relaypeer.TCP, relaypeer.TLS:
		network := "tcp4"
		if six {
			network = "tcp6"
		}
		s.Listener, err = net.ListenTCP(network, net.TCPAddrFromAddrPort(ap))
		if s.Transport == relaypeer.TLS {
			s.TLS = config
		}
	default:
		return s, fmt.Errorf("%q: the transports are udp, tcp and tls", text)
	}
	if err != nil {
		return relaypeer.Socket{}, fmt.Errorf("the relay peer's socket %s: %w", text, err)
	}
	return s, nil
}

// RelayTLS makes what the TLS sockets of a relay peer need: a certificate from files in PEM form, or one made on the fly when
// there are none, which is as good for members: they are told its key with their credential.
func RelayTLS(certFile, keyFile string, c Config) (*tls.Config, error) {
	var cert tls.Certificate
	var err error
	if certFile != "" || keyFile != "" {
		cert, err = tls.LoadX509KeyPair(certFile, keyFile)
	} else {
		cert, err = keptCertificate(c.DataDir, c.now())
	}
	if err != nil {
		return nil, fmt.Errorf("the relay peer's certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// keptCertificate gives the certificate that was made on the fly for this data directory, a new one when it is about to end. Members
// know a relay peer by its key for as long as their credentials last, beyond its restart.
func keptCertificate(dir string, now time.Time) (tls.Certificate, error) {
	if dir == "" {
		return relaypeer.SelfSigned(nil, now)
	}
	path := filepath.Join(dir, relayCertFile)
	if cert, err := tls.LoadX509KeyPair(path, path); err == nil && cert.Leaf != nil && now.Add(30*24*time.Hour).Before(cert.Leaf.NotAfter) {
		return cert, nil
	}
	cert, err := relaypeer.SelfSigned(nil, now)
	if err != nil {
		return cert, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return cert, err
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	return cert, datadir.WriteFile(path, b, 0o600)
}

// startRelayPeer opens the doors of the role, if the node has it, and has the node try the addresses of others that do.
func (n *Node) startRelayPeer(oid overlay.ID, secret []byte) error {
	if n.cfg.Host == nil { // in the simulation there is no network to try anything in
		n.prober = relaypeer.NewProber(nil, nil)
		n.overlay.HandleService(overlay.ServiceReach, n.prober.Serve)
	}
	c := n.cfg.Relay
	if c == nil {
		return nil
	}
	s, err := relaypeer.Start(relaypeer.Config{
		Loop: c.Loop, Sockets: c.Sockets, Secret: credential.NewSecret(secret), Allow: c.Allow, Services: n.servicePorts(), Media: n.mediaSockets.has, Limits: c.Limits,
		MinPort: c.MinPort, MaxPort: c.MaxPort, AssumeReachable: c.AssumeReachable, UsageFile: n.file(usageFile), Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.relayPeer = s
	return s.Join(n.overlay, nil)
}

// addrPorts is a set of addresses and ports; the zero value is ready for use.
type addrPorts struct {
	mu  sync.Mutex
	set map[netip.AddrPort]bool // guarded by mu
}

// opened puts an address in; what it gives takes it out again.
func (p *addrPorts) opened(a netip.AddrPort) (closed func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set == nil {
		p.set = map[netip.AddrPort]bool{}
	}
	p.set[a] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.set, a)
	}
}

func (p *addrPorts) has(a netip.AddrPort) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set[a]
}

// servicePorts gives the ports of this machine that the node itself listens on: nothing relayed goes there, whatever the
// owner allows besides.
func (n *Node) servicePorts() (out []uint16) {
	add := func(a net.Addr) {
		if a == nil {
			return
		}
		if ap, err := netip.ParseAddrPort(a.String()); err == nil {
			out = append(out, ap.Port())
		}
	}
	for _, a := range n.own {
		if ap, ok := a.AddrPort(); ok {
			out = append(out, ap.Port())
		}
	}
	if p := n.cfg.ProxyPeer; p != nil {
		for _, s := range p.Sockets {
			if s.Packet != nil {
				add(s.Packet.LocalAddr())
			}
			if s.Listener != nil {
				add(s.Listener.Addr())
			}
		}
	}
	return append(out, n.overlay.ListenPorts()...)
}

// drainRelayPeer withdraws the role and waits a while for the calls that are relayed; all else of the node still works.
func (n *Node) drainRelayPeer() error {
	if n.relayPeer == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.Relay.Drain)
	defer cancel()
	err := n.relayPeer.Drain(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // what is still relayed ends now
	}
	return err
}

// closeRelayPeer ends the role. The overlay is still there.
func (n *Node) closeRelayPeer() (err error) {
	if n.relayPeer != nil {
		err = n.relayPeer.Close()
	}
	if n.prober != nil {
		n.overlay.HandleService(overlay.ServiceReach, nil)
		n.prober.Close()
	}
	if c := n.cfg.Relay; c != nil {
		if n.relayPeer == nil {
			c.close()
		} else {
			err = errors.Join(err, c.Loop.Close())
		}
	}
	return err
}

// Relayed gives how many of the addresses that are relayed here have sound at the moment.
func (n *Node) Relayed() int {
	if n.relayPeer == nil {
		return 0
	}
	return n.relayPeer.InUse()
}

// RelayStatus is how the role of a relay peer stands.
type RelayStatus struct {
	Role       bool           `json:"relay_peer"` // this node is one
	Services   []RelayService `json:"services,omitempty"`
	Adverts    int            `json:"advertised,omitempty"` // nodes that have confirmed the advertisement
	Trouble    string         `json:"trouble,omitempty"`
	Draining   bool           `json:"draining,omitempty"`
	Now        int            `json:"allocations,omitempty"`
	InUse      int            `json:"in_use,omitempty"` // allocations with data in the last seconds
	Capacity   int            `json:"capacity,omitempty"`
	Members    int            `json:"members,omitempty"`   // with allocations
	Conns      int            `json:"connected,omitempty"` // clients over TCP and TLS
	Month      int64          `json:"month_bytes,omitempty"`
	MonthLimit int64          `json:"month_limit,omitempty"` // negative: none
	Speed      int64          `json:"bytes_per_second,omitempty"`
	Packets    uint64         `json:"packets,omitempty"`
	Grants     uint64         `json:"credentials,omitempty"`
	Challenged uint64         `json:"challenged,omitempty"`
	Refused    uint64         `json:"bad_credentials,omitempty"`
	Refusals   uint64         `json:"refused,omitempty"`
	Forbidden  uint64         `json:"forbidden,omitempty"`
	Limited    uint64         `json:"limited,omitempty"`
	Malformed  uint64         `json:"malformed,omitempty"`
	Stray      uint64         `json:"stray,omitempty"`
	OverBudget uint64         `json:"over_budget,omitempty"`
	Panics     uint64         `json:"panics,omitempty"`
}

// RelayService is one address of a relay peer.
type RelayService struct {
	URI       string `json:"uri"`
	Local     string `json:"local,omitempty"`
	Good      string `json:"advertised_because,omitempty"`
	Trouble   string `json:"trouble,omitempty"`
	Doubt     string `json:"doubt,omitempty"`
	Confirmed int    `json:"confirmed_by,omitempty"` // members
}

func (n *Node) relayRoleStatus() RelayStatus {
	if n.relayPeer == nil {
		return RelayStatus{}
	}
	s := n.relayPeer.Status()
	out := RelayStatus{
		Role: true, Adverts: s.Advertised, Trouble: s.Trouble, Draining: s.Draining, Now: s.Allocations, InUse: s.InUse, Capacity: s.Capacity,
		Members: s.Members, Conns: s.Conns, Month: s.Month, MonthLimit: s.MonthLimit, Speed: s.Speed, Packets: s.Data.Short + s.Data.Handed,
		Grants: s.Grants, Challenged: s.Challenged, Refused: s.Refused, Refusals: s.Refusals, Forbidden: s.Forbidden, Limited: s.Limited,
		Malformed: s.Malformed, Stray: s.Stray, OverBudget: s.OverBudget, Panics: s.Panics,
	}
	for _, v := range s.Services {
		out.Services = append(out.Services, RelayService{v.URI, v.Local, v.Good, v.Trouble, v.Doubt, v.Confirmed})
	}
	return out
}

// relayProblems says what is wrong with the role.
func relayProblems(r RelayStatus) (out []Problem) {
	if !r.Role {
		return nil
	}
	for _, v := range r.Services {
		if v.Good == "" {
			out = append(out, Problem{fmt.Sprintf("the relay peer's address %s is not advertised: %s", v.URI, v.Trouble),
				"open the port in the firewall, or forward it and the ports of relayed addresses; --relay-assume-reachable is for closed networks"})
		}
	}
	for _, v := range r.Services {
		if v.Doubt != "" {
			out = append(out, Problem{fmt.Sprintf("the relay peer's address %s is advertised, but %s", v.URI, v.Doubt),
				"most likely a firewall is in the way: open the port, and those of relayed addresses"})
		}
	}
	if r.Trouble != "" {
		out = append(out, Problem{"the relay peer is not advertised: " + r.Trouble, "it is tried again by itself"})
	}
	if r.MonthLimit > 0 && r.Month >= r.MonthLimit {
		out = append(out, Problem{"the relay peer has relayed all that it may this month", "--relay-month allows more; it begins anew on the first"})
	}
	if r.Panics > 0 {
		out = append(out, Problem{fmt.Sprintf("%d messages for the relay peer met a fault in their handling", r.Panics),
			"this is a fault in p2psip; please report it"})
	}
	return out
}
