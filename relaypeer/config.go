package relaypeer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"p2psip/relaypeer/credential"
	"p2psip/relaypeer/datapath"
)

// Realm is the realm of the long-term credential mechanism (RFC 8489 §9.2). It is the same everywhere and short: it travels in
// answers to strangers.
const Realm = "turn"

// Transport is how clients reach a socket.
type Transport string

// The transports.
const (
	UDP Transport = "udp"
	TCP Transport = "tcp"
	TLS Transport = "tls"
)

// Socket is one socket for clients. The Server owns what is given once New has returned it.
type Socket struct {
	Transport Transport
	Front     datapath.Front // UDP
	Listener  net.Listener   // TCP, TLS: of plain TCP connections
	TLS       *tls.Config    // TLS
	// Name is the address that others know the socket by, where that is not its own: behind a NAT that maps ports one to one,
	// and for a socket bound to all addresses.
	Name netip.AddrPort
}

func (s Socket) local() netip.AddrPort {
	var a net.Addr
	if s.Front != nil {
		a = s.Front.LocalAddr()
	} else {
		a = s.Listener.Addr()
	}
	return addrPort(a)
}

// name gives the address that others know the socket by.
func (s Socket) name() netip.AddrPort {
	if s.Name.IsValid() {
		return netip.AddrPortFrom(s.Name.Addr().Unmap(), s.Name.Port())
	}
	return s.local()
}

// Config makes a Server. Loop, Sockets and Secret are required.
type Config struct {
	// Loop moves the packets. The Sockets' fronts belong to it; its owner closes it after the Server.
	Loop    *datapath.Loop
	Sockets []Socket
	Secret  credential.Secret

	Allow    []netip.Prefix // where relayed data may go besides public addresses, for closed networks
	Services []uint16       // ports of this machine that relayed data never goes to; those of Sockets are among them
	// Media says whether a socket of this node's own media is at an address of this machine: those may be sent to, so that
	// members can call the users of a node that is their relay peer too. nil: there are none.
	Media func(netip.AddrPort) bool

	MinPort, MaxPort uint16 // of relayed addresses; both 0: datapath's defaults
	Limits           Limits
	// UsageFile remembers the bytes of this month; "": they are forgotten at the end.
	UsageFile string

	// AssumeReachable has the addresses advertised as they are, without anybody verifying them: for closed networks.
	AssumeReachable bool

	// Addrs tells the addresses of this machine with their networks; nil: those of the interfaces.
	Addrs  func() ([]netip.Prefix, error)
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: slog.Default()
}

// Limits bound what members and strangers can make a relay peer do. A zero field means its default; a negative one, where it
// says so, means no limit.
type Limits struct {
	Allocations int   // in all; 1,000
	PerMember   int   // allocations of one member; 48: two sets kept ready and some calls, of a node with a few phones
	PerSource   int   // allocations from one address (/64 of IPv6), whoever the members are; 250
	Made        int   // allocations that a member may make in a minute; 120
	Requests    int   // requests a second of a member; 100
	Rate        int64 // octets of data a second in all; 12,500,000 (100 Mbit/s). Negative: no limit
	MemberRate  int64 // of one member; 1,250,000 (10 Mbit/s). Negative: no limit
	Month       int64 // octets of data a calendar month (UTC) in all; 500 GiB. Negative: no limit
	MemberMonth int64 // of one member; 50 GiB. Negative: no limit

	Permissions int           // addresses that an allocation may send to at one time; 64
	MaxAge      time.Duration // longest life of an allocation, however often it is refreshed; 24 h

	Answers int // answers a second to one source without a credential; 20
	Larger  int // of those to all sources together that are larger than their question, a second; 200
	Sources int // sources remembered; 16,384
	Members int // members remembered; 4,096

	Conns     int           // connections of TCP and TLS clients; 1,100
	PerHost   int           // of one address; 250
	Idle      time.Duration // how long a connection may be without an allocation; 30 s
	Handshake time.Duration // longest TLS handshake; 5 s

	Grants int // credentials that a member may ask for in a minute; 10
}

func (l Limits) withDefaults() Limits {
	for _, v := range []struct {
		p   *int
		def int
	}{
		{&l.Allocations, 1000}, {&l.PerMember, 48}, {&l.PerSource, 250}, {&l.Made, 120}, {&l.Requests, 100}, {&l.Permissions, 64},
		{&l.Answers, 20}, {&l.Larger, 200}, {&l.Sources, 16384}, {&l.Members, 4096}, {&l.Conns, 1100}, {&l.PerHost, 250}, {&l.Grants, 10},
	} {
		if *v.p == 0 {
			*v.p = v.def
		}
	}
	for _, v := range []struct {
		p   *int64
		def int64
	}{{&l.Rate, 12_500_000}, {&l.MemberRate, 1_250_000}, {&l.Month, 500 << 30}, {&l.MemberMonth, 50 << 30}} {
		if *v.p == 0 {
			*v.p = v.def
		}
	}
	for _, v := range []struct {
		p   *time.Duration
		def time.Duration
	}{{&l.MaxAge, 24 * time.Hour}, {&l.Idle, 30 * time.Second}, {&l.Handshake, 5 * time.Second}} {
		if *v.p == 0 {
			*v.p = v.def
		}
	}
	return l
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.Loop == nil:
		return errors.New("relay peer: nothing moves its packets")
	case len(c.Sockets) == 0:
		return errors.New("relay peer: no socket for clients")
	case c.Secret == (credential.Secret{}):
		return errors.New("relay peer: no secret to make credentials with")
	case (c.MinPort == 0) != (c.MaxPort == 0) || c.MinPort > c.MaxPort:
		return fmt.Errorf("relay peer: relayed addresses at ports %d to %d", c.MinPort, c.MaxPort)
	}
	for _, s := range c.Sockets {
		ok := s.Transport == UDP && s.Front != nil && s.Listener == nil ||
			(s.Transport == TCP || s.Transport == TLS) && s.Listener != nil && s.Front == nil
		if !ok || s.Transport == TLS && s.TLS == nil {
			return fmt.Errorf("relay peer: a socket for %q without what it takes", s.Transport)
		}
		if !s.local().IsValid() {
			return fmt.Errorf("relay peer: a %s socket without an address", s.Transport)
		}
		if n := s.name(); n.Addr().IsUnspecified() || n.Port() == 0 {
			return fmt.Errorf("relay peer: the %s socket %s needs the address that others reach it at", s.Transport, s.local())
		}
		if s.name().Addr().Is4() != s.local().Addr().Is4() && !s.local().Addr().IsUnspecified() {
			return fmt.Errorf("relay peer: %s is known by %s, an address of another family", s.local(), s.name())
		}
	}
	l := c.Limits
	if min(l.Allocations, l.PerMember, l.PerSource, l.Made, l.Requests, l.Permissions, l.Answers, l.Larger, l.Sources, l.Members, l.Conns, l.PerHost, l.Grants) < 0 ||
		min(l.MaxAge, l.Idle, l.Handshake) < 0 {
		return errors.New("relay peer: a limit is negative")
	}
	return nil
}

// addrPort turns the address of a socket into numbers; invalid if it is of another kind.
func addrPort(a net.Addr) netip.AddrPort {
	var p netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		p = a.AddrPort()
	case *net.TCPAddr:
		p = a.AddrPort()
	}
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}
