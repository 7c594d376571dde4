package flow

import (
	"errors"
	"net"
	"net/netip"
	"strconv"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/message"
)

// Transport names how messages travel, in the spelling of a Via header.
type Transport string

// The transports of a node.
const (
	TransportUDP Transport = "UDP"
	TransportTCP Transport = "TCP"
	TransportTLS Transport = "TLS"
	TransportP2P Transport = "P2P"
)

// Errors of Flow.Send.
var (
	// ErrClosed says that the flow has ended.
	ErrClosed = errors.New("flow closed")
	// ErrFull says that the far side does not read as fast as it is written to.
	ErrFull = errors.New("flow write queue full")
	// ErrTooLarge says that the message does not fit a datagram or a frame.
	ErrTooLarge = errors.New("message too large for this flow")
)

// Flow is one place messages come from and can be sent back to: a UDP remote address on a socket, a connection, a peer
// stream. Flows are comparable and fit to be map keys: two values are equal if they are the same place. Send keeps
// nothing of the octets it is given. All methods may be called by any goroutine.
type Flow interface {
	Transport() Transport
	Reliable() bool        // true: the transport retransmits, false: the transaction layer has to
	Local() Addr           // this side: ip and port, or this node's name for P2P
	Remote() Addr          // far side: ip and port, or the node name for P2P
	Send(b []byte) error   // queues or writes b whole, never blocks on a slow peer; ErrClosed, ErrFull, ErrTooLarge
	Close() error          // writes what was sent, then ends, without waiting for it; no-op for UDP
	Done() <-chan struct{} // closed when the flow is dead; nil for UDP
	Edge() bool            // true: a phone-side socket, false: a peer or the public side; see KindOf
	Peer() any             // for P2P: what authenticated the far side; for public TLS a TLSPeer; else nil
}

// Kind says who is at the far side of a flow.
type Kind uint8

// The kinds of flows.
const (
	KindEdge   Kind = iota // a phone beside this node
	KindPeer               // another node of the overlay
	KindPublic             // the public SIP world, at a proxy peer
)

// KindOf gives the kind of a flow.
func KindOf(f Flow) Kind {
	switch {
	case f.Edge():
		return KindEdge
	case f.Transport() == TransportP2P:
		return KindPeer
	}
	return KindPublic
}

// Handler is what flows deliver into. Each flow has one reader, which calls the handler synchronously and in order.
// A method that blocks holds up its flow (for UDP: its socket).
type Handler interface {
	// HandleMessage gets a valid message. A request over a socket carries received and rport on its top Via (RFC 3581).
	HandleMessage(f Flow, m sip.Message)
	// HandleMalformed gets a message refused by package message. The usual thing to do is Refuse(f, e).
	HandleMalformed(f Flow, e *message.Error)
	// HandleClosed says that a connection or stream has ended; nothing comes from it any more. Connections that were
	// accepted and never brought a valid message end without a word.
	HandleClosed(f Flow)
}

// Addr is one side of a flow: a host (an IP address without brackets, or a node name) and a port (0 for none).
type Addr struct {
	Host string
	Port int
}

// UnreachableHandler is a Handler that wants to know of datagrams that came back: f leads to an address where, as the
// network says (RFC 3261 §18.4), nobody listens. It is called on a goroutine of the socket, and only where the operating
// system tells such errors apart by address (Linux). Whoever can send packets to this node can forge one.
type UnreachableHandler interface {
	HandleUnreachable(f Flow, err error)
}

// Dialled is a Flow that this side may have opened. Its Local is then a port that nobody listens at; Reach is where the far
// side can open a connection back.
type Dialled interface {
	Reach() Addr
}

// AddrFrom returns ap as an Addr; an IPv4 address mapped into IPv6 becomes plain IPv4.
func AddrFrom(ap netip.AddrPort) Addr {
	return Addr{Host: ap.Addr().Unmap().WithZone("").String(), Port: int(ap.Port())}
}

// AddrPort returns a as an IP address and port, false when the host is a name.
func (a Addr) AddrPort() (netip.AddrPort, bool) {
	ip, err := netip.ParseAddr(a.Host)
	if err != nil || a.Port < 0 || a.Port > 65535 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip, uint16(a.Port)), true
}

// String returns host:port with brackets around IPv6, or the host alone when there is no port.
func (a Addr) String() string {
	if a.Port == 0 {
		return a.Host
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(a.Port))
}
