package media

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pion/stun"

	"p2psip/interwork/media/sdp"
)

// errNoCandidates: there is no address to offer.
var errNoCandidates = errors.New("media: no address to offer: no network interface is up and no relay peer answered")

// bundle is what is gathered for one stream before its description can be written: sockets, and what they are reached at.
// Whoever takes a bundle closes it.
type bundle struct {
	socks      []*socket
	ufrag, pwd string
	addrs      []netip.Addr     // of this machine when it was gathered
	public     []netip.Addr     // of those, which the outside reaches
	servers    []netip.AddrPort // that were asked
	made       time.Time
	refreshed  time.Time
	once       sync.Once
}

// gather opens a socket at each address and asks for allocations, then asks where the sockets are seen to come from. It takes as
// long as ctx lets it, at the most, and fails only when nothing was found.
func gather(ctx context.Context, cfg *Config, addrs []netip.Addr) (*bundle, error) {
	now := time.Now()
	b := &bundle{addrs: addrs, public: cfg.Public, made: now, refreshed: now}
	b.ufrag, b.pwd = randomICE(6), randomICE(24)

	var relays []Allocation
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		if cfg.Relays != nil {
			relays, _ = cfg.Relays.Allocate(ctx, maxRelays) // what there is; none is no failure
		}
	}()
	if !cfg.RelayOnly {
		for _, a := range addrs {
			if len(b.socks) == maxHosts {
				break
			}
			if s, err := newHostSocket(a, cfg.Opened); err == nil {
				b.socks = append(b.socks, s)
			}
		}
	}
	hosts := b.socks
	if cfg.STUN != nil {
		b.servers = cfg.STUN()
		b.reflect(ctx, hosts, b.servers)
	}
	<-asked
	servers := make([]netip.AddrPort, 0, maxRelays)
	for i, r := range relays {
		s, err := newRelaySocket(r)
		if err != nil || i >= maxRelays {
			r.Close()
			continue
		}
		b.socks = append(b.socks, s)
		if at, err := netip.ParseAddrPort(r.Server()); err == nil {
			servers = append(servers, at)
		}
	}
	b.reflect(ctx, hosts, servers)
	b.servers = append(b.servers[:len(b.servers):len(b.servers)], servers...)
	if len(b.socks) == 0 {
		return nil, errNoCandidates
	}
	return b, nil
}

// reflect asks STUN servers where the sockets come from (RFC 8445 §5.1.1.2). A TURN server is one, too. Sockets that know
// already are not asked for again. Who does not answer within stunPatience is not waited for: UDP may be blocked.
func (b *bundle) reflect(ctx context.Context, hosts []*socket, servers []netip.AddrPort) {
	ctx, cancel := context.WithTimeout(ctx, stunPatience)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range hosts {
		if s.mapped.IsValid() {
			continue
		}
		var ask []netip.AddrPort
		for _, at := range servers {
			if at.Addr().Is4() == s.local.Addr().Is4() && !slices.Contains(ask, at) && len(ask) < 2 {
				ask = append(ask, at)
			}
		}
		if len(ask) > 0 {
			wg.Go(func() { s.mapped = s.seenAs(ctx, ask) })
		}
	}
	wg.Wait()
}

// seenAs gives the reflexive address of a host socket that nobody reads yet, the zero AddrPort where no server answers.
func (s *socket) seenAs(ctx context.Context, servers []netip.AddrPort) netip.AddrPort {
	// The software is named at length because relay peers answer strangers sparingly when the answer is longer than the question.
	req, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewSoftware("p2psip, seen as whom?"))
	if err != nil {
		return netip.AddrPort{}
	}
	defer s.setReadDeadline(time.Time{})
	buf := make([]byte, maxPacket)
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait *= 2 {
		for _, at := range servers {
			_ = s.write(req.Raw, at) // a server that cannot be reached does not answer
		}
		until := time.Now().Add(wait)
		if d, ok := ctx.Deadline(); ok && d.Before(until) {
			until = d
		}
		_ = s.setReadDeadline(until)
		for {
			n, from, err := s.read(buf)
			if err != nil {
				break
			}
			if at, ok := bindingAnswer(buf[:n], req.TransactionID); ok && slices.Contains(servers, from) {
				return at
			}
		}
	}
	return netip.AddrPort{}
}

// bindingAnswer reads the address out of the response to a Binding request.
func bindingAnswer(b []byte, id [stun.TransactionIDSize]byte) (netip.AddrPort, bool) {
	if !stun.IsMessage(b) {
		return netip.AddrPort{}, false
	}
	m := &stun.Message{Raw: b}
	var x stun.XORMappedAddress
	if m.Decode() != nil || m.TransactionID != id || m.Type != stun.BindingSuccess || x.GetFrom(m) != nil {
		return netip.AddrPort{}, false
	}
	a, ok := netip.AddrFromSlice(x.IP)
	if !ok || x.Port <= 0 || x.Port > 65535 || a.IsUnspecified() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(x.Port)), true
}

// fresh says whether a bundle is still worth offering: its addresses are those of the machine, and no allocation is lost.
func (b *bundle) fresh(addrs []netip.Addr) bool {
	return slices.Equal(b.addrs, addrs) && time.Since(b.made) < warmAge && !slices.ContainsFunc(b.socks, (*socket).lost)
}

func (b *bundle) close() {
	b.once.Do(func() {
		for _, s := range b.socks {
			s.close()
		}
	})
}

// find gives the socket with that address.
func (b *bundle) find(local netip.AddrPort) *socket {
	for _, s := range b.socks {
		if s.local == local {
			return s
		}
	}
	return nil
}

// ice is what a description says about the bundle (RFC 8839). Priorities are those of RFC 8445 §5.1.2.1 with the order of
// gathering as local preference.
func (b *bundle) ice() *sdp.ICE {
	i := &sdp.ICE{Ufrag: b.ufrag, Pwd: b.pwd, End: true}
	add := func(typ string, pref uint32, n int, at, rel netip.AddrPort) {
		c := sdp.Candidate{
			Foundation: typ[:1] + strconv.Itoa(n), Component: 1, Transport: "udp",
			Priority: pref<<24 | uint32(0xffff-n)<<8 | 255,
			Address:  at.Addr().String(), Port: at.Port(), Type: typ,
		}
		if rel.IsValid() {
			c.RelAddr, c.RelPort = rel.Addr().String(), rel.Port()
		}
		i.Candidates = append(i.Candidates, c)
	}
	for n, s := range b.socks {
		if !s.relayed() {
			add("host", 126, n, s.local, netip.AddrPort{})
		}
	}
	for n, s := range b.socks {
		if !s.relayed() && s.mapped.IsValid() && s.mapped != s.local && b.find(s.mapped) == nil {
			add("srflx", 100, n, s.mapped, s.local)
		}
	}
	for n, s := range b.socks {
		if s.relayed() {
			add("relay", 0, n, s.local, unspecifiedLike(s.local))
		}
	}
	return i
}

// unspecifiedLike is what a relayed candidate gives as related address where the real one is nobody's business (RFC 8828 §5.2).
func unspecifiedLike(a netip.AddrPort) netip.AddrPort {
	if a.Addr().Is4() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 9)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), 9)
}

// best is the address that a description names in c= and m=, that works most likely for who knows nothing of ICE (RFC 8445
// §5.1.3): one that the outside reaches, then that of a relay, then any; IPv4 before IPv6.
func (b *bundle) best() *socket {
	score := func(s *socket) int {
		n := 0
		switch {
		case !s.relayed() && slices.Contains(b.public, s.local.Addr()):
			n = 4
		case s.relayed():
			n = 2
		}
		if s.local.Addr().Is4() {
			n++
		}
		return n
	}
	return slices.MaxFunc(b.socks, func(x, y *socket) int { return score(x) - score(y) })
}

// randomICE gives n octets of randomness as ice-chars: 6 are 48 bits, 24 are 192 (RFC 8445 §5.3 wants 24 and 128).
func randomICE(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawStdEncoding.EncodeToString(b)
}
