package locate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	// DefaultAttempt is how long one name server is waited for before the next is asked; twice that in the second round.
	DefaultAttempt = time.Second
	// DefaultQuestionTimeout ends one question, with all its attempts, servers and aliases.
	DefaultQuestionTimeout = 4 * time.Second

	rounds = 2 // how often all the servers are tried

	// serverRest is how long a name server that did not answer is asked after all others.
	serverRest = 30 * time.Second

	// ednsSize is how large an answer over UDP may be: what fits every path unfragmented (DNS flag day 2020).
	ednsSize = 1232

	// maxUnderWay is how many questions a Resolver has on the wire at a time; each costs a socket. Others wait.
	maxUnderWay = 128
)

// ResolverConfig sets up a Resolver. The zero value is usable.
type ResolverConfig struct {
	// Servers are the name servers in order of preference, as address or address:port. They are asked recursively, but one
	// that only knows its own zones will do for those. Empty: those in ResolvConf.
	Servers    []string
	ResolvConf string // default DefaultResolvConf; read again when it changes

	Exchanger Exchanger // default a Wire

	Attempt time.Duration // default DefaultAttempt
	Timeout time.Duration // default DefaultQuestionTimeout

	CacheEntries int // default DefaultCacheEntries
	CacheBytes   int // default DefaultCacheBytes

	// MixedCase writes the letters of each question in upper and lower case at random, which an answer has to copy; it
	// makes answers harder to forge (draft-vixie-dnsext-dns0x20). A server that does not copy is asked over TCP instead.
	MixedCase bool

	Now func() time.Time // default time.Now
}

// Validate says what is wrong with c.
func (c *ResolverConfig) Validate() error {
	if _, err := parseServers(c.Servers); err != nil {
		return err
	}
	if c.Attempt < 0 || c.Timeout < 0 || c.CacheEntries < 0 || c.CacheBytes < 0 {
		return errors.New("resolver: durations and sizes cannot be negative")
	}
	return nil
}

// Resolver asks name servers and keeps their answers. It is safe for concurrent use and has nothing to close.
type Resolver struct {
	exchanger Exchanger
	servers   []netip.AddrPort // fixed ones, or
	conf      *resolvConf      // those of the machine
	attempt   time.Duration
	timeout   time.Duration
	mixed     bool
	now       func() time.Time
	cache     *cache
	slots     chan struct{}

	mu      sync.Mutex
	flights map[Question]*flight         // guarded by mu
	resting map[netip.AddrPort]time.Time // guarded by mu: until when a server is asked last
}

// flight is a question on its way; whoever has the same one waits for it.
type flight struct {
	done   chan struct{}
	answer *Answer // after done
	err    error   // after done
	gone   bool    // after done: the one who asked gave up, which says nothing about the answer
}

// NewResolver makes a Resolver. It reads the machine's name servers if c names none.
func NewResolver(c ResolverConfig) (*Resolver, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	servers, err := parseServers(c.Servers)
	if err != nil {
		return nil, err
	}
	r := &Resolver{
		exchanger: c.Exchanger, servers: servers, mixed: c.MixedCase, now: c.Now,
		attempt: either(c.Attempt, DefaultAttempt), timeout: either(c.Timeout, DefaultQuestionTimeout),
		cache:   newCache(either(c.CacheEntries, DefaultCacheEntries), either(c.CacheBytes, DefaultCacheBytes)),
		slots:   make(chan struct{}, maxUnderWay),
		flights: make(map[Question]*flight), resting: make(map[netip.AddrPort]time.Time),
	}
	if r.exchanger == nil {
		r.exchanger = &Wire{}
	}
	if r.now == nil {
		r.now = time.Now
	}
	if servers == nil {
		r.conf = &resolvConf{path: either(c.ResolvConf, DefaultResolvConf)}
		if _, err := r.conf.list(r.now()); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func either[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Flush forgets all answers.
func (r *Resolver) Flush() { r.cache.flush() }

// Lookup asks for the records of a name (with or without the dot at its end, always complete) and says whether the
// answer came from the cache. "There is none" is an Answer; an error is ErrDNS or one of its kinds, or that of ctx.
func (r *Resolver) Lookup(ctx context.Context, name string, qtype uint16) (a *Answer, cached bool, err error) {
	if _, ok := dns.IsDomainName(name); !ok {
		return nil, false, fmt.Errorf("ask for %q: %w", name, ErrHost)
	}
	return r.lookup(ctx, Question{strings.ToLower(dotted(name)), qtype})
}

// lookup is Lookup for a name in the form of a Question.
func (r *Resolver) lookup(ctx context.Context, q Question) (*Answer, bool, error) {
	for {
		if a, err, ok := r.cache.get(q, r.now()); ok {
			return a, true, err
		}
		r.mu.Lock()
		f, waits := r.flights[q]
		if !waits {
			f = &flight{done: make(chan struct{})}
			r.flights[q] = f
		}
		r.mu.Unlock()
		if !waits {
			r.fly(ctx, q, f)
			return f.answer, false, f.err
		}
		select {
		case <-f.done:
			if !f.gone {
				return f.answer, false, f.err
			}
		case <-ctx.Done():
			return nil, false, &questionError{q, given(ctx), nil}
		}
	}
}

// fly asks and tells those who wait.
func (r *Resolver) fly(ctx context.Context, q Question, f *flight) {
	defer func() {
		r.mu.Lock()
		delete(r.flights, q)
		r.mu.Unlock()
		close(f.done)
	}()
	f.gone = true // also when the Exchanger panics
	f.answer, f.err = r.fetch(ctx, q)
	if f.gone = f.err != nil && ctx.Err() != nil; f.gone {
		return
	}
	r.cache.put(q, f.answer, f.err, r.now())
}

// fetch asks the servers, following aliases.
func (r *Resolver) fetch(ctx context.Context, q Question) (*Answer, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, &questionError{q, given(ctx), nil}
	}
	limit := r.timeout
	if q.Type == dns.TypeNAPTR {
		limit /= 2 // some servers and firewalls drop what they do not know, and it can be done without
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, ErrTimeout)
	defer cancel()
	start := r.now()
	a := &Answer{Question: q}
	keep := maxKept
	for name := q.Name; ; {
		p, from, network, err := r.ask(ctx, q, name, a.Aliases)
		if err != nil {
			return nil, err
		}
		a.Server, a.Network = from, network
		a.Outcome, a.Records, a.Left, a.glue = p.outcome, p.records, p.left, p.glue
		a.Aliases = append(a.Aliases, p.aliases...)
		keep = min(keep, p.keep)
		if p.next == "" {
			break
		}
		name = p.next
	}
	a.Received = r.now()
	a.Took = a.Received.Sub(start)
	a.Expires = a.Received.Add(keep)
	a.bytes = weigh(a)
	return a, nil
}

// ask puts one question to one server after the other until one answers it. An answer that is none (SERVFAIL, a referral)
// moves on to the next at once.
func (r *Resolver) ask(ctx context.Context, q Question, name string, seen []string) (p part, from netip.AddrPort, network string, err error) {
	servers, err := r.order()
	if err != nil {
		return p, from, "", &questionError{q, err, nil}
	}
	kind := ErrUnreachable
	var tried []string
	for round := range rounds {
		silent := false
		for _, s := range servers {
			attempt, cancel := context.WithTimeout(ctx, r.attempt<<round)
			m, network, err := r.exchange(attempt, s, Question{name, q.Type}, round)
			cancel()
			if err == nil {
				if p, err = accept(name, q.Type, m, seen); err == nil {
					r.rest(s, false)
					return p, s, network, nil
				}
				if errors.Is(err, ErrAliases) {
					return p, s, network, &questionError{q, err, nil} // another server would say the same
				}
			}
			switch {
			case ctx.Err() != nil:
				return p, s, network, &questionError{q, given(ctx), append(tried, fmt.Sprintf("%s: %v", s, reason(err)))}
			case late(err):
				silent = true
				r.rest(s, true)
				kind = graver(kind, ErrTimeout)
			case errors.Is(err, ErrServFail):
				kind = graver(kind, ErrServFail)
			case errors.Is(err, ErrBogus):
				kind = graver(kind, ErrBogus)
			default:
				r.rest(s, true)
			}
			if len(tried) < 2*maxServers {
				tried = append(tried, fmt.Sprintf("%s: %v", s, reason(err)))
			}
		}
		if !silent {
			break // all have spoken or are known not to be there; they would say the same again
		}
	}
	return p, from, "", &questionError{q, kind, tried}
}

// graver picks what is told when servers failed in different ways: what one of them said outweighs that another was silent.
func graver(a, b error) error {
	for _, e := range []error{ErrServFail, ErrBogus, ErrTimeout} {
		if a == e || b == e {
			return e
		}
	}
	return a
}

// exchange asks one server once: over UDP, without EDNS if it does not know that, over TCP if the answer does not fit.
func (r *Resolver) exchange(ctx context.Context, s netip.AddrPort, q Question, round int) (*dns.Msg, string, error) {
	query := new(dns.Msg)
	query.SetQuestion(q.Name, q.Type)
	query.SetEdns0(ednsSize, false)
	network := "udp"
	if r.mixed {
		query.Question[0].Name = mixCase(q.Name)
		if round > 0 {
			network = "tcp" // it may be one that does not copy the case
		}
	}
	for {
		query.Id = dns.Id()
		m, err := r.exchanger.Exchange(ctx, s, network, query)
		switch {
		case errors.Is(err, errStrays) && network == "udp":
			network = "tcp"
			continue
		case err != nil:
			return nil, network, err
		case m == nil || !answers(query, m):
			return nil, network, ErrBogus
		case query.IsEdns0() != nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented || m.Rcode == dns.RcodeBadVers):
			query.Extra = nil // RFC 6891 §6.2.2
			continue
		case m.Truncated && network == "udp":
			network = "tcp"
			continue
		case m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError:
			return m, network, nil
		}
		return nil, network, fmt.Errorf("%w: %s", ErrServFail, either(dns.RcodeToString[m.Rcode], fmt.Sprint(m.Rcode)))
	}
}

// order gives the servers with those that were silent last.
func (r *Resolver) order() ([]netip.AddrPort, error) {
	servers := r.servers
	now := r.now()
	if r.conf != nil {
		var err error
		if servers, err = r.conf.list(now); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.resting) == 0 {
		return servers, nil
	}
	servers = slices.Clone(servers)
	slices.SortStableFunc(servers, func(a, b netip.AddrPort) int {
		return compareBool(now.Before(r.resting[a]), now.Before(r.resting[b]))
	})
	return servers, nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// rest notes that a server was silent, or that it has spoken.
func (r *Resolver) rest(s netip.AddrPort, silent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !silent {
		delete(r.resting, s)
		return
	}
	if len(r.resting) > 4*maxServers { // a machine that has moved often
		clear(r.resting)
	}
	r.resting[s] = r.now().Add(serverRest)
}

// mixCase writes the letters of a name in upper and lower case at random. It is one bit a letter against somebody who
// cannot see the question, which the runtime's generator is good for.
func mixCase(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'a' <= c && c <= 'z' && rand.Uint32()&1 == 0 {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

// questionError says which question has no answer and whom was asked.
type questionError struct {
	q     Question
	err   error
	tried []string
}

func (e *questionError) Unwrap() error { return e.err }

func (e *questionError) Error() string {
	if len(e.tried) == 0 {
		return fmt.Sprintf("ask for %s: %v", e.q, e.err)
	}
	return fmt.Sprintf("ask for %s: %v (%s)", e.q, e.err, strings.Join(e.tried, "; "))
}

// given is why a context ended; a deadline counts as silence of the servers.
func given(ctx context.Context) error {
	err := context.Cause(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrTimeout
	}
	return err
}

// reason words why one server did not answer.
func reason(err error) error {
	switch {
	case err == nil:
		return nil
	case late(err), errors.Is(err, ErrTimeout):
		return errors.New("silent")
	case errors.Is(err, errPatience):
		return errPatience
	case errors.Is(err, ErrBogus):
		return errors.New("no answer to the question")
	}
	if errors.Is(err, ErrServFail) {
		return errors.New(strings.TrimPrefix(err.Error(), ErrServFail.Error()+": "))
	}
	var number syscall.Errno // "connection refused", without the addresses before it
	if errors.As(err, &number) {
		return number
	}
	return err
}
