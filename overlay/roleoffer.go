package overlay

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// readvertise is the pause between two advertisements: soon enough that two of them may fail, and less than aliveFor, so
	// that nobody has to ask a node that is there whether it is. With 45 % of the lifetime those questions made early
	// advertisers the busiest nodes (BENCHMARKS.md, the hot key).
	readvertise = AdvertLifetime * 30 / 100
	// keepHolders is how long a node writes to the same nodes without looking whether others are nearer now.
	keepHolders = 20 * time.Minute
	// offerKeys is how many keys a node that offers a role writes under at a time, offerWriters to how many nodes for each.
	offerKeys    = 4
	offerWriters = 5
	// rootSize is how many nodes write under the well-known key where there are shards.
	rootSize = 6
	// minStorers is at how many nodes an advertisement is stored under each key, if there are as many.
	minStorers = 8
	// farOff is by how many levels a node's own estimate may differ from what the others do before it does otherwise.
	farOff = 0.9
	// withdrawTime bounds how long Close takes to tell the others.
	withdrawTime = 3 * time.Second
)

// settling are the pauses between the first advertisements, each of which looks anew for the nodes to write to: who has just
// come, perhaps among the first of an overlay, does not know yet who will be near the keys in a minute.
var settling = []time.Duration{5 * time.Second, 20 * time.Second, time.Minute}

// Offering keeps this node advertised in a role.
type Offering struct {
	r        *roles
	role     Role
	describe func() Offer
	wake     chan struct{} // capacity 1
	ctx      context.Context
	cancel   context.CancelFunc
	gone     chan struct{} // closed when the goroutine has ended
	once     sync.Once
	sequence uint64 // of the last advertisement; only the goroutine, and Close after it

	mu       sync.Mutex
	holders  map[roleKey]holding // guarded by mu: where it was last written
	others   float64             // guarded by mu: estimated number of nodes that offer the role
	level    int                 // guarded by mu
	lastErr  error               // guarded by mu
	lastGood time.Time           // guarded by mu
	stored   int                 // guarded by mu: nodes that confirmed the last time
}

// holding is the nodes that store under a key.
type holding struct {
	nodes []NodeID
	until time.Time // look anew after this
}

// Offer makes this node advertise a role until Close, which withdraws it. describe tells what is offered; it is called
// before each advertisement, from another goroutine, and must not block. ErrNotEntitled if the credential does not permit
// the role.
func (o *Peer) Offer(r Role, describe func() Offer) (*Offering, error) {
	if _, err := ParseRole(string(r)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotEntitled, err)
	}
	if !o.cred.Load().Permits(r) {
		return nil, fmt.Errorf("%w: this node's credential does not permit the role %s", ErrNotEntitled, r)
	}
	if err := checkOffer(r, describe()); err != nil {
		return nil, err
	}
	f := &Offering{
		r: o.roles, role: r, describe: describe,
		wake: make(chan struct{}, 1), gone: make(chan struct{}), holders: map[roleKey]holding{},
	}
	f.ctx, f.cancel = context.WithCancel(o.ctx)
	o.roles.mu.Lock()
	defer o.roles.mu.Unlock()
	if o.roles.offerings[r] != nil {
		f.cancel()
		return nil, fmt.Errorf("this node offers the role %s already", r)
	}
	if !o.start(f.keep) {
		f.cancel()
		return nil, ErrClosed
	}
	o.roles.offerings[r] = f
	return f, nil
}

// Update advertises anew soon, because what is offered has changed much; small changes of the load can wait for the next
// regular time.
func (f *Offering) Update() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// renew has everything that is offered advertised again.
func (r *roles) renew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.offerings {
		f.Update()
	}
}

// Close withdraws the offer: it tells the nodes that store the advertisement, in three seconds at most, and returns. If some
// could not be told, the advertisement is good there for AdvertLifetime at most.
func (f *Offering) Close() error {
	var err error
	f.once.Do(func() {
		f.cancel()
		<-f.gone
		f.r.mu.Lock()
		delete(f.r.offerings, f.role)
		f.r.mu.Unlock()
		if f.r.o.ctx.Err() != nil {
			err = fmt.Errorf("the role %s was not withdrawn: %w", f.role, ErrClosed)
			return
		}
		ctx, cancel := context.WithTimeout(f.r.o.ctx, withdrawTime)
		defer cancel()
		err = f.withdraw(ctx)
	})
	return err
}

// Advertised gives when the node was last advertised (zero: not yet), at how many places, and what went wrong the last time.
func (f *Offering) Advertised() (at time.Time, stored int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lastGood, f.stored, f.lastErr
}

// forget looks for the nodes that store anew, and advertises soon.
func (f *Offering) forget() {
	f.mu.Lock()
	f.holders = map[roleKey]holding{}
	f.mu.Unlock()
	f.Update()
}

// keep is the offering's goroutine.
func (f *Offering) keep() {
	defer close(f.gone)
	o, ctx := f.r.o, f.ctx
	defer f.cancel()
	retry := o.timing.RetryMin
	early := settling
	for ctx.Err() == nil {
		stored, err := f.advertise(ctx)
		wait := readvertise
		switch {
		case err != nil:
			wait, retry = retry, min(2*retry, o.timing.RetryMax)
		case len(early) > 0:
			wait, early = early[0], early[1:]
			f.lookAnew()
			fallthrough
		default:
			retry = o.timing.RetryMin
		}
		f.mu.Lock()
		f.lastErr = err
		if err == nil {
			f.lastGood, f.stored = o.now(), stored
		}
		f.mu.Unlock()
		if err != nil && ctx.Err() == nil && o.Status().Joined { // who has not joined has that told elsewhere
			o.log.Warn("the role could not be advertised; it will be tried again", "role", f.role, "error", err)
		}
		t := time.NewTimer(o.random.jitter(wait))
		select {
		case <-t.C:
		case <-f.wake:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// lookAnew has the next advertisement search for the nodes to write to. Those written to so far stay known until then, for a
// withdrawal.
func (f *Offering) lookAnew() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, h := range f.holders {
		h.until = time.Time{}
		f.holders[k] = h
	}
}

// value signs what is offered now.
func (f *Offering) value(level int, withdrawn bool) ([]byte, adverts, error) {
	o := f.r.o
	offer := f.describe()
	if err := checkOffer(f.role, offer); err != nil {
		return nil, nil, err
	}
	f.sequence = max(f.sequence+1, uint64(o.now().UnixMilli()))
	issued := time.UnixMilli(int64(f.sequence))
	cred := o.cred.Load()
	expires := issued.Add(AdvertLifetime)
	if end := cred.Expires(); expires.After(end) {
		expires = end
	}
	a := Advert{Role: f.role, Node: o.host.ID(), Addrs: o.publicAddrs(), Offer: offer, Sequence: f.sequence, Issued: issued, Expires: expires}
	value, err := signAdvert(o.key, cred, o.doc, a, level, withdrawn)
	if err != nil {
		return nil, nil, err
	}
	own, err := f.r.v.set(value, false)
	if err != nil {
		return nil, nil, err // what others would refuse is refused here first
	}
	err = f.r.store.put(f.ownKey(), own)
	return value, own, err
}

// ownKey is where the node itself answers for what it offers.
func (f *Offering) ownKey() string {
	return roleKey{role: f.role, node: f.r.o.host.ID()}.key(f.r.o.doc.ID)
}

// advertise signs and writes once, and gives the number of places where it was stored.
func (f *Offering) advertise(ctx context.Context) (int, error) {
	root := roleKey{role: f.role}
	seen, err := f.look(ctx, root)
	if err != nil {
		return 0, err
	}
	keys, level := f.plan(seen)
	value, own, err := f.value(level, false)
	if err != nil {
		return 0, err
	}
	if f.amongBest(root, seen, own[0]) {
		keys = append(keys, root)
	}
	return f.writeAll(ctx, keys, own, value)
}

// plan gives the shards to write under, and their level: the one the others write under, or that which suits the size of
// the overlay and the number of those who offer, if it is clearly another.
func (f *Offering) plan(seen adverts) ([]roleKey, int) {
	o := f.r.o
	if !f.r.finding().sharded() {
		return nil, 0
	}
	self := o.host.ID()
	root := roleKey{role: f.role}
	n := max(1, seen.advertisers(root))
	f.mu.Lock()
	if f.others > 0 {
		n = math.Sqrt(n * f.others) // one reading is rough
	}
	f.others = n
	f.mu.Unlock()
	want := min(levelFor(o.network(), o.doc.DHT.BucketSize), math.Log2(max(1, n*maxSpread/shardSize)))
	level := int(math.Round(want))
	if others, ok := seen.level(self); ok && math.Abs(float64(others)-want) < farOff {
		level = others
	}
	f.mu.Lock()
	f.level = level
	f.mu.Unlock()
	if level == 0 {
		return nil, 0
	}
	spread := int(math.Ceil(float64(int(shardSize)<<level) / n))
	return shards(f.role, level, placeOf(f.role.URI(o.doc.ID), self, o.now()), min(spread, maxSpread)), level
}

// amongBest says whether the node should write under the well-known key: those with the best scores do, as many as are
// enough to choose from, so that it has little to carry.
func (f *Offering) amongBest(k roleKey, seen adverts, own *advert) bool {
	before := 0
	for _, a := range seen {
		if a.Node != own.Node && a.rank(f.r.o.now()) == 0 && k.score(a.place) < k.score(own.place) {
			before++
		}
	}
	return before < rootSize || !f.r.finding().sharded() && before < MaxAdverts
}

// look gives what is stored under a key, from two of the nodes that store there.
func (f *Offering) look(ctx context.Context, k roleKey) (adverts, error) {
	o := f.r.o
	key := k.key(o.doc.ID)
	var mu sync.Mutex
	var seen adverts
	ask := func(ctx context.Context, p NodeID) ([]*peer.AddrInfo, error) {
		rec, closer, err := o.messenger.GetValue(ctx, p, key)
		if err != nil {
			return nil, err
		}
		if s, err := f.r.read(k, rec.GetValue()); err == nil {
			mu.Lock()
			seen = mergeAdverts(k, seen, s, o.now())
			mu.Unlock()
		}
		return closer, nil
	}
	if h, ok := f.holding(k); ok {
		heard := 0
		for _, i := range o.random.perm(len(h.nodes)) {
			if heard == wantAnswers || seen.living() >= rootSize || ctx.Err() != nil {
				break
			}
			ctx, cancel := context.WithTimeout(ctx, o.timing.RPC)
			if _, err := ask(ctx, h.nodes[i]); err == nil {
				heard++
			}
			cancel()
		}
		if len(seen) > 0 {
			return seen, nil
		}
	}
	if s := f.r.store.under(k); s != nil {
		seen = s
	}
	err := f.search(ctx, k, func(ctx context.Context, p NodeID, _ int) ([]*peer.AddrInfo, error) { return ask(ctx, p) })
	return seen, err
}

// search finds the nodes that store under a key, and remembers them.
func (f *Offering) search(ctx context.Context, k roleKey, ask askFunc) error {
	o := f.r.o
	ctx, cancel := context.WithTimeout(ctx, o.timing.Walk)
	defer cancel()
	r := o.newWalk(k.key(o.doc.ID), ask).run(ctx)
	if len(r.Nearest) == 0 && !(r.Asked == 0 && o.alone()) {
		if r.Asked == 0 {
			return fmt.Errorf("%w: %s", ErrUnreachable, o.joinTrouble())
		}
		return fmt.Errorf("%w: none of %d nodes asked answered (%v)", ErrUnreachable, r.Asked, r.Err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.holders) > 4*maxSpread {
		clear(f.holders)
	}
	f.holders[k] = holding{nodes: k.storers(r.Nearest), until: o.after(o.random.jitter(keepHolders))}
	return nil
}

func (f *Offering) holding(k roleKey) (holding, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, ok := f.holders[k]
	return h, ok && f.r.o.now().Before(h.until)
}

// writeAll writes under several keys, a few at a time, and gives the number of places that confirmed. It fails if there was
// none.
func (f *Offering) writeAll(ctx context.Context, keys []roleKey, own adverts, value []byte) (int, error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	stored, firstErr := 0, error(nil)
	slots := make(chan struct{}, offerKeys)
	for _, k := range keys {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			n, err := f.write(ctx, k, own, value)
			mu.Lock()
			defer mu.Unlock()
			stored += n
			if firstErr == nil {
				firstErr = err
			}
		})
	}
	wg.Wait()
	if stored > 0 || len(keys) == 0 {
		return stored, ctx.Err()
	}
	if firstErr == nil {
		firstErr = fmt.Errorf("%w: no node would store it", ErrNoQuorum)
	}
	return 0, firstErr
}

// write brings an advertisement to the nodes that store under a key.
func (f *Offering) write(ctx context.Context, k roleKey, own adverts, value []byte) (int, error) {
	o := f.r.o
	key := k.key(o.doc.ID)
	h, ok := f.holding(k)
	if !ok {
		err := f.search(ctx, k, func(ctx context.Context, p NodeID, _ int) ([]*peer.AddrInfo, error) {
			return o.messenger.GetClosestPeers(ctx, p, peer.ID(key))
		})
		if err != nil {
			return 0, err
		}
		h, _ = f.holding(k)
	}
	var stored atomic.Int64
	if k.mine(o, h.nodes) && f.r.store.put(key, own) == nil {
		stored.Add(1)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, offerWriters)
	for _, p := range h.nodes {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, o.timing.RPC)
			defer cancel()
			f.r.offers.Add(1)
			if o.messenger.PutValue(ctx, p, record.MakePutRecord(key, value)) == nil {
				stored.Add(1)
			}
		})
	}
	wg.Wait()
	if n := int(stored.Load()); 2*n < len(h.nodes) {
		f.mu.Lock()
		delete(f.holders, k) // they are gone, or would rather keep others
		f.mu.Unlock()
		return n, nil
	}
	return int(stored.Load()), nil
}

// storers gives those of the nodes nearest to a key that are to store under it. For a shard that is those of its part of the
// key space, so that each node stores for one shard; if there are few of them, others beside.
func (k roleKey) storers(nearest []NodeID) []NodeID {
	if k.level == 0 {
		return nearest
	}
	var out []NodeID
	for _, n := range nearest {
		if len(out) < minStorers || k.holds(sha256.Sum256([]byte(n))) {
			out = append(out, n)
		}
	}
	return out
}

// mine says whether this node itself is among those that store under a key, the others being given.
func (k roleKey) mine(o *Peer, nodes []NodeID) bool {
	return o.nearerThan(nodes, o.doc.DHT.BucketSize, k.key(o.doc.ID)) &&
		(k.level == 0 || len(nodes) < minStorers || k.holds(sha256.Sum256([]byte(o.host.ID()))))
}

// read verifies what was received under a key.
func (r *roles) read(k roleKey, value []byte) (adverts, error) {
	if value == nil {
		return nil, ErrNoRole
	}
	s, err := r.v.set(value, true)
	if err == nil {
		err = k.check(s)
	}
	if err != nil {
		r.refused.Add(1)
		return nil, err
	}
	return s, nil
}

// withdraw writes a tombstone wherever the advertisement was written.
func (f *Offering) withdraw(ctx context.Context) error {
	f.mu.Lock()
	level := f.level
	keys := make([]roleKey, 0, len(f.holders))
	for k := range f.holders {
		keys = append(keys, k)
	}
	f.mu.Unlock()
	value, own, err := f.value(level, true)
	if err != nil {
		return err
	}
	_, err = f.writeAll(ctx, keys, own, value)
	return err
}
