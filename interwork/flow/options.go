package flow

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"p2psip/interwork/message"
)

// Defaults of Options, and why.
const (
	// DefaultMaxConns keeps the memory of a flood below what 1,024 buffers of 64 KiB take.
	DefaultMaxConns = 1024
	// DefaultMaxConnsPerIP leaves room for an office of phones behind one NAT.
	DefaultMaxConnsPerIP = 128
	// DefaultIdleTimeout is longer than the usual registration of 3,600 s (RFC 3261 §10.2), since a phone without RFC 5626
	// says nothing in between. A dead far side is found by TCP's own keep-alive long before.
	DefaultIdleTimeout = 65 * time.Minute
	// DefaultMessageTimeout is how long one message may take from its first octet to its last, and a new connection to
	// its first message: the lifetime of a transaction, 64*T1 (RFC 3261 §17).
	DefaultMessageTimeout = 32 * time.Second
	// DefaultWriteTimeout is how long the far side may leave what is sent to it unread.
	DefaultWriteTimeout = 10 * time.Second
	// DefaultHandshakeTimeout and DefaultDialTimeout leave two tries within the time a caller waits for a first sign.
	DefaultHandshakeTimeout = 5 * time.Second
	DefaultDialTimeout      = 5 * time.Second
	// DefaultKeepAlive is the lower bound of RFC 5626 §4.4.1 for TCP keep-alives, applied to peer streams.
	DefaultKeepAlive = 95 * time.Second
	// DefaultQueueMessages and DefaultQueueBytes hold what a far side may fall behind: a burst, not a backlog.
	DefaultQueueMessages = 256
	DefaultQueueBytes    = 1 << 20
	// DefaultReplyRate lets a torture test get all its answers, and a flood of rubbish some 60 kB/s of them.
	DefaultReplyRate = 200
)

// Options bounds flows. A zero value means the named default.
type Options struct {
	Limits           message.Limits // of one message
	MaxConns         int            // connections of one listener, accepted and dialled
	MaxConnsPerIP    int            // accepted connections of one IP address
	IdleTimeout      time.Duration  // a connection without an octet for so long is closed
	MessageTimeout   time.Duration  // from the first octet of a message to its last; from accepting to the first message
	WriteTimeout     time.Duration  // a write may take so long before the connection is given up
	HandshakeTimeout time.Duration  // TLS handshake of an accepted or dialled connection
	DialTimeout      time.Duration  // opening a connection
	KeepAlive        time.Duration  // silence after which a peer flow sends a keep-alive frame; three times it is death
	QueueMessages    int            // messages waiting to be written on one connection
	QueueBytes       int            // octets waiting to be written on one connection
	ReplyRate        int            // answers to malformed messages per second, per listener or peer flow

	// Public says that the socket faces the public SIP world, not phones: its flows are neither edge nor peer (see KindOf),
	// and answers to rubbish are never larger than the rubbish, whoever sent it.
	Public bool

	// Heard, when set, is told of every datagram that is to be read as SIP: from where, and of what size.
	Heard func(from netip.AddrPort, size int)

	// TLS is for dialling out of a TLS listener. The name to verify is the address dialled unless ServerName is set.
	TLS *tls.Config
	// Dial opens a connection; net.Dialer's DialContext if nil.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	Logger   *slog.Logger // nil: silent
	Counters *Counters    // may be shared by several listeners; nil: its own
}

// Counters counts what happened, for status and tests.
type Counters struct {
	Messages  atomic.Uint64 // valid messages delivered
	Malformed atomic.Uint64 // messages refused by package message
	Refused   atomic.Uint64 // malformed messages that were answered
	Panics    atomic.Uint64 // panics of the handler
	Rejected  atomic.Uint64 // connections closed at once because of a limit
	Full      atomic.Uint64 // messages not sent because the queue was full
}

// Validate refuses values that cannot work.
func (o Options) Validate() error {
	for _, v := range []struct {
		name  string
		value int64
	}{
		{"Limits.Header", int64(o.Limits.Header)}, {"Limits.Body", int64(o.Limits.Body)},
		{"MaxConns", int64(o.MaxConns)}, {"MaxConnsPerIP", int64(o.MaxConnsPerIP)},
		{"IdleTimeout", int64(o.IdleTimeout)}, {"MessageTimeout", int64(o.MessageTimeout)},
		{"WriteTimeout", int64(o.WriteTimeout)}, {"HandshakeTimeout", int64(o.HandshakeTimeout)},
		{"DialTimeout", int64(o.DialTimeout)}, {"KeepAlive", int64(o.KeepAlive)},
		{"QueueMessages", int64(o.QueueMessages)}, {"QueueBytes", int64(o.QueueBytes)},
		{"ReplyRate", int64(o.ReplyRate)},
	} {
		if v.value < 0 {
			return fmt.Errorf("flow options: %s is negative", v.name)
		}
	}
	return nil
}

func or[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

func (o Options) withDefaults() Options {
	o.MaxConns = or(o.MaxConns, DefaultMaxConns)
	o.MaxConnsPerIP = or(o.MaxConnsPerIP, DefaultMaxConnsPerIP)
	o.IdleTimeout = or(o.IdleTimeout, DefaultIdleTimeout)
	o.MessageTimeout = or(o.MessageTimeout, DefaultMessageTimeout)
	o.WriteTimeout = or(o.WriteTimeout, DefaultWriteTimeout)
	o.HandshakeTimeout = or(o.HandshakeTimeout, DefaultHandshakeTimeout)
	o.DialTimeout = or(o.DialTimeout, DefaultDialTimeout)
	o.KeepAlive = or(o.KeepAlive, DefaultKeepAlive)
	o.QueueMessages = or(o.QueueMessages, DefaultQueueMessages)
	o.QueueBytes = or(o.QueueBytes, DefaultQueueBytes)
	o.ReplyRate = or(o.ReplyRate, DefaultReplyRate)
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Counters == nil {
		o.Counters = new(Counters)
	}
	return o
}
