package proxy

import (
	"context"
	"fmt"
	"sync"

	"p2psip/interwork/flow"
)

// Listeners is a Sockets over the listening sockets of a node. It begins empty, because the sockets need the core as
// their handler and the core needs its Sockets first.
type Listeners struct {
	mu      sync.RWMutex // guards both
	udp     []*flow.UDP
	streams []*flow.Stream
}

var _ Sockets = (*Listeners)(nil)

// AddUDP adds a datagram socket.
func (l *Listeners) AddUDP(u *flow.UDP) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.udp = append(l.udp, u)
}

// AddStream adds a TCP or TLS socket.
func (l *Listeners) AddStream(s *flow.Stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams = append(l.streams, s)
}

// Flow finds the flow of an endpoint. The zero Local stands for any socket of the transport.
func (l *Listeners) Flow(e Endpoint) (flow.Flow, bool) {
	remote, ok := e.Remote.AddrPort()
	if !ok {
		return nil, false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	anyLocal := e.Local == flow.Addr{}
	if e.Transport == flow.TransportUDP {
		for _, u := range l.udp {
			if anyLocal || u.Local() == e.Local {
				return u.To(remote), true
			}
		}
		return nil, false
	}
	for _, s := range l.streams {
		if s.Transport() != e.Transport {
			continue
		}
		if f, ok := s.Find(e.Remote); ok && (anyLocal || f.Local() == e.Local) {
			return f, true
		}
	}
	return nil, false
}

// Dial connects to a phone from the node's socket of a transport, TCP or TLS, or gives the living connection to it.
func (l *Listeners) Dial(ctx context.Context, t flow.Transport, to flow.Addr) (flow.Flow, error) {
	l.mu.RLock()
	streams := l.streams
	l.mu.RUnlock()
	for _, s := range streams {
		if s.Transport() == t {
			return s.Dial(ctx, to)
		}
	}
	return nil, fmt.Errorf("dial %s: this node has no %s socket", to, t)
}
