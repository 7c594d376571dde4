package flow

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"

	"p2psip/interwork/message"
)

// pong answers the keep-alive ping of RFC 5626 §4.4.1.
var pong = []byte("\r\n")

// conn is one TCP or TLS connection.
type conn struct {
	*link
	s             *Stream
	nc            net.Conn
	transport     Transport
	local, remote Addr
	source        string // remote as text
	outgoing      bool
	name          string // that it was dialled for

	// The fields below belong to the reader.
	in      *message.Reader
	heard   bool      // a message has come
	born    time.Time // when reading began
	started time.Time // the first octets of the message being read; zero between messages
}

var (
	_ Flow    = (*conn)(nil)
	_ Dialled = (*conn)(nil)
)

func newConn(s *Stream, nc net.Conn, outgoing bool) *conn {
	c := &conn{s: s, nc: nc, transport: TransportTCP, local: addrOf(nc.LocalAddr()), remote: addrOf(nc.RemoteAddr()),
		outgoing: outgoing}
	c.source = c.remote.String()
	if _, ok := nc.(*tls.Conn); ok {
		c.transport = TransportTLS
	}
	c.link = newLink(nc, s.o, func(dst, b []byte) []byte { return append(dst, b...) })
	c.in = message.NewReader(timed{c}, s.o.Limits)
	return c
}

func (c *conn) Transport() Transport { return c.transport }
func (c *conn) Reliable() bool       { return true }
func (c *conn) Local() Addr          { return c.local }
func (c *conn) Remote() Addr         { return c.remote }
func (c *conn) Edge() bool           { return !c.s.o.Public }

// TLSPeer is what Peer gives for a TLS connection of the public side: the certificates that the far side showed and that
// the configuration of the listener or of the dial verified, leaf first; none when it showed none.
type TLSPeer struct{ Certificates []*x509.Certificate }

// Peer implements Flow.
func (c *conn) Peer() any {
	if tc, ok := c.nc.(*tls.Conn); ok && c.s.o.Public {
		return TLSPeer{tc.ConnectionState().PeerCertificates}
	}
	return nil
}

// Reach implements Dialled.
func (c *conn) Reach() Addr {
	if c.outgoing {
		return Addr{Host: c.local.Host, Port: c.s.local.Port}
	}
	return c.local
}

func (c *conn) refuse(e *message.Error) { c.s.g.refuse(c, e, 0) }

func (c *conn) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.dead && !c.closing
}

// run is the reader. It starts the writer, and waits for it, once the connection can be written to.
func (c *conn) run() {
	defer c.s.wg.Done()
	if c.handshake() {
		written := make(chan struct{})
		go func() {
			defer close(written)
			c.write()
		}()
		c.read()
		c.kill()
		<-written
	}
	c.kill()
	c.s.remove(c)
	if c.heard || c.outgoing {
		c.s.g.closed(c)
	}
}

func (c *conn) handshake() bool {
	tc, ok := c.nc.(*tls.Conn)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(c.s.ctx, c.o.HandshakeTimeout)
	defer cancel()
	return tc.HandshakeContext(ctx) == nil
}

func (c *conn) read() {
	c.born = time.Now()
	for {
		m, err := c.in.Next()
		c.started = time.Time{}
		switch err {
		case nil:
			c.speaks()
			stamp(m, c.remote)
			c.s.g.message(c, c.source, m)
			continue
		case message.ErrPing:
			if c.Send(pong) == ErrFull {
				return // pings without end and reads nothing
			}
			continue
		}
		e := c.s.g.refused(c, err)
		if e == nil {
			return
		}
		if e.Fatal {
			c.drain()
			return
		}
	}
}

// speaks notes that the far side speaks SIP.
func (c *conn) speaks() {
	if !c.heard {
		c.heard = true
		if !c.outgoing {
			c.s.known(c)
		}
	}
}

// timed reads from the connection against the clock that applies: a message begun has to end, a new connection has to
// begin one, an idle one may wait.
type timed struct{ c *conn }

func (t timed) Read(p []byte) (int, error) {
	c := t.c
	switch {
	case c.in.Pending() > 0 && (c.heard || c.outgoing):
		if c.started.IsZero() {
			c.started = time.Now()
		}
		_ = c.nc.SetReadDeadline(c.started.Add(c.o.MessageTimeout))
	case !c.heard && !c.outgoing:
		// Pinging does not help: the clock of a new connection runs from its start.
		_ = c.nc.SetReadDeadline(c.born.Add(c.o.MessageTimeout))
	default:
		_ = c.nc.SetReadDeadline(time.Now().Add(c.o.IdleTimeout))
	}
	return c.nc.Read(p)
}
