package overlay

// Disconnect ends the connections with a node, as seen from here. It is for those that look alive although the node does not
// answer: a stream opened over such a one goes nowhere, and says so only after minutes.
func (o *Peer) Disconnect(n NodeID) error { return o.host.Network().ClosePeer(n) }
