package proxy

import (
	"context"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/transaction"
	"p2psip/overlay"
)

// Edge is what the proxy needs of the phones beside this node. None of its methods may block: they are called by the
// reader of a flow, between two messages.
type Edge interface {
	// Admit decides whether a request that arrived from a phone (flow.Edge() is true) may go on: authentication (401 or
	// 407) and, unless it is inside a dialog, that its From names one of this node's users (403). inside means that a flow
	// token of this node proved the dialog; a To tag alone proves nothing. When it returns false it has answered tx
	// itself. ACK and CANCEL are never asked about.
	Admit(tx *transaction.Server, req *sip.Request, inside bool) bool

	// Register takes a REGISTER addressed to the overlay or to this node. It answers tx by itself, at once or later.
	// It authenticates by itself; Admit is not called before.
	Register(tx *transaction.Server, req *sip.Request)

	// Bindings gives the living contacts of a local user, in any order; empty when there is none or aor is not local.
	// The targets belong to the caller.
	Bindings(aor overlay.AOR) []Target

	// Owns says that the credential of this node covers the user, whether or not a phone is registered.
	Owns(aor overlay.AOR) bool

	// Contact finds the binding whose Contact equals uri (RFC 3261 §19.1.4), whoever's it is: it is where a request
	// inside a dialog goes when the flow that its route named is gone.
	Contact(uri sip.Uri) (Target, bool)

	GRUUs
}

// Sockets finds the flow of the phone side that a flow token names. A UDP endpoint always has one as long as the local
// socket is open, also after a restart; a connection only while it lives. An Endpoint without Local means any socket of
// the transport. It never dials and never blocks.
type Sockets interface {
	Flow(e Endpoint) (flow.Flow, bool)
}

// Endpoint is one place on the phone side: a remote address seen on a local socket. It is comparable.
type Endpoint struct {
	Transport flow.Transport
	Local     flow.Addr
	Remote    flow.Addr
}

// EndpointOf names the place that f leads to.
func EndpointOf(f flow.Flow) Endpoint {
	return Endpoint{Transport: f.Transport(), Local: f.Local(), Remote: f.Remote()}
}

// Locator finds the nodes where a user of the overlay has phones; implemented over overlay.Directory.
type Locator interface {
	// Locate starts a search. It does not block; the search ends with ctx or with Stop.
	Locate(ctx context.Context, aor overlay.AOR) Search
}

// Search is one lookup under way.
type Search interface {
	// Next blocks for the next record, the first one as soon as any valid one is known, later ones only when they are
	// newer. io.EOF ends the search; overlay.ErrUnknownUser, overlay.ErrOffline and overlay.ErrUnreachable end it too.
	Next(ctx context.Context) (overlay.Record, error)
	// Stop ends the search early and may be called more than once.
	Stop()
}

// Peers gives the flow to another node, opening a stream when none lives. It may block until ctx ends; the proxy calls
// it on a bounded goroutine with a short deadline.
type Peers interface {
	Flow(ctx context.Context, node overlay.NodeID, addrs []string) (flow.Flow, error)
	// Living gives the flow to a node that is open already, without blocking.
	Living(node overlay.NodeID) (flow.Flow, bool)
}

// Entitled is what flow.Peer() of a peer's flow has to implement: which users the credential that authenticated the far
// node covers.
type Entitled interface {
	Entitled(aor overlay.AOR) bool
}

// Outbound is the seam for domains other than the overlay's. Without one such requests get 404 with a Warning.
type Outbound interface {
	// Targets gives where a request for uri leaves to, or false when this node has no way out for it. It may block
	// until ctx ends.
	Targets(ctx context.Context, uri sip.Uri) ([]Target, bool)
}
