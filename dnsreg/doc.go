// Package dnsreg keeps the public names of an overlay true: the NAPTR, SRV, A and AAAA records by which everybody else's SIP
// elements find its proxy peers (RFC 3263) follow the proxy peers that really live, under a policy of the zone's operator.
// It answers the draft's first open issue (§3.1.1, §6): who puts a proxy peer into the DNS, and who takes it out again.
//
// The work is cut so that every decision can be looked at by itself:
//
//	advertisements of the overlay ─▶ admission ─▶ Desired (records.go) ─▶ a difference ─▶ the zone
//
// Desired is a pure function from the peers that were let in to the record set; what comes after it, only makes the zone so.
//
// # What it promises
//
//   - A record set is a function of peers, configuration and the set before it: two registrars with the same view want the same.
//   - Small changes of load change nothing in the zone. A peer's host name follows from its key and from nothing it says.
//   - Only records under names listed in records.go are ever made.
package dnsreg
