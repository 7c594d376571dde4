// Package proxy decides where a SIP request goes next and brings the responses back: a stateful proxy after RFC 3261 §16
// between the phones beside this node, the other nodes of the overlay and, on a proxy peer, the public SIP world.
//
// A request is read once (route.go): it is checked (check.go, §16.3), strict routing is undone and this node's own Route
// values are taken off (§16.4). What is left decides between five ways: this node itself (local.go), a Route value that
// names another node, a flow token (token.go), a user of the overlay, or elsewhere. A user's targets are the bindings of
// this node and the nodes that a lookup finds (search.go); a request that came from another node is delivered to local
// bindings only and never looked up again. A response context (context.go, fork.go) tries the targets, in parallel for equal
// preference, and forwards the best answer (response.go, §16.7). Requests leave rewritten (rewrite.go, §16.6): Via,
// Max-Forwards, Max-Breadth and, where a dialog begins, two Record-Route values, one for either side (RFC 5658).
//
// At the border (border.go, outside.go) the overlay is one element, and every proxy peer is it: what crosses is recorded as
// sip:OID by the proxy peer that carries it, a Contact that leaves is a GRUU, and neither shows an address of a node. So a
// later request of either side finds its way through any proxy peer: from outside by that route and the GRUU alone; from
// inside over the phone's node, which puts its own value into the route that its phone sees and nobody else. A node without a
// Border hands what leaves to a proxy peer; a proxy peer carries out what members send with a From that is theirs, and
// brings in what is for users of the overlay. Places outside, and proxy peers, are tried one after the other.
//
// Where a node moves the sound of its phones, Media (media.go) is shown every session description between one of them and
// anything elsewhere, and says what goes on in its place (body.go, exchange.go). Each branch has a description of its own, for
// which it may have to wait; places outside that are tried one after the other share one, and their search goes on meanwhile.
// What Media knows of a call does not survive a restart of the node: the call goes on and is silent until one of its phones
// sends a re-INVITE, as it does for hold or by a session timer; that is a beginning for Media, and the sound is back.
//
// What it promises. Nothing blocks a reader: lookups and the opening of streams run on bounded goroutines, and what waits
// for a stream keeps its order (outbox.go). A caller gets one final answer, each 2xx reaches it, and branches that lose
// are cancelled. A request that arrives from another node reaches an IP address only along an authenticated flow token
// or a local registration, and a response without transaction only when its branch proves that this node sent the
// request.
//
// A node that does not say a word in time is dead: another connection, or the next proxy peer, is tried, and the caller hears
// within 4 s.
//
// What it never does. It does not open connections to phones, recurse on redirections, understand a session
// description, or send to an address that no phone has used, but for the servers that a Border finds for a member's request.
// It relays nothing between outsiders, whatever Route, Request-URI, maddr or From say.
//
// Own addresses are decided in one place (own.go) for stamping and for recognising: what this node writes into Via and
// Record-Route is exactly what it takes for itself later.
package proxy
