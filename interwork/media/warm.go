package media

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// warmer keeps a few bundles gathered, so that an INVITE need not wait for STUN and relays. Bundles that wait have their NAT
// bindings kept, and are dropped when the addresses of this machine change or an allocation is lost.
type warmer struct {
	m    *Manager
	want int

	mu      sync.Mutex
	until   time.Time // nothing is kept after that
	ready   []*bundle
	filling bool
	closed  bool
}

// heat says that there is a reason to keep candidates: a phone registered, or a call was made.
func (w *warmer) heat() {
	w.mu.Lock()
	w.until = time.Now().Add(warmAfter)
	w.mu.Unlock()
	w.fill()
}

// take gives a bundle that is still good, nil if there is none.
func (w *warmer) take() *bundle {
	w.heat()
	addrs := w.m.lookAgain()
	w.mu.Lock()
	var out *bundle
	var stale []*bundle
	for len(w.ready) > 0 && out == nil {
		b := w.ready[0]
		w.ready = w.ready[1:]
		if b.fresh(addrs) {
			out = b
		} else {
			stale = append(stale, b)
		}
	}
	w.mu.Unlock()
	for _, b := range stale {
		b.close()
	}
	if out != nil {
		w.fill()
	}
	return out
}

// fill gathers what is missing, in the background.
func (w *warmer) fill() {
	w.mu.Lock()
	missing := w.want - len(w.ready)
	if w.closed || w.filling || missing <= 0 || time.Now().After(w.until) {
		w.mu.Unlock()
		return
	}
	w.filling = true
	w.mu.Unlock()
	ok := w.m.background(func(ctx context.Context) {
		for range missing {
			gctx, cancel := context.WithTimeout(ctx, GatherTimeout)
			b, err := gather(gctx, &w.m.cfg, w.m.lookAgain())
			cancel()
			if err != nil {
				break
			}
			w.mu.Lock()
			if w.closed {
				w.mu.Unlock()
				b.close()
				break
			}
			w.ready = append(w.ready, b)
			w.mu.Unlock()
		}
		w.mu.Lock()
		w.filling = false
		w.mu.Unlock()
	})
	if !ok {
		w.mu.Lock()
		w.filling = false
		w.mu.Unlock()
	}
}

// tend drops what has gone stale and keeps the bindings of the rest. It is called now and then.
func (w *warmer) tend(addrs []netip.Addr) {
	now := time.Now()
	var stale, old []*bundle
	w.mu.Lock()
	keep := w.ready[:0:0]
	for _, b := range w.ready {
		switch {
		case now.After(w.until) || !b.fresh(addrs):
			stale = append(stale, b)
		case now.Sub(b.refreshed) > warmRefresh:
			old = append(old, b)
		default:
			keep = append(keep, b)
		}
	}
	w.ready = keep
	w.mu.Unlock()
	for _, b := range stale {
		b.close()
	}
	if len(old) == 0 {
		w.fill()
		return
	}
	// A bundle is nobody else's while it is refreshed.
	ok := w.m.background(func(ctx context.Context) {
		for _, b := range old {
			b.refresh(ctx)
			w.mu.Lock()
			closed := w.closed
			if !closed {
				w.ready = append(w.ready, b)
			}
			w.mu.Unlock()
			if closed {
				b.close()
			}
		}
	})
	if !ok {
		for _, b := range old {
			b.close()
		}
	}
}

func (w *warmer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ready)
}

func (w *warmer) close() {
	w.mu.Lock()
	w.closed = true
	ready := w.ready
	w.ready = nil
	w.mu.Unlock()
	for _, b := range ready {
		b.close()
	}
}

// refresh asks STUN servers once more, which keeps the bindings of NATs and notices where they have changed.
func (b *bundle) refresh(ctx context.Context) {
	b.refreshed = time.Now()
	before := make([]netip.AddrPort, len(b.socks))
	for i, s := range b.socks {
		before[i], s.mapped = s.mapped, netip.AddrPort{}
	}
	hosts := slices.DeleteFunc(slices.Clone(b.socks), (*socket).relayed)
	b.reflect(ctx, hosts, b.servers)
	for i, s := range b.socks {
		if !s.mapped.IsValid() {
			s.mapped = before[i] // no answer is no news
		}
	}
}
