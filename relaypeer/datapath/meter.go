package datapath

import "net/netip"

// Meter accounts for one allocation: its packets in both directions, whichever way they take.
type Meter interface {
	// Take is asked before a packet with that many octets of data (without TURN's framing) is forwarded; false: it is dropped.
	// It is called by several goroutines, for each packet, so it must be fast and must not block or call into this package.
	Take(octets int) bool
	// Close is called once, when the allocation has ended. Take is not called after it has returned.
	Close()
}

// Request is the Allocate request that makes an allocation, as far as it is known when its address is asked for.
// pion has authenticated it by then.
type Request struct {
	Client   netip.AddrPort // the client's transport address as the server sees it; zero where the Generator has no Front
	Username string         // of the long-term credential
	Relayed  netip.AddrPort // the relayed transport address announced to the client
}

// free is the meter of who needs none.
type free struct{}

var _ Meter = free{}

func (free) Take(int) bool { return true }
func (free) Close()        {}
