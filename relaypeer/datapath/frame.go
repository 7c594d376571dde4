package datapath

import (
	"encoding/binary"
	"net/netip"

	"github.com/pion/stun"
)

const (
	channelHeader = 4 // number and length, RFC 8656 §12.4
	stunHeader    = 20

	minChannel = 0x4000
	maxChannel = 0x7FFF // RFC 8656 gives out up to 0x4FFF; RFC 5766, and pion, up to this

	dataIndication = 0x0017
)

// channelData takes a ChannelData message apart: its number and its data. ok is what pion's server takes for one: a number in
// the range, and a length that the datagram has; what follows is padding (RFC 8656 §12.5).
func channelData(b []byte) (number uint16, data []byte, ok bool) {
	if len(b) < channelHeader {
		return 0, nil, false
	}
	number = binary.BigEndian.Uint16(b)
	n := int(binary.BigEndian.Uint16(b[2:]))
	if number < minChannel || number > maxChannel || n > len(b)-channelHeader {
		return 0, nil, false
	}
	return number, b[channelHeader : channelHeader+n], true
}

// putChannelHeader writes the header of a ChannelData message with n octets of data.
func putChannelHeader(b []byte, number uint16, n int) {
	binary.BigEndian.PutUint16(b, number)
	binary.BigEndian.PutUint16(b[2:], uint16(n))
}

// isSTUN reports whether b can be a STUN message in full: cookie and length are right. No ChannelData message with up to three
// octets of padding is one, whatever its number: its length counts all but the first four octets, a STUN message's all but
// the first twenty.
func isSTUN(b []byte) bool {
	return len(b) >= stunHeader && stun.IsMessage(b) && int(binary.BigEndian.Uint16(b[2:])) == len(b)-stunHeader
}

// message decodes a STUN message as pion's server does.
func message(b []byte) (*stun.Message, bool) {
	m := &stun.Message{Raw: append([]byte(nil), b...)}
	return m, m.Decode() == nil
}

// channelNumber gives a request's CHANNEL-NUMBER.
func channelNumber(m *stun.Message) (uint16, bool) {
	v, err := m.Get(stun.AttrChannelNumber)
	if err != nil || len(v) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint16(v), true
}

// xorAddress gives the transport address in the first attribute of that type.
func xorAddress(m *stun.Message, t stun.AttrType) (netip.AddrPort, bool) {
	var a stun.XORMappedAddress
	if a.GetFromAs(m, t) != nil {
		return netip.AddrPort{}, false
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	return netip.AddrPortFrom(ip.Unmap(), uint16(a.Port)), ok
}

// wantsIPv6 reports whether an Allocate request asks for an IPv6 address (REQUESTED-ADDRESS-FAMILY, RFC 8656 §18.6).
func wantsIPv6(m *stun.Message) bool {
	v, err := m.Get(stun.AttrRequestedAddressFamily)
	return err == nil && len(v) == 4 && v[0] == 2
}

// dataLength gives the octets of data in what pion sends to a client from a peer: a ChannelData message or a Data indication.
// ok is false for everything else.
func dataLength(b []byte) (n int, ok bool) {
	if _, data, ok := channelData(b); ok {
		return len(data), true
	}
	if !isSTUN(b) || binary.BigEndian.Uint16(b) != dataIndication {
		return 0, false
	}
	for a := b[stunHeader:]; len(a) >= 4; {
		n := int(binary.BigEndian.Uint16(a[2:]))
		if n > len(a)-4 {
			break
		}
		if stun.AttrType(binary.BigEndian.Uint16(a)) == stun.AttrData {
			return n, true
		}
		a = a[min(4+(n+3)&^3, len(a)):]
	}
	return 0, false
}

// frameLength gives the length of the message that a stream goes on with, and of the padding behind it (RFC 8656 §12.5), from
// its first four octets; ok is false when neither STUN nor ChannelData begins so.
func frameLength(b [4]byte) (length, padding int, ok bool) {
	n := int(binary.BigEndian.Uint16(b[2:]))
	switch b[0] >> 6 {
	case 0: // STUN, whose length is a multiple of four
		return stunHeader + n, 0, n%4 == 0
	case 1:
		return channelHeader + n, -n & 3, true
	}
	return 0, 0, false
}
