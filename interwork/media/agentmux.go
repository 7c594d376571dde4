package media

import (
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/pion/ice/v2"
	"github.com/pion/logging"
	"github.com/pion/stun"
)

// An agent of pion/ice opens its own sockets, unless it is given muxes: one that lends it sockets of its own for host
// candidates, and one that finds reflexive addresses and lends sockets for those. hostMux and relayMux are such muxes with our
// sockets behind them. The second serves our allocations; see the package's documentation for why that is right.

// hostMux is the ice.UDPMux that lends the host sockets of a generation.
type hostMux struct{ g *generation }

var _ ice.UDPMux = hostMux{}

// GetListenAddresses gives one address for each host candidate to be.
func (h hostMux) GetListenAddresses() []net.Addr {
	var out []net.Addr
	for _, s := range h.g.bundle.socks {
		if !s.relayed() {
			out = append(out, net.UDPAddrFromAddrPort(s.local))
		}
	}
	return out
}

// GetConn lends the socket at that address.
func (h hostMux) GetConn(_ string, at net.Addr) (net.PacketConn, error) {
	u, ok := at.(*net.UDPAddr)
	if !ok {
		return nil, net.ErrClosed
	}
	s := h.g.bundle.find(unmap(u.AddrPort()))
	if s == nil {
		return nil, net.ErrClosed
	}
	return &agentConn{g: h.g, s: s}, nil
}

// RemoveConnByUfrag does nothing: sockets end with their bundle.
func (hostMux) RemoveConnByUfrag(string) {}

// Close does nothing: sockets end with their bundle.
func (hostMux) Close() error { return nil }

// relayMux is the ice.UniversalUDPMux that lends the allocations of a generation. Each is known to the agent as the STUN
// server at a made-up address whose port is the number of the socket plus one.
type relayMux struct{ g *generation }

var _ ice.UniversalUDPMux = relayMux{}

// urls names the allocations to the agent.
func (r relayMux) urls() (out []*stun.URI) {
	for n, s := range r.g.bundle.socks {
		if !s.relayed() {
			continue
		}
		host := "192.0.2.1" // for documentation, RFC 5737: nothing is ever sent there
		if s.local.Addr().Is6() {
			host = "2001:db8::1" // RFC 3849
		}
		out = append(out, &stun.URI{Scheme: stun.SchemeTypeSTUN, Host: host, Port: n + 1, Proto: stun.ProtoTypeUDP})
	}
	return out
}

func (r relayMux) numbered(port int) *socket {
	if port < 1 || port > len(r.g.bundle.socks) || !r.g.bundle.socks[port-1].relayed() {
		return nil
	}
	return r.g.bundle.socks[port-1]
}

// GetListenAddresses gives one address, so that each allocation is asked for once.
func (relayMux) GetListenAddresses() []net.Addr {
	return []net.Addr{&net.UDPAddr{IP: net.IPv4zero, Port: 9}}
}

// GetXORMappedAddr gives the relayed address.
func (r relayMux) GetXORMappedAddr(at net.Addr, _ time.Duration) (*stun.XORMappedAddress, error) {
	u, ok := at.(*net.UDPAddr)
	if !ok {
		return nil, net.ErrClosed
	}
	s := r.numbered(u.Port)
	if s == nil {
		return nil, net.ErrClosed
	}
	return &stun.XORMappedAddress{IP: s.local.Addr().AsSlice(), Port: int(s.local.Port())}, nil
}

// GetConnForURL lends the allocation.
func (r relayMux) GetConnForURL(_ string, url string, _ net.Addr) (net.PacketConn, error) {
	u, err := stun.ParseURI(url)
	if err != nil {
		return nil, err
	}
	s := r.numbered(u.Port)
	if s == nil {
		return nil, net.ErrClosed
	}
	return &agentConn{g: r.g, s: s}, nil
}

// GetRelayedAddr is not used by the agent.
func (relayMux) GetRelayedAddr(net.Addr, time.Duration) (*net.Addr, error) {
	return nil, net.ErrClosed
}

// GetConn is not used by the agent.
func (relayMux) GetConn(string, net.Addr) (net.PacketConn, error) { return nil, net.ErrClosed }

// RemoveConnByUfrag does nothing: allocations end with their bundle.
func (relayMux) RemoveConnByUfrag(string) {}

// Close does nothing: allocations end with their bundle.
func (relayMux) Close() error { return nil }

// agentConn is a socket as the agent sees it. The agent reads STUN from it; what else comes goes its own way in the agent's
// goroutine, and the agent never learns of it.
type agentConn struct {
	g *generation
	s *socket
}

// ReadFrom gives the next STUN message that is worth looking at.
func (c *agentConn) ReadFrom(b []byte) (int, net.Addr, error) {
	buf := b
	if len(buf) > maxPacket+1 {
		buf = buf[:maxPacket+1]
	}
	for {
		n, from, err := c.s.read(buf)
		if err != nil {
			return 0, nil, err
		}
		switch {
		case n == 0 || n > maxPacket:
		case isSTUN(buf[:n]):
			if c.worth(buf[:n], from) {
				return n, net.UDPAddrFromAddrPort(from), nil
			}
		default:
			c.g.inbound(c.s, from, buf[:n])
		}
	}
}

// worth keeps from the agent what it could only drop, or what would fill its memory: a request has to name our fragment,
// and to come from an address that has proved itself or may still do so.
func (c *agentConn) worth(b []byte, from netip.AddrPort) bool {
	const request = 0x0001 // Binding
	if uint16(b[0])<<8|uint16(b[1]) != request {
		return true // responses are matched with what was asked
	}
	user, ok := stunUsername(b)
	if !ok || len(user) <= len(c.g.bundle.ufrag) || user[len(c.g.bundle.ufrag)] != ':' ||
		string(user[:len(c.g.bundle.ufrag)]) != c.g.bundle.ufrag {
		return false
	}
	if c.s.isProven(from) || c.g.isCandidate(from) {
		return true
	}
	p := c.s.proven.Load()
	return p == nil || len(*p) < maxProven
}

// stunUsername finds the USERNAME of a message (RFC 8489 §14.3).
func stunUsername(b []byte) ([]byte, bool) {
	for i := 20; i+4 <= len(b); {
		typ, n := uint16(b[i])<<8|uint16(b[i+1]), int(b[i+2])<<8|int(b[i+3])
		if i+4+n > len(b) {
			return nil, false
		}
		if typ == 0x0006 {
			return b[i+4 : i+4+n], true
		}
		i += 4 + (n+3)&^3
	}
	return nil, false
}

// isSTUN tells STUN from what else shares a port (RFC 7983 §7).
func isSTUN(b []byte) bool {
	return len(b) >= 20 && b[0] < 4 && b[4] == 0x21 && b[5] == 0x12 && b[6] == 0xa4 && b[7] == 0x42
}

// isDTLS does the same for DTLS, isRTP for RTP and RTCP.
func isDTLS(b []byte) bool { return len(b) >= 13 && b[0] >= 20 && b[0] <= 63 }
func isRTP(b []byte) bool  { return len(b) >= 8 && b[0] >= 128 && b[0] <= 191 }

// isRTCP tells RTCP from RTP on one port (RFC 5761 §4).
func isRTCP(b []byte) bool { return b[1] >= 192 && b[1] <= 223 }

// WriteTo sends what the agent has to say.
func (c *agentConn) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.ErrClosed
	}
	return len(b), c.s.write(b, unmap(u.AddrPort()))
}

// Close leaves the socket open: it ends with its bundle, and another agent may come before that. The agent has ended its
// reader by a deadline.
func (c *agentConn) Close() error { return nil }

// LocalAddr is the candidate's address.
func (c *agentConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.s.local) }

// SetDeadline ends a reader.
func (c *agentConn) SetDeadline(t time.Time) error { return c.s.setReadDeadline(t) }

// SetReadDeadline ends a reader.
func (c *agentConn) SetReadDeadline(t time.Time) error { return c.s.setReadDeadline(t) }

// SetWriteDeadline does nothing: writing does not wait.
func (c *agentConn) SetWriteDeadline(time.Time) error { return nil }

// silent is for libraries that log at a stranger's pleasure.
func silent() logging.LoggerFactory {
	return &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}
}
