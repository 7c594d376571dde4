// Package media moves the sound of the phones beside a node: it stands between a plain phone and the far side of its call,
// runs ICE on behalf of the phone and encrypts what leaves the node (draft §3.2.1 and §5.1 to §5.3).
//
// # Shape
//
//	Manager                    one for a node: ports, certificate, gathered candidates, all calls
//	  Session                  one for each branch of an INVITE, and for the dialog that comes of it
//	    Stream                 one for each m-line that is carried
//	      near leg             towards the phone: RTP and RTCP on a pair of ports of the pool (phone.go)
//	      far leg              towards the other node or the outside: ICE, or plain UDP through a relay (ice.go, raw.go)
//
// What one leg takes in, the other sends out, in the goroutine that read it (pump.go):
//
//	phone ── RTP, SRTP ──> near leg ── clear ──> far leg ── SRTP ──> host, reflexive or relayed path ──> far node
//
// # Descriptions
//
// Package sdp reads and writes descriptions of sessions. negotiate.go knows which body of a dialog is an offer and which an
// answer, and writes the body for the other side from two things: the description that came, and what the legs say about
// themselves. A leg has two methods for that: Local gives the transport that the description towards its side announces,
// SetRemote takes the transport that the description from its side brought:
//
//	from the phone:  near.SetRemote(m.Transport());  m.SetTransport(far.Local())   and on to the far side
//	from afar:       far.SetRemote(m.Transport());   m.SetTransport(near.Local())  and on to the phone
//
// exchange.go is where the two meet: the proxy opens an Exchange for each transaction that may carry a description, gives
// it the bodies it sees, and sends on what it gets back.
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
// A generation (generation.go) is one gathered set of sockets and allocations for one stream with an agent of pion/ice
// above it. The agent sees STUN only. The sockets are ours and are handed to it as its two muxes (agentmux.go); what is no STUN
// never enters the agent but goes straight from the socket to the pump, and what is sent goes straight to the selected
// pair. Gathering is ours too, because an agent of pion/ice can neither be handed an allocation nor lend one for plain RTP;
// gathered sets are made before they are needed (gather.go). Our allocations enter the agent as its "server reflexive" candidates; its own
// reflexive ones are never paired (RFC 8445 §6.1.2.4 has them replaced by their base), so the place is free, and
// the order of preference stays right: hosts before relays.
//
// # Repair
//
// When consent (RFC 7675) is lost or the addresses of the machine change, a new generation is gathered and its
// description exchanged with the far node over a stream of the overlay (Peers), not in the dialog of the phones. DTLS, SRTP
// and the counters live in the leg and go on; the old generation keeps working, if it can, until the new one has a pair.
//
// # Goroutines
//
// A session has one for each socket that is read (near leg: one or two for a stream; far leg: one for each host address and
// allocation, inside pion's agent) and pion's own five for an agent and two for a DTLS association.
//
// The Manager has one for time and one for gathering. Close waits for all of them.
//
// # What it never does
//
// It sends no SIP, decodes no sound, mixes nothing, and writes no line to the log for what strangers send.
package media
