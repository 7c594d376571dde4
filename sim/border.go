package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	production "p2psip/cmd/p2psip/node"
	"p2psip/interwork/account"
	"p2psip/interwork/flow"
	"p2psip/interwork/phone"
	"p2psip/overlay"
	"p2psip/proxypeer"
	"p2psip/sim/network"
	"p2psip/sim/public"
)

const (
	// publicDomain is that of the only provider there is.
	publicDomain = "example.net"
	// nameTrip is how long the DNS takes to answer.
	nameTrip = 30 * time.Millisecond
	// patience is how long the provider waits for a proxy peer before it tries the next one. That is the provider's own
	// affair; Timer B (32 s) would be the other extreme.
	patience = 4 * time.Second

	providerPlace   = 1
	proxyPeerPlace  = 1000   // of the first proxy peer
	subscriberPlace = 10_000 // of the first subscriber
)

// border is the public side of a simulation: a provider and its subscribers, and the DNS, in which the overlay's proxy
// peers stand as well. Nobody takes them out when they die.
type border struct {
	r           *run
	zone        *public.Zone
	provider    *public.Provider
	subscribers []*subscriber
	proxies     []*node
}

// subscriber is a customer of the provider, who knows nothing of overlays.
type subscriber struct {
	b     *border
	name  string
	phone *phone.Phone
}

var _ party = (*subscriber)(nil)

func (s *subscriber) present() *phone.Phone {
	if !s.b.provider.Registered(s.name) {
		return nil
	}
	return s.phone
}

func (s *subscriber) uri() string       { return "sip:" + s.name + "@" + publicDomain }
func (s *subscriber) keeps(string) bool { return false }

// homed is a user of the overlay who is called by a public address that leads there (draft §5.4).
type homed struct {
	*user
	b *border
}

var _ party = homed{}

func (h homed) present() *phone.Phone {
	if !h.b.provider.Registered(h.aor.User()) {
		return nil
	}
	return h.user.present()
}

func (h homed) uri() string { return "sip:" + h.aor.User() + "@" + publicDomain }

// newBorder builds the public side. Its places come before those of the hosts, so that it must be called first.
func newBorder(r *run) (*border, error) {
	b := &border{r: r}
	at := r.net.AddPlace(network.PublicIP(providerPlace))
	pc, err := at.ListenPacket(sipPort)
	if err != nil {
		return nil, err
	}
	if b.zone, err = public.NewZone(nameTrip, public.Servers(publicDomain, []netip.AddrPort{netip.AddrPortFrom(at.IP(), sipPort)})...); err != nil {
		return nil, err
	}
	l, err := b.zone.Locator(rand.NewPCG(r.s.Seed, 0xd0<<40))
	if err != nil {
		return nil, err
	}
	b.provider, err = public.New(public.Config{
		Domain: publicDomain, Socket: pc, Locator: l, Patience: patience, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	for i := range r.s.Public {
		s := &subscriber{b: b, name: "carol" + strconv.Itoa(i)}
		at := r.net.AddPlace(network.PublicIP(subscriberPlace + i))
		pc, err := at.ListenPacket(sipPort)
		if err != nil {
			return nil, err
		}
		b.provider.Add(s.name, password(s.name))
		s.phone, err = r.newPhone(at, pc, phone.Config{
			AOR: s.uri(), Outbound: b.provider.Addr().String(), Password: password(s.name),
			Incoming: func(c *phone.Call) { r.calls.incoming(c) },
		})
		if err != nil {
			return nil, err
		}
		b.subscribers = append(b.subscribers, s)
	}
	if r.s.CallsHome > 0 {
		for _, u := range r.users {
			b.provider.Add(u.aor.User(), password(u.aor.User()))
		}
	}
	return b, nil
}

// password gives somebody's at the provider.
func password(user string) string { return "secret of " + user }

// open enters the proxy peers that are there into the DNS and has the subscribers register.
func (b *border) open() {
	var servers []netip.AddrPort
	for i := range b.proxies {
		servers = append(servers, netip.AddrPortFrom(network.PublicIP(proxyPeerPlace+i), sipPort))
	}
	if err := b.zone.Add(public.Servers(overlayID, servers)...); err != nil {
		b.r.fail(err)
	}
	for i, s := range b.subscribers {
		wait := time.Duration(float64(min(publishSpread, b.r.s.Duration/4)) * float64(i) / float64(len(b.subscribers)))
		b.r.start(func() {
			if !b.r.sleep(wait + time.Microsecond) {
				return
			}
			ctx, cancel := context.WithTimeout(b.r.ctx, opTimeout)
			defer cancel()
			if _, err := s.phone.Register(ctx, registration); err != nil && b.r.ctx.Err() == nil {
				b.r.fail(fmt.Errorf("the simulated provider: %w", err))
			}
		})
	}
}

// close ends what newBorder has begun.
func (b *border) close() {
	if b == nil {
		return
	}
	for _, s := range b.subscribers {
		s.phone.Close()
	}
	b.provider.Close()
}

// any gives some subscriber.
func (b *border) any(x float64) *subscriber { return b.subscribers[int(x*float64(len(b.subscribers)))] }

// proxyPeer gives what makes the node one, nil for other nodes.
func (n *node) proxyPeer(place *network.Place) (*production.ProxyPeer, error) {
	b := n.r.border
	if n.proxy == 0 {
		return nil, nil
	}
	pc, err := place.At(network.PublicIP(proxyPeerPlace + n.proxy - 1)).ListenPacket(sipPort)
	if err != nil {
		return nil, err
	}
	l, err := b.zone.Locator(rand.NewPCG(n.r.s.Seed, n.dice.Uint64()))
	if err != nil {
		pc.Close()
		return nil, err
	}
	return &production.ProxyPeer{
		Sockets: []proxypeer.Socket{{Transport: flow.TransportUDP, Packet: pc}}, Locator: l,
	}, nil
}

// accounts gives the accounts of the node's users with the provider.
func (n *node) accounts() (out []account.Account) {
	if n.r.s.CallsHome <= 0 {
		return nil
	}
	for _, u := range n.users {
		name := u.aor.User()
		out = append(out, account.Account{AOR: "sip:" + name + "@" + publicDomain, User: name, Password: password(name)})
	}
	return out
}

// chooseProxyPeers decides which nodes are proxy peers: spread evenly, none of them one of those that never leave.
func (r *run) chooseProxyPeers() {
	s := &r.s
	for i := range s.ProxyPeers {
		at := s.Stable + (2*i+1)*(s.Nodes-s.Stable)/(2*s.ProxyPeers)
		n := r.nodes[at]
		r.border.proxies = append(r.border.proxies, n)
		n.proxy = i + 1
	}
}

// killProxyPeers makes a share of the running proxy peers fall silent for good.
func (r *run) killProxyPeers(k Kill, number int) {
	var list []*node
	for _, n := range r.border.proxies {
		n.mu.Lock()
		if n.peer != nil {
			list = append(list, n)
		}
		n.mu.Unlock()
	}
	list = victims(list, r.s.Seed, 1000+number, k.Share, len(list))
	for _, n := range list {
		n.mu.Lock()
		h := n.host
		n.mu.Unlock()
		if h != nil {
			r.net.Silence(h)
		}
		n.once.Do(func() { close(n.killed) })
	}
	r.mark(fmt.Sprintf("%d of %d proxy peers fall silent", len(list), len(r.border.proxies)))
}

// mayProxy says that the node's credential permits the role of a proxy peer.
func (n *node) mayProxy() []overlay.Role {
	if n.proxy == 0 {
		return nil
	}
	return []overlay.Role{overlay.RoleProxy}
}
