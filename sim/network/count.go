package network

import (
	"maps"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"
)

// Transport is the name under which handshakes, identification and keep-alives are counted.
const Transport protocol.ID = "transport"

// Traffic is what was sent.
type Traffic struct {
	Messages uint64
	Bytes    uint64
}

func (t *Traffic) add(messages, bytes int) {
	t.Messages += uint64(messages)
	t.Bytes += uint64(bytes)
}

// Overhead gives the bytes of the packet around a message, and those that a handshake costs each side.
func (n *Network) Overhead() (packet, handshake int) { return n.c.Overhead, n.c.HandshakeBytes }

// counter counts what one host sends, for each protocol.
type counter struct {
	mu      sync.Mutex
	sent    map[protocol.ID]*Traffic // guarded by mu
	served  uint64                   // guarded by mu: requests of others taken in
	dials   uint64                   // guarded by mu
	failed  uint64                   // guarded by mu: dials that came to nothing
	openFor time.Duration            // guarded by mu: time connected, over connections that have ended
}

func (c *counter) add(p protocol.ID, messages, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent == nil {
		c.sent = map[protocol.ID]*Traffic{}
	}
	t := c.sent[p]
	if t == nil {
		t = &Traffic{}
		c.sent[p] = t
	}
	t.add(messages, bytes)
}

// Counts is what one host has sent and taken in so far.
type Counts struct {
	Sent   map[protocol.ID]Traffic
	Served uint64 // streams' worth of requests: messages received on streams that others opened
	Dials  uint64
	Failed uint64 // dials that came to nothing
}

// Total sums the protocols up, without the transport.
func (c Counts) Total() (t Traffic) {
	for p, s := range c.Sent {
		if p != Transport {
			t.Messages += s.Messages
			t.Bytes += s.Bytes
		}
	}
	return t
}

func (c *counter) get() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Counts{Sent: make(map[protocol.ID]Traffic, len(c.sent)), Served: c.served, Dials: c.dials, Failed: c.failed}
	for p, t := range maps.All(c.sent) {
		out.Sent[p] = *t
	}
	return out
}
