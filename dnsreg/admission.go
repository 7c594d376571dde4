package dnsreg

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"p2psip/overlay"
)

// Policy says who may stand in the zone. Under all of them a peer has shown a credential that permits the role, has public
// addresses, and is alive as seen from the registrar.
type Policy string

// The policies.
const (
	Certified Policy = "certified" // whoever the overlay's root has given the role
	Allowlist Policy = "allowlist" // of those, the nodes that the operator names
	Quorum    Policy = "quorum"    // of those, the ones that members in several other networks have reached
	Open      Policy = "open"      // as certified, for roots that give the role to everybody: with narrower limits
)

// Policies gives all of them.
func Policies() []Policy { return []Policy{Certified, Allowlist, Quorum, Open} }

// Limits bound how fast the zone grows, and at whose wish. A zero field means its default, which for Open is half.
type Limits struct {
	PerGroup   int // peers of one address group (GroupOf) at a time: 4
	MemberHour int // times that one member is let in within an hour: 6
	GroupHour  int // times that peers of one address group are let in within an hour: 8
	Hour       int // times that anybody is let in within an hour: 120
}

func (l Limits) withDefaults(p Policy) Limits {
	part := 1
	if p == Open {
		part = 2
	}
	set := func(at *int, v int) {
		if *at <= 0 {
			*at = v / part
		}
	}
	set(&l.PerGroup, 4)
	set(&l.MemberHour, 6)
	set(&l.GroupHour, 8)
	set(&l.Hour, 120)
	return l
}

// AdmissionConfig says who is let in.
type AdmissionConfig struct {
	Policy Policy           // "" is Certified
	Allow  []overlay.NodeID // of Allowlist
	Deny   []overlay.NodeID // barred by the operator, under every policy
	// Override are networks that count as public, for closed overlays and tests.
	Override []netip.Prefix
	Votes    int // of Quorum: votes of different networks, 2
	Limits   Limits
	Logger   *slog.Logger
}

// Validate says what is wrong with a configuration.
func (c AdmissionConfig) Validate() error {
	switch {
	case c.Policy != "" && !slices.Contains(Policies(), c.Policy):
		return fmt.Errorf("unknown policy %q; the policies are certified, allowlist, quorum and open", c.Policy)
	case c.Policy == Allowlist && len(c.Allow) == 0:
		return errors.New("the policy allowlist with nobody on the list lets nobody in")
	case c.Policy != Allowlist && len(c.Allow) > 0:
		return fmt.Errorf("a list of allowed nodes is for the policy allowlist, and this is %s", cmp.Or(c.Policy, Certified))
	case c.Votes < 0 || c.Votes > maxVotes:
		return fmt.Errorf("%d votes: 1 to %d can be asked for", c.Votes, maxVotes)
	}
	return nil
}

// Bounds of an Admission.
const (
	defaultVotes = 2
	maxVotes     = 8
	// maxCandidates is how many peers are remembered; those in the zone stay, of the others who comes later has to wait.
	maxCandidates = 512
	// voteFor is how long a vote counts.
	voteFor = 2 * time.Hour
	// logBurst lines about peers that are not let in are written at once, and one every logEvery after that.
	logBurst = 20
	logEvery = 30 * time.Second
)

// Candidate is a peer that is advertised.
type Candidate struct {
	Peer
	Expires time.Time // of the advertisement
}

// Vote is one member's word that it has reached a peer.
type Vote struct {
	By    overlay.NodeID
	Group string // the network it tried from; of each network one vote counts
	At    time.Time
}

// Decision says whether a peer is let in, and why.
type Decision struct {
	Node   overlay.NodeID
	Host   string // its label in the zone
	In     bool
	Reason string
	Since  time.Time // In has been so since then
}

// Health is what probes say of a peer.
type Health struct {
	State  State
	Detail string     // of the last failure
	Alive  []Endpoint // those that answer
}

// State is whether a peer, or one of its endpoints, answers.
type State uint8

// The states.
const (
	Unknown State = iota // not found out yet
	Alive
	Dead
)

// Evidence is what is known of candidates besides what they say.
type Evidence interface {
	Health(overlay.NodeID) Health
	Votes(overlay.NodeID) []Vote
}

// member is what is remembered of a peer.
type member struct {
	Decision
	told  string      // the reason as it was logged
	added []time.Time // when it was let in, of the last hour
}

// Admission decides who is let in. It keeps no time and starts nothing: the moment is passed in. It is not for concurrent use.
type Admission struct {
	c   AdmissionConfig
	l   Limits
	log *slog.Logger

	m      map[overlay.NodeID]*member
	groups map[netip.Prefix][]time.Time // when peers of a group were let in, of the last hour
	added  []time.Time                  // when anybody was

	tokens  float64 // for lines about peers that are not let in
	filled  time.Time
	untold  int
	refused uint64
}

// NewAdmission makes an Admission that has let nobody in.
func NewAdmission(c AdmissionConfig) (*Admission, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Policy, c.Votes = cmp.Or(c.Policy, Certified), cmp.Or(c.Votes, defaultVotes)
	return &Admission{c: c, l: c.Limits.withDefaults(c.Policy), log: c.Logger, m: map[overlay.NodeID]*member{},
		groups: map[netip.Prefix][]time.Time{}, tokens: logBurst}, nil
}

// Reconfigure changes who is let in from the next Judge on; those who are in and may not be any more go.
func (a *Admission) Reconfigure(c AdmissionConfig) error {
	c.Logger = cmp.Or(c.Logger, a.log)
	b, err := NewAdmission(c)
	if err == nil {
		a.c, a.l, a.log = b.c, b.l, b.log
	}
	return err
}

// Vet says why a candidate is not even tried: its address would have the registrar knock at strange doors. "" if it is to be
// probed.
func (a *Admission) Vet(c Candidate) string {
	if slices.Contains(a.c.Deny, c.Node) {
		return "the operator has barred it"
	}
	if a.c.Policy == Allowlist && !slices.Contains(a.c.Allow, c.Node) {
		return "it is not on the list of allowed nodes"
	}
	if len(c.Endpoints) == 0 {
		return "it advertises no address for SIP from outside"
	}
	if len(c.Endpoints) > maxEndpoints {
		return fmt.Sprintf("it advertises %d addresses; %d are allowed", len(c.Endpoints), maxEndpoints)
	}
	for _, e := range c.Endpoints {
		at := e.Addr.Addr().Unmap()
		if why := NotPublic(at); why != "" && !slices.ContainsFunc(a.c.Override, func(p netip.Prefix) bool { return p.Contains(at) }) {
			return fmt.Sprintf("its address %s is %s", at, why)
		}
	}
	return ""
}

// Was tells that peers were in the zone when the registrar started: they are let in again without counting as new, as long as
// nothing speaks against them. It is for an Admission that has not judged yet.
func (a *Admission) Was(nodes []overlay.NodeID, now time.Time) {
	for _, n := range nodes {
		a.m[n] = &member{Decision: Decision{Node: n, Host: HostLabel(n), In: true, Reason: wasInZone, Since: now}, told: wasInZone}
	}
}

const wasInZone = "it was in the zone already"

// Judge decides about everybody that is advertised now. Who is not among the candidates is out. The decisions are in the order of
// node identifiers.
func (a *Admission) Judge(candidates []Candidate, ev Evidence, now time.Time) []Decision {
	a.forget(now)
	a.tellUntold(now)
	list := make([]Candidate, 0, len(candidates))
	seen := map[overlay.NodeID]bool{}
	for _, c := range candidates {
		if !seen[c.Node] {
			seen[c.Node] = true
			list = append(list, c)
		}
	}
	for n, m := range a.m {
		if !seen[n] {
			a.decide(m, false, "it is no longer advertised", now)
			if len(m.added) == 0 { // else coming and going would get around the limits
				delete(a.m, n)
			}
		}
	}
	// First those who are in, so that whoever goes makes room; then those who came first, as far as that can be told.
	slices.SortFunc(list, func(x, y Candidate) int {
		rank := func(c Candidate) int {
			if m := a.m[c.Node]; m == nil {
				return 2
			} else if !m.In {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(HostLabel(x.Node), HostLabel(y.Node)))
	})
	perGroup := map[netip.Prefix]int{}
	var out []Decision
	for _, c := range list {
		m := a.m[c.Node]
		if m == nil {
			if len(a.m) >= maxCandidates {
				a.refused++
				continue
			}
			m = &member{Decision: Decision{Node: c.Node, Host: HostLabel(c.Node), Since: now}}
			a.m[c.Node] = m
		}
		in, why := a.judge(m, c, ev, perGroup, now)
		if in {
			for _, g := range groupsOf(c.Endpoints) {
				perGroup[g]++
			}
			if !m.In {
				a.count(m, c, now)
			}
		}
		a.decide(m, in, why, now)
		out = append(out, m.Decision)
	}
	slices.SortFunc(out, func(x, y Decision) int { return cmp.Compare(x.Node, y.Node) })
	return out
}

// judge decides about one candidate.
func (a *Admission) judge(m *member, c Candidate, ev Evidence, perGroup map[netip.Prefix]int, now time.Time) (bool, string) {
	if why := a.Vet(c); why != "" {
		return false, why
	}
	if !now.Before(c.Expires) {
		return false, "its advertisement has expired"
	}
	h := ev.Health(c.Node)
	switch {
	case h.State == Dead:
		return false, "it does not answer: " + h.Detail
	case h.State == Unknown && m.In:
		return true, m.Reason // nothing speaks against it yet
	case h.State == Unknown:
		return false, "it is being probed"
	}
	why := "it is permitted the role, and answers"
	switch a.c.Policy {
	case Allowlist:
		why = "it is on the list of allowed nodes, and answers"
	case Quorum:
		n := networks(ev.Votes(c.Node), now)
		if n < a.c.Votes {
			return false, fmt.Sprintf("members of %d networks have reached it; %d are needed", n, a.c.Votes)
		}
		why = fmt.Sprintf("it answers, and members of %d networks have reached it", a.c.Votes)
	}
	for _, g := range groupsOf(c.Endpoints) {
		if perGroup[g] >= a.l.PerGroup {
			return false, fmt.Sprintf("%d peers of its network %s are in the zone already", perGroup[g], g)
		}
	}
	if m.In {
		return true, why
	}
	if n := len(m.added); n >= a.l.MemberHour {
		return false, fmt.Sprintf("it was let in %d times within an hour; again from %s on", n, m.added[n-a.l.MemberHour].Add(time.Hour).UTC().Format("15:04 MST"))
	}
	for _, g := range groupsOf(c.Endpoints) {
		if n := len(a.groups[g]); n >= a.l.GroupHour {
			return false, fmt.Sprintf("peers of its network %s were let in %d times within an hour", g, n)
		}
	}
	if n := len(a.added); n >= a.l.Hour {
		return false, fmt.Sprintf("peers were let in %d times within an hour; that is all this registrar does", n)
	}
	return true, why
}

// networks counts votes of different networks.
func networks(votes []Vote, now time.Time) int {
	seen := map[string]bool{}
	for _, v := range votes {
		if now.Sub(v.At) < voteFor && v.Group != "" {
			seen[v.Group] = true
		}
	}
	return len(seen)
}

// count notes that a peer is let in.
func (a *Admission) count(m *member, c Candidate, now time.Time) {
	m.added = append(m.added, now)
	for _, g := range groupsOf(c.Endpoints) {
		a.groups[g] = append(a.groups[g], now)
	}
	a.added = append(a.added, now)
}

// forget drops what is older than an hour.
func (a *Admission) forget(now time.Time) {
	old := func(t time.Time) bool { return now.Sub(t) >= time.Hour }
	for _, m := range a.m {
		m.added = slices.DeleteFunc(m.added, old)
	}
	for g, l := range a.groups {
		if l = slices.DeleteFunc(l, old); len(l) == 0 {
			delete(a.groups, g)
		} else {
			a.groups[g] = l
		}
	}
	a.added = slices.DeleteFunc(a.added, old)
}

// decide notes a decision, and writes a line when it, or its reason, is another one than before. What gets in and out is
// bounded by the limits; lines about those who do not get in are bounded here.
func (a *Admission) decide(m *member, in bool, why string, now time.Time) {
	changed := m.In != in
	if changed {
		m.Since = now
	}
	m.In, m.Reason = in, why
	// A reason may count something; it is new when its words are.
	if kind := words(why); changed || m.told != kind {
		m.told = kind
		switch {
		case in && changed:
			a.log.Info("a proxy peer is let into the zone", "node", m.Node, "host", m.Host, "why", why)
		case changed:
			a.log.Info("a proxy peer is taken out of the zone", "node", m.Node, "host", m.Host, "why", why)
		case !in && a.mayTell(now):
			a.log.Info("a proxy peer is not let into the zone", "node", m.Node, "host", m.Host, "why", why)
		}
	}
}

// words gives the kind of a reason: what it says without numbers and details.
func words(why string) string {
	why, _, _ = strings.Cut(why, ":")
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '#'
		}
		return r
	}, why)
}

func (a *Admission) mayTell(now time.Time) bool {
	if !a.filled.IsZero() {
		a.tokens = min(logBurst, a.tokens+float64(now.Sub(a.filled))/float64(logEvery))
	}
	a.filled = now
	if a.tokens < 1 {
		a.untold++
		return false
	}
	a.tokens--
	return true
}

// tellUntold says how much was left out of the log, once there is room for a line again.
func (a *Admission) tellUntold(now time.Time) {
	n := a.untold
	if n == 0 || !a.mayTell(now) {
		a.untold = n
		return
	}
	a.untold = 0
	a.log.Info("more proxy peers are not let into the zone", "decisions", n)
}
