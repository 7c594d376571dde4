package sim

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	production "p2psip/cmd/p2psip/node"
	"p2psip/interwork/phone"
	"p2psip/overlay"
	"p2psip/sim/network"
	"p2psip/sim/result"
)

// overlayID names the overlays made here.
const overlayID = "p2psip.example"

// publishSpread is the time over which users register at the beginning of the last stretch.
const publishSpread = time.Minute

// opTimeout bounds one operation; the overlay's own limits are shorter.
const opTimeout = 30 * time.Second

// ErrStopped: the context of a run has ended.
var ErrStopped = errors.New("the simulation was stopped")

// Run simulates a scenario. progress, which may be nil, is called now and then from another goroutine, in real time; never
// after Run has returned. Runs wait for each other. The process is held to one
// processor meanwhile, because two of them do the same work in more time.
func Run(ctx context.Context, s Scenario, progress func(result.Progress)) (*result.Run, error) {
	return probe{procs: 1}.run(ctx, s, progress)
}

// probe is what a test of Run may change: nothing of it must show in the result.
type probe struct {
	procs int                 // processors
	watch func(network.Event) // see network.Config
}

func (pr probe) run(ctx context.Context, s Scenario, progress func(result.Progress)) (*result.Run, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	overlay.SilenceLibraries()
	runMu.Lock()
	defer runMu.Unlock()
	defer network.Seeded(s.Seed)()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	percent := debug.SetGCPercent(100) // see collect
	defer debug.SetGCPercent(percent)

	r := newRun(ctx, s)
	r.probe = pr
	w := watch(r, progress)
	begin := time.Now()
	err := network.RunVirtual(func() {
		runtime.GOMAXPROCS(pr.procs) // package testing, on which virtual time stands, has just set its own number
		if err := r.run(); err != nil {
			r.fail(err)
		}
	})
	r.out.WallS = time.Since(begin).Seconds()
	r.out.Self = w.stop()
	r.out.Self.LivePerNodeBytes = r.live
	if s.Stock && err == nil && r.err == nil && ctx.Err() == nil {
		debug.SetGCPercent(percent)
		r.progress = make(chan result.Progress, 1)
		w := watch(r, progress)
		err = network.RunVirtual(func() {
			runtime.GOMAXPROCS(pr.procs) // package testing, on which virtual time stands, has just set its own number
			if err := r.runStock(); err != nil && !errors.Is(err, ErrStopped) {
				r.fail(err)
			}
		})
		w.stop() // what the comparison cost is not what the run cost
	}
	if err == nil {
		err = r.err
	}
	if err == nil && ctx.Err() != nil {
		err = ErrStopped
	}
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	return r.out, nil
}

var runMu sync.Mutex // one run at a time

// run is one simulation under way. Its goroutines live in the bubble.
type run struct {
	s     Scenario
	outer context.Context // only asked, never waited for: it belongs outside the bubble
	ctx   context.Context // of the bubble
	stop  context.CancelFunc
	net   *network.Network
	auth  *overlay.Authority
	doc   *overlay.Document
	nodes []*node
	users []*user

	hostile   *hostility // nil: all are honest
	stretches []stretch  // guarded by mu: of growth
	calls     *calls     // nil: users have no phones
	border    *border    // nil: there is no public side
	byID      map[peer.ID]*node

	wg sync.WaitGroup // everything started in the bubble

	probe    probe
	live     result.Value // see weigh
	begin    time.Time    // of the bubble
	measured time.Time    // of the last stretch; zero before
	out      *result.Run
	progress chan result.Progress // to outside of the bubble; nobody waits on it in here

	mu         sync.Mutex
	err        error   // guarded by mu
	alive      []*node // guarded by mu: up and joined, by index
	registered []*user // guarded by mu: those a caller should find, by index
	up         int     // guarded by mu: nodes running
	upSince    time.Time
	upFor      time.Duration // guarded by mu: node time since the last stretch began
	lookups    []*measured
	publishes  []*measured
	unknowns   []*measured
	connects   []*measured
	found      int // guarded by mu: lookups that gave a record
	fresh      int // guarded by mu: of those, ended with the newest
	firstFresh int // guarded by mu: of those, began with the newest
	baseline   []network.Counts
}

// node is one machine; its overlay peer comes and goes.
type node struct {
	r       *run
	index   int
	key     crypto.PrivKey
	id      peer.ID
	cred    *overlay.Credential
	nat     network.NAT
	hostile string // how; "": it is honest
	users   []*user
	dice    *rand.Rand // of its own life
	stable  bool
	proxy   int // number among the proxy peers, from 1; 0: it is none
	killed  chan struct{}
	once    sync.Once

	mu     sync.Mutex
	host   *network.Host    // guarded by mu
	full   *production.Node // guarded by mu; nil where users have no phones, or while it is down
	phones []*phone.Phone   // guarded by mu
	peer   *overlay.Peer    // guarded by mu; nil while it is down
	past   network.Counts   // guarded by mu: of its earlier hosts
	place  int              // guarded by r.mu: -1 if not in r.alive
}

// user is registered at one node.
type user struct {
	index int
	aor   overlay.AOR
	node  *node
	place int          // guarded by run.mu: -1 if not in run.registered
	phone *phone.Phone // guarded by node.mu; nil while there is none that is registered
	known bool         // guarded by calls.mu: has been registered
}

func newRun(ctx context.Context, s Scenario) *run {
	r := &run{s: s, outer: ctx, progress: make(chan result.Progress, 1), byID: map[peer.ID]*node{}, out: &result.Run{
		Format: result.Format, Name: s.Name, Scenario: s.String(), Nodes: s.Nodes, Seed: s.Seed,
	}}
	if s.calling() {
		r.calls = newCalls(r)
	}
	return r
}

func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// start runs f in a goroutine that the end of the run waits for.
func (r *run) start(f func()) { r.wg.Go(f) }

// sleep waits in virtual time and says whether the run still goes on.
func (r *run) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

func (r *run) run() error {
	r.ctx, r.stop = context.WithCancel(context.Background())
	defer r.stop()
	r.begin = time.Now()
	if err := r.build(); err != nil {
		return err
	}
	defer func() {
		r.stop()
		r.closeAll()
		r.border.close()
		r.wg.Wait()
		r.net.Close()
	}()
	r.start(r.report)
	r.start(r.collect)
	s := &r.s
	for i, n := range r.nodes {
		r.start(func() { n.live(s.joinAt(i)) })
	}
	if !r.sleep(s.joinTime()) || !r.sleep(s.Settle) {
		return nil
	}
	r.hotKey()
	r.measureIdle()
	r.measure()
	r.summarize()
	r.weigh()
	return nil
}

func (s *Scenario) joinTime() time.Duration {
	if s.Join > 0 {
		return s.Join
	}
	n := s.Nodes
	if s.Grow.From > 0 {
		n = s.Grow.From
	}
	return min(time.Duration(n)*100*time.Millisecond, 30*time.Minute)
}

func (s *Scenario) total() time.Duration {
	return s.joinTime() + s.Settle + s.hotTime() + s.Idle + s.Duration
}

// newNetwork makes the scenario's network, without hosts.
func (r *run) newNetwork(dial time.Duration) (*network.Network, error) {
	s := &r.s
	var lat network.Latency
	switch s.Latency {
	case "constant":
		lat = network.Constant(s.RTT)
	case "clustered":
		lat = network.Clustered(s.Seed, s.RTT)
	default:
		lat = network.HeavyTailed(s.Seed, s.RTT)
	}
	return network.New(network.Config{
		Seed: s.Seed, Latency: lat, Jitter: s.Jitter, Loss: s.Loss, Bandwidth: s.Bandwidth, DialTimeout: dial,
		Settle: synctest.Wait, Watch: r.probe.watch,
	})
}

// build makes the network, the overlay's authority, the nodes' keys and credentials.
func (r *run) build() error {
	s := &r.s
	var err error
	if r.net, err = r.newNetwork(s.Timing.Dial); err != nil {
		return err
	}
	r.auth, err = overlay.NewAuthority(overlay.DocumentOptions{
		ID: overlayID, DHT: overlay.DHTParams{BucketSize: s.BucketSize, RecordLifetime: s.Lifetime},
	}, time.Now())
	if err != nil {
		r.net.Close()
		return err
	}
	r.doc = r.auth.Document()
	r.draw()
	for i := range s.Nodes {
		n := &node{r: r, index: i, stable: i < s.Stable, killed: make(chan struct{}), place: -1}
		if n.key, err = keyOf(s.Seed, i); err == nil {
			n.id, err = overlay.NodeOfKey(n.key)
		}
		if err != nil {
			r.net.Close()
			return err
		}
		n.dice = rand.New(rand.NewPCG(s.Seed, uint64(i)))
		n.nat = r.natOf(n)
		n.hostile = r.hostile.kindOf(i)
		r.nodes = append(r.nodes, n)
		r.byID[n.id] = n
	}
	for i := range s.Users {
		n := r.honest(i * s.Nodes / s.Users % s.Nodes)
		aor, err := r.doc.ID.AOR(fmt.Sprintf("user%d", i))
		if err != nil {
			r.net.Close()
			return err
		}
		u := &user{index: i, aor: aor, node: n, place: -1}
		n.users = append(n.users, u)
		r.users = append(r.users, u)
	}
	if r.hostile != nil {
		if err := r.hostile.prepare(); err != nil {
			r.net.Close()
			return err
		}
	}
	if s.crossing() {
		if r.border, err = newBorder(r); err != nil {
			r.net.Close()
			return err
		}
		r.chooseProxyPeers()
	}
	for _, n := range r.nodes { // in their order: the serial numbers are drawn one after the other
		if err := n.issue(); err != nil {
			r.border.close()
			r.net.Close()
			return err
		}
	}
	return nil
}

// keyOf derives a node's key, and with it its place in the key space, from the seed.
func keyOf(seed uint64, i int) (crypto.PrivKey, error) {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], seed)
	binary.BigEndian.PutUint64(b[8:], uint64(i))
	h := sha256.Sum256(append([]byte("p2psip simulated node"), b[:]...))
	return crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(h[:]))
}

func (r *run) natOf(n *node) network.NAT {
	x := n.dice.Float64()
	if n.stable {
		return network.NoNAT
	}
	for _, share := range r.s.NAT {
		if x -= share.Share; x < 0 {
			return natKinds[share.Kind]
		}
	}
	return network.NoNAT
}

// report tells how far the run is, every few virtual seconds.
func (r *run) report() {
	total := r.s.total()
	step := max(time.Second, total/2000) + time.Microsecond
	for {
		now := time.Since(r.begin)
		r.mu.Lock()
		nodes := r.up
		phase := "measuring"
		if r.measured.IsZero() {
			phase = "joining"
			if now > r.s.joinTime()+r.s.Settle+r.s.hotTime() {
				phase = "idle"
			}
		}
		r.mu.Unlock()
		p := result.Progress{
			Phase: phase, Done: min(1, float64(now)/float64(total)), VirtualS: now.Seconds(), TotalS: total.Seconds(),
			Nodes: nodes, Messages: r.net.Events(),
		}
		select {
		case r.progress <- p:
		default:
		}
		if r.outer.Err() != nil {
			r.stop()
		}
		if !r.sleep(step) {
			return
		}
	}
}

// closeAll ends all nodes; nobody hears of it, which is quickest.
func (r *run) closeAll() {
	for _, n := range r.nodes {
		n.mu.Lock()
		h := n.host
		n.mu.Unlock()
		if h != nil {
			r.net.Silence(h)
		}
	}
}
