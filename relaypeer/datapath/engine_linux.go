package datapath

import (
	"net/netip"
	"syscall"
)

type engine struct{}

func newEngine(*Loop) (*engine, error) { return nil, nil }

func (*engine) close() error                                   { return nil }
func (*engine) server(netip.AddrPort, Options) (socket, error) { return nil, ErrClosed }
func (*engine) relayed(netip.AddrPort) (socket, error)         { return nil, ErrClosed }
func (*engine) start(*RelayedConn, Front)                      {}

func reusePort(_, _ string, _ syscall.RawConn) error { return syscall.EINVAL }
