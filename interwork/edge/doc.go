// Package edge is the side of a node that faces phones: the registrar (RFC 3261 §10) for the users of this node's
// credential, the gate that decides which requests of a phone are let in (digest authentication, RFC 3261 §22, RFC 7616,
// RFC 8760), and the table of registered phones that the proxy delivers to.
//
// # What it promises
//
//   - A 200 to a REGISTER means three things: the binding is in this process, it is on disk (it survives SIGKILL), and,
//     when the registration changed which devices a user has, a write quorum of the overlay has confirmed it.
//   - A phone whose registration has not changed is answered without waiting for the overlay.
//   - When the overlay cannot be reached, the binding is kept, so that the phones of one node still reach one another. The
//     REGISTER is answered 503 with Retry-After, Status says "registered here, not published" and why, and the package
//     tries again by itself, with growing pauses, until it succeeds.
//   - A binding that expires or is removed is taken out of the overlay as well.
//   - A clear-text password is never stored, and never logged.
//
// # What it never does
//
// It never blocks the goroutine that delivers messages: saving and publishing happen on goroutines that Edge owns, bounded
// in number, and the response is sent when they are done. It opens no socket; flows to phones come from Config.Flows. It
// gives no user a contact whose address was only claimed: a phone whose Contact names another host than the one its
// REGISTER came from is reached where it came from.
//
// # Who is asked for a password, and how
//
// Every phone whose source address is not trusted (Config.Trusted, ParseTrust; loopback unless something else is said) has
// to authenticate by digest. It is offered SHA-256 and MD5 as RFC 8760 has it, and MD5 alone when it does not understand
// that (see offers). A user may be limited to one of the two (User.Digest). A nonce is good for five minutes and for the
// address it was sent to; an older one is renewed with stale=true, which costs the phone a round trip and no question to
// its owner. Wrong passwords are answered with another challenge three times, then with 403 after growing pauses; a right
// one is taken at any time.
//
// # Which way data flows
//
//	phone -> flow -> transaction -> proxy -> Admit      (401, 407, 403 or let in)
//	                                      -> Register   -> contact.go parse -> registrar.go check -> bindings.go apply
//	                                                       -> store.go save -> publication.go publish -> response
//	                                      -> Bindings   (targets for a request to a local user)
//
// # Files in the data directory
//
//	users.json      who may authenticate: digest secrets (HA1), written by `p2psip user add`, read when it changes
//	bindings.json   registered phones, written by the running node
//	edge.key        32 random bytes: makes device identifiers stable and opaque
//
// All three are readable by their owner only, and replaced atomically.
//
// # Devices and their addresses
//
// A device is named by a URN, which is its identifier in the overlay and the gr value of its GRUU (RFC 5627). A phone that
// sends +sip.instance (RFC 5626 §4.1) brings its own, so it is the same at every node of its user: registering again from
// another address replaces its old contact instead of leaving a dead one beside it. For any other phone one is made from the
// host and port of its contact: whatever user part it makes up at a start, one socket is one phone. Several contacts of one
// phone in one REGISTER stay apart.
//
// A public GRUU is known for a month after the device registered last, and answered 480 while it is away. Temporary ones
// (tempgruu.go) need no record in the overlay: they carry the node that made them, encrypted.
//
// A phone with reg-id (RFC 5626, outbound.go) may have several flows, which are one device; the newest that lives is used.
package edge
