package dnsreg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"p2psip/overlay"
)

// Source tells who offers a role in the overlay; overlay.Peer does.
type Source interface {
	SurveyRole(ctx context.Context, r overlay.Role, turn int) (overlay.Survey, error)
}

var _ Source = (*overlay.Peer)(nil)

// Voter has other members try to reach a peer, for the policy Quorum.
type Voter interface {
	// Vote gives the votes of those who have reached it.
	Vote(ctx context.Context, peer Peer) ([]Vote, error)
}

// RegistrarConfig makes a Registrar. A zero duration means its default.
type RegistrarConfig struct {
	Records   Config
	Admission AdmissionConfig
	Probes    ProberConfig
	Source    Source
	Backend   Backend
	Voter     Voter  // for Quorum
	By        string // names this registrar to others, as in Updater

	Look     time.Duration // between surveys of the overlay: 10 s
	Check    time.Duration // between looks at the zone while nothing changes: 15 s
	Takeover time.Duration // until a registrar that has not done what there is to do counts as gone: 30 s
	Settle   time.Duration // at the start, until those found first are probed: 20 s
	// Hold is how long peers that answer stay in the zone while this registrar is cut off from the overlay: 1 h.
	Hold               time.Duration
	RetryMin, RetryMax time.Duration // pauses after an error of the zone's server: 1 s to 30 s

	Report func(Report) // is given the state after everything that changes it; must not block
	Logger *slog.Logger
	Now    func() time.Time
}

func (c RegistrarConfig) withDefaults() RegistrarConfig {
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{{&c.Look, 10 * time.Second}, {&c.Check, 15 * time.Second}, {&c.Takeover, 30 * time.Second}, {&c.Settle, 20 * time.Second}, {&c.Hold, time.Hour},
		{&c.RetryMin, time.Second}, {&c.RetryMax, 30 * time.Second}} {
		if *d.p <= 0 {
			*d.p = d.v
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Admission.Logger == nil {
		c.Admission.Logger = c.Logger
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Probes.OID = c.Records.OID
	return c
}

// Reasons for a registrar to leave a zone as it is.
var (
	// ErrStandby: another registrar holds the zone and is at work.
	ErrStandby = errors.New("another registrar keeps the zone")
	// errNotReady: it is not known yet who is there.
	errNotReady = errors.New("the overlay is being looked at")
)

const (
	// missing is how long, at the start, peers that are in the zone and have not been found are waited for.
	missing = time.Minute
	// maxAdverts bounds what is remembered of the overlay.
	maxAdverts = 4 * maxCandidates
	// maxPast is a race lost in a row, after which the registrar waits like after any other error.
	maxPast = 3
	// Votes are asked for one peer at a time, each peer's not more often than this.
	voteAgain = 2 * time.Minute
	voteTime  = 45 * time.Second
)

// Registrar keeps the public names of an overlay true. Make one with NewRegistrar; Run does the work.
type Registrar struct {
	c    RegistrarConfig
	log  *slog.Logger
	p    *Prober
	poke chan struct{} // capacity 1: the zone is to be looked at

	mu        sync.Mutex // guards all below
	adm       *Admission
	adverts   map[overlay.NodeID]overlay.Advert
	gone      map[overlay.NodeID]overlay.Advert // withdrawn
	votes     map[overlay.NodeID]*voting
	before    map[string]bool // host labels that were in the zone at the start and have not been seen yet
	looked    bool            // at the zone, or it was tried
	first     time.Time       // survey that told anything
	surveyed  time.Time       // last survey that told anything
	complete  bool
	alone     time.Time // cut off since
	ready     bool
	decisions []Decision
	lease     lease
	report    Report
}

// voting is what is known of others' attempts to reach a peer.
type voting struct {
	votes []Vote
	asked time.Time
	done  bool // asked, and answered
}

// Report is how a registrar stands.
type Report struct {
	At        time.Time
	Decisions []Decision // of everybody who is advertised
	Adverts   int
	Surveyed  time.Time // the overlay, last
	Voting    int       // peers that answer, and about whom nobody has voted yet, for Quorum
	Alone     bool      // it cannot be reached
	Ready     bool      // enough is known to change the zone
	Holder    string    // who keeps the zone; "" where nothing tells
	Standby   bool      // it is not this registrar
	Records   []dns.RR  // that should be in the zone, as far as this registrar sees
	Applied   time.Time // the zone was last as it should be
	Changes   int       // made to the zone
	Trouble   string    // what keeps the zone from being as it should be
}

// NewRegistrar makes a Registrar.
func NewRegistrar(c RegistrarConfig) (*Registrar, error) {
	c = c.withDefaults()
	if err := c.Records.Validate(); err != nil {
		return nil, err
	}
	if c.Admission.Policy == Quorum && c.Voter == nil {
		return nil, errors.New("the policy quorum needs other members to be asked")
	}
	adm, err := NewAdmission(c.Admission)
	if err != nil {
		return nil, err
	}
	if c.Source == nil || c.Backend == nil {
		return nil, errors.New("a registrar needs an overlay to look at and a zone to keep")
	}
	return &Registrar{c: c, log: c.Logger, adm: adm, p: NewProber(c.Probes), poke: make(chan struct{}, 1), adverts: map[overlay.NodeID]overlay.Advert{},
		gone: map[overlay.NodeID]overlay.Advert{}, votes: map[overlay.NodeID]*voting{}, lease: lease{me: c.By, takeover: c.Takeover}}, nil
}

// Reconfigure changes who is let in, while the registrar runs; those who may not be there any more leave the zone at once.
func (r *Registrar) Reconfigure(c AdmissionConfig) error {
	if c.Policy == Quorum && r.c.Voter == nil {
		return errors.New("the policy quorum needs other members to be asked")
	}
	r.mu.Lock()
	err := r.adm.Reconfigure(c)
	r.mu.Unlock()
	if err == nil {
		r.judge()
	}
	return err
}

// Report gives the state.
func (r *Registrar) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reportNow()
}

// reportNow gives the state; r.mu is held.
func (r *Registrar) reportNow() Report {
	o := r.report
	o.At, o.Decisions, o.Adverts, o.Surveyed, o.Alone, o.Ready = r.c.Now(), slices.Clone(r.decisions), len(r.adverts), r.surveyed, !r.alone.IsZero(), r.ready
	return o
}

func (r *Registrar) tell() {
	if r.c.Report != nil {
		r.c.Report(r.Report())
	}
}

// Run keeps the zone until ctx ends, whatever errors there are on the way. It leaves the zone as it is then: another registrar, or
// this one when it is started again, goes on from there.
func (r *Registrar) Run(ctx context.Context) {
	defer r.p.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	surveyed := make(chan struct{}, 1)
	wg.Go(func() { r.survey(ctx, surveyed) })
	wg.Go(func() { r.keep(ctx) })
	if r.c.Voter != nil {
		wg.Go(func() { r.vote(ctx) })
	}
	tick := time.NewTicker(r.c.Look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-surveyed:
		case <-r.p.News():
		case <-tick.C:
		}
		r.judge()
	}
}

// survey looks at the overlay again and again.
func (r *Registrar) survey(ctx context.Context, done chan<- struct{}) {
	for turn := 0; ctx.Err() == nil; turn++ {
		s, err := r.c.Source.SurveyRole(ctx, overlay.RoleProxy, turn)
		if ctx.Err() != nil {
			return
		}
		r.take(s, err)
		select {
		case done <- struct{}{}:
		default:
		}
		wait(ctx, r.c.Look)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// take takes a survey in. A survey may miss somebody, so whoever is missing is there until its advertisement expires or it says
// that it has gone.
func (r *Registrar) take(s overlay.Survey, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.c.Now()
	if err != nil && !errors.Is(err, overlay.ErrNoRole) {
		if r.alone.IsZero() {
			r.alone = now
			r.log.Warn("the overlay cannot be looked at; peers that answer stay in the zone", "for", r.c.Hold, "error", err)
		}
		return
	}
	if !r.alone.IsZero() {
		r.log.Info("the overlay can be looked at again", "after", now.Sub(r.alone).Round(time.Second))
		r.alone = time.Time{}
	}
	if r.first.IsZero() {
		r.first = now
	}
	r.surveyed, r.complete = now, s.Complete
	for _, a := range s.Withdrawn {
		if a.Sequence > r.gone[a.Node].Sequence && len(r.gone) < maxAdverts {
			r.gone[a.Node] = a
		}
		if a.Sequence >= r.adverts[a.Node].Sequence {
			delete(r.adverts, a.Node)
		}
	}
	for _, a := range s.Offered {
		old, known := r.adverts[a.Node]
		if a.Sequence <= old.Sequence || a.Sequence <= r.gone[a.Node].Sequence || !known && len(r.adverts) >= maxAdverts {
			continue
		}
		r.adverts[a.Node] = a
	}
	maps.DeleteFunc(r.gone, func(_ overlay.NodeID, a overlay.Advert) bool { return !now.Before(a.Expires) })
	maps.DeleteFunc(r.adverts, func(_ overlay.NodeID, a overlay.Advert) bool { return !now.Before(a.Expires) })
}

// candidates gives those who are advertised; r.mu is held. While the registrar is cut off, advertisements last longer: that they
// are not renewed says nothing about those who have made them.
func (r *Registrar) candidates(now time.Time) (out []Candidate) {
	for _, a := range r.adverts {
		c := Candidate{Peer: Peer{Node: a.Node, Capacity: a.Capacity, Load: a.Load}, Expires: a.Expires}
		if !r.alone.IsZero() && a.Expires.After(r.alone) {
			c.Expires = a.Expires.Add(r.c.Hold)
		}
		for _, s := range a.Services {
			if e, err := ParseService(s); err == nil {
				c.Endpoints = append(c.Endpoints, e)
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(x, y Candidate) int { return strings.Compare(string(x.Node), string(y.Node)) })
	return out
}

// evidence implements Evidence; r.mu is held while it is used.
type evidence struct{ r *Registrar }

func (e evidence) Health(n overlay.NodeID) Health { return e.r.p.Health(n) }

func (e evidence) Votes(n overlay.NodeID) []Vote {
	if v := e.r.votes[n]; v != nil {
		return v.votes
	}
	return nil
}

// judge decides anew who is let in, has those probed who may be, and the zone looked at if anything has changed.
func (r *Registrar) judge() {
	r.mu.Lock()
	now := r.c.Now()
	list := r.candidates(now)
	var probed []Peer
	for _, c := range list {
		if host := HostLabel(c.Node); r.before[host] {
			delete(r.before, host)
			r.adm.Was([]overlay.NodeID{c.Node}, now)
		}
		if r.adm.Vet(c) == "" {
			probed = append(probed, c.Peer)
		}
	}
	for n := range r.gone {
		delete(r.before, HostLabel(n))
	}
	maps.DeleteFunc(r.votes, func(n overlay.NodeID, _ *voting) bool { _, there := r.adverts[n]; return !there })
	r.p.Watch(probed)
	r.report.Voting = 0
	for _, p := range probed {
		if v := r.votes[p.Node]; r.adm.c.Policy == Quorum && r.p.Health(p.Node).State == Alive && (v == nil || !v.done) {
			r.report.Voting++
		}
	}
	r.decisions = r.adm.Judge(list, evidence{r}, now)
	if !r.ready && r.looked && !r.surveyed.IsZero() {
		since := now.Sub(r.first)
		found := len(r.before) == 0 || since > missing
		r.ready = found && (r.p.Settled() && (r.complete || len(list) > 0) || since > r.c.Settle)
	}
	r.mu.Unlock()
	select {
	case r.poke <- struct{}{}:
	default:
	}
	r.tell()
}

// admitted gives those who are let in, with the endpoints that answer; r.mu is held.
func (r *Registrar) admitted(now time.Time) (out []Peer) {
	in := map[overlay.NodeID]bool{}
	for _, d := range r.decisions {
		in[d.Node] = d.In
	}
	for _, c := range r.candidates(now) {
		if !in[c.Node] {
			continue
		}
		p := c.Peer
		if h := r.p.Health(c.Node); h.State == Alive {
			p.Endpoints = slices.DeleteFunc(slices.Clone(p.Endpoints), func(e Endpoint) bool { return !slices.Contains(h.Alive, e) })
		}
		out = append(out, p)
	}
	return out
}

// keep makes the zone what it should be, again and again.
func (r *Registrar) keep(ctx context.Context) {
	var pause time.Duration // after an error
	past := 0
	said := ""
	for ctx.Err() == nil {
		c, err := r.c.Backend.Reconcile(ctx, r.want)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrRace) && past < maxPast {
			past++
			continue
		}
		past = 0
		r.told(c, err, &said)
		d := r.c.Check
		switch {
		case err == nil, errors.Is(err, ErrForeign), errors.Is(err, ErrStandby), errors.Is(err, errNotReady):
			pause = 0
		default:
			pause = min(max(2*pause, r.c.RetryMin), r.c.RetryMax)
			d = pause
		}
		t := time.NewTimer(d)
		poke := r.poke
		if pause > 0 {
			poke = nil // the server has time to recover
		}
		select {
		case <-t.C:
		case <-poke:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// told takes in how a look at the zone went, and writes a line when that is new.
func (r *Registrar) told(c Change, err error, said *string) {
	r.mu.Lock()
	now := r.c.Now()
	trouble := ""
	switch {
	case err == nil:
		r.report.Applied = now
	case errors.Is(err, ErrStandby), errors.Is(err, errNotReady):
	default:
		trouble = err.Error()
	}
	if n := len(c.Added) + len(c.Removed); n > 0 {
		r.report.Changes++
		r.log.Info("the zone was changed", "added", len(c.Added), "removed", len(c.Removed))
	}
	if err != nil && trouble != *said && trouble != "" {
		r.log.Warn("the zone is not as it should be; it is tried again", "error", err)
	} else if trouble == "" && *said != "" {
		r.log.Info("the zone's server can be worked with again")
	}
	*said = trouble
	r.report.Trouble = trouble
	r.looked = true
	if h := r.report.Holder; errors.Is(err, ErrStandby) && !r.report.Standby {
		r.log.Info("another registrar keeps the zone; this one stands by", "registrar", h)
	} else if err == nil && r.report.Standby && h == r.c.By {
		r.log.Info("this registrar keeps the zone from now on")
	}
	r.report.Standby = errors.Is(err, ErrStandby)
	r.mu.Unlock()
	r.tell()
}

// want says what should be in the zone, for what is in it.
func (r *Registrar) want(n Notes) ([]dns.RR, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.c.Now()
	r.report.Holder = n.By
	if !r.ready {
		hosts := hostsOf(n.Own)
		if r.before == nil {
			r.before = hosts
		}
		maps.DeleteFunc(r.before, func(h string, _ bool) bool { return !hosts[h] }) // another registrar has taken it out
		return nil, errNotReady
	}
	peers := r.admitted(now)
	set, err := Desired(r.c.Records, peers, Set{Weights: weightsOf(n.Own, peers)}, now)
	if err != nil {
		return nil, fmt.Errorf("the records: %w", err)
	}
	r.report.Records = set.Records
	add, remove := difference(n.Own, set.Records)
	if !r.lease.may(n, len(add)+len(remove) > 0, now) {
		return nil, ErrStandby
	}
	if len(add)+len(remove) > 0 {
		r.report.Holder = r.c.By
	}
	return set.Records, nil
}

// hostsOf gives the host labels that records of a registrar's stand at.
func hostsOf(own []dns.RR) map[string]bool {
	out := map[string]bool{}
	for _, rr := range own {
		if t := rr.Header().Rrtype; t == dns.TypeA || t == dns.TypeAAAA {
			out[labelOf(rr.Header().Name)] = true
		}
	}
	return out
}

// labelOf gives the host label of a peer's name, without what tells its addresses apart.
func labelOf(name string) string {
	label, _, _ := strings.Cut(name, ".")
	label, _, _ = strings.Cut(label, "-")
	return strings.ToLower(label)
}

// weightsOf gives the weights that peers have in the zone: what a registrar wants depends on them, and so two want the same.
func weightsOf(own []dns.RR, peers []Peer) map[overlay.NodeID]uint16 {
	at := map[string]uint16{}
	for _, rr := range own {
		if s, ok := rr.(*dns.SRV); ok {
			at[labelOf(s.Target)] = s.Weight
		}
	}
	out := map[overlay.NodeID]uint16{}
	for _, p := range peers {
		if w, ok := at[HostLabel(p.Node)]; ok {
			out[p.Node] = w
		}
	}
	return out
}

// vote has others try those who need their votes, one at a time.
func (r *Registrar) vote(ctx context.Context) {
	for ctx.Err() == nil {
		peer, ok := r.nextVote()
		if !ok {
			wait(ctx, r.c.Look/2)
			continue
		}
		once, cancel := context.WithTimeout(ctx, voteTime)
		votes, err := r.c.Voter.Vote(once, peer)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			r.log.Debug("no votes", "node", peer.Node, "error", err)
		}
		r.mu.Lock()
		if v := r.votes[peer.Node]; v != nil {
			v.done = true
			v.votes = append(slices.DeleteFunc(v.votes, func(o Vote) bool {
				return r.c.Now().Sub(o.At) > voteFor || slices.ContainsFunc(votes, func(n Vote) bool { return n.Group == o.Group })
			}), votes...)
			v.votes = v.votes[max(0, len(v.votes)-2*maxVotes):]
		}
		r.mu.Unlock()
		r.judge()
	}
}

// nextVote gives the peer that has waited longest for votes and needs them: too few, or half of their time is over.
func (r *Registrar) nextVote() (peer Peer, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.adm.c.Policy != Quorum {
		return Peer{}, false
	}
	now := r.c.Now()
	var oldest time.Time
	for _, c := range r.candidates(now) {
		v := r.votes[c.Node]
		if v == nil {
			v = &voting{}
			r.votes[c.Node] = v
		}
		if now.Sub(v.asked) < voteAgain || r.adm.Vet(c) != "" || r.p.Health(c.Node).State != Alive || networks(v.votes, now.Add(voteFor/2)) >= r.adm.c.Votes {
			continue
		}
		if !ok || v.asked.Before(oldest) {
			peer, ok, oldest = c.Peer, true, v.asked
		}
	}
	if ok {
		r.votes[peer.Node].asked = now
	}
	return peer, ok
}
