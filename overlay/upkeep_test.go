package overlay_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"p2psip/overlay"
	"p2psip/sim/network"
)

// town is an overlay over a calculated network, in virtual time.
type town struct {
	t     *testing.T
	net   *network.Network
	auth  *overlay.Authority
	hosts []*network.Host
	peers []*overlay.Peer
}

const townK = 8

func newTown(t *testing.T, n int) *town {
	overlay.SilenceLibraries()
	auth, err := overlay.NewAuthority(overlay.DocumentOptions{
		ID: "town.example", DHT: overlay.DHTParams{BucketSize: townK},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	v := &town{t: t, auth: auth}
	if v.net, err = network.New(network.Config{Seed: 1, Latency: network.HeavyTailed(1, 80*time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		v.add(v.key(i))
		time.Sleep(200 * time.Millisecond)
	}
	time.Sleep(30 * time.Second)
	return v
}

func (v *town) key(i int) crypto.PrivKey {
	h := sha256.Sum256(fmt.Appendf(nil, "house %d", i))
	k, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(h[:]))
	if err != nil {
		v.t.Fatal(err)
	}
	return k
}

func (v *town) aor(i int) overlay.AOR {
	a, err := v.auth.Document().ID.AOR(fmt.Sprintf("user%d", i))
	if err != nil {
		v.t.Fatal(err)
	}
	return a
}

// add starts a node, which bootstraps from the first ones and speaks for the user of its number.
func (v *town) add(key crypto.PrivKey) *overlay.Peer {
	id, err := overlay.NodeOfKey(key)
	if err != nil {
		v.t.Fatal(err)
	}
	i := len(v.peers)
	var roles []overlay.Role
	if i == 0 {
		roles = []overlay.Role{overlay.RoleProxy}
	}
	cred, err := v.auth.Issue(id, []overlay.AOR{v.aor(i)}, roles, 100*time.Hour, time.Now())
	if err != nil {
		v.t.Fatal(err)
	}
	h, err := v.net.AddHost(key, network.NoNAT)
	if err != nil {
		v.t.Fatal(err)
	}
	var boot []peer.AddrInfo
	for _, b := range v.hosts[:min(3, len(v.hosts))] {
		boot = append(boot, peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()})
	}
	p, err := overlay.Start(overlay.Config{
		Key: key, Document: v.auth.Document(), Credential: cred, Host: h, Bootstrap: boot, Random: rand.NewPCG(1, uint64(i)),
	})
	if err != nil {
		v.t.Fatal(err)
	}
	v.hosts, v.peers = append(v.hosts, h), append(v.peers, p)
	return p
}

func (v *town) register(i int) {
	if err := v.peers[i].Registrations().Set(context.Background(), v.aor(i), []overlay.Device{{ID: "phone"}}); err != nil {
		v.t.Fatal(err)
	}
}

func (v *town) close() {
	for i, h := range v.hosts {
		v.net.Silence(h)
		v.peers[i].Close()
	}
	v.net.Close()
}

// neighbours gives the share of the living nodes' k nearest that are in their tables.
func (v *town) neighbours(alive func(i int) bool) float64 {
	var ids []overlay.NodeID
	for i, p := range v.peers {
		if alive(i) {
			ids = append(ids, p.ID())
		}
	}
	right, all := 0, 0
	for i, p := range v.peers {
		if !alive(i) {
			continue
		}
		near := slices.DeleteFunc(slices.Clone(ids), func(id overlay.NodeID) bool { return id == p.ID() })
		slices.SortFunc(near, func(a, b overlay.NodeID) int {
			x, y := overlay.NodeDistance(p.ID(), a), overlay.NodeDistance(p.ID(), b)
			return bytes.Compare(x[:], y[:])
		})
		table := p.Table()
		for _, id := range near[:townK] {
			all++
			if slices.Contains(table, id) {
				right++
			}
		}
	}
	return float64(right) / float64(all)
}

func everybody(int) bool { return true }

// TestUpkeepIdle: a node that nobody uses sends next to nothing, makes no connections, and knows its neighbours.
func TestUpkeepIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newTown(t, 60)
		defer v.close()
		time.Sleep(10 * time.Minute)
		if share := v.neighbours(everybody); share < 0.99 {
			t.Errorf("of the nearest neighbours %.3f are known", share)
		}
		var before, after network.Traffic
		dials := 0
		for _, h := range v.hosts {
			before.Messages += h.Counts().Total().Messages
			dials -= int(h.Counts().Dials)
		}
		time.Sleep(time.Hour)
		for _, h := range v.hosts {
			after.Messages += h.Counts().Total().Messages
			dials += int(h.Counts().Dials)
		}
		if rate := float64(after.Messages-before.Messages) / 60 / 60; rate > 1 {
			t.Errorf("%.2f messages a minute and node", rate)
		}
		if dials > 60 {
			t.Errorf("60 nodes made %d connections in an hour", dials)
		}
	})
}

// TestUpkeepLosses: when half of the nodes fall silent, the others do not keep them, and know who is near now.
func TestUpkeepLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newTown(t, 60)
		defer v.close()
		dead := map[overlay.NodeID]bool{}
		for i := 10; i < 40; i++ {
			v.net.Silence(v.hosts[i])
			dead[v.peers[i].ID()] = true
		}
		time.Sleep(3 * time.Minute)
		kept := 0
		alive := func(i int) bool { return !dead[v.peers[i].ID()] }
		for i, p := range v.peers {
			if !alive(i) {
				continue
			}
			for _, id := range p.Table() {
				if dead[id] {
					kept++
				}
			}
		}
		if kept > 0 {
			t.Errorf("dead nodes are still in %d places of the tables", kept)
		}
		if share := v.neighbours(alive); share < 0.95 {
			t.Errorf("of the nearest neighbours %.3f are known", share)
		}
	})
}

// TestUpkeepNewcomer: a node that comes in nearest to a record's key gets the record from its neighbours, without waiting
// for its owner.
func TestUpkeepNewcomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newTown(t, 40)
		defer v.close()
		v.register(5)
		a := v.aor(5)
		nearest := func() [32]byte {
			best := overlay.KeyDistance(a, v.peers[0].ID())
			for _, p := range v.peers {
				if d := overlay.KeyDistance(a, p.ID()); bytes.Compare(d[:], best[:]) < 0 {
					best = d
				}
			}
			return best
		}()
		var key crypto.PrivKey
		for i := 1000; ; i++ {
			key = v.key(i)
			id, err := overlay.NodeOfKey(key)
			if err != nil {
				t.Fatal(err)
			}
			if d := overlay.KeyDistance(a, id); bytes.Compare(d[:], nearest[:]) < 0 {
				break
			}
		}
		p := v.add(key)
		time.Sleep(10 * time.Second)
		if p.Holds(a) != 1 {
			t.Error("the newcomer does not store the record it is the nearest to")
		}
	})
}

// TestUpkeepParts: the parts of a network that had fallen apart find each other again, and what was registered on one side
// meanwhile is found from the other.
func TestUpkeepParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newTown(t, 60)
		defer v.close()
		small := func(i int) bool { return i%3 == 2 && i > 2 }
		v.net.Partition(func(h *network.Host) int {
			if small(h.Index()) {
				return 1
			}
			return 0
		})
		time.Sleep(20 * time.Minute)
		if v.neighbours(everybody) > 0.9 {
			t.Fatal("the network has not fallen apart")
		}
		v.register(5)
		v.register(6)
		v.net.Heal()
		time.Sleep(12 * time.Minute)
		if share := v.neighbours(everybody); share < 0.95 {
			t.Errorf("of the nearest neighbours %.3f are known", share)
		}
		for i, p := range v.peers {
			for _, u := range []int{5, 6} {
				if rec, _, err := lookup(t, p, v.aor(u)); err != nil || len(rec.Live(time.Now())) != 1 {
					t.Errorf("node %d does not find user%d: %v", i, u, err)
				}
			}
		}
	})
}

// TestOfferBeforeOthersCome: who offers a role when the overlay has hardly begun is found by those who come a moment later.
func TestOfferBeforeOthersCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newTown(t, 2)
		defer v.close()
		f, err := v.peers[0].Offer(overlay.RoleProxy, func() overlay.Offer {
			return overlay.Offer{Services: []string{"sip:192.0.2.1:5060;transport=udp"}, Capacity: 1}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		time.Sleep(time.Second)
		for i := 2; i < 60; i++ {
			v.add(v.key(i))
		}
		time.Sleep(45 * time.Second)
		for i, p := range v.peers[2:] {
			if got, err := p.Find(t.Context(), overlay.RoleProxy, 1); err != nil || len(got) != 1 {
				t.Errorf("node %d finds %d, %v", i+2, len(got), err)
			}
		}
	})
}

// TestNoRoleIsCheap: in an overlay where nobody offers a role, having looked for it once does not keep a node busy.
func TestNoRoleIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newTown(t, 30)
		defer v.close()
		p := v.peers[9]
		if _, err := p.Find(t.Context(), overlay.RoleProxy, 1); !errors.Is(err, overlay.ErrNoRole) {
			t.Fatal(err)
		}
		before := p.Status().Requests
		time.Sleep(9 * time.Minute)
		if n := p.Status().Requests - before; n > 300 {
			t.Errorf("%d requests in nine minutes", n)
		} else {
			t.Logf("%d requests", n)
		}
	})
}
