package proxypeer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

// Peer is the public side of a proxy peer: give it to proxy.New as its Border, then Start it with what the flows deliver
// into.
type Peer struct {
	cfg     Config
	limits  Limits
	log     *slog.Logger
	sources *sources
	sockets []socket
	stats   counters

	mu      sync.Mutex // guards both
	started bool
	closed  bool

	offering Offering
	calls    func() int // calls in progress, for the load that is advertised
}

var (
	_ proxy.Border  = (*Peer)(nil)
	_ proxy.Truster = (*Peer)(nil)
)

type counters struct {
	requests, entered, left, refused, scanners, limited, withheld, failed atomic.Uint64
}

// New makes a Peer, which does not read from its sockets before Start.
func New(c Config) (*Peer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Capacity == 0 {
		c.Capacity = DefaultCapacity
	}
	p := &Peer{cfg: c, limits: c.Limits.withDefaults(), log: c.Logger}
	p.sources = newSources(p.limits)
	for _, s := range c.Sockets {
		p.sockets = append(p.sockets, p.newSocket(s))
	}
	return p, nil
}

// Public gives the addresses of the sockets for proxy.Config.
func (p *Peer) Public() (out []proxy.PublicAddr) {
	for _, s := range p.sockets {
		out = append(out, proxy.PublicAddr{Socket: s.local, Name: s.name})
	}
	return out
}

// Start begins to read. What passes the gate goes to h.
func (p *Peer) Start(h flow.Handler) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started || p.closed {
		return errors.New("proxy peer: started twice, or after its end")
	}
	p.started = true
	g := &gate{p: p, next: h}
	for i := range p.sockets {
		p.sockets[i].start(p, g)
	}
	return nil
}

// Close withdraws the advertisement, then ends all sockets and connections and waits for their goroutines.
func (p *Peer) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	offering, started := p.offering, p.started
	p.mu.Unlock()
	var errs []error
	if offering != nil {
		errs = append(errs, offering.Close())
	}
	for i := range p.sockets {
		errs = append(errs, p.sockets[i].close(started))
	}
	return errors.Join(errs...)
}

// Enter implements proxy.Border.
func (p *Peer) Enter(ctx context.Context, f flow.Flow, req *sip.Request) error {
	p.stats.entered.Add(1)
	if p.cfg.Policy == nil {
		return nil
	}
	if from, to := req.From(), req.To(); from != nil && to != nil && strings.EqualFold(from.Address.Host, string(p.cfg.OID)) && !to.Params.Has("tag") {
		// A member's call comes back that another proxy peer has let out, on its word (see interwork/proxy/vouch.go). There is
		// no federation with oneself.
		p.cfg.Policy.Returned(req)
		return nil
	}
	return p.cfg.Policy.Inbound(ctx, plain(f), req)
}

// Trusts implements proxy.Truster: the policy lists the source among the addresses of a domain.
func (p *Peer) Trusts(f flow.Flow) bool {
	t, ok := p.cfg.Policy.(interface{ Trusts(netip.Addr) bool })
	if !ok {
		return false
	}
	a, err := netip.ParseAddr(f.Remote().Host)
	return err == nil && t.Trusts(a)
}

// Answered implements proxy.Border.
func (p *Peer) Answered(f flow.Flow, method sip.RequestMethod, status int) {
	p.sources.answered(f.Remote().Host, f.Transport() == flow.TransportUDP, method, status, time.Now())
}

// Offering is an advertisement under way; overlay.Offering implements it.
type Offering interface {
	Update()
	Close() error
}

// Advertise has the node advertised as a proxy peer until Close. offer is overlay.Peer's; calls tells how many calls are in
// progress.
func (p *Peer) Advertise(offer func(r overlay.Role, describe func() overlay.Offer) (Offering, error), calls func() int) error {
	o, err := offer(overlay.RoleProxy, func() overlay.Offer { return p.offer(calls) })
	if err != nil {
		return fmt.Errorf("advertise the proxy peer: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = o.Close()
		return errors.New("proxy peer: closed")
	}
	p.offering, p.calls = o, calls
	return nil
}

// Advertised gives how many nodes have confirmed the advertisement, 0 while there is none.
func (p *Peer) Advertised() int {
	p.mu.Lock()
	o := p.offering
	p.mu.Unlock()
	if a, ok := o.(interface {
		Advertised() (time.Time, int, error)
	}); ok {
		_, n, _ := a.Advertised()
		return n
	}
	return 0
}

// offer is what is advertised at this moment.
func (p *Peer) offer(calls func() int) overlay.Offer {
	o := overlay.Offer{Services: p.Services(), Capacity: p.cfg.Capacity}
	o.Load = uint16(min(1000, uint64(calls())*1000/uint64(p.cfg.Capacity)))
	return o
}

// Services gives the URIs of the public sockets, as they are advertised.
func (p *Peer) Services() (out []string) {
	for _, s := range p.sockets {
		if len(out) == overlay.MaxServices {
			break
		}
		if ap, ok := s.name.AddrPort(); ok && !ap.Addr().IsUnspecified() {
			out = append(out, fmt.Sprintf("sip:%s;transport=%s", s.name, lower(s.transport)))
		}
	}
	return out
}

// Status is how the role stands.
type Status struct {
	Services []string // what is advertised
	Requests uint64   // from the public side
	Entered  uint64   // of those, for users of the overlay
	Left     uint64   // sent out of the overlay, one for each place tried
	Refused  uint64   // not sent: no such domain, policy, a name server that does not say
	Scanners uint64   // not answered because they looked like a scanner's
	Limited  uint64   // not served because their source asked too much
	Withheld uint64   // responses not sent because they were larger than what was asked
	Failed   uint64   // places outside that did not serve
	Sources  int      // remembered
	Conns    int      // connections now
}

// Status gives a snapshot.
func (p *Peer) Status() Status {
	s := Status{
		Services: p.Services(), Requests: p.stats.requests.Load(), Entered: p.stats.entered.Load(), Left: p.stats.left.Load(),
		Refused: p.stats.refused.Load(), Scanners: p.stats.scanners.Load(), Limited: p.stats.limited.Load(),
		Withheld: p.stats.withheld.Load(), Failed: p.stats.failed.Load(), Sources: p.sources.len(),
	}
	for _, k := range p.sockets {
		s.Conns += k.conns()
	}
	return s
}
