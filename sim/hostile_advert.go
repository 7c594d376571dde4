package sim

import (
	"context"
	"crypto/ed25519"
	"encoding/asn1"
	"encoding/pem"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-msgio"
	"github.com/libp2p/go-msgio/pbio"
	"google.golang.org/protobuf/proto"

	"p2psip/overlay"
)

// plantEvery is how often each adverts node tries to have its advertisements stored; plantAt at how many nodes.
const (
	plantEvery = 30 * time.Second
	plantAt    = 6
)

// forgedAdvert is an advertisement as overlay/advert.go documents it, written down once more by who wants to forge one.
type forgedAdvert struct {
	Version   int
	Overlay   []byte
	URI       string `asn1:"utf8"`
	Sequence  int64
	Expires   int64
	Withdrawn bool
	Level     int
	Addrs     [][]byte
	Services  []forgedText
	Capacity  int64
	Load      int
}

type forgedText struct {
	S string `asn1:"utf8"`
}

// isRoleKey says whether advertisements are stored under the key.
func isRoleKey(key string) bool { return strings.HasPrefix(key, "/role/") }

// advertise gives the false advertisement for a key; each node has another lie for each key, and another one each time.
func (x *hostility) advertise(n *node, key string) []byte {
	x.mu.Lock()
	old := x.oldest[key]
	x.mu.Unlock()
	switch lie := x.lies.Load() % 3; {
	case lie == 0 && old != nil: // true, and old: of a node that has gone, or with a load of long ago
		return old
	case lie == 1 && old != nil: // another's, pointing elsewhere: one octet of what was signed is another
		b := slices.Clone(old)
		b[len(b)-1-64-2] ^= 1
		return b
	}
	return n.forgeAdvert(time.Now()) // of a node that may not have the role
}

// forgeAdvert signs an advertisement of the proxy role with the node's own key, though its credential does not permit it.
func (n *node) forgeAdvert(at time.Time) []byte {
	raw, err := n.key.Raw()
	if err != nil || n.key.Type() != crypto.Ed25519 {
		n.r.fail(err)
		return nil
	}
	var chain [][]byte
	for rest := n.cred.PEM(); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		chain = append(chain, b.Bytes)
	}
	h := n.r.doc.RootHash()
	e, err := asn1.Marshal(forgedAdvert{
		Version: 1, Overlay: h[:], URI: overlay.RoleProxy.URI(n.r.doc.ID), Sequence: at.UnixMilli(),
		Expires: at.Add(overlay.AdvertLifetime).UnixMilli(), Addrs: [][]byte{},
		Services: []forgedText{{"sip:10.99.99.99:5060"}}, Capacity: 1 << 31, Load: 0,
	})
	if err != nil {
		n.r.fail(err)
		return nil
	}
	signature := ed25519.Sign(ed25519.PrivateKey(raw), append([]byte("p2psip role advertisement 1\x00"), e...))
	b, err := asn1.Marshal([]forgedRecord{{e, chain, signature}})
	if err != nil {
		n.r.fail(err)
	}
	return b
}

// plant tries again and again to have false advertisements stored where others look for true ones.
func (n *node) plant(ctx context.Context) {
	x := n.r.hostile
	d := rand.New(rand.NewPCG(n.r.s.Seed, 0x914a<<32|uint64(n.index)))
	for {
		t := time.NewTimer(plantEvery + time.Duration(d.Int64N(int64(plantEvery))))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		for range plantAt {
			level := d.IntN(5)
			key := overlay.RoleKey(overlay.RoleProxy, n.r.doc.ID, level, uint32(d.IntN(1<<level)))
			to := n.r.nodes[d.IntN(len(n.r.nodes))]
			if to.hostile != "" {
				continue
			}
			x.planted.Add(1)
			if n.put(ctx, to.id, key, x.advertise(n, key)) {
				x.rooted.Add(1)
			}
		}
	}
}

// put asks a node to store a value, and says whether it has confirmed it.
func (n *node) put(ctx context.Context, to peer.ID, key string, value []byte) bool {
	h := n.light()
	o := n.r.hostile.byID[to]
	if h == nil || o == nil || o.light() == nil {
		return false
	}
	var kad protocol.ID
	for _, p := range h.Mux().Protocols() {
		if strings.HasSuffix(string(p), "/kad/1.0.0") {
			kad = p
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if h.Connect(ctx, peer.AddrInfo{ID: to, Addrs: o.light().Addrs()}) != nil {
		return false
	}
	s, err := h.NewStream(ctx, to, kad)
	if err != nil {
		return false
	}
	defer s.Reset()
	s.SetDeadline(time.Now().Add(5 * time.Second))
	m := pb.NewMessage(pb.Message_PUT_VALUE, []byte(key), 0)
	m.Record = record.MakePutRecord(key, value)
	if pbio.NewDelimitedWriter(s).WriteMsg(m) != nil {
		return false
	}
	raw, err := msgio.NewVarintReaderSize(s, network.MessageSizeMax).ReadMsg()
	answer := new(pb.Message)
	return err == nil && proto.Unmarshal(raw, answer) == nil && answer.GetRecord() != nil
}

// noteFound judges what a search for a role has given: every one must be of a node that may have it, and say what that node
// says.
func (x *hostility) noteFound(got []overlay.Advert) {
	if x == nil {
		return
	}
	x.finds.Add(1)
	for _, a := range got {
		n := x.byID[a.Node]
		if n == nil || len(n.roles()) == 0 || len(a.Services) != 1 || a.Services[0] != n.service() {
			x.wrongFinds.Add(1)
			return
		}
	}
}
