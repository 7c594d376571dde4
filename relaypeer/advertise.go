package relaypeer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"p2psip/overlay"
	"p2psip/relaypeer/credential"
)

// ErrNotPermitted: the node's credential does not permit it to be a relay peer.
var ErrNotPermitted = errors.New("the node's credential does not permit it to be a relay peer")

// role is this node's place among the relay peers of an overlay: it hands out credentials, has its addresses verified, and is
// advertised as long as one of them is good.
type role struct {
	s       *Server
	overlay Overlay
	dial    Dial
	group   func(netip.AddrPort) string
	asking  chan struct{}

	ctx  context.Context
	stop context.CancelFunc
	done chan struct{}
	once sync.Once
	err  error // of closing, written in once

	mu         sync.Mutex // guards all below
	reaches    []*reach
	offering   *overlay.Offering
	offerErr   error
	advertised []string // services of offering
	over       bool
	answering  sync.WaitGroup // Add only with mu held and over false
}

// Join has the members of an overlay served: who asks over a stream gets a credential, and the relay peer is advertised under
// the well-known key turn:OID as long as it can be reached. It ends with Drain or Close. dial is for looking at its own
// address; nil: net.Dialer's.
func (s *Server) Join(o Overlay, dial Dial) error {
	return s.join(o, dial, networkGroup)
}

func (s *Server) join(o Overlay, dial Dial, group func(netip.AddrPort) string) error {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	r := &role{s: s, overlay: o, dial: dial, group: group, asking: make(chan struct{}, maxAsking), done: make(chan struct{})}
	for _, n := range s.names {
		r.reaches = append(r.reaches, &reach{Service: n, pause: recheckMin, trouble: "it has not been verified yet"})
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	s.mu.Lock()
	if s.role != nil || s.phase != serving {
		s.mu.Unlock()
		r.stop()
		return errors.New("relay peer: joined twice, or after its end")
	}
	s.role = r
	s.mu.Unlock()
	o.HandleService(overlay.ServiceTURN, r.grant)
	go r.keep()
	return nil
}

// keep is the role's goroutine.
func (r *role) keep() {
	defer close(r.done)
	for r.ctx.Err() == nil {
		now := r.s.now()
		r.verify(r.ctx, now)
		r.publish()
		r.doubt(r.ctx, now)
		wait := max(r.nextDue().Sub(r.s.now()), time.Second)
		if r.refused() || r.untried() {
			wait = min(wait, recheckMin)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-r.ctx.Done():
		}
		t.Stop()
	}
}

// due gives the services whose time has come, and the earliest of the others.
func (r *role) due(now time.Time) (out []*reach) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.reaches {
		if !now.Before(v.next) {
			out = append(out, v)
		}
	}
	return out
}

func (r *role) nextDue() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.reaches[0].next
	for _, v := range r.reaches {
		if v.next.Before(next) {
			next = v.next
		}
	}
	return next
}

// settle notes what came of verifying a service. One that was good is given a second chance before it is withdrawn.
func (r *role) settle(v *reach, now time.Time, how string, confirmed []overlay.NodeID, err error) {
	if r.ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		v.good, v.trouble, v.failures, v.pause = how, "", 0, recheckMin
		if how != byInterface { // of those, doubt knows more
			v.confirmed = confirmed
		}
		v.next = now.Add(recheck)
		return
	}
	if v.failures++; v.good == "" || v.failures > 1 {
		if v.good != "" {
			r.s.log.Warn("a relay peer's address is no longer advertised", "address", v.Public, "transport", v.Transport, "reason", err)
		}
		v.good, v.confirmed, v.doubt = "", nil, ""
	}
	v.trouble = err.Error()
	if errors.Is(err, errNobody) {
		v.next = now.Add(awaitMembers)
		return
	}
	v.next = now.Add(v.pause)
	v.pause = min(2*v.pause, recheckMax)
}

// services gives the URIs that are advertised.
func (r *role) services() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.reaches {
		if v.good != "" && len(out) < overlay.MaxServices {
			out = append(out, v.uri())
		}
	}
	return out
}

func (v Service) uri() string {
	t := credential.TCP
	if v.Transport == UDP {
		t = credential.UDP
	}
	return credential.URI{Secure: v.Transport == TLS, Transport: t, Addr: v.Public}.String()
}

// publish advertises what is good, or takes the advertisement back when nothing is.
func (r *role) publish() {
	services := r.services()
	r.mu.Lock()
	o := r.offering
	r.mu.Unlock()
	switch {
	case len(services) > 0 && o == nil:
		o, err := r.overlay.Offer(overlay.RoleRelay, r.offer)
		if errors.Is(err, overlay.ErrNotEntitled) {
			err = fmt.Errorf("%w: %w", ErrNotPermitted, err)
		}
		r.mu.Lock()
		if err == nil {
			r.offering, r.advertised = o, services
		} else if r.offerErr == nil {
			r.s.log.Warn("the relay peer is not advertised", "error", err)
		}
		r.offerErr = err
		r.mu.Unlock()
	case len(services) == 0 && o != nil:
		_ = r.withdraw() // what could not be told runs out by itself
	case o != nil:
		r.mu.Lock()
		changed := !slices.Equal(r.advertised, services)
		r.advertised = services
		r.mu.Unlock()
		if changed {
			o.Update()
		}
	}
}

// refused says that there is something to advertise and the overlay has refused it.
func (r *role) refused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.offering == nil && r.offerErr != nil
}

func (r *role) withdraw() error {
	r.mu.Lock()
	o := r.offering
	r.offering = nil
	r.mu.Unlock()
	if o == nil {
		return nil
	}
	return o.Close()
}

// offer is what is advertised at this moment.
func (r *role) offer() overlay.Offer {
	return overlay.Offer{Services: r.services(), Capacity: uint32(r.s.limits.Allocations), Load: r.s.load()}
}

// load gives how much of what this relay peer can do is in use, in thousandths: of allocations, or of the bandwidth.
func (s *Server) load() uint16 {
	n := int64(s.Allocations()) * 1000 / int64(s.limits.Allocations)
	if s.limits.Rate > 0 {
		n = max(n, s.speed.Load()*1000/s.limits.Rate)
	}
	return uint16(min(n, 1000))
}

// close withdraws the advertisement and ends the role; nil is no role.
func (r *role) close() error {
	if r == nil {
		return nil
	}
	r.once.Do(func() {
		r.stop()
		<-r.done
		r.err = r.withdraw()
	})
	return r.err
}

// end has no credential asked for any more, and waits until those that are being asked for are answered; nil is no role.
func (r *role) end() {
	if r == nil {
		return
	}
	r.overlay.HandleService(overlay.ServiceTURN, nil)
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.answering.Wait()
}

// reachable gives copies of how the services stand.
func (r *role) reachable() []reach {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []reach
	for _, v := range r.reaches {
		c := *v
		c.confirmed = slices.Clone(v.confirmed)
		out = append(out, c)
	}
	return out
}
