package media

import (
	"context"
	"net"
	"net/netip"
	"strconv"

	"p2psip/overlay"
)

// Dialog says which call, and which branch of it, the bodies of an Exchange belong to.
type Dialog struct {
	CallID, FromTag string
	ToTag           string // "" where the request begins the dialog
	Branch          string // tells the branches of one request apart; constant for the life of the branch

	Phone     netip.Addr // the host that signals for the phone; its sound may come from there
	PhoneHost netip.Addr // the address of this node as that phone knows it
	PhoneTLS  bool       // the phone signals over TLS, so keys in its descriptions (SDES) are not read on the way
	ICE       bool       // the phone registered with +sip.ice (RFC 5768): it is called with an ICE offer untouched
	FromPhone bool       // the request travels from the phone

	Outside bool           // the far side is outside the overlay
	Node    overlay.NodeID // else the node there

	From, To string // for the status
}

// Content is what the header of a message says about its body.
type Content struct {
	Type     string // Content-Type with its parameters
	Encoding string // Content-Encoding; anything but "" and "identity" is refused with 415
}

// Exchange is one transaction of a dialog whose bodies pass through this node. Its methods may be called by any goroutine,
// one at a time. The same input gives the same output, so retransmissions need no special care.
type Exchange interface {
	// Request gives the body of the request to send on. now is false when candidates have to be gathered first: ready is then
	// called once, later, on another goroutine and under no lock, at the latest after GatherTimeout. An error that is a *Refusal says
	// what to answer.
	Request(h Content, body []byte, ready func(out []byte, err error)) (out []byte, now bool, err error)
	// Response gives the body of a response with this status and To tag. It does not block.
	Response(status int, toTag string, h Content, body []byte) ([]byte, error)
	// Ack gives the body of the ACK of a 2xx.
	Ack(toTag string, h Content, body []byte) ([]byte, error)
	// Close says that this branch has ended without a session: failed, cancelled or lost. After a 2xx it does nothing.
	Close()
}

// Refusal is an error that a request is to be answered with.
type Refusal struct {
	Status int    // 415, 488, 503
	Reason string // for the Warning or the log: what was wrong
}

// Error says what was refused and with which status.
func (r *Refusal) Error() string { return strconv.Itoa(r.Status) + ": " + r.Reason }

// Relays gives allocations at relay peers.
type Relays interface {
	// Allocate gives up to n allocations at different relay peers, as many as could be had until ctx ends. What it gives belongs to
	// the caller, who closes it.
	Allocate(ctx context.Context, n int) ([]Allocation, error)
}

// Allocation is a relayed address of ours at a relay peer (RFC 8656 §2.2). LocalAddr is the relayed address, a *net.UDPAddr.
// WriteTo must not wait for the network for an address that was permitted.
type Allocation interface {
	net.PacketConn
	Relay() overlay.NodeID     // the relay peer, "" if unknown
	Server() string            // host:port of its TURN server
	Mapped() netip.AddrPort    // where the relay saw us come from
	Permit(a netip.Addr) error // may wait for the relay
	Done() <-chan struct{}     // closed when the allocation is lost
}

// Peers carries the restarts of ICE between nodes.
type Peers interface {
	// Renegotiate hands an offer to the node at the far side of the call with that token, and gives its answer.
	Renegotiate(ctx context.Context, node overlay.NodeID, token string, offer []byte) (answer []byte, err error)
}
