// Package media moves the sound of the phones beside a node: it stands between a plain phone and the far side of its call,
// runs ICE on behalf of the phone and encrypts what leaves the node (draft §3.2.1 and §5.1 to §5.3).
//
// # Shape
//
//	Manager                    one for a node: ports, gathered candidates, all calls, time (manager.go)
//	  session                  one for each branch of an INVITE, and for the dialog that comes of it (session.go)
//	    near leg               towards the phone, for each m-line: RTP and RTCP on a pair of ports of the pool (phone.go)
//	  trunk                    the far side of one or more sessions: a far node that rings several phones has one agent (trunk.go)
//	    far leg                towards the other node or the outside, for each m-line (far.go)
//	      generation           ICE: sockets, allocations and an agent of pion/ice, until the next restart (generation.go)
//	      rawEnd               or plain UDP through a relay or a public address, where the outside knows no ICE (raw.go)
//
// What one leg takes in, the other sends out, in the goroutine that read it (leg.go):
//
//	phone ── RTP, SRTP ──> near leg ── clear ──> far leg ── SRTP ──> host, reflexive or relayed path ──> far node
//
// # Descriptions
//
// Package sdp reads and writes descriptions of sessions. negotiate.go knows which body of a dialog is an offer and which an
// answer, and writes the body for the other side out of what the legs say about themselves (local). passage.go is where the
// two meet: the proxy opens an Exchange for each request that may carry a description, gives it the bodies it sees, and
// sends on what it gets back. When an answer has passed, session.apply sets both legs to what was agreed (configure): where
// packets come from and go to, with which keys.
//
// A phone that does ICE and encrypts by itself is left alone: its descriptions pass as they are.
//
// # What is promised
//
//   - What goes between nodes is encrypted: keys come from DTLS between the two nodes, whose fingerprints travelled in
//     signalling that the overlay authenticated. A leg to a node never falls back to clear; a fingerprint that does not
//     match means no media and a reason in the status.
//   - Nothing is forwarded from a source that did not prove itself. From the phone's side that is the address in its
//     description, or one source on the host that signals; from ICE's side an address that answered or made a check with the
//     right password; and what is encrypted has to authenticate as well.
//   - No DTLS record is looked at before a pair of candidates is valid, and only from addresses that proved themselves.
//   - Everything is bounded (limits.go): sessions, streams, ports, candidates, sources, goroutines, octets waiting.
//   - A session ends when its dialog does, or when nothing has come for SilenceTimeout; its ports are free again a moment
//     later.
//   - Codecs, payload types, DTMF, text and video pass as they are: nobody looks below the RTP header.
//
// # ICE
//
// A bundle (gather.go) is what is gathered for one stream before its description can be written: a socket at each address of
// this machine, allocations at up to three relay peers, and the reflexive addresses of the sockets. A few are kept ready
// (warm.go), so that an INVITE need not wait. When the far side is known, an agent of pion/ice goes on top.
//
// The agent sees STUN only. The sockets are ours and are handed to it as its two muxes (agentmux.go); what is no STUN never
// enters the agent but goes from the socket to the far leg, and what is sent goes straight to the selected pair. That saves
// a copy, a queue and a goroutine for each packet. Gathering is ours because an agent can neither be handed an allocation nor lend
// one for plain RTP. Our allocations enter the agent as its server-reflexive candidates: its real reflexive ones are never
// paired (RFC 8445 §6.1.2.4 has them replaced by their base), so that place is free, and hosts are preferred to relays as
// they should be. A TURN server in this process, reached through a pipe, would have given them their right name, at
// the price of two more goroutines and an encapsulation for each packet.
//
// # Repair
//
// When consent (RFC 7675) is lost or the addresses of the machine change, a new generation is gathered and its
// description exchanged with the far node over a stream of the overlay (Peers), not in the dialog of the phones. DTLS, SRTP
// and the counters live in the leg and go on; the old generation keeps working, if it can, until the new one has a pair.
//
// The side that offers a restart controls it. When both begin at once, the one goes on that offered first in the call. A restart
// between a phone that does ICE itself and this node is one by re-INVITE, which is answered as any other. With the outside
// there is no repair but the phones' own.
//
// # Goroutines
//
// A call with one stream and one host candidate has ten: two that read the phone's ports, one that reads the candidate, two of
// the agent's, five of the DTLS association's. Each further address or allocation adds one. The Manager has one for time,
// and one for each gathering under way. Close waits for all of them.
//
// # What it never does
//
// It sends no SIP, decodes no sound, mixes nothing, and writes no line to the log for what strangers send.
package media
