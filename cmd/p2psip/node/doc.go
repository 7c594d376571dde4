// Package node puts one node together: its place in the overlay, the SIP proxy, the registrar for the phones beside it, and
// the sockets of all three. The command line, the demonstration and the tests all make nodes with Start; there is no
// other way to make one.
//
//	phones - sockets.go - transaction - proxy - edge - publish.go - overlay.Registrations
//	                                      |
//	other nodes - peers.go - flow --------+---- overlay.Lookup
//
// A node may be given who it is (Identity), its libp2p host, its sockets and its chance instead of finding or making them;
// the simulation runs hundreds of such nodes in one process, and they keep nothing.
//
// home.go knows the files of the data directory, control.go and client.go are how a person asks the running node,
// status.go what it answers.
//
// What a node promises: everything that identifies it and its phones is in the data directory and survives the death of
// the process at any moment; two processes never use one data directory; Start that fails leaves nothing running; Close
// waits for all that runs and takes nobody out of the overlay, because a restart must not lose phones.
//
// What it never does: read or write a packet itself, or decide where a request goes.
package node
