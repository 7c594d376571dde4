package relaypeer

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun"

	"p2psip/overlay"
	"p2psip/relaypeer/credential"
)

// rawClient writes its requests itself.
type rawClient struct {
	t              testing.TB
	conn           net.Conn
	username, pass string
	realm, nonce   string
	last           *stun.Message // answer
	lastSize       int
}

// raw makes a client over UDP, of a member.
func (w *world) raw(t testing.TB, member overlay.NodeID) *rawClient {
	return w.rawFrom(t, member, netip.AddrPortFrom(localhost, 0))
}

func (w *world) rawFrom(t testing.TB, member overlay.NodeID, from netip.AddrPort) *rawClient {
	t.Helper()
	conn, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(w.udp))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &rawClient{t: t, conn: conn, realm: Realm}
	if member != "" {
		c.username, c.pass = secret.Issue(member, w.clock.Now().Add(credential.DefaultLifetime))
		c.nonce = w.nonces.forMember(member.String(), w.clock.Now())
	}
	return c
}

func (c *rawClient) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// request makes a signed request.
func (c *rawClient) request(method stun.Method, setters ...stun.Setter) *stun.Message {
	all := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, setters...)
	all = append(all, stun.NewUsername(c.username), stun.NewRealm(c.realm), stun.NewNonce(c.nonce), stun.NewLongTermIntegrity(c.username, c.realm, c.pass))
	return stun.MustBuild(all...)
}

// ask sends a signed request and gives the code of the answer, 0 for success, -1 for none.
func (c *rawClient) ask(method stun.Method, setters ...stun.Setter) stun.ErrorCode {
	c.t.Helper()
	return c.exchange(c.request(method, setters...))
}

// exchange sends a request, again if it takes long, and gives the code of the answer, 0 for success, -1 for none.
func (c *rawClient) exchange(m *stun.Message) stun.ErrorCode {
	c.t.Helper()
	b := make([]byte, 2000)
	for range 3 {
		c.send(m.Raw)
		for {
			_ = c.conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			n, err := c.conn.Read(b)
			if err != nil {
				break
			}
			a := &stun.Message{Raw: append([]byte(nil), b[:n]...)}
			if a.Decode() != nil || a.TransactionID != m.TransactionID {
				continue
			}
			c.last, c.lastSize = a, n
			var code stun.ErrorCodeAttribute
			if a.Type.Class == stun.ClassErrorResponse {
				if err := code.GetFrom(a); err != nil {
					c.t.Errorf("an error without a code: %s", a)
				}
			}
			switch code.Code {
			case stun.CodeUnauthorized, stun.CodeStaleNonce:
			default:
				if m.Type.Method != stun.MethodBinding && m.Contains(stun.AttrMessageIntegrity) && stun.NewLongTermIntegrity(c.username, c.realm, c.pass).Check(a) != nil {
					c.t.Errorf("the answer is not signed: %s", a)
				}
			}
			return code.Code
		}
	}
	return -1
}

// allocate makes an allocation and gives its address.
func (c *rawClient) allocate(six bool) netip.AddrPort {
	c.t.Helper()
	setters := []stun.Setter{transport(17)}
	if six {
		setters = append(setters, family(2))
	}
	if code := c.ask(stun.MethodAllocate, setters...); code != 0 {
		c.t.Fatalf("Allocate: %d", code)
	}
	return c.relayed()
}

// relayed reads the relayed address in the last answer.
func (c *rawClient) relayed() netip.AddrPort {
	v, err := c.last.Get(stun.AttrXORRelayedAddress)
	if err != nil {
		c.t.Fatal(err)
	}
	a, ok := xorAddress(v, c.last.TransactionID)
	if !ok {
		c.t.Fatalf("%x", v)
	}
	return a
}

func transport(n byte) stun.Setter {
	return stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{n, 0, 0, 0}}
}

func family(n byte) stun.Setter {
	return stun.RawAttribute{Type: stun.AttrRequestedAddressFamily, Value: []byte{n, 0, 0, 0}}
}

func channel(n uint16) stun.Setter {
	return stun.RawAttribute{Type: stun.AttrChannelNumber, Value: []byte{byte(n >> 8), byte(n), 0, 0}}
}

func lifetime(seconds uint32) stun.Setter {
	return stun.RawAttribute{Type: stun.AttrLifetime, Value: binary.BigEndian.AppendUint32(nil, seconds)}
}

// xorPeer writes an XOR-PEER-ADDRESS as it is, IPv4 addresses in IPv6 form too.
type xorPeer struct{ a netip.AddrPort }

func peerOf(s string) xorPeer { return xorPeer{netip.MustParseAddrPort(s)} }

func (x xorPeer) AddTo(m *stun.Message) error {
	v := []byte{0, 1, 0, 0}
	if x.a.Addr().Is6() {
		v[1] = 2
	}
	binary.BigEndian.PutUint16(v[2:], x.a.Port()^0x2112)
	ip := x.a.Addr().AsSlice()
	for i := range ip {
		mask := []byte{0x21, 0x12, 0xa4, 0x42}
		ip[i] ^= append(mask, m.TransactionID[:]...)[i]
	}
	m.Add(stun.AttrXORPeerAddress, append(v, ip...))
	return nil
}
