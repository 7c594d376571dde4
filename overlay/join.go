package overlay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	"p2psip/overlay/datadir"
)

// Bounds on joining.
const (
	maxRemembered   = 64 // nodes kept in the file of peers
	joinConcurrency = 8
	eventBuffer     = 256 // of connections that come and go
	rememberEvery   = 5 * time.Minute
	// fewPeers is the size of the routing table below which the known addresses are tried again from time to time: after
	// a partition both halves may have a few neighbours each.
	fewPeers      = 4
	fewPeersEvery = time.Minute
)

// joiner gets the node into the overlay and back into it: it tries the bootstrap list, the nodes met in earlier runs and
// those found in the local network, until at least one answers, and again when all connections are gone.
type joiner struct {
	o     *Peer
	seeds []peer.AddrInfo // of the document and the configuration
	file  string
	lan   mdns.Service

	wake   chan struct{} // capacity 1
	joined chan struct{} // closed when the first other node has been met, or none is to be expected
	anchor NodeID        // a neighbour; only run's goroutine uses it

	mu      sync.Mutex
	met     []peer.AddrInfo // guarded by mu: remembered from earlier
	once    bool            // guarded by mu: joined is closed
	tried   int             // guarded by mu: addresses tried in the last round
	lastErr error           // guarded by mu
}

func newJoiner(o *Peer, extra []peer.AddrInfo, file string) (*joiner, error) {
	j := &joiner{o: o, file: file, wake: make(chan struct{}, 1), joined: make(chan struct{})}
	for _, ai := range append(append([]peer.AddrInfo(nil), extra...), o.doc.Bootstrap...) {
		if ai.ID != o.host.ID() {
			j.seeds = append(j.seeds, ai)
		}
	}
	if err := j.load(); err != nil {
		return nil, err
	}
	return j, nil
}

// alone says that this node is the first of its overlay: it knows of no other, so nobody is missing.
func (o *Peer) alone() bool {
	o.join.mu.Lock()
	defer o.join.mu.Unlock()
	return len(o.join.seeds)+len(o.join.met) == 0 && o.dht.RoutingTable().Size() == 0
}

// neighbours counts the nodes of the routing table that are connected. The table alone proves nothing: kad-dht keeps a
// node there until it next fails to answer a question.
func (o *Peer) neighbours() int {
	n := 0
	for _, p := range o.dht.RoutingTable().ListPeers() {
		if o.host.Network().Connectedness(p) == network.Connected {
			n++
		}
	}
	return n
}

// anyNeighbour says whether there is one. It looks first at the one it found last, which most often is still there: it is
// asked at every connection that comes or goes.
func (j *joiner) anyNeighbour() bool {
	o := j.o
	connected := func(p NodeID) bool {
		return o.host.Network().Connectedness(p) == network.Connected
	}
	if j.anchor != "" && connected(j.anchor) && o.dht.RoutingTable().Find(j.anchor) != "" {
		return true
	}
	j.anchor = ""
	for _, p := range o.dht.RoutingTable().ListPeers() {
		if connected(p) {
			j.anchor = p
			return true
		}
	}
	return false
}

// joined says that the node is among others, or alone by right.
func (o *Peer) joined() bool { return o.neighbours() > 0 || o.alone() }

// joinTrouble says in a sentence why the node has not joined, and what to do.
func (o *Peer) joinTrouble() string {
	j := o.join
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lastErr == nil {
		return "this node has not reached another one yet"
	}
	return fmt.Sprintf("none of the %d nodes known could be reached (%s); is this machine online, and is one of them running?", j.tried, firstLine(j.lastErr))
}

// firstLine takes the gist of libp2p's dial errors, which list every address on a line of its own.
func firstLine(err error) string {
	s := err.Error()
	if i := strings.LastIndex(s, "] "); i >= 0 {
		s = s[i+2:]
	}
	s, _, _ = strings.Cut(s, "\n")
	return clip(s)
}

// WaitJoined waits until the node has met another one. It returns at once where nobody is to be expected.
func (o *Peer) WaitJoined(ctx context.Context) error {
	select {
	case <-o.join.joined:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %s", ErrUnreachable, o.joinTrouble())
	}
}

// run is the joiner's goroutine.
func (j *joiner) run() {
	ctx := j.o.ctx
	// Nobody reads the events while a round of dialling lasts; a full buffer would hold up libp2p, which emits them.
	sub, err := j.o.host.EventBus().Subscribe([]any{new(event.EvtPeerConnectednessChanged), new(event.EvtPeerIdentificationCompleted)},
		eventbus.BufSize(eventBuffer))
	if err != nil {
		j.o.log.Error("connections cannot be watched", "error", err)
		return
	}
	defer sub.Close()
	pause := j.o.timing.JoinMin
	was := false
	saved := j.o.now()
	for {
		is := j.anyNeighbour()
		switch {
		case is && !was:
			j.arrived()
			pause = j.o.timing.JoinMin
		case !is && was:
			j.o.log.Warn("this node has lost all others and is trying to get back")
		}
		was = is
		wait := fewPeersEvery
		if !is || j.o.neighbours() < fewPeers {
			reached := j.round(ctx)
			if !is && !reached {
				wait = j.o.random.of("join").jitter(pause)
				pause = min(2*pause, j.o.timing.JoinMax)
			}
			if reached && !is {
				wait = 100 * time.Millisecond // identification follows; look again soon
			}
		}
		if now := j.o.now(); now.Sub(saved) >= rememberEvery {
			j.save()
			saved = now
		}
		if !j.pauseFor(ctx, wait, is, sub.Out()) {
			return
		}
	}
}

// pauseFor waits, but not longer than until the node is joined where it was not, or the other way round.
func (j *joiner) pauseFor(ctx context.Context, d time.Duration, was bool, events <-chan any) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for j.anyNeighbour() == was {
		select {
		case <-t.C:
			return true
		case <-j.wake:
			return true
		case <-events:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// arrived is called when the node has neighbours after having had none.
func (j *joiner) arrived() {
	j.mu.Lock()
	j.lastErr = nil
	if !j.once {
		j.once = true
		close(j.joined)
	}
	j.mu.Unlock()
	j.o.log.Info("joined the overlay", "overlay", j.o.doc.ID, "neighbours", j.o.neighbours())
	j.o.start(func() {
		j.o.upkeep.join(j.o.ctx)
		if j.o.ctx.Err() != nil {
			return
		}
		j.save()
		j.o.regs.renew()
	})
}

// round tries every known address once and says whether a node was reached.
func (j *joiner) round(ctx context.Context) bool {
	j.mu.Lock()
	targets := append(append([]peer.AddrInfo(nil), j.seeds...), j.met...)
	for _, p := range j.o.dht.RoutingTable().NearestPeers(kadID(string(j.o.host.ID())), maxRemembered) {
		targets = append(targets, j.o.host.Peerstore().PeerInfo(p))
	}
	targets = gather(targets)
	if len(targets) == 0 && !j.once {
		j.once = true
		close(j.joined)
	}
	j.mu.Unlock()
	slices.SortFunc(targets, func(a, b peer.AddrInfo) int { return strings.Compare(string(a.ID), string(b.ID)) })
	j.o.random.of("join").shuffle(len(targets), func(a, b int) { targets[a], targets[b] = targets[b], targets[a] })
	slots := make(chan struct{}, joinConcurrency)
	errs := make(chan error, len(targets))
	for _, ai := range targets {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, 2*j.o.timing.Dial)
			defer cancel()
			j.o.forgiveDial(ai.ID)
			errs <- j.o.meet(ctx, ai)
		}()
	}
	reached := false
	var lastErr error
	for range targets {
		if err := <-errs; err == nil {
			reached = true
		} else {
			lastErr = err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	first := j.lastErr == nil
	j.tried, j.lastErr = len(targets), lastErr
	if lastErr != nil && !reached && first && ctx.Err() == nil {
		j.o.log.Warn("joined nobody yet; trying on", "nodes_tried", len(targets), "error", firstLine(lastErr))
	}
	return reached
}

// forgiveDial makes libp2p forget that a node could not be reached before. It would refuse to try again for a time that
// grows to minutes; but here a person waits for a call, or the node has its own pauses between attempts.
func (o *Peer) forgiveDial(n NodeID) {
	switch s := o.host.Network().(type) {
	case interface{ Backoff() *swarm.DialBackoff }:
		s.Backoff().Clear(n)
	case interface{ ForgiveDial(NodeID) }: // a simulated network
		s.ForgiveDial(n)
	}
}

// meet connects to a node and puts it into the routing table if it answers.
func (o *Peer) meet(ctx context.Context, ai peer.AddrInfo) error {
	if err := o.host.Connect(direct(ctx), ai); err != nil {
		return err
	}
	if o.dht.RoutingTable().Find(ai.ID) != "" {
		return nil
	}
	if _, err := o.messenger.GetClosestPeers(ctx, ai.ID, o.host.ID()); err != nil {
		return err
	}
	o.suspects.remove(ai.ID)
	o.upkeep.heard(ai.ID)
	return nil
}

// remembered gives the nodes met in earlier runs and since.
func (j *joiner) remembered() []peer.AddrInfo {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.met)
}

// gather makes one entry of several for the same node.
func gather(list []peer.AddrInfo) []peer.AddrInfo {
	var out []peer.AddrInfo
	at := map[NodeID]int{}
	for _, ai := range list {
		if i, ok := at[ai.ID]; ok {
			out[i].Addrs = append(slices.Clip(out[i].Addrs), ai.Addrs...)
			continue
		}
		at[ai.ID] = len(out)
		out = append(out, ai)
	}
	return out
}

// startLAN begins to look for members by mDNS (RFC 6762) under a service name of this overlay's own.
func (j *joiner) startLAN() error {
	h := j.o.doc.RootHash()
	j.lan = mdns.NewMdnsService(j.o.host, fmt.Sprintf("_p2psip-%x._udp", h[:4]), j)
	return j.lan.Start()
}

// HandlePeerFound is called by mDNS. Anybody in the local network can make it be called, so it only notes the address.
func (j *joiner) HandlePeerFound(ai peer.AddrInfo) {
	if ai.ID == j.o.host.ID() || ai.ID.Validate() != nil || len(ai.Addrs) == 0 {
		return
	}
	ai.Addrs = boundAddrs(ai.Addrs)
	j.o.host.Peerstore().AddAddrs(ai.ID, ai.Addrs, peerstore.TempAddrTTL)
	j.mu.Lock()
	j.remember(ai)
	j.mu.Unlock()
	j.lookAgain()
}

// lookAgain has the joiner look at the state of things.
func (j *joiner) lookAgain() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// remember puts a node first in the list of those met; j.mu is held.
func (j *joiner) remember(ai peer.AddrInfo) {
	list := []peer.AddrInfo{ai}
	for _, old := range j.met {
		if old.ID != ai.ID && len(list) < maxRemembered {
			list = append(list, old)
		}
	}
	j.met = list
}

// load reads the file of peers. A damaged one is no reason not to start.
func (j *joiner) load() error {
	if j.file == "" {
		return nil
	}
	b, err := datadir.ReadFile(j.file, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var addrs []string
	if err := json.Unmarshal(b, &addrs); err != nil {
		j.o.log.Warn("the file of peers is damaged and will be written anew", "file", j.file, "error", err)
		return nil
	}
	list, err := ParseBootstrap(addrs)
	if err != nil {
		j.o.log.Warn("the file of peers is damaged and will be written anew", "file", j.file, "error", err)
		return nil
	}
	for _, ai := range list {
		if ai.ID != j.o.host.ID() && len(j.met) < maxRemembered {
			j.met = append(j.met, ai)
		}
	}
	return nil
}

// save writes down the nodes connected at present, after them those met before.
func (j *joiner) save() {
	j.mu.Lock()
	for _, p := range j.o.dht.RoutingTable().ListPeers() {
		if j.o.host.Network().Connectedness(p) == network.Connected {
			if ai := j.o.host.Peerstore().PeerInfo(p); len(ai.Addrs) > 0 {
				ai.Addrs = boundAddrs(ai.Addrs)
				j.remember(ai)
			}
		}
	}
	var addrs []string
	for _, ai := range j.met {
		for _, a := range ai.Addrs {
			addrs = append(addrs, a.String()+"/p2p/"+ai.ID.String())
		}
	}
	j.mu.Unlock()
	if j.file == "" || len(addrs) == 0 {
		return
	}
	b, err := json.MarshalIndent(addrs, "", " ")
	if err == nil {
		err = datadir.WriteFile(j.file, b, 0o600)
	}
	if err != nil {
		j.o.log.Warn("nodes met cannot be remembered", "error", err)
	}
}

func (j *joiner) close() error {
	j.save()
	if j.lan != nil {
		return j.lan.Close()
	}
	return nil
}
