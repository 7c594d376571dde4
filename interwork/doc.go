// Package interwork is how SIP and the overlay meet.
//
// A node has phones beside it, on UDP, TCP or TLS sockets, and other nodes of the overlay on the far side of
// authenticated peer streams. Everything that passes between the two is SIP, and every layer of it is a folder here:
//
//	message      what a SIP message is: strict reading, exact writing
//	flow         where messages come from and where they are sent back to
//	transaction  requests and their responses, retransmission, matching (RFC 3261 §17, RFC 6026)
//	proxy        where a request goes next (RFC 3261 §16)
//	edge         the phones of this node: registration, authentication, bindings
//
// Data flows upwards from flow through transaction into proxy and edge, each layer calling the next synchronously and in
// order; answers go back down by the flow a request came from. Imports point downwards only: message imports nothing of
// ours, flow imports message, and so on.
//
// What comes from a socket or a stream is hostile until it has been read strictly. A layer never blocks the one below it,
// never keeps a table without an upper bound, and never lets one bad message cost more than that message.
package interwork
