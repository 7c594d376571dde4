package overlay

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
)

// Survey is everything that is said about a role in the overlay, as far as it was found.
type Survey struct {
	Offered   []Advert // this node's own one too, in the order of node identifiers
	Withdrawn []Advert // those who have given the role up lately
	// Complete says that every key of the role was asked for, and enough nodes answered. Otherwise somebody may be missing.
	Complete bool
}

const (
	// surveyKeys is how many shards are asked for in one Survey, and surveyAtOnce at one time. An overlay with more shards is
	// surveyed part by part.
	surveyKeys   = 64
	surveyAtOnce = 8
	// surveyAnswers is how many nodes' words are waited for under each key.
	surveyAnswers = 3
	// maxSurveyed is how many nodes of the routing table are asked for their own word, where all fit into one key no more.
	maxSurveyed = 128
)

// SurveyRole asks for all advertisements of a role, under the well-known key and all shards that are in use. It is for whoever has
// to know all, as the registrar of the overlay's public names does; whoever needs one asks Find. turn counts the calls: where there
// are more shards than surveyKeys, each turn asks for others.
//
// It ends in ErrNoRole if nobody is found though the search was complete, in ErrUnreachable if too few nodes answered to tell.
func (o *Peer) SurveyRole(ctx context.Context, r Role, turn int) (Survey, error) {
	c := o.roles.caches[r]
	if c == nil {
		return Survey{}, fmt.Errorf("%w: the role %q is not known here", ErrNoRole, clip(string(r)))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*o.timing.Walk)
	defer cancel()
	all, complete := c.r.fetchSet(ctx, roleKey{role: r}, surveyAnswers, nil)
	for level := range maxLevel + 1 { // what this node stores for others costs nothing
		all = union(all, c.r.store.under(home(r, level, o.host.ID())))
	}
	if a := c.r.ownAdvert(r); a != nil {
		all = union(all, adverts{a})
	}
	level, ok := all.level("")
	if level <= 1 && all.living() >= MaxAdverts/2 {
		// The well-known key may be full (by octets, before MaxAdverts are there), and the overlay too small for shards: then those who are not named there are neighbours.
		all = union(all, c.askEverybody(ctx))
	}
	if ok {
		keys, whole := surveyed(r, all, level, turn)
		complete = complete && whole
		var mu sync.Mutex
		var wg sync.WaitGroup
		slots := make(chan struct{}, surveyAtOnce)
		for _, k := range keys {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				s, ok := c.r.fetchSet(ctx, k, surveyAnswers, nil)
				mu.Lock()
				defer mu.Unlock()
				all, complete = union(all, s), complete && ok
			})
		}
		wg.Wait()
	}
	if err := ctx.Err(); err != nil && len(all) == 0 {
		return Survey{}, fmt.Errorf("surveying the role %s: %w", r, err)
	}
	c.add(all)
	out := Survey{Complete: complete && ctx.Err() == nil}
	now := o.now()
	for _, a := range all {
		switch {
		case !now.Before(a.Expires):
		case a.withdrawn:
			out.Withdrawn = append(out.Withdrawn, a.Advert)
		default:
			out.Offered = append(out.Offered, a.Advert)
		}
	}
	for _, l := range [][]Advert{out.Offered, out.Withdrawn} {
		slices.SortFunc(l, func(x, y Advert) int { return cmp.Compare(x.Node, y.Node) })
	}
	if len(out.Offered) == 0 && len(out.Withdrawn) == 0 {
		return out, c.nobody(complete)
	}
	return out, nil
}

// surveyed gives the shards to be asked for in a turn: those of the level that most use, then those of the levels that others were
// seen to use, and of its neighbours, because who advertises judges by itself how many shards there should be. whole says that none
// of a level in use is left out.
func surveyed(r Role, all adverts, level, turn int) (keys []roleKey, whole bool) {
	levels := []int{level}
	for _, a := range all {
		if !slices.Contains(levels, a.level) {
			levels = append(levels, a.level)
		}
	}
	used := len(levels)
	for _, l := range []int{level + 1, level - 1} {
		if !slices.Contains(levels, l) {
			levels = append(levels, l)
		}
	}
	whole = true
	for i, l := range levels {
		if l < 1 || l > maxLevel {
			continue
		}
		shards := 1 << l
		n := min(shards, surveyKeys-len(keys))
		if n < shards && i < used {
			whole = false
		}
		for k := range n {
			keys = append(keys, roleKey{role: r, level: l, index: uint32((turn*n + k) % shards)})
		}
	}
	return keys, whole
}

// ownAdvert gives what this node itself says about a role, nil if it does not offer it.
func (r *roles) ownAdvert(role Role) *advert {
	r.mu.Lock()
	f := r.offerings[role]
	r.mu.Unlock()
	if f == nil {
		return nil
	}
	b := r.store.data(roleKey{role: role, node: r.o.host.ID()}.key(r.o.doc.ID))
	if b == nil {
		return nil
	}
	s, err := r.read(roleKey{role: role, node: r.o.host.ID()}, b)
	if err != nil || len(s) == 0 {
		return nil
	}
	return s[0]
}

// askEverybody asks the nodes of the routing table, and those that are connected, for their own word on the role.
func (c *roleCache) askEverybody(ctx context.Context) (all adverts) {
	o := c.r.o
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, surveyAtOnce)
	list := o.dht.RoutingTable().ListPeers()
	for _, p := range o.host.Network().Peers() {
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	for _, p := range list[:min(len(list), maxSurveyed)] {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, o.timing.RPC)
			defer cancel()
			k := roleKey{role: c.role, node: p}
			rec, _, err := o.messenger.GetValue(ctx, p, k.key(o.doc.ID))
			if err != nil || rec.GetValue() == nil {
				return
			}
			if s, err := c.r.read(k, rec.GetValue()); err == nil {
				mu.Lock()
				defer mu.Unlock()
				all = union(all, s)
			}
		})
	}
	wg.Wait()
	return all
}

// AskRole asks a node itself for its signed word on a role. ErrNoRole if it does not offer it.
func (o *Peer) AskRole(ctx context.Context, r Role, n NodeID) (Advert, error) {
	if o.roles.caches[r] == nil {
		return Advert{}, fmt.Errorf("%w: the role %q is not known here", ErrNoRole, clip(string(r)))
	}
	if n == o.host.ID() {
		if a := o.roles.ownAdvert(r); a != nil && !a.withdrawn {
			return a.Advert, nil
		}
		return Advert{}, fmt.Errorf("%w: this node does not", ErrNoRole)
	}
	ctx, cancel := context.WithTimeout(ctx, o.timing.Walk)
	defer cancel()
	if err := o.connect(ctx, n, nil); err != nil {
		return Advert{}, fmt.Errorf("%w: node %s: %w", ErrUnreachable, n, err)
	}
	k := roleKey{role: r, node: n}
	rec, _, err := o.messenger.GetValue(ctx, n, k.key(o.doc.ID))
	if err != nil {
		return Advert{}, fmt.Errorf("%w: node %s: %w", ErrUnreachable, n, err)
	}
	s, err := o.roles.read(k, rec.GetValue())
	switch {
	case err != nil:
		return Advert{}, fmt.Errorf("node %s: %w", n, err)
	case len(s) == 0 || s[0].withdrawn:
		return Advert{}, fmt.Errorf("%w: node %s has given it up", ErrNoRole, n)
	}
	return s[0].Advert, nil
}
