package datapath

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"syscall"

	"github.com/pion/turn/v2"
)

// DefaultMinPort and DefaultMaxPort are the ports that RFC 8656 §6.2 recommends for relayed addresses.
const (
	DefaultMinPort = 49152
	DefaultMaxPort = 65535

	// maxTries bounds the search for a free port: with seven ports in eight taken, one request in 25,000 finds none.
	maxTries = 76
)

// RelayAddress is an address that relayed transport addresses are made on. Announce is what clients are told; it differs from
// Listen behind a one-to-one NAT.
type RelayAddress struct{ Listen, Announce netip.Addr }

// Generator makes the relayed transport addresses of one front's clients. Its fields are not to be changed once in use.
type Generator struct {
	Loop *Loop

	// Front is the front whose clients these are; nil: unknown. Without it there is no short cut, no IPv6, Request is empty but
	// for Relayed, and the meter counts whatever arrives.
	Front Front

	Relay4, Relay6   RelayAddress // the zero value: none of that family
	MinPort, MaxPort uint16       // both 0: DefaultMinPort, DefaultMaxPort

	// Open is asked for every allocation; an error refuses it (508). It is called by the goroutine that handles the request, and
	// up to 128 times for a request with EVEN-PORT, each but the last time with Meter.Close at once. nil: no metering.
	Open func(Request) (Meter, error)
}

var _ turn.RelayAddressGenerator = (*Generator)(nil)

// Validate says what is wrong.
func (g *Generator) Validate() error {
	switch {
	case g.Loop == nil:
		return errors.New("a relay's addresses need a Loop")
	case !g.Relay4.Listen.IsValid() && !g.Relay6.Listen.IsValid():
		return errors.New("a relay needs an address, IPv4 or IPv6, to make relayed addresses on")
	case g.Relay4.Listen.IsValid() && (!g.Relay4.Listen.Is4() || !g.Relay4.Announce.Is4()):
		return fmt.Errorf("relaying IPv4 on %v as %v: both must be IPv4 addresses", g.Relay4.Listen, g.Relay4.Announce)
	case g.Relay6.Listen.IsValid() && (!g.Relay6.Listen.Is6() || !g.Relay6.Announce.Is6() || g.Relay6.Listen.Is4In6()):
		return fmt.Errorf("relaying IPv6 on %v as %v: both must be IPv6 addresses", g.Relay6.Listen, g.Relay6.Announce)
	case g.Relay4.Announce.IsValid() && g.Relay4.Announce.IsUnspecified(), g.Relay6.Announce.IsValid() && g.Relay6.Announce.IsUnspecified():
		return errors.New("the announced address of a relay must be one that others can send to")
	case (g.MinPort == 0) != (g.MaxPort == 0) || g.MinPort > g.MaxPort:
		return fmt.Errorf("relayed ports from %d to %d: the first must not be 0 or above the last", g.MinPort, g.MaxPort)
	}
	return nil
}

// AllocatePacketConn makes a relayed transport address: of the family that the client asked for, which pion does not say, on
// the port asked for, or on a random one of the range. The error is what Open said, ErrNoAddress, ErrNoPort or ErrClosed.
func (g *Generator) AllocatePacketConn(_ string, port int) (net.PacketConn, net.Addr, error) {
	var o *observer
	var asked Request
	at := g.Relay4
	if g.Front != nil {
		o = g.Front.seen()
		six := false
		if asked, six = o.asked(); six {
			at = g.Relay6
		}
	}
	if !at.Listen.IsValid() {
		return nil, nil, ErrNoAddress
	}
	s, err := g.open(at.Listen, port)
	if err != nil {
		return nil, nil, err
	}
	asked.Relayed = netip.AddrPortFrom(at.Announce, s.local().Port())
	var meter Meter = free{}
	if g.Open != nil {
		if meter, err = g.Open(asked); err != nil {
			_ = s.close()
			return nil, nil, err
		}
	}
	r := &RelayedConn{loop: g.Loop, s: s, o: o, announced: asked.Relayed, addr: net.UDPAddrFromAddrPort(s.local()), meter: meter}
	g.Loop.count.allocations.Add(1)
	if err := g.Loop.start(r, g.Front); err != nil {
		_ = r.Close()
		return nil, nil, err
	}
	if o != nil {
		o.created(r)
	}
	return r, net.UDPAddrFromAddrPort(asked.Relayed), nil
}

// AllocateConn is for relaying TCP (RFC 6062), which there is none of.
func (g *Generator) AllocateConn(string, int) (net.Conn, net.Addr, error) {
	return nil, nil, errors.New("TCP is not relayed")
}

// open opens a socket on port, or on a random free one of the range: which is next must not be guessed (RFC 8656 §6.2).
func (g *Generator) open(ip netip.Addr, port int) (socket, error) {
	if port != 0 {
		if port < 0 || port > 1<<16-1 {
			return nil, fmt.Errorf("a relayed address on port %d: %w", port, ErrNoPort)
		}
		return g.Loop.socket(netip.AddrPortFrom(ip, uint16(port)))
	}
	first, last := int(g.MinPort), int(g.MaxPort)
	if first == 0 {
		first, last = DefaultMinPort, DefaultMaxPort
	}
	for range maxTries {
		s, err := g.Loop.socket(netip.AddrPortFrom(ip, uint16(first+rand.IntN(last-first+1))))
		switch {
		case err == nil:
			return s, nil
		case taken(err):
		default:
			return nil, fmt.Errorf("opening a relayed address on %v: %w", ip, err)
		}
	}
	return nil, fmt.Errorf("%w: tried %d of %s", ErrNoPort, maxTries, strconv.Itoa(first)+" to "+strconv.Itoa(last))
}

// taken reports whether a port is somebody else's, or reserved.
func taken(err error) bool {
	var e syscall.Errno
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) ||
		runtime.GOOS == "windows" && errors.As(err, &e) && (e == 10048 || e == 10013) // WSAEADDRINUSE, WSAEACCES
}
