package load

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/pion/stun"
	"golang.org/x/sys/unix"
)

// channelNumber is the channel of every allocation.
const channelNumber = 0x4000

// allocation is one client of the relay.
type allocation struct {
	fd      int // connected to the relay
	relayed netip.AddrPort
	to      unix.Sockaddr // relayed
	peer    int           // which of the generator's peers talks to it
}

// raw is an attribute of which the value is at hand.
type raw stun.RawAttribute

func (a raw) AddTo(m *stun.Message) error { m.Add(a.Type, a.Value); return nil }

// as is an address in an attribute of another type than its own.
type as struct {
	t stun.AttrType
	a stun.XORMappedAddress
}

func (a as) AddTo(m *stun.Message) error { return a.a.AddToAs(m, a.t) }

// allocate makes an allocation at the relay, with a channel bound to peer. The first question is as long as the answer, because
// a relay peer answers few others of strangers. fd is connected to the relay and blocking, with a time-out.
func allocate(fd int, peer netip.AddrPort, username, password string) (relayed netip.AddrPort, err error) {
	transport := raw{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}
	first, err := ask(fd, stun.MethodAllocate, transport, stun.NewSoftware("p2psip bench relay, with a padding"))
	if err != nil {
		return relayed, err
	}
	var nonce stun.Nonce
	var told stun.Realm
	if first.Type.Class != stun.ClassErrorResponse || nonce.GetFrom(first) != nil || told.GetFrom(first) != nil {
		return relayed, errors.New("the relay did not ask for a password")
	}
	signed := []stun.Setter{stun.NewUsername(username), told, nonce, stun.NewLongTermIntegrity(username, told.String(), password)}
	m, err := ask(fd, stun.MethodAllocate, append([]stun.Setter{transport}, signed...)...)
	if err != nil {
		return relayed, err
	}
	var a stun.XORMappedAddress
	if m.Type.Class != stun.ClassSuccessResponse || a.GetFromAs(m, stun.AttrXORRelayedAddress) != nil {
		return relayed, fmt.Errorf("the relay refused the allocation: %v", refusal(m))
	}
	ip, _ := netip.AddrFromSlice(a.IP)
	m, err = ask(fd, stun.MethodChannelBind, append([]stun.Setter{
		raw{Type: stun.AttrChannelNumber, Value: []byte{channelNumber >> 8, channelNumber & 0xff, 0, 0}},
		as{stun.AttrXORPeerAddress, stun.XORMappedAddress{IP: peer.Addr().AsSlice(), Port: int(peer.Port())}},
	}, signed...)...)
	if err != nil {
		return relayed, err
	}
	if m.Type.Class != stun.ClassSuccessResponse {
		return relayed, fmt.Errorf("the relay refused the channel: %v", refusal(m))
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(a.Port)), nil
}

func refusal(m *stun.Message) string {
	var e stun.ErrorCodeAttribute
	if e.GetFrom(m) != nil {
		return m.Type.String()
	}
	return e.String()
}

// ask sends a request until there is an answer, up to five times.
func ask(fd int, method stun.Method, s ...stun.Setter) (*stun.Message, error) {
	m, err := stun.Build(append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, s...)...)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 1500)
	for range 5 {
		if _, err := unix.Write(fd, m.Raw); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("asking the relay: %w", err)
		}
		for {
			n, err := unix.Read(fd, b)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				if errors.Is(err, unix.ECONNREFUSED) {
					time.Sleep(20 * time.Millisecond) // it is not there yet
				}
				break
			}
			answer := &stun.Message{Raw: b[:n:n]}
			if answer.Decode() == nil && answer.TransactionID == m.TransactionID {
				return answer, nil
			}
		}
	}
	return nil, errors.New("the relay does not answer")
}
