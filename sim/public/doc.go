// Package public is a small public SIP network for the simulation: providers and the DNS, in memory and in virtual time.
//
// A Provider is what a conventional operator runs for its domain: a registrar that asks for digest (RFC 3261 §10, §22) and a
// stateful proxy (§16) that records its route, over one UDP socket. It finds other domains by RFC 3263 (interwork/locate)
// and tries their servers one after the other. A Zone is the DNS that all of them ask, as a table of records in the form of
// a zone file.
//
// What it does not do: other transports than UDP, forking, proxy authentication, more than one contact for a user. It is
// not the border that is under test, only what stands on its far side, so it is kept as plain as a provider may be.
package public
