package datapath

import (
	"fmt"
	"net/netip"
	"time"
)

const (
	// DefaultInterval is how long packets wait for others at most, when there are many. At 50,000 packets/s a millisecond makes
	// batches of 50; half of it costs a tenth more of CPU, twice as much saves no more than a twentieth. And it is not heard: a packet
	// of voice is made every 20 ms.
	DefaultInterval = time.Millisecond

	// MaxInterval bounds what may be asked for: beyond it the relay would be heard.
	MaxInterval = 5 * time.Millisecond

	// MaxDatagram is the largest datagram taken from anybody; pion takes no larger ones.
	MaxDatagram = 1600

	// DefaultQueue is how many packets wait for pion at a front: requests and indications, for a few milliseconds.
	DefaultQueue = 512

	// relayedQueue is how many packets from peers wait for pion at an allocation: those of a peer without a channel.
	relayedQueue = 64

	// maxChannels is how many channels of an allocation the short cut takes. A call with video needs four.
	maxChannels = 64

	// DefaultChannelLifetime is RFC 8656 §12's and pion's.
	DefaultChannelLifetime = 10 * time.Minute

	// writeTimeout is how long a client's TCP connection may take nothing before it is closed.
	writeTimeout = 5 * time.Second
)

// LoopOptions are a Loop's; the zero value is ready for use.
type LoopOptions struct {
	Interval time.Duration    // how long packets wait for others at most, when there are many; 0: DefaultInterval, negative: not at all
	Plain    bool             // ordinary sockets, as where the platform has no others
	Now      func() time.Time // nil: time.Now
}

// Validate says what is wrong.
func (o LoopOptions) Validate() error {
	if o.Interval > MaxInterval {
		return fmt.Errorf("the interval of a relay's batches is %v: at most %v, or the delay is heard", o.Interval, MaxInterval)
	}
	return nil
}

func (o LoopOptions) withDefaults() LoopOptions {
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Options are a front's; the zero value is ready for use.
type Options struct {
	// Admit is asked about every packet that would go to pion, before it does; false: it is dropped. It is not asked about
	// ChannelData that the short cut takes. It is called by one goroutine, must not block and must not keep the packet.
	Admit func(from netip.AddrPort, packet []byte) bool

	// Queue is how many packets wait for pion; 0: DefaultQueue.
	Queue int

	// ChannelLifetime must not be longer than turn.ServerConfig's ChannelBindTimeout; 0: DefaultChannelLifetime, as there.
	ChannelLifetime time.Duration

	// ReusePort lets several fronts share a port, so that several Loops share the work: the kernel keeps each client with one.
	// Linux only.
	ReusePort bool
}

// Validate says what is wrong.
func (o Options) Validate() error {
	if o.Queue < 0 || o.Queue > 1<<16 {
		return fmt.Errorf("a relay's queue of %d packets: 1 to %d, or 0 for %d", o.Queue, 1<<16, DefaultQueue)
	}
	if o.ChannelLifetime < 0 {
		return fmt.Errorf("a channel's lifetime of %v: it must not be negative", o.ChannelLifetime)
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Queue == 0 {
		o.Queue = DefaultQueue
	}
	if o.ChannelLifetime == 0 {
		o.ChannelLifetime = DefaultChannelLifetime
	}
	return o
}
