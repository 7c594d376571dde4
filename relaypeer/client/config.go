package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"p2psip/overlay"
	"p2psip/relaypeer/credential"
)

// Defaults and bounds.
const (
	// DefaultWant is how many relay peers a call gets candidates at (draft §3.2.1 leaves it open): one that dies, one that is
	// congested, and one that works.
	DefaultWant = 3
	// DefaultIdle is how long allocations are kept ready after the last call: people call again within minutes or not at all.
	DefaultIdle = 5 * time.Minute
	// DefaultMaxAllocations bounds the allocations of a node: 64 calls with three each.
	DefaultMaxAllocations = 192

	maxWant      = 8    // allocations that one Allocate gives
	maxRelays    = 16   // relay peers known, as many as overlay.Find gives
	maxEndpoints = 8    // addresses and transports of one relay peer, as many as an advertisement has
	maxReady     = 2    // sets of ready allocations
	maxNetworks  = 16   // networks of this machine that are remembered
	maxTries     = 64   // attempts under way
	maxText      = 763  // bytes of a realm or nonce (RFC 8489 §14.9, §14.10)
	maxMessage   = 8192 // bytes of a STUN message or a relayed packet
)

// Overlay finds relay peers; overlay.Peer does.
type Overlay interface {
	Find(ctx context.Context, r overlay.Role, n int) ([]overlay.Advert, error)
	Failed(r overlay.Role, n overlay.NodeID)
}

var _ Overlay = (*overlay.Peer)(nil)

// Config makes a Pool. Overlay and Credentials are required.
type Config struct {
	Overlay Overlay
	// Credentials asks a relay peer for a credential over a stream on which both sides have shown who they are (overlay.ServiceTURN,
	// credential.Ask). An error that is a *credential.Refusal says that the relay peer is there and does not want to. Without
	// URIs in what it gives, those of the advertisement count.
	Credentials func(ctx context.Context, a overlay.Advert) (credential.Grant, error)

	Want           int           // relay peers to have at hand, 0: DefaultWant
	Ready          int           // sets of Want allocations kept ready between calls; 0: one, negative: none
	Idle           time.Duration // how long they are kept after the last Allocate, 0: DefaultIdle
	MaxAllocations int           // in all, 0: DefaultMaxAllocations

	// Dial opens a socket: network is "udp" or "tcp", a UDP socket is connected. nil: net.Dialer's.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// LocalAddrs tells the addresses of this machine, by which networks are told apart. nil: those of the interfaces.
	LocalAddrs func() []netip.Addr
	// Permit says whether a relay peer may be at an address. nil: everything but loopback, link-local, multicast and
	// unspecified addresses.
	Permit func(netip.Addr) bool

	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now
}

// ErrRefused: the relay peer answered and does not give what was asked for (its quota, its policy, or it is draining).
var ErrRefused = errors.New("the relay peer refuses")

// Reasons why there is no allocation.
var (
	ErrClosed  = errors.New("closed")
	ErrNoRelay = errors.New("no relay peer gave an address")
	ErrTooMany = errors.New("too many allocations")
)

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.Overlay == nil:
		return errors.New("a pool of relay peers needs an overlay to find them in")
	case c.Credentials == nil:
		return errors.New("a pool of relay peers needs a way to ask for credentials")
	case c.Want < 0 || c.Want > maxWant:
		return fmt.Errorf("%d relay peers are wanted; 1 to %d are possible", c.Want, maxWant)
	case c.Ready > maxReady:
		return fmt.Errorf("%d sets of ready allocations are wanted; %d are possible", c.Ready, maxReady)
	case c.Idle < 0 || c.MaxAllocations < 0:
		return errors.New("a negative bound")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Want == 0 {
		c.Want = DefaultWant
	}
	switch {
	case c.Ready == 0:
		c.Ready = 1
	case c.Ready < 0:
		c.Ready = 0
	}
	if c.Idle == 0 {
		c.Idle = DefaultIdle
	}
	if c.MaxAllocations == 0 {
		c.MaxAllocations = DefaultMaxAllocations
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.LocalAddrs == nil {
		c.LocalAddrs = localAddrs
	}
	if c.Permit == nil {
		c.Permit = permitted
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// permitted is Config.Permit's default.
func permitted(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// localAddrs is Config.LocalAddrs' default.
func localAddrs() (out []netip.Addr) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.Addr())
		}
	}
	return out
}
