package sim

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"p2psip/overlay"
	simnet "p2psip/sim/network"
	"p2psip/sim/result"
)

// HostileShare is a part of the nodes that is hostile in one way.
type HostileShare struct {
	Kind  string
	Share float64
}

// Ways of being hostile. Such a node is a member with a good credential and joins as any other does; what it does to the
// requests of others is its own. It has no users, and nobody looks anybody up through it.
const (
	// liars name invented nodes nearer to every key than the true ones, confirm storing without doing it, and answer with
	// records that are forged, another's, expired, of another overlay, or true and as old as possible.
	liars = "liars"
	// droppers confirm storing and store nothing. Whom they name as nearer is true.
	droppers = "droppers"
	// empty nodes confirm storing, store nothing and know nobody.
	empty = "empty"
	// mute nodes accept every request and never answer.
	mute = "mute"
	// slow nodes answer truly, half of them as late as a walk waits before it counts them as slow, the other half as late
	// as a request waits at all.
	slow = "slow"
	// eclipse nodes have identifiers next to the key of one user, say that they store what they do not, and name only each
	// other.
	eclipse = "eclipse"
	// eclipseNode nodes have identifiers next to that of one node, and do the same.
	eclipseNode = "eclipse-node"
	// adverts nodes answer searches for a role with advertisements of their own, though their credentials do not permit it,
	// with altered ones of others and with old ones, and try to have them stored at others. Otherwise they are honest.
	falseAdverts = "adverts"
)

var hostileKinds = []string{liars, droppers, empty, mute, slow, eclipse, eclipseNode, falseAdverts}

func parseHostile(v string) (HostileShare, error) {
	kind, share, _ := strings.Cut(v, " ")
	if !slices.Contains(hostileKinds, kind) {
		return HostileShare{}, fmt.Errorf("hostile nodes are %s", strings.Join(hostileKinds, ", "))
	}
	p, err := parseShare(strings.TrimSpace(share))
	return HostileShare{kind, p}, err
}

func (s *Scenario) validateHostile() error {
	sum := 0.0
	seen := map[string]bool{}
	for _, h := range s.Hostile {
		if sum += h.Share; seen[h.Kind] {
			return fmt.Errorf("%s nodes are set twice", h.Kind)
		}
		seen[h.Kind] = true
	}
	switch {
	case sum > 0.9:
		return errors.New("more than 90% hostile nodes")
	case int(math.Round(sum*float64(s.Nodes))) > s.Nodes-s.Stable-2:
		return errors.New("too many hostile nodes beside the stable ones, which are honest, and two others")
	case sum > 0 && s.Stock:
		return errors.New("kad-dht's own calls can be run beside ours without hostile nodes only")
	}
	return nil
}

// HostileShare gives the share of hostile nodes, 0 to 1.
func (s *Scenario) HostileShare() float64 {
	sum := 0.0
	for _, h := range s.Hostile {
		sum += h.Share
	}
	return math.Round(sum*1e9) / 1e9
}

// WithHostile gives the scenario with that share of hostile nodes, such as "20%", in the proportions in which they are set.
func (s Scenario) WithHostile(share string) (Scenario, error) {
	f, err := parseShare(share)
	if err != nil {
		return s, err
	}
	sum := s.HostileShare()
	if sum == 0 {
		return s, errors.New("no kind of hostile nodes is set, as in hostile liars 10%")
	}
	list := slices.Clone(s.Hostile)
	for i := range list {
		list[i].Share *= f / sum
	}
	s.Hostile = list
	return s, s.Validate()
}

// hostility is all the hostile nodes of a run together: they know each other.
type hostility struct {
	r      *run
	kind   map[int]string // by index of the node
	byKind map[string][]*node
	aors   map[string]overlay.AOR // of all users, by key
	byID   map[peer.ID]*node
	other  *overlay.Authority // of another overlay of the same name
	// victim is the user whose key is surrounded, besieged the node; nil if none is.
	victim   *user
	besieged *node

	lies                   atomic.Uint64 // requests treated otherwise than an honest node does
	wrong, refused, looked atomic.Int64  // see result.Hostile
	finds, wrongFinds      atomic.Int64  // searches for a role, and those that gave what nobody entitled has signed
	planted, rooted        atomic.Int64  // false advertisements that were to be stored at honest nodes, and those that were

	mu      sync.Mutex
	oldest  map[string][]byte // guarded by mu: the first record that was to be stored at a liar, by key
	victims []*measured       // guarded by run.mu: lookups of the victim, or by it
}

// draw says which nodes are hostile: never a stable one, and with a smaller share a part of those of a larger.
func (r *run) draw() {
	s := &r.s
	if len(s.Hostile) == 0 {
		return
	}
	x := &hostility{r: r, kind: map[int]string{}, byKind: map[string][]*node{}, byID: map[peer.ID]*node{},
		aors: map[string]overlay.AOR{}, oldest: map[string][]byte{}}
	d := rand.New(rand.NewPCG(s.Seed, 0x605<<32))
	order := d.Perm(s.Nodes - s.Stable)
	for _, h := range s.Hostile {
		n := min(int(math.Round(h.Share*float64(s.Nodes))), len(order))
		for _, i := range order[:n] {
			x.kind[s.Stable+i] = h.Kind
		}
		order = order[n:]
	}
	r.hostile = x
}

// kindOf gives how a node is hostile, "" if it is not.
func (x *hostility) kindOf(i int) string {
	if x == nil {
		return ""
	}
	return x.kind[i]
}

// besieges says whether somebody is surrounded.
func (x *hostility) besieges() bool { return x != nil && (x.victim != nil || x.besieged != nil) }

// honest gives the node of that number, or the next one that is not hostile.
func (r *run) honest(i int) *node {
	for r.nodes[i].hostile != "" {
		i = (i + 1) % len(r.nodes)
	}
	return r.nodes[i]
}

// prepare is called when all honest nodes and users are there: it makes the keys of the hostile ones.
func (x *hostility) prepare() error {
	r := x.r
	var err error
	if x.other, err = overlay.NewAuthority(overlay.DocumentOptions{ID: overlayID}, r.begin); err != nil {
		return err
	}
	for _, u := range r.users {
		x.aors[userKey(u.aor)] = u.aor
	}
	for _, h := range r.s.Hostile {
		switch h.Kind {
		case eclipse:
			x.victim = r.users[len(r.users)/2]
		case eclipseNode:
			x.besieged = r.users[len(r.users)/3].node
		}
	}
	for _, n := range r.nodes {
		switch n.hostile {
		case eclipse:
			err = n.grind(userKey(x.victim.aor))
		case eclipseNode:
			err = n.grind(string(x.besieged.id))
		}
		if err != nil {
			return err
		}
		x.byID[n.id] = n
		if n.hostile != "" {
			x.byKind[n.hostile] = append(x.byKind[n.hostile], n)
		}
	}
	return nil
}

// grind gives the node another key, one whose place is next to that of a DHT key: nearer than any honest node is likely to
// be.
func (n *node) grind(key string) error {
	want := int(math.Ceil(math.Log2(float64(len(n.r.nodes))))) + 2
	for i := 0; ; i++ {
		k, err := keyOf(n.r.s.Seed^0xec11, n.index<<32|i)
		if err != nil {
			return err
		}
		id, err := overlay.NodeOfKey(k)
		if err != nil {
			return err
		}
		if shared(string(id), key) >= want {
			n.key, n.id = k, id
			return nil
		}
	}
}

// hostileHost is the light host of a hostile node: everything as it is, but requests of the DHT go through its hands.
type hostileHost struct {
	*simnet.Host
	n *node
}

// wrap gives the host that the production code gets.
func (n *node) wrap(h *simnet.Host) host.Host {
	switch {
	case n.hostile != "":
		return hostileHost{h, n}
	case n.r.s.NATClients && n.hidden():
		return clientHost{h}
	}
	return h
}

// SetStreamHandler is part of host.Host.
func (h hostileHost) SetStreamHandler(p protocol.ID, f network.StreamHandler) {
	if strings.HasSuffix(string(p), "/kad/1.0.0") {
		f = h.n.foul(f)
	}
	h.Host.SetStreamHandler(p, f)
}

// wrongRecord looks at a record that a lookup has handed out and says whether it is wrong: of somebody else's, of a device that
// nobody registered, or expired. An older one that its owner has signed is not wrong but stale; see result.Run.Fresh.
func wrongRecord(rec overlay.Record, u *user) bool {
	if rec.AOR != u.aor {
		return true
	}
	for _, e := range rec.Nodes {
		if e.Node != u.node.id || time.Now().After(e.Expires) {
			return true
		}
		for _, d := range e.Devices {
			if d.ID != device[0].ID {
				return true
			}
		}
	}
	return false
}

// note takes in what a lookup has shown.
func (x *hostility) note(wrong bool, st overlay.LookupStats) {
	if x == nil {
		return
	}
	x.looked.Add(1)
	x.refused.Add(int64(st.Refused))
	if wrong {
		x.wrong.Add(1)
	}
}

// siege adds a lookup to those of everybody: of the victim, or by it.
func (x *hostility) siege(d *rand.Rand) {
	r := x.r
	n, p, u := r.pick(d)
	switch {
	case p == nil:
		return
	case x.victim != nil:
		u = x.victim
		if n == u.node {
			return
		}
	default:
		n = x.besieged
		n.mu.Lock()
		p = n.peer
		n.mu.Unlock()
		if p == nil || u.node == n {
			return
		}
	}
	r.mu.Lock()
	there := u.place >= 0
	r.mu.Unlock()
	if there || x.victim != nil && r.sinceMeasured() > publishSpread {
		r.search(n, p, u, func(m *measured) { x.victims = append(x.victims, m) })
	}
}

// light gives the node's host, nil while it is down.
func (n *node) light() *simnet.Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host
}

// summarize gives what the run has shown of them; r.mu is held.
func (x *hostility) summarize(operation func([]*measured) *result.Operation) *result.Hostile {
	if x == nil {
		return nil
	}
	out := &result.Hostile{Lookups: int(x.looked.Load()), Wrong: int(x.wrong.Load()), Refused: int(x.refused.Load()), Lies: int(x.lies.Load())}
	n := 0
	for _, h := range x.r.s.Hostile {
		out.Kinds = append(out.Kinds, result.HostileKind{Name: h.Kind, Nodes: len(x.byKind[h.Kind])})
		n += len(x.byKind[h.Kind])
	}
	out.Finds, out.WrongFinds = int(x.finds.Load()), int(x.wrongFinds.Load())
	out.Planted, out.Rooted = int(x.planted.Load()), int(x.rooted.Load())
	out.Share = result.Share(n, len(x.r.nodes))
	out.Victim = operation(x.victims)
	return out
}
