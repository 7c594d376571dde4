package proxy

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
)

// Flow tokens (RFC 5626 §5.2). The user part of a Record-Route value names the flow to a phone, so that a request inside
// the dialog finds it again without any state here, also after a restart:
//
//	byte 0      version and transport: 0x20 UDP, 0x21 TCP, 0x22 TLS
//	4 bytes     hash of the far party's address, as the request that began the dialog wrote it
//	            local address: length (4 or 16), bytes, port (2 bytes, big endian)
//	            remote address: the same
//	last 10     HMAC-SHA256 over the Call-ID and all before, truncated
//
// in base64url without padding: 38 characters for IPv4, all of them allowed in a user part. The key is the node's; nobody
// else can make a token, so a request from another node leaves only to places where a phone has been, and whoever was
// given one can use it for that Call-ID only. The hash says whose From the token vouches for: a call that was passed on
// is answered by a node whose credential does not cover the address that was called.
type tokens struct{ key mac }

const (
	tokenVersion = 0x20
	tokenParty   = 4
	tokenMAC     = 10
	// minToken and maxToken are the lengths for IPv4 and IPv6 on both sides, in bytes.
	minToken = 1 + tokenParty + 2*(1+4+2) + tokenMAC
	maxToken = 1 + tokenParty + 2*(1+16+2) + tokenMAC
)

// token is what a token says.
type token struct {
	to    Endpoint
	party [tokenParty]byte
}

// partyOf hashes the address of a party: user and host, whatever else its URI carries.
func partyOf(u *sip.Uri) (p [tokenParty]byte) {
	var buf [160]byte
	b := append(buf[:0], u.User...)
	b = append(b, '@')
	b = append(b, strings.ToLower(u.Host)...)
	sum := sha256.Sum256(b)
	copy(p[:], sum[:])
	return p
}

// make gives the token of an endpoint, "" when its addresses are no IP addresses.
func (t *tokens) make(e Endpoint, party [tokenParty]byte, callID string) string {
	local, ok1 := e.Local.AddrPort()
	remote, ok2 := e.Remote.AddrPort()
	if !ok1 || !ok2 {
		return ""
	}
	var buf [maxToken]byte
	b := buf[:0]
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
	b = append(b, party[:]...)
	b = appendAddr(b, local)
	b = appendAddr(b, remote)
	sum := t.sum(b, callID)
	var text [2 * maxToken]byte
	return string(base64.RawURLEncoding.AppendEncode(text[:0], append(b, sum[:tokenMAC]...)))
}

func appendAddr(b []byte, a netip.AddrPort) []byte {
	if ip := a.Addr(); ip.Is4() {
		v4 := ip.As4()
		b = append(append(b, 4), v4[:]...)
	} else {
		v6 := ip.As16()
		b = append(append(b, 16), v6[:]...)
	}
	return binary.BigEndian.AppendUint16(b, a.Port())
}

func (t *tokens) sum(payload []byte, callID string) [sha256.Size]byte {
	var buf [256]byte
	return t.key.sum(append(append(buf[:0], payload...), callID...))
}

// read gives what a token of this node for a Call-ID says.
func (t *tokens) read(s, callID string) (tok token, ok bool) {
	n := base64.RawURLEncoding.DecodedLen(len(s))
	if n < minToken || n > maxToken {
		return tok, false
	}
	var text [2 * maxToken]byte
	var buf [maxToken]byte
	n, err := base64.RawURLEncoding.Strict().Decode(buf[:], append(text[:0], s...))
	if err != nil || n < minToken {
		return tok, false
	}
	payload := buf[:n-tokenMAC]
	sum := t.sum(payload, callID)
	if !equal(sum[:tokenMAC], buf[n-tokenMAC:n]) {
		return tok, false
	}
	switch payload[0] {
	case tokenVersion:
		tok.to.Transport = flow.TransportUDP
	case tokenVersion | 1:
		tok.to.Transport = flow.TransportTCP
	case tokenVersion | 2:
		tok.to.Transport = flow.TransportTLS
	default:
		return tok, false
	}
	copy(tok.party[:], payload[1:])
	rest := payload[1+tokenParty:]
	if tok.to.Local, rest, ok = readAddr(rest); !ok {
		return tok, false
	}
	if tok.to.Remote, rest, ok = readAddr(rest); !ok {
		return tok, false
	}
	return tok, len(rest) == 0
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
