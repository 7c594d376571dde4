package edge

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/transaction"
	"p2psip/overlay"
)

// Admit decides whether a request from a phone may go on; when it returns false it has answered, or will. It implements
// proxy.Edge.
//
// A trusted source needs no password. Any other has to authenticate (407) for every request outside a dialog, and for one
// inside a dialog too unless it comes from where a phone is registered. Outside a dialog the From has to be a user of this
// node, the one who authenticated if somebody did: the overlay vouches for it towards the callee. Inside a dialog, which
// the proxy has seen proven, the far side knows its peer already, and From is what the dialog was made with, so it is not
// judged again.
func (e *Edge) Admit(tx *transaction.Server, req *sip.Request, inside bool) bool {
	f := tx.Flow()
	if !f.Edge() {
		e.refuse(tx, req, refuse(403, "", "only phones are admitted here"))
		return false
	}
	var who overlay.AOR // who authenticated
	if !e.trusted(f) && !(inside && e.known(f)) {
		var ok bool
		if who, ok = e.authenticate(tx, req, "Proxy-Authorization", "Proxy-Authenticate", 407); !ok {
			return false
		}
	}
	if inside {
		return true
	}
	from, r := e.from(req)
	if r == nil && !who.IsZero() && from != who {
		r = refuse(403, "From Is Not the Authenticated User", "From is %s, the password was that of %s", from, who)
	}
	if r != nil {
		e.refuse(tx, req, r)
		return false
	}
	return true
}

// from gives the user that a request claims to come from, if it is one of this node's.
func (e *Edge) from(req *sip.Request) (overlay.AOR, *refusal) {
	h := req.From()
	if h == nil {
		return overlay.AOR{}, refuse(400, "Missing From", "the request has no From")
	}
	uri := h.Address
	if uri.Scheme != "sip" && uri.Scheme != "sips" || !e.domain(uri.Host) {
		return overlay.AOR{}, refuse(403, "From Is Not in This Overlay", "From has to be sip:user@%s; set the phone's domain to %s", e.c.OID, e.c.OID)
	}
	aor, err := e.c.OID.AOR(uri.User)
	if err != nil {
		return overlay.AOR{}, refuse(403, "From Is No User", "From names no user of %s", e.c.OID)
	}
	if !e.Owns(aor) {
		return overlay.AOR{}, e.notOwned(aor)
	}
	return aor, nil
}

// notOwned tells the person at the phone what to do about a user that the node may not serve.
func (e *Edge) notOwned(aor overlay.AOR) *refusal {
	return refuse(403, "User Not of This Node", "the credential of this node does not cover %s; ask the overlay's operator for one that does (p2psip overlay issue)", clip(aor.String()))
}

func (e *Edge) domain(host string) bool {
	return strings.EqualFold(strings.TrimSuffix(host, "."), string(e.c.OID))
}

func (e *Edge) trusted(f flow.Flow) bool {
	ip, err := netip.ParseAddr(f.Remote().Host)
	return err == nil && e.c.Trusted(ip.Unmap())
}

// authenticate finds out who sent a request (RFC 3261 §22). When it returns false it has answered with a challenge, or
// will after a pause.
func (e *Edge) authenticate(tx *transaction.Server, req *sip.Request, header, challenge string, status int) (overlay.AOR, bool) {
	who := e.asker(tx.Flow(), req)
	var mine *credentials
	for _, h := range req.GetHeaders(header) {
		c, err := parseAuthorization(h.Value())
		if errors.Is(err, errNotDigest) {
			continue
		}
		if err != nil {
			e.refuse(tx, req, refuse(400, "Malformed "+header, "%s: %v", header, err))
			return overlay.AOR{}, false
		}
		if c.Realm != string(e.c.OID) {
			continue // for somebody further on
		}
		if mine != nil {
			e.refuse(tx, req, refuse(400, "Malformed "+header, "two %s headers for one realm", header))
			return overlay.AOR{}, false
		}
		mine = &c
	}
	if mine == nil {
		e.challenge(tx, req, challenge, status, e.offer(who, req), false)
		return overlay.AOR{}, false
	}
	aor, v := e.digest.check(*mine, who.source, string(req.Method), req.Recipient.String(), e.c.Users.Lookup)
	switch v {
	case confirmed:
		e.offers.passed(who, mine.Algorithm, req.Method == sip.REGISTER)
		return aor, true
	case stale:
		e.challenge(tx, req, challenge, status, e.offerAgain(who, mine.Algorithm), true)
	case malformed:
		e.refuse(tx, req, refuse(400, "Malformed "+header, "the credentials have to use qop=auth and no userhash, as the challenge says"))
	case misaddressed:
		e.refuse(tx, req, refuse(400, "Digest URI Mismatch", "the uri of the credentials is not the Request-URI %s", clip(req.Recipient.String())))
	default:
		e.wrong(tx, req, challenge, status, e.offerAgain(who, mine.Algorithm))
	}
	return overlay.AOR{}, false
}

// wrong challenges again: people mistype, and phones ask them again then. A source that has failed often is refused, after
// a pause: baresip 1.0 answers every challenge to a wrong password with the same password, a dozen times or more.
func (e *Edge) wrong(tx *transaction.Server, req *sip.Request, challenge string, status int, algs []algorithm) {
	ip, _ := netip.ParseAddr(tx.Flow().Remote().Host)
	delay, ok := e.throttle.failed(ip)
	switch {
	case !ok:
		tx.Terminate()
	case delay == 0:
		e.challenge(tx, req, challenge, status, algs, false)
	default:
		e.agenda.add(e.c.Now().Add(delay), func() {
			e.throttle.released(ip)
			e.refuse(tx, req, refuse(403, "Wrong User Name or Password", "the user name or the password is wrong; see p2psip user list and p2psip user add"))
		})
	}
}

// asker says who is to be challenged: the user that To names in a REGISTER and From in any other request.
func (e *Edge) asker(f flow.Flow, req *sip.Request) asker {
	ip, _ := netip.ParseAddr(f.Remote().Host)
	a := asker{source: whose(ip)}
	if id := req.CallID(); id != nil {
		a.call = id.Value()
	}
	var uri sip.Uri
	if to := req.To(); to != nil && req.Method == sip.REGISTER {
		uri = to.Address
	} else if from := req.From(); from != nil && req.Method != sip.REGISTER {
		uri = from.Address
	}
	if aor, err := e.c.OID.AOR(uri.User); err == nil && e.domain(uri.Host) {
		a.user = aor.User()
	}
	return a
}

// offer gives the algorithms to challenge a request with that brought no credentials.
func (e *Edge) offer(a asker, req *sip.Request) []algorithm {
	if algs, fixed := e.fixed(a); fixed {
		return algs
	}
	var request string
	if via := req.Via(); via != nil {
		request, _ = via.Params.Get("branch")
	}
	if cseq := req.CSeq(); cseq != nil {
		request += " " + cseq.Value()
	}
	if e.offers.next(a, request, req.Method == sip.REGISTER) {
		return []algorithm{algMD5}
	}
	return algorithms
}

// offerAgain gives the algorithms to challenge a request with whose credentials were stale or wrong.
func (e *Edge) offerAgain(a asker, alg algorithm) []algorithm {
	if algs, fixed := e.fixed(a); fixed {
		return algs
	}
	if e.offers.again(a, alg) {
		return []algorithm{algMD5}
	}
	return algorithms
}

// fixed gives the algorithms of a user who has but one. Somebody unknown is treated as a user without such a choice.
func (e *Edge) fixed(a asker) ([]algorithm, bool) {
	u, ok := e.c.Users.Lookup(a.user)
	return u.offers(), ok && u.Digest != DigestBoth
}

func (e *Edge) challenge(tx *transaction.Server, req *sip.Request, header string, status int, algs []algorithm, stale bool) {
	ip, _ := netip.ParseAddr(tx.Flow().Remote().Host)
	res := message.NewResponse(req, status, "")
	for _, v := range e.digest.challenge(whose(ip), algs, stale) {
		res.AppendHeader(sip.NewHeader(header, v))
	}
	e.send(tx, res)
}

// refuse answers with a refusal.
func (e *Edge) refuse(tx *transaction.Server, req *sip.Request, r *refusal) {
	e.send(tx, r.response(req, e.c.OID))
}

func (e *Edge) send(tx *transaction.Server, res *sip.Response) {
	if err := tx.Respond(res); err != nil {
		e.log.Debug("a response could not be sent", "status", res.StatusCode, "error", err)
	}
}

// response makes the response to req that the refusal stands for.
func (r *refusal) response(req *sip.Request, oid overlay.ID) *sip.Response {
	res := message.NewResponse(req, r.status, r.reason)
	for _, h := range r.headers {
		res.AppendHeader(h)
	}
	if r.warning != "" {
		// warn-agent is a host or a pseudonym (RFC 3261 §20.43); 399 is for text of any kind.
		text := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(clipText(r.warning))
		res.AppendHeader(sip.NewHeader("Warning", `399 `+string(oid)+` "`+text+`"`))
	}
	return res
}

// clipText keeps a warning to one readable line.
func clipText(s string) string {
	if len(s) > 300 {
		s = s[:300] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
}
