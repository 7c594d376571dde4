package overlay

import (
	"context"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// helloTimeout bounds how long a node takes to say who it is.
const helloTimeout = 5 * time.Second

// maxHello bounds the greeting, in bytes.
const maxHello = maxChain*(maxCertificate+8) + 16

// Member is the far side of a stream: which node it is, proven by libp2p, and what it may speak for, proven by its
// credential.
type Member struct {
	Node NodeID
	cred atomic.Pointer[Credential]
}

// Entitled says whether the member speaks for a user. It is false until the member's credential has been seen.
func (m *Member) Entitled(a AOR) bool {
	c := m.cred.Load()
	return c != nil && c.Entitled(a)
}

// Permits says whether the member may take a role.
func (m *Member) Permits(r Role) bool {
	c := m.cred.Load()
	return c != nil && c.Permits(r)
}

// Stream carries bytes to and from another member. Each side begins with its greeting: four bytes of length (big endian)
// and a DER SEQUENCE OF OCTET STRING, the member credential, leaf first. The side that opened the stream goes on sending
// at once; it reads the other's greeting when it first reads.
type Stream struct {
	network.Stream
	Member *Member

	once    sync.Once
	greet   func() error
	helloed error
	release func() // the connection may be given up when there are too many
}

// Read gives what the member sent behind its greeting.
func (s *Stream) Read(b []byte) (int, error) {
	if err := s.Greeted(); err != nil {
		return 0, err
	}
	return s.Stream.Read(b)
}

// Greeted waits for the member's greeting, as the first Read does, and says whether it is good. It comes at once from a
// member that is there.
func (s *Stream) Greeted() error {
	s.once.Do(func() { s.helloed = s.greet() })
	return s.helloed
}

// keep has the connection stay for as long as the stream lives, however many others there are: a call that is being set up
// would end with it.
func (o *Peer) keep(s *Stream) {
	cm, node := o.host.ConnManager(), s.Member.Node
	tag := "sip " + strconv.FormatUint(o.streams.Add(1), 10)
	cm.Protect(node, tag)
	s.release = sync.OnceFunc(func() { cm.Unprotect(node, tag) })
}

// Reset ends both directions at once.
func (s *Stream) Reset() error {
	s.release()
	return s.Stream.Reset()
}

// Close ends both directions; unlike libp2p's, it does not wait for the far side.
func (s *Stream) Close() error {
	s.release()
	err := s.Stream.CloseWrite()
	s.Stream.Reset()
	return err
}

// Service says what a stream carries: it is the last part of the protocol identifier, behind the overlay's prefix.
type Service string

// The services between members.
const (
	ServiceSIP   Service = "sip/1.0.0"        // SIP messages
	ServiceTURN  Service = "turn/1.0.0"       // credentials for a relay peer; package relaypeer/credential
	ServiceReach Service = "turn-reach/1.0.0" // may others reach this address? package relaypeer
	ServiceMedia Service = "media/1.0.0"      // repair of media under way
	ServiceVote  Service = "dns-vote/1.0.0"   // do others reach this proxy peer? package dnsreg
)

// protocol gives the protocol identifier of a service among the nodes of this overlay.
func (o *Peer) protocol(s Service) protocol.ID {
	return protocol.ID(o.doc.protocolPrefix() + "/" + string(s))
}

// OpenStream opens a SIP stream to a node, see OpenService.
func (o *Peer) OpenStream(ctx context.Context, n NodeID, addrs []string) (*Stream, error) {
	return o.OpenService(ctx, ServiceSIP, n, addrs)
}

// OpenService opens a stream to a node. addrs are multiaddrs from its record or advertisement; without any, the overlay is
// asked where the node is. The context bounds all of it.
func (o *Peer) OpenService(ctx context.Context, service Service, n NodeID, addrs []string) (*Stream, error) {
	if n == o.host.ID() {
		return nil, errors.New("a node has no stream to itself")
	}
	ctx = overCircuit(ctx)
	if o.host.Network().Connectedness(n) != network.Connected {
		if err := o.connect(ctx, n, addrs); err != nil {
			return nil, fmt.Errorf("%w: node %s: %w", ErrUnreachable, n, err)
		}
	}
	st, err := o.host.NewStream(ctx, n, o.protocol(service))
	if err != nil {
		return nil, fmt.Errorf("%w: node %s: %w", ErrUnreachable, n, err)
	}
	s := &Stream{Stream: st, Member: &Member{Node: n}}
	s.greet = func() error { return o.readHello(s) }
	o.keep(s)
	if err := o.writeHello(st); err != nil {
		s.Reset()
		return nil, fmt.Errorf("%w: node %s: %w", ErrUnreachable, n, err)
	}
	return s, nil
}

func (o *Peer) connect(ctx context.Context, n NodeID, addrs []string) error {
	ai := peer.AddrInfo{ID: n}
	for _, a := range addrs {
		if m, err := multiaddr.NewMultiaddr(a); err == nil && len(ai.Addrs) < maxAddrs {
			ai.Addrs = append(ai.Addrs, m)
		}
	}
	if len(ai.Addrs) == 0 && len(o.host.Peerstore().Addrs(n)) == 0 {
		found, err := o.findNode(ctx, n)
		if err != nil {
			return err
		}
		ai.Addrs = found
	}
	o.host.Peerstore().AddAddrs(n, ai.Addrs, peerstore.TempAddrTTL)
	o.forgiveDial(n)
	return o.host.Connect(ctx, ai)
}

// findNode asks the overlay for a node's addresses.
func (o *Peer) findNode(ctx context.Context, n NodeID) ([]multiaddr.Multiaddr, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timing.Walk)
	defer cancel()
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	var mu sync.Mutex
	var found []multiaddr.Multiaddr
	r := o.newWalk(string(n), func(ctx context.Context, p NodeID, _ int) ([]*peer.AddrInfo, error) {
		closer, err := o.messenger.GetClosestPeers(ctx, p, n)
		for _, ai := range closer {
			if ai.ID == n && len(ai.Addrs) > 0 {
				mu.Lock()
				found = boundAddrs(ai.Addrs)
				mu.Unlock()
				enough()
			}
		}
		return closer, err
	}).run(ctx)
	mu.Lock()
	defer mu.Unlock()
	if len(found) == 0 {
		return nil, fmt.Errorf("none of %s asked knows where it is", nodes(r.Asked))
	}
	return found, nil
}

// HandleStreams has f called with every SIP stream that another member opens, see HandleService.
func (o *Peer) HandleStreams(f func(*Stream)) { o.HandleService(ServiceSIP, f) }

// HandleService has f called with every stream for a service that another member opens. Each call has a goroutine of its own,
// which nobody else waits for; f closes the stream. A stranger without a valid credential does not get that far. nil ends it.
func (o *Peer) HandleService(service Service, f func(*Stream)) {
	if f == nil {
		o.host.RemoveStreamHandler(o.protocol(service))
		return
	}
	o.host.SetStreamHandler(o.protocol(service), func(st network.Stream) {
		s := &Stream{Stream: st, Member: &Member{Node: st.Conn().RemotePeer()}}
		s.greet = func() error { return nil }
		if err := o.readHello(s); err != nil {
			o.log.Debug("a stream was refused", "node", s.Member.Node, "error", err)
			st.Reset()
			return
		}
		if err := o.writeHello(st); err != nil {
			st.Reset()
			return
		}
		o.keep(s)
		f(s)
	})
}

// Connected gives the nodes of the routing table that are connected.
func (o *Peer) Connected() []NodeID {
	var out []NodeID
	for _, p := range o.dht.RoutingTable().ListPeers() {
		if o.host.Network().Connectedness(p) == network.Connected {
			out = append(out, p)
		}
	}
	return out
}

// Remote gives the IP address of the far side, as this node sees it; invalid if the connection has none, or leads over a
// third node, whose address it would be.
func (s *Stream) Remote() netip.Addr {
	if _, err := s.Conn().RemoteMultiaddr().ValueForProtocol(multiaddr.P_CIRCUIT); err == nil {
		return netip.Addr{}
	}
	ip, err := manet.ToIP(s.Conn().RemoteMultiaddr())
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func (o *Peer) writeHello(st network.Stream) error {
	b, err := encodeHello(o.cred.Load())
	if err != nil {
		return err
	}
	st.SetWriteDeadline(time.Now().Add(helloTimeout))
	defer st.SetWriteDeadline(time.Time{})
	_, err = st.Write(b)
	return err
}

// encodeHello writes a greeting.
func encodeHello(c *Credential) ([]byte, error) {
	b, err := asn1.Marshal(c.raw())
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...), nil
}

func (o *Peer) readHello(s *Stream) error {
	s.Stream.SetReadDeadline(time.Now().Add(helloTimeout))
	defer s.Stream.SetReadDeadline(time.Time{})
	chain, err := decodeHello(s.Stream)
	if err != nil {
		return err
	}
	c, err := o.verifier.credential(chain)
	if err != nil {
		return err
	}
	if c.Node() != s.Member.Node {
		return fmt.Errorf("%w: it is for node %s, but %s shows it", ErrBadCredential, c.Node(), s.Member.Node)
	}
	s.Member.cred.Store(c)
	return nil
}

// decodeHello reads a greeting.
func decodeHello(r io.Reader) ([][]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("reading the greeting: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxHello {
		return nil, fmt.Errorf("a greeting of %d bytes, %d are allowed", n, maxHello)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("reading the greeting: %w", err)
	}
	var chain [][]byte
	if err := unmarshalAll(b, &chain); err != nil {
		return nil, fmt.Errorf("reading the greeting: %w", err)
	}
	return chain, nil
}
