package relaypeer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"p2psip/relaypeer/datapath"
)

// pauseAccept is how long one waits after a failure to accept, which is most often one of too many open files.
const pauseAccept = 100 * time.Millisecond

// accept serves a TCP or TLS socket until Close.
func (s *Server) accept(k Socket) {
	for {
		c, err := k.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-s.quit:
				return
			case <-time.After(pauseAccept):
			}
			continue
		}
		host, ok := s.enter(c)
		if !ok {
			s.stats.limited.Add(1)
			_ = c.Close()
			continue
		}
		s.loops.Go(func() {
			s.connection(c, k.TLS)
			s.leave(host)
		})
	}
}

// enter counts a connection; false: there are too many.
func (s *Server) enter(c net.Conn) (host netip.Addr, ok bool) {
	host = sourceKey(addrPort(c.RemoteAddr()).Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == ended || s.connsAll >= s.limits.Conns || s.conns[host] >= s.limits.PerHost {
		return host, false
	}
	s.conns[host]++
	s.connsAll++
	return host, true
}

func (s *Server) leave(host netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connsAll--
	if s.conns[host]--; s.conns[host] <= 0 {
		delete(s.conns, host)
	}
}

// connection serves one connection to its end. Its allocation ends with it (RFC 8656 §7).
func (s *Server) connection(c net.Conn, config *tls.Config) {
	if config != nil {
		ctx, cancel := context.WithTimeout(context.Background(), s.limits.Handshake)
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		done := make(chan struct{})
		s.loops.Go(func() { // Close ends a handshake too
			select {
			case <-s.quit:
				cancel()
			case <-done:
			}
		})
		t := tls.Server(c, config)
		err := t.HandshakeContext(ctx)
		stop()
		close(done)
		cancel()
		if err != nil {
			_ = c.Close()
			return
		}
		c = t
	}
	f, err := s.cfg.Loop.Stream(c, datapath.Options{})
	if err != nil {
		_ = c.Close()
		return
	}
	g := newGate(s, f, true)
	if err := s.run(g); err != nil {
		_ = f.Close()
		return
	}
	<-g.done
	_ = f.Close()
	s.mu.Lock()
	delete(s.gates, g)
	s.mu.Unlock()
}

// closeIdle ends connections without an allocation.
func (s *Server) closeIdle(now time.Time) {
	s.mu.Lock()
	var idle []*gate
	for g := range s.gates {
		if !g.stream {
			continue
		}
		g.mu.Lock()
		if len(g.held5) == 0 && now.Sub(g.idle) > s.limits.Idle {
			idle = append(idle, g)
		}
		g.mu.Unlock()
	}
	s.mu.Unlock()
	for _, g := range idle {
		_ = g.Close()
	}
}
