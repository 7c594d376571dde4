package locate

import (
	"errors"
	"fmt"
)

// What is wrong with the URI; no question was asked.
var (
	// ErrScheme: neither sip: nor sips:.
	ErrScheme = errors.New("only sip: and sips: URIs have a server to locate")
	// ErrHost: the host is no domain name and no address that something can be sent to.
	ErrHost = errors.New("not a host that can be located")
	// ErrMaddr: the URI has an maddr parameter. It names an address that overrides the host (RFC 3261 §19.1.1), which
	// would let anybody who writes a URI choose where this node sends to, past any rule about domains.
	ErrMaddr = errors.New("maddr is not followed")
	// ErrTransport: the URI wants a transport that this node does not speak or may not use for it.
	ErrTransport = errors.New("transport not available")
)

// What the DNS says.
var (
	// ErrNoSuchDomain: NXDOMAIN, the domain does not exist.
	ErrNoSuchDomain = errors.New("no such domain")
	// ErrNoService: the domain exists and offers SIP in no way that this node may use; an SRV target "." says so outright.
	ErrNoService = errors.New("the domain offers no SIP service that can be used")
	// ErrNoAddress: servers are named, and none of them has an address that can be used.
	ErrNoAddress = errors.New("no server of the domain has an address")
)

// What the DNS fails to say. All of them are ErrDNS.
var (
	ErrDNS = errors.New("the name servers gave no usable answer")
	// ErrTimeout: no name server answered in time.
	ErrTimeout = fmt.Errorf("%w: none in time", ErrDNS)
	// ErrUnreachable: no name server can be reached: nothing listens there, or no network leads there.
	ErrUnreachable = fmt.Errorf("%w: they cannot be reached", ErrDNS)
	// ErrServFail: name servers answered that they could not find out (SERVFAIL), or do not want to (REFUSED).
	ErrServFail = fmt.Errorf("%w: they could not find out", ErrDNS)
	// ErrBogus: what name servers sent was no answer to the question: a referral, another question's answer, rubbish.
	ErrBogus = fmt.Errorf("%w: they sent no answer to the question", ErrDNS)
	// ErrAliases: the name leads through too many CNAMEs, or round in a circle.
	ErrAliases = fmt.Errorf("%w: too many aliases or a circle of them", ErrDNS)
	// ErrTooMany: this one search has asked more than its share of questions (MaxQuestions).
	ErrTooMany = fmt.Errorf("%w: too many questions for one search", ErrDNS)
	// ErrNoServers: no name server is configured.
	ErrNoServers = fmt.Errorf("%w: no name server is configured", ErrDNS)

	// errPatience cuts off a question that others have answered well enough.
	errPatience = errors.New("not waited for: other answers were there")
)
