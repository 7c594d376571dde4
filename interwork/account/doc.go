// Package account keeps the public numbers of a node's users: a user who has an account with a conventional SIP provider
// has the overlay URL registered there as the contact of the public address (draft §4.2, §5.4), so that calls for it reach
// the user's phones through any proxy peer, and may call as that address.
//
// # Order of things
//
// An account is registered with its provider in the three steps of the draft's §4.2: first the user's phones have to be in
// the overlay (Config.Published); then a proxy peer is found; then REGISTER goes out through it, with
//
//	REGISTER sip:provider.example          From and To: <sip:alice@provider.example>
//	Contact: <sip:alice@p2psip.example>    the overlay URL
//
// The provider's challenges are answered here, never by the proxy peer, which sees no password.
//
// # What it promises
//
//   - A registration is refreshed before it ends, by the shorter of what was asked and what was granted; 423 is obeyed.
//   - A proxy peer that does not answer costs one attempt: the next one is tried at once. When none helps, attempts go on
//     with the growing pauses of RFC 5626 §4.5, each drawn by chance from its upper half.
//   - What the provider refuses for good is told with what to do about it (Status), and tried again after a long pause
//     only: providers lock out who guesses.
//   - A password answers challenges of its provider's realm only. The realms are those that were asked for when the account
//     first registered, or the one it was added with; and an account that has registered with SHA-256 does not answer in
//     MD5 any more. So a proxy peer between the two cannot have a hash of its own choosing made later on.
//   - An account that is removed is unregistered, if the node runs. An account whose user has had no phone for two minutes is
//     unregistered as well, so that the provider can do what it does for who is away. A node that ends leaves its accounts
//     registered: a restart is to lose no call.
//
// # Calling as the public address
//
// A phone calls as alice@p2psip.example. By the account's prefix, or for all calls that leave the overlay if the account
// says so, its INVITE goes out from the public address instead, through the provider (outgoing.go).
//
// # Files in the data directory
//
//	accounts.json        accounts with their passwords in clear, which digest needs; read when it changes
//	accounts.seen.json   realms and algorithms seen, written by the running node
//
// Both are readable by their owner only, and replaced atomically.
//
// # What it never does
//
// It opens no socket, knows no transaction and follows no redirection. Nothing a provider or a proxy peer sends makes it
// send more than a few requests, keep more than a few hundred bytes, or wait less than some seconds between attempts.
package account
