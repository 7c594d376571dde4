package overlay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// readvertise is the pause between two advertisements: soon enough that one of them may fail.
	readvertise = AdvertLifetime * 45 / 100
	// keepHolders is how long a node writes to the same nodes without looking whether others are nearer now.
	keepHolders = 20 * time.Minute
	// offerWriters is how many requests a node that offers a role has under way.
	offerWriters = 8
	// withdrawTime bounds how long Close takes to tell the others.
	withdrawTime = 3 * time.Second
)

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
	for ctx.Err() == nil {
		stored, err := f.advertise(ctx)
		wait := readvertise
		if err != nil {
			wait, retry = retry, min(2*retry, o.timing.RetryMax)
		} else {
			retry = o.timing.RetryMin
		}
		f.mu.Lock()
		f.lastErr = err
		if err == nil {
			f.lastGood, f.stored = o.now(), stored
		}
		f.mu.Unlock()
		if err != nil && ctx.Err() == nil {
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

// value signs what is offered now.
func (f *Offering) value(withdrawn bool) ([]byte, error) {
	o := f.r.o
	offer := f.describe()
	if err := checkOffer(f.role, offer); err != nil {
		return nil, err
	}
	f.sequence = max(f.sequence+1, uint64(o.now().UnixMilli()))
	issued := time.UnixMilli(int64(f.sequence))
	cred := o.cred.Load()
	expires := issued.Add(AdvertLifetime)
	if end := cred.Expires(); expires.After(end) {
		expires = end
	}
	a := Advert{Role: f.role, Node: o.host.ID(), Addrs: o.publicAddrs(), Offer: offer, Sequence: f.sequence, Issued: issued, Expires: expires}
	return signAdvert(o.key, cred, o.doc, a, withdrawn)
}

// advertise signs and writes once, and gives the number of nodes that confirmed.
func (f *Offering) advertise(ctx context.Context) (int, error) {
	o := f.r.o
	value, err := f.value(false)
	if err != nil {
		return 0, err
	}
	own, err := f.r.v.set(value, false)
	if err != nil {
		return 0, err
	}
	if err := f.r.store.put(roleKey{role: f.role, node: o.host.ID()}.key(o.doc.ID), own); err != nil {
		return 0, err
	}
	stored, failed, firstErr := 0, 0, error(nil)
	for _, k := range f.plan(own[0]) {
		n, err := f.write(ctx, k, own, value)
		stored += n
		if err != nil {
			failed++
			if firstErr == nil {
				firstErr = err
			}
		}
		if ctx.Err() != nil {
			return stored, ctx.Err()
		}
	}
	if stored == 0 && firstErr != nil {
		return 0, firstErr
	}
	return stored, nil
}

// plan gives the keys to write under.
func (f *Offering) plan(own *advert) []roleKey {
	keys := []roleKey{{role: f.role}}
	o := f.r.o
	if !f.r.finding().sharded() {
		return keys
	}
	f.mu.Lock()
	others := max(1, f.others)
	f.mu.Unlock()
	x := levelFor(o.network(), o.doc.DHT.BucketSize)
	class := max(0, int(math.Log2(others/shardSize)))
	levels := []int{int(math.Round(x - 0.3)), int(math.Round(x + 0.3))}
	for _, level := range slices.Compact(levels) {
		if level < 1 {
			continue
		}
		level = min(level, maxLevel)
		spread := max(0, min(level-class, maxSpread))
		base := uint32(own.point & (1<<(level-spread) - 1))
		for j := range uint32(1) << spread {
			keys = append(keys, roleKey{role: f.role, level: level, index: base | j<<(level-spread)})
		}
	}
	return keys
}

// write brings an advertisement to the nodes that store under a key, unless others come first there.
func (f *Offering) write(ctx context.Context, k roleKey, own adverts, value []byte) (int, error) {
	o := f.r.o
	key := k.key(o.doc.ID)
	f.mu.Lock()
	h, ok := f.holders[k]
	f.mu.Unlock()
	if !ok || o.now().After(h.until) {
		var sets adverts
		var mu sync.Mutex
		r := o.newWalk(key, func(ctx context.Context, p NodeID, _ int) ([]*peer.AddrInfo, error) {
			rec, closer, err := o.messenger.GetValue(ctx, p, key)
			if err != nil {
				return nil, err
			}
			if s, err := f.r.read(k, rec.GetValue()); err == nil {
				mu.Lock()
				sets = mergeAdverts(k, sets, s, o.now())
				mu.Unlock()
			}
			return closer, nil
		}).run(ctx)
		f.reckon(k, mergeAdverts(k, sets, own, o.now()))
		if len(r.Nearest) == 0 && !(r.Asked == 0 && o.alone()) {
			if r.Asked == 0 {
				return 0, fmt.Errorf("%w: %s", ErrUnreachable, o.joinTrouble())
			}
			return 0, fmt.Errorf("%w: none of %d nodes asked answered (%v)", ErrUnreachable, r.Asked, r.Err)
		}
		h = holding{nodes: r.Nearest, until: o.after(o.random.jitter(keepHolders))}
		f.mu.Lock()
		f.holders[k] = h
		f.mu.Unlock()
		if mergeAdverts(k, sets, own, o.now()).find(o.host.ID()) == nil {
			return 0, nil // full, and others come first; their turn ends
		}
	}
	stored := 0
	if o.nearerThan(h.nodes, o.doc.DHT.BucketSize, key) && f.r.store.put(key, own) == nil {
		stored++
	}
	done := make(chan error, len(h.nodes))
	slots := make(chan struct{}, offerWriters)
	started := 0
	for _, p := range h.nodes {
		slots <- struct{}{}
		if !o.start(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, o.timing.RPC)
			defer cancel()
			f.r.offers.Add(1)
			done <- o.messenger.PutValue(ctx, p, record.MakePutRecord(key, value))
		}) {
			break
		}
		started++
	}
	for range started {
		if <-done == nil {
			stored++
		}
	}
	if 2*stored < len(h.nodes) {
		f.mu.Lock()
		delete(f.holders, k) // they are gone, or would rather keep others
		f.mu.Unlock()
	}
	return stored, nil
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

// reckon estimates how many nodes offer the role.
func (f *Offering) reckon(k roleKey, s adverts) {
	n := s.advertisers(k)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.others == 0 {
		f.others = n
		return
	}
	f.others = math.Exp(0.7*math.Log(f.others) + 0.3*math.Log(n))
}

// withdraw writes a tombstone wherever the advertisement was written.
func (f *Offering) withdraw(ctx context.Context) error {
	value, err := f.value(true)
	if err != nil {
		return err
	}
	own, err := f.r.v.set(value, false)
	if err != nil {
		return err
	}
	o := f.r.o
	f.mu.Lock()
	keys := make([]roleKey, 0, len(f.holders))
	for k := range f.holders {
		keys = append(keys, k)
	}
	f.mu.Unlock()
	f.r.store.put(roleKey{role: f.role, node: o.host.ID()}.key(o.doc.ID), own)
	var errs []error
	for _, k := range keys {
		if _, err := f.write(ctx, k, own, value); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
