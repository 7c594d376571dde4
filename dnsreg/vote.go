package dnsreg

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"p2psip/overlay"
)

// For the policy Quorum a registrar asks members, over a stream of the overlay each, whether they reach a proxy peer. Question and
// answer are a line of JSON:
//
//	{"node":"12D3KooW…"}
//	{"reached":true}   {"reached":false,"why":"udp 192.0.2.1:5060: no answer in time"}
//
// A member is told no addresses: it asks the proxy peer itself, by its signed word, what it offers, tries only public addresses, and
// no proxy peer often. So nobody can have it send anywhere. A vote counts for the network that the registrar's own connection to the
// member leads to; the member has no say in that either.

const (
	maxVoteLine = 512
	// maxTrying bounds the questions answered at a time, tryPause is how often one proxy peer is tried whoever asks, and tried how
	// many are remembered for that.
	maxTrying = 4
	tryPause  = 20 * time.Second
	maxTried  = 256
	tryTime   = 8 * time.Second
	// maxVotersAsked is how many members are asked about one proxy peer, votersAtOnce of them at a time.
	maxVotersAsked = 12
	votersAtOnce   = 4
)

type voteQuestion struct {
	Node string `json:"node"`
}

type voteAnswer struct {
	Reached bool   `json:"reached"`
	Why     string `json:"why,omitempty"`
}

// Members is what voting needs of the overlay; overlay.Peer has it.
type Members interface {
	AskRole(ctx context.Context, r overlay.Role, n overlay.NodeID) (overlay.Advert, error)
	Connected() []overlay.NodeID
	OpenService(ctx context.Context, s overlay.Service, n overlay.NodeID, addrs []string) (*overlay.Stream, error)
}

var _ Members = (*overlay.Peer)(nil)

// VoterConfig makes a Booth.
type VoterConfig struct {
	OID      overlay.ID
	Members  Members
	Override []netip.Prefix // networks that count as public
	Dial     Dial
	// Network gives the network that a member's vote counts for; nil: /16 of IPv4, /32 of IPv6.
	Network func(member overlay.NodeID, at netip.Addr) string
	Now     func() time.Time
}

// Booth is where members vote: it answers what others ask, and asks others. Make one with NewBooth, end it with Close.
type Booth struct {
	c      VoterConfig
	p      *Prober
	vet    *Admission
	slots  chan struct{}
	ctx    context.Context
	cancel context.CancelFunc

	mu   sync.Mutex // guards all below
	last map[overlay.NodeID]time.Time
	over bool
	wg   sync.WaitGroup
}

var _ Voter = (*Booth)(nil)

// NewBooth makes a Booth.
func NewBooth(c VoterConfig) (*Booth, error) {
	vet, err := NewAdmission(AdmissionConfig{Override: c.Override})
	if err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Network == nil {
		c.Network = func(_ overlay.NodeID, a netip.Addr) string {
			bits := 32
			if a = a.Unmap(); a.Is4() {
				bits = 16
			}
			p, err := a.Prefix(bits)
			if err != nil {
				return "" // over a third node: nobody knows where it is
			}
			return p.String()
		}
	}
	b := &Booth{c: c, vet: vet, p: NewProber(ProberConfig{OID: c.OID, Dial: c.Dial}), slots: make(chan struct{}, maxTrying), last: map[overlay.NodeID]time.Time{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b, nil
}

// Close ends what is under way and waits for it.
func (b *Booth) Close() {
	b.mu.Lock()
	b.over = true
	b.mu.Unlock()
	b.cancel()
	b.wg.Wait()
	b.p.Close()
}

// begin counts something under way, unless it is over.
func (b *Booth) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return false
	}
	b.wg.Add(1)
	return true
}

// Serve answers one question; it is made for overlay.HandleService.
func (b *Booth) Serve(st *overlay.Stream) {
	defer st.Close()
	if !b.begin() {
		return
	}
	defer b.wg.Done()
	defer func() { _ = recover() }() // costs this question
	defer context.AfterFunc(b.ctx, func() { st.Reset() })()
	_ = st.SetDeadline(time.Now().Add(2 * tryTime))
	q, err := readVoteLine[voteQuestion](st)
	if err != nil {
		return
	}
	var a voteAnswer
	if err := b.try(q.Node); err != nil {
		a.Why = clipped(err.Error())
	} else {
		a.Reached = true
	}
	if json.NewEncoder(st).Encode(a) == nil {
		_ = st.CloseWrite()
		_, _ = st.Stream.Read(make([]byte, 1)) // until the other side has it
	}
}

func clipped(s string) string { return s[:min(len(s), maxVoteLine/2)] }

// readVoteLine reads a line of JSON.
func readVoteLine[T any](r io.Reader) (v T, err error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxVoteLine)).ReadBytes('\n')
	if err != nil {
		return v, fmt.Errorf("reading a vote: %w", err)
	}
	return v, json.Unmarshal(line, &v)
}

// try tries a proxy peer.
func (b *Booth) try(node string) error {
	n, err := peer.Decode(node)
	if err != nil {
		return errors.New("no node")
	}
	if why := b.admit(n); why != "" {
		return errors.New(why)
	}
	defer func() { <-b.slots }()
	ctx, cancel := context.WithTimeout(b.ctx, tryTime)
	defer cancel()
	a, err := b.c.Members.AskRole(ctx, overlay.RoleProxy, n)
	if err != nil {
		return fmt.Errorf("it does not say that it is a proxy peer: %w", err)
	}
	c := Candidate{Peer: Peer{Node: n}, Expires: a.Expires}
	for _, s := range a.Services {
		if e, err := ParseService(s); err == nil {
			c.Endpoints = append(c.Endpoints, e)
		}
	}
	if why := b.vet.Vet(c); why != "" {
		return errors.New(why)
	}
	return b.p.Try(ctx, c.Peer)
}

// admit says why a proxy peer is not tried now; "" takes a slot.
func (b *Booth) admit(n overlay.NodeID) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.c.Now()
	if t, ok := b.last[n]; ok && now.Sub(t) < tryPause {
		return "it was tried a moment ago"
	}
	select {
	case b.slots <- struct{}{}:
	default:
		return "busy"
	}
	if len(b.last) >= maxTried {
		clear(b.last)
	}
	b.last[n] = now
	return ""
}

// Vote implements Voter: it asks members, in random order, until those of enough networks have reached the peer.
func (b *Booth) Vote(ctx context.Context, p Peer) ([]Vote, error) {
	if !b.begin() {
		return nil, errors.New("this node ends")
	}
	defer b.wg.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	members := b.c.Members.Connected()
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	var mu sync.Mutex
	votes := map[string]Vote{}
	var errs []error
	asked := 0
	for len(members) > 0 && asked < maxVotersAsked && len(votes) < maxVotes && ctx.Err() == nil {
		some := members[:min(len(members), votersAtOnce)]
		members = members[len(some):]
		var wg sync.WaitGroup
		for _, m := range some {
			if m == p.Node {
				continue // its own word is none
			}
			asked++
			wg.Go(func() {
				v, err := b.ask(ctx, m, p.Node)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", m, err))
				} else if v.Group != "" {
					votes[v.Group] = v
				}
			})
		}
		wg.Wait()
	}
	var out []Vote
	for _, v := range votes {
		out = append(out, v)
	}
	if len(out) == 0 && len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

// ask has one member try a peer.
func (b *Booth) ask(ctx context.Context, member, n overlay.NodeID) (Vote, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTime+2*time.Second)
	defer cancel()
	st, err := b.c.Members.OpenService(ctx, overlay.ServiceVote, member, nil)
	if err != nil {
		return Vote{}, err
	}
	defer st.Close()
	defer context.AfterFunc(ctx, func() { st.Reset() })()
	if err := json.NewEncoder(st).Encode(voteQuestion{n.String()}); err != nil {
		return Vote{}, err
	}
	a, err := readVoteLine[voteAnswer](st)
	switch {
	case err != nil:
		return Vote{}, err
	case !a.Reached:
		return Vote{}, fmt.Errorf("it does not reach the proxy peer: %.200q", a.Why)
	}
	return Vote{By: member, Group: b.c.Network(member, st.Remote()), At: b.c.Now()}, nil
}
