package proxypeer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/locate"
	"p2psip/overlay"
)

// Config makes a Peer.
type Config struct {
	OID     overlay.ID
	Sockets []Socket // at least one
	Locator Locator
	Policy  Policy // nil: members may call everywhere, everybody may call the users of the overlay

	// TLS is what TLS connections to other servers are made with: the roots to believe, and the domain certificate to show.
	// Its InsecureSkipVerify has no effect: names are always checked (RFC 5922). nil: the system's roots, no certificate.
	TLS *tls.Config
	// Dial opens connections; nil: net.Dialer with the address of the socket whose transport it is.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	Capacity uint32 // calls at one time that this node offers to carry; 0: DefaultCapacity
	Limits   Limits
	Logger   *slog.Logger // nil: slog.Default()
}

// Socket is one public socket. The Peer owns what is given once Start has been called.
type Socket struct {
	Transport flow.Transport // UDP, TCP or TLS
	Packet    net.PacketConn // UDP
	Listener  net.Listener   // TCP; TLS: one of crypto/tls, or a plain one with TLS set
	TLS       *tls.Config    // for a TLS socket with a plain Listener
	// Name is the address that the public side knows the socket by, where that is not its own.
	Name netip.AddrPort
}

// Locator is RFC 3263; locate.Locator implements it.
type Locator interface {
	LocateFor(ctx context.Context, uri sip.Uri, need locate.Need) (locate.Result, error)
	Failed(t locate.Target)
	Good(t locate.Target)
}

var _ Locator = (*locate.Locator)(nil)

// Policy says who may talk to whom across the border. An error that is a *proxy.Refusal is the answer.
type Policy interface {
	// Outbound judges a request of a member that leaves for uri, and may name another way there.
	Outbound(ctx context.Context, uri sip.Uri, req *sip.Request) (Way, error)
	// Inbound judges a request from the public side for a user of the overlay.
	Inbound(ctx context.Context, f flow.Flow, req *sip.Request) error
	// Returned hears of a member's request that comes back from the public side, which nobody judges a second time.
	Returned(req *sip.Request)
}

// Way is how a request leaves.
type Way struct {
	URI      sip.Uri     // to be located instead; without host: the one asked for
	Need     locate.Need // what the way has to be like
	Subjects []string    // names of which the certificate of a TLS server has to bear one; none: that of the domain
}

// Limits bound what the public side can make a proxy peer do. A zero field means its default.
type Limits struct {
	Rate     int           // requests a second from one source; 20
	Burst    int           // requests at once from one source; 100
	Faults   int           // refused requests that a source may have before it is kept waiting; 20
	Forgive  time.Duration // how long until one of them is forgotten; 15 s
	Sources  int           // sources remembered; 16384
	Verified time.Duration // how long a UDP source that has shown that it hears is believed; 1 h
	Larger   int           // responses of callees to other UDP sources that may be larger than what was asked, a minute; 3
	Conns    int           // connections, accepted and made, of one listener; 2048
	PerHost  int           // accepted connections of one address; 64
	Open     time.Duration // longest opening of a connection; 3 s
}

// DefaultCapacity is what a small machine carries without effort.
const DefaultCapacity = 500

func (l Limits) withDefaults() Limits {
	for _, v := range []struct {
		p   *int
		def int
	}{{&l.Rate, 20}, {&l.Burst, 100}, {&l.Faults, 20}, {&l.Sources, 16384}, {&l.Larger, 3}, {&l.Conns, 2048}, {&l.PerHost, 64}} {
		if *v.p == 0 {
			*v.p = v.def
		}
	}
	for _, v := range []struct {
		p   *time.Duration
		def time.Duration
	}{{&l.Forgive, 15 * time.Second}, {&l.Verified, time.Hour}, {&l.Open, 3 * time.Second}} {
		if *v.p == 0 {
			*v.p = v.def
		}
	}
	return l
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.OID == "":
		return errors.New("proxy peer: no overlay identifier")
	case len(c.Sockets) == 0:
		return errors.New("proxy peer: no public socket")
	case c.Locator == nil:
		return errors.New("proxy peer: nothing finds servers")
	}
	for _, s := range c.Sockets {
		ok := s.Transport == flow.TransportUDP && s.Packet != nil && s.Listener == nil ||
			(s.Transport == flow.TransportTCP || s.Transport == flow.TransportTLS) && s.Listener != nil && s.Packet == nil
		if !ok {
			return fmt.Errorf("proxy peer: a socket for %q without what it takes", s.Transport)
		}
	}
	l := c.Limits
	if min(l.Rate, l.Burst, l.Faults, l.Sources, l.Larger, l.Conns, l.PerHost) < 0 || min(l.Forgive, l.Verified, l.Open) < 0 {
		return errors.New("proxy peer: a limit is negative")
	}
	return nil
}
