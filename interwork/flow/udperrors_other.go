//go:build !linux

package flow

import (
	"net"
	"net/netip"
)

// newUDPErrors gives nil: no other system says which address an error is about.
func newUDPErrors(*net.UDPConn) *udpErrors { return nil }

func aboutDatagram(error) bool { return false }

func (e *udpErrors) next() (to netip.AddrPort, err error, ok bool) { return to, nil, false }
