package flow

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Stream is one listening TCP or TLS socket and its connections, accepted and dialled.
type Stream struct {
	ln        net.Listener
	local     Addr
	transport Transport
	g         *guard
	o         Options

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	closed  bool
	conns   map[*conn]struct{}
	byAddr  map[place]*conn   // the newest connection with each remote address
	perIP   map[string]int    // accepted connections by remote host
	dialing map[place]*dialed // one dial at a time to an address
	held    int               // connections in conns and dials under way
}

// place is an address and the name that was verified there, "" for a connection where none was asked for.
type place struct {
	addr Addr
	name string
}

// dialed is a dial under way; done is closed when c and err say how it ended.
type dialed struct {
	done chan struct{}
	c    *conn
	err  error
}

// ListenTCP starts accepting from ln and owns it from now on. A listener made by crypto/tls, or Options.TLS, makes it
// TransportTLS.
func ListenTCP(ln net.Listener, h Handler, o Options) *Stream {
	o = o.withDefaults()
	s := &Stream{ln: ln, local: addrOf(ln.Addr()), transport: TransportTCP, g: newGuard(h, o), o: o,
		conns: map[*conn]struct{}{}, byAddr: map[place]*conn{}, perIP: map[string]int{}, dialing: map[place]*dialed{}}
	// The type of a TLS listener has no name outside its package.
	if o.TLS != nil || fmt.Sprintf("%T", ln) == "*tls.listener" {
		s.transport = TransportTLS
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.wg.Add(1)
	go s.accept()
	return s
}

// Local returns the listening address.
func (s *Stream) Local() Addr { return s.local }

// Transport returns TransportTCP or TransportTLS.
func (s *Stream) Transport() Transport { return s.transport }

// Counters returns what was counted, live.
func (s *Stream) Counters() *Counters { return s.o.Counters }

// Len returns how many connections live.
func (s *Stream) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Close ends the listener, the dials and all connections at once, and waits for their goroutines. It must not be called by
// the handler.
func (s *Stream) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	var conns []*conn
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	var err error
	if first {
		s.stop()
		err = s.ln.Close()
	}
	for _, c := range conns {
		c.kill()
	}
	s.wg.Wait()
	return err
}

func (s *Stream) accept() {
	defer s.wg.Done()
	delay := time.Duration(0)
	for {
		nc, err := s.ln.Accept()
		if err == nil {
			delay = 0
			if _, err := s.add(nc, false, ""); err != nil {
				s.o.Counters.Rejected.Add(1)
				_ = nc.Close()
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) || s.ctx.Err() != nil {
			return
		}
		// Too many open files, most likely. Connections end; try again.
		if s.g.logs.take() {
			s.o.Logger.Warn("accepting connections", "local", s.local, "error", err)
		}
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(delay):
		}
	}
}

// add takes nc on and starts its goroutines. A dialled connection has its place reserved already.
func (s *Stream) add(nc net.Conn, outgoing bool, name string) (*conn, error) {
	c := newConn(s, nc, outgoing)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if !outgoing {
		if s.held >= s.o.MaxConns || s.perIP[c.remote.Host] >= s.o.MaxConnsPerIP {
			return nil, ErrFull
		}
		s.held++
		s.perIP[c.remote.Host]++
	}
	s.conns[c] = struct{}{}
	if outgoing { // an accepted connection is found by its address once it has proven to speak SIP
		c.name = name
		s.byAddr[place{c.remote, name}] = c
	}
	s.wg.Add(1)
	go c.run()
	return c, nil
}

// known makes an accepted connection one that Find and Dial return.
func (s *Stream) known(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[c]; ok {
		s.byAddr[place{addr: c.remote}] = c
	}
}

func (s *Stream) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.held--
	if at := (place{c.remote, c.name}); s.byAddr[at] == c {
		delete(s.byAddr, at)
	}
	if !c.outgoing {
		if s.perIP[c.remote.Host]--; s.perIP[c.remote.Host] <= 0 {
			delete(s.perIP, c.remote.Host)
		}
	}
}

// Find returns the living connection with the far side addr, if there is one.
func (s *Stream) Find(addr Addr) (Flow, bool) { return s.FindAs(addr, "") }

// FindAs returns the living connection that DialAs opened to addr for name.
func (s *Stream) FindAs(addr Addr, name string) (Flow, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.byAddr[place{addr, name}]; c != nil && c.alive() {
		return c, true
	}
	return nil, false
}

// Dial returns the living connection with the far side addr, an IP address and a port, or opens one. Several calls for one
// address at a time share one attempt.
func (s *Stream) Dial(ctx context.Context, addr Addr) (Flow, error) {
	return s.DialAs(ctx, addr, "", nil)
}

// DialAs is Dial for a far side that has to prove a name: config is used instead of Options.TLS, and only a connection
// opened for the same name is used again. The name means nothing where the transport is not TLS.
func (s *Stream) DialAs(ctx context.Context, addr Addr, name string, config *tls.Config) (Flow, error) {
	at := place{addr, name}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	if c := s.byAddr[at]; c != nil && c.alive() {
		s.mu.Unlock()
		return c, nil
	}
	d := s.dialing[at]
	if d == nil {
		if s.held >= s.o.MaxConns {
			s.mu.Unlock()
			return nil, fmt.Errorf("dial %v: %w", addr, ErrFull)
		}
		s.held++
		d = &dialed{done: make(chan struct{})}
		s.dialing[at] = d
		s.wg.Add(1)
		go s.dial(at, d, config)
	}
	s.mu.Unlock()
	select {
	case <-d.done:
		if d.err != nil {
			return nil, fmt.Errorf("dial %v: %w", addr, d.err)
		}
		return d.c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("dial %v: %w", addr, context.Cause(ctx))
	}
}

func (s *Stream) dial(at place, d *dialed, config *tls.Config) {
	defer s.wg.Done()
	ctx, cancel := context.WithTimeout(s.ctx, s.o.DialTimeout)
	defer cancel()
	nc, err := s.open(ctx, at.addr, config)
	if err == nil {
		if d.c, err = s.add(nc, true, at.name); err != nil {
			_ = nc.Close()
		}
	}
	d.err = err
	s.mu.Lock()
	delete(s.dialing, at)
	if err != nil {
		s.held--
	}
	s.mu.Unlock()
	close(d.done)
}

func (s *Stream) open(ctx context.Context, addr Addr, config *tls.Config) (net.Conn, error) {
	if config == nil {
		config = s.o.TLS
	}
	if s.transport == TransportTLS && config == nil {
		return nil, errors.New("no TLS configuration to dial with")
	}
	nc, err := s.o.Dial(ctx, "tcp", addr.String())
	if err != nil || s.transport != TransportTLS {
		return nc, err
	}
	cfg := config.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = addr.Host
	}
	tc := tls.Client(nc, cfg)
	hctx, cancel := context.WithTimeout(ctx, s.o.HandshakeTimeout)
	defer cancel()
	if err := tc.HandshakeContext(hctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return tc, nil
}
