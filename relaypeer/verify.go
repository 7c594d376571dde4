package relaypeer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/stun"

	"p2psip/overlay"
	"p2psip/relaypeer/datapath"
)

// Whether others can reach this relay peer is found out before it is advertised (draft §3.2: a relay peer behind a NAT is one
// only if it has public addresses; requirement R28):
//
//   - An address that is public and on an interface of this machine: the relay peer asks itself, over the network stack.
//   - Any other: members of the overlay are asked to send a STUN Binding request there, whose transaction ID only they know. It
//     counts if the request came in here, from a network that is not the relay peer's own, and the member has heard the answer.
//     Two members in different networks must have got through. A relayed address is tried with the rest, because a NAT that
//     lets port 3478 in says nothing about the others.
//
// libp2p's AutoNAT cannot be used for it: it tries the addresses of libp2p's own sockets.

const (
	// wantConfirmed is how many members, in different networks, have to confirm an address.
	wantConfirmed = 2
	// maxAsked is how many members are asked at most, askedAtOnce of them at one time: one more than are needed.
	maxAsked    = 8
	askedAtOnce = wantConfirmed + 1
	// recheck is how often a verified address is verified again; an address that fails is looked at again after a pause that
	// doubles.
	recheck    = 30 * time.Minute
	recheckMin = 10 * time.Second
	recheckMax = 10 * time.Minute
	// awaitMembers is how soon one looks again whether somebody is there to be asked.
	awaitMembers = 2 * time.Second
)

var errNobody = errors.New("no member is there who could try it")

// Service is a socket for clients as others know it.
type Service struct {
	Transport     Transport
	Local, Public netip.AddrPort
}

// How an address is known to be good.
const (
	byInterface = "it is an address of this machine"
	byMembers   = "other members have reached it"
	byOwner     = "the owner says so"
)

// reach is how the address of a service stands.
type reach struct {
	Service
	good      string // why it is advertised; "" if it is not
	trouble   string // why not
	confirmed []overlay.NodeID
	failures  int       // since it was last verified
	doubt     string    // why it may not be reached although it is good
	tried     time.Time // when members have last tried one that nobody's word is needed for
	next      time.Time
	pause     time.Duration
}

// asked is a Binding request that is expected.
type asked struct{ from chan netip.AddrPort }

// bindings is told of every Binding request.
func (s *Server) bindings(m *stun.Message, client netip.AddrPort) {
	s.mu.Lock()
	a := s.waiting[m.TransactionID]
	s.mu.Unlock()
	if a != nil {
		select {
		case a.from <- client:
		default: // the first one counts
		}
	}
}

// expect makes a token that nobody can guess, for a Binding request to come in with.
func (s *Server) expect() ([12]byte, *asked) {
	var token [12]byte
	rand.Read(token[:])
	a := &asked{from: make(chan netip.AddrPort, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[token] = a
	return token, a
}

func (s *Server) forget(token [12]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, token)
}

// direct says whether an address is public and on an interface of this machine.
func (s *Server) direct(a netip.Addr) bool {
	m := s.peers.own.Load()
	return m != nil && m.addrs[a] && Forbidden(a) == ""
}

// verify looks at those services whose time has come.
func (r *role) verify(ctx context.Context, now time.Time) {
	var others []*reach
	for _, v := range r.due(now) {
		switch {
		case r.s.cfg.AssumeReachable:
			r.settle(v, now, byOwner, nil, nil)
		case r.s.direct(v.Public.Addr()):
			r.settle(v, now, byInterface, nil, r.selfCheck(ctx, v))
		case Forbidden(v.Public.Addr()) != "":
			r.settle(v, now, "", nil, fmt.Errorf("%s is not a public address: %s", v.Public.Addr(), Forbidden(v.Public.Addr())))
		default:
			others = append(others, v)
		}
	}
	for _, four := range []bool{true, false} {
		var list []*reach
		for _, v := range others {
			if v.Public.Addr().Is4() == four {
				list = append(list, v)
			}
		}
		if len(list) > 0 {
			r.askOthers(ctx, list[:min(len(list), maxTargets-1)], now)
		}
	}
}

// selfCheck sends a Binding request to the address from a socket of its own.
func (r *role) selfCheck(ctx context.Context, v *reach) error {
	token, a := r.s.expect()
	defer r.s.forget(token)
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	if err := probe(ctx, r.dial, target{v.Transport, v.Public, token}); err != nil {
		return fmt.Errorf("this machine does not reach its own address: %w", err)
	}
	select {
	case <-a.from:
		return nil
	default:
		return fmt.Errorf("something else answers at %s", v.Public)
	}
}

// askOthers has members try services of one family, until two of different networks have reached each.
func (r *role) askOthers(ctx context.Context, list []*reach, now time.Time) {
	spare, err := r.spare(list[0].Public.Addr())
	if err != nil {
		for _, v := range list {
			r.settle(v, now, "", nil, fmt.Errorf("a relayed address to be tried: %w", err))
		}
		return
	}
	defer spare.close()
	found, tried, last := r.witnesses(ctx, list, spare, wantConfirmed)
	for i, v := range list {
		err := fmt.Errorf("%d of %d members asked have reached it from outside; %d in different networks are needed", len(found[i].nodes), tried, wantConfirmed)
		switch {
		case len(found[i].groups) >= wantConfirmed:
			err = nil
		case tried == 0 && last != nil:
			err = fmt.Errorf("no member could be asked to try it: %w", last)
		case tried == 0:
			err = errNobody
		}
		r.settle(v, now, byMembers, found[i].nodes, err)
	}
}

// witnesses has members try services until want of different networks have reached each, or enough have tried. It gives who has
// reached each, how many have tried, and why others have not.
func (r *role) witnesses(ctx context.Context, list []*reach, spare *spare, want int) (found []confirmations, tried int, err error) {
	found = make([]confirmations, len(list))
	members := r.overlay.Connected()
	shuffle(members)
	for len(members) > 0 && tried < maxAsked && ctx.Err() == nil {
		if !slices.ContainsFunc(found, func(c confirmations) bool { return len(c.groups) < want }) {
			break
		}
		some := members[:min(len(members), askedAtOnce)]
		members = members[len(some):]
		type answer struct {
			from []netip.AddrPort
			err  error
		}
		answers := make([]answer, len(some))
		var wg sync.WaitGroup
		for i, node := range some {
			wg.Go(func() { answers[i].from, answers[i].err = r.ask(ctx, node, list, spare) })
		}
		wg.Wait()
		for i, a := range answers {
			if a.err != nil {
				err = a.err
				continue
			}
			tried++
			for k, from := range a.from {
				if from.IsValid() {
					found[k].add(some[i], r.group(from))
				}
			}
		}
	}
	return found, tried, err
}

// doubt has members try addresses that are on an interface of this machine. Those are advertised whatever comes of it, because
// nobody's word is needed for them; but where nobody gets through, most likely there is a firewall, and the owner is told.
func (r *role) doubt(ctx context.Context, now time.Time) {
	for _, four := range []bool{true, false} {
		var list []*reach
		r.mu.Lock()
		for _, v := range r.reaches {
			if v.good == byInterface && v.Public.Addr().Is4() == four && (v.tried.IsZero() || now.Sub(v.tried) >= recheck) && len(list) < maxTargets {
				list = append(list, v)
			}
		}
		r.mu.Unlock()
		if len(list) == 0 {
			continue
		}
		found, tried, _ := r.witnesses(ctx, list, nil, 1)
		if tried == 0 {
			continue
		}
		r.mu.Lock()
		for i, v := range list {
			v.tried, v.doubt = now, ""
			v.confirmed = found[i].nodes
			switch {
			case len(v.confirmed) > 0:
			case tried < wantConfirmed: // too few to say anything: again before long
				v.tried = now.Add(recheckMax - recheck)
			default:
				v.doubt = fmt.Sprintf("none of %d members asked has reached it", tried)
			}
		}
		r.mu.Unlock()
	}
}

// untried says that there are addresses that doubt has not got an answer about.
func (r *role) untried() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.reaches, func(v *reach) bool { return v.good == byInterface && v.tried.IsZero() })
}

// confirmations are the members that have reached an address, one a network.
type confirmations struct {
	nodes  []overlay.NodeID
	groups []string
}

func (c *confirmations) add(n overlay.NodeID, group string) {
	if !slices.Contains(c.groups, group) {
		c.nodes, c.groups = append(c.nodes, n), append(c.groups, group)
	}
}

// ask has one member try services, and gives from where it reached each; invalid if it did not, or, with a spare relayed address
// to be tried too, if it did not reach that or is in the relay peer's own network. An error says that the member has tried nothing.
func (r *role) ask(ctx context.Context, node overlay.NodeID, list []*reach, spare *spare) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime+streamTime)
	defer cancel()
	st, err := r.overlay.OpenService(ctx, overlay.ServiceReach, node, nil)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	defer context.AfterFunc(ctx, func() { st.Reset() })()
	own := r.group(netip.AddrPortFrom(list[0].Public.Addr(), 0))
	var targets []target
	var expected []*asked
	for _, v := range list {
		token, a := r.s.expect()
		defer r.s.forget(token)
		targets = append(targets, target{v.Transport, v.Public, token})
		expected = append(expected, a)
	}
	token, a := r.s.expect()
	defer r.s.forget(token)
	if spare != nil {
		targets, expected = append(targets, target{UDP, spare.addr, token}), append(expected, a)
	}
	if err := writeTargets(st, targets); err != nil {
		return nil, err
	}
	results, why, err := readOutcomes(st, len(targets))
	switch {
	case err != nil:
		return nil, err
	case why != "" || len(results) == 0:
		return nil, fmt.Errorf("a member does not try: %q", why)
	case !slices.ContainsFunc(results[:len(list)], func(o outcome) bool { return o != notTried }):
		return nil, errors.New("a member sees this relay peer at another address")
	}
	out := make([]netip.AddrPort, len(list))
	if spare != nil && (results[len(list)] != reached || !came(expected[len(list)]).IsValid()) {
		return out, nil // relayed addresses cannot be reached
	}
	for i := range list {
		from := came(expected[i])
		if results[i] == reached && from.IsValid() && (spare == nil || r.group(from) != own) {
			out[i] = from
		}
	}
	return out, nil
}

func came(a *asked) netip.AddrPort {
	select {
	case from := <-a.from:
		return from
	default:
		return netip.AddrPort{}
	}
}

// spare is a relayed address that is there to be tried.
type spare struct {
	addr netip.AddrPort
	conn net.PacketConn
	done chan struct{}
}

// spare opens a relayed address of the family of a, where Binding requests are answered.
func (r *role) spare(a netip.Addr) (*spare, error) {
	s := r.s
	if a.Is6() {
		return nil, errors.New("an IPv6 address has to be on an interface of this machine")
	}
	g := &datapath.Generator{Loop: s.cfg.Loop, MinPort: s.cfg.MinPort, MaxPort: s.cfg.MaxPort, Relay4: s.relay4}
	conn, addr, err := g.AllocatePacketConn("udp4", 0)
	if err != nil {
		return nil, err
	}
	p := &spare{addr: addrPort(addr), conn: conn, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		b := make([]byte, datapath.MaxDatagram)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			m := &stun.Message{Raw: b[:n]}
			client := addrPort(from)
			if m.Decode() != nil || m.Type != stun.BindingRequest {
				continue
			}
			s.mu.Lock()
			expected := s.waiting[m.TransactionID] != nil
			s.mu.Unlock()
			if !expected {
				continue // strangers get no answer here
			}
			s.bindings(m, client)
			if a, err := stun.Build(stun.BindingSuccess, stun.NewTransactionIDSetter(m.TransactionID),
				&stun.XORMappedAddress{IP: client.Addr().AsSlice(), Port: int(client.Port())}); err == nil {
				_, _ = conn.WriteTo(a.Raw, from)
			}
		}
	}()
	return p, nil
}

func (p *spare) close() {
	_ = p.conn.Close()
	<-p.done
}

func shuffle(list []overlay.NodeID) {
	for i := len(list) - 1; i > 0; i-- {
		j, err := rand.Int(rand.Reader, big.NewInt(int64(i+1)))
		if err != nil {
			return
		}
		list[i], list[j.Int64()] = list[j.Int64()], list[i]
	}
}

// networkGroup gives the network of an address, by which members are told apart who may be one and the same: /16 of IPv4, /32
// of IPv6.
func networkGroup(a netip.AddrPort) string {
	bits := 32
	if a.Addr().Is4() {
		bits = 16
	}
	p, err := a.Addr().Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}
