package sim

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"

	"p2psip/sim/network"
	"p2psip/sim/result"
)

// What a stock node has where the overlay has its own values.
const (
	stockDial      = 15 * time.Second // libp2p's time-out for a dial
	stockOpTimeout = 2 * time.Minute  // long enough for PutValue to end by itself most of the time
	stockValue     = 1000             // bytes, about a record of one node
)

// stock is the same network once more, with kad-dht as it comes and its own PutValue and GetValue in place of the
// overlay's publication and lookup: same places, arrivals, deaths and questions. Its figures are not the same twice to the
// last digit, because kad-dht draws from the runtime's dice.
type stock struct {
	r     *run
	net   *network.Network
	ctx   context.Context
	stop  context.CancelFunc
	nodes []*stockNode
	start time.Time // of the bubble
	begin time.Time // of the last stretch
	wg    sync.WaitGroup

	mu                           sync.Mutex
	lookups, publishes, unknowns []result.Sample // guarded by mu
	registered                   []int           // guarded by mu: users whose record was put, by index
}

type stockNode struct {
	node *node // of the run proper, for its key and place
	host *network.Host
	dht  *dht.IpfsDHT
	dead bool // guarded by stock.mu
}

// anything is a validator for values nobody signs.
type anything struct{}

func (anything) Validate(string, []byte) error        { return nil }
func (anything) Select(string, [][]byte) (int, error) { return 0, nil }

// runStock runs the scenario with stock nodes; r is the finished run proper. It must be called in a bubble of its own.
func (r *run) runStock() error {
	net, err := r.newNetwork(stockDial)
	if err != nil {
		return err
	}
	s := &stock{r: r, net: net, start: time.Now()}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.nodes = make([]*stockNode, len(r.nodes))
	defer func() {
		s.stop()
		s.wg.Wait()
		s.close()
	}()
	for i, n := range r.nodes {
		if !s.sleep(r.s.joinTime() / time.Duration(len(r.nodes))) {
			return ErrStopped
		}
		if s.nodes[i], err = s.join(n); err != nil {
			return err
		}
	}
	if !s.sleep(r.s.Settle) {
		return ErrStopped
	}
	s.measure()
	if r.outer.Err() != nil {
		return ErrStopped
	}
	s.summarize()
	return nil
}

// sleep waits in virtual time, looking now and then whether the run is to end.
func (s *stock) sleep(d time.Duration) bool {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(time.Until(end), 10*time.Second))
		if s.r.outer.Err() != nil {
			return false
		}
		s.tell()
	}
	return s.r.outer.Err() == nil
}

// tell says how far it is.
func (s *stock) tell() {
	total := s.r.s.joinTime() + s.r.s.Settle + s.r.s.Duration
	now := time.Since(s.start)
	p := result.Progress{
		Phase: "kad-dht's own", Done: min(1, float64(now)/float64(total)), VirtualS: now.Seconds(), TotalS: total.Seconds(),
		Nodes: len(s.nodes), Messages: s.net.Events(),
	}
	select {
	case s.r.progress <- p:
	default:
	}
}

// join starts one node: kad-dht's defaults, but for what a network of its own needs.
func (s *stock) join(n *node) (*stockNode, error) {
	h, err := s.net.AddHost(n.key, n.nat)
	if err != nil {
		return nil, err
	}
	d, err := dht.New(s.ctx, h, dht.ProtocolPrefix("/stock"), dht.Mode(dht.ModeServer), dht.BucketSize(s.r.s.BucketSize),
		dht.Validator(record.NamespacedValidator{"v": anything{}}), dht.DisableProviders())
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	if err := d.Bootstrap(s.ctx); err != nil {
		return nil, errors.Join(err, d.Close(), h.Close())
	}
	for _, o := range s.nodes[:s.r.s.Stable] {
		if o != nil {
			s.wg.Go(func() { h.Connect(s.ctx, peer.AddrInfo{ID: o.host.ID(), Addrs: o.host.Addrs()}) })
		}
	}
	return &stockNode{node: n, host: h, dht: d}, nil
}

func (s *stock) close() {
	for _, n := range s.nodes {
		if n == nil {
			continue
		}
		s.net.Silence(n.host)
	}
	for _, n := range s.nodes {
		if n != nil {
			n.dht.Close()
			n.host.Close()
		}
	}
	s.net.Close()
}

func stockKey(user int) string { return fmt.Sprintf("/v/user%d", user) }

func stockContent(user int) []byte { return bytes.Repeat([]byte{byte(user)}, stockValue) }

// measure is the last stretch: users are registered over a minute, then looked up while nodes die.
func (s *stock) measure() {
	s.begin = time.Now()
	sc := &s.r.s
	spread := min(publishSpread, sc.Duration/4)
	for i, u := range s.r.users {
		s.wg.Go(func() {
			if s.wait(spread * time.Duration(u.node.index) / time.Duration(len(s.nodes))) {
				s.publish(s.nodes[u.node.index], i, true)
			}
		})
	}
	s.wg.Go(func() {
		s.arrivals(1, sc.Lookups, func(d *rand.Rand) { s.lookup(s.pick(d)) })
	})
	s.wg.Go(func() {
		s.arrivals(2, sc.Unknown, func(d *rand.Rand) {
			n, _ := s.pick(d)
			s.unknown(n, d.Uint64())
		})
	})
	s.wg.Go(func() {
		s.arrivals(3, sc.Publishes, func(d *rand.Rand) {
			if _, u := s.pick(d); u >= 0 {
				s.publish(s.nodes[s.r.users[u].node.index], u, false)
			}
		})
	})
	for i, k := range sc.Kills {
		s.wg.Go(func() {
			if s.wait(k.At) {
				s.kill(k, i)
			}
		})
	}
	s.sleep(sc.Duration)
	s.stop()
}

func (s *stock) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

func (s *stock) arrivals(stream uint64, rate float64, f func(*rand.Rand)) {
	if rate <= 0 {
		return
	}
	d := rand.New(rand.NewPCG(s.r.s.Seed, stream<<32))
	for s.wait(time.Duration(d.ExpFloat64() / rate * float64(time.Second))) {
		f(d)
	}
}

// pick chooses a living node and a registered user of a living node; nil and -1 if there is none.
func (s *stock) pick(d *rand.Rand) (*stockNode, int) {
	x, y := d.Float64(), d.Float64()
	s.mu.Lock()
	defer s.mu.Unlock()
	var alive []*stockNode
	for _, n := range s.nodes {
		if !n.dead {
			alive = append(alive, n)
		}
	}
	var users []int
	for _, u := range s.registered {
		if !s.nodes[s.r.users[u].node.index].dead {
			users = append(users, u)
		}
	}
	if len(alive) == 0 || len(users) == 0 {
		return nil, -1
	}
	return alive[int(x*float64(len(alive)))], users[int(y*float64(len(users)))]
}

// do runs one operation of a node and notes it, unless the node died or the run ended meanwhile.
func (s *stock) do(n *stockNode, list *[]result.Sample, f func(ctx context.Context) bool) {
	s.wg.Go(func() {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(s.ctx, stockOpTimeout)
		defer cancel()
		ok := f(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.ctx.Err() == nil && !n.dead {
			*list = append(*list, result.Sample{At: begin.Sub(s.begin), Took: time.Since(begin), OK: ok})
		}
	})
}

func (s *stock) publish(n *stockNode, user int, first bool) {
	s.do(n, &s.publishes, func(ctx context.Context) bool {
		err := n.dht.PutValue(ctx, stockKey(user), stockContent(user))
		if first {
			s.mu.Lock()
			s.registered = append(s.registered, user)
			slices.Sort(s.registered)
			s.mu.Unlock()
		}
		return err == nil
	})
}

func (s *stock) lookup(n *stockNode, user int) {
	if n == nil {
		return
	}
	s.do(n, &s.lookups, func(ctx context.Context) bool {
		v, err := n.dht.GetValue(ctx, stockKey(user))
		return err == nil && bytes.Equal(v, stockContent(user))
	})
}

func (s *stock) unknown(n *stockNode, who uint64) {
	if n == nil {
		return
	}
	s.do(n, &s.unknowns, func(ctx context.Context) bool {
		_, err := n.dht.GetValue(ctx, fmt.Sprintf("/v/nobody%d", who))
		return errors.Is(err, routing.ErrNotFound)
	})
}

// kill silences the nodes that the run proper silenced.
func (s *stock) kill(k Kill, number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*stockNode
	running := 0
	for _, n := range s.nodes {
		if n.dead {
			continue
		}
		running++
		if !n.node.stable {
			list = append(list, n)
		}
	}
	for _, n := range victims(list, s.r.s.Seed, number, k.Share, running) {
		n.dead = true
		s.net.Silence(n.host)
	}
}

func (s *stock) summarize() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range [][]result.Sample{s.lookups, s.publishes, s.unknowns} {
		slices.SortFunc(list, func(a, b result.Sample) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Took, b.Took)) })
	}
	width := max(time.Second, s.r.s.Duration/60)
	s.r.out.Stock = &result.Stock{
		Lookup:  result.Summarize(s.lookups, width),
		Publish: result.Summarize(s.publishes, width),
		Unknown: result.Summarize(s.unknowns, width),
	}
	s.r.out.Notes = append(s.r.out.Notes, fmt.Sprintf(
		"kad-dht's own: PutValue and GetValue of kad-dht with its defaults and libp2p's %v for a dial, in the same network; an operation ends after %v", stockDial, stockOpTimeout))
}
