package relaypeer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun"

	"p2psip/relaypeer/credential"
	"p2psip/relaypeer/datapath"
)

// gate stands between the clients of one front and pion's server, which reads from it. What it answers itself, because pion
// does not or answers otherwise than RFC 8656 says:
//
//	401, 438   in 48 octets (pion: more than 140), and only as often as sources allows
//	401        for a user name that is not known, a wrong password and an expired credential (pion: 400)
//	403        for an address that nothing is sent to (pion: 401, or an error without a code)
//	437        for a request without an allocation (pion: nothing)
//	441        for another member's user name (pion: carries it out)
//	440, 443   for a family that there is none of, or that is not the allocation's (pion knows IPv4 only)
//	442        for relaying TCP (pion: relays UDP)
//	420        for what must be understood and is not
//	486, 508   for quotas, and while draining; 508 also for RESERVATION-TOKEN and EVEN-PORT with a reservation
//	Binding
//
// What it hands on carries pion's own nonce in the place of the gate's short one and is signed anew with the member's key, so
// that pion's answers are good as they are.
//
// ReadFrom is called by one goroutine, which answers a request before it reads on.
type gate struct {
	datapath.Front
	s      *Server
	stream bool

	// Only pion's goroutine, as all up to mu.
	in, out stun.Message
	nonce   string // pion's
	nonceAt time.Time
	held    []byte // a message that waits until the nonce is there
	heldBy  net.Addr
	even    bool // the allocation under way is to have an even port
	done    chan struct{}

	mu    sync.Mutex // guards both
	held5 map[netip.AddrPort]*allocation
	idle  time.Time // since when there is no allocation
}

var _ net.PacketConn = (*gate)(nil)

// self is where pion sends what it answers to the gate's own question for a nonce.
var self net.Addr = &net.UDPAddr{IP: net.IPv4zero}

// pionNonce is how long a nonce of pion's is used; pion takes it for an hour.
const pionNonce = 30 * time.Minute

func newGate(s *Server, f datapath.Front, stream bool) *gate {
	return &gate{Front: f, s: s, stream: stream, done: make(chan struct{}), held5: map[netip.AddrPort]*allocation{}, idle: s.now()}
}

// ReadFrom gives pion what it may see. After an error it is not called again.
func (g *gate) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		var n int
		var from net.Addr
		if g.held != nil {
			n, from, g.held = copy(b, g.held), g.heldBy, nil
		} else {
			var err error
			if n, from, err = g.Front.ReadFrom(b); err != nil {
				close(g.done)
				return 0, nil, err
			}
			if n >= headerSize && b[0] < 4 && g.s.now().Sub(g.nonceAt) > pionNonce {
				g.held, g.heldBy, g.nonceAt = append([]byte(nil), b[:n]...), from, g.s.now()
				m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodRefresh, stun.ClassRequest))
				return copy(b, m.Raw), self, nil
			}
		}
		if n = g.judge(b, n, from); n > 0 {
			return n, from, nil
		}
	}
}

// WriteTo sends what pion has to say to a client.
func (g *gate) WriteTo(b []byte, to net.Addr) (int, error) {
	if to == self {
		m := &stun.Message{Raw: b}
		var nonce stun.Nonce
		if m.Decode() == nil && nonce.GetFrom(m) == nil {
			g.nonce = nonce.String()
		}
		return len(b), nil
	}
	return g.Front.WriteTo(b, to)
}

const headerSize = 20 // RFC 8489 §5

// judge looks at a message of n octets in b and gives how many of them pion gets, perhaps others; 0: none. A fault in here
// costs this message.
func (g *gate) judge(b []byte, n int, from net.Addr) (pass int) {
	defer func() {
		if p := recover(); p != nil {
			g.s.stats.panics.Add(1)
			pass = 0
		}
	}()
	client := addrPort(from)
	switch {
	case n > 0 && b[0]>>6 == 1: // ChannelData, RFC 8656 §12.4
		if n < 4 || int(binary.BigEndian.Uint16(b[2:]))+4 > n {
			return g.malformed()
		}
		if g.allocation(client) == nil {
			g.s.stats.stray.Add(1)
			return 0
		}
		return n
	case !g.decode(b[:n]):
		return g.malformed()
	}
	m := &g.in
	switch m.Type {
	case stun.NewType(stun.MethodSend, stun.ClassIndication):
		return g.send(m, client, n)
	case stun.BindingRequest:
		g.binding(m, from, client)
		return 0
	case stun.NewType(stun.MethodAllocate, stun.ClassRequest), stun.NewType(stun.MethodRefresh, stun.ClassRequest),
		stun.NewType(stun.MethodCreatePermission, stun.ClassRequest), stun.NewType(stun.MethodChannelBind, stun.ClassRequest):
	default:
		g.s.stats.stray.Add(1)
		return 0
	}
	r := request{m: m, from: from, client: client, now: g.s.now()}
	if !g.authenticate(&r) {
		return 0
	}
	if code := g.check(&r); code != 0 {
		g.refuse(&r, code)
		return 0
	}
	if g.nonce == "" || g.rewrite(&r) != nil || len(g.out.Raw) > len(b) {
		g.refuse(&r, stun.CodeServerError)
		return 0
	}
	return copy(b, g.out.Raw)
}

func (g *gate) malformed() int {
	g.s.stats.malformed.Add(1)
	return 0
}

// decode takes a STUN message apart into g.in, strictly.
func (g *gate) decode(b []byte) bool {
	if len(b) < headerSize || b[0] >= 4 || int(binary.BigEndian.Uint16(b[2:]))+headerSize != len(b) || len(b)%4 != 0 {
		return false
	}
	g.in.Raw = b
	if g.in.Decode() != nil {
		return false
	}
	if g.in.Contains(stun.AttrFingerprint) {
		if last := g.in.Attributes[len(g.in.Attributes)-1]; last.Type != stun.AttrFingerprint || last.Length != 4 {
			return false
		}
		return stun.Fingerprint.Check(&g.in) == nil
	}
	return true
}

// request is an authenticated request on its way to pion.
type request struct {
	m        *stun.Message
	from     net.Addr
	client   netip.AddrPort
	now      time.Time
	username string
	expires  time.Time
	member   string
	key      stun.MessageIntegrity
	alloc    *allocation // the client's, nil: none
	unknown  stun.UnknownAttributes
	lifetime bool // LIFETIME goes along
}

// authenticate applies RFC 8489 §9.2.4; false: it has been answered, or is not worth it.
func (g *gate) authenticate(r *request) bool {
	m := r.m
	sum, err := m.Get(stun.AttrMessageIntegrity)
	if err != nil {
		g.challenge(r, stun.CodeUnauthorized)
		return false
	}
	username, err1 := m.Get(stun.AttrUsername)
	realm, err2 := m.Get(stun.AttrRealm)
	nonce, err3 := m.Get(stun.AttrNonce)
	if len(sum) != 20 || err1 != nil || err2 != nil || err3 != nil {
		g.stranger(r, &stun.ErrorCodeAttribute{Code: stun.CodeBadRequest})
		return false
	}
	r.username = string(username)
	if r.expires, r.member, err = credential.ParseUsername(r.username); err != nil || string(realm) != Realm {
		g.s.stats.refused.Add(1)
		g.challenge(r, stun.CodeUnauthorized)
		return false
	}
	if !g.s.nonces.check(string(nonce), r.client.Addr(), r.member, r.now) {
		g.challenge(r, stun.CodeStaleNonce)
		return false
	}
	r.key = g.s.cfg.Secret.Key(r.username, Realm)
	if r.key.Check(m) != nil {
		g.s.stats.refused.Add(1)
		g.challenge(r, stun.CodeUnauthorized)
		return false
	}
	for i, a := range m.Attributes {
		if a.Type == stun.AttrMessageIntegrity {
			m.Attributes = m.Attributes[:i] // what follows is not signed
			break
		}
	}
	if !g.s.members.mayAsk(r.member, r.now) {
		g.s.stats.limited.Add(1)
		return false
	}
	r.alloc = g.allocation(r.client)
	if r.alloc == nil && r.now.After(r.expires) {
		g.challenge(r, stun.CodeUnauthorized) // what is under way goes on: a call does not end with a credential
		return false
	}
	return true
}

// known are the attributes that must be understood and are (RFC 8656 §18, RFC 8489 §14).
var known = map[stun.AttrType]bool{
	stun.AttrUsername: true, stun.AttrMessageIntegrity: true, stun.AttrRealm: true, stun.AttrNonce: true,
	stun.AttrChannelNumber: true, stun.AttrLifetime: true, stun.AttrXORPeerAddress: true, stun.AttrData: true,
	stun.AttrRequestedAddressFamily: true, stun.AttrEvenPort: true, stun.AttrRequestedTransport: true, stun.AttrReservationToken: true,
	stun.AttrPadding: true,
}

// check judges a request by what RFC 8656 says of its method; 0: pion gets it.
func (g *gate) check(r *request) stun.ErrorCode {
	for _, a := range r.m.Attributes {
		if a.Type < 0x8000 && !known[a.Type] && len(r.unknown) < 8 {
			r.unknown = append(r.unknown, a.Type)
		}
	}
	if len(r.unknown) > 0 {
		return stun.CodeUnknownAttribute
	}
	if r.m.Type.Method == stun.MethodAllocate {
		return g.checkAllocate(r)
	}
	if r.alloc == nil {
		return stun.CodeAllocMismatch
	}
	if r.alloc.member.name != r.member {
		return stun.CodeWrongCredentials
	}
	switch r.m.Type.Method {
	case stun.MethodRefresh:
		r.lifetime = true
		if v, err := r.m.Get(stun.AttrLifetime); err == nil && len(v) == 4 && binary.BigEndian.Uint32(v) == 0 {
			return 0 // an allocation may always be given back
		}
		if r.now.Sub(r.alloc.made) > g.s.limits.MaxAge {
			return stun.CodeAllocMismatch // the client has to begin anew, with a new credential
		}
		return g.family(r, r.alloc)
	case stun.MethodCreatePermission:
		return g.checkPermission(r)
	}
	return g.checkChannel(r)
}

// checkAllocate applies RFC 8656 §7.2.
func (g *gate) checkAllocate(r *request) stun.ErrorCode {
	if r.alloc != nil {
		if r.alloc.transaction == r.m.TransactionID && r.alloc.member.name == r.member {
			return 0 // the same again: pion has kept its answer
		}
		return stun.CodeAllocMismatch
	}
	m := r.m
	transport, err := m.Get(stun.AttrRequestedTransport)
	switch {
	case err != nil || len(transport) != 4:
		return stun.CodeBadRequest
	case transport[0] != 17:
		return stun.CodeUnsupportedTransProto
	case m.Contains(stun.AttrReservationToken):
		if m.Contains(stun.AttrEvenPort) || m.Contains(stun.AttrRequestedAddressFamily) {
			return stun.CodeBadRequest
		}
		return stun.CodeInsufficientCapacity
	}
	six := false
	if v, err := m.Get(stun.AttrRequestedAddressFamily); err == nil {
		if len(v) != 4 || v[0] != 1 && v[0] != 2 {
			return stun.CodeAddrFamilyNotSupported
		}
		six = v[0] == 2
	}
	if !g.s.relays(six) {
		return stun.CodeAddrFamilyNotSupported
	}
	g.even = false
	if v, err := m.Get(stun.AttrEvenPort); err == nil {
		switch {
		case len(v) != 1:
			return stun.CodeBadRequest
		case v[0]&0x80 != 0:
			return stun.CodeInsufficientCapacity
		}
		g.even = true
	}
	if v, err := m.Get(stun.AttrLifetime); err == nil {
		if len(v) != 4 {
			return stun.CodeBadRequest
		}
		// A shorter one than usual is raised to that (§7.2), which pion does for none at all.
		r.lifetime = binary.BigEndian.Uint32(v) > 600
	}
	if g.s.draining() {
		return stun.CodeInsufficientCapacity
	}
	switch err := g.s.members.mayAllocate(r.member, sourceName(r.client), r.now); {
	case errors.Is(err, errQuota):
		return stun.CodeAllocQuotaReached
	case err != nil:
		return stun.CodeInsufficientCapacity
	}
	return 0
}

func sourceName(client netip.AddrPort) string { return sourceKey(client.Addr()).String() }

// family holds a Refresh to its allocation's family (RFC 8656 §8.2).
func (g *gate) family(r *request, a *allocation) stun.ErrorCode {
	v, err := r.m.Get(stun.AttrRequestedAddressFamily)
	if err != nil {
		return 0
	}
	if len(v) != 4 || (v[0] == 1) != a.relayed.Addr().Is4() {
		return stun.CodePeerAddrFamilyMismatch
	}
	return 0
}

// checkPermission applies RFC 8656 §10.2: all of the addresses, or none.
func (g *gate) checkPermission(r *request) stun.ErrorCode {
	var peers []netip.Addr
	for _, a := range r.m.Attributes {
		if a.Type != stun.AttrXORPeerAddress {
			continue
		}
		peer, ok := xorAddress(a.Value, r.m.TransactionID)
		switch {
		case !ok:
			return stun.CodeBadRequest
		case peer.Addr().Unmap().Is4() != r.alloc.relayed.Addr().Is4():
			return stun.CodePeerAddrFamilyMismatch
		case g.s.peers.Permit(peer.Addr()) != nil:
			g.s.stats.forbidden.Add(1)
			return stun.CodeForbidden
		}
		peers = append(peers, peer.Addr().Unmap())
	}
	if len(peers) == 0 {
		return stun.CodeBadRequest
	}
	if !g.permit(r, peers) {
		return stun.CodeInsufficientCapacity
	}
	return 0
}

// checkChannel applies RFC 8656 §12.2.
func (g *gate) checkChannel(r *request) stun.ErrorCode {
	number, err := r.m.Get(stun.AttrChannelNumber)
	value, err2 := r.m.Get(stun.AttrXORPeerAddress)
	if err != nil || err2 != nil || len(number) != 4 || number[0] < 0x40 || number[0] > 0x7f {
		return stun.CodeBadRequest
	}
	peer, ok := xorAddress(value, r.m.TransactionID)
	switch {
	case !ok:
		return stun.CodeBadRequest
	case peer.Addr().Unmap().Is4() != r.alloc.relayed.Addr().Is4():
		return stun.CodePeerAddrFamilyMismatch
	case g.s.peers.Send(peer) != nil:
		g.s.stats.forbidden.Add(1)
		return stun.CodeForbidden
	}
	if !g.permit(r, []netip.Addr{peer.Addr().Unmap()}) {
		return stun.CodeInsufficientCapacity
	}
	return g.channel(r, binary.BigEndian.Uint16(number), netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()))
}

// send judges a Send indication (RFC 8656 §11.2); pion asks for the permission.
func (g *gate) send(m *stun.Message, client netip.AddrPort, n int) int {
	a := g.allocation(client)
	value, err := m.Get(stun.AttrXORPeerAddress)
	if a == nil || err != nil {
		g.s.stats.stray.Add(1)
		return 0
	}
	peer, ok := xorAddress(value, m.TransactionID)
	if !ok || peer.Addr().Unmap().Is4() != a.relayed.Addr().Is4() {
		return g.malformed()
	}
	if g.s.peers.Send(peer) != nil {
		g.s.stats.forbidden.Add(1)
		return 0
	}
	return n
}

// xorAddress reads an XOR-PEER-ADDRESS (RFC 8489 §14.2).
func xorAddress(v []byte, id [stun.TransactionIDSize]byte) (netip.AddrPort, bool) {
	if len(v) != 8 && len(v) != 20 || v[1] != 1 && v[1] != 2 || (v[1] == 1) != (len(v) == 8) {
		return netip.AddrPort{}, false
	}
	var mask [16]byte
	binary.BigEndian.PutUint32(mask[:], 0x2112A442)
	copy(mask[4:], id[:])
	port := binary.BigEndian.Uint16(v[2:]) ^ 0x2112
	for i := range v[4:] {
		mask[i] ^= v[4+i]
	}
	if len(v) == 8 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(mask[:4])), port), true
	}
	return netip.AddrPortFrom(netip.AddrFrom16(mask), port), true
}

// rewrite makes of an authenticated request the one that pion gets, in g.out.
func (g *gate) rewrite(r *request) error {
	m := &g.out
	m.Reset()
	m.Type, m.TransactionID = r.m.Type, r.m.TransactionID
	m.WriteHeader()
	for _, a := range r.m.Attributes {
		switch a.Type {
		case stun.AttrNonce, stun.AttrEvenPort, stun.AttrPadding, stun.AttrSoftware:
			continue
		case stun.AttrLifetime:
			if !r.lifetime {
				continue
			}
		}
		m.Add(a.Type, a.Value)
	}
	m.Add(stun.AttrNonce, []byte(g.nonce))
	return r.key.AddTo(m)
}

// refuse answers a request whose sender is known.
func (g *gate) refuse(r *request, code stun.ErrorCode) {
	g.s.stats.refusals.Add(1)
	setters := []stun.Setter{code}
	if len(r.unknown) > 0 {
		setters = append(setters, r.unknown)
	}
	if g.build(r, append(setters, r.key)...) == nil {
		_, _ = g.Front.WriteTo(g.out.Raw, r.from)
	}
}

// challenge answers 401 or 438 (RFC 8489 §9.2.4) to who is not known.
func (g *gate) challenge(r *request, code stun.ErrorCode) {
	g.s.stats.challenged.Add(1)
	g.stranger(r, &stun.ErrorCodeAttribute{Code: code}, stun.Realm(Realm), stun.Nonce(g.s.nonces.forAddr(r.client.Addr(), r.now)))
}

// stranger answers an error to who is not known, if sources allows it.
func (g *gate) stranger(r *request, setters ...stun.Setter) {
	if g.build(r, setters...) == nil {
		g.answer(r, g.out.Raw)
	}
}

func (g *gate) build(r *request, setters ...stun.Setter) error {
	m := &g.out
	m.Reset()
	m.Type, m.TransactionID = stun.NewType(r.m.Type.Method, stun.ClassErrorResponse), r.m.TransactionID
	m.WriteHeader()
	for _, s := range setters {
		if err := s.AddTo(m); err != nil {
			return fmt.Errorf("making an answer: %w", err)
		}
	}
	return nil
}

// answer sends to who is not known. Over a connection it is known at least that somebody hears.
func (g *gate) answer(r *request, b []byte) {
	question := len(r.m.Raw)
	if g.stream {
		question = len(b)
	}
	if !g.s.sources.mayAnswer(r.client.Addr(), question, len(b), r.now) {
		g.s.stats.limited.Add(1)
		return
	}
	_, _ = g.Front.WriteTo(b, r.from)
}

// binding answers a STUN Binding request (RFC 8489 §12): who asks, from outside, learns its address; who was asked to look
// whether this relay peer can be reached shows it so.
func (g *gate) binding(m *stun.Message, from net.Addr, client netip.AddrPort) {
	r := request{m: m, from: from, client: client, now: g.s.now()}
	g.s.bindings(m, client)
	o := &g.out
	o.Reset()
	o.Type, o.TransactionID = stun.BindingSuccess, m.TransactionID
	o.WriteHeader()
	if (&stun.XORMappedAddress{IP: client.Addr().AsSlice(), Port: int(client.Port())}).AddTo(o) != nil {
		return
	}
	if m.Contains(stun.AttrFingerprint) && stun.Fingerprint.AddTo(o) != nil {
		return
	}
	g.answer(&r, o.Raw)
}
