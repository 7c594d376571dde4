package client

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// readFrame reads one message from a connection (RFC 8656 §12.5): a STUN message, whose length is a multiple of four, or a
// ChannelData message, padded to one. It gives the part of buf that holds it, without padding.
func readFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	if _, err := io.ReadFull(r, buf[:4]); err != nil {
		return nil, err
	}
	n, pad := 0, 0
	switch length := int(binary.BigEndian.Uint16(buf[2:])); buf[0] >> 6 {
	case 0:
		if length%4 != 0 {
			return nil, fmt.Errorf("%w: a STUN message of %d bytes", errBadMessage, length)
		}
		n = 20 + length
	case 1:
		n, pad = 4+length, -length&3
	default:
		return nil, fmt.Errorf("%w: it begins with %#x", errBadMessage, buf[0])
	}
	if n+pad > len(buf) {
		return nil, fmt.Errorf("%w: it has %d bytes", errBadMessage, n)
	}
	if _, err := io.ReadFull(r, buf[4:n+pad]); err != nil {
		return nil, err
	}
	return buf[:n], nil
}
