package load

import (
	"errors"
	"fmt"
	"time"
)

// Relay is one of the relays that can be compared.
type Relay string

const (
	Ours   Relay = "p2psip" // a relay peer as members use it: pion/turn on the batched data path, behind the gate
	Plain  Relay = "pion"   // pion/turn on ordinary sockets
	Coturn Relay = "coturn" // turnserver, as it comes
)

// Config is what to measure. The zero values stand for the defaults of withDefaults.
type Config struct {
	Relays      []Relay       `json:"relays"`
	Allocations int           `json:"allocations"`
	Rate        float64       `json:"rate"`    // packets a second for each allocation, each way
	Payload     int           `json:"payload"` // octets of data in a packet
	Warmup      time.Duration `json:"warmup"`
	Duration    time.Duration `json:"duration"` // of the part of a round that counts
	Rounds      int           `json:"rounds"`

	// Command gives the command line that runs our relay, as Serve does.
	Command func(Relay) (path string, args []string) `json:"-"`
	// Progress is told what begins; nil: nobody is.
	Progress func(round int, r Relay) `json:"-"`
}

const (
	// DefaultPayload is 20 ms of G.711 with its RTP header.
	DefaultPayload     = 172
	DefaultRate        = 50
	DefaultAllocations = 500
	DefaultRounds      = 5
	DefaultDuration    = 8 * time.Second
	defaultWarmup      = time.Second

	minPayload     = 24 // what the generator writes into a packet
	maxPayload     = 1400
	maxAllocations = 5000
)

// Defaults fills in what is not set.
func (c Config) Defaults() Config {
	if c.Relays == nil {
		c.Relays = []Relay{Coturn, Plain, Ours}
	}
	if c.Allocations == 0 {
		c.Allocations = DefaultAllocations
	}
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	if c.Payload == 0 {
		c.Payload = DefaultPayload
	}
	if c.Warmup == 0 {
		c.Warmup = defaultWarmup
	}
	if c.Duration == 0 {
		c.Duration = DefaultDuration
	}
	if c.Rounds == 0 {
		c.Rounds = DefaultRounds
	}
	return c
}

// Validate says what is wrong.
func (c Config) Validate() error {
	switch {
	case c.Allocations < 1 || c.Allocations > maxAllocations:
		return fmt.Errorf("%d allocations: 1 to %d", c.Allocations, maxAllocations)
	case c.Rate <= 0 || c.Rate > 1e5:
		return fmt.Errorf("%g packets a second: more than 0 and at most 100,000", c.Rate)
	case c.Payload < minPayload || c.Payload > maxPayload:
		return fmt.Errorf("packets of %d octets: %d to %d", c.Payload, minPayload, maxPayload)
	case c.Duration < 100*time.Millisecond || c.Duration > 4*time.Minute:
		return fmt.Errorf("rounds of %v: 100ms to 4m", c.Duration) // permissions last five
	case c.Warmup < 0 || c.Warmup > time.Minute:
		return fmt.Errorf("a warm-up of %v: at most 1m", c.Warmup)
	case c.Rounds < 1 || c.Rounds > 100:
		return fmt.Errorf("%d rounds: 1 to 100", c.Rounds)
	case len(c.Relays) == 0:
		return errors.New("there is no relay to measure")
	}
	seen := map[Relay]bool{}
	for _, r := range c.Relays {
		if r != Ours && r != Plain && r != Coturn {
			return fmt.Errorf("there is no relay %q: %s, %s and %s can be compared", r, Coturn, Plain, Ours)
		}
		if seen[r] {
			return fmt.Errorf("the relay %s is there twice", r)
		}
		seen[r] = true
	}
	return nil
}
