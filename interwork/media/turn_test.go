package media_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v2"

	"p2psip/interwork/media"
	"p2psip/overlay"
	"p2psip/relaypeer/client"
	"p2psip/relaypeer/credential"
)

// relayWorld finds relay peers that are pion's TURN server in this process.
type relayWorld struct {
	mu      sync.Mutex
	adverts []overlay.Advert
	grants  map[overlay.NodeID]credential.Grant
}

func (w *relayWorld) Find(_ context.Context, _ overlay.Role, n int) ([]overlay.Advert, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]overlay.Advert(nil), w.adverts[:min(n, len(w.adverts))]...), nil
}

func (w *relayWorld) Failed(overlay.Role, overlay.NodeID) {}

func (w *relayWorld) credentials(_ context.Context, a overlay.Advert) (credential.Grant, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.grants[a.Node], nil
}

// turnServer adds a relay peer; closing it is its death, without a word to anybody.
func (w *relayWorld) turnServer(t *testing.T) (overlay.NodeID, *turn.Server) {
	t.Helper()
	u, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secret := credential.NewSecret([]byte(t.Name()))
	s, err := turn.NewServer(turn.ServerConfig{
		Realm:       "overlay.example",
		AuthHandler: func(user, realm string, _ net.Addr) ([]byte, bool) { return secret.Key(user, realm), true },
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: u,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}}},
		LoggerFactory: &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled, ScopeLevels: map[string]logging.LogLevel{}, Writer: io.Discard},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	key, err := overlay.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := overlay.NodeOfKey(key)
	if err != nil {
		t.Fatal(err)
	}
	user := fmt.Sprintf("%d:member", time.Now().Add(time.Hour).Unix())
	uri := fmt.Sprintf("turn:%s?transport=udp", u.LocalAddr())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.adverts = append(w.adverts, overlay.Advert{Role: overlay.RoleRelay, Node: id, Offer: overlay.Offer{Services: []string{uri}, Capacity: 100},
		Sequence: 1, Issued: time.Now(), Expires: time.Now().Add(overlay.AdvertLifetime)})
	w.grants[id] = credential.Grant{URIs: []string{uri}, Username: user, Password: secret.Password(user), Realm: "overlay.example", Lifetime: time.Hour}
	return id, s
}

// turnRelays is what the node makes of a pool.
type turnRelays struct{ pool *client.Pool }

func (r turnRelays) Allocate(ctx context.Context, n int) ([]media.Allocation, error) {
	list, err := r.pool.Allocate(ctx, n)
	out := make([]media.Allocation, len(list))
	for i, a := range list {
		out[i] = a
	}
	return out, err
}

var _ media.Allocation = (*client.Allocation)(nil)

func (w *relayWorld) pool(t *testing.T) *client.Pool {
	t.Helper()
	p, err := client.New(client.Config{Overlay: w, Credentials: w.credentials, Permit: func(netip.Addr) bool { return true },
		Logger: slog.New(slog.DiscardHandler), Ready: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := p.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

type peers struct {
	me    overlay.NodeID
	nodes map[overlay.NodeID]*media.Manager
}

func (p peers) Renegotiate(ctx context.Context, node overlay.NodeID, token string, offer []byte) ([]byte, error) {
	return p.nodes[node].Renegotiated(ctx, p.me, token, offer)
}

// A call by TURN servers, of which the one in use is shut at once; and the next one, too.
func TestVoiceIsBackAfterATURNServerDies(t *testing.T) {
	t.Parallel()
	w := &relayWorld{grants: map[overlay.NodeID]credential.Grant{}}
	servers := map[overlay.NodeID]*turn.Server{}
	for range 3 {
		id, s := w.turnServer(t)
		servers[id] = s
	}
	nodes := map[overlay.NodeID]*media.Manager{}
	for i, id := range []overlay.NodeID{"a", "b"} {
		m, err := media.New(media.Config{PortMin: uint16(27000 + 100*i), PortMax: uint16(27099 + 100*i), Loopback: true, RelayOnly: true, Warm: -1,
			Relays: turnRelays{w.pool(t)}, Peers: peers{id, nodes}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		nodes[id] = m
	}
	here := netip.MustParseAddr("127.0.0.1")
	alice, bob := media.NewPlainPhone(t, 1), media.NewPlainPhone(t, 2)
	x := nodes["a"].Open(media.Dialog{CallID: "turn", FromTag: "alice", Method: "INVITE", CSeq: 1, FromPhone: true, Transaction: "1", Phone: here, PhoneHost: here, Node: "b"})
	y := nodes["b"].Open(media.Dialog{CallID: "turn", FromTag: "alice", Method: "INVITE", CSeq: 1, Transaction: "1", Phone: here, PhoneHost: here, Node: "a"})
	bob.Learn(media.Request(t, y, media.Request(t, x, alice.Body())))
	back, err := y.Response(200, "bob", true, bob.Body())
	if err != nil {
		t.Fatal(err)
	}
	toAlice, err := x.Response(200, "bob", true, back)
	if err != nil {
		t.Fatal(err)
	}
	alice.Learn(toAlice)
	media.Speak(t, alice, bob, "hello", 5*time.Second)
	media.Speak(t, bob, alice, "hello", 5*time.Second)
	deaths := 2
	if testing.Short() {
		deaths = 1
	}
	for range deaths {
		st := nodes["a"].Status().Calls[0].Streams[0]
		if st.Path != "relayed" {
			t.Fatalf("status: %+v", st)
		}
		dying := st.Relay
		if dying == "" {
			dying = nodes["b"].Status().Calls[0].Streams[0].Relay
		}
		if servers[dying] == nil {
			t.Fatalf("no server %q: %+v", dying, st)
		}
		_ = servers[dying].Close()
		there := media.Speak(t, alice, bob, "after "+dying.String(), 8*time.Second)
		again := media.Speak(t, bob, alice, "after "+dying.String(), 8*time.Second)
		t.Logf("voice was back after %v", there+again)
		if there+again > 3*time.Second {
			t.Errorf("voice was back after %v only", there+again)
		}
	}
}
