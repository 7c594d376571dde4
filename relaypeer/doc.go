// Package relaypeer is the role of a relay agent peer (draft §3.2): a member with a public address that carries media for
// other members, by TURN (RFC 8656), so that two people behind the worst home routers hear each other.
//
//	                                      overlay.ServiceTURN ── grants.go: credentials for members
//	                                                                │ the same Secret
//	clients ── datapath.Front ── gate ── pion/turn ── datapath.Generator ── datapath.RelayedConn ── peers of the clients
//	           (UDP, TCP, TLS)    │                          │
//	                              │                          └ member.go: what each member uses, bytes a month (usage.go)
//	                              ├ sources.go: how much is answered to whom nobody knows
//	                              └ peers.go: where nothing may be sent
//
// pion/turn keeps the allocations and package datapath moves the packets. What decides stands before both: the gate reads every
// message of a client first. It takes STUN apart strictly, answers itself what is refused, and hands to pion only what is
// well-formed, authenticated, within the quotas and meant for an address that may be reached. So pion never sees what a
// stranger wrote, and the answers are those of RFC 8656 where pion's own are not (gate.go lists them).
//
// # What it promises
//
//   - An answer to who has not shown a credential is 48 octets at most for a TURN request and 44 for a STUN Binding, or 52 if that
//     came with a fingerprint. If it is larger than the question, a source gets ten and then one every three seconds, and all
//     strangers together 200 a second; otherwise 20 a second. An address that a member has asked for a credential from, over a
//     connection, is no stranger's for as long as that is good. And whoever has a credential need not be answered so at all: it
//     came with a nonce (package credential), and what carries a valid one is authenticated first.
//   - Nothing is sent to loopback, private, shared, link-local, unique-local, multicast, broadcast, documentation and benchmarking
//     addresses, nor to those where clouds keep their secrets, in whatever notation IPv6 has for them; nor to this machine, but
//     for the relayed addresses of other allocations here and for the ports its own media uses; nor to ports below 1024, but 443.
//     Exceptions are an explicit list.
//   - No member has more than its share of allocations, bandwidth and bytes a month, and all together not more than the machine
//     is to give. The month is kept in the data directory.
//   - A public address is advertised only when it is one: on an interface of this machine, or confirmed by two members from
//     different networks, neither of them this one's own, who reached it (verify.go). For closed networks this can be said instead.
//   - Drain withdraws the advertisement, refuses what is new and lets what is in use go on for a bounded time.
//   - What strangers send is counted (Status), never logged.
//
// # What it never does
//
// It never relays TCP (RFC 6062), never listens anywhere itself (its owner passes the sockets in), and never lets a user name
// control another member's allocation.
package relaypeer
