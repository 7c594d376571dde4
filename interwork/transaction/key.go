package transaction

import (
	"hash/maphash"
	"net/netip"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
)

// magicCookie begins every branch made by an element that knows RFC 3261 (§8.1.1.7).
const magicCookie = "z9hG4bK"

// serverKey finds a server transaction (§17.2.3): branch, sent-by and method, ACK counting as INVITE. The remote host is
// part of it, so that nobody else can cancel or acknowledge a transaction by guessing a weak branch; the remote port is
// not, because a connection may have been reopened in between.
type serverKey struct {
	branch string
	host   string // sent-by, lower case
	port   int
	method sip.RequestMethod
	remote string
}

// clientKey finds a client transaction (§17.1.3). The sent-by needs no comparison: the branches are our own and random.
type clientKey struct {
	branch string
	method sip.RequestMethod
}

// serverKeyOf gives the key for a request. The method is passed so that a CANCEL can look for its INVITE. ok is false for
// a request without a usable Via.
func (l *Layer) serverKeyOf(f flow.Flow, req *sip.Request, method sip.RequestMethod) (k serverKey, ok bool) {
	via := req.Via()
	if via == nil {
		return k, false
	}
	if method == sip.ACK {
		method = sip.INVITE
	}
	branch, _ := via.Params.Get("branch")
	if !strings.HasPrefix(branch, magicCookie) || len(branch) == len(magicCookie) {
		branch = l.oldBranch(req, via, branch)
	}
	port := via.Port
	if port == 0 {
		port = defaultPort(via.Transport)
	}
	return serverKey{branch: branch, host: lowerHost(via.Host), port: port, method: method, remote: f.Remote().Host}, true
}

// oldBranch stands in for the branch of an RFC 2543 element (§17.2.3, second half): it is made of the Request-URI, From
// tag, Call-ID, CSeq number and top Via, in which a request, its retransmissions, its CANCEL and the ACK for its non-2xx
// answer agree. The To tag, which differs between the INVITE and its ACK, is left out: within one CSeq it adds nothing.
func (l *Layer) oldBranch(req *sip.Request, via *sip.ViaHeader, branch string) string {
	var h maphash.Hash
	h.SetSeed(l.seed)
	h.WriteString(req.Recipient.String())
	h.WriteByte(0)
	if from := req.From(); from != nil {
		tag, _ := from.Params.Get("tag")
		h.WriteString(tag)
	}
	h.WriteByte(0)
	if id := req.CallID(); id != nil {
		h.WriteString(string(*id))
	}
	h.WriteByte(0)
	if cseq := req.CSeq(); cseq != nil {
		h.WriteString(strconv.FormatUint(uint64(cseq.SeqNo), 10))
	}
	h.WriteByte(0)
	h.WriteString(via.Transport)
	h.WriteByte(0)
	h.WriteString(branch)
	return "2543 " + strconv.FormatUint(h.Sum64(), 16)
}

// clientKeyOf gives the key for a response: the branch of its top Via and the method of its CSeq.
func clientKeyOf(res *sip.Response) (clientKey, bool) {
	via, cseq := res.Via(), res.CSeq()
	if via == nil || cseq == nil {
		return clientKey{}, false
	}
	branch, ok := via.Params.Get("branch")
	return clientKey{branch: branch, method: cseq.MethodName}, ok && branch != ""
}

func defaultPort(transport string) int {
	if strings.EqualFold(transport, "TLS") {
		return 5061
	}
	return 5060
}

// lowerHost brings the host of a sent-by to one spelling.
func lowerHost(h string) string {
	if strings.IndexByte(h, ':') >= 0 {
		if a, err := netip.ParseAddr(strings.Trim(h, "[]")); err == nil {
			return a.String()
		}
	}
	return strings.ToLower(h)
}
