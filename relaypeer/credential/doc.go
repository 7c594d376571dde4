// Package credential is how a member of the overlay gets to use a relay peer: it asks over an authenticated stream and is
// handed a user name and a password for TURN (RFC 8656) that are good for an hour.
//
//	member                                        relay peer
//	   |---- overlay.ServiceTURN: greetings ---------->|   each shows its member credential (overlay/stream.go)
//	   |---- question -------------------------------->|
//	   |<--- answer: Grant or Refusal -----------------|
//	   |                                               |
//	   |==== TURN, with what the Grant says ==========>|
//
// The user name is "<expiry>:<node identifier>", the password an HMAC over it with a secret of the relay peer, as in the TURN
// REST API: the relay peer keeps nothing about those it has given, and whatever comes with that user name counts for that
// member. wire.go is the codec of the stream, secret.go makes and checks the pair, uri.go reads and writes turn: and turns:
// URIs (RFC 7065).
//
// The Grant also says what TURN would otherwise have to find out in a round trip: the realm, and a nonce. A client that sends
// them with its first Allocate saves that round trip, and is served when a flood has the relay peer answer strangers no
// longer. A client that knows nothing of this does as RFC 8656 says and is served too.
//
// Everything read from the far side is bounded; neither side believes of the other more than the greetings have proven.
package credential
