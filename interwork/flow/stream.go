package flow

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"

	"p2psip/interwork/message"
)

// Stream is one listening TCP or TLS socket, its connections and their readers.
type Stream struct {
	ln net.Listener
	h  Handler
	wg sync.WaitGroup
	tr Transport

	mu    sync.Mutex
	conns map[Addr]*conn // guarded by mu
}

// ListenTCP starts accepting from ln and owns it from now on.
func ListenTCP(ln net.Listener, h Handler, o Options) *Stream {
	s := &Stream{ln: ln, h: h, tr: TransportTCP, conns: map[Addr]*conn{}}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.add(c)
		}
	}()
	return s
}

func (s *Stream) add(nc net.Conn) *conn {
	if _, ok := nc.(*tls.Conn); ok {
		s.tr = TransportTLS
	}
	c := &conn{s: s, nc: nc, done: make(chan struct{})}
	s.mu.Lock()
	s.conns[c.Remote()] = c
	s.mu.Unlock()
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		r := message.NewReader(nc, message.Limits{})
		for {
			m, err := r.Next()
			if e, ok := err.(*message.Error); ok {
				s.h.HandleMalformed(c, e)
				if !e.Fatal {
					continue
				}
			}
			if err != nil {
				break
			}
			stamp(m, c.Remote())
			s.h.HandleMessage(c, m)
		}
		nc.Close()
		s.mu.Lock()
		delete(s.conns, c.Remote())
		s.mu.Unlock()
		close(c.done)
		s.h.HandleClosed(c)
	}()
	return c
}

// Local returns the listening address.
func (s *Stream) Local() Addr { return AddrFrom(s.ln.Addr().(*net.TCPAddr).AddrPort()) }

// Dial returns a living connection to addr, opening one if there is none.
func (s *Stream) Dial(ctx context.Context, addr Addr) (Flow, error) {
	s.mu.Lock()
	c := s.conns[addr]
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return s.add(nc), nil
}

// Close ends the listener and all connections and waits for their readers.
func (s *Stream) Close() error {
	err := s.ln.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		c.nc.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

type conn struct {
	s    *Stream
	nc   net.Conn
	done chan struct{}
}

func (c *conn) Transport() Transport { return c.s.tr }
func (c *conn) Reliable() bool       { return true }
func (c *conn) Local() Addr          { return AddrFrom(c.nc.LocalAddr().(*net.TCPAddr).AddrPort()) }
func (c *conn) Remote() Addr {
	return AddrFrom(c.nc.RemoteAddr().(*net.TCPAddr).AddrPort())
}
func (c *conn) Close() error          { return c.nc.Close() }
func (c *conn) Done() <-chan struct{} { return c.done }
func (c *conn) Edge() bool            { return true }
func (c *conn) Peer() any             { return nil }
func (c *conn) Send(b []byte) error   { _, err := c.nc.Write(b); return err }

// NewPeerFlow starts reading frames from rw and owns it from now on.
func NewPeerFlow(rw io.ReadWriteCloser, local, remote Addr, peer any, h Handler, o Options) Flow {
	f := &peerFlow{rw: rw, local: local, remote: remote, peer: peer, done: make(chan struct{})}
	go func() {
		r := message.NewReader(rw, message.Limits{})
		for {
			m, err := r.Next()
			if err != nil {
				break
			}
			h.HandleMessage(f, m)
		}
		rw.Close()
		close(f.done)
		h.HandleClosed(f)
	}()
	return f
}

type peerFlow struct {
	rw            io.ReadWriteCloser
	local, remote Addr
	peer          any
	done          chan struct{}
}

func (f *peerFlow) Transport() Transport  { return TransportP2P }
func (f *peerFlow) Reliable() bool        { return true }
func (f *peerFlow) Local() Addr           { return f.local }
func (f *peerFlow) Remote() Addr          { return f.remote }
func (f *peerFlow) Close() error          { return f.rw.Close() }
func (f *peerFlow) Done() <-chan struct{} { return f.done }
func (f *peerFlow) Edge() bool            { return false }
func (f *peerFlow) Peer() any             { return f.peer }
func (f *peerFlow) Send(b []byte) error   { _, err := f.rw.Write(b); return err }
