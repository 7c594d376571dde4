package relaypeer

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/pion/stun"

	"p2psip/relaypeer/credential"
)

func (c *rawClient) attr(t stun.AttrType) string {
	v, err := c.last.Get(t)
	if err != nil {
		return ""
	}
	return string(v)
}

// TestChallenge is what who knows nothing is told: little.
func TestChallenge(t *testing.T) {
	w := newWorld(t, nil)
	c := w.raw(t, "")
	bare := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), transport(17))
	if code := c.exchange(bare); code != stun.CodeUnauthorized {
		t.Fatalf("code %d", code)
	}
	if c.lastSize > 48 {
		t.Errorf("an answer of %d octets", c.lastSize)
	}
	if c.attr(stun.AttrRealm) != Realm || len(c.attr(stun.AttrNonce)) != 8 {
		t.Errorf("realm %q, nonce %q", c.attr(stun.AttrRealm), c.attr(stun.AttrNonce))
	}
	// The nonce is good for a member from that address, and for no other.
	member := newMember(t)
	c.username, c.pass = secret.Issue(member, time.Now().Add(time.Hour))
	c.nonce = c.attr(stun.AttrNonce)
	if code := c.ask(stun.MethodAllocate, transport(17)); code != 0 {
		t.Errorf("with the nonce: %d", code)
	}
	other := w.rawFrom(t, member, netip.MustParseAddrPort("127.0.0.2:0"))
	other.nonce = c.nonce
	if code := other.ask(stun.MethodAllocate, transport(17)); code != stun.CodeStaleNonce {
		t.Errorf("from another address: %d", code)
	}
	if other.lastSize > 48 {
		t.Errorf("an answer of %d octets", other.lastSize)
	}
	other.nonce = other.attr(stun.AttrNonce)
	if code := other.ask(stun.MethodAllocate, transport(17)); code != 0 {
		t.Errorf("with the new nonce: %d", code)
	}
}

func TestBadCredentials(t *testing.T) {
	w := newWorld(t, nil)
	for name, spoil := range map[string]func(c *rawClient){
		"another password":       func(c *rawClient) { c.pass = "guess" },
		"another relay peer's":   func(c *rawClient) { c.pass = credential.NewSecret([]byte("other")).Password(c.username) },
		"another expiry":         func(c *rawClient) { c.username = "9" + c.username },
		"no expiry":              func(c *rawClient) { c.username = c.username[11:] },
		"another realm":          func(c *rawClient) { c.realm = "example.org" },
		"run out a second ago":   func(c *rawClient) { c.username, c.pass = secret.Issue(newMember(t), time.Now().Add(-time.Second)) },
		"made for somebody else": func(c *rawClient) { c.username = c.username[:11] + newMember(t).String() },
	} {
		c := w.raw(t, newMember(t))
		m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), transport(17))
		if code := c.exchange(m); code != stun.CodeUnauthorized {
			t.Fatalf("code %d", code)
		}
		c.nonce = c.attr(stun.AttrNonce)
		spoil(c)
		if code := c.ask(stun.MethodAllocate, transport(17)); code != stun.CodeUnauthorized || c.lastSize > 48 {
			t.Errorf("%s: code %d in %d octets", name, code, c.lastSize)
		}
	}
	if n := w.Allocations(); n != 0 {
		t.Errorf("%d allocations", n)
	}
}

// TestNonceRunsOut wants a client told to take a new nonce, not thrown out.
func TestNonceRunsOut(t *testing.T) {
	w := newWorld(t, nil)
	c := w.raw(t, newMember(t))
	c.allocate(false)
	w.clock.advance(2 * time.Hour) // the credential has run out as well; what is under way goes on
	if code := c.ask(stun.MethodRefresh, lifetime(600)); code != stun.CodeStaleNonce {
		t.Fatalf("code %d", code)
	}
	c.nonce = c.attr(stun.AttrNonce)
	if code := c.ask(stun.MethodRefresh, lifetime(600)); code != 0 {
		t.Errorf("refreshing with a credential that has run out: %d", code)
	}
	if code := c.ask(stun.MethodCreatePermission, peerOf("8.8.8.8:1")); code != 0 {
		t.Errorf("a permission with it: %d", code)
	}
	w.clock.advance(23 * time.Hour)
	if code := c.ask(stun.MethodRefresh, lifetime(600)); code != stun.CodeStaleNonce {
		t.Fatalf("code %d", code)
	}
	c.nonce = c.attr(stun.AttrNonce)
	if code := c.ask(stun.MethodRefresh, lifetime(600)); code != stun.CodeAllocMismatch {
		t.Errorf("after a day: %d", code)
	}
	if code := c.ask(stun.MethodRefresh, lifetime(0)); code != 0 {
		t.Errorf("giving it back: %d", code)
	}
	eventually(t, "it is gone", func() bool { return w.Allocations() == 0 })
	if code := c.ask(stun.MethodAllocate, transport(17)); code != stun.CodeUnauthorized {
		t.Errorf("a new one with the old credential: %d", code)
	}
}

// TestCodes wants RFC 8656's codes for what is asked wrongly.
func TestCodes(t *testing.T) {
	w := newWorld(t, nil)
	ask := func(want stun.ErrorCode, what string, c *rawClient, method stun.Method, setters ...stun.Setter) {
		t.Helper()
		if got := c.ask(method, setters...); got != want {
			t.Errorf("%s: code %d, want %d", what, got, want)
		}
	}
	raw := func(t_ stun.AttrType, v ...byte) stun.Setter { return stun.RawAttribute{Type: t_, Value: v} }
	alloc := func(want stun.ErrorCode, what string, setters ...stun.Setter) {
		t.Helper()
		ask(want, what, w.raw(t, newMember(t)), stun.MethodAllocate, setters...)
	}
	alloc(stun.CodeBadRequest, "no transport")
	alloc(stun.CodeBadRequest, "a short transport", raw(stun.AttrRequestedTransport, 17))
	alloc(stun.CodeUnsupportedTransProto, "TCP to peers", transport(6))
	alloc(stun.CodeUnsupportedTransProto, "SCTP", transport(132))
	alloc(stun.CodeAddrFamilyNotSupported, "family 3", transport(17), family(3))
	alloc(stun.CodeUnknownAttribute, "DONT-FRAGMENT", transport(17), raw(stun.AttrDontFragment))
	alloc(stun.CodeUnknownAttribute, "something new", transport(17), raw(0x7abc, 1, 2, 3, 4))
	alloc(0, "something optional", transport(17), raw(0xbeef, 1, 2, 3, 4))
	alloc(stun.CodeInsufficientCapacity, "a reservation", transport(17), raw(stun.AttrEvenPort, 0x80))
	alloc(stun.CodeInsufficientCapacity, "a reserved one", transport(17), raw(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8))
	alloc(stun.CodeBadRequest, "both", transport(17), raw(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8), raw(stun.AttrEvenPort, 0))
	alloc(stun.CodeBadRequest, "a short lifetime attribute", transport(17), raw(stun.AttrLifetime, 1))

	even := w.raw(t, newMember(t))
	ask(0, "an even port", even, stun.MethodAllocate, transport(17), raw(stun.AttrEvenPort, 0))
	if p := even.relayed().Port(); p%2 != 0 || p < 49152 {
		t.Errorf("port %d", p)
	}
	long := w.raw(t, newMember(t))
	ask(0, "a lifetime", long, stun.MethodAllocate, transport(17), lifetime(1800))
	if v := long.attr(stun.AttrLifetime); binary.BigEndian.Uint32([]byte(v)) != 1800 {
		t.Errorf("lifetime %x", v)
	}
	short := w.raw(t, newMember(t))
	ask(0, "no lifetime at all", short, stun.MethodAllocate, transport(17), lifetime(0))
	if v := short.attr(stun.AttrLifetime); binary.BigEndian.Uint32([]byte(v)) != 600 {
		t.Errorf("lifetime %x", v)
	}
	ask(stun.CodeAllocMismatch, "a second one", short, stun.MethodAllocate, transport(17))

	none := w.raw(t, newMember(t))
	ask(stun.CodeAllocMismatch, "Refresh without an allocation", none, stun.MethodRefresh)
	ask(stun.CodeAllocMismatch, "a permission without", none, stun.MethodCreatePermission, peerOf("8.8.8.8:1"))
	ask(stun.CodeAllocMismatch, "a channel without", none, stun.MethodChannelBind, channel(0x4000), peerOf("8.8.8.8:4001"))

	c := w.raw(t, newMember(t))
	relayed := c.allocate(false)
	if !relayed.Addr().IsLoopback() || c.attr(stun.AttrXORMappedAddress) == "" {
		t.Errorf("relayed %s", relayed)
	}
	ask(stun.CodeBadRequest, "a permission for nobody", c, stun.MethodCreatePermission)
	ask(stun.CodeBadRequest, "a permission for half an address", c, stun.MethodCreatePermission, raw(stun.AttrXORPeerAddress, 0, 1, 2, 3))
	ask(stun.CodePeerAddrFamilyMismatch, "an IPv6 peer", c, stun.MethodCreatePermission, peerOf("[2a00::8]:1"))
	ask(stun.CodePeerAddrFamilyMismatch, "a channel to it", c, stun.MethodChannelBind, channel(0x4000), peerOf("[2a00::8]:4001"))
	ask(stun.CodePeerAddrFamilyMismatch, "Refresh of another family", c, stun.MethodRefresh, family(2))
	ask(0, "Refresh of its family", c, stun.MethodRefresh, family(1))
	ask(stun.CodeBadRequest, "a channel without a number", c, stun.MethodChannelBind, peerOf("8.8.8.8:4001"))
	ask(0, "a channel", c, stun.MethodChannelBind, channel(0x4000), peerOf("8.8.8.8:4001"))
	ask(0, "the same again", c, stun.MethodChannelBind, channel(0x4000), peerOf("8.8.8.8:4001"))
	ask(stun.CodeBadRequest, "its number for another", c, stun.MethodChannelBind, channel(0x4000), peerOf("8.8.4.4:4001"))
	ask(stun.CodeBadRequest, "another number for it", c, stun.MethodChannelBind, channel(0x4001), peerOf("8.8.8.8:4001"))
	ask(0, "another port", c, stun.MethodChannelBind, channel(0x4001), peerOf("8.8.8.8:4002"))

	// Another member's name does not control it.
	c.username, c.pass = secret.Issue(newMember(t), time.Now().Add(time.Hour))
	ask(stun.CodeStaleNonce, "with the nonce of the first", c, stun.MethodRefresh, lifetime(0))
	c.nonce = c.attr(stun.AttrNonce)
	ask(stun.CodeWrongCredentials, "giving it back", c, stun.MethodRefresh, lifetime(0))
	ask(stun.CodeWrongCredentials, "a permission", c, stun.MethodCreatePermission, peerOf("8.8.8.8:1"))
}

// TestPermissionsAreCounted: an allocation sends to so many addresses at one time, and to others later.
func TestPermissionsAreCounted(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Permissions = 3 })
	c := w.raw(t, newMember(t))
	c.allocate(false)
	for i, want := range []stun.ErrorCode{0, 0, 0, 508} {
		if got := c.ask(stun.MethodCreatePermission, xorPeer{netip.AddrPortFrom(netip.AddrFrom4([4]byte{8, 8, 8, byte(i)}), 1)}); got != want {
			t.Errorf("permission %d: %d", i, got)
		}
	}
	if got := c.ask(stun.MethodCreatePermission, peerOf("8.8.8.0:1"), peerOf("8.8.8.1:1")); got != 0 {
		t.Errorf("renewing: %d", got)
	}
	w.clock.advance(permissionLifetime + time.Second)
	if got := c.ask(stun.MethodCreatePermission, peerOf("8.8.9.0:1"), peerOf("8.8.9.1:1")); got != 0 {
		t.Errorf("later: %d", got)
	}
}

func TestBinding(t *testing.T) {
	w := newWorld(t, nil)
	c := w.raw(t, "")
	m := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	if code := c.exchange(m); code != 0 || c.lastSize != 32 {
		t.Fatalf("code %d in %d octets", code, c.lastSize)
	}
	var x stun.XORMappedAddress
	if err := x.GetFrom(c.last); err != nil || x.String() != c.conn.LocalAddr().String() {
		t.Errorf("%s %v, want %s", x, err, c.conn.LocalAddr())
	}
	m = stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint)
	if code := c.exchange(m); code != 0 || stun.Fingerprint.Check(c.last) != nil {
		t.Errorf("code %d: %s", code, c.last)
	}
}

// TestEndsWithItsConnection: an allocation over TCP is gone when the connection is.
func TestEndsWithItsConnection(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Idle = time.Minute; c.Limits.PerHost = 3 })
	a := w.client(t, TCP, newMember(t))
	allocate(t, a)
	if n := w.Allocations(); n != 1 {
		t.Fatalf("%d allocations", n)
	}
	var open []net.Conn
	for range 2 {
		c, err := net.Dial("tcp4", w.tcp.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 32)); err != nil { // from here on its time runs
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if n := w.Status().Conns; n != 3 {
		t.Fatalf("%d connections", n)
	}
	// One more of the same host is one too many.
	c, err := net.Dial("tcp4", w.tcp.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a fourth connection: %v", err)
	}
	// Those without an allocation are ended after a while.
	w.clock.advance(2 * time.Minute)
	for _, c := range open {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("an idle connection: %v", err)
		}
	}
	eventually(t, "the other two are gone", func() bool { return w.Status().Conns == 1 && w.Allocations() == 1 })
}

func TestDoorsShutAtTheEnd(t *testing.T) {
	w := newWorld(t, nil)
	allocate(t, w.client(t, TLS, newMember(t)))
	c := w.raw(t, newMember(t))
	relayed := c.allocate(false)
	half, err := net.Dial("tcp4", w.tls.String()) // in the middle of a handshake
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := w.Allocations(); n != 0 {
		t.Errorf("%d allocations", n)
	}
	l, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(relayed))
	if err != nil {
		t.Fatalf("the relayed port is still taken: %v", err)
	}
	l.Close()
}
