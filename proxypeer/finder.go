package proxypeer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

// Finder knows proxy peers for a node that sends something out of the overlay (draft §3.3.1, §5.2 steps 5 and 6). It keeps to
// one as long as that one serves, so that what belongs together goes one way, and has others at hand.
type Finder struct {
	o   Overlay
	log *slog.Logger
	oid overlay.ID

	mu     sync.Mutex // guards all below
	list   []proxy.Target
	got    time.Time // when list was found
	asking bool
	closed bool

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Overlay finds roles; overlay.Peer does.
type Overlay interface {
	Find(ctx context.Context, r overlay.Role, n int) ([]overlay.Advert, error)
	Failed(r overlay.Role, n overlay.NodeID)
}

var (
	_ proxy.ProxyPeers = (*Finder)(nil)
	_ Overlay          = (*overlay.Peer)(nil)
)

const (
	// wanted is how many proxy peers are kept at hand: one, and what replaces it when it dies in the middle of a call.
	wanted = 3
	// fresh is how long they are used without looking whether there are better ones; less than an advertisement lasts.
	fresh = 2 * time.Minute
	// few is how long they are used without looking for more, where there are fewer than wanted.
	few = 20 * time.Second
	// stale is how long they are used at all.
	stale = 10 * time.Minute
)

// NewFinder makes a Finder. Close it when nothing asks any more.
func NewFinder(oid overlay.ID, o Overlay, log *slog.Logger) *Finder {
	f := &Finder{oid: oid, o: o, log: log}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// Warm implements proxy.ProxyPeers. What is no longer fresh is renewed in the background.
func (f *Finder) Warm() []proxy.Target {
	f.mu.Lock()
	defer f.mu.Unlock()
	age := time.Since(f.got)
	if age > stale {
		return nil
	}
	if age > fresh || len(f.list) < wanted && age > few {
		f.renew()
	}
	return slices.Clone(f.list)
}

// renew asks the overlay in the background, unless that is going on. f.mu is held.
func (f *Finder) renew() {
	if f.asking || f.closed {
		return
	}
	f.asking = true
	f.wg.Go(func() {
		_, _ = f.ask(f.ctx)
	})
}

// Find implements proxy.ProxyPeers.
func (f *Finder) Find(ctx context.Context) ([]proxy.Target, error) {
	if list := f.Warm(); len(list) > 0 {
		return list, nil
	}
	return f.ask(ctx)
}

// Prepare looks for proxy peers before they are needed, and again until there are as many as wanted or ctx ends.
func (f *Finder) Prepare(ctx context.Context) {
	for wait := 5 * time.Second; ctx.Err() == nil; wait = min(2*wait, 5*time.Minute) {
		if list, err := f.ask(ctx); err == nil && len(list) >= wanted {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// ask searches the overlay, and puts in front what is in use and still there.
func (f *Finder) ask(ctx context.Context) ([]proxy.Target, error) {
	found, err := f.o.Find(ctx, overlay.RoleProxy, wanted)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asking = false
	switch {
	case errors.Is(err, overlay.ErrNoRole):
		f.list = nil
		return nil, &proxy.Refusal{Status: 404, Reason: "Not Found", Warning: "no proxy peer of " + string(f.oid) + " is there to leave the overlay through"}
	case err != nil:
		return nil, err
	}
	list := make([]proxy.Target, 0, len(found))
	for _, a := range found {
		list = append(list, proxy.Target{Node: a.Node, Addrs: a.Addrs})
	}
	if len(f.list) > 0 {
		inUse := f.list[0].Node
		if i := slices.IndexFunc(list, func(t proxy.Target) bool { return t.Node == inUse }); i > 0 {
			list[0], list[i] = list[i], list[0]
		}
	}
	f.list, f.got = list, time.Now()
	return slices.Clone(list), nil
}

// Failed implements proxy.ProxyPeers.
func (f *Finder) Failed(node overlay.NodeID) {
	f.log.Info("a proxy peer does not serve; another one is used", "node", node)
	f.o.Failed(overlay.RoleProxy, node)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = slices.DeleteFunc(f.list, func(t proxy.Target) bool { return t.Node == node })
	f.renew() // before the next one fails
}

// Known gives the proxy peers at hand, the one in use first.
func (f *Finder) Known() []overlay.NodeID {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []overlay.NodeID
	for _, t := range f.list {
		out = append(out, t.Node)
	}
	return out
}

// Close ends what runs in the background and waits for it.
func (f *Finder) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.stop()
	f.wg.Wait()
}
