package node

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"p2psip/interwork/media"
	"p2psip/overlay"
	"p2psip/relaypeer/client"
	"p2psip/relaypeer/credential"
)

// relays is the node's way to relay peers, and what ends the search for them.
type relays struct {
	pool   *client.Pool
	search relaySearch
	stop   func()
}

var (
	_ media.Relays     = (*relays)(nil)
	_ media.Allocation = (*client.Allocation)(nil)
)

// Allocate implements media.Relays.
func (r *relays) Allocate(ctx context.Context, n int) ([]media.Allocation, error) {
	list, err := r.pool.Allocate(ctx, n)
	out := make([]media.Allocation, len(list))
	for i, a := range list {
		out[i] = a
	}
	r.search.gave(list)
	return out, err
}

// openRelays makes what finds relay peers (draft §3.2), and has it look for them once the node has joined. Nothing is kept
// ready in it: media keeps whole sets of candidates, allocations included.
func (n *Node) openRelays() (media.Relays, error) {
	search := relaySearch{n.overlay, n.cfg.Media, n.cfg.Now}
	c := client.Config{Overlay: search, Credentials: search.credentials(n.relayCredential), Ready: -1, Logger: n.log, Now: n.cfg.Now}
	if n.cfg.onLoopback() {
		c.Permit = func(a netip.Addr) bool { return a.IsLoopback() }
	}
	p, err := client.New(c)
	if err != nil {
		return nil, fmt.Errorf("relay peers: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if n.overlay.WaitJoined(ctx) == nil && len(n.Users()) > 0 && !n.cfg.Media.Late {
			_ = p.Warm(ctx) // it goes on by itself
		}
	}()
	n.relays = &relays{pool: p, search: search, stop: func() { stop(); <-done }}
	return n.relays, nil
}

// closeRelays gives all allocations back. The overlay is still there.
func (n *Node) closeRelays() {
	if n.relays != nil {
		n.relays.stop()
		n.relays.pool.Close()
	}
}

// relayServers gives STUN servers among the relay peers.
func (n *Node) relayServers() []netip.AddrPort {
	if n.relays == nil {
		return nil
	}
	return n.relays.pool.Servers()
}

// relayCredential asks a relay peer for a credential. That it may be one shows in its advertisement.
func (n *Node) relayCredential(ctx context.Context, a overlay.Advert) (credential.Grant, error) {
	s, err := n.overlay.OpenService(ctx, overlay.ServiceTURN, a.Node, a.Addrs)
	if err != nil {
		return credential.Grant{}, err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	return credential.Ask(s)
}

// RelayPeer is how a relay peer stands that this node would use.
type RelayPeer struct {
	Node        string    `json:"node"`
	Servers     []string  `json:"servers"`             // "udp 192.0.2.7:3478", in the order in which they are tried
	RTT         float64   `json:"rtt_ms,omitempty"`    // 0: not measured
	Load        uint16    `json:"load"`                // thousandths, as it says itself
	Credential  time.Time `json:"credential,omitzero"` // good until then
	Allocations int       `json:"allocations"`         // held there
	Transport   string    `json:"transport,omitempty"` // by which the last one was made
	Chosen      bool      `json:"chosen"`              // the next call uses it
	Trouble     string    `json:"trouble,omitempty"`   // why it is left alone
}

// relayStatus gives the relay peers that the node knows, those that it would use in front.
func (n *Node) relayStatus() []RelayPeer {
	if n.relays == nil {
		return nil
	}
	var out []RelayPeer
	for _, s := range n.relays.pool.Status() {
		r := RelayPeer{
			Node: s.Node.String(), Servers: s.Servers, RTT: millis(s.RTT), Load: s.Load, Credential: s.Credential.UTC(),
			Allocations: s.Allocations, Transport: string(s.Transport), Chosen: s.Chosen,
		}
		if s.Credential.IsZero() {
			r.Credential = time.Time{}
		}
		if s.Trouble != nil {
			r.Trouble = oneLine(s.Trouble.Error())
		}
		out = append(out, r)
	}
	return out
}

// oneLine makes several errors, each on a line, one line of bounded length.
func oneLine(s string) string {
	s = strings.ReplaceAll(s, "\n", "; ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "..."
	}
	return s
}
