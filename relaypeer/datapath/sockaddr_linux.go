package datapath

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockaddr is a struct sockaddr_in or sockaddr_in6 as the kernel reads and writes it, with its length.
type sockaddr struct {
	raw  unix.RawSockaddrInet6 // the larger of the two
	size uint32
}

// key is a transport address in a form that is cheap to compare and to hash. IPv4 is mapped into IPv6.
type key struct {
	hi, lo uint64
	port   uint32
	scope  uint32
}

// keyOf reads the address that the kernel wrote; the zero key if it is neither family's.
func keyOf(raw *unix.RawSockaddrInet6) key {
	switch raw.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		return key{lo: 0xffff<<32 | uint64(binary.BigEndian.Uint32(v4.Addr[:])), port: uint32(networkOrder(v4.Port))}
	case unix.AF_INET6:
		return key{
			hi: binary.BigEndian.Uint64(raw.Addr[:8]), lo: binary.BigEndian.Uint64(raw.Addr[8:]),
			port: uint32(networkOrder(raw.Port)), scope: raw.Scope_id,
		}
	}
	return key{}
}

// networkOrder swaps a port between the machine's order and the network's.
func networkOrder(p uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], p)
	return binary.BigEndian.Uint16(b[:])
}

// addrPort gives k as the rest of the program knows addresses.
func (k key) addrPort() netip.AddrPort {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	ip := netip.AddrFrom16(b).Unmap()
	if k.scope != 0 && ip.Is6() {
		ip = ip.WithZone(strconv.FormatUint(uint64(k.scope), 10))
	}
	return netip.AddrPortFrom(ip, uint16(k.port))
}

// sockaddrOf writes an address for the kernel. A zone that is no number is left out.
func sockaddrOf(a netip.AddrPort) (s sockaddr) {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.raw))
		v4.Family, v4.Port, v4.Addr = unix.AF_INET, networkOrder(a.Port()), ip.As4()
		s.size = unix.SizeofSockaddrInet4
		return s
	}
	s.raw.Family, s.raw.Port, s.raw.Addr = unix.AF_INET6, networkOrder(a.Port()), ip.As16()
	if scope, err := strconv.ParseUint(ip.Zone(), 10, 32); err == nil {
		s.raw.Scope_id = uint32(scope)
	}
	s.size = unix.SizeofSockaddrInet6
	return s
}

// name gives the address as golang.org/x/sys/unix wants it.
func name(a netip.AddrPort) unix.Sockaddr {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	scope, _ := strconv.ParseUint(ip.Zone(), 10, 32)
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16(), ZoneId: uint32(scope)}
}
