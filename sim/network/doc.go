// Package network lets many nodes live in one process, in virtual time, over a network that is only calculated.
//
// # Virtual time
//
// RunVirtual runs a function in a bubble of testing/synctest, in any binary: time stands still while a goroutine works
// and jumps to the next timer when all of them wait. An hour of an idle overlay takes as long as its work takes.
//
// # The light host
//
// Host implements libp2p's host.Host without sockets, encryption or multiplexing: what is written on a stream appears at
// the far side after the time that Config says. The node above it is the production code, unmodified. What the light host
// does as libp2p does:
//
//   - connections are dialled (round trips, addresses needed, one dial for many callers, back-off after a failure,
//     time-out), shared by all streams and trimmed by tag value above 160 to 96;
//   - identify: protocols and listening addresses of the far side are known a round trip after the handshake;
//   - the events and notifications about peers and connections;
//   - a stream that goes to a known protocol costs no round trip of its own;
//   - a peer that falls silent stays "connected" until the idle time-out has found out.
//
// What it does not do: congestion, packet reordering, relays, hole punching, resource limits, protocol negotiation by
// multistream beyond one round trip, partial writes. Streams of one connection do not delay each other.
//
// # Datagrams
//
// A Place has sockets for datagrams (ListenPacket): the house of a host, for the node and its phones, or somewhere in the
// public network. They too exist in memory only; what is lost on the way stays lost.
//
// # Faults
//
// A host may be closed (others learn of it at once, dials are refused), fall silent (nobody learns of anything), be cut
// off with others in a partition that heals later, or stand behind a NAT, as far as that decides who can dial whom.
//
// # Cost of traffic
//
// Every host counts messages and bytes, for each protocol. A message is what is written on a stream at one instant. To its
// bytes Config.Overhead is added for the packet around it. Handshakes and keep-alives are counted under Transport; the
// latter by time connected, so that they cost the simulation nothing.
//
// # Determinism
//
// All delays are drawn from hashes of the seed, the two hosts, the instant and the size of the message, never from a shared
// generator. Everything that the network does is done by one goroutine, each thing at a nanosecond of its own and, with
// Config.Settle, when all that went before has come to rest. Things due at the same time are ordered by the hosts and by what
// messages say. So the order in which the scheduler runs the goroutines of one instant, which is chance, does not show, as
// long as it makes no difference within one host. Seeded replaces crypto/rand for a run. Config.Watch is for tests of all this.
package network
