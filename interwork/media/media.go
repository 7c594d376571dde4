package media

import (
	"context"
	"net"
	"net/netip"
	"strconv"

	"p2psip/overlay"
)

// Dialog says what a request, and its dialog, is to the node beside the phone. It is what proxy.MediaDialog says.
type Dialog struct {
	CallID, FromTag, ToTag string // as in the request; ToTag is "" where it begins a dialog
	Method                 string // INVITE, UPDATE or PRACK
	CSeq                   uint32
	FromPhone              bool   // the request travels from the phone
	Transaction            string // the same for all copies of one request that this node sends on

	Phone     netip.Addr // the host that signals for the phone; its sound may come from there
	PhoneHost netip.Addr // the address of this node as that phone knows it
	PhoneTLS  bool       // the phone signals over TLS, so keys in its descriptions (SDES) are not read on the way
	ICE       bool       // the phone registered with +sip.ice (RFC 5768): it is called with an ICE offer untouched

	Outside bool           // the far side is outside the overlay
	Node    overlay.NodeID // the node of the far side, or where Outside the proxy peer in between

	From, To string // for the status
}

// Exchange is one copy of a request with its responses; at most one answer counts. It is proxy.MediaExchange, which says more.
type Exchange interface {
	// Request gives the description to send on for that of the request; nil in, where the request has none. now is false when
	// candidates have to be gathered first: ready is then called once, on another goroutine and under no lock, at the latest
	// after GatherTimeout. An error that is a *Refusal says what to answer.
	Request(sdp []byte, ready func(out []byte, err error)) (out []byte, now bool, err error)
	// Response gives the description to send on for that of a response above 100 and below 300, nil in where it has none.
	Response(status int, toTag string, reliable bool, sdp []byte) (out []byte, err error)
	// Ack does the same for the ACK of a 2xx, and its repetitions.
	Ack(toTag string, sdp []byte) (out []byte, err error)
	// Close says that no 2xx comes of this copy. What it changed in a session that goes on is taken back.
	Close()
}

// Refusal is an error that a request is to be answered with.
type Refusal struct {
	Status int    // 415, 488, 503
	Reason string // for the Warning or the log: what was wrong
}

// Error says what was refused and with which status.
func (r *Refusal) Error() string { return strconv.Itoa(r.Status) + ": " + r.Reason }

// SIPStatus is the status to answer with.
func (r *Refusal) SIPStatus() int { return r.Status }

// Relays gives allocations at relay peers.
type Relays interface {
	// Allocate gives up to n allocations at different relay peers, as many as could be had until ctx ends. What it gives belongs to
	// the caller, who closes it.
	Allocate(ctx context.Context, n int) ([]Allocation, error)
}

// Allocation is a relayed address of ours at a relay peer (RFC 8656 §2.2). LocalAddr is the relayed address, a *net.UDPAddr.
// WriteTo does not wait for the network: permissions are asked for on the way. relaypeer/client has it.
type Allocation interface {
	net.PacketConn
	Relay() overlay.NodeID  // the relay peer, "" if unknown
	Server() string         // host:port of its TURN server
	Mapped() netip.AddrPort // where the relay saw us come from
	Done() <-chan struct{}  // closed when the allocation is lost
}

// Peers carries the restarts of ICE between nodes.
type Peers interface {
	// Renegotiate hands an offer to the node at the far side of the call with that token, and gives its answer.
	Renegotiate(ctx context.Context, node overlay.NodeID, token string, offer []byte) (answer []byte, err error)
}
