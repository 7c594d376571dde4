package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"p2psip/interwork/flow"
	"p2psip/interwork/transaction"
	"p2psip/overlay"
)

// Config makes a Core.
type Config struct {
	OID      overlay.ID // the overlay's identifier: the domain this proxy is responsible for
	NodeName string     // this node's name, overlay.NodeName(id, OID)
	Secret   []byte     // at least 16 bytes, kept across restarts: proves flow tokens and branches

	// Own are the addresses of all phone-side sockets, of every transport. A Route or Request-URI that names one of them
	// means this node.
	Own []flow.Addr
	// Advertise is the host written into Via and Record-Route when a socket is bound to the unspecified address.
	Advertise string

	Edge     Edge
	Sockets  Sockets
	Locator  Locator
	Peers    Peers
	Outbound Outbound // nil: see Border and Proxies

	// Border is the public side of a proxy peer, nil for other nodes. Public are the addresses of its sockets, as the public
	// side knows them.
	Border Border
	Public []PublicAddr
	// ShowVias has a proxy peer show the public side the Vias of requests that leave, with the names of nodes and the addresses
	// of phones, for who looks for a fault.
	ShowVias bool
	// Words are the words of proxy peers for those who call from this overlay by way of the public side; nil: none counts.
	Words Words
	// Proxies finds the proxy peers of others, for a node that is none. Without Border, Proxies and Outbound a request for
	// another domain gets 404.
	Proxies ProxyPeers
	// Media replaces the session descriptions of phones and moves their sound; nil: bodies pass untouched.
	Media Media
	// Lines has calls leave the overlay as another address of the caller; nil: none does.
	Lines Lines

	Transactions transaction.Options // Handler and Trace are set by New
	Limits       Limits
	Logger       *slog.Logger // nil: slog.Default()

	// Trace, when set, sees every message in and out. It is called on the goroutine that handles the message, sometimes
	// under a lock, so it must be quick, must not call the core and must copy what it keeps.
	Trace func(Event)
	// Progress, when set, hears where the time of a request goes, under the same conditions as Trace.
	Progress func(Step)

	// Random makes branches unique; nil: the runtime's generator. No secret comes from it.
	Random rand.Source
}

// PublicAddr is a socket of a proxy peer and what it is known as: Name stands in Via, with its host instead of the socket's
// where a NAT or a wildcard address is in between.
type PublicAddr struct{ Socket, Name flow.Addr }

// Limits bound what strangers can make a Core do. A zero field means its default.
type Limits struct {
	Lookups        int           // lookups under way; 64
	LookupsPerFlow int           // lookups under way for one source; 8
	LookupsPerHost int           // and for one host of the public side; 32, and three quarters of Lookups for one that the Border trusts
	LookupTime     time.Duration // longest lookup; 8 s, well under the 32 s of a non-INVITE transaction
	LookupGrace    time.Duration // how long a lookup may go on after all targets so far failed; 1 s
	Dials          int           // streams to other nodes being opened; 64
	DialTime       time.Duration // longest opening of a stream; 3 s
	RedialTime     time.Duration // longest opening of another stream to a node that was silent, or to a proxy peer; 1.5 s
	HopTime        time.Duration // how long a place outside may be silent while there is another one to try; 4 s
	DialQueue      int           // messages waiting for one stream; 64
	Breadth        int           // Max-Breadth of a request that has none (RFC 5393 §5.3.3); 60
	Branches       int           // places one request is sent to in all; 32
	Calls          int           // entries of the table of calls; 4096
	CallAge        time.Duration // a call without a sign of life for so long is forgotten; 12 h
	CallIdle       time.Duration // and does no longer count as load, unless it has a session interval; 10 min
	MediaPerFlow   int           // requests of one source with Media that have no final answer; 32
	MediaTime      time.Duration // how long a request waits for Media; 1.5 s, inside the 4 s that a caller waits for a word
	Session        time.Duration // interval that a proxy peer asks for where nobody else does (RFC 4028); 30 min
}

func (l Limits) withDefaults() Limits {
	num := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	dur := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	num(&l.Lookups, 64)
	num(&l.LookupsPerFlow, 8)
	num(&l.LookupsPerHost, 32)
	dur(&l.LookupTime, 8*time.Second)
	dur(&l.LookupGrace, time.Second)
	num(&l.MediaPerFlow, 32)
	num(&l.Dials, 64)
	dur(&l.DialTime, 3*time.Second)
	dur(&l.RedialTime, 1500*time.Millisecond)
	dur(&l.HopTime, 4*time.Second)
	num(&l.DialQueue, 64)
	num(&l.Breadth, 60)
	num(&l.Branches, 32)
	num(&l.Calls, 4096)
	dur(&l.CallAge, 12*time.Hour)
	dur(&l.CallIdle, 10*time.Minute)
	dur(&l.MediaTime, 1500*time.Millisecond)
	dur(&l.Session, 30*time.Minute)
	return l
}

// minSecret is the shortest secret that New takes: 128 bits.
const minSecret = 16

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.OID == "":
		return errors.New("proxy: no overlay identifier")
	case !strings.HasSuffix(c.NodeName, "."+string(c.OID)):
		return fmt.Errorf("proxy: the node name %q is not inside %s", c.NodeName, c.OID)
	case len(c.Secret) < minSecret:
		return fmt.Errorf("proxy: the secret has %d bytes, %d are needed", len(c.Secret), minSecret)
	case c.Edge == nil, c.Sockets == nil, c.Locator == nil, c.Peers == nil:
		return errors.New("proxy: Edge, Sockets, Locator and Peers are all needed")
	}
	for _, n := range []int{c.Limits.Lookups, c.Limits.LookupsPerFlow, c.Limits.LookupsPerHost, c.Limits.MediaPerFlow, c.Limits.Dials, c.Limits.DialQueue,
		c.Limits.Breadth, c.Limits.Branches, c.Limits.Calls} {
		if n < 0 {
			return errors.New("proxy: a limit is negative")
		}
	}
	for _, d := range []time.Duration{c.Limits.LookupTime, c.Limits.LookupGrace, c.Limits.DialTime, c.Limits.RedialTime,
		c.Limits.HopTime, c.Limits.CallAge, c.Limits.CallIdle, c.Limits.MediaTime, c.Limits.Session} {
		if d < 0 {
			return errors.New("proxy: a time limit is negative")
		}
	}
	if s := c.Limits.Session; s != 0 && s < minSession*time.Second {
		return fmt.Errorf("proxy: the session interval %v is shorter than the %d s of RFC 4028", s, minSession)
	}
	return nil
}
