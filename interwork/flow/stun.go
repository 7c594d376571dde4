package flow

import (
	"encoding/binary"
	"net/netip"
)

const stunCookie = 0x2112A442

// stunResponse answers a STUN Binding request on a SIP port, the keep-alive of RFC 5626 §4.4.2, with a Binding success
// response that has nothing but XOR-MAPPED-ADDRESS (RFC 8489 §14.2). It is nil for anything else.
//
//	request:  0x0001 | length | 0x2112A442 | transaction identifier, 12 octets | attributes, all optional to understand
//	response: 0x0101 | length | 0x2112A442 | transaction identifier           | 0x0020 | length | 0 | family | port | address
func stunResponse(b []byte, from netip.AddrPort) []byte {
	if len(b) < 20 || binary.BigEndian.Uint16(b) != 0x0001 || binary.BigEndian.Uint32(b[4:]) != stunCookie ||
		int(binary.BigEndian.Uint16(b[2:])) != len(b)-20 {
		return nil
	}
	for a := b[20:]; len(a) > 0; {
		if len(a) < 4 || binary.BigEndian.Uint16(a) < 0x8000 {
			return nil // an attribute that has to be understood: credentials, not a keep-alive
		}
		n := 4 + (int(binary.BigEndian.Uint16(a[2:]))+3)&^3
		if n > len(a) {
			return nil
		}
		a = a[n:]
	}
	ip := from.Addr().Unmap()
	family := byte(1)
	if ip.Is6() {
		family = 2
	}
	addr := ip.AsSlice()
	out := make([]byte, 0, 20+8+len(addr))
	out = binary.BigEndian.AppendUint16(out, 0x0101)
	out = binary.BigEndian.AppendUint16(out, uint16(8+len(addr)))
	out = append(out, b[4:20]...)
	out = binary.BigEndian.AppendUint16(out, 0x0020)
	out = binary.BigEndian.AppendUint16(out, uint16(4+len(addr)))
	out = append(out, 0, family)
	out = binary.BigEndian.AppendUint16(out, from.Port()^(stunCookie>>16))
	for i, c := range addr {
		out = append(out, c^b[4+i])
	}
	return out
}
