package edge

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"p2psip/interwork/flow"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
	"p2psip/overlay/datadir"
)

const (
	// DefaultExpires is granted to a phone that names no time (RFC 3261 §10.2.1.1 suggests an hour).
	DefaultExpires = time.Hour
	// DefaultMinExpires: phones behind NATs ask for a minute or less to keep the mapping open, and a refresh costs this
	// node next to nothing.
	DefaultMinExpires = 30 * time.Second
	// DefaultMaxExpires: a phone that vanished counts as reachable no longer than this.
	DefaultMaxExpires = 2 * time.Hour
	// DefaultPublishTimeout is what the overlay gets to confirm a registration. A REGISTER dies after 32 s (timer F), and
	// it may have to wait for one publication under way before its own.
	DefaultPublishTimeout = 10 * time.Second

	// answerWithin is when a REGISTER that still waits is answered 503: well before its sender gives up.
	answerWithin = 24 * time.Second
	// maxWaiting bounds the REGISTERs that wait for the disk or the overlay.
	maxWaiting = 512
	// maxWaitingOfUser bounds those of one user, so that he does not keep the others out.
	maxWaitingOfUser = 32
	// maxPublishing bounds the publications under way at one time.
	maxPublishing = 8
	// maxDialling bounds the connections being made to phones at one time, and redialPause how often one phone is tried.
	maxDialling   = 8
	dialTimeout   = 5 * time.Second
	redialPause   = 10 * time.Second
	retryMin      = 2 * time.Second
	retryMax      = 2 * time.Minute
	restoredAfter = 2 * time.Second // from New to the first publication of what was restored

	keyFile = "edge.key"
)

// Publisher puts what phones have registered into the overlay.
type Publisher interface {
	// Publish makes devices the user's registered devices at this node, none to take the user out of the overlay. It
	// returns when a write quorum has confirmed that, or ctx ends. It is called once at a time for one user.
	Publish(ctx context.Context, aor overlay.AOR, devices []overlay.Device) error
}

// Flows leads to phones. Its methods are called under a lock of Edge, so they must not call back into it.
type Flows interface {
	// proxy.Sockets finds a flow without blocking: for UDP always as long as there is a socket, for a connection only
	// while it lives.
	proxy.Sockets
	// Dial connects to a phone over TCP or TLS, or gives the living connection to it. It may block until ctx ends; it is
	// not called under the lock.
	Dial(ctx context.Context, t flow.Transport, to flow.Addr) (flow.Flow, error)
}

// Config makes an Edge. OID, Own, Publisher and Flows are required.
type Config struct {
	OID     overlay.ID
	DataDir string     // where users.json, bindings.json and edge.key are; "": phones are forgotten with the process
	Users   *UserStore // nil: opened in DataDir

	// Node is this node, and Shared what all nodes of the overlay know and few others do, such as its root certificate.
	// Without them no temporary GRUUs are made or read.
	Node   overlay.NodeID
	Shared []byte

	Own       func() []overlay.AOR // the users of the node's credential as it is now
	Publisher Publisher
	Flows     Flows

	Trusted func(netip.Addr) bool // source addresses that need no password; nil: loopback

	DefaultExpires, MinExpires, MaxExpires time.Duration // 0: the constants of the same names
	PublishTimeout                         time.Duration // 0: DefaultPublishTimeout
	MaxContacts                            int           // per user, at most overlay.MaxDevices; 0: that
	MaxUsers                               int           // with phones at one time; 0: DefaultMaxUsers

	Random rand.Source      // spreads what nodes would else do at the same time; nil: the runtime's
	Logger *slog.Logger     // nil: slog.Default()
	Now    func() time.Time // nil: time.Now
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case c.OID == "":
		return errors.New("edge: no overlay identifier")
	case c.Own == nil || c.Publisher == nil || c.Flows == nil:
		return errors.New("edge: Own, Publisher and Flows are required")
	case c.MinExpires < time.Second || c.MinExpires > time.Hour:
		// RFC 3261 §10.3 step 7: a registrar must not refuse an hour or more.
		return fmt.Errorf("edge: the least registration time %v is not between a second and an hour", c.MinExpires)
	case c.DefaultExpires < c.MinExpires || c.MaxExpires < c.DefaultExpires:
		return fmt.Errorf("edge: registration times: the least %v, the usual %v and the most %v are not in this order", c.MinExpires, c.DefaultExpires, c.MaxExpires)
	case c.PublishTimeout < 0 || c.PublishTimeout > answerWithin:
		return fmt.Errorf("edge: the time to publish %v is not between 0 and %v", c.PublishTimeout, answerWithin)
	case c.MaxContacts < 1 || c.MaxContacts > overlay.MaxDevices:
		return fmt.Errorf("edge: %d contacts for a user, 1 to %d are possible", c.MaxContacts, overlay.MaxDevices)
	case c.MaxUsers < 1:
		return errors.New("edge: a negative number of users")
	}
	return nil
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&c.MinExpires, DefaultMinExpires)
	set(&c.MaxExpires, max(DefaultMaxExpires, c.DefaultExpires))
	set(&c.DefaultExpires, max(min(DefaultExpires, c.MaxExpires), c.MinExpires))
	set(&c.PublishTimeout, DefaultPublishTimeout)
	if c.MaxContacts == 0 {
		c.MaxContacts = overlay.MaxDevices
	}
	if c.MaxUsers == 0 {
		c.MaxUsers = DefaultMaxUsers
	}
	if c.Trusted == nil {
		c.Trusted = netip.Addr.IsLoopback
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Edge is the registrar and the gate for the phones beside a node. Its methods are safe for concurrent use, and those of
// proxy.Edge do not block.
type Edge struct {
	c        Config
	log      *slog.Logger
	secret   []byte
	digest   *digest
	throttle *throttle
	offers   *offers
	agenda   *agenda
	temps    temps

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	dirty  chan struct{} // wakes the saver; capacity 1
	random *rand.Rand    // nil: the runtime's generator; used under mu

	mu      sync.Mutex // guards what follows, and all user and phone values
	closed  bool
	users   map[overlay.AOR]*user
	places  map[string][]*phone // by uriKey of the contact
	sources map[source]int      // addresses of phones, with the number of phones there
	waiting map[*answer]struct{}
	refs    map[ref]*phone                       // by what their temporary GRUUs carry
	devices map[overlay.AOR]map[string]time.Time // devices, with the time of the last registration

	generation uint64 // counts changes of what is saved
	saved      uint64 // the last generation on disk
	saveErr    error

	publishing int     // publications under way
	queue      []*user // waiting for one of those to end
	dialling   int
}

var _ proxy.Edge = (*Edge)(nil)

// New opens the stores in the data directory, restores the phones that were registered when the node last ran, and begins
// to publish them again. If it fails, nothing is left running.
func New(c Config) (*Edge, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	secret, err := loadKey(c.DataDir)
	if err != nil {
		return nil, err
	}
	if c.Users == nil {
		if c.Users, err = OpenUsers(c.DataDir, c.OID); err != nil {
			return nil, err
		}
	}
	e := &Edge{
		c: c, log: c.Logger, secret: secret,
		digest: newDigest(c.OID, c.Now), throttle: newThrottle(c.Now), offers: newOffers(c.Now), agenda: newAgenda(c.Now),
		dirty:   make(chan struct{}, 1),
		users:   make(map[overlay.AOR]*user),
		places:  make(map[string][]*phone),
		sources: make(map[source]int),
		waiting: make(map[*answer]struct{}),
		refs:    make(map[ref]*phone),
		devices: make(map[overlay.AOR]map[string]time.Time),
		temps:   newTemps(c.Node, c.Shared, secret),
	}
	if c.Random != nil {
		e.random = rand.New(c.Random)
	}
	if err := e.restore(); err != nil {
		return nil, err
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.wg.Go(func() { e.agenda.run(e.ctx.Done()) })
	e.wg.Go(e.saver)
	return e, nil
}

// Close ends all goroutines, writes the bindings a last time and answers 503 to the REGISTERs that still wait. The phones
// stay registered: the next start restores them.
func (e *Edge) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	failed := e.takeWaiting(func(*answer) bool { return true })
	e.mu.Unlock()
	for _, a := range failed {
		a.respond(refuse(503, "Shutting Down", "this node is shutting down"))
	}
	e.cancel()
	e.wg.Wait()
	return e.write()
}

// loadKey reads the node's edge key, making it when there is none.
func loadKey(dataDir string) ([]byte, error) {
	if dataDir == "" {
		return newKey(), nil
	}
	path := filepath.Join(dataDir, keyFile)
	b, err := datadir.ReadFile(path, 64)
	if err == nil {
		if len(b) != 32 {
			return nil, fmt.Errorf("%s has %d bytes instead of 32; remove it, and phones without +sip.instance get new device identifiers", path, len(b))
		}
		return b, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	b = newKey()
	return b, datadir.WriteFile(path, b, 0o600)
}

func newKey() []byte {
	b := make([]byte, 32)
	crand.Read(b)
	return b
}

// Owns says that the node's credential covers the user. It implements proxy.Edge.
func (e *Edge) Owns(aor overlay.AOR) bool { return slices.Contains(e.c.Own(), aor) }

// Registered goes through the users with phones and what is, or ought to be, published for them.
func (e *Edge) Registered() iter.Seq2[overlay.AOR, []overlay.Device] {
	return func(yield func(overlay.AOR, []overlay.Device) bool) {
		e.mu.Lock()
		sets := make(map[overlay.AOR][]overlay.Device, len(e.users))
		for aor, u := range e.users {
			if len(u.phones) > 0 {
				sets[aor] = u.set()
			}
		}
		e.mu.Unlock()
		for aor, set := range sets {
			if !yield(aor, set) {
				return
			}
		}
	}
}

// FlowClosed says that a connection has ended. Phones that registered over it and can be dialled are dialled, so that the
// next call finds a connection.
func (e *Edge) FlowClosed(f flow.Flow) {
	if !f.Edge() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sources[source{f.Transport(), f.Remote()}] == 0 {
		return
	}
	for _, u := range e.users {
		for _, p := range u.phones {
			if p.conn == f {
				p.conn = nil
				e.redial(p)
			}
		}
	}
}

// redial connects to a phone whose connection is gone, if its Contact says where and it was not just tried. Callers hold
// mu.
func (e *Edge) redial(p *phone) {
	t, to := p.reach.Transport, p.reach.Remote
	now := e.c.Now()
	if e.closed || p.dialing || t == flow.TransportUDP || to.Port == 0 || e.dialling >= maxDialling || now.Sub(p.dialled) < redialPause {
		return
	}
	p.dialing, p.dialled = true, now
	e.dialling++
	e.wg.Go(func() {
		ctx, cancel := context.WithTimeout(e.ctx, dialTimeout)
		defer cancel()
		f, err := e.c.Flows.Dial(ctx, t, to)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.dialling--
		p.dialing = false
		if err != nil {
			e.log.Debug("a phone does not take connections", "transport", t, "address", to, "error", err)
			return
		}
		if !alive(p.conn) {
			p.conn = f
		}
	})
}
