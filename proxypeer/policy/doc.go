// Package policy is the federation policy of a proxy peer: with which domains the users of the overlay may talk, and by which
// way. It is one file, written by whoever runs the proxy peer:
//
//	[default]                            # domains that no entry names
//	outbound = true                      # members may call them
//	inbound = true                       # they may call members
//	routing_domain = "clearing.example"  # where domains go that are hosted there (see hosted)
//
//	[[domain]]
//	names = ["acme.com", "*.acme.com"]   # "*" stands for one label or more, never for part of one
//	description = "our supplier"
//	aliases = ["acme-corp.com"]          # other names of the first of names; rewritten once
//	require_tls = true                   # both ways; from there with a certificate
//	subjects = ["sip.acme.com"]          # names of which its certificates have to bear one; default: the domain
//	federation_srv = true                # look for _sipfederationtls._tcp too
//	trusted = ["192.0.2.0/28"]           # addresses that its requests come from, and may go to inside a call
//	check_source = true                  # or from where its servers are, by the DNS
//
//	[[route]]                            # instead of the DNS
//	to = ".com.domaina.*"                # the same as ["domaina.com", "*.domaina.com"]
//	next_hop = "edge.domaina.com"        # port 5061, TLS, unless said otherwise
//
// A Policy is such a file read (file.go), and never changes. It decides by pure functions, with the rule and the reason in
// words: Outbound, of a URI to which a member sends, gives the routes to try in order; Inbound, of a request from outside,
// may ask for the addresses of the domain's servers, and Decision.WithSources completes it. File watches the file and keeps
// the last good policy (reload.go); Enforcer is both for a proxypeer.Peer (enforce.go).
//
// Where the operator has named a place, be it in a private network, requests may go there: to a next hop, and inside a call
// with that domain to the next hop and the trusted addresses. Trusted addresses may also look up more users at a time.
//
// Else a policy only ever takes away from what a proxy peer does by itself: requests leave for members only and come in for users
// of the overlay only, whatever stands in the file. A wildcard together with a routing domain relays for nobody.
package policy
