package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio"
	"github.com/libp2p/go-msgio/pbio"
	"github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"p2psip/overlay"
)

// foul gives the handler of a hostile node in place of kad-dht's, honest. It takes one request, as the light host hands it.
func (n *node) foul(honest network.StreamHandler) network.StreamHandler {
	return func(s network.Stream) {
		raw, err := msgio.NewVarintReaderSize(s, network.MessageSizeMax).ReadMsg()
		if err != nil {
			return
		}
		req := new(pb.Message)
		if proto.Unmarshal(raw, req) != nil {
			return
		}
		x := n.r.hostile
		var answer *pb.Message
		switch n.hostile {
		case mute:
			x.lies.Add(1)
			return
		case slow:
			x.lies.Add(1)
			if answer = ask(s, honest, raw); answer == nil || !n.dawdle(s.Conn().RemotePeer()) {
				return
			}
		default:
			answer = n.lie(s, req, func() *pb.Message { return ask(s, honest, raw) })
		}
		if answer != nil {
			pbio.NewDelimitedWriter(s).WriteMsg(answer)
		}
	}
}

// ask lets the honest handler answer a request, and gives the answer, nil if there is none.
func ask(s network.Stream, honest network.StreamHandler, request []byte) *pb.Message {
	b := &aside{Stream: s, in: bytes.NewReader(append(binary.AppendUvarint(nil, uint64(len(request))), request...))}
	honest(b)
	raw, err := msgio.NewVarintReaderSize(&b.out, network.MessageSizeMax).ReadMsg()
	answer := new(pb.Message)
	if err != nil || proto.Unmarshal(raw, answer) != nil {
		return nil
	}
	return answer
}

// aside is a stream whose contents stay in memory.
type aside struct {
	network.Stream
	in  io.Reader
	out bytes.Buffer
}

func (a *aside) Read(b []byte) (int, error)  { return a.in.Read(b) }
func (a *aside) Write(b []byte) (int, error) { return a.out.Write(b) }
func (a *aside) Close() error                { return nil }
func (a *aside) Reset() error                { return nil }

// lie gives the answer to a request, nil for none.
func (n *node) lie(s network.Stream, req *pb.Message, honest func() *pb.Message) *pb.Message {
	x := n.r.hostile
	key := string(req.GetKey())
	answer := pb.NewMessage(req.GetType(), nil, req.GetClusterLevel())
	if req.GetType() == pb.Message_PUT_VALUE && n.hostile == falseAdverts {
		if isRoleKey(key) {
			x.keep(key, req.GetRecord().GetValue())
		}
		return honest()
	}
	if req.GetType() == pb.Message_PUT_VALUE {
		x.lies.Add(1)
		x.keep(key, req.GetRecord().GetValue())
		return req // as if it were stored
	}
	if req.GetType() != pb.Message_FIND_NODE && req.GetType() != pb.Message_GET_VALUE {
		return honest()
	}
	if req.GetType() == pb.Message_FIND_NODE && (key == string(n.id) || key == string(s.Conn().RemotePeer())) {
		return honest() // how others find out whether it works: it wants to be in their tables
	}
	switch n.hostile {
	case droppers:
		if answer = honest(); answer != nil && answer.Record != nil {
			x.lies.Add(1)
			answer.Record = nil
		}
	case falseAdverts:
		answer = honest()
		if answer != nil && req.GetType() == pb.Message_GET_VALUE && isRoleKey(key) {
			x.lies.Add(1)
			answer.Record = record.MakePutRecord(key, x.advertise(n, key))
		}
	case empty:
		x.lies.Add(1)
	case liars:
		x.lies.Add(1)
		answer.CloserPeers = x.invent(n, key)
		if req.GetType() == pb.Message_GET_VALUE {
			answer.Key = req.GetKey()
			answer.Record = record.MakePutRecord(key, x.falsify(n, key))
		}
	case eclipse, eclipseNode:
		x.lies.Add(1)
		answer.CloserPeers = x.gang(n, key, n.r.s.BucketSize)
	}
	return answer
}

// keep remembers the oldest record of a key, to be shown when there is a newer one.
func (x *hostility) keep(key string, value []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.oldest[key]; !ok {
		x.oldest[key] = slices.Clone(value)
	}
}

// dawdle waits as long as it can without being given up: so that the answer comes just before the walk counts the request
// as slow, or just before the request times out. False means that the run is over.
func (n *node) dawdle(to peer.ID) bool {
	t := n.r.s.Timing
	limit := cmpDuration(t.Hedge, 200*time.Millisecond)
	if n.index%2 == 0 {
		limit = cmpDuration(t.RPC, 3*time.Second)
	}
	o := n.r.hostile.byID[to]
	if o == nil {
		return true
	}
	a, b := n.light(), o.light()
	if a == nil || b == nil {
		return true
	}
	trip := time.Duration(2.2 * float64(n.r.net.OneWay(a, b)))
	return n.r.sleep(max(time.Microsecond, limit*95/100-trip))
}

func cmpDuration(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// shared gives how many leading bits two keys have in common in Kademlia's space.
func shared(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return bits.LeadingZeros64(binary.BigEndian.Uint64(x[:]) ^ binary.BigEndian.Uint64(y[:]))
}

// invent makes up a list of nodes next to a key that do not exist. It takes no key to have an identifier, so hashing a few
// hundred numbers finds each.
func (x *hostility) invent(n *node, key string) []*pb.Message_Peer {
	k := n.r.s.BucketSize
	// The k-th nearest of N nodes shares about log2(N/k) bits with the key.
	want := int(math.Ceil(math.Log2(max(1, float64(len(n.r.nodes))/float64(k))))) + 3
	d := rand.New(rand.NewPCG(hashOf(key), uint64(n.index)))
	var list []peer.AddrInfo
	id := append([]byte{0, 36, 8, 1, 18, 32}, make([]byte, 32)...) // the form of an Ed25519 key's identifier
	for len(list) < k {
		binary.BigEndian.PutUint64(id[6:], d.Uint64())
		if shared(string(id), key) >= want {
			a, err := multiaddr.NewMultiaddr("/ip4/10.200." + itoa(d.IntN(256)) + "." + itoa(d.IntN(256)) + "/udp/5080/quic-v1")
			if err != nil {
				n.r.fail(err)
				return nil
			}
			list = append(list, peer.AddrInfo{ID: peer.ID(id), Addrs: []multiaddr.Multiaddr{a}})
		}
	}
	return pb.RawPeerInfosToPBPeers(list)
}

func hashOf(s string) uint64 {
	h := sha256.Sum256([]byte(s))
	return binary.BigEndian.Uint64(h[8:])
}

// gang gives the fellows of a node that are nearest to a key.
func (x *hostility) gang(n *node, key string, most int) []*pb.Message_Peer {
	list := slices.Clone(x.byKind[n.hostile])
	list = slices.DeleteFunc(list, func(o *node) bool { return o == n || o.light() == nil })
	target := sha256.Sum256([]byte(key))
	distance := func(o *node) []byte {
		h := sha256.Sum256([]byte(o.id))
		for i := range h {
			h[i] ^= target[i]
		}
		return h[:]
	}
	slices.SortFunc(list, func(a, b *node) int { return bytes.Compare(distance(a), distance(b)) })
	var infos []peer.AddrInfo
	for _, o := range list[:min(most, len(list))] {
		infos = append(infos, peer.AddrInfo{ID: o.id, Addrs: o.light().Addrs()})
	}
	return pb.RawPeerInfosToPBPeers(infos)
}

// userKey gives the DHT key of a user, as everybody can work it out.
func userKey(a overlay.AOR) string {
	h := sha256.Sum256([]byte(a.String()))
	return "/user/" + strings.ToLower(base32NoPadding.EncodeToString(h[:]))
}
