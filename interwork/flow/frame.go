package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Two nodes exchange SIP messages over a stream of libp2p, which has authenticated and encrypts both directions. Each
// direction is a sequence of frames, and nothing else precedes, separates or ends them:
//
//	 0        1        2        3        4
//	+--------+--------+--------+--------+--------+----------------+
//	| length of the payload, big endian |  type  |  payload ...   |
//	+--------+--------+--------+--------+--------+----------------+
//
// The length counts the payload only and is at most MaxFrame; a larger one ends the stream, since what follows cannot be
// trusted to begin a frame.
//
//	type 0    keep-alive: no payload. Says that the sender is alive; it is not answered. It is sent after KeepAlive of
//	          silence, and a receiver takes three times as long without any frame for the death of the sender.
//	type 1    one SIP message, whole, with nothing after it. Content-Length is exact; it may be missing if there is no body.
//	2–127     not defined: the receiver ends the stream.
//	128–255   not defined: the receiver ignores the frame, whatever its payload. For later use.
//
// A payload of type 1 that is no valid SIP message costs that frame only: the stream goes on.
const (
	// FrameKeepAlive is a frame without payload that says the sender is alive.
	FrameKeepAlive byte = 0
	// FrameMessage is a frame whose payload is one SIP message.
	FrameMessage byte = 1

	// MaxFrame is the largest payload in octets.
	MaxFrame = 64 << 10

	frameHeader = 5
	frameIgnore = 128 // types from here on are ignored
)

// ErrFrame says that a peer does not keep to the framing.
var ErrFrame = errors.New("malformed frame")

// AppendFrame appends a frame to dst. The payload must not be larger than MaxFrame.
func AppendFrame(dst []byte, kind byte, payload []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	dst = append(dst, kind)
	return append(dst, payload...)
}

// ReadFrame reads one frame of any kind that may be ignored or understood. The payload is in buf, which is grown if need
// be and returned for the next call; it never grows beyond MaxFrame and only as octets arrive. The end of the stream before
// a frame is io.EOF, inside one io.ErrUnexpectedEOF.
func ReadFrame(r io.Reader, buf []byte) (kind byte, payload []byte, err error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, buf, err
	}
	n, kind := binary.BigEndian.Uint32(head[:]), head[4]
	switch {
	case n > MaxFrame:
		return kind, buf, fmt.Errorf("%w: %d octets", ErrFrame, n)
	case kind == FrameKeepAlive && n != 0:
		return kind, buf, fmt.Errorf("%w: keep-alive with payload", ErrFrame)
	case kind > FrameMessage && kind < frameIgnore:
		return kind, buf, fmt.Errorf("%w: type %d", ErrFrame, kind)
	}
	payload = buf[:0]
	for len(payload) < int(n) {
		if len(payload) == cap(payload) {
			grown := make([]byte, len(payload), min(int(n), max(4<<10, 2*cap(payload))))
			copy(grown, payload)
			payload = grown
		}
		end := min(cap(payload), int(n))
		k, err := io.ReadFull(r, payload[len(payload):end])
		payload = payload[:len(payload)+k]
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return kind, payload, err
		}
	}
	return kind, payload, nil
}
