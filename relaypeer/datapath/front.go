package datapath

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Front is a server transport address that clients talk to: a ServerConn or a StreamConn. It is what turn.PacketConnConfig
// wants as its PacketConn.
type Front interface {
	net.PacketConn
	seen() *observer
}

// ServerConn is the UDP socket that clients talk to. Read by one goroutine, pion's.
type ServerConn struct {
	noDeadlines
	loop  *Loop
	s     socket
	o     *observer
	admit func(netip.AddrPort, []byte) bool
	addr  *net.UDPAddr
}

var _ Front = (*ServerConn)(nil)

func (c *ServerConn) seen() *observer { return c.o }

// ReadFrom gives a datagram that is pion's to judge. The error is net.ErrClosed, after Close.
func (c *ServerConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.s.read(b)
		if err != nil {
			return 0, nil, err
		}
		if c.admit != nil && !c.admit(from, b[:n]) || !c.o.deliver(b[:n], from) {
			c.loop.count.refused.Add(1)
			continue
		}
		c.loop.count.handed.Add(1)
		return n, net.UDPAddrFromAddrPort(from), nil
	}
}

// WriteTo sends a datagram of pion's to a client. The error is net.ErrClosed; a datagram that the kernel does not take is lost.
func (c *ServerConn) WriteTo(b []byte, to net.Addr) (int, error) {
	client := addrPort(to)
	if !c.o.sent(b, client) {
		return len(b), nil
	}
	if err := c.s.write(b, client); err != nil {
		return 0, err
	}
	return len(b), nil
}

// LocalAddr gives the server transport address, a *net.UDPAddr.
func (c *ServerConn) LocalAddr() net.Addr { return c.addr }

// Close closes the socket; pion then closes the allocations.
func (c *ServerConn) Close() error { return c.s.close() }

// StreamConn is a client's TCP or TLS connection, as the only client of a server of its own.
type StreamConn struct {
	noDeadlines
	loop   *Loop
	c      net.Conn
	r      *bufio.Reader
	o      *observer
	admit  func(netip.AddrPort, []byte) bool
	client netip.AddrPort
	remote net.Addr
	write  sync.Mutex // one message at a time
	once   sync.Once
	err    error // of closing, written in once
}

var _ Front = (*StreamConn)(nil)

// Stream makes a front of a connection, whose addresses are *net.TCPAddr, and owns it from now on: it is closed when reading or
// writing fails, when the client sends what is neither STUN nor ChannelData, and when it takes nothing for five seconds.
// Options.Queue and ReusePort do not matter.
func (l *Loop) Stream(c net.Conn, o Options) (*StreamConn, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	return &StreamConn{
		loop: l, c: c, r: bufio.NewReaderSize(c, 2048), o: newObserver(o, l.o.Now), admit: o.Admit,
		client: addrPort(c.RemoteAddr()), remote: c.RemoteAddr(),
	}, nil
}

func (c *StreamConn) seen() *observer { return c.o }

// ReadFrom gives the next message of the stream (RFC 8656 §12.5). One larger than b is passed over.
func (c *StreamConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, err := c.next(b)
		if err != nil {
			_ = c.Close()
			return 0, nil, err
		}
		if n == 0 {
			c.loop.count.lostOversize.Add(1)
			continue
		}
		if c.admit != nil && !c.admit(c.client, b[:n]) || !c.o.deliver(b[:n], c.client) {
			c.loop.count.refused.Add(1)
			continue
		}
		c.loop.count.handed.Add(1)
		return n, c.remote, nil
	}
}

// next reads one message; 0 if it was too large for b.
func (c *StreamConn) next(b []byte) (int, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, err
	}
	length, padding, ok := frameLength(head)
	if !ok {
		return 0, errNotTURN
	}
	rest := length - len(head)
	if length > len(b) {
		_, err := c.r.Discard(rest + padding)
		return 0, err
	}
	copy(b, head[:])
	if _, err := io.ReadFull(c.r, b[len(head):length]); err != nil {
		return 0, err
	}
	_, err := c.r.Discard(padding)
	return length, err
}

// WriteTo sends a message of pion's, which pads ChannelData as a stream needs it.
func (c *StreamConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	if !c.o.sent(b, c.client) {
		return len(b), nil
	}
	c.write.Lock()
	defer c.write.Unlock()
	_ = c.c.SetWriteDeadline(time.Now().Add(writeTimeout))
	n, err := c.c.Write(b)
	if err != nil {
		_ = c.Close() // part of a message may have been written
		return n, net.ErrClosed
	}
	return n, nil
}

// LocalAddr gives the server transport address.
func (c *StreamConn) LocalAddr() net.Addr { return c.c.LocalAddr() }

// Close closes the connection.
func (c *StreamConn) Close() error {
	c.once.Do(func() { c.err = c.c.Close() })
	return c.err
}
