package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"p2psip/overlay"
	"p2psip/sim/result"
)

const (
	// hotPrepare is the time between a change of the way and the beginning of its measurement: advertisements are written
	// meanwhile.
	hotPrepare = 2 * time.Minute
	// hotWanted is how many nodes with the role a finder asks for: one to use, one in its place.
	hotWanted = 2
	// hotCapacity is what every advertiser says it can carry.
	hotCapacity = 100
)

// hotWays are measured one after the other in the same network; the last is the way in use.
var hotWays = []struct {
	name string
	way  overlay.FindingWay
}{
	{"naive", overlay.FindNaive},
	{"cached", overlay.FindCached},
	{"sharded", overlay.FindSharded},
	{"both", overlay.FindBoth},
}

// hotTime is how long the measurement of the hot key takes.
func (s *Scenario) hotTime() time.Duration {
	if s.Finders == 0 {
		return 0
	}
	return time.Duration(len(hotWays)) * (hotPrepare + s.FindTime)
}

// advertises says whether a node offers the role: so many, spread evenly over the nodes.
func (s *Scenario) advertises(index int) bool {
	return s.Advertisers > 0 && (index+1)*s.Advertisers/s.Nodes != index*s.Advertisers/s.Nodes
}

// roles gives what the node's credential permits.
func (n *node) roles() []overlay.Role {
	if n.r.s.advertises(n.index) && n.hostile == "" {
		return []overlay.Role{overlay.RoleProxy}
	}
	return n.mayProxy()
}

// service is the URI that a node with the role says it is reached at.
func (n *node) service() string { return "sip:" + n.id.String() + ":5060" }

// offer has a node that may do so offer the role, for as long as it is up.
func (n *node) offer(p *overlay.Peer) {
	if !n.r.s.advertises(n.index) || n.hostile != "" {
		return
	}
	_, err := p.Offer(overlay.RoleProxy, func() overlay.Offer {
		return overlay.Offer{Services: []string{n.service()}, Capacity: hotCapacity}
	})
	if err != nil && !errors.Is(err, overlay.ErrClosed) {
		n.r.fail(fmt.Errorf("node %d: %w", n.index, err))
	}
}

// hotKey measures what it costs, and whom, that everybody looks for the same role.
func (r *run) hotKey() {
	if r.s.Finders == 0 {
		return
	}
	hot := &result.HotKey{Way: hotWays[len(hotWays)-1].name}
	for i, w := range hotWays {
		for _, n := range r.nodes {
			n.mu.Lock()
			if n.peer != nil {
				n.peer.SetFinding(w.way)
			}
			n.mu.Unlock()
		}
		if !r.sleep(hotPrepare) {
			return
		}
		way, ok := r.hotWay(w.name, uint64(i))
		if !ok {
			return
		}
		hot.Ways = append(hot.Ways, way)
		hot.MaxOverMedian = way.MaxOverMedian
	}
	r.out.HotKey = hot
}

// hotWay has all finders look for the role once, spread over the time, and gives what came of it.
func (r *run) hotWay(name string, number uint64) (result.HotWay, bool) {
	d := rand.New(rand.NewPCG(r.s.Seed, 0xf0<<32|number))
	at := make([]time.Duration, r.s.Finders)
	for i := range at {
		at[i] = time.Duration(d.Int64N(int64(r.s.FindTime)))
	}
	slices.Sort(at)
	before := r.countAll()
	begin := time.Now()
	var mu sync.Mutex
	var samples []result.Sample
	used := map[overlay.NodeID]int{}
	for _, t := range at {
		if !r.sleep(time.Until(begin.Add(t))) {
			return result.HotWay{}, false
		}
		n, p := r.anyNode(d)
		if p == nil {
			continue
		}
		r.start(func() {
			start := time.Now()
			ctx, cancel := context.WithTimeout(r.ctx, opTimeout)
			defer cancel()
			got, err := p.Find(ctx, overlay.RoleProxy, hotWanted)
			if r.ctx.Err() != nil || !n.has(p) {
				return
			}
			r.hostile.noteFound(got)
			mu.Lock()
			defer mu.Unlock()
			s := result.Sample{At: start.Sub(begin), Took: time.Since(start), OK: err == nil && r.serves(got)}
			samples = append(samples, s)
			if s.OK {
				used[got[0].Node]++
			}
		})
	}
	if !r.sleep(time.Until(begin.Add(r.s.FindTime))) {
		return result.HotWay{}, false
	}
	after := r.countAll()
	var served []float64
	var messages uint64
	for i := range after {
		served = append(served, float64(after[i].Served-before[i].Served))
		messages += after[i].Total().Messages - before[i].Total().Messages
	}
	mu.Lock()
	defer mu.Unlock()
	way := result.NewHotWay(name, samples, served, messages)
	var shares []float64
	for _, n := range r.nodes {
		if len(n.roles()) > 0 {
			shares = append(shares, float64(used[n.id]))
		}
	}
	way.Used = result.NewLoad(shares)
	return way, true
}

// serves says whether the first of those found is there and offers the role.
func (r *run) serves(got []overlay.Advert) bool {
	if len(got) == 0 {
		return false
	}
	for _, n := range r.nodes {
		if n.id == got[0].Node {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.peer != nil && len(n.roles()) > 0
		}
	}
	return false
}

// anyNode draws a node that is up and honest.
func (r *run) anyNode(d *rand.Rand) (*node, *overlay.Peer) {
	x := d.Float64()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.alive) == 0 {
		return nil, nil
	}
	n := r.alive[int(x*float64(len(r.alive)))]
	n.mu.Lock()
	defer n.mu.Unlock()
	return n, n.peer
}
