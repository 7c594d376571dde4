// Package flow is where SIP messages come from and where they are sent back to: UDP, TCP and TLS sockets for the phones
// beside a node, framed streams to other nodes.
//
// Sockets, listeners and streams are opened by the caller and owned by this package from then on:
//
//	u := flow.ListenUDP(pc, handler, flow.Options{})    // one reader for the socket; u.To(addr) is the flow to an address
//	s := flow.ListenTCP(ln, handler, flow.Options{})    // one reader and one writer for each connection; s.Dial opens one
//	f := flow.NewPeerFlow(stream, me, you, cred, handler, flow.Options{})
//
// A reader calls the Handler synchronously and in order, one message at a time: a CANCEL never overtakes its INVITE, and
// a handler that takes its time holds up its own flow and no other. What is sent goes into a bounded queue in front of the
// one writer, so that Send never waits for the far side; a far side that does not read is cut off after WriteTimeout.
//
// What the package promises: a request that came over a socket says in its top Via where it came from (received and rport,
// RFC 3581), whatever its sender wrote there. Nothing grows without bound: connections are limited in all and by address,
// octets by message, by queue and by time, answers to rubbish by rate and, where the source address is unproven, by the
// size of the rubbish. A handler that panics costs the message it panicked on. Closing a socket or listener waits for all of
// its goroutines; a single flow says with Done that it has ended.
//
// On Linux a Handler that is an UnreachableHandler hears of UDP addresses where nobody listens.
//
// What it never does: it keeps nothing for a UDP source beyond a small table of those heard last, it resolves no names, and it does not decide who may speak.
package flow
