package node

import (
	"context"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/account"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
	"p2psip/proxypeer"
)

// proxyPeers finds proxy peers for the accounts of this node's users: this node before others, if it is one.
type proxyPeers struct {
	overlay *overlay.Peer
	self    *proxypeer.Peer // this node is a proxy peer; nil: it is none
}

var _ account.ProxyPeers = proxyPeers{}

func (p proxyPeers) Find(ctx context.Context, n int) ([]account.ProxyPeer, error) {
	if p.self != nil {
		return []account.ProxyPeer{{Node: p.overlay.ID(), Services: p.self.Services()}}, nil
	}
	adverts, err := p.overlay.Find(ctx, overlay.RoleProxy, n)
	if err != nil {
		return nil, err
	}
	out := make([]account.ProxyPeer, 0, len(adverts))
	for _, a := range adverts {
		out = append(out, account.ProxyPeer{Node: a.Node, Addrs: a.Addrs, Services: a.Services})
	}
	return out, nil
}

func (p proxyPeers) Failed(n overlay.NodeID) { p.overlay.Failed(overlay.RoleProxy, n) }

// sender sends what the accounts send through the proxy of this node.
type sender struct{ core *proxy.Core }

var _ account.Sender = sender{}

func (s sender) Send(ctx context.Context, req *sip.Request, through account.ProxyPeer) (*sip.Response, error) {
	return s.core.Send(ctx, req, proxy.Target{Node: through.Node, Addrs: through.Addrs})
}

// startAccounts begins to keep the accounts registered.
func (n *Node) startAccounts(oid overlay.ID) (err error) {
	var store *account.Store
	if id := n.cfg.Identity; id != nil {
		if len(id.Accounts) == 0 {
			return nil // there cannot be any later either
		}
		store, err = account.Fixed(oid, id.Accounts...)
	} else {
		store, err = account.Open(n.cfg.DataDir, oid)
	}
	if err != nil {
		return err
	}
	a, err := account.New(account.Config{
		OID: oid, DataDir: n.cfg.DataDir, Store: store, Published: n.edge.Published,
		Peers: proxyPeers{n.overlay, n.border}, Sender: sender{n.core},
		Agent: "p2psip", Logger: n.log, Now: n.cfg.Now, Chance: n.chance(),
	})
	if err == nil {
		n.accounts.Store(a)
	}
	return err
}

// peerLost says that the stream to a node has ended.
func (n *Node) peerLost(node overlay.NodeID) {
	if a := n.accounts.Load(); a != nil {
		a.PeerLost(node)
	}
}

// accountProblems lists what is wrong with accounts: what the provider refuses, and what has failed more than once. Who
// waits for a phone has no problem.
func accountProblems(list []account.Status, file error) (out []Problem) {
	if file != nil {
		out = append(out, Problem{file.Error(), "the accounts known before go on; mend the file, or move it away and add the accounts again"})
	}
	for _, a := range list {
		if a.State == account.Refused || a.Failures > 1 {
			out = append(out, Problem{a.AOR + ": " + a.Error, a.Hint})
		}
	}
	return out
}

// lines has calls go out as the public addresses of the accounts.
type lines struct{ n *Node }

var (
	_ proxy.Lines = lines{}
	_ proxy.Line  = (*account.Call)(nil)
)

func (l lines) Line(req *sip.Request, uri sip.Uri, leaves bool) proxy.Line {
	a := l.n.accounts.Load()
	if a == nil {
		return nil
	}
	if c := a.Call(req, uri, leaves); c != nil {
		return c
	}
	return nil
}
