package relaypeer

import (
	"fmt"
	"io"
	"net/netip"

	"p2psip/relaypeer/credential"
)

// A relay peer that does not know whether it can be reached asks other members to try (overlay.ServiceReach). Each side sends
// one message behind its greeting, framed as credential's are.
//
//	ReachQuestion ::= SEQUENCE {
//	    version  INTEGER (1),
//	    targets  SEQUENCE (SIZE (1..9)) OF SEQUENCE {
//	        transport  INTEGER { udp(0), tcp(1), tls(2) },
//	        address    OCTET STRING (SIZE (4 | 16)),
//	        port       INTEGER (1..65535),
//	        token      OCTET STRING (SIZE (12)) } }   -- transaction ID of the Binding request to send there
//
//	ReachAnswer ::= SEQUENCE {
//	    version  INTEGER (1),
//	    reason   UTF8String (SIZE (0..200)),          -- for people, where nothing was tried
//	    results  SEQUENCE (SIZE (0..9)) OF INTEGER { reached(0), silent(1), refused(2) } }
const (
	reachVersion     = 1
	maxTargets       = 9 // as many services as an advertisement has, and a relayed address
	maxReachQuestion = 1 << 10
	maxReachAnswer   = 512
	maxReachReason   = 200
)

// target is an address to be tried.
type target struct {
	transport Transport
	addr      netip.AddrPort
	token     [12]byte
}

// outcome is what came of one.
type outcome int

const (
	reached outcome = iota
	notReached
	notTried
)

type wireReachQuestion struct {
	Version int
	Targets []wireTarget
}

type wireTarget struct {
	Transport int
	Address   []byte
	Port      int
	Token     []byte
}

type wireReachAnswer struct {
	Version int
	Reason  string `asn1:"utf8"`
	Results []int
}

var reachTransports = []Transport{UDP, TCP, TLS}

func writeTargets(w io.Writer, list []target) error {
	q := wireReachQuestion{Version: reachVersion}
	for _, t := range list {
		for i, k := range reachTransports {
			if k == t.transport {
				q.Targets = append(q.Targets, wireTarget{i, t.addr.Addr().AsSlice(), int(t.addr.Port()), t.token[:]})
			}
		}
	}
	return credential.WriteMessage(w, q, maxReachQuestion)
}

func readTargets(r io.Reader) (out []target, err error) {
	var q wireReachQuestion
	if err := credential.ReadMessage(r, &q, maxReachQuestion); err != nil {
		return nil, err
	}
	if q.Version != reachVersion || len(q.Targets) == 0 || len(q.Targets) > maxTargets {
		return nil, fmt.Errorf("%w: version %d with %d addresses", credential.ErrMalformed, q.Version, len(q.Targets))
	}
	for _, t := range q.Targets {
		a, ok := netip.AddrFromSlice(t.Address)
		if !ok || t.Port < 1 || t.Port > 65535 || len(t.Token) != 12 || t.Transport < 0 || t.Transport >= len(reachTransports) {
			return nil, fmt.Errorf("%w: an address to be tried", credential.ErrMalformed)
		}
		out = append(out, target{reachTransports[t.Transport], netip.AddrPortFrom(a.Unmap(), uint16(t.Port)), [12]byte(t.Token)})
	}
	return out, nil
}

func writeOutcomes(w io.Writer, reason string, list []outcome) error {
	a := wireReachAnswer{Version: reachVersion, Reason: reason, Results: []int{}}
	for _, o := range list {
		a.Results = append(a.Results, int(o))
	}
	return credential.WriteMessage(w, a, maxReachAnswer)
}

// readOutcomes reads the answer to a question with n targets.
func readOutcomes(r io.Reader, n int) (out []outcome, reason string, err error) {
	var a wireReachAnswer
	if err := credential.ReadMessage(r, &a, maxReachAnswer); err != nil {
		return nil, "", err
	}
	if a.Version != reachVersion || len(a.Results) != n && len(a.Results) != 0 || len(a.Reason) > maxReachReason {
		return nil, "", fmt.Errorf("%w: version %d with %d results for %d addresses", credential.ErrMalformed, a.Version, len(a.Results), n)
	}
	for _, o := range a.Results {
		out = append(out, outcome(o))
	}
	return out, a.Reason, nil
}
