package node

import (
	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/edge"
	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
	"p2psip/overlay"
)

// router is what all flows deliver into: the transaction layer, with a word to those who keep flows.
type router struct {
	layer *transaction.Layer
	peers *peers
	edge  *edge.Edge
	lost  func(overlay.NodeID) // a stream to a node has ended
}

var (
	_ flow.Handler            = (*router)(nil)
	_ flow.UnreachableHandler = (*router)(nil)
)

func (r *router) HandleMessage(f flow.Flow, m sip.Message) {
	if !f.Edge() {
		r.peers.touched(f)
	}
	r.layer.HandleMessage(f, m)
}

// HandleUnreachable implements flow.UnreachableHandler.
func (r *router) HandleUnreachable(f flow.Flow, err error) { r.layer.HandleUnreachable(f, err) }

func (r *router) HandleMalformed(f flow.Flow, e *message.Error) { r.layer.HandleMalformed(f, e) }

func (r *router) HandleClosed(f flow.Flow) {
	r.peers.forget(f)
	r.layer.HandleClosed(f)
	r.edge.FlowClosed(f)
	if m, ok := f.Peer().(*overlay.Member); ok {
		r.lost(m.Node)
	}
}
