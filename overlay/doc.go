// Package overlay is what the draft calls the P2PSIP overlay: it finds, for a SIP URI, the nodes where that user can be
// reached, without any server that knows. It speaks no SIP.
//
// # Who is in it
//
// An overlay is named by a domain name, its identifier (ID). Whoever founds one is its Authority, a root key that signs
// two kinds of things: the overlay document (Document), a small file with all that a volunteer needs to join, and member
// credentials (Credential), X.509 certificates that say which users and which roles a node may speak for. A node is known
// by its libp2p key, and the credential is bound to that very key. In an overlay with the open policy a node may do
// without the root under the one name that follows from its key.
//
// # What it stores
//
// For each user there is one user routing record (Record). It is made of entries, one for each node where the user has a
// phone. A node signs its own entry and no other, with a sequence number and an expiry; a user who leaves is an entry
// without devices. Because entries stand on their own, merging two records is taking the newer entry for each node:
// nodes that store a record do it, readers do it, and two phones that register at one moment on two nodes both end up in
// it. entry.go gives the wire form.
//
// Every node checks every record, on storing and on reading: form, size, overlay, user, credential, signature, expiry,
// sequence (validator.go).
//
// # How it finds and stores
//
// The nodes form a Kademlia DHT: go-libp2p-kad-dht under a protocol prefix of the overlay's own, its routing table, its
// server side and its messages. The client side is this package's, because the time is lost there: walk.go goes to the
// k nodes nearest to a key and does not wait for those that do not answer.
//
//   - Peer.Lookup answers with the first valid record and again when a newer one turns up.
//   - Registrations.Set returns when a majority of the nearest nodes has confirmed storing the record. It publishes again
//     at half life, after failures and after the node was cut off, until it is told otherwise.
//
// # How nodes with a role are found
//
// A node whose credential permits a role says so in an advertisement (Advert, Peer.Offer): signed, good for a quarter of an
// hour, taken back by a tombstone. Advertisements are kept in a store of their own, at most 16 under a key, and merged as
// users' entries are (advert.go, advertset.go, rolestore.go). The well-known URI of a role is one key; beside it there are
// shards, spread over the key space, so that each node has some of the advertisements in its neighbourhood, most often in its
// own store (rolekey.go, roleoffer.go). Peer.Find takes them from there, remembers them, and hands out those that were
// heard lately, by load, distance and chance (rolefind.go, rolecache.go, rolechoice.go).
//
// # How a node gets in
//
// Peer tries the addresses of the overlay document, those it was configured with, the nodes it met in earlier runs and
// what it finds in the local network (mDNS), and again when it has lost all others (join.go). OpenStream and
// HandleStreams carry SIP between members, each of whom shows a credential first (stream.go). What a node has signed, Vouched of
// any other one can check (vouch.go).
//
// A node without a public address is reached through others that have one: it holds reservations with two of them, for libp2p's
// circuits, and names these ways in what it publishes (circuit.go). Streams between members go over them, encrypted from end to end;
// the DHT does without.
//
// What this package never does: hand out a record that did not pass the checks, use more than a bounded amount of memory
// on behalf of a stranger, or say that something is stored before a majority has said so.
package overlay
