package overlay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Publication tells how storing a record went.
type Publication struct {
	Stored int           // nodes that confirmed when the call returned, this one included
	Wanted int           // nodes the record is to be stored at
	Quorum int           // confirmations that were needed
	Asked  int           // nodes asked on the way
	Took   time.Duration // until the quorum

	tally *tally
}

// Cost gives what it has cost so far: storing at the nodes beyond the quorum goes on for a moment.
func (p Publication) Cost() Cost { return p.tally.cost() }

// putRecord stores a value at the k nodes nearest to its key and returns when a majority of them has confirmed. The rest
// goes on in the background, until Timing.RPC at most. A node that does not confirm is replaced by the next nearest.
func (o *Peer) putRecord(ctx context.Context, key string, value []byte) (Publication, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, o.timing.Walk)
	defer cancel()
	// What the others would refuse is refused here first, with the reason, which the DHT's protocol does not carry.
	if err := (userValidator{o.verifier}).Validate(key, value); err != nil {
		return Publication{}, err
	}
	k := o.doc.DHT.BucketSize
	t := new(tally)
	ctx = withTally(ctx, t)
	r := o.newWalk(key, func(ctx context.Context, p NodeID, _ int) ([]*peer.AddrInfo, error) {
		return o.messenger.GetClosestPeers(ctx, p, peer.ID(key))
	}).run(ctx)
	pub := Publication{Asked: r.Asked, tally: t}
	if len(r.Nearest) == 0 {
		return o.putAlone(key, value, pub, r, start)
	}
	nodes := r.Nearest
	self := o.nearerThan(nodes, k, key)
	if self {
		nodes = nodes[:min(len(nodes), k-1)]
	}
	pub.Wanted = len(nodes)
	if self {
		pub.Wanted++
	}
	pub.Quorum = pub.Wanted/2 + 1

	confirmed := make(chan error, pub.Wanted)
	if self {
		confirmed <- o.store.putLocal(key, value)
	}
	spare := make(chan NodeID, k)
	for _, p := range r.Nearest[len(nodes):] {
		spare <- p
	}
	close(spare)
	for _, p := range nodes {
		if !o.start(func() { confirmed <- o.putAt(t, p, spare, key, value) }) {
			return pub, ErrClosed
		}
	}
	var firstErr error
	for done := 0; done < pub.Wanted; done++ {
		select {
		case err := <-confirmed:
			if err == nil {
				pub.Stored++
			} else if firstErr == nil {
				firstErr = err
			}
		case <-ctx.Done():
			return pub, fmt.Errorf("%w: %d of %d needed when time ran out", ErrNoQuorum, pub.Stored, pub.Quorum)
		}
		if pub.Stored >= pub.Quorum {
			pub.Took = time.Since(start)
			return pub, nil
		}
	}
	return pub, fmt.Errorf("%w: %d of %d needed; nodes that answer but do not store point to a wrong clock here or to a newer record under the same key (%v)", ErrNoQuorum, pub.Stored, pub.Quorum, firstErr)
}

// putAlone handles a walk that met nobody: fine for the first node of an overlay, trouble for any other.
func (o *Peer) putAlone(key string, value []byte, pub Publication, r walkResult, start time.Time) (Publication, error) {
	if r.Asked == 0 && o.alone() {
		if err := o.store.putLocal(key, value); err != nil {
			return pub, err
		}
		pub.Stored, pub.Wanted, pub.Quorum, pub.Took = 1, 1, 1, time.Since(start)
		return pub, nil
	}
	if r.Asked == 0 {
		return pub, fmt.Errorf("%w: %s", ErrUnreachable, o.joinTrouble())
	}
	return pub, fmt.Errorf("%w: none of %s asked answered (%v)", ErrUnreachable, nodes(r.Asked), r.Err)
}

// putAt stores at one node, or at the next spare one where that fails.
func (o *Peer) putAt(t *tally, p NodeID, spare <-chan NodeID, key string, value []byte) error {
	var firstErr error
	for {
		ctx, cancel := context.WithTimeout(withTally(o.ctx, t), o.timing.RPC)
		err := o.messenger.PutValue(ctx, p, record.MakePutRecord(key, value))
		if errors.Is(err, network.ErrReset) && o.holds(ctx, p, key, value) {
			err = nil
		}
		cancel()
		if err == nil {
			return nil
		}
		if firstErr == nil {
			firstErr = err
		}
		next, ok := <-spare
		if !ok || o.ctx.Err() != nil {
			return firstErr
		}
		p = next
	}
}

// holds says whether a node that has refused a value stores what it says all the same, or something newer. It does where another node
// was faster to hand the same record over (handover.go); the refusal itself carries no reason.
func (o *Peer) holds(ctx context.Context, p NodeID, key string, value []byte) bool {
	ours, err := o.verifier.record(value, true)
	if err != nil {
		return false
	}
	rec, _, err := o.messenger.GetValue(ctx, p, key)
	if err != nil || rec == nil {
		return false
	}
	theirs, err := o.verifier.record(rec.GetValue(), true)
	return err == nil && theirs[0].aor == ours[0].aor && !ours.adds(theirs)
}

// nearerThan says whether this node itself is among the k nearest to key.
func (o *Peer) nearerThan(nodes []NodeID, k int, key string) bool {
	if len(nodes) < k {
		return true
	}
	target := kadTarget(key)
	own := kadDistance(target, o.host.ID())
	last := kadDistance(target, nodes[len(nodes)-1])
	return slices.Compare(own[:], last[:]) < 0
}
