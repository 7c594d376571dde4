package edge

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/proxy"
	"p2psip/interwork/transaction"
	"p2psip/overlay"
)

// maxAgent bounds what is kept of a phone's User-Agent.
const maxAgent = 100

// Register takes a REGISTER (RFC 3261 §10.3). It implements proxy.Edge.
func (e *Edge) Register(tx *transaction.Server, req *sip.Request) {
	r := e.register(tx, req)
	if r != nil {
		e.refuse(tx, req, r)
	}
}

// register goes through RFC 3261 §10.3 step by step. A nil result means that the response was sent, or will be.
func (e *Edge) register(tx *transaction.Server, req *sip.Request) *refusal {
	f := tx.Flow()
	if !f.Edge() {
		return refuse(403, "", "phones register with the node beside them, not through another")
	}
	if r := e.registrarFor(req, f); r != nil { // step 1
		return r
	}
	if r := unsupported(req); r != nil { // step 2
		return r
	}
	if r := firstHop(req); r != nil {
		return r
	}
	var who overlay.AOR
	if !e.trusted(f) { // step 3
		var ok bool
		if who, ok = e.authenticate(tx, req, "Authorization", "WWW-Authenticate", 401); !ok {
			return nil
		}
	}
	aor, r := e.address(req) // step 5
	if r != nil {
		return r
	}
	if !who.IsZero() && aor != who { // step 4
		return refuse(403, "To Is Not the Authenticated User", "To is %s, the password was that of %s", aor, who)
	}
	if !e.Owns(aor) {
		return e.notOwned(aor)
	}
	claims, all, r := readClaims(req, e.c.DefaultExpires, e.c.MaxContacts) // step 6
	if r != nil {
		return r
	}
	if r := flows(req, claims); r != nil {
		return r
	}
	for i := range claims { // step 7, the part that needs no bindings
		if r := e.grant(&claims[i]); r != nil {
			return r
		}
		if _, gr := param(claims[i].uri.UriParams, "gr"); gr && claims[i].expires > 0 && e.domain(claims[i].uri.Host) {
			return refuse(403, "Contact Is a GRUU", "%s leads back to this registrar; the phone has to name its own address", clip(claims[i].uri.Addr())) // RFC 5627 §5.1
		}
	}
	return e.bind(tx, req, aor, claims, all)
}

// registrarFor says whether this node is the registrar that the Request-URI names: the overlay, or the node by its
// address or name.
func (e *Edge) registrarFor(req *sip.Request, f flow.Flow) *refusal {
	uri := req.Recipient
	if uri.Scheme != "sip" && uri.Scheme != "sips" {
		return refuse(416, "", "a registrar is named by a sip URI")
	}
	_, isIP := hostIP(uri.Host)
	_, isNode := overlay.ParseNodeName(uri.Host, e.c.OID)
	if !e.domain(uri.Host) && !isIP && !isNode && !strings.EqualFold(uri.Host, "localhost") && !strings.EqualFold(uri.Host, f.Local().Host) {
		return refuse(404, "Not a Registrar for This Domain", "this node is a registrar for %s only; set the phone's domain to it", e.c.OID)
	}
	return nil
}

// unsupported refuses extensions that the phone insists on, other than those of the registrar.
func unsupported(req *sip.Request) *refusal {
	var tags []string
	for _, h := range req.GetHeaders("require") {
		for tag := range strings.SplitSeq(h.Value(), ",") {
			if tag = strings.TrimSpace(tag); tag != "" && !extension(tag) {
				tags = append(tags, tag)
			}
		}
	}
	if len(tags) == 0 {
		return nil
	}
	return &refusal{status: 420, headers: []sip.Header{sip.NewHeader("Unsupported", strings.Join(tags, ", "))}}
}

// address gives the address of record that To names.
func (e *Edge) address(req *sip.Request) (overlay.AOR, *refusal) {
	to := req.To()
	if to == nil {
		return overlay.AOR{}, refuse(400, "Missing To", "the request has no To")
	}
	uri := to.Address
	switch {
	case uri.Scheme != "sip" && uri.Scheme != "sips":
		return overlay.AOR{}, refuse(400, "Address of Record Is Not a SIP URI", "To has to be sip:user@%s", e.c.OID)
	case !e.domain(uri.Host):
		return overlay.AOR{}, refuse(404, "Address of Record Is Not in This Overlay", "To has to be sip:user@%s; set the phone's domain to %s", e.c.OID, e.c.OID)
	}
	aor, err := e.c.OID.AOR(uri.User)
	if err != nil {
		return overlay.AOR{}, refuse(404, "No Such Address of Record", "To has to name a user, as in sip:user@%s", e.c.OID)
	}
	return aor, nil
}

// grant decides for how long a contact is registered.
func (e *Edge) grant(c *claim) *refusal {
	switch {
	case c.expires == 0:
	case c.expires < e.c.MinExpires:
		r := refuse(423, "", "this node registers for %v or more", e.c.MinExpires)
		r.headers = []sip.Header{sip.NewHeader("Min-Expires", strconv.Itoa(int((e.c.MinExpires+time.Second-1)/time.Second)))}
		return r
	case c.expires > e.c.MaxExpires:
		c.expires = e.c.MaxExpires
	}
	return nil
}

// change is what one REGISTER does to the phones of a user, worked out before anything is touched: all of it happens, or
// nothing (RFC 3261 §10.3 step 7).
type change struct {
	drop []*phone
	add  []*phone
}

// bind carries a checked REGISTER out and answers it, or leaves it waiting for the disk and the overlay.
func (e *Edge) bind(tx *transaction.Server, req *sip.Request, aor overlay.AOR, claims []claim, all bool) *refusal {
	e.mu.Lock()
	defer e.mu.Unlock()
	u := e.users[aor]
	if len(claims) == 0 && !all || u == nil && !slices.ContainsFunc(claims, func(c claim) bool { return c.expires > 0 }) {
		e.send(tx, e.listing(req, u)) // only asked, or nothing there to remove
		return nil
	}
	if e.closed || len(e.waiting) >= maxWaiting {
		return e.busy("too many phones register at this moment")
	}
	waiting := 0
	for a := range e.waiting {
		if a.user.aor == aor {
			waiting++
		}
	}
	if waiting >= maxWaitingOfUser {
		return e.busy("too many registrations of one user wait to be confirmed")
	}
	if u == nil {
		if len(e.users) >= e.c.MaxUsers {
			return e.busy("as many users as this node takes are registered")
		}
		u = &user{aor: aor}
	}
	ch, r := e.plan(u, tx.Flow(), req, claims, all)
	if r != nil {
		return r
	}

	before := qualities(u)
	e.users[aor] = u
	for _, p := range ch.drop {
		e.remove(u, p)
	}
	for _, p := range ch.add {
		u.phones = append(u.phones, p)
		e.link(p)
		p.expiry = e.agenda.add(p.until, func() { e.expire(u, p) })
		if !alive(p.conn) {
			e.redial(p)
		}
	}
	wait := !maps.Equal(before, qualities(u))
	if wait {
		u.desired++
	}
	for _, p := range ch.add {
		wait = wait || !u.current(p)
	}
	if u.published < u.desired && (all || slices.ContainsFunc(claims, func(c claim) bool { return c.expires == 0 })) {
		wait = true // an earlier removal has not got through yet
	}
	e.save()
	a := &answer{e: e, tx: tx, req: req, user: u, generation: e.generation}
	if wait {
		a.version = u.desired
		e.publish(u)
	}
	a.deadline = e.agenda.add(e.c.Now().Add(answerWithin), func() { e.late(a) })
	e.waiting[a] = struct{}{}
	return nil
}

func (e *Edge) busy(why string) *refusal {
	r := refuse(503, "", "%s; try again later", why)
	r.headers = []sip.Header{sip.NewHeader("Retry-After", "30")}
	return r
}

// qualities is what has to be published of a user: the devices and their q.
func qualities(u *user) map[string]uint16 {
	m := make(map[string]uint16, len(u.phones))
	for _, p := range u.phones {
		m[p.id] = max(m[p.id], p.q)
	}
	return m
}

// plan works out a change. A request that is older than what it would change is refused: within one Call-ID, CSeq has to
// rise (RFC 3261 §10.3 steps 6 and 7).
func (e *Edge) plan(u *user, f flow.Flow, req *sip.Request, claims []claim, all bool) (change, *refusal) {
	var ch change
	var callID string
	var cseq uint32
	if h := req.CallID(); h != nil {
		callID = h.Value()
	}
	if h := req.CSeq(); h != nil {
		cseq = h.SeqNo
	}
	drop := func(p *phone) *refusal {
		if p.callID == callID && cseq <= p.cseq {
			return refuse(500, "CSeq Out of Order", "CSeq %d came after %d for %s", cseq, p.cseq, p.uri.Addr())
		}
		if !slices.Contains(ch.drop, p) {
			ch.drop = append(ch.drop, p)
		}
		return nil
	}
	if all {
		for _, p := range u.phones {
			if r := drop(p); r != nil {
				return ch, r
			}
		}
		return ch, nil
	}
	source := proxy.EndpointOf(f)
	now := e.c.Now()
	used := make(map[string]bool)
	for i := range claims {
		c := &claims[i]
		id := deviceID(e.secret, u.aor, c)
		if used[id] { // a second contact of one phone
			id = contactID(e.secret, u.aor, c)
		}
		reach := reachOf(f, c.uri)
		if c.regID > 0 {
			reach = reachOver(f)
		}
		var conn flow.Flow
		for _, p := range u.phones {
			if !replaces(id, c, p) {
				continue
			}
			if c.instance == "" && p.instance == "" && equalURI(p.uri, c.uri) && !used[p.id] {
				id = p.id // registered as a second contact once, and refreshed alone
			}
			if r := drop(p); r != nil {
				return ch, r
			}
			if reach == p.reach {
				conn = p.conn // dialled, perhaps
			}
		}
		if c.expires == 0 {
			continue
		}
		if isSelf(f, reach) {
			return ch, refuse(403, "Contact Is This Node", "%s is where this node listens; the phone needs a port of its own", c.uri.Addr())
		}
		used[id] = true
		p := &phone{user: u.aor, id: id, claim: *c, callID: callID, cseq: cseq, until: now.Add(c.expires), source: source, reach: reach, conn: conn}
		if f.Reliable() && (p.reach.Transport == source.Transport || p.reach.Remote.Port == 0) {
			p.conn = f
		}
		if h := req.GetHeader("user-agent"); h != nil {
			p.agent = clip(h.Value()[:min(len(h.Value()), maxAgent)])
		}
		ch.add = append(ch.add, p)
	}
	if n := len(u.phones) - len(ch.drop) + len(ch.add); n > e.c.MaxContacts {
		return ch, refuse(403, "Too Many Contacts", "%s would have %d contacts, %d are allowed; remove one, or wait until one expires", u.aor, n, e.c.MaxContacts)
	}
	return ch, nil
}

// listing is the 200 to a REGISTER: every binding of the user with the time it has left (RFC 3261 §10.3 step 8). Callers
// hold mu.
func (e *Edge) listing(req *sip.Request, u *user) *sip.Response {
	now := e.c.Now()
	res := message.NewResponse(req, 200, "")
	gruu, outbound := hasTag(req, "supported", "gruu") || hasTag(req, "require", "gruu"), false
	if u != nil {
		for _, p := range u.phones {
			if !now.Before(p.until) {
				continue
			}
			h := p.header(now)
			if gruu {
				h.Params = append(h.Params, e.gruuParams(u, p)...)
			}
			res.AppendHeader(h)
			outbound = outbound || p.regID > 0
		}
	}
	if outbound && hasTag(req, "supported", "outbound") {
		res.AppendHeader(sip.NewHeader("Require", "outbound")) // RFC 5626 §6
		res.AppendHeader(sip.NewHeader("Flow-Timer", strconv.Itoa(int(flowTimer/time.Second))))
	}
	res.AppendHeader(sip.NewHeader("Date", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")))
	return res
}

// header writes the phone's Contact as it stands in a listing.
func (p *phone) header(now time.Time) *sip.ContactHeader {
	left := (p.until.Sub(now) + time.Second - 1) / time.Second
	params := append(p.params.Clone(), sip.HeaderKV{K: "expires", V: strconv.FormatInt(int64(left), 10)})
	if p.q != 1000 {
		params = append(params, sip.HeaderKV{K: "q", V: formatQ(p.q)})
	}
	return &sip.ContactHeader{DisplayName: p.display, Address: p.uri, Params: params}
}
