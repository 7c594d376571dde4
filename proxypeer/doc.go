// Package proxypeer is the role of a P2PSIP proxy peer (draft §3.1): a member with a public address that carries SIP between
// the overlay and the public SIP world, for all other members.
//
//	phones ... other nodes -- streams -- proxy.Core -- Peer (this package) -- sockets -- the public SIP world
//	                                         \-- Finder (this package): where a node that is no proxy peer sends what leaves
//
// Where a request may go is decided in interwork/proxy (border.go there); this package is its proxy.Border: it has the
// public sockets (listen.go), finds the servers of a domain (leave.go, over interwork/locate and a Policy), proves and checks
// domain certificates (domaincert.go, RFC 5922), and stands at the door (gate.go) with a memory of who knocks (sources.go).
//
// # What it promises
//
//   - A source that asks too much is told so with 503 once a second, and else not answered. What looks like a scanner is not
//     answered at all. Neither a challenge nor a refused password counts against anybody, and nothing does the first few times.
//   - What is sent to a UDP address that has not shown that it hears is never larger than what came from there, nor more
//     than three times as much in all; a response of a callee, of which a few a minute may be larger, is the exception.
//   - Connections to other servers are bounded and used again, and one that was opened for a domain is used for that domain
//     only.
//   - A proxy peer that is shut down in good order has withdrawn its advertisement before it stops listening.
//
// # What it never does
//
// It never sends to an address that is not a server of the domain asked for, nor into a network of another kind than its own
// sockets are in: a proxy peer on the Internet sends nothing to private addresses.
package proxypeer
