// Package client finds relay peers and keeps allocations at them (draft §3.2, RFC 8656), so that a call has relayed
// candidates before its INVITE leaves and goes on when a relay peer dies.
//
//	            overlay.Find        Credentials (a stream to the relay peer)
//	                 |                   |
//	Warm ------- discover ---------- credential --- measure (STUN Binding)
//	                 |                   |
//	Allocate ---- choose ---- attempt: race of UDP, TCP and TLS ---- Allocation (net.PacketConn)
//
// Pool is what a node has one of. It knows up to 16 relay peers, holds short-lived credentials of the best of them, measures
// their round trips and remembers which transport gets through from the networks this machine has been in. Allocate asks
// several relay peers at once, in different networks where there are such, and gives what is there when those that may be
// expected to answer have answered: one that is dead costs nothing, since it is not waited for longer than one that lives
// would take. After a call has asked once, a set of allocations is kept ready for some minutes, so that the next call waits
// for nobody.
//
// Allocation is one relayed address. Data goes out in Send indications at first and over a channel as soon as it flows;
// permissions are asked for on the way, without holding the writer up, and everything is refreshed while it is in use. It
// ends (Done, Err) when it is closed, when the relay peer says that it is gone, when its connection breaks or when nothing
// comes back any more. Alive finds that out at once for who has a reason to ask.
//
// What is sent to a relay peer and believed of it: a relay peer is a stranger's machine. Answers count only for a transaction
// under way, and a success only with the integrity that the credential gives; addresses are taken from nowhere else. A relay
// peer reached over TLS shows the key that its credential answer (or its advertisement) names, or its node's own. The data
// itself is for others to encrypt: a relay peer sees whatever passes.
//
// What it never does: hand out more than a bounded number of allocations, queue more than a bounded number of octets for one,
// resolve names that a stranger gave, or write a line of log for something that a stranger sent.
//
// The TURN client is this package's own, upon pion/stun. The one in pion/turn/v2 (2.1.6) reaches servers over IPv4 only and
// cannot ask for an address family, drops the reflexive address of the Allocate response, gives error codes as text, does
// not check the integrity of responses, spins when a server gives a lifetime of 0, stops reading after one malformed
// datagram, holds writers up while a permission is asked for, and queues up to 64 MiB for one allocation.
package client
