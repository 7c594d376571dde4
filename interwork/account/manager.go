package account

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/overlay"
)

// ProxyPeer is a proxy peer of the overlay as it advertises itself (draft §3.3).
type ProxyPeer struct {
	Node     overlay.NodeID
	Addrs    []string // multiaddrs
	Services []string // where the world reaches it: "sip:192.0.2.1:5060;transport=udp"
}

// ProxyPeers finds proxy peers in the overlay.
type ProxyPeers interface {
	// Find gives up to n living ones, the best first. It may block until ctx ends.
	Find(ctx context.Context, n int) ([]ProxyPeer, error)
	// Failed says that one did not do what it is there for.
	Failed(overlay.NodeID)
}

// Sender sends a request of this node's own making to a proxy peer, which is to forward it to the world.
type Sender interface {
	// Send adds this node's Via, sends req over a stream to the proxy peer, and waits for the final response or the end of
	// ctx. An error means that no response came; a 408 that was made up on this node is one too. req must not be changed
	// afterwards.
	Send(ctx context.Context, req *sip.Request, through ProxyPeer) (*sip.Response, error)
}

// Config makes a Manager. All but DataDir and the last four are required.
type Config struct {
	OID     overlay.ID
	DataDir string // "": what the providers asked is forgotten with the process
	Store   *Store

	// Published says whether the phones of a user are in the overlay now: no account is registered before (draft §4.2 step 1).
	Published func(overlay.AOR) bool
	Peers     ProxyPeers
	Sender    Sender

	Agent  string           // User-Agent; "": none
	Logger *slog.Logger     // nil: slog.Default()
	Now    func() time.Time // nil: time.Now
	Chance func() float64   // from 0 to 1, spreads attempts; nil: the runtime's
}

const (
	// lookEvery is how often the file of accounts and the phones of users are looked at.
	lookEvery = 2 * time.Second
	// absentFor is how long a user is without a phone before the provider is told.
	absentFor = 2 * time.Minute
	// goodbye is what unregistering gets.
	goodbye = 10 * time.Second
	// peerLost is how soon after the end of the stream to its proxy peer a registration is made anew through another.
	peerLost = 2 * time.Second
)

// Manager keeps the accounts of a node registered. Make one with New, Close it.
type Manager struct {
	c   Config
	log *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	workers map[string]*worker
	problem error // why the file is not used
	seen    map[string]sighting

	calls *dialogs
	lines atomic.Pointer[[]*worker] // those that calls may take
}

// New begins to keep the accounts in the store registered.
func New(c Config) (*Manager, error) {
	if c.OID == "" || c.Store == nil || c.Published == nil || c.Peers == nil || c.Sender == nil {
		return nil, errors.New("account: OID, Store, Published, Peers and Sender are required")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Chance == nil {
		c.Chance = rand.Float64
	}
	m := &Manager{c: c, log: c.Logger, workers: map[string]*worker{}, seen: loadSeen(c.DataDir), calls: newDialogs(c.Now)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.look()
	m.wg.Go(m.watch)
	return m, nil
}

// Close ends all attempts and waits for them. The accounts stay registered with their providers until that runs out.
func (m *Manager) Close() {
	m.mu.Lock() // no worker starts from here on
	m.cancel()
	m.mu.Unlock()
	m.wg.Wait()
}

func (m *Manager) watch() {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-t.C:
			m.look()
		}
	}
}

// look brings the workers up to date with the file.
func (m *Manager) look() {
	list, err := m.c.Store.List()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return
	}
	if err != nil && m.problem == nil {
		m.log.Warn("the accounts cannot be read; those known before go on", "error", err)
	}
	m.problem = err
	if err != nil {
		return
	}
	for aor, w := range m.workers {
		if !slices.Contains(list, w.a) { // gone, or another one of that name
			delete(m.workers, aor)
			w.remove()
			if !slices.ContainsFunc(list, func(a Account) bool { return a.AOR == aor }) {
				delete(m.seen, aor)
				m.saveSeen()
			}
		}
	}
	for _, a := range list {
		if m.workers[a.AOR] == nil {
			w := m.newWorker(a)
			m.workers[a.AOR] = w
			m.wg.Go(w.run)
		}
	}
	m.setLines()
}

// saveSeen writes what was seen. Callers hold mu.
func (m *Manager) saveSeen() {
	if err := saveSeen(m.c.DataDir, m.seen); err != nil {
		m.log.Warn("what the providers asked cannot be stored; it is asked anew after a restart", "error", err)
	}
}

// PeerLost says that the stream to a node has ended: accounts that were registered through it are registered anew, as a
// provider may send calls back to where the REGISTER came from.
func (m *Manager) PeerLost(node overlay.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.workers {
		w.peerLost(node)
	}
}

// Status says how each account stands, sorted by address, and what is wrong with the file of accounts.
func (m *Manager) Status() ([]Status, error) {
	m.look()
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Status, 0, len(m.workers))
	for _, w := range m.workers {
		out = append(out, w.Status())
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.AOR, b.AOR) })
	return out, m.problem
}
