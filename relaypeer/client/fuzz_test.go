package client

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun"

	"p2psip/relaypeer/credential"
)

// nowhere is a socket over which nothing comes, and into which everything goes.
type nowhere struct {
	*fakeConn
	gone chan struct{}
}

func (n nowhere) Read([]byte) (int, error)    { <-n.gone; return 0, net.ErrClosed }
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n nowhere) Close() error                { close(n.gone); return nil }

// fuzzed makes an allocation without a relay peer, with a request under way, a permission and a channel.
func fuzzed() (*Allocation, *transaction, error) {
	a := &Allocation{
		now: time.Now, inbox: newQueue(), suspect: make(chan struct{}, 1), began: make(chan struct{}, 1), done: make(chan struct{}), relayed: netip.MustParseAddrPort("198.18.0.1:5000"),
		perms:   map[netip.Addr]*permission{netip.MustParseAddr("203.0.113.1"): {state: permGiven}},
		targets: map[netip.AddrPort]*target{}, channels: map[uint16]*target{minChannel: {addr: netip.MustParseAddrPort("203.0.113.1:4000")}},
	}
	a.link = newLink(nowhere{gone: make(chan struct{})}, false, a)
	a.session = newSession(a.link, credential.Grant{Username: "u", Password: "p"}, challenge{"r", "n"})
	m, err := stun.Build(stun.NewTransactionIDSetter(transactionID{1, 2, 3}), stun.NewType(stun.MethodRefresh, stun.ClassRequest), stun.Fingerprint)
	if err != nil {
		return nil, nil, err
	}
	t, err := a.link.begin(m, stun.NewLongTermIntegrity("u", "r", "p"))
	return a, t, err
}

// FuzzMessage gives whatever to a link that has everything a message may be about.
func FuzzMessage(f *testing.F) {
	a, _, err := fuzzed()
	if err != nil {
		f.Fatal(err)
	}
	a.link.close()
	add := func(class stun.MessageClass, method stun.Method, attrs ...stun.Setter) {
		list := append([]stun.Setter{stun.NewTransactionIDSetter(transactionID{1, 2, 3}), stun.NewType(method, class)}, attrs...)
		m, err := stun.Build(list...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Raw)
	}
	far := xor{attrPeerAddress, netip.MustParseAddrPort("203.0.113.1:4000")}
	add(stun.ClassIndication, stun.MethodData, far, attribute{attrData, []byte("sound")})
	add(stun.ClassIndication, stun.MethodData, xor{attrPeerAddress, netip.MustParseAddrPort("[2001:db8::1]:1")}, attribute{attrData, nil})
	add(stun.ClassSuccessResponse, stun.MethodRefresh, lifetimeOf(time.Minute), stun.NewLongTermIntegrity("u", "r", "p"), stun.Fingerprint)
	add(stun.ClassErrorResponse, stun.MethodRefresh, stun.ErrorCodeAttribute{Code: stun.CodeStaleNonce, Reason: []byte("Stale Nonce")}, stun.NewRealm("r"), stun.NewNonce("other"))
	add(stun.ClassErrorResponse, stun.MethodRefresh, attribute{stun.AttrErrorCode, []byte{0, 0, 7, 99, 0x1b}})
	add(stun.ClassSuccessResponse, stun.MethodBinding, xor{stun.AttrXORMappedAddress, netip.MustParseAddrPort("192.0.2.1:9")})
	f.Add([]byte{0x40, 0, 0, 5, 's', 'o', 'u', 'n', 'd', 0, 0, 0})
	f.Add([]byte{0x40, 0, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, tx, err := fuzzed()
		if err != nil {
			t.Fatal(err)
		}
		defer a.link.close()
		in := stun.New()
		a.link.take(in, bytes.Clone(b))
		a.link.take(in, bytes.Clone(b)) // again, with what was left of the first
		select {
		case x := <-tx.answer:
			switch x.m.Type.Class {
			case stun.ClassSuccessResponse:
				if tx.key.Check(x.m) != nil {
					t.Error("a success without integrity was believed")
				}
				_, _ = addressIn(x.m, attrRelayedAddress)
				_ = a.extended(x.m)
			case stun.ClassErrorResponse:
				e := turnError(x.m)
				if e.Code < 300 || e.Code > 699 || len(e.Error()) > 300 {
					t.Errorf("%d, %q", e.Code, e.Error())
				}
				if c, err := a.session.challengeIn(x.m); err == nil && (len(c.realm) > maxText || len(c.nonce) > maxText) {
					t.Error("a challenge of any length")
				}
			}
		default:
		}
		if a.inbox.bytes > 2*len(b) {
			t.Errorf("%d bytes became %d", len(b), a.inbox.bytes)
		}
		if from, ok := mappedIn(b, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:3478")), map[transactionID]netip.AddrPort{{1, 2, 3}: netip.MustParseAddrPort("192.0.2.1:3478")}); ok && !from.IsValid() {
			t.Error("no address was taken for one")
		}
	})
}

// FuzzFrame reads whatever comes over a connection.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{0x40, 0, 0, 5, 's', 'o', 'u', 'n', 'd', 0, 0, 0, 0x40, 0, 0, 0})
	f.Add(append([]byte{1, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 16)...))
	f.Add([]byte{0x40, 0, 0xff, 0xff})
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(b), 64)
		buf := make([]byte, maxMessage)
		total := 0
		for {
			m, err := readFrame(r, buf)
			if err != nil {
				break
			}
			total += len(m)
			if len(m) < 4 || total > len(b) {
				t.Fatalf("%d bytes out of %d", total, len(b))
			}
		}
	})
}

// FuzzAddress reads addresses and writes them again.
func FuzzAddress(f *testing.F) {
	id := transactionID{9, 8, 7, 6, 5, 4, 3, 2, 1}
	for _, s := range []string{"192.0.2.1:3478", "[2001:db8::1]:1", "[::ffff:127.0.0.1]:5"} {
		f.Add(appendXOR(nil, netip.MustParseAddrPort(s), id))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := readXOR(b, id)
		if err != nil {
			if !errors.Is(err, errBadMessage) {
				t.Error(err)
			}
			return
		}
		again, err := readXOR(appendXOR(nil, a, id), id)
		if err != nil || again != a {
			t.Errorf("%s became %s, %v", a, again, err)
		}
		m := stun.New()
		m.TransactionID = id
		m.Add(stun.AttrXORMappedAddress, b)
		var x stun.XORMappedAddress
		if err := x.GetFrom(m); err == nil && (x.Port != int(a.Port()) || !x.IP.Equal(net.IP(a.Addr().AsSlice()))) {
			t.Errorf("%s, where pion reads %s", a, x)
		}
	})
}
