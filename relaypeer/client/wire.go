package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/pion/stun"
)

// magicCookie is that of RFC 8489 §5.
const magicCookie = 0x2112A442

// Attributes of RFC 8656 §18 that are used here.
const (
	attrChannelNumber      = stun.AttrChannelNumber
	attrLifetime           = stun.AttrLifetime
	attrPeerAddress        = stun.AttrXORPeerAddress
	attrData               = stun.AttrData
	attrRelayedAddress     = stun.AttrXORRelayedAddress
	attrRequestedFamily    = stun.AttrRequestedAddressFamily
	attrRequestedTransport = stun.AttrRequestedTransport
)

// Channel numbers (RFC 8656 §12).
const (
	minChannel = 0x4000
	maxChannel = 0x4FFF
)

// attribute is one attribute ready to be added.
type attribute struct {
	t stun.AttrType
	v []byte
}

// AddTo implements stun.Setter.
func (a attribute) AddTo(m *stun.Message) error {
	m.Add(a.t, a.v)
	return nil
}

// requestedUDP is REQUESTED-TRANSPORT for UDP (RFC 8656 §18.6).
func requestedUDP() attribute { return attribute{attrRequestedTransport, []byte{17, 0, 0, 0}} }

// requestedIPv6 is REQUESTED-ADDRESS-FAMILY for IPv6 (RFC 8656 §18.7).
func requestedIPv6() attribute { return attribute{attrRequestedFamily, []byte{2, 0, 0, 0}} }

// lifetimeOf is LIFETIME in seconds (RFC 8656 §18.2).
func lifetimeOf(d time.Duration) attribute {
	return attribute{attrLifetime, binary.BigEndian.AppendUint32(nil, uint32(d/time.Second))}
}

func channelNumber(n uint16) attribute {
	return attribute{attrChannelNumber, []byte{byte(n >> 8), byte(n), 0, 0}}
}

// peerAddress is XOR-PEER-ADDRESS (RFC 8656 §18.3).
type peerAddress netip.AddrPort

// AddTo implements stun.Setter. The message must have its transaction identifier already.
func (p peerAddress) AddTo(m *stun.Message) error {
	m.Add(attrPeerAddress, appendXOR(nil, netip.AddrPort(p), m.TransactionID))
	return nil
}

// appendXOR writes an address in the form of XOR-MAPPED-ADDRESS (RFC 8489 §14.2).
func appendXOR(b []byte, ap netip.AddrPort, id [stun.TransactionIDSize]byte) []byte {
	a := ap.Addr().Unmap()
	family := byte(1)
	if a.Is6() {
		family = 2
	}
	b = append(b, 0, family)
	b = binary.BigEndian.AppendUint16(b, ap.Port()^uint16(magicCookie>>16))
	pad := xorPad(id)
	for i, x := range a.AsSlice() {
		b = append(b, x^pad[i])
	}
	return b
}

func xorPad(id [stun.TransactionIDSize]byte) (pad [16]byte) {
	binary.BigEndian.PutUint32(pad[:], magicCookie)
	copy(pad[4:], id[:])
	return pad
}

var errBadMessage = errors.New("a message that makes no sense")

// readXOR is the inverse of appendXOR.
func readXOR(v []byte, id [stun.TransactionIDSize]byte) (netip.AddrPort, error) {
	if len(v) != 8 && len(v) != 20 || len(v) == 8 && v[1] != 1 || len(v) == 20 && v[1] != 2 {
		return netip.AddrPort{}, fmt.Errorf("%w: an address of %d bytes", errBadMessage, len(v))
	}
	pad := xorPad(id)
	var x [16]byte
	n := copy(x[:], v[4:])
	for i := range n {
		x[i] ^= pad[i]
	}
	a, _ := netip.AddrFromSlice(x[:n])
	port := binary.BigEndian.Uint16(v[2:]) ^ uint16(magicCookie>>16)
	return netip.AddrPortFrom(a.Unmap(), port), nil
}

// addressIn reads an address attribute of a message.
func addressIn(m *stun.Message, t stun.AttrType) (netip.AddrPort, error) {
	v, err := m.Get(t)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: it lacks %s", errBadMessage, t)
	}
	return readXOR(v, m.TransactionID)
}

// lifetimeIn reads LIFETIME, 0 if there is none or none that makes sense.
func lifetimeIn(m *stun.Message) time.Duration {
	v, err := m.Get(attrLifetime)
	if err != nil || len(v) != 4 {
		return 0
	}
	return time.Duration(binary.BigEndian.Uint32(v)) * time.Second
}

// TURNError is an error response of a relay peer (RFC 8656 §19, RFC 8489 §14.8).
type TURNError struct {
	Method string // "Allocate"
	Code   int    // 300 to 699
	Reason string // the relay peer's words, printable and short
}

// The codes that are acted upon.
const (
	codeUnauthorized    = 401
	codeForbidden       = 403
	codeMismatch        = 437 // Allocation Mismatch
	codeStaleNonce      = 438
	codeFamily          = 440 // Address Family not Supported
	codeWrongCredential = 441
	codeQuota           = 486 // Allocation Quota Reached
	codeCapacity        = 508 // Insufficient Capacity
)

func (e *TURNError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%s was answered with %d %s", e.Method, e.Code, e.Reason))
}

// Is makes the codes with which a living relay peer declines errors.Is-equal to ErrRefused.
func (e *TURNError) Is(err error) bool {
	return err == ErrRefused && (e.Code == codeQuota || e.Code == codeCapacity || e.Code == codeForbidden)
}

// turnError reads an error response.
func turnError(m *stun.Message) *TURNError {
	e := &TURNError{Method: m.Type.Method.String(), Code: 500}
	v, err := m.Get(stun.AttrErrorCode)
	if err != nil || len(v) < 4 {
		return e
	}
	if class, number := int(v[2]&7), int(v[3]); class >= 3 && class <= 6 && number < 100 {
		e.Code = class*100 + number
	}
	e.Reason = clean(v[4:])
	return e
}

// clean makes a stranger's words fit to be shown.
func clean(b []byte) string {
	if len(b) > 96 {
		b = b[:96]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, string(b))
}

func codeOf(err error) int {
	var e *TURNError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// dataIn reads a Data indication (RFC 8656 §11.4).
func dataIn(m *stun.Message) (from netip.AddrPort, data []byte, err error) {
	if from, err = addressIn(m, attrPeerAddress); err != nil {
		return from, nil, err
	}
	if data, err = m.Get(attrData); err != nil {
		return from, nil, fmt.Errorf("%w: no DATA", errBadMessage)
	}
	return from, data, nil
}

// channelIn reads a ChannelData message (RFC 8656 §12.4); over UDP there may be padding behind it.
func channelIn(b []byte) (number uint16, data []byte, ok bool) {
	if len(b) < 4 {
		return 0, nil, false
	}
	number = binary.BigEndian.Uint16(b)
	n := int(binary.BigEndian.Uint16(b[2:]))
	if number < minChannel || number > maxChannel || n > len(b)-4 {
		return 0, nil, false
	}
	return number, b[4 : 4+n], true
}
