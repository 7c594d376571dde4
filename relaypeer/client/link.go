package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pion/stun"
)

const (
	// firstRTO is the wait before a request is sent again (RFC 8489 §6.2.1 recommends 500 ms where nothing is known); a
	// request too many is cheaper than a caller who waits.
	firstRTO = 250 * time.Millisecond
	// maxRTO bounds the doubling of that wait.
	maxRTO = 1600 * time.Millisecond
	// maxSends is how often a request is sent: with the waits above an answer has 5 s.
	maxSends = 6
	// probeEvery is the wait of Alive, which has a second and a half in all.
	probeEvery = 250 * time.Millisecond
	// maxPending bounds the transactions under way over one link.
	maxPending = 96
	// writeTimeout is how long a connection may take no more octets before it counts as broken.
	writeTimeout = 2 * time.Second
	// sendBuffer bounds what the kernel keeps for a connection that stands still: a second of a video call.
	sendBuffer = 256 << 10
	// maxNonsense is how many messages that make no sense end a connection; datagrams of that kind are dropped.
	maxNonsense = 64
	// enoughRefusals is how many ICMP errors stand for the silence that follows: a relay peer that lives would have answered
	// meanwhile, so that forging them is of no use.
	enoughRefusals = 3
)

// Reasons why a relay peer counts as dead.
var (
	errNoAnswer   = errors.New("the relay peer does not answer")
	errPortClosed = errors.New("nothing listens at the relay peer's port")
	errBroken     = errors.New("the connection with the relay peer is broken")
)

// sink takes what a relay peer relays. b is good until the call returns.
type sink interface {
	channel(number uint16, b []byte)
	indication(from netip.AddrPort, b []byte)
	suspicious() // an ICMP error says that nothing listens at the relay peer's port
}

// link carries messages to a relay peer and back over one socket, and has the transactions of RFC 8489 §6.2. It has one
// goroutine, which ends with the socket.
type link struct {
	conn   net.Conn
	stream bool
	sink   sink // nil: there is no data yet. Set before the first Allocate succeeds

	writing sync.Mutex // one frame at a time into a stream

	mu      sync.Mutex
	pending map[transactionID]*transaction // guarded by mu
	rtt     time.Duration                  // guarded by mu: smoothed, 0 before the first answer
	err     error                          // guarded by mu: why done is closed
	done    chan struct{}                  // closed when nothing can be sent or will come any more
	gone    chan struct{}                  // closed when the goroutine has ended

	begun    time.Time
	heard    atomic.Int64  // nanoseconds from begun to the last message that made sense; 0: none
	nonsense atomic.Uint64 // messages dropped
	refusals atomic.Uint64 // ICMP errors that say that nothing listens
}

type transactionID = [stun.TransactionIDSize]byte

// transaction is one request under way.
type transaction struct {
	id     transactionID
	method stun.Method
	raw    []byte
	key    stun.MessageIntegrity // nil: the request was not authenticated
	begun  time.Time
	answer chan answer // capacity 1
}

type answer struct {
	m   *stun.Message
	err error
}

// newLink takes conn over.
func newLink(conn net.Conn, stream bool, s sink) *link {
	l := &link{
		conn: conn, stream: stream, sink: s, pending: map[transactionID]*transaction{},
		done: make(chan struct{}), gone: make(chan struct{}), begun: time.Now(),
	}
	if t, ok := conn.(interface{ SetWriteBuffer(int) error }); ok && stream {
		_ = t.SetWriteBuffer(sendBuffer)
	}
	go l.read()
	return l
}

// close ends the link and waits for its goroutine.
func (l *link) close() {
	l.end(ErrClosed)
	<-l.gone
}

// end stops the link; the first reason counts.
func (l *link) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = err
	close(l.done)
	_ = l.conn.Close()
}

func (l *link) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// quiet tells how long nothing has come.
func (l *link) quiet() time.Duration { return time.Since(l.begun) - time.Duration(l.heard.Load()) }

func (l *link) roundTrip() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rtt
}

// write sends one message.
func (l *link) write(b []byte) error {
	if !l.stream {
		_, err := l.conn.Write(b)
		if err != nil && errors.Is(err, syscall.ECONNREFUSED) {
			// That is about an earlier datagram; this one was not sent.
			l.refused()
			_, err = l.conn.Write(b)
		}
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := l.conn.Write(b); err != nil {
		// Part of a frame may be out, so that nothing that follows would be understood.
		l.end(fmt.Errorf("%w: %w", errBroken, err))
		return err
	}
	return nil
}

// begin sends a request; await must follow.
func (l *link) begin(m *stun.Message, key stun.MessageIntegrity) (*transaction, error) {
	t := &transaction{id: m.TransactionID, method: m.Type.Method, raw: m.Raw, key: key, begun: time.Now(), answer: make(chan answer, 1)}
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return nil, l.err
	}
	if len(l.pending) >= maxPending {
		l.mu.Unlock()
		return nil, fmt.Errorf("%d requests wait for the relay peer's answer", maxPending)
	}
	l.pending[t.id] = t
	l.mu.Unlock()
	if err := l.write(t.raw); err != nil && (l.stream || errors.Is(err, net.ErrClosed)) {
		l.forget(t)
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	return t, nil // a datagram that could not be sent is a datagram lost
}

func (l *link) forget(t *transaction) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, t.id)
}

// await waits for the answer, sending the request again over UDP: after pause and then twice as long each time, or always
// after pause if steady.
func (l *link) await(ctx context.Context, t *transaction, pause time.Duration, steady bool) (*stun.Message, error) {
	defer l.forget(t)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	sent, refusals := 1, l.refusals.Load()
	var failed error
	for {
		select {
		case a := <-t.answer:
			if a.err == nil && sent == 1 {
				l.measured(time.Since(t.begun))
			}
			return a.m, a.err
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%w: %w", errNoAnswer, ctx.Err()), failed)
		case <-l.done:
			return nil, l.reason()
		case <-timer.C:
			switch {
			case sent == maxSends:
				return nil, errors.Join(fmt.Errorf("%w: asked %d times", errNoAnswer, sent), failed)
			case l.refusals.Load()-refusals >= enoughRefusals:
				return nil, errPortClosed
			case !steady:
				pause = min(2*pause, maxRTO)
			}
			sent++
			if !l.stream {
				if err := l.write(t.raw); err != nil {
					failed = err
				}
			}
			timer.Reset(pause)
		}
	}
}

// exchange sends a request and waits for its answer.
func (l *link) exchange(ctx context.Context, m *stun.Message, key stun.MessageIntegrity) (*stun.Message, error) {
	t, err := l.begin(m, key)
	if err != nil {
		return nil, err
	}
	return l.await(ctx, t, l.rto(), false)
}

// rto is the first wait for an answer.
func (l *link) rto() time.Duration {
	if r := l.roundTrip(); r > 0 {
		return min(max(3*r, firstRTO/2), 2*firstRTO)
	}
	return firstRTO
}

// measured works one round trip into the smoothed one (RFC 6298 §2.3).
func (l *link) measured(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rtt == 0 {
		l.rtt = max(d, 1)
		return
	}
	l.rtt = max(l.rtt+(d-l.rtt)/8, 1)
}

// read is the goroutine.
func (l *link) read() {
	defer close(l.gone)
	buf := make([]byte, maxMessage)
	in := stun.New()
	var stream *bufio.Reader
	if l.stream {
		stream = bufio.NewReaderSize(l.conn, maxMessage)
	}
	for {
		var b []byte
		var err error
		if l.stream {
			b, err = readFrame(stream, buf)
		} else {
			var n int
			n, err = l.conn.Read(buf)
			b = buf[:n]
		}
		switch {
		case err == nil:
		case !l.stream && errors.Is(err, syscall.ECONNREFUSED):
			l.refused()
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue // nobody sets one
		default:
			l.end(fmt.Errorf("%w: %w", errBroken, err))
			return
		}
		if len(b) == maxMessage && !l.stream {
			continue // there was more of it
		}
		if l.take(in, b) {
			l.heard.Store(int64(max(1, time.Since(l.begun))))
		} else if l.nonsense.Add(1) > maxNonsense && l.stream {
			l.end(fmt.Errorf("%w: the relay peer sends nonsense", errBroken))
			return
		}
	}
}

// take works one message in and says whether it made sense. A panic costs that message only.
func (l *link) take(in *stun.Message, b []byte) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	if number, data, ok := channelIn(b); ok {
		if l.sink != nil {
			l.sink.channel(number, data)
		}
		return true
	}
	if !stun.IsMessage(b) {
		return false
	}
	in.Reset()
	in.Raw = append(in.Raw[:0], b...)
	if in.Decode() != nil {
		return false
	}
	switch in.Type.Class {
	case stun.ClassIndication:
		if in.Type.Method != stun.MethodData || l.sink == nil {
			return false
		}
		from, data, err := dataIn(in)
		if err != nil {
			return false
		}
		l.sink.indication(from, data)
		return true
	case stun.ClassSuccessResponse, stun.ClassErrorResponse:
		return l.answered(in)
	}
	return false
}

// answered gives a response to the transaction it belongs to. A success without the integrity that the request had is
// dropped (RFC 8489 §9.2.5), and the transaction goes on.
func (l *link) answered(in *stun.Message) bool {
	l.mu.Lock()
	t := l.pending[in.TransactionID]
	l.mu.Unlock()
	if t == nil || t.method != in.Type.Method {
		return false
	}
	m := stun.New()
	m.Raw = append(m.Raw[:0], in.Raw...)
	if m.Decode() != nil {
		return false
	}
	if t.key != nil && m.Type.Class == stun.ClassSuccessResponse && t.key.Check(m) != nil {
		return false
	}
	select {
	case t.answer <- answer{m: m}:
	default: // answered before
	}
	return true
}

// refused: the kernel says that nothing listens at the relay peer's port. Before the first answer that is the end of what
// was tried; later it is a reason to ask, since it can be forged.
func (l *link) refused() {
	l.refusals.Add(1)
	if l.heard.Load() == 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, t := range l.pending {
			select {
			case t.answer <- answer{err: errPortClosed}:
			default:
			}
		}
		return
	}
	if l.sink != nil {
		l.sink.suspicious()
	}
}
