package overlay

import (
	"context"
	"slices"
	"sync"
	"time"

	record "github.com/libp2p/go-libp2p-record"
)

// Bounds on handing over.
const (
	maxNewcomers  = 64   // nodes to hand records to at a time
	maxHandedOver = 2000 // records handed to one node
	// handingOver is how many of the nodes that store a record give it to one that comes in: the nearest to it of those, so
	// that everybody knows who it is without asking, and another in case that one is mistaken or gone.
	handingOver = 2
	// handOverAfter is how long others may come in who are handed records at the same time.
	handOverAfter = 20 * time.Millisecond
)

// handOver gives nodes that have come in nearby the records which they are now among the k nearest for. Without that a
// record would be lost with the nodes that stored it in the half of its life until it is published again.
func (u *upkeep) handOver(ctx context.Context) {
	u.mu.Lock()
	none := len(u.newcomers) == 0
	u.mu.Unlock()
	// What a newcomer brings with the very message that shows it is stored first.
	if none || !sleep(ctx, handOverAfter) {
		return
	}
	u.mu.Lock()
	list := u.newcomers
	u.newcomers = nil
	u.mu.Unlock()
	slices.Sort(list)
	for _, p := range slices.Compact(list) {
		n := 0
		var wg sync.WaitGroup
		slots := make(chan struct{}, joinConcurrency)
		for _, key := range u.o.store.keys() {
			if ctx.Err() != nil || n >= maxHandedOver || u.rt.Find(p) == "" {
				break
			}
			if !u.givesTo(key, p) {
				continue
			}
			value := u.o.store.value(key)
			if value == nil {
				continue
			}
			n++
			slots <- struct{}{}
			wg.Go(func() {
				// An error says that it has a newer one, or that it has gone again.
				u.o.messenger.PutValue(ctx, p, record.MakePutRecord(key, value))
				<-slots
			})
		}
		wg.Wait()
	}
}

// givesTo says whether it is up to this node to hand a record to another.
func (u *upkeep) givesTo(key string, to NodeID) bool {
	nearest := u.rt.NearestPeers(kadID(key), u.o.doc.DHT.BucketSize)
	i := slices.Index(nearest, to)
	if i < 0 {
		return false
	}
	nearest = slices.Delete(nearest, i, i+1)
	return u.o.nearerThan(nearest[:min(len(nearest), handingOver)], handingOver, key)
}
