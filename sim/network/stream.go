package network

import (
	"encoding/binary"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// stream is one end of a stream.
type stream struct {
	conn      *conn
	twin      *stream
	far       bool // the end that did not open it
	stateless bool
	opened    int64
	lastAt    atomic.Int64 // when the last packet arrives

	mu       sync.Mutex
	proto    protocol.ID
	in       []byte        // guarded by mu: arrived and not read
	ready    chan struct{} // guarded by mu: made when a reader waits; closed when there is something new
	eof      bool          // guarded by mu: the far side sends no more
	reset    bool          // guarded by mu
	shutW    bool          // guarded by mu
	shutR    bool          // guarded by mu
	readBy   time.Time     // guarded by mu
	writeBy  time.Time     // guarded by mu
	out      *chunk        // guarded by mu: written at this instant
	sum      uint64        // guarded by mu: of the last message that has arrived, either way
	lastUse  int64         // guarded by mu
	started  bool          // guarded by mu: a handler has been started
	running  bool          // guarded by mu: a stateless handler works
	consumed bool          // guarded by mu: it has read something
}

// chunk is what was written at one instant: one message.
type chunk struct {
	at int64
	b  []byte
}

// content makes a number of b.
func content(b []byte) uint64 {
	h := mix(uint64(len(b)))
	for ; len(b) >= 8; b = b[8:] {
		h = mix(h ^ binary.LittleEndian.Uint64(b))
	}
	for _, c := range b {
		h = mix(h ^ uint64(c))
	}
	return h
}

var _ network.Stream = (*stream)(nil)

func newStreams(c *conn, p protocol.ID) (near, far *stream) {
	stateless := c.host.net.c.Stateless(p)
	near = &stream{conn: c, proto: p, stateless: stateless}
	far = &stream{conn: c.twin, proto: p, stateless: stateless, far: true}
	near.twin, far.twin = far, near
	near.opened = c.host.net.wheel.now()
	far.opened, near.lastUse = near.opened, near.opened
	return near, far
}

// Write sends b. What is written at one instant travels in one packet.
func (s *stream) Write(b []byte) (int, error) {
	n := s.conn.host.net
	now := n.wheel.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.reset:
		return 0, network.ErrReset
	case s.shutW:
		return 0, io.ErrClosedPipe
	case !s.writeBy.IsZero() && !time.Now().Before(s.writeBy):
		return 0, os.ErrDeadlineExceeded
	case len(b) == 0:
		return 0, nil
	}
	if s.out != nil && s.out.at == now {
		s.out.b = append(s.out.b, b...)
		s.conn.host.count.add(s.proto, 0, len(b))
		return len(b), nil
	}
	if s.stateless && !s.far && now-s.lastUse > int64(statelessIdle) {
		// The far side's handler has given the stream up meanwhile.
		s.reset = true
		s.conn.leave(s)
		s.twin.conn.leave(s.twin)
		return 0, network.ErrReset
	}
	s.lastUse = now
	c := &chunk{now, append(make([]byte, 0, max(64, len(b))), b...)}
	s.out = c
	s.conn.host.count.add(s.proto, 1, len(b)+n.c.Overhead)
	first := len(b)
	s.carry("sends", func() int { return first }, func() uint64 { return s.sumOf(c) }, func() { s.twin.deliver(s.sent(c)) })
	return len(b), nil
}

// carry takes something to the far side, behind what was sent before. Two messages that a host sends another at one instant
// may arrive at one instant; tag, made of what they say, decides then whose reader runs first.
func (s *stream) carry(what string, size func() int, tag func() uint64, do func()) {
	s.conn.host.net.note(what, s.conn.host, s.conn.far.index)
	s.conn.carry(packet{c: s.conn, size: size, last: &s.lastAt, tag: tag, do: do})
}

// signal is carry for the end of a stream.
func (s *stream) signal(what string, do func()) {
	s.conn.host.count.add(Transport, 0, s.conn.host.net.c.Overhead)
	s.carry(what, func() int { return 0 }, func() uint64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return mix(s.sum ^ uint64(len(what)))
	}, do)
}

// sumOf makes a number of a message. What was said on the stream before has no part in it: which of two goroutines that ask
// at one instant takes the stream kept from earlier is chance.
func (s *stream) sumOf(c *chunk) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return content(c.b)
}

// sent gives what was written at the instant of c, to which nothing is added any more.
func (s *stream) sent(c *chunk) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == c {
		s.out = nil
	}
	s.sum = content(c.b)
	return c.b
}

// deliver takes a message in.
func (s *stream) deliver(b []byte) {
	s.mu.Lock()
	s.sum = content(b)
	if s.reset || s.shutR {
		s.mu.Unlock()
		return
	}
	if len(s.in) == 0 {
		s.in = b
	} else {
		s.in = append(s.in, b...)
	}
	s.wake()
	start := s.far && (!s.started || s.stateless && !s.running)
	s.started = true
	s.mu.Unlock()
	if s.far {
		cnt := &s.conn.host.count
		cnt.mu.Lock()
		cnt.served++
		cnt.mu.Unlock()
	}
	if start {
		s.handle()
	}
}

// handle starts the handler of the stream's protocol.
func (s *stream) handle() {
	h := s.conn.host
	f := h.mux.handler(s.proto)
	s.mu.Lock()
	s.running, s.consumed = true, false
	s.mu.Unlock()
	if f == nil || !h.start(func() {
		f(s)
		if s.stateless {
			s.handled()
		}
	}) {
		s.Reset()
	}
}

// handled is called when a stateless handler has returned; more may have come meanwhile.
func (s *stream) handled() {
	s.mu.Lock()
	s.running = false
	again := len(s.in) > 0 && !s.reset
	s.mu.Unlock()
	if again {
		s.handle()
	}
}

// wake tells a waiting reader to look again. s.mu is held.
func (s *stream) wake() {
	if s.ready != nil {
		close(s.ready)
		s.ready = nil
	}
}

// Read waits for something to arrive. One goroutine reads at a time.
func (s *stream) Read(b []byte) (int, error) {
	for {
		s.mu.Lock()
		switch {
		case s.reset:
			s.mu.Unlock()
			return 0, network.ErrReset
		case s.shutR:
			s.mu.Unlock()
			return 0, io.ErrClosedPipe
		case len(s.in) > 0:
			n := copy(b, s.in)
			if s.in = s.in[n:]; len(s.in) == 0 {
				s.in = nil
			}
			s.consumed = true
			s.mu.Unlock()
			return n, nil
		case s.eof, s.far && s.stateless && s.consumed:
			s.mu.Unlock()
			return 0, io.EOF
		}
		if s.ready == nil {
			s.ready = make(chan struct{})
		}
		ready, by := s.ready, s.readBy
		s.mu.Unlock()
		if by.IsZero() {
			<-ready
			continue
		}
		left := time.Until(by)
		if left <= 0 {
			return 0, os.ErrDeadlineExceeded
		}
		t := time.NewTimer(left)
		select {
		case <-ready:
		case <-t.C:
		}
		t.Stop()
	}
}

// CloseWrite tells the far side that nothing more comes.
func (s *stream) CloseWrite() error {
	s.mu.Lock()
	if s.shutW || s.reset {
		s.mu.Unlock()
		return nil
	}
	s.shutW = true
	s.signal("closes", s.twin.ended)
	done := s.shutR || s.eof
	s.mu.Unlock()
	if done {
		s.conn.leave(s)
	}
	return nil
}

// ended is called when the far side sends no more.
func (s *stream) ended() {
	s.mu.Lock()
	s.eof = true
	s.wake()
	done := s.shutW || !s.started && s.far || s.stateless
	s.mu.Unlock()
	if done {
		s.conn.leave(s)
	}
}

// CloseRead throws away what still comes.
func (s *stream) CloseRead() error {
	s.mu.Lock()
	s.shutR, s.in = true, nil
	s.wake()
	done := s.shutW
	s.mu.Unlock()
	if done {
		s.conn.leave(s)
	}
	return nil
}

// Close is CloseWrite and CloseRead. A stateless handler that closes its stream has only ended its request.
func (s *stream) Close() error {
	if s.far && s.stateless {
		return nil
	}
	err := s.CloseWrite()
	s.CloseRead()
	s.conn.leave(s)
	return err
}

// Reset ends both directions at once, on the far side as well.
func (s *stream) Reset() error {
	if s.broken() {
		s.signal("resets", func() { s.twin.broken() })
	}
	return nil
}

// broken ends this end.
func (s *stream) broken() bool {
	s.mu.Lock()
	was := s.reset
	s.reset, s.in = true, nil
	s.wake()
	s.mu.Unlock()
	s.conn.leave(s)
	return !was
}

// ResetWithError is part of network.Stream.
func (s *stream) ResetWithError(network.StreamErrorCode) error { return s.Reset() }

// SetDeadline is part of network.Stream.
func (s *stream) SetDeadline(t time.Time) error {
	s.SetWriteDeadline(t)
	return s.SetReadDeadline(t)
}

// SetReadDeadline is part of network.Stream.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readBy = t
	s.wake()
	return nil
}

// SetWriteDeadline is part of network.Stream.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeBy = t
	return nil
}

// ID is part of network.Stream.
func (s *stream) ID() string {
	return s.conn.ID() + "-" + strconv.FormatInt(s.opened, 36)
}

// Protocol is part of network.Stream.
func (s *stream) Protocol() protocol.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proto
}

// SetProtocol is part of network.Stream.
func (s *stream) SetProtocol(p protocol.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proto = p
	return nil
}

// Stat is part of network.Stream.
func (s *stream) Stat() network.Stats {
	st := network.Stats{Direction: network.DirOutbound}
	if s.far {
		st.Direction = network.DirInbound
	}
	return st
}

// Conn is part of network.Stream.
func (s *stream) Conn() network.Conn { return s.conn }

// Scope is part of network.Stream.
func (s *stream) Scope() network.StreamScope { return &network.NullScope{} }
