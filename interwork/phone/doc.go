// Package phone is a small SIP telephone on this project's own messages, flows and transactions: `p2psip call` and `p2psip echo`,
// and what the demonstration, the simulation and the tests of a node call with.
//
// It is a plain phone (RFC 3261 user agent, RFC 3264 offer and answer, RFC 3550 audio): it knows one outbound proxy and
// nothing of any overlay. A request follows a call through these files: request.go writes it, outgoing.go and incoming.go
// set the call up from either side, dialog.go holds the route set and addresses of what follows, session.go holds and
// resumes, answermode.go decides who is answered without anybody being there (RFC 5373). A Call is a row of states
// (state.go) that a caller waits for.
//
// The sound goes through these, one Call having one media (media.go):
//
//	Source ── codec.go ──> RTP ──> far side
//	far side ──> rtp.go ──> reception.go (counts, jitter) ──> playout.go (order, time) ──> Sink
//	far side <── rtcp.go ──> reports: loss and jitter there, the round trip
//
// A Source is a tone, a clip or an echo, a Sink a recording, the same echo or nobody; package audio reads and writes the
// files. One goroutine has the clock: every 20 ms it hands a frame to the Sink, takes one from the Source and sends it. So that a
// program can tell what it heard, Stats has the packet counts and the dominant frequency, and emodel.go makes a rating of
// loss and delay as ITU-T G.107 does.
//
// What it promises: calls, packets kept and states kept are bounded; what a remote sends is judged by package message and,
// for SDP, RTP and RTCP, here; sound and reports count only from the address that the description names; Close ends
// everything that was started and waits for it. It answers what it must (OPTIONS, BYE, re-INVITE, 405, 420, 481) and
// repeats a 2xx until it is acknowledged. Where nothing arrived, the Sink gets silence: a recording shows every loss.
//
// What it does not do: video, DTMF, transfer, PRACK, codecs other than G.711, encryption and ICE (the node does both on its
// behalf), other transports than UDP, echo cancelling. It offers no rtcp-mux and answers with it when asked. The jitter
// buffer begins with 60 ms, grows to 200 and never shrinks within a call but by a cut. It looks up no names: a route or
// contact that is no IP address is reached through the outbound proxy.
package phone
