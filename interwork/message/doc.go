// Package message reads and writes SIP messages (RFC 3261 §7, §25).
//
// The types are those of github.com/emiago/sipgo/sip, so that the layers above share them with the rest of the Go world.
// The reading is ours. sipgo's parser is made for speed and takes the last of two From headers, drops what it does not
// know in a Route, loses quoted parameters and keeps bare line feeds; a proxy that forwards what it has half understood
// is how one message becomes two. So the octets are judged first and the sip values are built from the parts that were
// judged: scan.go cuts the header section into fields, the files named for a header or a grammar rule (uri, address, via,
// header) read the fields a proxy acts on, build.go puts the message together.
//
// What the package promises:
//
//   - Parse accepts a message only if every field a proxy or registrar acts on is well-formed and unambiguous; the others
//     are carried along as they are. What Parse has accepted, Bytes writes so that Parse accepts it again with the same
//     meaning.
//   - A header nobody touches leaves with the value it came with: From, To, Call-ID, every unknown header and the body
//     are forwarded octet by octet. Only line folding is undone, white space between tokens of a Via is put in its usual
//     form, and compact header names are written in full.
//   - Octets after the body of a datagram are dropped and never forwarded (RFC 3261 §18.3).
//   - A refused message says what to answer, if anything: a response, an ACK and what is not SIP at all get silence.
//   - No input makes it panic, and no input makes it keep more memory than the message has octets, times a small factor.
//
// What it never does: it does not unescape, does not compare URIs, does not decide about methods, schemes or extensions.
// An unknown method (405, 501), an unknown URI scheme (416), an unknown extension (420) or Max-Forwards 0 (483) passes.
//
// Where the value of a header can be written by sipgo's own type exactly as it was received, that type is in the list of
// headers; where it cannot, a plain header with the received text is, and the accessors (From, To, Contact, Route) still
// return the value as it was read here. Use Contacts, Routes and PopRoute rather than type assertions over GetHeaders.
package message
