package datapath

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun"
)

// learning is a socket that notes what it is told.
type learning struct {
	client netip.AddrPort
	bound  []netip.AddrPort
}

func (l *learning) attach(c netip.AddrPort)                      { l.client = c }
func (l *learning) bind(_ uint16, p netip.AddrPort, _ time.Time) { l.bound = append(l.bound, p) }
func (l *learning) read([]byte) (int, netip.AddrPort, error)     { panic("not here") }
func (l *learning) write([]byte, netip.AddrPort) error           { return nil }
func (l *learning) close() error                                 { return nil }
func (l *learning) local() netip.AddrPort                        { return netip.AddrPort{} }

var (
	client1 = netip.MustParseAddrPort("198.51.100.1:4000")
	client2 = netip.MustParseAddrPort("198.51.100.2:4000")
	relay1  = netip.MustParseAddrPort("192.0.2.1:50000")
	peer1   = netip.MustParseAddrPort("203.0.113.1:9")
)

// observed is an observer that has seen client1 get relay1.
func observed(t testing.TB) (*observer, *RelayedConn, *learning) {
	o := newObserver(Options{}.withDefaults(), time.Now)
	l := &learning{}
	r := &RelayedConn{loop: &Loop{}, s: l, o: o, announced: relay1, meter: free{}}
	m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest))
	if !o.deliver(m.Raw, client1) {
		t.Fatal("an Allocate request is refused")
	}
	o.created(r)
	o.sent(stun.MustBuild(stun.NewTransactionIDSetter(m.TransactionID), stun.NewType(stun.MethodAllocate, stun.ClassSuccessResponse), relayedAddress(relay1)).Raw, client1)
	if l.client != client1 {
		t.Fatal("the allocation was not seen")
	}
	return o, r, l
}

type relayedAddress netip.AddrPort

func (p relayedAddress) AddTo(m *stun.Message) error {
	a := netip.AddrPort(p)
	return stun.XORMappedAddress{IP: a.Addr().AsSlice(), Port: int(a.Port())}.AddToAs(m, stun.AttrXORRelayedAddress)
}

func bindRequest(number uint16, peer netip.AddrPort) *stun.Message {
	return stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodChannelBind, stun.ClassRequest), raw(stun.AttrChannelNumber, byte(number>>8), byte(number), 0, 0), peerAddress(peer))
}

func success(m *stun.Message, method stun.Method) []byte {
	return stun.MustBuild(stun.NewTransactionIDSetter(m.TransactionID), stun.NewType(method, stun.ClassSuccessResponse)).Raw
}

func TestOnlyTheAnswerToTheCurrentRequestBinds(t *testing.T) {
	forbidden := netip.MustParseAddrPort("127.0.0.1:22")
	for _, c := range []struct {
		name string
		do   func(o *observer)
		want int
	}{
		{"its success", func(o *observer) {
			m := bindRequest(0x4000, peer1)
			o.deliver(m.Raw, client1)
			o.sent(success(m, stun.MethodChannelBind), client1)
		}, 1},
		{"no answer", func(o *observer) { o.deliver(bindRequest(0x4000, forbidden).Raw, client1) }, 0},
		{"its refusal", func(o *observer) {
			m := bindRequest(0x4000, forbidden)
			o.deliver(m.Raw, client1)
			o.sent(stun.MustBuild(stun.NewTransactionIDSetter(m.TransactionID), stun.NewType(stun.MethodChannelBind, stun.ClassErrorResponse)).Raw, client1)
		}, 0},
		{"the success of another method", func(o *observer) {
			m := bindRequest(0x4000, forbidden)
			o.deliver(m.Raw, client1)
			o.sent(success(m, stun.MethodRefresh), client1)
			o.sent(success(m, stun.MethodBinding), client1)
		}, 0},
		{"a success for somebody else", func(o *observer) {
			m := bindRequest(0x4000, forbidden)
			o.deliver(m.Raw, client2)
			o.sent(success(m, stun.MethodChannelBind), client1)
		}, 0},
		{"of somebody else's request", func(o *observer) {
			m := bindRequest(0x4000, forbidden)
			o.deliver(m.Raw, client2)
			o.sent(success(m, stun.MethodChannelBind), client2)
		}, 0},
		{"another transaction", func(o *observer) {
			o.deliver(bindRequest(0x4000, forbidden).Raw, client1)
			o.sent(success(bindRequest(0x4000, forbidden), stun.MethodChannelBind), client1)
		}, 0},
		{"too late", func(o *observer) {
			m := bindRequest(0x4000, forbidden)
			o.deliver(m.Raw, client1)
			o.deliver(channelMessage(0x4000, "next"), client1)
			o.sent(success(m, stun.MethodChannelBind), client1)
		}, 0},
		// A client binds channel 0x0109, which pion would do, and its accomplice's data complete what looks like a success response.
		{"forged by a peer", func(o *observer) {
			m := bindRequest(0x4000, forbidden)
			o.deliver(m.Raw, client1)
			for n := range 64 {
				data := append(success(m, stun.MethodChannelBind)[4:], make([]byte, n)...)
				b := channelMessage(0x0109, string(data))
				for len(b)%4 != 0 {
					b = append(b, 0)
				}
				o.sent(b, client1)
			}
		}, 0},
	} {
		o, _, l := observed(t)
		c.do(o)
		if len(l.bound) != c.want {
			t.Errorf("%s: bound %v", c.name, l.bound)
		}
	}
}

func TestTheResponseSaysWhichAddress(t *testing.T) {
	o := newObserver(Options{}.withDefaults(), time.Now)
	m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest))
	o.deliver(m.Raw, client1)
	var s [3]learning
	for i := range s { // as for a request with EVEN-PORT, if none had been closed
		o.created(&RelayedConn{loop: &Loop{}, s: &s[i], o: o, announced: netip.AddrPortFrom(relay1.Addr(), relay1.Port()-1+uint16(i)), meter: free{}})
	}
	o.sent(stun.MustBuild(stun.NewTransactionIDSetter(m.TransactionID), stun.NewType(stun.MethodAllocate, stun.ClassSuccessResponse), relayedAddress(relay1)).Raw, client1)
	if s[0].client.IsValid() || s[1].client != client1 || s[2].client.IsValid() {
		t.Errorf("%v %v %v", s[0].client, s[1].client, s[2].client)
	}
}

func TestObserverForgetsWhatIsClosed(t *testing.T) {
	o, r, l := observed(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	m := bindRequest(0x4000, peer1)
	o.deliver(m.Raw, client1)
	o.sent(success(m, stun.MethodChannelBind), client1)
	if len(l.bound) != 0 || len(o.clients) != 0 {
		t.Errorf("bound %v, %d clients", l.bound, len(o.clients))
	}
}

// FuzzObserver lets a client send anything; pion's part is to refuse it all. What a peer's data make pion send is anything, too,
// in a ChannelData message of any number that pion can have.
func FuzzObserver(f *testing.F) {
	m := bindRequest(0x4000, peer1)
	f.Add(m.Raw, []byte("data"), uint16(0x4000))
	f.Add(m.Raw, success(m, stun.MethodChannelBind)[4:], uint16(0x0109))
	f.Add(stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest)).Raw, []byte{}, uint16(0x0103))
	f.Add([]byte{}, []byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, request, data []byte, number uint16) {
		if len(data) > MaxDatagram {
			return
		}
		o, r, l := observed(t)
		o.deliver(request, client1)
		o.asked()
		b := channelMessage(number, string(data))
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		o.sent(b, client1)
		other := &RelayedConn{loop: r.loop, s: &learning{}, o: o, announced: peer1, meter: free{}}
		o.created(other)
		o.sent(b, client1)
		if len(l.bound) != 0 || o.clients[client1] != r {
			t.Fatalf("%x, then %x, bound %v", request, b, l.bound)
		}
	})
}
