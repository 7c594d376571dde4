package overlay

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// nearRTT is the round trip that counts as no distance: what is nearer gains little more.
	nearRTT = 50 * time.Millisecond
	// unknownRTT is assumed of a node that was never heard.
	unknownRTT = 100 * time.Millisecond
	// maxOwnProbes bounds the probes of one Find.
	maxOwnProbes = 8
	// capacityRange is how many times the middle node's capacity counts, at most: more would be a claim too cheap to make.
	capacityRange = 8
)

// order puts nodes in the order in which they should be given: those that were heard lately before those that would have to
// be asked first, and among them drawn by chance, each with a weight for the room it has left and its distance. Everybody's
// advertisement is new from time to time, so that everybody's turn comes.
func (r *roles) order(list []*offerer) []*offerer {
	o := r.o
	now := o.now()
	slices.SortFunc(list, func(a, b *offerer) int { return cmp.Compare(a.advert.Node, b.advert.Node) })
	capacities := make([]float64, len(list))
	for i, e := range list {
		capacities[i] = float64(max(1, e.advert.Capacity))
	}
	slices.Sort(capacities)
	middle := capacities[len(capacities)/2]
	type drawn struct {
		e     *offerer
		x     float64
		alive bool
	}
	all := make([]drawn, len(list))
	for i, e := range list {
		room := min(float64(max(1, e.advert.Capacity)), capacityRange*middle) * float64(1000-min(e.advert.Load, 990))
		rtt := e.rtt
		if rtt <= 0 {
			rtt = o.host.Peerstore().LatencyEWMA(e.advert.Node)
		}
		if rtt <= 0 {
			rtt = unknownRTT
		}
		weight := room / float64(nearRTT+rtt)
		all[i] = drawn{e, o.random.exp() / weight, r.caches[e.advert.Role].alive(e, now)}
	}
	slices.SortStableFunc(all, func(a, b drawn) int {
		if a.alive != b.alive {
			if a.alive {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.x, b.x)
	})
	out := make([]*offerer, len(all))
	for i, d := range all {
		out[i] = d.e
	}
	return out
}

// networkOf tells which part of the Internet a node is in: /16 of IPv4, /32 of IPv6, "" if that cannot be told or says
// nothing (private and loopback addresses).
func networkOf(addrs []string) string {
	for _, s := range addrs {
		m, err := multiaddr.NewMultiaddr(s)
		if err != nil || !manet.IsPublicAddr(m) {
			continue
		}
		ip, err := manet.ToIP(m)
		if err != nil {
			continue
		}
		if v4 := ip.To4(); v4 != nil {
			return string(v4[:2])
		}
		return string(ip[:4])
	}
	return ""
}

// picker finds n living nodes for one Find.
type picker struct {
	c       *roleCache
	n       int
	ctx     context.Context // of the probes
	stop    context.CancelFunc
	tried   map[NodeID]bool
	running int
	answers chan probed
	probes  int
	got     []Advert
	lastErr error
}

type probed struct {
	n   NodeID
	a   *advert // what the node itself says, nil if it did not answer
	err error
}

func newPicker(c *roleCache, n int) *picker {
	p := &picker{c: c, n: n, tried: map[NodeID]bool{}, answers: make(chan probed, maxOwnProbes)}
	p.ctx, p.stop = context.WithTimeout(c.r.o.ctx, c.r.o.timing.RPC)
	return p
}

// pick gives up to n that are there: at once those heard lately, the others when they have answered. While one that was
// asked takes longer than Timing.Hedge, another is asked beside it. f is the search under way, nil if there is none: while
// it lasts, more may turn up.
func (p *picker) pick(ctx context.Context, f *fetch) ([]Advert, error) {
	o := p.c.r.o
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	slow := 0
	for {
		more := p.fill(slow)
		if len(p.got) >= p.n {
			return p.got, nil
		}
		var news, done chan struct{}
		if f != nil {
			p.c.mu.Lock()
			news = f.news
			p.c.mu.Unlock()
			done = f.done
			select {
			case <-f.done:
				news, done = nil, nil
			default:
			}
		}
		if p.running == 0 && !more && done == nil || len(p.got) > 0 && p.running-slow <= 0 && !more {
			if len(p.got) > 0 {
				return p.got, nil
			}
			return nil, p.none()
		}
		timer.Reset(o.timing.Hedge)
		select {
		case r := <-p.answers:
			p.running--
			slow = min(slow, p.running)
			p.take(r)
		case <-timer.C:
			slow = p.running
		case <-news:
		case <-done:
		case <-ctx.Done():
			return p.got, ctx.Err()
		}
	}
}

func (p *picker) none() error {
	if p.lastErr != nil {
		return fmt.Errorf("%w: none of %d nodes with the role %s answered (%v)", ErrUnreachable, p.probes, p.c.role, p.lastErr)
	}
	return fmt.Errorf("%w: %s", ErrNoRole, p.c.role.URI(p.c.r.o.doc.ID))
}

// fill takes nodes that are known to be there, and starts probes of others so that, slow ones not counted, as many are under
// way as are wanted. It says whether there are nodes left to try.
func (p *picker) fill(slow int) bool {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.usable(p.tried)
	if len(list) == 0 {
		return false
	}
	now := c.r.o.now()
	list = c.r.order(list)
	list = p.spread(list)
	for _, e := range list {
		if len(p.got)+p.running-slow >= p.n {
			return true
		}
		if c.alive(e, now) {
			p.tried[e.advert.Node] = true
			p.got = append(p.got, e.advert.Advert)
			continue
		}
		if p.probes >= maxOwnProbes {
			continue
		}
		p.tried[e.advert.Node] = true
		p.probes++
		p.running++
		a := e.advert
		if !c.r.o.start(func() {
			b, err := c.r.probe(p.ctx, a)
			p.answers <- probed{a.Node, b, err}
		}) {
			p.running--
			return false
		}
	}
	return false
}

// spread brings nodes of networks that have none yet to the front, where several are wanted.
func (p *picker) spread(list []*offerer) []*offerer {
	if p.n == 1 {
		return list
	}
	seen := map[string]bool{}
	for _, a := range p.got {
		seen[networkOf(a.Addrs)] = true
	}
	var first, rest []*offerer
	for _, e := range list {
		n := networkOf(e.advert.Addrs)
		if n != "" && seen[n] {
			rest = append(rest, e)
			continue
		}
		seen[n] = true
		first = append(first, e)
	}
	return append(first, rest...)
}

// take works a probe's answer in.
func (p *picker) take(r probed) {
	if r.err != nil {
		p.lastErr = r.err
		if p.ctx.Err() == nil {
			p.c.failed(r.n)
		}
		return
	}
	p.c.add(adverts{r.a})
	if r.a.withdrawn {
		return
	}
	p.got = append(p.got, r.a.Advert)
}

// probe asks a node that offers a role for its own word on it: that it is there, and how loaded it is now.
func (r *roles) probe(ctx context.Context, a *advert) (*advert, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	o := r.o
	ctx, cancel := context.WithTimeout(ctx, o.timing.RPC)
	defer cancel()
	r.probes.Add(1)
	if o.host.Network().Connectedness(a.Node) != network.Connected {
		var addrs []multiaddr.Multiaddr
		for _, s := range a.Addrs {
			if m, err := multiaddr.NewMultiaddr(s); err == nil {
				addrs = append(addrs, m)
			}
		}
		o.host.Peerstore().AddAddrs(a.Node, addrs, peerstore.TempAddrTTL)
		o.forgiveDial(a.Node)
	}
	k := roleKey{role: a.Role, node: a.Node}
	begin := time.Now()
	rec, _, err := o.messenger.GetValue(ctx, a.Node, k.key(o.doc.ID))
	if err != nil {
		return nil, err
	}
	rtt := time.Since(begin)
	s, err := r.read(k, rec.GetValue())
	if err != nil {
		return nil, fmt.Errorf("node %s answers, but does not offer the role %s: %w", a.Node, a.Role, err)
	}
	if l := o.host.Peerstore().LatencyEWMA(a.Node); l > 0 {
		rtt = min(rtt, l) // the first request had to wait for the connection
	}
	r.caches[a.Role].answered(a.Node, rtt)
	if s[0].Sequence < a.Sequence {
		return a, nil
	}
	return s[0], nil
}
