package overlay

import (
	"context"
	"slices"
	"strconv"
	"sync"

	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
)

const (
	// fillTo is how many nodes of a far bucket are looked for. Those that found us in the same way come on top, about as
	// many. A bucket has room for both, so that most neighbours know each other and neither side drops the connection.
	fillTo = 6
	// thinBelow is how few of them make a bucket thin. In between nothing is done: a node that has too many connections drops
	// some, and if all who lose one looked for another at once, they would go round in circles.
	thinBelow = 3
	// fillExtra is how many more questions than needed filling a bucket may take.
	fillExtra = 3
	// fewNews is how many unknown neighbours a look may bring before the whole neighbourhood is walked anew.
	fewNews = 3
)

// join gets to know the neighbourhood and somebody in every direction. It is called when the node has come among others.
func (u *upkeep) join(ctx context.Context) {
	u.walkHome(ctx)
	u.fill(ctx, fillTo)
}

// walkHome goes to the nodes nearest to this one, which thereby learn of it.
func (u *upkeep) walkHome(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, u.o.timing.Walk)
	defer cancel()
	self := u.o.host.ID()
	u.o.newWalk(string(self), func(ctx context.Context, p NodeID, _ int) ([]*peer.AddrInfo, error) {
		return u.o.messenger.GetClosestPeers(ctx, p, self)
	}).run(ctx)
	u.measureNear()
}

// measureNear finds out which buckets are far ones.
func (u *upkeep) measureNear() {
	k := u.o.doc.DHT.BucketSize
	nearest := u.rt.NearestPeers(u.self, k)
	if len(nearest) < k {
		u.near.Store(0)
		return
	}
	u.near.Store(int64(u.bucket(nearest[k-1])))
}

// fill looks for nodes in the far buckets that have fewer than so many, all such buckets at a time.
func (u *upkeep) fill(ctx context.Context, below int) {
	var wg sync.WaitGroup
	for b := range int(u.near.Load()) {
		if u.rt.NPeersForCpl(uint(b)) < below {
			wg.Go(func() { u.fillBucket(ctx, b, u.random.of("bucket "+strconv.Itoa(b))) })
		}
	}
	wg.Wait()
}

// fillBucket asks its way through one bucket. It goes to the node nearest to some place in it that it hears of and asks that
// node who is there: it knows, and names those whom nobody but their neighbours knows yet. One of them is asked about the
// next place. Whoever has answered is in the table. So the nodes found are spread over the bucket, which those that a walk
// to one place finds are not, and it is not always the same few old nodes that everybody finds.
func (u *upkeep) fillBucket(ctx context.Context, b int, random *dice) {
	need := fillTo - u.rt.NPeersForCpl(uint(b))
	var key string
	var to NodeID
	for i := range need + fillExtra {
		if ctx.Err() != nil || u.rt.NPeersForCpl(uint(b)) >= fillTo {
			return
		}
		if i%2 == 0 || to == "" {
			var ok bool
			if key, ok = u.place(b, random); !ok {
				return
			}
		}
		if to == "" {
			list := u.rt.NearestPeers(kadID(key), 1)
			if len(list) == 0 {
				return
			}
			to = list[0]
		}
		var unknown []NodeID
		for _, ai := range u.ask(ctx, to, key) {
			if u.bucket(ai.ID) == b && u.rt.Find(ai.ID) == "" && !u.isLost(ai.ID) && !u.o.suspects.has(ai.ID, u.o.now()) {
				unknown = append(unknown, ai.ID)
			}
		}
		switch {
		case len(unknown) == 0:
			to = ""
		case i%2 == 0:
			to = unknown[0]
		default:
			to = unknown[random.intN(len(unknown))]
		}
	}
}

// place gives a key whose place in the key space is in a bucket.
func (u *upkeep) place(bucket int, random *dice) (string, bool) {
	var b [32]byte
	for range 1 << min(bucket+5, 18) {
		random.read(b[:])
		if kb.CommonPrefixLen(u.self, kadID(string(b[:]))) == bucket {
			return string(b[:]), true
		}
	}
	return "", false
}

// isLost says whether a node has left the table lately. It may have dropped the connection because it has too many; somebody
// else will do as well.
func (u *upkeep) isLost(p NodeID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.ContainsFunc(u.lost, func(ai peer.AddrInfo) bool { return ai.ID == p })
}

// look asks one neighbour who is near, and gets to know those who are new.
func (u *upkeep) look(ctx context.Context) {
	nearest := u.rt.NearestPeers(u.self, u.o.doc.DHT.BucketSize)
	if len(nearest) == 0 {
		return
	}
	u.meet(ctx, u.ask(ctx, nearest[u.random.intN(len(nearest))], string(u.o.host.ID())))
	u.measureNear()
	u.fill(ctx, thinBelow)
}

// meet gets to know those of the nodes named who are neighbours. Where they are many, the network has just grown together
// again after it had fallen apart: then our own records, too, belong to other nodes than before.
func (u *upkeep) meet(ctx context.Context, named []*peer.AddrInfo) {
	news := u.nearer(named)
	if len(news) > fewNews {
		u.walkHome(ctx)
		if len(u.nearer(named)) < len(news) {
			u.o.regs.renew()
		}
		return
	}
	for _, p := range news {
		u.ask(ctx, p, string(u.o.host.ID()))
	}
}

// findLost tries one node from outside of the table: one that left it, one met in earlier runs, or one of the document. After
// the network has fallen apart, nothing else would bring the parts together again.
func (u *upkeep) findLost(ctx context.Context) {
	u.mu.Lock()
	lost := slices.Clone(u.lost)
	u.mu.Unlock()
	lists := [][]peer.AddrInfo{lost, lost, u.o.join.seeds, u.o.join.remembered()}
	list := slices.DeleteFunc(slices.Clone(lists[u.random.intN(len(lists))]), func(ai peer.AddrInfo) bool {
		return u.rt.Find(ai.ID) != "" || u.connected(ai.ID)
	})
	if len(list) == 0 {
		return
	}
	ai := list[u.random.intN(len(list))]
	u.o.host.Peerstore().AddAddrs(ai.ID, ai.Addrs, peerstore.TempAddrTTL)
	u.o.forgiveDial(ai.ID)
	u.meet(ctx, u.ask(ctx, ai.ID, string(u.o.host.ID())))
}
