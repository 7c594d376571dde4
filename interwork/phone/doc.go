// Package phone is a small SIP telephone on this project's own messages, flows and transactions: what the demonstration
// and the tests of a node call with, and later the phone that is built into a node.
//
// It is a plain phone (RFC 3261 user agent, RFC 3264 offer and answer, RFC 3550 audio): it knows one outbound proxy and
// nothing of any overlay. A request follows a call through these files: request.go writes it, outgoing.go and incoming.go
// set the call up from either side, dialog.go holds the route set and addresses of what follows, session.go holds and
// resumes, sdp.go, media.go, playout.go and rtcp.go carry the sound. A Call is a row of states (state.go) that a caller waits for.
//
// Instead of a microphone there is a tone; instead of an ear there are the packet counts and the dominant frequency of
// what arrived, so that a program can tell that it was the other phone's tone and that none was lost.
//
// What it promises: calls, packets kept and states kept are bounded; what a remote sends is judged by package message and,
// for SDP and RTP, here; Close ends everything that was started and waits for it. It answers what it must (OPTIONS, BYE,
// re-INVITE, 405, 420, 481) and repeats a 2xx until it is acknowledged.
//
// What it does not do: video, DTMF, transfer, early media, PRACK, more than one codec (PCMU), other transports than UDP.
// It looks up no names: a route or contact that is no IP address is reached through the outbound proxy.
package phone
