package overlay

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
)

// roleNamespace is the first component of the DHT keys under which roles are found.
const roleNamespace = "role"

// A well-known key would melt: everybody asks the same k nodes for it (draft §3.3.3). So a role has many keys, arranged in
// levels. Level 0 is the key of the well-known URI itself, which is all that somebody needs to know who knows only the
// draft. Level l has 2^l shards.
//
// How many levels are in use follows from the number of nodes, which everybody estimates from the neighbourhood in the key
// space: so many that few nodes ask each storing node. How many shards a node writes under follows from the number of those
// that offer the role: so many that each shard has enough of them to choose from. A node that offers a role has a place
// (pointOf) and writes under the shards whose number equals its place in the lowest bits, 2^r of them.
//
// Nobody has to agree on those figures. Who offers writes under two levels where its estimate lies between them; who looks
// tries the neighbouring levels where there is nothing, ends at level 0, and remembers what worked.
const (
	maxLevel = 12
	// findersPerStorer is how many nodes there are for each one that stores: how many ask it in each period of a cache.
	findersPerStorer = 8
	// shardSize is how many nodes offering the role a shard should have.
	shardSize = 8
	// maxSpread is the most shards of a level that a node writes under, as a power of two.
	maxSpread = 5
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

// key gives the DHT key: "/role/", the base-32 SHA-256 of the well-known URI, and for shards "/level/index".
func (k roleKey) key(id ID) string {
	s := "/" + roleNamespace + "/" + uriHash(k.role, id)
	switch {
	case k.node != "":
		return s + "/node/" + k.node.String()
	case k.level > 0:
		return s + "/" + strconv.Itoa(k.level) + "/" + strconv.Itoa(int(k.index))
	}
	return s
}

// RoleKey gives a DHT key of a role: level 0 is that of the well-known URI itself, level l has the shards 0 to 2^l−1.
func RoleKey(r Role, id ID, level int, shard uint32) string {
	return roleKey{role: r, level: level, index: shard}.key(id)
}

// parseRoleKey is the inverse of key; there is one spelling of each.
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
		case len(part) == 3 && part[1] == "node":
			n, err := peer.Decode(part[2])
			if err != nil {
				return roleKey{}, fmt.Errorf("%w: %w", errNoRoleKey, err)
			}
			k.node = n
		case len(part) == 3:
			level, err1 := strconv.ParseUint(part[1], 10, 8)
			index, err2 := strconv.ParseUint(part[2], 10, 32)
			if err1 != nil || err2 != nil || level < 1 || level > maxLevel || index >= 1<<level {
				return roleKey{}, errNoRoleKey
			}
			k.level, k.index = int(level), uint32(index)
		default:
			return roleKey{}, errNoRoleKey
		}
		if k.key(id) != key {
			return roleKey{}, errNoRoleKey
		}
		return k, nil
	}
	return roleKey{}, errNoRoleKey
}

// distance orders places by how far they begin like the shard's number, in the lowest bits first.
func (k roleKey) distance(point uint64) uint64 { return bits.Reverse64(point ^ uint64(k.index)) }

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

// levelFor gives the level at which an overlay of n nodes has enough storing nodes, as a number between two levels.
func levelFor(n float64, k int) float64 {
	return min(maxLevel, max(0, math.Log2(n/float64(findersPerStorer*k))))
}
