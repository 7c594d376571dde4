package locate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/miekg/dns"
)

const (
	// DefaultTimeout ends a Locate, which gives what it has then: a caller who hears nothing hangs up.
	DefaultTimeout = 5 * time.Second

	// DefaultPatience is how much longer a Locate goes on for further targets when it has one.
	DefaultPatience = time.Second

	// DefaultParallel is how many questions of one Locate are under way at a time.
	DefaultParallel = 8

	// MaxTargets is how many targets a Locate gives at most. At a few seconds for each, nobody waits for more.
	MaxTargets = 16

	// MaxQuestions is how many questions one Locate may put to its Resolver.
	MaxQuestions = 48

	// maxServices is how many services of one domain are looked into; NAPTR records can name many.
	maxServices = 6

	// maxAddresses is how many addresses of one host, in either family, are taken.
	maxAddresses = 8
)

// Family says which addresses are wanted and which come first.
type Family uint8

const (
	PreferIPv6 Family = iota // both, IPv6 first (RFC 8305 §4)
	PreferIPv4               // both, IPv4 first
	OnlyIPv6
	OnlyIPv4
)

// types are the record types to ask for, most preferred first.
func (f Family) types() []uint16 {
	switch f {
	case PreferIPv4:
		return []uint16{dns.TypeA, dns.TypeAAAA}
	case OnlyIPv6:
		return []uint16{dns.TypeAAAA}
	case OnlyIPv4:
		return []uint16{dns.TypeA}
	}
	return []uint16{dns.TypeAAAA, dns.TypeA}
}

// Config sets up a Locator.
type Config struct {
	// Resolver answers the questions. Without one only numeric hosts can be located.
	Resolver *Resolver

	// Transports are those this node speaks, most preferred first; that order decides where the domain expresses no
	// preference of its own. Default: UDP, TCP, TLS.
	Transports []string

	Family Family

	// Permit says whether a target may have this address; nil permits all that can be one host's. See Public.
	Permit func(netip.Addr) bool

	Timeout  time.Duration // default DefaultTimeout
	Patience time.Duration // default DefaultPatience
	Parallel int           // default DefaultParallel; 1 asks one question at a time, in an order that never varies

	Random *rand.Rand       // draws by weight; the Locator's from then on. Default: the runtime's chance
	Now    func() time.Time // default time.Now
}

// Validate says what is wrong with c.
func (c *Config) Validate() error {
	for i, t := range c.Transports {
		if t != UDP && t != TCP && t != TLS {
			return fmt.Errorf("transport %q: want %s, %s or %s", t, UDP, TCP, TLS)
		}
		if slices.Contains(c.Transports[:i], t) {
			return fmt.Errorf("transport %s is named twice", t)
		}
	}
	if c.Family > OnlyIPv4 {
		return fmt.Errorf("family %d is none", c.Family)
	}
	if c.Timeout < 0 || c.Patience < 0 || c.Parallel < 0 {
		return errors.New("locator: durations and counts cannot be negative")
	}
	return nil
}

// Locator finds servers. It is safe for concurrent use and has nothing to close.
type Locator struct {
	resolver   *Resolver
	transports []string
	family     Family
	permit     func(netip.Addr) bool
	timeout    time.Duration
	patience   time.Duration
	parallel   int
	now        func() time.Time
	failures   *failures

	randomMu sync.Mutex
	random   *rand.Rand // guarded by randomMu; nil: the runtime's
}

// New makes a Locator.
func New(c Config) (*Locator, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	l := &Locator{
		resolver: c.Resolver, transports: slices.Clone(c.Transports), family: c.Family, permit: c.Permit, random: c.Random, now: c.Now,
		timeout: either(c.Timeout, DefaultTimeout), patience: either(c.Patience, DefaultPatience), parallel: either(c.Parallel, DefaultParallel),
		failures: newFailures(),
	}
	if len(l.transports) == 0 {
		l.transports = []string{UDP, TCP, TLS}
	}
	if l.now == nil {
		l.now = time.Now
	}
	return l, nil
}

// Target is one place to send a request to.
type Target struct {
	Transport string         `json:"transport"` // UDP, TCP or TLS
	Addr      netip.AddrPort `json:"address"`
	// Name is the host of the URI, in lower case and A-labels: what the certificate of a TLS server has to name (RFC 5922
	// §7.2), wherever the DNS led to.
	Name string `json:"name"`
	// Host is the name that has the address, SRV the name of the SRV record that led to it; "" if there was none.
	Host string `json:"host,omitempty"`
	SRV  string `json:"srv,omitempty"`
	// Expires is when the DNS should be asked again; zero for a numeric host, for which there is nothing to ask.
	Expires time.Time `json:"expires,omitzero"`
}

func (t Target) String() string { return t.Transport + " " + t.Addr.String() }

// Result is where a request may go, and why.
type Result struct {
	URI     string    // as it was located, without user and headers
	Targets []Target  // in the order in which to try them; MaxTargets at most
	Steps   []Step    // what was asked and concluded, in order; also when there is an error
	Rested  time.Time // if targets at the end of the list failed lately: until when the last of them stays there
}

// Locate finds the servers for uri. With a nil error there is at least one target. Among equals the order is drawn anew by
// each call. Errors are those of this package, or that of ctx.
func (l *Locator) Locate(ctx context.Context, uri sip.Uri) (Result, error) {
	return l.LocateFor(ctx, uri, Need{})
}

// LocateFor is Locate with something to observe beyond the URI.
func (l *Locator) LocateFor(ctx context.Context, uri sip.Uri, need Need) (Result, error) {
	res := Result{URI: describe(uri)}
	q, err := l.read(uri, need)
	if err != nil {
		return res, fmt.Errorf("locate %s: %w", res.URI, err)
	}
	s := &search{l: l, ctx: ctx, quest: q, types: l.family.types(), left: MaxQuestions, servicesOnly: need.ServicesOnly, also: need.Permit}
	if q.name != "" {
		var cancel context.CancelFunc
		s.ctx, cancel = context.WithTimeoutCause(ctx, l.timeout, ErrTimeout)
		defer cancel()
		s.steps = make([]Step, 0, 8)
	}
	err = s.run(need)
	res.Steps = s.steps
	if len(s.targets) == 0 {
		return res, fmt.Errorf("locate %s: %w", res.URI, err)
	}
	res.Targets, res.Rested = l.demote(s.targets)
	return res, nil
}

// describe writes what of a URI matters here.
func describe(uri sip.Uri) string {
	uri.User, uri.Password, uri.Headers = "", "", nil
	return uri.String()
}

// demote puts targets that failed lately behind the others.
func (l *Locator) demote(targets []Target) ([]Target, time.Time) {
	var latest time.Time
	if l.failures.none() {
		return targets, latest
	}
	now := l.now()
	var good, bad []Target
	for _, t := range targets {
		until := l.failures.until(place{t.Transport, t.Addr}, now)
		if until.IsZero() {
			good = append(good, t)
			continue
		}
		bad = append(bad, t)
		if until.After(latest) {
			latest = until
		}
	}
	return append(good, bad...), latest
}

// search is one Locate under way.
type search struct {
	l *Locator
	quest
	ctx          context.Context
	targets      []Target
	steps        []Step
	types        []uint16 // of addresses that are wanted, most preferred first
	servicesOnly bool     // never the domain's own addresses
	any          bool     // addresses are taken as they are, since nothing is sent to them
	left         int      // questions that may still be asked

	also func(netip.Addr) bool // Need.Permit
}

// run is RFC 3263 §4.1 and §4.2. Its error says why there are no targets.
func (s *search) run(need Need) error {
	switch {
	case s.addr.IsValid():
		t := s.usual()
		s.note("the host is an address: nothing is asked (RFC 3263 §4.2)")
		s.add(Target{Transport: t, Addr: netip.AddrPortFrom(s.addr, s.portFor(t)), Name: s.host})
		return nil
	case s.l.resolver == nil:
		return ErrNoServers
	case s.port != 0:
		s.note("the URI names a port: only addresses are asked for (RFC 3263 §4.2)")
		return s.direct(s.usual())
	case s.transport != "":
		s.note("the URI names a transport: its SRV records decide (RFC 3263 §4.2)")
		found, err := s.services(services(s.name, []string{s.transport}, need.Federation))
		if found || err != nil {
			return err
		}
		return s.fallback(s.transport)
	}
	if done, err := s.naptr(); done || err != nil {
		return err
	}
	found, err := s.services(services(s.name, s.allowed, need.Federation))
	if found || err != nil {
		return err
	}
	return s.fallback(s.usual())
}

// fallback is the domain itself where it has no SRV records (RFC 3263 §4.2).
func (s *search) fallback(transport string) error {
	if s.servicesOnly {
		s.note("no SRV records; the domain's own addresses are not asked for")
		return ErrNoService
	}
	return s.direct(transport)
}

// naptr lets the domain's NAPTR records choose transport and service. done false leaves the choice to SRV records.
func (s *search) naptr() (done bool, err error) {
	a, err := s.ask(Question{s.name, dns.TypeNAPTR})
	step := &s.steps[len(s.steps)-1]
	switch {
	case errors.Is(err, ErrDNS) && s.ctx.Err() == nil && !errors.Is(err, ErrTooMany):
		// Not every name server knows NAPTR. What the SRV records say holds all the same.
		step.Note = "go on with the SRV records, which do not depend on it"
		return false, nil
	case err != nil:
		return true, err
	case a.Outcome == NXDomain && len(a.Aliases) == 0:
		step.Note = "the domain does not exist, nor anything below it (RFC 8020)"
		return true, ErrNoSuchDomain
	case a.Outcome != Found:
		step.Note = "no preference of the domain's: the SRV records of each transport decide"
		return false, nil
	}
	list, verdicts := rules(a.Records, s.allowed)
	step.Verdicts = verdicts
	if len(list) == 0 {
		step.Note = "none that can be used: the SRV records of each transport decide"
		return false, nil
	}
	var first error
	found := false
	at := len(s.steps) - 1
	for start := 0; start < len(list); {
		end := start
		var group []service
		for end < len(list) && list[end].order == list[start].order {
			if !slices.Contains(group, list[end].service) && len(group) < maxServices {
				group = append(group, list[end].service)
			}
			end++
		}
		// A later order counts only if an earlier one led nowhere (RFC 3403 §4.1).
		ok, err := s.services(group)
		if len(s.targets) > 0 {
			for _, later := range list[end:] {
				s.steps[at].Verdicts[later.record] = "not looked at: its order comes later"
			}
			return true, nil
		}
		found = found || ok
		if first == nil || errors.Is(err, ErrDNS) && !errors.Is(first, ErrDNS) {
			first = err // what is not known outweighs what is known not to be
		}
		start = end
	}
	switch {
	case first != nil:
		return true, first
	case found:
		return true, ErrNoService
	}
	return true, s.fallback(list[0].service.transport)
}

// services looks up the SRV records of services and adds the targets they lead to. found says that there are such records,
// even if they lead nowhere: then the domain's own address is not where SIP is.
func (s *search) services(list []service) (found bool, err error) {
	list = slices.DeleteFunc(slices.Clone(list), func(sv service) bool { return len(sv.name) > 254 }) // no name can be longer
	if len(list) > maxServices {
		list = list[:maxServices]
	}
	questions := make([]Question, len(list))
	for i, sv := range list {
		questions[i] = Question{sv.name, dns.TypeSRV}
	}
	at := len(s.steps)
	replies := s.askAll(questions, func(r reply) bool {
		return r.answer != nil && r.answer.Outcome == Found && !absent(r.answer.Records)
	})
	var ways []way
	var failure error
	for i, r := range replies {
		step := &s.steps[at+i]
		switch {
		case r.err != nil:
			if !errors.Is(r.err, errPatience) && failure == nil {
				failure = r.err
			}
		case r.answer.Outcome != Found:
		case absent(r.answer.Records):
			found = true
			step.Note = "the domain says that there is no such service (RFC 2782)"
		default:
			found = true
			ways, step.Verdicts = s.ways(ways, list[i], r.answer)
		}
	}
	if len(ways) == 0 {
		switch {
		case failure != nil:
			return found, failure
		case found:
			return true, ErrNoService
		}
		return false, nil
	}
	if err := s.resolve(ways); err != nil {
		return true, err
	}
	return true, nil
}

// way is one server that SRV records name.
type way struct {
	service service
	record  *dns.SRV
	answer  *Answer
}

// ways puts the servers of an SRV answer in order. Verdicts says how each record of the answer fares.
func (s *search) ways(list []way, sv service, a *Answer) ([]way, []string) {
	var verdicts []string
	for i, rr := range a.Records {
		if why := usableSRV(rr.(*dns.SRV)); why != "" {
			if verdicts == nil {
				verdicts = make([]string, len(a.Records))
			}
			verdicts[i] = why
		}
	}
	for _, r := range arrange(a.Records, s.l.chance) {
		if usableSRV(r) == "" && len(list) < MaxTargets {
			list = append(list, way{sv, r, a})
		}
	}
	return list, verdicts
}

// direct adds the addresses of the URI's host itself.
func (s *search) direct(transport string) error {
	hosts, err := s.hosts([]string{s.name}, nil)
	if err != nil {
		return err
	}
	h := hosts[0]
	for _, a := range s.interleave(h) {
		s.add(Target{Transport: transport, Addr: netip.AddrPortFrom(a, s.portFor(transport)), Name: s.host, Host: undot(s.name), Expires: h.expires})
	}
	switch {
	case len(s.targets) > 0:
		return nil
	case h.err != nil:
		return h.err
	case h.missing:
		return ErrNoSuchDomain
	}
	return ErrNoAddress
}

// resolve adds the addresses of servers that SRV records named.
func (s *search) resolve(ways []way) error {
	var names []string
	var from []*Answer
	for _, w := range ways {
		if !slices.Contains(names, w.record.Target) {
			names = append(names, w.record.Target)
			from = append(from, w.answer)
		}
	}
	hosts, err := s.hosts(names, from)
	if err != nil {
		return err
	}
	var failure error
	for _, w := range ways {
		h := hosts[slices.Index(names, w.record.Target)]
		if h.err != nil && failure == nil {
			failure = h.err
		}
		for _, a := range s.interleave(h) {
			expires := h.expires
			if w.answer.Expires.Before(expires) {
				expires = w.answer.Expires
			}
			s.add(Target{
				Transport: w.service.transport, Addr: netip.AddrPortFrom(a, w.record.Port), Name: s.host,
				Host: undot(w.record.Target), SRV: undot(w.service.name), Expires: expires,
			})
		}
	}
	switch {
	case len(s.targets) > 0:
		return nil
	case failure != nil:
		return failure
	}
	return ErrNoAddress
}

// add appends a target unless it is there already or the list is full.
func (s *search) add(t Target) {
	p := place{t.Transport, t.Addr}
	if len(s.targets) == MaxTargets || slices.ContainsFunc(s.targets, func(o Target) bool { return place{o.Transport, o.Addr} == p }) {
		return
	}
	s.targets = append(s.targets, t)
}

// note adds a step that asked nothing.
func (s *search) note(why string) { s.steps = append(s.steps, Step{Note: why}) }
