//go:build !linux

package datapath

import (
	"net/netip"
	"syscall"
)

// engine does not exist here: a nil one means ordinary sockets.
type engine struct{}

func newEngine(*Loop) (*engine, error) { return nil, nil }

func (*engine) close() error                                   { return nil }
func (*engine) server(netip.AddrPort, Options) (socket, error) { return nil, ErrClosed }
func (*engine) relayed(netip.AddrPort) (socket, error)         { return nil, ErrClosed }
func (*engine) start(*RelayedConn, Front) error                { return nil }

// reusePort has no counterpart that spreads clients over sockets.
func reusePort(_, _ string, _ syscall.RawConn) error { return syscall.EINVAL }
