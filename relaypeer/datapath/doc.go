// Package datapath carries a relay peer's datagrams: the sockets under pion/turn's server, whose code it leaves alone.
//
// A TURN server does little for a packet of somebody's voice: it looks up where it goes, takes four octets off or puts them
// in front, and sends it on. What costs is the way in and out of the kernel, once a packet each, and a goroutine woken for
// each. So here one goroutine, the Loop, waits for all sockets at once (epoll), lets packets gather for up to a millisecond when
// there are many of them, and reads and writes them by the batch (recvmmsg, sendmmsg). When there are few, it sends each at
// once. Where the platform has none of that, or when LoopOptions.Plain says so, the same types work on ordinary sockets.
//
// # Which way data flows
//
//	client ──▶ ServerConn ──▶ pion/turn ──▶ RelayedConn ──▶ peer      requests, indications: always
//	                └───────── Loop ────────────▲                     ChannelData of a channel that pion has bound
//
// and the same back. A ServerConn (UDP) or StreamConn (TCP, TLS) is what turn.PacketConnConfig wants as PacketConn; a
// Generator is its RelayAddressGenerator and makes the RelayedConns, one an allocation:
//
//	loop, err := datapath.NewLoop(datapath.LoopOptions{})
//	front, err := loop.Listen("udp4", "192.0.2.7:3478", datapath.Options{})
//	config := turn.PacketConnConfig{PacketConn: front, PermissionHandler: …, RelayAddressGenerator: &datapath.Generator{
//		Loop: loop, Front: front, Relay4: datapath.RelayAddress{Listen: addr, Announce: addr}, Open: …}}
//
// Each front has a Generator of its own. Clients that come by TCP or TLS get a StreamConn, a Generator and a turn.Server for
// each connection, so that here, too, it is known whose allocation is whose. Close the servers before the Loop.
//
// # The short cut, and why it is safe
//
// The Loop forwards ChannelData past pion's goroutines, but only what pion would forward:
//
//   - A channel is learned when pion's own success response to a ChannelBind request passes through WriteTo, for the very
//     request that pion was given last: same transaction, same client, and a front has one reader, which does not read on
//     before it has answered. So authentication, permission handler and every check of pion's have been passed. The request is
//     read by the same decoder that pion uses.
//   - It is forgotten ChannelLifetime after the request was handed to pion, which is before pion forgets it, unless another
//     success renewed it. An allocation is forgotten when pion closes its RelayedConn: in the same moment.
//   - A response cannot be forged by what is relayed: nothing but a STUN message whose length is right counts, and no ChannelData
//     message is one, whatever its number; requests for channel numbers outside 0x4000–0x7FFF, which pion would bind, do not
//     get to pion (RFC 8656 §12).
//   - Whatever is not known here goes to pion: its verdict is the only one. A packet that the short cut does not take is
//     never lost by that.
//
// A Meter, one for each allocation, is asked about every packet on both ways, in both directions.
//
// # Bounds
//
// Packets wait in fixed queues: Options.Queue at a front, of which a quarter is for clients with an allocation, so that a flood
// from strangers does not lock them out, and relayedQueue at an allocation (none is kept while empty). More are dropped and
// counted, as are datagrams larger than MaxDatagram. An allocation has at most maxChannels channels in the short cut.
// A send that the kernel has no room for is a lost packet, never a wait. Nothing here logs; Stats counts.
package datapath
