package overlay

import (
	"cmp"
	"encoding/asn1"
	"math/bits"
	"slices"
	"strings"
	"time"
)

// adverts is a verified set: at most one advertisement for each node, in the order of node identifiers.
type adverts []*advert

// overdue: an advertisement with less than this left was not renewed when it should have been, and the node may be gone.
const overdue = AdvertLifetime * 4 / 10

// mergeAdverts brings two sets under one key together: for each node the advertisement with the higher sequence number. If
// there are more than MaxAdverts, or MaxRecord bytes, who stays is decided in this order: those who offer before those who
// withdrew, those who renewed in time before those who did not, and then those whose place is nearest to the shard's. A
// place follows from the node's identifier and the hour, so that neither the choice of an identifier nor writing often or
// under many keys gains anything for long.
func mergeAdverts(k roleKey, a, b adverts, now time.Time) adverts {
	byNode := map[NodeID]*advert{}
	for _, x := range slices.Concat(a, b) {
		if old, ok := byNode[x.Node]; !ok || x.Sequence > old.Sequence {
			byNode[x.Node] = x
		}
	}
	out := make(adverts, 0, len(byNode))
	for _, x := range byNode {
		out = append(out, x)
	}
	slices.SortFunc(out, func(x, y *advert) int {
		return cmp.Or(
			cmp.Compare(x.rank(now), y.rank(now)),
			cmp.Compare(k.distance(x.point), k.distance(y.point)),
			strings.Compare(string(x.Node), string(y.Node)))
	})
	size, keep := 8, 0
	for keep < len(out) && keep < MaxAdverts && size+len(out[keep].raw) <= MaxRecord {
		size += len(out[keep].raw)
		keep++
	}
	out = out[:keep]
	slices.SortFunc(out, func(x, y *advert) int { return strings.Compare(string(x.Node), string(y.Node)) })
	return out
}

// rank gives the class of an advertisement, the lowest first.
func (a *advert) rank(now time.Time) int {
	switch {
	case a.withdrawn:
		return 2
	case a.Expires.Sub(now) < overdue:
		return 1
	}
	return 0
}

// equal says whether both hold the same advertisements.
func (s adverts) equal(t adverts) bool {
	return slices.EqualFunc(s, t, func(x, y *advert) bool { return x.Node == y.Node && x.Sequence == y.Sequence })
}

// find gives a node's advertisement, nil if there is none.
func (s adverts) find(n NodeID) *advert {
	for _, a := range s {
		if a.Node == n {
			return a
		}
	}
	return nil
}

// living counts those that have not been withdrawn.
func (s adverts) living() int {
	n := 0
	for _, a := range s {
		if !a.withdrawn {
			n++
		}
	}
	return n
}

// encode gives the wire form.
func (s adverts) encode() ([]byte, error) {
	list := make([]asn1.RawValue, len(s))
	for i, a := range s {
		list[i] = asn1.RawValue{FullBytes: a.raw}
	}
	return asn1.Marshal(list)
}

// advertisers estimates from the set under one key how many nodes there are that offer the role. A node writes under the
// keys whose place begins like its own, as far as it sees fit; so those that begin like the key in b bits are all there, or
// the nearest of them, and stand for 2^b times as many.
func (s adverts) advertisers(k roleKey) float64 {
	const few = 4
	var count [maxLevel + 1]int
	for _, a := range s {
		if a.withdrawn {
			continue
		}
		for b := range 1 + min(k.level, bits.TrailingZeros64(a.point^uint64(k.index))) {
			count[b]++
		}
	}
	best := float64(count[0])
	for b := 1; b <= k.level && count[b] >= few; b++ {
		best = float64(int(count[b]) << b)
	}
	return best
}
