package flow

import (
	"io"
	"sync"
	"time"
)

const (
	// closeFlush is how long a closed flow may take to write what was sent before.
	closeFlush = time.Second
	// batchBytes is how much is written at once, within WriteTimeout.
	batchBytes = 32 << 10
	// keepBytes is the largest buffer that a link keeps while nothing is to be written.
	keepBytes = 8 << 10
	// lingerBytes is how much is read and thrown away so that the last answer is not lost with a reset.
	lingerBytes = 256 << 10
)

// link is what a connection and a peer stream have in common: a bounded queue, the one writer, and an end that happens
// once. Its owner runs the reader.
type link struct {
	rw     io.ReadWriteCloser
	o      Options
	encode func(dst, b []byte) []byte // appends one message in the form it travels in
	idle   []byte                     // written after KeepAlive without a write, nil for never

	wake chan struct{} // capacity 1: there is something to write, or to end
	done chan struct{} // closed once the link is dead

	mu      sync.Mutex // guards the fields below
	queue   []byte     // messages as they travel, waiting for the writer
	waiting int        // messages in queue
	bytes   int        // octets in queue or being written
	closing bool
	linger  bool // leave the reading side open after flushing
	dead    bool
	flush   *time.Timer
}

func newLink(rw io.ReadWriteCloser, o Options, encode func(dst, b []byte) []byte) *link {
	return &link{rw: rw, o: o, encode: encode, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Done is closed when the flow is dead.
func (l *link) Done() <-chan struct{} { return l.done }

// Send queues a copy of b.
func (l *link) Send(b []byte) error {
	l.mu.Lock()
	switch {
	case l.dead || l.closing:
		l.mu.Unlock()
		return ErrClosed
	case l.waiting >= l.o.QueueMessages || l.bytes+len(b) > l.o.QueueBytes:
		l.mu.Unlock()
		l.o.Counters.Full.Add(1)
		return ErrFull
	}
	before := len(l.queue)
	l.queue = l.encode(l.queue, b)
	l.bytes += len(l.queue) - before
	l.waiting++
	l.mu.Unlock()
	l.signal()
	return nil
}

func (l *link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Close writes what has been sent and then ends the flow, within a second. It does not wait for that; Done tells.
func (l *link) Close() error {
	l.finish(false)
	return nil
}

func (l *link) finish(linger bool) {
	l.mu.Lock()
	if !l.closing && !l.dead {
		l.closing, l.linger = true, linger
		l.flush = time.AfterFunc(closeFlush, l.kill)
	}
	l.mu.Unlock()
	l.signal()
}

// kill ends the flow at once.
func (l *link) kill() {
	l.mu.Lock()
	if l.dead {
		l.mu.Unlock()
		return
	}
	l.dead = true
	l.queue = nil
	if l.flush != nil {
		l.flush.Stop()
	}
	l.mu.Unlock()
	if r, ok := l.rw.(interface{ Reset() error }); ok && !l.flushed() {
		_ = r.Reset() // a libp2p stream's Close waits for nothing and leaves the far side reading
	} else {
		_ = l.rw.Close()
	}
	close(l.done)
}

// flushed reports that the flow was closed in good order and nothing is left to write.
func (l *link) flushed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing && l.bytes == 0
}

// write is the writer: it runs until the flow is dead, or closed and flushed.
func (l *link) write() {
	var spare []byte
	var silence <-chan time.Time
	if l.idle != nil {
		t := time.NewTicker(l.o.KeepAlive)
		defer t.Stop()
		silence = t.C
	}
	wrote := false // since the last tick
	for {
		l.mu.Lock()
		batch := l.queue
		l.queue, l.waiting = spare[:0], 0
		closing, dead, linger := l.closing, l.dead, l.linger
		l.mu.Unlock()
		if dead {
			return
		}
		if len(batch) == 0 {
			if closing {
				l.end(linger)
				return
			}
			spare = batch
			select {
			case <-l.wake:
			case <-l.done:
				return
			case <-silence:
				if !wrote && l.put(l.idle) != nil {
					l.kill()
					return
				}
				wrote = false
			}
			continue
		}
		wrote = true
		for rest := batch; len(rest) > 0; {
			n := min(len(rest), batchBytes)
			if l.put(rest[:n]) != nil {
				l.kill()
				return
			}
			rest = rest[n:]
			l.mu.Lock()
			l.bytes -= n
			l.mu.Unlock()
		}
		if spare = batch; cap(spare) > keepBytes {
			spare = nil
		}
	}
}

// end closes a flushed flow, or its writing half.
func (l *link) end(linger bool) {
	if c, ok := l.rw.(interface{ CloseWrite() error }); linger && ok {
		_ = c.CloseWrite()
		return
	}
	l.kill()
}

// put writes b whole within WriteTimeout.
func (l *link) put(b []byte) error {
	if d, ok := l.rw.(interface{ SetWriteDeadline(time.Time) error }); !ok || d.SetWriteDeadline(time.Now().Add(l.o.WriteTimeout)) != nil {
		t := time.AfterFunc(l.o.WriteTimeout, l.kill)
		defer t.Stop()
	}
	_, err := l.rw.Write(b)
	return err
}

// deadline sets by when the next octet has to arrive.
func (l *link) deadline(d time.Duration) {
	if s, ok := l.rw.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = s.SetReadDeadline(time.Now().Add(d))
	}
}

// drain lets the far side read the last answer: it reads on, for a second, what nobody wants any more.
func (l *link) drain() {
	l.finish(true)
	l.deadline(closeFlush)
	_, _ = io.CopyN(io.Discard, l.rw, lingerBytes)
}
