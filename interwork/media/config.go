package media

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// Config is what a Manager works with. The zero value of every field is usable.
type Config struct {
	// PortMin and PortMax bound the ports towards phones: even RTP ports from PortMin, each with the odd one above it, up to
	// PortMax. 0: DefaultPortMin and DefaultPortMax.
	PortMin, PortMax uint16
	// Addresses gives the addresses of this machine that become host candidates; nil: those of its interfaces. It is asked
	// often, so it has to be cheap.
	Addresses func() []netip.Addr
	// Loopback makes loopback addresses candidates, for a node that lives on loopback.
	Loopback bool
	// RelayOnly: no candidates but relayed ones.
	RelayOnly bool
	// Public are addresses at which the outside reaches this machine directly: for descriptions towards a far side
	// without ICE. None: a relayed address is used.
	Public []netip.Addr
	// Relays gives allocations; nil: there are no relay peers.
	Relays Relays
	// STUN gives servers that tell a socket its reflexive address, besides the relay peers in use. May be nil.
	STUN func() []netip.AddrPort
	// Peers carries restarts of ICE; nil: calls are not repaired.
	Peers Peers
	// OfferSDES offers keys (RFC 4568) beside RTP/AVP to phones that signal over TLS (RFC 8643).
	OfferSDES bool
	// MaxSessions bounds the calls anchored at once; 0: DefaultMaxSessions.
	MaxSessions int
	// SilenceTimeout ends a session when nothing has come from either side, and no signalling, for so long; 0:
	// DefaultSilenceTimeout.
	SilenceTimeout time.Duration
	// Warm is how many gathered candidate sets are kept at hand once there is reason to; 0: DefaultWarm, < 0: none.
	Warm int
	// Opened is told of every UDP socket of this machine that is opened towards far sides; what it gives is called when the
	// socket is closed. A relay peer on this machine has to know them. nil: nobody is told.
	Opened func(at netip.AddrPort) (closed func())
	// Logger gets one line for what a volunteer would act on; nil: none.
	Logger *slog.Logger
}

// Validate says what is wrong with the configuration.
func (c *Config) Validate() error {
	lo, hi := c.PortMin, c.PortMax
	if lo == 0 && hi == 0 {
		return nil
	}
	if lo < 1024 || lo%2 != 0 || hi <= lo {
		return fmt.Errorf("media ports %d-%d: the first must be even, at least 1024, and below the last", lo, hi)
	}
	return nil
}

// withDefaults gives the configuration with nothing left out.
func (c Config) withDefaults() Config {
	if c.PortMin == 0 && c.PortMax == 0 {
		c.PortMin, c.PortMax = DefaultPortMin, DefaultPortMax
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = DefaultMaxSessions
	}
	if c.SilenceTimeout == 0 {
		c.SilenceTimeout = DefaultSilenceTimeout
	}
	if c.Warm == 0 {
		c.Warm = DefaultWarm
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Addresses == nil {
		loop := c.Loopback
		c.Addresses = func() []netip.Addr { return interfaceAddresses(loop) }
	}
	return c
}
