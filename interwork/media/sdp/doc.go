// Package sdp reads descriptions of sessions (RFC 8866) and writes them back.
//
// A node that carries the sound of a call between a plain telephone and the rest of the world replaces what a description
// says about transport: addresses, ports, ICE, keys. All else in it, codecs and their parameters above all, is a matter
// between the two telephones, and a node that does not know a codec must not be the reason why it is not used. So a
// description is kept as what it is, a list of lines in their order:
//
//	Parse       octets -> Session, a list of lines for the session and one for each stream
//	Transport   what a stream's lines say about transport, understood and bounded
//	SetTransport replaces just these lines
//	Marshal     Session -> octets; a line that nobody touched leaves as it came
//
// What is read comes from telephones and from strangers. Size, lines, streams, candidates, keys and lengths are bounded
// (limits.go); an attribute that cannot be understood counts as not there and never as an error, unless there are
// suspiciously many of it. Telephones' small sins are forgiven: bare line feeds, an absent s= or t=, spaces at the end of
// lines, empty lines. What leaves has CRLF and the lines that RFC 8866 demands.
//
// pion/sdp v3.0.18 is not underneath. Of several c= lines it keeps the last, it moves b= and c= in front of what they followed,
// and it refuses m=image, kinds of bandwidth that it does not know, lines of unknown type, an o= whose numbers are none and a
// missing s=. A node in the middle must not be the one that minds.
//
// The grammars are those of RFC 8866 (o=, c=, m=), RFC 8839 (candidates), RFC 8122 and 4145 (fingerprint, setup), RFC 8842
// (tls-id), RFC 4568 (crypto), RFC 3605 (rtcp), RFC 5761 (rtcp-mux), and RFC 3264 §5.1 (directions).
//
// The package does no input or output and keeps no state. A Session belongs to one goroutine.
package sdp
