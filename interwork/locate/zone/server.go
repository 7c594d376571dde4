package zone

import (
	"context"
	"net"
	"sync"

	"github.com/miekg/dns"
)

// Server answers for a Zone on sockets.
type Server struct {
	servers []*dns.Server
	wg      sync.WaitGroup
}

// Answerer is what a Server serves; a Zone is one.
type Answerer interface {
	// Answer answers a query that came over network, "udp" or "tcp"; nil says nothing.
	Answer(network string, query *dns.Msg) *dns.Msg
}

var _ Answerer = (*Zone)(nil)

// Serve answers on a UDP socket and a TCP listener, either of which may be nil, until Close. Each query that is read is
// given to log, if there is one, before it is answered; several may be at a time.
func Serve(pc net.PacketConn, ln net.Listener, a Answerer, log func(network string, q dns.Question)) *Server {
	s := &Server{}
	handler := func(network string) dns.Handler {
		return dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
			if log != nil && len(query.Question) == 1 {
				log(network, query.Question[0])
			}
			if m := a.Answer(network, query); m != nil {
				w.WriteMsg(m)
			}
		})
	}
	if pc != nil {
		s.start(&dns.Server{PacketConn: pc, Handler: handler("udp")})
	}
	if ln != nil {
		s.start(&dns.Server{Listener: ln, Handler: handler("tcp")})
	}
	return s
}

// start returns when the server reads: one that is shut down before that would not end.
func (s *Server) start(d *dns.Server) {
	ready := make(chan struct{})
	d.NotifyStartedFunc = func() { close(ready) }
	failed := make(chan struct{})
	s.wg.Go(func() {
		defer close(failed)
		d.ActivateAndServe()
	})
	select {
	case <-ready:
	case <-failed:
	}
	s.servers = append(s.servers, d)
}

// Close ends the server and its sockets, and waits for the queries under way.
func (s *Server) Close() error {
	for _, d := range s.servers {
		d.ShutdownContext(context.Background())
	}
	s.wg.Wait()
	return nil
}
