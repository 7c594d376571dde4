package datapath

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun"
)

// observer sees every message between pion and the clients of one front, and learns from it which allocation is whose and,
// from pion's success responses, which channels there are.
//
// pion's server reads a front with one goroutine, which answers a request before it reads on. So between two calls of
// deliver, a success response with the current request's transaction and client is that request's.
type observer struct {
	channelLifetime time.Duration
	now             func() time.Time

	mu      sync.Mutex // guards what follows
	current request
	clients map[netip.AddrPort]*RelayedConn
}

// request is the request that pion was given last; class and method are zero if it was none.
type request struct {
	m       *stun.Message // nil: not a request of interest
	client  netip.AddrPort
	at      time.Time
	created []*RelayedConn // made for it, those that are open
}

func newObserver(o Options, now func() time.Time) *observer {
	return &observer{channelLifetime: o.ChannelLifetime, now: now, clients: map[netip.AddrPort]*RelayedConn{}}
}

// deliver is told of a packet before pion gets it; false: pion must not get it.
func (o *observer) deliver(b []byte, client netip.AddrPort) bool {
	r := request{client: client}
	if len(b) >= stunHeader && b[0] < 2 && stun.IsMessage(b) {
		switch m, ok := message(b); {
		case !ok:
		case m.Type.Class != stun.ClassRequest:
		case m.Type.Method == stun.MethodAllocate:
			r.m, r.at = m, o.now()
		case m.Type.Method == stun.MethodChannelBind:
			// pion binds any number, and then sends what no client takes for ChannelData, or for something else.
			if n, ok := channelNumber(m); ok && (n < minChannel || n > maxChannel) {
				return false
			}
			r.m, r.at = m, o.now()
		}
	}
	o.mu.Lock()
	o.current = r
	o.mu.Unlock()
	return true
}

// asked gives what is known of the Allocate request that pion is at work on, and whether it wants IPv6.
func (o *observer) asked() (r Request, six bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := o.current.m
	if m == nil || m.Type.Method != stun.MethodAllocate {
		return Request{}, false
	}
	var name stun.Username
	_ = name.GetFrom(m) // pion has read it
	return Request{Client: o.current.client, Username: name.String()}, wantsIPv6(m)
}

// created is told of a relayed address made for the current request.
func (o *observer) created(r *RelayedConn) {
	o.mu.Lock()
	o.current.created = append(o.current.created, r)
	o.mu.Unlock()
}

// closed is told that a relayed address is gone.
func (o *observer) closed(r *RelayedConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, c := range o.current.created {
		if c == r {
			o.current.created = append(o.current.created[:i:i], o.current.created[i+1:]...)
			break
		}
	}
	if c := r.client; c.IsValid() && o.clients[c] == r {
		delete(o.clients, c)
	}
}

// sent is told of a message that pion sends to a client; false: it must not be sent, the allocation's meter forbids it.
func (o *observer) sent(b []byte, client netip.AddrPort) bool {
	if len(b) == 0 || b[0] != 1 { // not a success response (RFC 8489 §5: 0x01.. with a method below 0x10)
		n, ok := dataLength(b)
		if !ok {
			return true
		}
		o.mu.Lock()
		r := o.clients[client]
		o.mu.Unlock()
		return r == nil || r.take(n)
	}
	if !isSTUN(b) {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &o.current
	if c.m == nil || c.client != client || string(b[8:stunHeader]) != string(c.m.TransactionID[:]) {
		return true
	}
	var t stun.MessageType
	t.ReadValue(binary.BigEndian.Uint16(b))
	if t.Class != stun.ClassSuccessResponse || t.Method != c.m.Type.Method {
		return true
	}
	if t.Method == stun.MethodAllocate {
		if m, ok := message(b); ok {
			o.allocated(c, m)
		}
		return true
	}
	number, ok := channelNumber(c.m)
	peer, ok2 := xorAddress(c.m, stun.AttrXORPeerAddress)
	if r := o.clients[client]; r != nil && ok && ok2 {
		r.bind(number, peer, c.at.Add(o.channelLifetime))
	}
	return true
}

// allocated joins the client of the current request with the relayed address in pion's success response. Called with mu held.
func (o *observer) allocated(c *request, m *stun.Message) {
	relayed, ok := xorAddress(m, stun.AttrXORRelayedAddress)
	if !ok {
		return
	}
	for _, r := range c.created {
		if r.announced == relayed && !r.client.IsValid() {
			r.client = c.client
			o.clients[c.client] = r
			r.attach(c.client)
			return
		}
	}
}

// addrPort turns an address of a UDP or TCP socket into numbers; zero if it is another.
func addrPort(a net.Addr) netip.AddrPort {
	var p netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		p = a.AddrPort()
	case *net.TCPAddr:
		p = a.AddrPort()
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
