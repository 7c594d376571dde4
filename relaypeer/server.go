package relaypeer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v2"

	"p2psip/relaypeer/datapath"
)

const (
	// tickBusy is how often budgets are filled up while something is relayed, tickIdle how often one looks after the rest.
	tickBusy = 50 * time.Millisecond
	tickIdle = time.Second
	// saveEvery is how much of a month's count a killed relay peer forgets, at most.
	saveEvery = time.Minute
	// speedOver is the time over which the speed is taken.
	speedOver = 5 * time.Second
	// lookEvery is how soon a new address of this machine is noticed.
	lookEvery = 30 * time.Second
	// inUse is how long after the last packet an allocation is held to be part of a call.
	inUse = 10 * time.Second
)

// Server relays for the members of an overlay.
type Server struct {
	cfg            Config
	limits         Limits
	log            *slog.Logger
	now            func() time.Time
	nonces         *nonces
	sources        *sources
	members        *members
	peers          *Peers
	relay4, relay6 datapath.RelayAddress
	names          []Service // of the sockets, in their order
	stats          counters
	coarse         atomic.Int64 // seconds since 1970, nearly
	speed          atomic.Int64 // octets of data a second, lately

	mu       sync.Mutex // guards what follows
	phase    phase
	table    map[netip.AddrPort]*allocation // by relayed address
	gates    map[*gate]*turn.Server
	conns    map[netip.Addr]int // of TCP and TLS clients, by host
	connsAll int
	waiting  map[[12]byte]*asked // Binding requests expected from who was asked to send one; see verify.go
	role     *role               // nil: not advertised

	quit   chan struct{}
	wake   chan struct{} // capacity 1: something begins to be relayed
	loops  sync.WaitGroup
	allocs sync.WaitGroup
}

type phase uint8

const (
	serving phase = iota
	drained
	ended
)

type counters struct {
	malformed, stray, challenged, refused, limited, refusals, forbidden, panics, grants atomic.Uint64
}

// Start serves the sockets of the configuration until Close. A failure leaves nothing running and the sockets to the caller.
func Start(c Config) (_ *Server, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Addrs == nil {
		c.Addrs = interfaceAddrs
	}
	l := c.Limits.withDefaults()
	s := &Server{
		cfg: c, limits: l, log: c.Logger, now: c.Now, nonces: newNonces(), sources: newSources(l), members: newMembers(l, c.Now()),
		table: map[netip.AddrPort]*allocation{}, gates: map[*gate]*turn.Server{}, conns: map[netip.Addr]int{},
		waiting: map[[12]byte]*asked{}, quit: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	s.coarse.Store(s.now().Unix())
	s.peers = &Peers{allow: c.Allow, services: map[uint16]bool{}, media: c.Media, relayed: s.isRelayed}
	for _, p := range c.Services {
		s.peers.services[p] = true
	}
	for _, k := range c.Sockets {
		s.peers.services[k.local().Port()] = true
		s.names = append(s.names, Service{Transport: k.Transport, Local: k.local(), Public: k.name()})
		at := datapath.RelayAddress{Listen: k.local().Addr(), Announce: k.name().Addr()}
		to := &s.relay6
		if at.Announce.Is4() {
			to = &s.relay4
			if at.Listen.Is6() { // [::] serves both families, relayed addresses are of one
				at.Listen = netip.IPv4Unspecified()
			}
		}
		if !to.Listen.IsValid() {
			*to = at
		}
	}
	for _, r := range []datapath.RelayAddress{s.relay4, s.relay6} {
		if r.Listen.IsValid() {
			s.peers.relays = append(s.peers.relays, r.Announce)
			if !r.Listen.IsUnspecified() && r.Listen != r.Announce {
				s.peers.relays = append(s.peers.relays, r.Listen)
			}
		}
	}
	if err := s.lookAround(); err != nil {
		return nil, fmt.Errorf("relay peer: the addresses of this machine: %w", err)
	}
	if c.UsageFile != "" {
		if err := s.members.load(c.UsageFile, s.now()); err != nil {
			s.log.Warn("the relay peer's month begins anew", "error", err)
		}
	}
	if err := s.serve(); err != nil {
		return nil, err
	}
	return s, nil
}

// serve opens the doors. pion refuses a server only for what is seen at once, so the first failure leaves nothing running.
func (s *Server) serve() error {
	for _, k := range s.cfg.Sockets {
		if k.Front == nil {
			continue
		}
		g := newGate(s, k.Front, false)
		if err := s.run(g); err != nil {
			return fmt.Errorf("relay peer: %w", err)
		}
	}
	for _, k := range s.cfg.Sockets {
		if k.Listener != nil {
			s.loops.Go(func() { s.accept(k) })
		}
	}
	s.loops.Go(s.keep)
	return nil
}

// run gives a gate a server of pion's of its own, so that it is known which request an address is made for.
func (s *Server) run(g *gate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == ended {
		return net.ErrClosed
	}
	t, err := turn.NewServer(turn.ServerConfig{
		Realm:         Realm,
		LoggerFactory: silent(),
		AuthHandler: func(username, realm string, _ net.Addr) ([]byte, bool) {
			return s.cfg.Secret.Key(username, realm), true // the gate has checked
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: g, RelayAddressGenerator: generator{g: g, Generator: &datapath.Generator{
			Loop: s.cfg.Loop, Front: g.Front, Relay4: s.relay4, Relay6: s.relay6, MinPort: s.cfg.MinPort, MaxPort: s.cfg.MaxPort, Open: g.open,
		}}}},
	})
	if err != nil {
		return err
	}
	s.gates[g] = t
	return nil
}

// silent is pion's log: nowhere, because strangers would fill it.
func silent() logging.LoggerFactory {
	return &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}
}

// keep looks after everything that goes with time.
func (s *Server) keep() {
	saved, looked, kept := s.now(), s.now(), s.members.bytes.Load()
	timed, then, swept := saved, kept, saved
	t := time.NewTimer(tickIdle)
	defer t.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-s.wake:
		case <-t.C:
		}
		now := s.now()
		s.coarse.Store(now.Unix())
		s.members.tick(now)
		if now.Sub(swept) >= tickIdle {
			swept = now
			s.closeIdle(now)
		}
		if now.Sub(looked) >= lookEvery {
			looked = now
			_ = s.lookAround() // what was known stays known
		}
		if d := now.Sub(timed); d >= speedOver {
			n := s.members.bytes.Load()
			s.speed.Store(int64(float64(max(n-then, 0)) / d.Seconds()))
			timed, then = now, n
		}
		if n := s.members.bytes.Load(); now.Sub(saved) >= saveEvery && n != kept {
			saved, kept = now, n
			s.save()
		}
		next := tickIdle
		if s.Allocations() > 0 {
			next = tickBusy
		}
		t.Reset(next)
	}
}

func (s *Server) save() {
	if s.cfg.UsageFile == "" {
		return
	}
	if err := s.members.save(s.cfg.UsageFile); err != nil {
		s.log.Warn("the relay peer's use of this month could not be written", "error", err)
	}
}

// lookAround notes the addresses of this machine.
func (s *Server) lookAround() error {
	list, err := s.cfg.Addrs()
	if err != nil {
		return err
	}
	s.peers.setOwn(list)
	return nil
}

func interfaceAddrs() (out []netip.Prefix, err error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p)
		}
	}
	return out, nil
}

// opened notes a new allocation; false: none may be made any more.
func (s *Server) opened(a *allocation) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != serving {
		return false
	}
	s.table[a.relayed] = a
	s.allocs.Add(1)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

func (s *Server) closed(a *allocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table[a.relayed] == a {
		delete(s.table, a.relayed)
	}
	s.allocs.Done()
}

// isRelayed says whether an address is that of an allocation here.
func (s *Server) isRelayed(a netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table[a] != nil
}

// relays says whether there are relayed addresses of IPv6, or of IPv4.
func (s *Server) relays(six bool) bool {
	if six {
		return s.relay6.Listen.IsValid()
	}
	return s.relay4.Listen.IsValid()
}

func (s *Server) draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase != serving
}

// Allocations gives how many there are.
func (s *Server) Allocations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.table)
}

// InUse gives how many allocations have relayed something in the last seconds.
func (s *Server) InUse() (n int) {
	since := s.coarse.Load() - int64(inUse/time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.table {
		if a.moved.Load() > since {
			n++
		}
	}
	return n
}

// Drain withdraws the advertisement, has new allocations refused and credentials given no more, and waits until no allocation
// is in use or ctx ends, whose error it then gives. Close comes after it.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	if s.phase == serving {
		s.phase = drained
	}
	r := s.role
	s.mu.Unlock()
	err := r.close()
	t := time.NewTicker(tickIdle / 4)
	defer t.Stop()
	for s.InUse() > 0 {
		select {
		case <-t.C:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
	return err
}

// Close withdraws the advertisement, ends all allocations and sockets and waits for what runs.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.phase == ended {
		s.mu.Unlock()
		return nil
	}
	s.phase = ended
	r := s.role
	s.mu.Unlock()
	errs := []error{r.close()}
	r.end()
	close(s.quit)
	for _, k := range s.cfg.Sockets {
		if k.Listener != nil {
			if err := k.Listener.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	s.mu.Lock()
	open := make([]*gate, 0, len(s.gates))
	for g := range s.gates {
		open = append(open, g)
	}
	s.mu.Unlock()
	for _, g := range open {
		if err := g.Close(); !g.stream && !errors.Is(err, net.ErrClosed) { // that of a client may be gone in any way
			errs = append(errs, err)
		}
		<-g.done
	}
	s.loops.Wait()
	s.allocs.Wait()
	s.members.tick(s.now())
	s.save()
	return errors.Join(slices.DeleteFunc(errs, func(e error) bool { return e == nil })...)
}
