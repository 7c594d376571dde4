// Package dnsreg keeps the public names of an overlay true: the NAPTR, SRV, A and AAAA records by which everybody else's SIP
// elements find its proxy peers (RFC 3263) follow the proxy peers that really live, under a policy of the zone's operator.
// It answers the draft's first open issue (§3.1.1, §6): who puts a proxy peer into the DNS, and who takes it out again.
//
// The work is cut so that every decision can be looked at by itself:
//
//	survey of the overlay ─▶ Admission ─▶ Desired ─▶ a difference ─▶ Backend: Updater, Authority, ZoneFile, DryRun
//	                             ▲
//	              Prober (OPTIONS from here), Booth (votes of members)
//
// Admission (admission.go) decides who is let in: a state machine without a clock of its own, whose evidence is what the Prober
// (probe.go, options.go) finds and, under the policy Quorum, what members vote (vote.go). Desired (records.go) is a pure function
// from the peers that were let in to the record set. A Registrar (registrar.go) turns the crank: it has the overlay surveyed, decides,
// and has a Backend make the zone so. Two of them share a zone by a lease (lease.go).
//
// # What it promises
//
//   - A record set is a function of peers, configuration and the set before it: two registrars with the same view want the same.
//   - Small changes of load, a lost packet and a survey that misses somebody change nothing in the zone. A peer's host name follows
//     from its key and from nothing it says.
//   - A peer that stops is out after the next survey, one that is killed after 41 s of failed probes at most (and a minute of TTL), one
//     that the overlay does not hear of any more when its advertisement ends, one that may not be there any more at once.
//   - Whatever is wrong with the overlay, an empty view is no reason to empty the zone: a registrar that is cut off keeps those who
//     answer, one that has just started waits until it knows those who are there.
//   - Only records under names listed in records.go are ever made, and only those that were made here are ever taken out.
//   - Nobody is probed whose address is not public, unless the operator says so, and what strangers advertise sets the size of neither memory
//     nor log.
//
// # What it does not
//
// A response to OPTIONS does not prove whose it is: a peer that has been given the role could name the address of somebody else's SIP
// server. Whoever gives roles to strangers should use Allowlist.
package dnsreg
