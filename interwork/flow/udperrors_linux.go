package flow

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// newUDPErrors has the kernel keep the errors of a socket (IP_RECVERR, ip(7)); nil if it does not want to.
func newUDPErrors(c *net.UDPConn) *udpErrors {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	on := false
	err = raw.Control(func(fd uintptr) {
		// A socket for both families has both options; one for IPv4 alone refuses the other.
		on = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_RECVERR, 1) == nil
		on = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVERR, 1) == nil || on
	})
	if err != nil || !on {
		return nil
	}
	return &udpErrors{raw: raw, wake: make(chan struct{}, 1)}
}

// aboutDatagram reports that err is one of those that an ICMP error becomes (icmp_err_convert in the kernel).
func aboutDatagram(err error) bool {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return false
	}
	switch no {
	case syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENOPROTOOPT, syscall.EMSGSIZE,
		syscall.EOPNOTSUPP, syscall.EHOSTDOWN, syscall.ENONET, syscall.EPROTO, syscall.EACCES:
		return true
	}
	return false
}

// next takes one error off the queue; ok is false when it is empty. err is nil for what says nothing final about the
// address: a hop count that ran out, a datagram too large (RFC 3261 §18.4).
func (e *udpErrors) next() (to netip.AddrPort, err error, ok bool) {
	var control [256]byte
	var n int
	var from syscall.Sockaddr
	failed := e.raw.Control(func(fd uintptr) {
		for {
			_, n, _, from, err = syscall.Recvmsg(int(fd), nil, control[:], syscall.MSG_ERRQUEUE|syscall.MSG_DONTWAIT)
			if err != syscall.EINTR {
				return
			}
		}
	})
	if failed != nil || err != nil {
		return to, nil, false
	}
	switch a := from.(type) { // where the datagram was to go
	case *syscall.SockaddrInet4:
		to = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		to = netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	default:
		return to, nil, true
	}
	messages, err := syscall.ParseSocketControlMessage(control[:n])
	if err != nil {
		return to, nil, true
	}
	for _, m := range messages {
		if no, final := extended(m); final {
			return to, no, true
		}
	}
	return to, nil, true
}

// extended reads struct sock_extended_err (linux/errqueue.h): errno (4 octets), origin, ICMP type, ICMP code.
func extended(m syscall.SocketControlMessage) (no syscall.Errno, final bool) {
	const originICMP, originICMP6 = 2, 3
	d := m.Data
	if len(d) < 7 {
		return 0, false
	}
	h := m.Header
	if !(h.Level == syscall.IPPROTO_IP && h.Type == syscall.IP_RECVERR || h.Level == syscall.IPPROTO_IPV6 && h.Type == syscall.IPV6_RECVERR) {
		return 0, false
	}
	origin, kind, code := d[4], d[5], d[6]
	switch origin {
	case originICMP:
		final = kind == 3 && code <= 3 // network, host, protocol, port unreachable (RFC 792)
	case originICMP6:
		final = kind == 1 && (code == 0 || code == 3 || code == 4) // no route, address, port unreachable (RFC 4443)
	}
	return syscall.Errno(binary.NativeEndian.Uint32(d)), final
}
