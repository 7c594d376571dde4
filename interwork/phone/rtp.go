package phone

import (
	"encoding/binary"
	"errors"
)

// packet is what matters of an RTP packet (RFC 3550 §5.1).
type packet struct {
	payloadType byte
	sequence    uint16
	timestamp   uint32
	ssrc        uint32
	payload     []byte
}

const (
	rtpHeader = 12
)

var errRTP = errors.New("not an RTP packet")

func (p packet) append(b []byte) []byte {
	b = append(b, 2<<6, p.payloadType)
	b = binary.BigEndian.AppendUint16(b, p.sequence)
	b = binary.BigEndian.AppendUint32(b, p.timestamp)
	b = binary.BigEndian.AppendUint32(b, p.ssrc)
	return append(b, p.payload...)
}

// parseRTP reads a packet; payload is a part of b.
func parseRTP(b []byte) (packet, error) {
	if len(b) < rtpHeader || b[0]>>6 != 2 {
		return packet{}, errRTP
	}
	p := packet{
		payloadType: b[1] & 0x7f,
		sequence:    binary.BigEndian.Uint16(b[2:]),
		timestamp:   binary.BigEndian.Uint32(b[4:]),
		ssrc:        binary.BigEndian.Uint32(b[8:]),
	}
	padded, extended := b[0]&0x20 != 0, b[0]&0x10 != 0
	at := rtpHeader + 4*int(b[0]&0x0f)
	if extended {
		if len(b) < at+4 {
			return packet{}, errRTP
		}
		at += 4 + 4*int(binary.BigEndian.Uint16(b[at+2:]))
	}
	end := len(b)
	if padded {
		end -= int(b[len(b)-1])
	}
	if at > end {
		return packet{}, errRTP
	}
	p.payload = b[at:end]
	return p, nil
}
