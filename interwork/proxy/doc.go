// Package proxy decides where a SIP request goes next and brings the responses back: a stateful proxy after RFC 3261 §16
// between the phones beside this node and the other nodes of the overlay.
//
// A request is read once (route.go): it is checked (check.go, §16.3), strict routing is undone and this node's own Route
// values are taken off (§16.4). What is left decides between five ways: this node itself (local.go), a Route value that
// names another node, a flow token (token.go), a user of the overlay, or elsewhere. A user's targets are the bindings of
// this node and the nodes that a lookup finds (search.go); a request that came from another node is delivered to local
// bindings only and never looked up again. A response context (context.go, fork.go) tries the targets, in parallel for equal
// preference, and forwards the best answer (response.go, §16.7). Requests leave rewritten (rewrite.go, §16.6): Via,
// Max-Forwards, Max-Breadth and, where a dialog begins, two Record-Route values, one for either side (RFC 5658).
//
// What it promises. Nothing blocks a reader: lookups and the opening of streams run on bounded goroutines, and what waits
// for a stream keeps its order (outbox.go). A caller gets one final answer, each 2xx reaches it, and branches that lose
// are cancelled. A request that arrives from another node reaches an IP address only along an authenticated flow token
// or a local registration, and a response without transaction only when its branch proves that this node sent the
// request.
//
// What it never does. It does not open connections to phones, recurse on redirections, look inside bodies, or send to an
// address that no phone has used.
//
// Own addresses are decided in one place (own.go) for stamping and for recognising: what this node writes into Via and
// Record-Route is exactly what it takes for itself later.
package proxy
