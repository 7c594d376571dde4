package proxy

import (
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/overlay"
)

// Step is a moment in the life of a request that this node forwards, for whoever wants to know where its time goes.
type Step struct {
	Time   time.Time
	Kind   StepKind
	CallID string
	Method sip.RequestMethod
	Node   overlay.NodeID // of StepConnect, StepConnected and StepSent; "" for a phone of this node, or a place outside
	Err    error          // of StepSearched and StepConnected; nil: it went well
}

// StepKind is what happened.
type StepKind int

// The steps. Those from StepConnect on come once for each branch.
const (
	StepSearch    StepKind = iota // a lookup of the user begins
	StepFound                     // it has brought its first record
	StepSearched                  // it has ended
	StepConnect                   // a stream to a node is wanted
	StepConnected                 // it is there, or cannot be had
	StepSent                      // the request has left
)

func (k StepKind) String() string {
	return [...]string{"search", "found", "searched", "connect", "connected", "sent"}[k]
}

// progress tells Config.Progress of a step.
func (c *Core) progress(k StepKind, r *request, node overlay.NodeID, err error) {
	if c.cfg.Progress != nil {
		c.cfg.Progress(Step{Time: time.Now(), Kind: k, CallID: r.callID, Method: r.method, Node: node, Err: err})
	}
}
