package overlay

import (
	"cmp"
	"encoding/asn1"
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
// withdrew, those who renewed in time before those who did not, and then by score. The score follows from the node's
// identifier, the key and the hour, so that neither the choice of an identifier nor writing often gains anything for long;
// and who writes under keys that are not among its best comes after those for whom they are.
func mergeAdverts(k roleKey, a, b adverts, now time.Time) adverts {
	byNode := map[NodeID]*advert{}
	for _, x := range slices.Concat(a, b) {
		if old, ok := byNode[x.Node]; !ok || x.Sequence > old.Sequence {
			byNode[x.Node] = x
		}
	}
	type ranked struct {
		*advert
		rank  int
		score float64
	}
	all := make([]ranked, 0, len(byNode))
	for _, x := range byNode {
		all = append(all, ranked{x, x.rank(now), k.score(x.place)})
	}
	slices.SortFunc(all, func(x, y ranked) int {
		return cmp.Or(cmp.Compare(x.rank, y.rank), cmp.Compare(x.score, y.score), strings.Compare(string(x.Node), string(y.Node)))
	})
	size := 8
	var out adverts
	for _, x := range all {
		if size += len(x.raw); len(out) >= MaxAdverts || size > MaxRecord {
			break
		}
		out = append(out, x.advert)
	}
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

// others counts those that have not been withdrawn and are not of the node itself.
func (s adverts) others(self NodeID) int {
	n := s.living()
	if a := s.find(self); a != nil && !a.withdrawn {
		n--
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

// advertisers estimates from the set under the well-known key how many nodes offer the role. It holds those with the lowest
// scores, and the scores of all are spread evenly from 0 to 1.
func (s adverts) advertisers(k roleKey) float64 {
	n, highest := s.living(), 0.0
	for _, a := range s {
		if !a.withdrawn {
			highest = max(highest, k.score(a.place))
		}
	}
	if n < 2 || highest == 0 {
		return float64(n)
	}
	return max(float64(n), float64(n-1)/highest)
}

// level gives the level under which most of the nodes in the set write, and whether any does.
func (s adverts) level(but NodeID) (int, bool) {
	var levels []int
	for _, a := range s {
		if !a.withdrawn && a.Node != but {
			levels = append(levels, a.level)
		}
	}
	if len(levels) == 0 {
		return 0, false
	}
	slices.Sort(levels)
	return levels[len(levels)/2], true
}
