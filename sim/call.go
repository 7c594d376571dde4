package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"p2psip/interwork/phone"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
	"p2psip/sim/network"
	"p2psip/sim/result"
)

// settled is how long after a call nothing of it may be left in any node: longer than the answer to a BYE takes.
const settled = 5 * time.Second

// calls is what the run knows of its calls.
type calls struct {
	r *run

	mu       sync.Mutex
	byID     map[string]*call // guarded by mu: by Call-ID, those not over
	book     []*user          // guarded by mu: whoever has registered once, by index; people do not know who is at home
	number   uint64           // guarded by mu: calls so far
	port     uint16           // guarded by mu
	done     []*call          // guarded by mu: those over
	register []result.Sample  // guarded by mu
}

// call is one call, seen from both of its ends.
type call struct {
	number   uint64
	flow     string
	from, to party
	i        intention
	begun    time.Time
	atHome   bool // the callee's phone was registered when it began

	mu        sync.Mutex
	search    time.Time // guarded by mu, as all below: the caller's node begins to look the callee up (flow 5.1)
	found     time.Time // and has the first record
	connect   time.Time // it wants a stream to the callee's node
	connected time.Time
	branches  int // to the callee's node
	dead      int // of those, while it was gone
	rang      time.Time
	answered  time.Time
	over      time.Time
	last      phone.State // at the caller's
	left      bool        // the callee's phone went away meanwhile
	unheard   bool        // the far side's BYE never came
	unsaid    error       // a BYE of this side was not answered
	remains   bool        // something of it was left in a node

	reached bool          // the callee's phone has seen it
	closed  chan struct{} // closed when it is over there
}

// party is one end of a call, as it is at present.
type party interface {
	// present gives the phone while it is registered.
	present() *phone.Phone
	uri() string
	// keeps says whether the party's node still has something of a call.
	keeps(callID string) bool
}

func newCalls(r *run) *calls { return &calls{r: r, byID: map[string]*call{}} }

// sockets gives calls the sockets for sound, which stay unused.
func (k *calls) sockets(p *network.Place) func() (net.PacketConn, error) {
	return func() (net.PacketConn, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		for range 100 {
			k.port = (k.port + 1) % soundPorts
			if c, err := p.ListenPacket(soundPort + k.port); err == nil {
				return c, nil
			}
		}
		return nil, errors.New("no port is free for sound")
	}
}

// known enters a user into everybody's book.
func (k *calls) known(u *user) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !u.known {
		u.known = true
		at, _ := slices.BinarySearchFunc(k.book, u, compareUsers)
		k.book = slices.Insert(k.book, at, u)
	}
}

func (k *calls) registered(s result.Sample) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.register = append(k.register, s)
}

// step takes in where a call is. It is called under locks of the proxy's.
func (k *calls) step(n *node, s proxy.Step) {
	if s.Method != "INVITE" {
		return
	}
	k.mu.Lock()
	c := k.byID[s.CallID]
	k.mu.Unlock()
	if c == nil {
		return
	}
	dead := s.Kind == proxy.StepConnect && !k.r.isUp(s.Node)
	c.mu.Lock()
	defer c.mu.Unlock()
	set := func(t *time.Time) {
		if t.IsZero() {
			*t = s.Time
		}
	}
	direct := c.flow == flowOverlay && userOf(c.from).node == n
	there := c.goesTo(s.Node)
	switch s.Kind {
	case proxy.StepSearch:
		if direct {
			set(&c.search)
		}
	case proxy.StepFound:
		if direct {
			set(&c.found)
		}
	case proxy.StepConnect:
		if there {
			c.branches++
			if dead {
				c.dead++
			}
		}
		if direct && there {
			set(&c.connect)
		}
	case proxy.StepConnected:
		if direct && there && s.Err == nil {
			set(&c.connected)
		}
	}
}

// goesTo says whether the callee's phone is at that node.
func (c *call) goesTo(id overlay.NodeID) bool {
	u := userOf(c.to)
	return u != nil && u.node.id == id
}

// dial gives what has somebody who is at home call somebody who may be.
func (r *run) dial(flow string) func(d *rand.Rand) {
	return func(d *rand.Rand) {
		from, to := r.parties(d, flow)
		if from == nil {
			return
		}
		k := r.calls
		k.mu.Lock()
		k.number++
		c := &call{number: k.number, flow: flow, from: from, to: to, closed: make(chan struct{})}
		k.mu.Unlock()
		c.i = intend(rand.New(rand.NewPCG(r.s.Seed, 0xca11<<32|c.number)), r.s.Talk)
		r.start(func() { k.converse(c) })
	}
}

// converse is the caller's part. It ends when the call is over at both ends.
func (k *calls) converse(c *call) {
	r := k.r
	from, to := c.from.present(), c.to.present()
	if from == nil {
		return // has just left
	}
	c.begun, c.atHome = time.Now(), to != nil
	pc, err := from.Call(context.Background(), c.to.uri())
	if err != nil {
		return // the phone has just been closed
	}
	k.mu.Lock()
	k.byID[pc.ID()] = c
	k.mu.Unlock()
	complete := k.caller(c, pc)
	if complete && c.reachedPhone() {
		complete = r.await(c.closed, silence+goodbye)
		if !complete && r.ctx.Err() == nil { // it rings or talks there for ever
			c.set(func() { c.remains = true })
			complete = true
		}
	}
	if complete {
		complete = r.sleep(settled)
	}
	left, gone := c.to.present() != to, c.from.present() != from
	if complete && !left && (c.from.keeps(pc.ID()) || c.to.keeps(pc.ID())) {
		c.set(func() { c.remains = true })
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.byID, pc.ID())
	if complete && !gone { // else nobody was there to hear how it went
		c.set(func() { c.left = left && to != nil })
		k.done = append(k.done, c)
	}
}

// goodbye is how long a BYE may go unanswered.
const goodbye = 32 * time.Second

func (c *call) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *call) reachedPhone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reached
}

// await waits for a channel to be closed, for d at most.
func (r *run) await(ch <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ch:
		return true
	case <-t.C:
		return false
	case <-r.ctx.Done():
		return false
	}
}

// caller does what the caller intends until the call is over; false if the run ended before.
func (k *calls) caller(c *call, pc *phone.Call) bool {
	states := pc.States()
	var timer *time.Timer
	var then func()
	after := func(d time.Duration, f func()) {
		if timer != nil {
			timer.Stop()
		}
		timer, then = time.NewTimer(d), f
	}
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	for {
		var due <-chan time.Time
		if timer != nil {
			due = timer.C
		}
		select {
		case <-k.r.ctx.Done():
			return false
		case <-due:
			timer = nil
			then()
		case st, ok := <-states:
			if !ok {
				return true
			}
			now := time.Now()
			c.mu.Lock()
			switch st.Kind {
			case phone.Ringing:
				c.rang = now
				if c.i.plan == unanswered || c.i.plan == cancelled {
					after(c.i.ring, pc.Cancel)
				}
			case phone.Answered:
				c.answered = now
				if c.rang.IsZero() {
					c.rang = now
				}
				k.hangUp(c, pc, c.i.callerLeaves, after)
			case phone.Failed, phone.Ended:
				c.over, c.last = now, st
			}
			c.mu.Unlock()
		}
	}
}

// hangUp sets when one side hangs up: at the end of the talk, or when it has heard nothing for a while after the other
// ought to have done so. c.mu is held.
func (k *calls) hangUp(c *call, pc *phone.Call, leaves bool, after func(time.Duration, func())) {
	wait := c.i.talk
	if !leaves {
		wait += silence
	}
	after(wait, func() {
		err := pc.Hangup(k.r.ctx)
		c.set(func() {
			if !leaves {
				c.unheard = true
			} else if c.unsaid == nil {
				c.unsaid = err
			}
		})
	})
}

// incoming takes a call at the callee's phone. It must not block.
func (k *calls) incoming(pc *phone.Call) {
	k.mu.Lock()
	c := k.byID[pc.ID()]
	k.mu.Unlock()
	if c == nil {
		_ = pc.Reject(480)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reached { // by another branch
		_ = pc.Reject(482)
		return
	}
	c.reached = true
	k.r.start(func() {
		k.callee(c, pc)
		close(c.closed)
	})
}

// callee does what the callee intends until the call is over.
func (k *calls) callee(c *call, pc *phone.Call) {
	if c.i.plan == busy {
		_ = pc.Reject(486)
		return
	}
	if pc.Ring() != nil {
		return
	}
	states := pc.States()
	var timer *time.Timer
	var then func()
	after := func(d time.Duration, f func()) { timer, then = time.NewTimer(d), f }
	if c.i.plan == answered {
		after(c.i.ring, func() { _ = pc.Answer() })
	}
	for {
		var due <-chan time.Time
		if timer != nil {
			due = timer.C
		}
		select {
		case <-k.r.ctx.Done():
			return
		case <-due:
			timer = nil
			then()
		case st, ok := <-states:
			if !ok {
				if timer != nil {
					timer.Stop()
				}
				return
			}
			if st.Kind == phone.Answered {
				c.mu.Lock()
				k.hangUp(c, pc, !c.i.callerLeaves, after)
				c.mu.Unlock()
			}
		}
	}
}
