// Package transaction keeps the SIP transactions of a node: the state machines of RFC 3261 §17 with the corrections of
// RFC 6026 (2xx and their retransmissions) and RFC 4320 (non-INVITE), behind one interface for the transaction user.
//
// A Layer is what flows deliver into (it is a flow.Handler). It absorbs retransmissions, repeats what an unreliable flow
// may have lost, answers CANCEL, matches ACKs, and hands everything else to its Handler: new requests with their Server
// transaction, ACKs and responses that belong to no transaction. The Handler sends requests with Layer.Request and hears
// of the Client transaction through its ClientHandler.
//
// What it promises. Messages of one flow reach the Handler in the order in which they arrived, on the flow's reader:
// there is no goroutine per message. No callback runs under a lock of this package, so a callback may call anything here.
// Every transaction ends by a timer at the latest and each table is bounded by count: a request that finds the table full
// is answered 503 with Retry-After and leaves no state. A panic in a callback costs the message, not the process.
//
// What it never does. It does not route, open connections, or retransmit on a reliable flow; it does not send 408 to a
// non-INVITE request (RFC 4320 §4.2).
//
// A request whose address nobody listens at fails as soon as the network says so (unreachable datagrams, on Linux).
//
// Timers are part of the transactions (clock.go). The messages that are sent are written into buffers used again; kept
// are only the responses that a retransmitted request asks for.
//
// Each transaction has one mutex. It is taken before those of the tables and never while calling out; flows are called under it,
// which is safe because flow.Flow.Send neither blocks nor calls back. The clock's mutex is the last.
package transaction
