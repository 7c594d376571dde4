package node

import "errors"

// ErrNoPolicy: the node is no proxy peer, or has no federation policy in a file.
var ErrNoPolicy = errors.New("this node has no federation policy; only proxy peers have one")

// Reloaded is what came of reading a proxy peer's files again.
type Reloaded struct {
	Federation string `json:"federation"` // the file with the policy
	Exists     bool   `json:"exists"`
	Changed    bool   `json:"changed"` // it is another policy now
	Domains    int    `json:"domains"` // with an entry of their own
	Routes     int    `json:"routes"`
}

// Reload reads the federation policy at once, and has the binding in the DNS looked at. A file with a mistake leaves the policy
// before in force; the error says what is wrong with it.
func (n *Node) Reload() (Reloaded, error) {
	if n.federation == nil {
		return Reloaded{}, ErrNoPolicy
	}
	select {
	case n.rebind <- struct{}{}:
	default:
	}
	changed, err := n.federation.Reload()
	r := Reloaded{Federation: n.cfg.ProxyPeer.Federation, Exists: n.federation.Exists(), Changed: changed}
	r.Domains, r.Routes = n.federation.Policy().Len()
	return r, err
}
