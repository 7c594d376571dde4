package overlay

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
)

// roleNamespace is the first component of the DHT keys under which roles are found.
const roleNamespace = "role"

// A well-known key would melt: everybody asks the same k nodes for it (draft §3.3.3). So a role has many keys, arranged in
// levels. Level 0 is the key of the well-known URI itself, which is all that somebody needs to know who knows only the
// draft. Level l has 2^l shards, and their keys are chosen so that they lie evenly over the key space: that of shard i
// begins with the l bits of i. A node looks under the shard of its own part of the key space, its home. The nodes that store
// under that key are its neighbours, or it is one of them and need not ask anybody.
//
// How many levels there are follows from the number of nodes: so many that each node stores for about one shard. A node that
// offers a role writes under so many shards, its best by score, that each has about shardSize to choose from. So the work
// that a role makes is that of bringing a few advertisements to each node's neighbourhood, it is spread evenly over all of
// them, and it does not depend on how often anybody looks.
//
// Nobody has to agree on those figures. An advertisement says under which level its node writes; others who offer keep to
// the level of the majority unless their own estimate is far off, and who looks learns it from what is found. Whoever knows
// nothing yet estimates, tries the levels beside it, and ends at the well-known key.
const (
	maxLevel = 12
	// shardSize is how many nodes offering the role a shard should have.
	shardSize = 6
	// maxSpread is the most shards that one node writes under.
	maxSpread = 32
)

// roleKey is one key of a role.
type roleKey struct {
	role  Role
	level int
	index uint32
	node  NodeID // set: the key of this node's own word, which the node itself answers for
}

var errNoRoleKey = errors.New("not the key of a role")

// uriHash gives the part of a key that stands for the role.
func uriHash(r Role, id ID) string {
	h := sha256.Sum256([]byte(r.URI(id)))
	return strings.ToLower(keyEncoding.EncodeToString(h[:]))
}

// key gives the DHT key: "/role/", the base-32 SHA-256 of the well-known URI, and for shards "/level/index/n" with the
// smallest n that puts the key into its place.
func (k roleKey) key(id ID) string {
	s := "/" + roleNamespace + "/" + uriHash(k.role, id)
	if k.node != "" {
		return s + "/node/" + k.node.String()
	}
	if k.level == 0 {
		return s
	}
	b := append([]byte(s), '/')
	b = strconv.AppendInt(b, int64(k.level), 10)
	b = append(b, '/')
	b = strconv.AppendUint(b, uint64(k.index), 10)
	b = append(b, '/')
	n := len(b)
	for i := 0; ; i++ {
		b = strconv.AppendInt(b[:n], int64(i), 10)
		if k.holds(sha256.Sum256(b)) {
			return string(b)
		}
	}
}

// holds says whether a place in the key space lies in the shard's part of it.
func (k roleKey) holds(place [32]byte) bool {
	return binary.BigEndian.Uint32(place[:4])>>(32-k.level) == k.index
}

// RoleKey gives a DHT key of a role: level 0 is that of the well-known URI itself, level l has the shards 0 to 2^l−1.
func RoleKey(r Role, id ID, level int, shard uint32) string {
	return roleKey{role: r, level: level, index: shard}.key(id)
}

// home gives the shard of a level in whose part of the key space a node is.
func home(r Role, level int, n NodeID) roleKey {
	k := roleKey{role: r, level: level}
	if level > 0 {
		place := sha256.Sum256([]byte(n))
		k.index = binary.BigEndian.Uint32(place[:4]) >> (32 - level)
	}
	return k
}

// maxAttempt bounds the n at the end of a shard's key; the chance that none below fits is below e^-16.
const maxAttempt = 16 << maxLevel

// parseRoleKey reads a DHT key. It does not insist on the smallest n of a shard, which would cost it thousands of hashes:
// what is stored under another one is found by nobody, and counts against the budget.
func parseRoleKey(key string, id ID) (roleKey, error) {
	rest, ok := strings.CutPrefix(key, "/"+roleNamespace+"/")
	if !ok || len(key) > 256 {
		return roleKey{}, errNoRoleKey
	}
	part := strings.Split(rest, "/")
	for _, r := range Roles() {
		if part[0] != uriHash(r, id) {
			continue
		}
		k := roleKey{role: r}
		switch {
		case len(part) == 1:
			return k, nil
		case len(part) == 3 && part[1] == "node":
			n, err := peer.Decode(part[2])
			if err != nil || n.String() != part[2] {
				return roleKey{}, errNoRoleKey
			}
			k.node = n
			return k, nil
		case len(part) == 4:
			var v [3]uint64
			for i, s := range part[1:] {
				var err error
				if v[i], err = strconv.ParseUint(s, 10, 32); err != nil || strconv.FormatUint(v[i], 10) != s {
					return roleKey{}, errNoRoleKey
				}
			}
			if v[0] < 1 || v[0] > maxLevel || v[1] >= 1<<v[0] || v[2] >= maxAttempt {
				return roleKey{}, errNoRoleKey
			}
			k.level, k.index = int(v[0]), uint32(v[1])
			if !k.holds(sha256.Sum256([]byte(key))) {
				return roleKey{}, errNoRoleKey
			}
			return k, nil
		}
	}
	return roleKey{}, errNoRoleKey
}

// score ranks a node under a key, the lowest first. It is a hash of the key and the node's place at present, so that every
// node has its own shards and nobody's choice of an identifier is good for long.
func (k roleKey) score(place uint64) float64 {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], place)
	binary.BigEndian.PutUint32(b[8:], uint32(k.level))
	binary.BigEndian.PutUint32(b[12:], k.index)
	h := sha256.Sum256(b[:])
	return float64(binary.BigEndian.Uint64(h[:8])>>11) / (1 << 53)
}

// shards gives the n best shards of a level for a node.
func shards(r Role, level int, place uint64, n int) []roleKey {
	type scored struct {
		k roleKey
		s float64
	}
	all := make([]scored, 1<<level)
	for i := range all {
		k := roleKey{role: r, level: level, index: uint32(i)}
		all[i] = scored{k, k.score(place)}
	}
	slices.SortFunc(all, func(a, b scored) int { return cmp.Compare(a.s, b.s) })
	out := make([]roleKey, min(n, len(all)))
	for i := range out {
		out[i] = all[i].k
	}
	return out
}

// network estimates how many nodes the overlay has, from how densely they lie around this one: the m nearest known lie
// within a part of the key space that is m/N of it.
func (o *Peer) network() float64 {
	self := string(o.host.ID())
	near := o.dht.RoutingTable().NearestPeers(kadID(self), o.doc.DHT.BucketSize)
	m := len(near)
	if m < o.doc.DHT.BucketSize {
		return float64(m + 1)
	}
	far := kadDistance(sha256.Sum256([]byte(self)), near[m-1])
	share := float64(binary.BigEndian.Uint64(far[:8])) / (1 << 64)
	if share <= 0 {
		return math.MaxInt32
	}
	return max(float64(m+1), float64(m-1)/share+1)
}

// levelFor gives the level at which each of n nodes stores for about one shard, as a number between two levels.
func levelFor(n float64, k int) float64 {
	return min(maxLevel, max(0, math.Log2(n/float64(k))))
}
