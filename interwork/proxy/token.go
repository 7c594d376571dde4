package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"

	"p2psip/interwork/flow"
)

// Flow tokens (RFC 5626 §5.2). The user part of a Record-Route value names the flow to a phone, so that a request inside
// the dialog finds it again without any state here, also after a restart:
//
//	byte 0      version and transport: 0x10 UDP, 0x11 TCP, 0x12 TLS
//	            local address: length (4 or 16), bytes, port (2 bytes, big endian)
//	            remote address: the same
//	last 10     HMAC-SHA256 over all before, truncated
//
// in base64url without padding: 32 characters for IPv4, all of them allowed in a user part. The secret is the node's;
// nobody else can make a token, so a request from another node leaves only to places where a phone has been.
type tokens struct{ key []byte }

const (
	tokenVersion = 0x10
	tokenMAC     = 10
	// maxToken bounds what is looked at: IPv6 on both sides.
	maxToken = 64
)

// deriveKey gives each use of the node's secret its own key.
func deriveKey(secret []byte, use string) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte("p2psip " + use))
	return m.Sum(nil)
}

// make gives the token of an endpoint, "" when its addresses are no IP addresses.
func (t *tokens) make(e Endpoint) string {
	local, ok1 := e.Local.AddrPort()
	remote, ok2 := e.Remote.AddrPort()
	if !ok1 || !ok2 {
		return ""
	}
	b := make([]byte, 0, maxToken)
	switch e.Transport {
	case flow.TransportUDP:
		b = append(b, tokenVersion)
	case flow.TransportTCP:
		b = append(b, tokenVersion|1)
	case flow.TransportTLS:
		b = append(b, tokenVersion|2)
	default:
		return ""
	}
	for _, a := range []netip.AddrPort{local, remote} {
		ip := a.Addr().AsSlice()
		b = append(b, byte(len(ip)))
		b = append(b, ip...)
		b = binary.BigEndian.AppendUint16(b, a.Port())
	}
	return base64.RawURLEncoding.EncodeToString(t.sum(b))
}

// sum appends the authentication code.
func (t *tokens) sum(b []byte) []byte {
	m := hmac.New(sha256.New, t.key)
	m.Write(b)
	var out [sha256.Size]byte
	return append(b, m.Sum(out[:0])[:tokenMAC]...)
}

// read gives the endpoint of a token that this node made.
func (t *tokens) read(s string) (e Endpoint, ok bool) {
	if len(s) < 32 || base64.RawURLEncoding.DecodedLen(len(s)) > maxToken {
		return e, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) <= tokenMAC {
		return e, false
	}
	payload := b[:len(b)-tokenMAC]
	want := t.sum(append(make([]byte, 0, maxToken), payload...))
	if !hmac.Equal(want, b) {
		return e, false
	}
	switch payload[0] {
	case tokenVersion:
		e.Transport = flow.TransportUDP
	case tokenVersion | 1:
		e.Transport = flow.TransportTCP
	case tokenVersion | 2:
		e.Transport = flow.TransportTLS
	default:
		return e, false
	}
	rest := payload[1:]
	if e.Local, rest, ok = readAddr(rest); !ok {
		return e, false
	}
	if e.Remote, rest, ok = readAddr(rest); !ok {
		return e, false
	}
	return e, len(rest) == 0
}

func readAddr(b []byte) (a flow.Addr, rest []byte, ok bool) {
	if len(b) < 1 || len(b) < 1+int(b[0])+2 {
		return a, nil, false
	}
	n := int(b[0])
	ip, ok := netip.AddrFromSlice(b[1 : 1+n])
	if !ok {
		return a, nil, false
	}
	port := binary.BigEndian.Uint16(b[1+n:])
	return flow.Addr{Host: ip.String(), Port: int(port)}, b[1+n+2:], true
}
