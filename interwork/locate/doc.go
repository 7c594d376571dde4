// Package locate finds where a SIP request for a domain has to go: RFC 3263, from a URI to an ordered list of transports,
// addresses and ports.
//
//	r, err := locate.NewResolver(locate.ResolverConfig{})       // the machine's own name servers
//	l, err := locate.New(locate.Config{Resolver: r})
//	res, err := l.Locate(ctx, uri)                              // res.Targets: try them in this order
//	l.Failed(res.Targets[0])                                    // refused, silent, 503: last for a while
//	fmt.Print(res)                                              // every question, answer and reason
//
// A Locator decides (uri.go: what the URI settles by itself; naptr.go and srv.go: what the domain's zone says;
// address.go: host names; memory.go: what this node has lived through with an address). A Resolver asks: it has the name
// servers and their order (resolver.go), the cache (cache.go), and judges each answer before anything believes it
// (accept.go). An Exchanger carries one DNS message there and back; Wire does so over sockets, a simulation brings its
// own. DNS messages are those of github.com/miekg/dns; this package has no wire format.
//
// What it promises. Errors tell apart what a caller has to tell apart: a domain that does not exist, one that exists and
// has no SIP, one that has SIP but no address, and name servers that do not say. What a name server fails to say is never
// taken for "there is none", so a request never lands on a domain's web server because an SRV query timed out. A Locate
// ends after Config.Timeout, and Config.Patience after the first target is known. What failed is remembered by address, port
// and transport, never by domain, and puts a target last, never out.
//
// Everything a zone or a name server can make this package do has a bound: records of an answer, CNAMEs, questions and
// targets of one Locate, questions under way, entries and octets of the cache, remembered targets.
//
// Nothing here runs on after the call that started it.
package locate
