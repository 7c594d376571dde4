package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-msgio"
	"github.com/libp2p/go-msgio/pbio"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Bounds on the DHT's requests.
const (
	// maxMessage is the largest answer accepted: a record and k nodes with their addresses fit many times.
	maxMessage = 256 << 10
	// maxIdleStreams is how many streams are kept open for the next request, one for each node at most.
	maxIdleStreams = 64
)

// errStaleStream says that a kept stream turned out to be dead before the request was answered; a new one is worth a try.
var errStaleStream = errors.New("the stream had been closed")

// sender carries the DHT's requests, for kad-dht's own upkeep and for this package's walks alike. kad-dht's own sender
// waits 10 s for a connection and for an answer and queues requests to one node behind each other; here a request has the
// deadline of its context, at most Timing.RPC, and never waits for another.
type sender struct {
	host   host.Host
	protos []protocol.ID
	limit  time.Duration

	requests, failures atomic.Uint64

	mu   sync.Mutex
	idle map[NodeID]network.Stream // guarded by mu
}

var _ pb.MessageSenderWithDisconnect = (*sender)(nil)

func newSender(h host.Host, protos []protocol.ID, limit time.Duration) *sender {
	return &sender{host: h, protos: protos, limit: limit, idle: map[NodeID]network.Stream{}}
}

// SendRequest sends one message and waits for the answer.
func (s *sender) SendRequest(ctx context.Context, p NodeID, m *pb.Message) (*pb.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limit-apart(kadTarget(string(p))))
	defer cancel()
	s.requests.Add(1)
	start := time.Now()
	answer, err := s.exchange(ctx, p, m, true)
	if err != nil {
		s.failures.Add(1)
		return nil, fmt.Errorf("asking node %s: %w", p, err)
	}
	s.host.Peerstore().RecordLatency(p, time.Since(start))
	return answer, nil
}

// SendMessage sends one message without waiting for an answer.
func (s *sender) SendMessage(ctx context.Context, p NodeID, m *pb.Message) error {
	ctx, cancel := context.WithTimeout(ctx, s.limit-apart(kadTarget(string(p))))
	defer cancel()
	_, err := s.exchange(ctx, p, m, false)
	return err
}

// OnDisconnect forgets the stream to a node that is gone.
func (s *sender) OnDisconnect(_ context.Context, p NodeID) {
	if st := s.take(p); st != nil {
		st.Reset()
	}
}

// close forgets all streams.
func (s *sender) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, st := range s.idle {
		st.Reset()
		delete(s.idle, p)
	}
}

func (s *sender) exchange(ctx context.Context, p NodeID, m *pb.Message, wait bool) (*pb.Message, error) {
	if st := s.take(p); st != nil {
		answer, err := s.on(ctx, st, p, m, wait)
		if err == nil || !errors.Is(err, errStaleStream) || ctx.Err() != nil {
			return answer, err
		}
	}
	if s.host.Network().Connectedness(p) != network.Connected {
		tallyOf(ctx).dial()
	}
	st, err := s.host.NewStream(direct(ctx), p, s.protos...)
	if err != nil {
		return nil, err
	}
	return s.on(ctx, st, p, m, wait)
}

// on does one exchange on a stream and keeps the stream if it is still good.
func (s *sender) on(ctx context.Context, st network.Stream, p NodeID, m *pb.Message, wait bool) (*pb.Message, error) {
	// The deadline ends the exchange; a cancelled context must end it too.
	if d, ok := ctx.Deadline(); ok {
		st.SetDeadline(d)
	}
	stop := context.AfterFunc(ctx, func() { st.Reset() })
	defer stop()
	if err := pbio.NewDelimitedWriter(st).WriteMsg(m); err != nil {
		st.Reset()
		return nil, fmt.Errorf("%w: %w", errStaleStream, err)
	}
	tallyOf(ctx).message(delimited(proto.Size(m)))
	if !wait {
		s.keep(p, st, stop)
		return nil, nil
	}
	r := msgio.NewVarintReaderSize(st, maxMessage)
	b, err := r.ReadMsg()
	if err != nil {
		st.Reset()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: %w", errStaleStream, err)
		}
		return nil, err
	}
	tallyOf(ctx).message(delimited(len(b)))
	answer := new(pb.Message)
	err = unmarshalMessage(b, answer)
	r.ReleaseMsg(b)
	if err != nil {
		st.Reset()
		return nil, err
	}
	s.keep(p, st, stop)
	return answer, nil
}

// delimited gives the bytes of a message of n with its length in front.
func delimited(n int) int { return protowire.SizeBytes(n) }

func (s *sender) take(p NodeID) network.Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.idle[p]
	delete(s.idle, p)
	return st
}

func (s *sender) keep(p NodeID, st network.Stream, stop func() bool) {
	if !stop() {
		return // the context ended meanwhile and took the stream with it
	}
	st.SetDeadline(time.Time{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.idle[p]; ok || len(s.idle) >= maxIdleStreams {
		go st.Close() // may write to the network, so not under the lock
		return
	}
	s.idle[p] = st
}
