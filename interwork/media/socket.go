package media

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"p2psip/overlay"
)

// socket is one local end of a far leg: a UDP socket at an address of this machine, or an allocation at a relay peer. Reading
// is one goroutine's, writing anybody's.
type socket struct {
	udp   *net.UDPConn // nil for an allocation
	alloc Allocation   // nil for a UDP socket
	quick addrPortConn // the allocation, if it can do without net.Addr
	gone  func()       // to be called when the socket is closed; nil for an allocation, and where nobody wants to know

	local  netip.AddrPort // what it is reached at where nothing is in between; for an allocation the relayed address
	mapped netip.AddrPort // as STUN servers see it, if that differs

	proven atomic.Pointer[[]netip.AddrPort] // far addresses that have shown that they know the password; replaced, never written
	mu     sync.Mutex                       // of replacing proven, and of to
	to     map[netip.AddrPort]*net.UDPAddr  // what an allocation wants its addresses as
}

// addrPortConn is an Allocation that makes no garbage for each packet; relaypeer/client's is one.
type addrPortConn interface {
	ReadFromAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToAddrPort(b []byte, to netip.AddrPort) (int, error)
}

func newHostSocket(a netip.Addr, opened func(netip.AddrPort) (closed func())) (*socket, error) {
	c, err := net.ListenUDP(network(a), net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return nil, err
	}
	s := &socket{udp: c, local: unmap(c.LocalAddr().(*net.UDPAddr).AddrPort())}
	if opened != nil {
		s.gone = opened(s.local)
	}
	return s, nil
}

func newRelaySocket(a Allocation) (*socket, error) {
	u, ok := a.LocalAddr().(*net.UDPAddr)
	if !ok || !u.AddrPort().IsValid() {
		return nil, errors.New("media: an allocation without an address")
	}
	quick, _ := a.(addrPortConn)
	return &socket{alloc: a, quick: quick, local: unmap(u.AddrPort()), to: make(map[netip.AddrPort]*net.UDPAddr)}, nil
}

func (s *socket) relayed() bool { return s.alloc != nil }

// relay names the relay peer and its server, both "" for a socket of this machine.
func (s *socket) relay() (overlay.NodeID, string) {
	if s.alloc == nil {
		return "", ""
	}
	return s.alloc.Relay(), s.alloc.Server()
}

// lost says that an allocation is gone.
func (s *socket) lost() bool {
	if s.alloc == nil {
		return false
	}
	select {
	case <-s.alloc.Done():
		return true
	default:
		return false
	}
}

func (s *socket) read(b []byte) (int, netip.AddrPort, error) {
	if s.udp != nil {
		n, from, err := s.udp.ReadFromUDPAddrPort(b)
		return n, unmap(from), err
	}
	if s.quick != nil {
		n, from, err := s.quick.ReadFromAddrPort(b)
		return n, unmap(from), err
	}
	n, from, err := s.alloc.ReadFrom(b)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	u, ok := from.(*net.UDPAddr)
	if !ok {
		return 0, netip.AddrPort{}, nil
	}
	return n, unmap(u.AddrPort()), nil
}

func (s *socket) write(b []byte, to netip.AddrPort) error {
	if s.udp != nil {
		_, err := s.udp.WriteToUDPAddrPort(b, to)
		return err
	}
	if s.quick != nil {
		_, err := s.quick.WriteToAddrPort(b, to)
		return err
	}
	_, err := s.alloc.WriteTo(b, s.udpAddr(to))
	return err
}

// udpAddr remembers addresses in the form that net.PacketConn takes.
func (s *socket) udpAddr(to netip.AddrPort) *net.UDPAddr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.to[to]; u != nil {
		return u
	}
	if len(s.to) >= maxProven {
		clear(s.to)
	}
	u := net.UDPAddrFromAddrPort(to)
	s.to[to] = u
	return u
}

func (s *socket) setReadDeadline(t time.Time) error {
	if s.udp != nil {
		return s.udp.SetReadDeadline(t)
	}
	return s.alloc.SetReadDeadline(t)
}

func (s *socket) close() {
	if s.udp != nil {
		s.udp.Close()
		if s.gone != nil {
			s.gone()
		}
		return
	}
	s.alloc.Close()
}

// isProven says whether the far side has proved itself from there.
func (s *socket) isProven(from netip.AddrPort) bool {
	p := s.proven.Load()
	if p == nil {
		return false
	}
	for _, a := range *p {
		if a == from {
			return true
		}
	}
	return false
}

// prove takes an address for proven; false when there are too many already.
func (s *socket) prove(from netip.AddrPort) bool {
	if s.isProven(from) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var old []netip.AddrPort
	if p := s.proven.Load(); p != nil {
		old = *p
	}
	if len(old) >= maxProven {
		return false
	}
	now := append(append(make([]netip.AddrPort, 0, len(old)+1), old...), from)
	s.proven.Store(&now)
	return true
}

// forget makes every address prove itself again, to another far side.
func (s *socket) forget() { s.proven.Store(nil) }
