package flow

import (
	"bufio"
	"errors"
	"io"
	"sync"

	"p2psip/interwork/message"
)

// NewPeerFlow starts reading frames (see AppendFrame) from rw, a stream to another node, and owns it from now on. local and
// remote are the names of the two nodes, peer is whatever authenticated the far side.
//
// The flow ends with the stream, with a breach of the framing, or with Close, which returns at once: its two goroutines are
// gone soon after Done is closed.
func NewPeerFlow(rw io.ReadWriteCloser, local, remote Addr, peer any, h Handler, o Options) Flow {
	o = o.withDefaults()
	f := &peerFlow{local: local, remote: remote, peer: peer, g: newGuard(h, o)}
	f.link = newLink(rw, o, func(dst, b []byte) []byte { return AppendFrame(dst, FrameMessage, b) })
	f.idle = AppendFrame(nil, FrameKeepAlive, nil)
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		f.write()
	}()
	go f.read()
	return f
}

type peerFlow struct {
	*link
	local, remote Addr
	peer          any
	g             *guard
	wg            sync.WaitGroup // the writer
}

var _ Flow = (*peerFlow)(nil)

func (f *peerFlow) Transport() Transport { return TransportP2P }
func (f *peerFlow) Reliable() bool       { return true }
func (f *peerFlow) Local() Addr          { return f.local }
func (f *peerFlow) Remote() Addr         { return f.remote }
func (f *peerFlow) Edge() bool           { return false }
func (f *peerFlow) Peer() any            { return f.peer }

func (f *peerFlow) Send(b []byte) error {
	if len(b) > MaxFrame {
		return ErrTooLarge
	}
	return f.link.Send(b)
}

func (f *peerFlow) refuse(e *message.Error) { f.g.refuse(f, e, 0) }

func (f *peerFlow) read() {
	in := bufio.NewReader(f.rw)
	var buf []byte
	for {
		f.deadline(3 * f.o.KeepAlive)
		if _, err := in.Peek(1); err != nil {
			break
		}
		f.deadline(f.o.MessageTimeout)
		kind, payload, err := ReadFrame(in, buf)
		if err != nil {
			if errors.Is(err, ErrFrame) && f.g.logs.take() {
				f.o.Logger.Warn("peer breaks the framing; the stream is closed", "peer", f.remote, "error", err)
			}
			break
		}
		if kind == FrameMessage {
			f.deliver(payload)
		}
		if buf = payload; cap(buf) > batchBytes {
			buf = nil
		}
	}
	f.kill()
	f.wg.Wait()
	f.g.closed(f)
}

func (f *peerFlow) deliver(b []byte) {
	m, err := message.Parse(b, false)
	if err != nil {
		f.g.refused(f, err)
		return
	}
	f.g.message(f, f.remote.String(), m)
}
