package sim

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"p2psip/overlay"
	"p2psip/sim/network"
	"p2psip/sim/result"
)

func itoa(i int) string { return strconv.Itoa(i) }

// measureIdle lets the overlay alone and takes what it sends meanwhile.
func (r *run) measureIdle() {
	if r.s.Idle <= 0 {
		return
	}
	before := r.countAll()
	if !r.sleep(r.s.Idle) {
		return
	}
	var sent network.Traffic
	for i, c := range r.countAll() {
		sent.Bytes += bytesOf(c) - bytesOf(before[i])
	}
	r.mu.Lock()
	up := r.up
	r.mu.Unlock()
	if up > 0 {
		r.out.IdleBytesPerS = result.V(float64(sent.Bytes) / float64(up) / r.s.Idle.Seconds())
	}
}

func bytesOf(c network.Counts) uint64 { return c.Total().Bytes + c.Sent[network.Transport].Bytes }

func (r *run) countAll() []network.Counts {
	out := make([]network.Counts, len(r.nodes))
	for i, n := range r.nodes {
		out[i] = n.counts()
	}
	return out
}

// measure is the last stretch.
func (r *run) measure() {
	r.mu.Lock()
	r.measured = time.Now()
	r.upSince = r.measured
	r.mu.Unlock()
	r.baseline = r.countAll()
	s := &r.s
	r.start(func() { r.arrivals(1, s.Lookups, r.lookup) })
	r.start(func() { r.arrivals(2, s.Unknown, r.unknown) })
	if r.border != nil {
		r.border.open()
	}
	if r.calls != nil {
		for i, f := range []struct {
			rate float64
			flow string
		}{{s.Calls, flowOverlay}, {s.CallsOut, flowOut}, {s.CallsIn, flowIn}, {s.CallsHome, flowHome}} {
			r.start(func() { r.arrivals(16+uint64(i), f.rate, r.dial(f.flow)) })
		}
	} else {
		r.start(func() { r.arrivals(3, s.Publishes, r.publish) })
	}
	if r.hostile.besieges() {
		r.start(func() { r.arrivals(4, s.Lookups, r.hostile.siege) })
	}
	r.start(r.growing)
	r.start(r.watchAlive)
	for i, k := range s.Kills {
		r.start(func() {
			if r.sleep(k.At) {
				r.kill(k, i)
			}
		})
	}
	for i, k := range s.ProxyKills {
		r.start(func() {
			if r.sleep(k.At) {
				r.killProxyPeers(k, i)
			}
		})
	}
	for i, p := range s.Partitions {
		r.start(func() {
			if !r.sleep(p.At) {
				return
			}
			r.partition(p, i)
			if r.sleep(p.For) {
				r.net.Heal()
				r.mark("the parts are joined again")
			}
		})
	}
	r.sleep(s.Duration)
}

// arrivals calls f at a rate, at random times (Poisson). f gets its own dice and must not wait.
func (r *run) arrivals(stream uint64, rate float64, f func(d *rand.Rand)) {
	if rate <= 0 {
		return
	}
	d := rand.New(rand.NewPCG(r.s.Seed, stream<<32))
	for r.sleep(time.Duration(d.ExpFloat64() / rate * float64(time.Second))) {
		f(d)
	}
}

// pick chooses a searching node and a registered user who does not live there.
func (r *run) pick(d *rand.Rand) (*node, *overlay.Peer, *user) {
	x, y := d.Float64(), d.Float64()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.alive) < 2 || len(r.registered) == 0 {
		return nil, nil, nil
	}
	u := r.registered[int(y*float64(len(r.registered)))]
	i := int(x * float64(len(r.alive)))
	n := r.alive[i]
	if n == u.node {
		n = r.alive[(i+1)%len(r.alive)]
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n, n.peer, u
}

// lookup has one node look one registered user up.
func (r *run) lookup(d *rand.Rand) {
	if n, p, u := r.pick(d); p != nil {
		r.search(n, p, u, func(m *measured) { r.lookups = append(r.lookups, m) })
	}
}

// search has a node look a user up and gives the outcome to keep, which is called with r.mu held.
func (r *run) search(n *node, p *overlay.Peer, u *user, keep func(*measured)) {
	u.node.mu.Lock()
	owner := u.node.peer
	u.node.mu.Unlock()
	if owner == nil {
		return
	}
	want := newest(owner, u.aor)
	r.start(func() {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(r.ctx, opTimeout)
		defer cancel()
		l := p.Lookup(ctx, u.aor)
		defer l.Stop()
		first, err := l.Next(ctx)
		took := time.Since(begin)
		last := first
		wrong := err == nil && wrongRecord(first, u)
		for err == nil {
			var rec overlay.Record
			if rec, err = l.Next(ctx); err == nil {
				last = rec
				wrong = wrong || wrongRecord(rec, u)
			}
		}
		st := l.Stats()
		if r.ctx.Err() != nil || !n.has(p) {
			return // the searching node has gone meanwhile
		}
		seq := func(rec overlay.Record) uint64 {
			for _, e := range rec.Live(time.Now()) {
				if e.Node == u.node.id {
					return e.Sequence
				}
			}
			return 0
		}
		ok := seq(first) > 0
		if ok && r.s.Connect {
			r.start(func() { r.connect(n, p, u, first) })
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.hostile.note(wrong, st)
		keep(&measured{result.Sample{At: begin.Sub(r.measured), Took: took, OK: ok, Hops: st.Hops}, func() overlay.Cost { return st.Cost }})
		if ok {
			r.found++
			if seq(first) >= want {
				r.firstFresh++
			}
			if seq(last) >= want {
				r.fresh++
			}
		}
	})
}

func (n *node) has(p *overlay.Peer) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peer == p
}

// unknown has one node look for somebody nobody knows.
func (r *run) unknown(d *rand.Rand) {
	n, p, _ := r.pick(d)
	if p == nil {
		return
	}
	aor, err := r.doc.ID.AOR(fmt.Sprintf("nobody%d", d.Uint64()))
	if err != nil {
		r.fail(err)
		return
	}
	r.start(func() {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(r.ctx, opTimeout)
		defer cancel()
		l := p.Lookup(ctx, aor)
		defer l.Stop()
		rec, err := l.Next(ctx)
		took := time.Since(begin)
		if r.ctx.Err() != nil || !n.has(p) {
			return
		}
		st := l.Stats()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.hostile.note(len(rec.Nodes) > 0, st)
		r.unknowns = append(r.unknowns, &measured{result.Sample{At: begin.Sub(r.measured), Took: took, OK: errors.Is(err, overlay.ErrUnknownUser)}, func() overlay.Cost { return st.Cost }})
	})
}

// publish registers a user who is registered already.
func (r *run) publish(d *rand.Rand) {
	_, p, u := r.pick(d)
	if p == nil {
		return
	}
	u.node.mu.Lock()
	owner := u.node.peer
	u.node.mu.Unlock()
	if owner == nil {
		return
	}
	r.start(func() {
		ctx, cancel := context.WithCancel(r.ctx)
		defer cancel()
		r.register(ctx, u.node, owner, u, false)
	})
}

// mark notes what happened when.
func (r *run) mark(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.Marks = append(r.out.Marks, result.Mark{AtS: time.Since(r.measured).Seconds(), Text: text})
}

// victims draws those of list that the kill of that number takes: a share of the running nodes.
func victims[T any](list []T, seed uint64, number int, share float64, running int) []T {
	d := rand.New(rand.NewPCG(seed, 0x4b<<32|uint64(number)))
	d.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:min(int(share*float64(running)+0.5), len(list))]
}

// kill makes a share of the running nodes fall silent for good.
func (r *run) kill(k Kill, number int) {
	var list []*node
	running := 0
	for _, n := range r.nodes {
		n.mu.Lock()
		up := n.peer != nil
		n.mu.Unlock()
		if up {
			running++
			if !n.stable {
				list = append(list, n)
			}
		}
	}
	list = victims(list, r.s.Seed, number, k.Share, running)
	for _, n := range list {
		n.mu.Lock()
		h := n.host
		n.mu.Unlock()
		if h != nil {
			r.net.Silence(h)
		}
		n.once.Do(func() { close(n.killed) })
	}
	r.mark(fmt.Sprintf("%d of %d nodes fall silent", len(list), running))
}

func (r *run) partition(p Partition, number int) {
	cut := 0
	r.net.Partition(func(h *network.Host) int {
		d := rand.New(rand.NewPCG(r.s.Seed, 0x9a<<32|uint64(number)<<20|uint64(h.Index())))
		if d.Float64() < p.Share {
			cut++
			return 1
		}
		return 0
	})
	r.mark(fmt.Sprintf("%d nodes are cut off", cut))
}

// watchAlive notes the number of running nodes over time.
func (r *run) watchAlive() {
	step := max(time.Second, r.s.Duration/200)
	if !r.sleep(time.Microsecond) { // events of the scenario come at even times
		return
	}
	for {
		r.mu.Lock()
		r.out.Alive = append(r.out.Alive, result.Point{AtS: time.Since(r.measured).Seconds(), Value: float64(r.up)})
		r.mu.Unlock()
		if !r.sleep(step) {
			return
		}
	}
}

// summarize makes the result of what was collected.
func (r *run) summarize() {
	counts := r.countAll()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(0)
	out := r.out
	out.VirtualS = time.Since(r.begin).Seconds()
	width := max(time.Second, r.s.Duration/60)
	operation := func(list []*measured) *result.Operation {
		samples := r.samples(list)
		slices.SortFunc(samples, func(a, b result.Sample) int {
			return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Took, b.Took), cmp.Compare(a.Messages, b.Messages))
		})
		return result.Summarize(samples, width)
	}
	out.Lookup, out.Publish, out.Unknown = operation(r.lookups), operation(r.publishes), operation(r.unknowns)
	out.Connect = operation(r.connects)
	out.Hostile = r.hostile.summarize(operation)
	out.Growth = r.growth()
	if r.calls != nil {
		out.Calls = r.calls.summary(width)
		out.Notes = append(out.Notes, r.calls.notes(out.Calls)...)
	}
	out.Fresh = result.Share(r.fresh, r.found)

	per := &result.PerNode{}
	var messages uint64
	for i, n := range r.nodes {
		now, before := counts[i], r.baseline[i]
		sent := now.Total().Messages - before.Total().Messages
		messages += sent
		per.Position = append(per.Position, position(n))
		per.Requests = append(per.Requests, float64(now.Served-before.Served))
		per.Messages = append(per.Messages, float64(sent))
		per.Bytes = append(per.Bytes, float64(bytesOf(now)-bytesOf(before)))
		records := 0
		n.mu.Lock()
		if n.peer != nil {
			records = n.peer.Status().Records
		}
		n.mu.Unlock()
		per.Records = append(per.Records, float64(records))
	}
	out.PerNode, out.Load = per, result.NewLoads(per)
	if m := r.upFor.Minutes(); m > 0 {
		out.MessagesPerNodeMin = result.V(float64(messages) / m)
	}
	out.Direct = r.direct()
	if v := result.Share(r.firstFresh, r.found); v.Known() {
		out.Notes = append(out.Notes, "fresh counts the newest record that a lookup gave until it ended; of the first records "+result.Ratio.Write(v)+" were the newest")
	}
	slices.SortFunc(out.Marks, func(a, b result.Mark) int { return cmp.Or(cmp.Compare(a.AtS, b.AtS), cmp.Compare(a.Text, b.Text)) })
}

// position gives a node's place in Kademlia's key space.
func position(n *node) float64 {
	h := sha256.Sum256([]byte(n.id))
	return float64(binary.BigEndian.Uint64(h[:])>>11) / (1 << 53)
}

// direct samples the round trips between the nodes, without jitter: nothing is faster.
func (r *run) direct() *result.Delays {
	d := rand.New(rand.NewPCG(r.s.Seed, 0xd1<<32))
	var hosts []*network.Host
	for _, n := range r.nodes {
		n.mu.Lock()
		if n.host != nil {
			hosts = append(hosts, n.host)
		}
		n.mu.Unlock()
	}
	slices.SortFunc(hosts, func(a, b *network.Host) int { return bytes.Compare([]byte(a.ID()), []byte(b.ID())) })
	if len(hosts) < 2 {
		return nil
	}
	var ms []float64
	for range 2000 {
		a, b := hosts[d.IntN(len(hosts))], hosts[d.IntN(len(hosts))]
		if a != b {
			ms = append(ms, float64(2*r.net.OneWay(a, b))/float64(time.Millisecond))
		}
	}
	out := result.NewDelays(ms)
	return &out
}
