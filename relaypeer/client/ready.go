package client

import (
	"errors"
	"slices"

	"p2psip/overlay"
)

// register counts a new allocation. From then on it is the pool that buries it.
func (p *Pool) register(a *Allocation) error {
	network := p.network()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.wg.Add(1)
	p.open[a] = network
	if r := p.relays[a.relay]; r != nil {
		r.open++
	}
	return nil
}

// made notes that an attempt at a relay peer has won an allocation.
func (p *Pool) made(r *relay, a *Allocation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Allocations++
	p.networks.worked(p.open[a], a.at.transport, p.now())
	r.worked()
	r.via, r.hint = a.at.transport, a.session.hint()
	if rtt := a.link.roundTrip(); rtt > 0 && a.at.transport == UDP {
		r.rtt, r.measure = rtt, p.now().Add(spread(measureEvery))
	}
}

// ended is told of every allocation that has ended, and has it given back.
func (p *Pool) ended(a *Allocation, err error) {
	p.mu.Lock()
	delete(p.open, a)
	p.ready = slices.DeleteFunc(p.ready, func(x *Allocation) bool { return x == a })
	if r := p.relays[a.relay]; r != nil {
		r.open--
	}
	p.mu.Unlock()
	// A connection that broke or an allocation that was forgotten says that something happened; whether the relay peer is
	// still there shows when it is asked next.
	if errors.Is(err, errNoAnswer) || errors.Is(err, errPortClosed) {
		p.failed(a.relay, err)
	}
	p.kick()
	go func() {
		defer p.wg.Done() // of register
		a.bury()
	}()
}

// takeReady gives up to n ready allocations at different relay peers. p.mu is held.
func (p *Pool) takeReady(n int) (out []*Allocation) {
	have := map[overlay.NodeID]bool{}
	rest := p.ready[:0:0]
	for _, a := range p.ready {
		if len(out) < n && !have[a.relay] {
			have[a.relay] = true
			out = append(out, a)
			continue
		}
		rest = append(rest, a)
	}
	p.ready = rest
	p.counts.Ready += uint64(len(out))
	return out
}

// sift takes those ready allocations out that are not to be handed out any more: all if nobody calls, and otherwise those
// that were not heard lately or belong to a network that this machine has left. p.mu is held.
func (p *Pool) sift(network string, idle bool) (drop []*Allocation) {
	rest := p.ready[:0:0]
	for _, a := range p.ready {
		if idle || !a.usable() || p.open[a] != network {
			drop = append(drop, a)
			continue
		}
		rest = append(rest, a)
	}
	p.ready = rest
	return drop
}

// room gives how many more ready allocations there should be at a relay peer. p.mu is held.
func (p *Pool) room(node overlay.NodeID) int {
	n := p.cfg.Ready
	for _, a := range p.ready {
		if a.relay == node {
			n--
		}
	}
	return n
}

// keepReady keeps an allocation for the next call if there is room for it, and gives it back otherwise.
func (p *Pool) keepReady(a *Allocation) {
	p.mu.Lock()
	keep := !p.closed && len(p.ready) < p.cfg.Ready*p.cfg.Want && p.room(a.relay) > 0 && p.now().Sub(p.used) < p.cfg.Idle
	if keep = keep && a.usable(); keep {
		p.ready = append(p.ready, a)
	}
	p.mu.Unlock()
	if !keep {
		_ = a.Close()
	}
}

// fill begins attempts for the ready allocations that are missing. p.mu is held.
func (p *Pool) fill() {
	without := map[overlay.NodeID]bool{}
	var groups []string
	for _, a := range p.ready {
		if p.room(a.relay) <= 0 {
			without[a.relay] = true
		}
		if g := addressGroup(a.at.addr.Addr()); g != "" {
			groups = append(groups, g)
		}
	}
	for len(p.ready)+p.filling < p.cfg.Ready*p.cfg.Want {
		for node, r := range p.relays {
			if r.filling >= p.room(node) {
				without[node] = true
			}
		}
		list := p.choose(without, groups)
		if len(list) == 0 {
			return
		}
		r := list[0]
		if p.try(r, func(x result) {
			p.mu.Lock()
			p.filling--
			r.filling--
			p.mu.Unlock()
			if x.a != nil {
				p.keepReady(x.a)
			}
			p.kick()
		}) != nil {
			return
		}
		p.filling++
		r.filling++
		groups = append(groups, r.groups(p.cfg.Permit)...)
	}
}
