package datapath

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"
)

// ErrNoDeadline says that these sockets know no deadlines; pion's server sets none.
var ErrNoDeadline = os.ErrNoDeadline

// socket is a datagram socket of whichever kind the platform has.
type socket interface {
	// read waits for a datagram and copies what fits into b. The error after close is net.ErrClosed.
	read(b []byte) (int, netip.AddrPort, error)
	// write sends a datagram or loses it; the only error is net.ErrClosed.
	write(b []byte, to netip.AddrPort) error
	close() error
	local() netip.AddrPort
}

// noDeadlines is the part of net.PacketConn that there is none of.
type noDeadlines struct{}

func (noDeadlines) SetDeadline(time.Time) error      { return ErrNoDeadline }
func (noDeadlines) SetReadDeadline(time.Time) error  { return ErrNoDeadline }
func (noDeadlines) SetWriteDeadline(time.Time) error { return ErrNoDeadline }

// plainSocket is a socket of package net.
type plainSocket struct {
	c     *net.UDPConn
	stats *counters
}

var _ socket = (*plainSocket)(nil)

// pauseAfterError keeps a socket that complains from being asked at full speed.
const pauseAfterError = time.Millisecond

func (s *plainSocket) read(b []byte) (int, netip.AddrPort, error) {
	for {
		n, from, err := s.c.ReadFromUDPAddrPort(b)
		if err == nil {
			return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), nil
		}
		if errors.Is(err, net.ErrClosed) {
			return 0, netip.AddrPort{}, net.ErrClosed
		}
		// Of an earlier datagram (Windows), or of one too large for b (there, too). The socket lives.
		time.Sleep(pauseAfterError)
	}
}

func (s *plainSocket) write(b []byte, to netip.AddrPort) error {
	if _, err := s.c.WriteToUDPAddrPort(b, to); errors.Is(err, net.ErrClosed) {
		return net.ErrClosed
	} else if err != nil {
		s.stats.lostSending.Add(1)
	}
	return nil
}

func (s *plainSocket) close() error { return s.c.Close() }

func (s *plainSocket) local() netip.AddrPort { return addrPort(s.c.LocalAddr()) }
