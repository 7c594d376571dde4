package overlay

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// FindingWay is how roles are found. Everything but FindBoth is there to be measured beside it.
type FindingWay int32

// The ways.
const (
	FindBoth    FindingWay = iota // caches and shards: the way in use
	FindNaive                     // the well-known key alone, searched for anew each time
	FindCached                    // the well-known key alone, and a cache
	FindSharded                   // shards, searched for anew each time
)

func (w FindingWay) cached() bool  { return w == FindBoth || w == FindCached }
func (w FindingWay) sharded() bool { return w == FindBoth || w == FindSharded }

// roles is this node's dealing with roles: those it offers, and those it looks for in others.
type roles struct {
	o     *Peer
	v     *advertVerifier
	store *roleStore
	way   atomic.Int32
	slots chan struct{} // one for each probe under way

	offers  atomic.Uint64 // advertisements written to others
	finds   atomic.Uint64
	fetches atomic.Uint64 // searches under a role's keys
	probes  atomic.Uint64
	refused atomic.Uint64 // advertisements received that were not good

	mu        sync.Mutex
	offerings map[Role]*Offering // guarded by mu
	caches    map[Role]*roleCache
}

// maxProbes bounds the probes under way in one node.
const maxProbes = 32

func newRoles(o *Peer, v *advertVerifier) *roles {
	r := &roles{
		o: o, v: v, store: newRoleStore(v), slots: make(chan struct{}, maxProbes),
		offerings: map[Role]*Offering{}, caches: map[Role]*roleCache{},
	}
	for _, role := range Roles() {
		r.caches[role] = newRoleCache(r, role)
	}
	return r
}

// SetFinding changes the way roles are offered and found from now on, and forgets what was found so far. A node in service
// has no use for it; the simulation measures the ways beside each other.
func (o *Peer) SetFinding(w FindingWay) {
	r := o.roles
	r.way.Store(int32(w))
	for _, c := range r.caches {
		c.reset()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.offerings {
		f.forget()
	}
}

func (r *roles) finding() FindingWay { return FindingWay(r.way.Load()) }

// RoleStatus tells how finding of roles stands.
type RoleStatus struct {
	Offers  uint64       // advertisements written to other nodes
	Finds   uint64       // calls of Find
	Fetches uint64       // searches in the overlay that they and upkeep of the cache led to
	Probes  uint64       // nodes asked whether they are there
	Refused uint64       // values and advertisements received that were not good
	Read    uint64       // times that others read a role's key here, or tried to
	Written uint64       // times that others wrote there
	Known   map[Role]int // nodes in the cache that offer a role
	Keys    int          // of roles, stored for others
	Bytes   int          // under those
	Nodes   float64      // the estimated number of nodes in the overlay
}

// RoleStatus gives the state at present.
func (o *Peer) RoleStatus() RoleStatus {
	r := o.roles
	s := RoleStatus{
		Offers: r.offers.Load(), Finds: r.finds.Load(), Fetches: r.fetches.Load(), Probes: r.probes.Load(), Refused: r.refused.Load(),
		Read: r.store.read.Load(), Written: r.store.written.Load(),
		Known: map[Role]int{}, Nodes: o.network(),
	}
	s.Keys, s.Bytes = r.store.size()
	for role, c := range r.caches {
		s.Known[role] = c.size()
	}
	return s
}

// Failed tells that a node that Find gave did not do what it offers; it is not given again for a while, longer each time.
func (o *Peer) Failed(r Role, n NodeID) {
	if c := o.roles.caches[r]; c != nil {
		c.failed(n)
	}
}

// maxFind is how many nodes Find gives at most.
const maxFind = 16

// Find gives up to n living nodes other than this one that offer a role, best first: by the load they tell, their distance,
// and chance, so that the best is not trampled; from different networks if there are such. What it gives has answered within
// the last minutes. With a warm cache that takes no time, otherwise a search and a round trip.
//
// It ends in ErrNoRole if nobody offers the role, a role that this program does not know included; in ErrUnreachable if the
// overlay cannot be reached or nobody who offers it answered; or in the context's error.
func (o *Peer) Find(ctx context.Context, r Role, n int) ([]Advert, error) {
	c := o.roles.caches[r]
	if c == nil {
		return nil, fmt.Errorf("%w: the role %q is not known here", ErrNoRole, clip(string(r)))
	}
	o.roles.finds.Add(1)
	ctx, cancel := context.WithTimeout(ctx, o.timing.Walk)
	defer cancel()
	n = min(max(n, 1), maxFind)
	if !o.roles.finding().cached() {
		return c.findAnew(ctx, n)
	}
	return c.find(ctx, n)
}

// after gives the time that is d from now.
func (o *Peer) after(d time.Duration) time.Time { return o.now().Add(d) }
