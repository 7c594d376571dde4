package client

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun"

	"p2psip/relaypeer/credential"
)

// fakeRelay is a relay peer without sockets, for time that does not pass by itself and for answers that no server gives.
type fakeRelay struct {
	addr     netip.AddrPort
	user     string
	password string
	realm    string
	mu       sync.Mutex
	nonce    string
	lifetime time.Duration
	delay    time.Duration                           // on the way back
	silent   bool                                    // nothing is answered
	noUDP    bool                                    // over UDP
	answer   func(c *fakeConn, m *stun.Message) bool // may answer itself and say so
	requests map[stun.Method]int                     // taken
	in, out  int                                     // octets on the wire, headers of IPv4 and UDP included
	alloc    map[*fakeConn]bool                      // allocations there are
	made     int                                     // of those, ever
	dials    int
	data     []string // received in Send indications and over channels
}

func newFakeRelay(n int) *fakeRelay {
	return &fakeRelay{
		addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, byte(18 + n), 0, 1}), 3478), user: "1800000000:12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp",
		password: "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww=", realm: "overlay.example", nonce: "0123456789abcdef0123456789abcdef",
		lifetime: 10 * time.Minute, requests: map[stun.Method]int{}, alloc: map[*fakeConn]bool{},
	}
}

func (r *fakeRelay) grant() credential.Grant {
	r.mu.Lock()
	defer r.mu.Unlock()
	return credential.Grant{
		URIs: []string{fmt.Sprintf("turn:%s?transport=udp", r.addr)}, Username: r.user, Password: r.password, Realm: r.realm, Nonce: r.nonce, Lifetime: time.Hour,
	}
}

func (r *fakeRelay) do(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *fakeRelay) asked(m stun.Method) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests[m]
}

// dialer connects to fake relays by their addresses.
func dialer(relays ...*fakeRelay) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		for _, r := range relays {
			if r.addr.String() != addr {
				continue
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.dials++
			return &fakeConn{relay: r, network: network, from: make(chan []byte, 256), gone: make(chan struct{}), local: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(10000+r.dials))}, nil
		}
		return nil, fmt.Errorf("%s %s leads nowhere", network, addr)
	}
}

// fakeConn is a UDP socket connected to a fake relay.
type fakeConn struct {
	relay   *fakeRelay
	network string
	local   netip.AddrPort
	from    chan []byte
	gone    chan struct{}
	once    sync.Once
}

const overhead = 28 // of IPv4 and UDP

func (c *fakeConn) Read(b []byte) (int, error) {
	select {
	case m := <-c.from:
		return copy(b, m), nil
	case <-c.gone:
		return 0, net.ErrClosed
	}
}

func (c *fakeConn) Write(b []byte) (int, error) {
	select {
	case <-c.gone:
		return 0, net.ErrClosed
	default:
	}
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	c.relay.in += len(b) + overhead
	if !c.relay.silent && (!c.relay.noUDP || c.network != "udp") {
		c.relay.take(c, append([]byte(nil), b...))
	}
	return len(b), nil
}

func (c *fakeConn) Close() error {
	c.once.Do(func() {
		close(c.gone)
		if c.network == "tcp" { // which ends its allocation
			c.relay.do(func() { delete(c.relay.alloc, c) })
		}
	})
	return nil
}

func (c *fakeConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(c.local) }
func (c *fakeConn) RemoteAddr() net.Addr             { return net.UDPAddrFromAddrPort(c.relay.addr) }
func (c *fakeConn) SetDeadline(time.Time) error      { return nil }
func (c *fakeConn) SetReadDeadline(time.Time) error  { return nil }
func (c *fakeConn) SetWriteDeadline(time.Time) error { return nil }

// send gives octets to the client. r.mu is held.
func (c *fakeConn) send(b []byte) {
	c.relay.out += len(b) + overhead
	put := func() {
		select {
		case c.from <- b:
		default:
		}
	}
	if c.relay.delay > 0 {
		time.AfterFunc(c.relay.delay, put)
		return
	}
	put()
}

// reply sends a response. r.mu is held.
func (c *fakeConn) reply(m *stun.Message, class stun.MessageClass, attrs ...stun.Setter) {
	list := append([]stun.Setter{stun.NewTransactionIDSetter(m.TransactionID), stun.NewType(m.Type.Method, class), stun.NewSoftware("fake")}, attrs...)
	r, err := stun.Build(append(list, stun.Fingerprint)...)
	if err != nil {
		panic(err)
	}
	c.send(r.Raw)
}

func (r *fakeRelay) key() stun.MessageIntegrity {
	return stun.NewLongTermIntegrity(r.user, r.realm, r.password)
}

// success sends a success response with integrity. r.mu is held.
func (c *fakeConn) success(m *stun.Message, attrs ...stun.Setter) {
	c.reply(m, stun.ClassSuccessResponse, append(attrs, c.relay.key())...)
}

func (c *fakeConn) refuse(m *stun.Message, code stun.ErrorCode, reason string, attrs ...stun.Setter) {
	c.reply(m, stun.ClassErrorResponse, append([]stun.Setter{stun.ErrorCodeAttribute{Code: code, Reason: []byte(reason)}}, attrs...)...)
}

func (c *fakeConn) challenge(m *stun.Message, code stun.ErrorCode) {
	c.refuse(m, code, "", stun.NewRealm(c.relay.realm), stun.NewNonce(c.relay.nonce))
}

type xor struct {
	t stun.AttrType
	a netip.AddrPort
}

func (x xor) AddTo(m *stun.Message) error {
	m.Add(x.t, appendXOR(nil, x.a, m.TransactionID))
	return nil
}

// take is the relay's side of one message. r.mu is held.
func (r *fakeRelay) take(c *fakeConn, b []byte) {
	if number, data, ok := channelIn(b); ok {
		r.data = append(r.data, fmt.Sprintf("%#x %s", number, data))
		return
	}
	m := &stun.Message{Raw: b}
	if err := m.Decode(); err != nil {
		panic(fmt.Sprintf("the client sent %x: %v", b, err))
	}
	r.requests[m.Type.Method]++
	if m.Type.Class == stun.ClassIndication {
		to, data, err := dataIn(m)
		if err != nil {
			panic(err)
		}
		r.data = append(r.data, fmt.Sprintf("%s %s", to, data))
		return
	}
	if r.answer != nil && r.answer(c, m) {
		return
	}
	mapped := xor{stun.AttrXORMappedAddress, c.local}
	if m.Type == stun.BindingRequest {
		c.reply(m, stun.ClassSuccessResponse, mapped)
		return
	}
	var nonce stun.Nonce
	switch {
	case !m.Contains(stun.AttrMessageIntegrity):
		c.challenge(m, stun.CodeUnauthorized)
		return
	case nonce.GetFrom(m) != nil || nonce.String() != r.nonce:
		c.challenge(m, stun.CodeStaleNonce)
		return
	case r.key().Check(m) != nil:
		c.challenge(m, stun.CodeUnauthorized)
		return
	case m.Type.Method != stun.MethodAllocate && !r.alloc[c]:
		c.refuse(m, codeMismatch, "Allocation Mismatch")
		return
	}
	switch m.Type.Method {
	case stun.MethodAllocate:
		if !r.alloc[c] { // and not the same request again
			r.made++
		}
		r.alloc[c] = true
		c.success(m, xor{attrRelayedAddress, netip.AddrPortFrom(r.addr.Addr(), c.local.Port())}, mapped, lifetimeOf(r.lifetime))
	case stun.MethodRefresh:
		d := lifetimeIn(m)
		if d == 0 {
			delete(r.alloc, c)
		}
		c.success(m, lifetimeOf(min(d, r.lifetime)))
	default:
		c.success(m)
	}
}
