package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"p2psip/interwork/flow"
	"p2psip/interwork/media"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

// MediaConfig has the node move the sound of its phones (draft §3.2.1): it does ICE on behalf of those that do not, encrypts
// what leaves, and goes through relay peers where nothing else gets through.
type MediaConfig struct {
	// PortMin and PortMax bound the ports towards phones, see media.Config; 0: 20000 to 20998.
	PortMin, PortMax uint16
	// RelayOnly: nobody at the far side of a call learns an address of this machine.
	RelayOnly bool
	// Relays gives addresses at relay peers; nil: those that are found in the overlay.
	Relays media.Relays
	// RelayPeers, when set, are the only ones to use of those that are found.
	RelayPeers []overlay.NodeID
	// Late has relay peers looked for and candidates gathered when a call needs them, as the draft draws it (§5.1), and not
	// before. Such a node costs the relay peers nothing while nobody calls, and its calls take longer to set up.
	Late bool
	// RelayTrace sees what is done about relay peers. It must be quick.
	RelayTrace func(RelayEvent)
}

// ParseMediaPorts reads a range of ports, such as 20000-20998.
func ParseMediaPorts(s string) (min, max uint16, err error) {
	lo, hi, _ := strings.Cut(s, "-")
	a, err1 := strconv.ParseUint(lo, 10, 16)
	b, err2 := strconv.ParseUint(hi, 10, 16)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, fmt.Errorf("%q is no range of ports such as %d-%d", s, media.DefaultPortMin, media.DefaultPortMax)
	}
	c := media.Config{PortMin: uint16(a), PortMax: uint16(b)}
	if err := c.Validate(); err != nil {
		return 0, 0, err
	}
	return uint16(a), uint16(b), nil
}

// validate says what is wrong with the configuration.
func (c *MediaConfig) validate() error {
	if c == nil {
		return nil
	}
	m := media.Config{PortMin: c.PortMin, PortMax: c.PortMax}
	return m.Validate()
}

// openMedia makes what moves the sound of the phones, if anything is to.
func (n *Node) openMedia() (err error) {
	c := n.cfg.Media
	if c == nil {
		return nil
	}
	relays := c.Relays
	if relays == nil {
		if relays, err = n.openRelays(); err != nil {
			return err
		}
	}
	warm := 0
	if c.Late {
		warm = -1
	}
	n.mediaStreams = newMediaStreams(n.overlay, n.leadsNowhere, n.log)
	if n.media, err = media.New(media.Config{
		PortMin: c.PortMin, PortMax: c.PortMax, Loopback: n.cfg.onLoopback(), RelayOnly: c.RelayOnly, Public: n.publicAddrs(),
		Relays: relays, STUN: n.relayServers, Peers: n.mediaStreams, OfferSDES: true, Warm: warm, Opened: n.mediaSockets.opened, Logger: n.log,
	}); err != nil {
		return fmt.Errorf("media: %w", err)
	}
	return nil
}

// closeMedia ends all that moves sound. The proxy asks no more, the overlay is still there.
func (n *Node) closeMedia() {
	if n.mediaStreams != nil {
		n.mediaStreams.close()
	}
	if n.media != nil {
		n.media.Close()
	}
	n.closeRelays()
}

// leadsNowhere gives up the connection with a node over which nothing comes.
func (n *Node) leadsNowhere(id overlay.NodeID) {
	n.peers.Drop(id)
	n.peers.revive(id)
}

// onLoopback says that the node lives on this machine only.
func (c Config) onLoopback() bool {
	for _, s := range c.listen() {
		if m, err := multiaddr.NewMultiaddr(s); err != nil || !manet.IsIPLoopback(m) {
			return false
		}
	}
	return true
}

// publicAddrs gives the addresses at which the outside reaches this machine without ado: what a proxy peer is known by, and
// IPv4 addresses of the machine that are nobody's private ones. IPv6 ones do not count: home routers let nothing in to them.
func (n *Node) publicAddrs() (out []netip.Addr) {
	if n.cfg.Media.RelayOnly {
		return nil
	}
	have := map[netip.Addr]bool{}
	add := func(a netip.Addr) {
		if a = a.Unmap(); a.IsValid() && !a.IsUnspecified() && !have[a] {
			have[a] = true
			out = append(out, a)
		}
	}
	if p := n.cfg.ProxyPeer; p != nil {
		for _, s := range p.Sockets {
			if s.Name.IsValid() {
				continue // behind a NAT, which lets in what it was told to
			}
			var at net.Addr
			if s.Packet != nil {
				at = s.Packet.LocalAddr()
			} else if s.Listener != nil {
				at = s.Listener.Addr()
			}
			if at == nil {
				continue
			}
			if ap, err := netip.ParseAddrPort(at.String()); err == nil {
				add(ap.Addr())
			}
		}
	}
	if n.cfg.onLoopback() {
		return out
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return out
	}
	shared := netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			if ip := p.Addr(); ip.Is4() && ip.IsGlobalUnicast() && !ip.IsPrivate() && !shared.Contains(ip) {
				add(ip)
			}
		}
	}
	return out
}

// anchors is the Media of the proxy.
type anchors struct{ m *media.Manager }

var (
	_ proxy.Media         = anchors{}
	_ proxy.MediaExchange = media.Exchange(nil)
)

func (a anchors) Open(d proxy.MediaDialog) proxy.MediaExchange {
	return a.m.Open(mediaDialog(d)) // never nil: what passes untouched is decided when its description is seen
}

func (a anchors) Find(d proxy.MediaDialog) proxy.MediaExchange {
	if e := a.m.Find(mediaDialog(d)); e != nil {
		return e
	}
	return nil
}

func (a anchors) End(callID, fromTag, toTag string) { a.m.End(callID, fromTag, toTag) }

func mediaDialog(d proxy.MediaDialog) media.Dialog {
	out := media.Dialog{
		CallID: d.CallID, FromTag: d.FromTag, ToTag: d.ToTag, Method: d.Method, CSeq: d.CSeq, FromPhone: d.FromPhone,
		Transaction: d.Transaction, ICE: d.ICE, Outside: d.Outside, Node: d.Node, From: d.From, To: d.To,
	}
	out.PhoneHost, _ = netip.ParseAddr(d.PhoneHost)
	if d.Phone != nil {
		if ap, ok := d.Phone.Remote().AddrPort(); ok {
			out.Phone = ap.Addr().Unmap()
		}
		out.PhoneTLS = d.Phone.Transport() == flow.TransportTLS
	}
	return out
}

// warmMedia has candidates gathered before the first call, now that there is a phone.
func (n *Node) warmMedia() {
	if n.media != nil {
		n.media.Warm()
	}
}
