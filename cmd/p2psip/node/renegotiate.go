package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"p2psip/overlay"
)

// Media under way are mended between the two nodes of a call, not in the dialog of the phones: a proxy that puts requests of its
// own into it would break their CSeq. One stream of the overlay carries one question and one answer:
//
//	question  1 byte version (1), 1 byte length of the token, the token, 2 bytes length of the offer (big endian), the offer
//	answer    1 byte: 0 for an answer, 1 for a refusal; 2 bytes length; the answer, or the reason in plain text
//
// The token names the call to both nodes; they have agreed on it in the descriptions of the phones. Offer and answer are
// session descriptions with the new transports. Who may ask is the node at the far side of the call and nobody else: the
// stream says which node that is, and its credential has been checked before the first byte of the question is read.
const (
	mediaVersion = 1

	maxMediaToken  = 64
	maxMediaSDP    = 16 << 10
	maxMediaReason = 120

	mediaAnswer  = 0
	mediaRefusal = 1
)

// Bounds and times of the stream.
const (
	maxMediaStreams = 32 // being answered at one time
	maxMediaPerPeer = 4  // of one node: a call each way, and what it has given up
	// mediaQuestionTime is how long a question may take to arrive, mediaTime how long all of it may take: the far side
	// gathers candidates in between.
	mediaQuestionTime = 2 * time.Second
	mediaTime         = 5 * time.Second
	// mediaGreeting is how long a node may take to greet over a connection that looks alive. Beyond it the connection leads
	// nowhere, as after a change of networks, and another one is opened.
	mediaGreeting = 800 * time.Millisecond
)

// Errors of a renegotiation.
var (
	errMediaMalformed = errors.New("malformed message of a media stream")
	errMediaRefused   = errors.New("the far node refused to renegotiate")
)

// appendQuestion writes a question.
func appendQuestion(b []byte, token string, offer []byte) ([]byte, error) {
	if token == "" || len(token) > maxMediaToken || len(offer) == 0 || len(offer) > maxMediaSDP {
		return nil, fmt.Errorf("%w: a token of %d bytes and an offer of %d; 1 to %d and 1 to %d are allowed", errMediaMalformed,
			len(token), len(offer), maxMediaToken, maxMediaSDP)
	}
	b = append(b, mediaVersion, byte(len(token)))
	b = append(b, token...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(offer)))
	return append(b, offer...), nil
}

// readQuestion reads one.
func readQuestion(r io.Reader) (token string, offer []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", nil, fmt.Errorf("%w: %w", errMediaMalformed, err)
	}
	if head[0] != mediaVersion || head[1] == 0 || head[1] > maxMediaToken {
		return "", nil, fmt.Errorf("%w: version %d, a token of %d bytes", errMediaMalformed, head[0], head[1])
	}
	t := make([]byte, head[1])
	if _, err := io.ReadFull(r, t); err != nil {
		return "", nil, fmt.Errorf("%w: %w", errMediaMalformed, err)
	}
	offer, err = readBlock(r, 1, maxMediaSDP)
	return string(t), offer, err
}

// appendAnswer writes an answer, or a refusal with its reason.
func appendAnswer(b []byte, kind byte, text []byte) ([]byte, error) {
	if kind == mediaRefusal && len(text) > maxMediaReason {
		text = text[:maxMediaReason]
	}
	if kind == mediaAnswer && (len(text) == 0 || len(text) > maxMediaSDP) {
		return nil, fmt.Errorf("%w: an answer of %d bytes, 1 to %d are allowed", errMediaMalformed, len(text), maxMediaSDP)
	}
	b = append(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	return append(b, text...), nil
}

// readAnswer reads one. A refusal is an error that wraps errMediaRefused.
func readAnswer(r io.Reader) ([]byte, error) {
	var kind [1]byte
	if _, err := io.ReadFull(r, kind[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", errMediaMalformed, err)
	}
	switch kind[0] {
	case mediaAnswer:
		return readBlock(r, 1, maxMediaSDP)
	case mediaRefusal:
		reason, err := readBlock(r, 0, maxMediaReason)
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %q", errMediaRefused, reason)
	}
	return nil, fmt.Errorf("%w: kind %d", errMediaMalformed, kind[0])
}

// readBlock reads two bytes of length and as many bytes.
func readBlock(r io.Reader, least, most int) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", errMediaMalformed, err)
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n < least || n > most {
		return nil, fmt.Errorf("%w: a block of %d bytes, %d to %d are allowed", errMediaMalformed, n, least, most)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", errMediaMalformed, err)
	}
	return b, nil
}

// mediaStreams is both ends of such streams at a node. It is the Peers of package media.
type mediaStreams struct {
	overlay *overlay.Peer
	drop    func(overlay.NodeID) // gives up a connection that leads nowhere
	log     *slog.Logger
	ctx     context.Context // of those being answered
	stop    context.CancelFunc

	mu      sync.Mutex // guards what follows
	closed  bool
	total   int
	running map[overlay.NodeID]int
	wg      sync.WaitGroup
}

func newMediaStreams(o *overlay.Peer, drop func(overlay.NodeID), log *slog.Logger) *mediaStreams {
	m := &mediaStreams{overlay: o, drop: drop, log: log, running: map[overlay.NodeID]int{}}
	m.ctx, m.stop = context.WithCancel(context.Background())
	return m
}

// serve begins to answer questions. answer gives the answer to an offer of a node for the call with a token.
func (m *mediaStreams) serve(answer func(ctx context.Context, node overlay.NodeID, token string, offer []byte) ([]byte, error)) {
	m.overlay.HandleService(overlay.ServiceMedia, func(s *overlay.Stream) {
		defer s.Close()
		if !m.enter(s.Member.Node) {
			return
		}
		defer m.leave(s.Member.Node)
		ctx, cancel := context.WithTimeout(m.ctx, mediaTime)
		defer cancel()
		defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
		if err := m.answer(ctx, s, answer); err != nil {
			m.log.Debug("no renegotiation of media", "node", s.Member.Node, "error", err)
		}
	})
}

func (m *mediaStreams) answer(ctx context.Context, s *overlay.Stream, answer func(context.Context, overlay.NodeID, string, []byte) ([]byte, error)) error {
	_ = s.SetReadDeadline(time.Now().Add(mediaQuestionTime))
	token, offer, err := readQuestion(s)
	if err != nil {
		return err
	}
	out, failed := answer(ctx, s.Member.Node, token, offer)
	kind := byte(mediaAnswer)
	if failed != nil {
		kind, out = mediaRefusal, []byte("no such call, or its media cannot be renegotiated") // which of the two is nobody's business
	}
	b, err := appendAnswer(nil, kind, out)
	if err != nil {
		return err
	}
	if _, err := s.Write(b); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return failed
}

// enter takes a place among those being answered.
func (m *mediaStreams) enter(n overlay.NodeID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.total >= maxMediaStreams || m.running[n] >= maxMediaPerPeer {
		return false
	}
	m.total++
	m.running[n]++
	m.wg.Add(1)
	return true
}

func (m *mediaStreams) leave(n overlay.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total--
	if m.running[n]--; m.running[n] <= 0 {
		delete(m.running, n)
	}
	m.wg.Done()
}

// Renegotiate hands an offer to the node at the far side of the call with a token, and gives its answer. A connection to it
// over which no greeting comes is given up for a new one.
func (m *mediaStreams) Renegotiate(ctx context.Context, node overlay.NodeID, token string, offer []byte) ([]byte, error) {
	question, err := appendQuestion(nil, token, offer)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, mediaTime)
	defer cancel()
	out, greeted, err := m.ask(ctx, node, question, mediaGreeting)
	if err == nil || greeted || ctx.Err() != nil {
		return out, err
	}
	m.drop(node)
	out, _, err = m.ask(ctx, node, question, mediaTime)
	return out, err
}

// ask puts a question over one stream. greeted says that the far side was there.
func (m *mediaStreams) ask(ctx context.Context, node overlay.NodeID, question []byte, patience time.Duration) (out []byte, greeted bool, err error) {
	opening, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := m.overlay.OpenService(opening, overlay.ServiceMedia, node, nil)
	if err != nil {
		return nil, false, err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	quiet := context.AfterFunc(opening, func() { _ = s.Reset() })
	defer quiet()
	if _, err := s.Write(question); err != nil {
		return nil, false, fmt.Errorf("ask node %s: %w", node, err)
	}
	if err := s.Greeted(); err != nil {
		return nil, false, fmt.Errorf("node %s does not greet: %w", node, err)
	}
	if !quiet() {
		return nil, false, fmt.Errorf("node %s does not greet: %w", node, context.DeadlineExceeded)
	}
	out, err = readAnswer(s)
	return out, true, err
}

// close ends all that is being answered. The overlay must still be open.
func (m *mediaStreams) close() {
	m.overlay.HandleService(overlay.ServiceMedia, nil)
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.stop()
	m.wg.Wait()
}
