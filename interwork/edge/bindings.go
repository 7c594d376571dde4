package edge

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

// phone is one binding (RFC 3261 §10): a device of a user and where it is reached. Fields are guarded by Edge.mu, the
// owner of the table.
type phone struct {
	user    overlay.AOR
	id      string // of the device, see deviceID; flows of one instance (RFC 5626) share it
	ref     ref    // names the registration in temporary GRUUs
	claim          // as registered; claim.expires is what was granted
	callID  string
	cseq    uint32
	until   time.Time
	agent   string // User-Agent, for people
	source  proxy.Endpoint
	reach   proxy.Endpoint // where requests go; Remote.Port 0: only the connection it registered over leads there
	conn    flow.Flow      // the connection, nil for UDP and after a restart
	expiry  *entry
	dialing bool
	dialled time.Time
}

// user is one address of record with its phones and how its record in the overlay stands. Guarded by Edge.mu.
type user struct {
	aor    overlay.AOR
	phones []*phone

	// desired counts changes of the set of devices; published is the last count that the overlay confirmed, with the set
	// as it was then.
	desired   uint64
	published uint64
	devices   map[string]uint16 // device to q, as published

	running  bool // a publication is under way or queued
	err      error
	since    time.Time // of the first failure in a row
	attempts int
	retry    *entry
	next     time.Time
}

// flow finds a phone by its device and reg-id (RFC 5626 §6).
func (u *user) flow(id string, regID int) *phone {
	for _, p := range u.phones {
		if p.id == id && p.regID == regID {
			return p
		}
	}
	return nil
}

// set gives what is to be published: every device once, however many flows lead to it.
func (u *user) set() []overlay.Device {
	ds := make([]overlay.Device, 0, len(u.phones))
	for _, p := range u.phones {
		i := slices.IndexFunc(ds, func(d overlay.Device) bool { return d.ID == p.id })
		if i < 0 {
			ds = append(ds, overlay.Device{ID: p.id, Q: p.q, Expires: p.until})
			continue
		}
		ds[i].Q = max(ds[i].Q, p.q)
		if p.until.After(ds[i].Expires) {
			ds[i].Expires = p.until
		}
	}
	return ds
}

// current says that the overlay knows the device as it is now.
func (u *user) current(p *phone) bool {
	q, ok := u.devices[p.id]
	return ok && q == qualities(u)[p.id]
}

// plain gives the contact without the headers part, as requests are sent to it and compared with it.
func (p *phone) plain() sip.Uri {
	u := *p.uri.Clone()
	u.Headers = nil
	return u
}

// feature says that the Contact has a feature tag (RFC 3840 §9) that is not set to FALSE.
func (p *phone) feature(tag string) bool {
	for _, kv := range p.params {
		if strings.EqualFold(kv.K, tag) {
			return !strings.EqualFold(strings.Trim(kv.V, `"`), "FALSE")
		}
	}
	return false
}

// registered says when the phone registered last.
func (p *phone) registered() time.Time { return p.until.Add(-p.expires) }

// reachOf says where requests for a contact go that was registered over f.
//
// A phone that names the address it sends from is taken at its word: port and transport are those of its Contact. One
// that names another is behind a NAT or mistaken, and is reached where it sent from (the idea of RFC 3581, and the only
// safe thing: a Contact must not make this node send to a third party).
func reachOf(f flow.Flow, uri sip.Uri) proxy.Endpoint {
	e := proxy.EndpointOf(f)
	remote, _ := netip.ParseAddr(e.Remote.Host)
	ip, ok := hostIP(uri.Host)
	if !ok || ip != remote.Unmap() {
		if f.Reliable() {
			e.Remote.Port = 0 // the far port of a connection accepts none
		}
		return e
	}
	want, secure := e.Transport, uri.Scheme == "sips"
	if t, ok := param(uri.UriParams, "transport"); ok {
		switch strings.ToLower(t) {
		case "udp":
			want = flow.TransportUDP
		case "tcp":
			want = flow.TransportTCP
		case "tls":
			want = flow.TransportTLS
		}
	}
	if secure {
		want = flow.TransportTLS
	}
	if want != e.Transport {
		e.Transport, e.Local = want, flow.Addr{}
	}
	e.Remote.Port = uri.Port
	if uri.Port == 0 {
		e.Remote.Port = 5060
		if want == flow.TransportTLS {
			e.Remote.Port = 5061
		}
	}
	return e
}

// isSelf says that a phone claims to be at the socket of this node that f belongs to: requests for it would come back.
func isSelf(f flow.Flow, reach proxy.Endpoint) bool {
	local := f.Local()
	if reach.Remote.Port != local.Port {
		return false
	}
	bound, err := netip.ParseAddr(local.Host)
	at, err2 := netip.ParseAddr(reach.Remote.Host)
	return err == nil && err2 == nil && (bound.Unmap() == at.Unmap() || bound.IsUnspecified() && at.Unmap().IsLoopback())
}

// alive says that a connection can still be used.
func alive(f flow.Flow) bool {
	if f == nil {
		return false
	}
	select {
	case <-f.Done():
		return false
	default:
		return true // also for UDP, whose Done is nil
	}
}

// target gives where a request for the phone goes. Its URI is the Contact without headers: they are kept, and shown, but
// never applied (RFC 3261 §19.1.5, RFC 4475 §3.3.14).
func (e *Edge) target(p *phone) proxy.Target {
	t := proxy.Target{URI: p.plain(), Q: p.q, ID: p.id, ICE: p.feature("+sip.ice")}
	switch {
	case p.conn != nil && alive(p.conn):
		t.Flow = p.conn
	case p.reach.Remote.Port == 0:
	default:
		if f, ok := e.c.Flows.Flow(p.reach); ok && alive(f) {
			t.Flow = f
		}
	}
	return t
}

// Bindings gives the living contacts of a user of this node, the preferred first. Of several flows of one instance it gives
// one, the newest that lives: they are one phone (RFC 5626 §5.1). It implements proxy.Edge.
func (e *Edge) Bindings(aor overlay.AOR) []proxy.Target {
	now := e.c.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	u := e.users[aor]
	if u == nil {
		return nil
	}
	var ts []proxy.Target
	var made []time.Time
	for _, p := range u.phones {
		if !now.Before(p.until) {
			continue
		}
		t := e.target(p)
		if t.Flow == nil {
			e.redial(p)
		}
		i := slices.IndexFunc(ts, func(o proxy.Target) bool { return o.ID == t.ID })
		switch {
		case i < 0:
			ts, made = append(ts, t), append(made, p.registered())
		case ts[i].Flow == nil || t.Flow != nil && !p.registered().Before(made[i]):
			ts[i], made[i] = t, p.registered()
		}
	}
	slices.SortStableFunc(ts, func(a, b proxy.Target) int { return int(b.Q) - int(a.Q) })
	return ts
}

// Contact finds the living binding whose Contact equals uri, whoever's it is. It implements proxy.Edge.
//
// Anybody with a password may register the contact of somebody else, so a phone that has the address in its Contact goes
// before one that only claims it. Where several claim it from different hosts, such as two phones behind two NATs, there
// is no telling, and none is found: better a lost call than one for a stranger.
func (e *Edge) Contact(uri sip.Uri) (proxy.Target, bool) {
	now := e.c.Now()
	at, _ := hostIP(uri.Host)
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []*phone
	for _, p := range e.places[uriKey(uri)] {
		if now.Before(p.until) && equalURI(p.plain(), uri) {
			found = append(found, p)
		}
	}
	holds := func(p *phone) bool { return p.reach.Remote.Host == at.String() }
	if slices.ContainsFunc(found, holds) {
		found = slices.DeleteFunc(found, func(p *phone) bool { return !holds(p) })
	}
	if len(found) == 0 || slices.ContainsFunc(found, func(p *phone) bool { return p.reach.Remote.Host != found[0].reach.Remote.Host }) {
		return proxy.Target{}, false
	}
	t := e.target(found[0])
	if t.Flow == nil {
		e.redial(found[0])
	}
	return t, true
}

// link and unlink keep the indexes in step with a phone's contact and source. Callers hold mu.
func (e *Edge) link(p *phone) {
	k := uriKey(p.uri)
	e.places[k] = append(e.places[k], p)
	p.ref = e.temps.ref(p.user, p.id, p.callID)
	e.refs[p.ref] = p
	e.remember(p.user, p.id)
	for _, s := range p.sources() {
		e.sources[s]++
	}
}

func (e *Edge) unlink(p *phone) {
	k := uriKey(p.uri)
	e.places[k] = slices.DeleteFunc(e.places[k], func(q *phone) bool { return q == p })
	if len(e.places[k]) == 0 {
		delete(e.places, k)
	}
	if e.refs[p.ref] == p {
		delete(e.refs, p.ref)
	}
	for _, s := range p.sources() {
		if e.sources[s]--; e.sources[s] <= 0 {
			delete(e.sources, s)
		}
	}
}

// source is an address that requests come from.
type source struct {
	transport flow.Transport
	addr      flow.Addr
}

// sources gives the one or two addresses that requests of the phone come from.
func (p *phone) sources() []source {
	from := []source{{p.source.Transport, p.source.Remote}}
	if s := (source{p.reach.Transport, p.reach.Remote}); s != from[0] && s.addr.Port != 0 {
		from = append(from, s)
	}
	return from
}

// known says that the flow leads to a registered phone.
func (e *Edge) known(f flow.Flow) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sources[source{f.Transport(), f.Remote()}] > 0
}

// remove takes a phone out of its user and the indexes. Callers hold mu, and say afterwards that the set changed.
func (e *Edge) remove(u *user, p *phone) {
	e.agenda.drop(p.expiry)
	e.unlink(p)
	u.phones = slices.DeleteFunc(u.phones, func(q *phone) bool { return q == p })
}

// expire is what the agenda does at the end of a binding.
func (e *Edge) expire(u *user, p *phone) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || !slices.Contains(u.phones, p) {
		return
	}
	if left := p.until.Sub(e.c.Now()); left > 0 {
		p.expiry = e.agenda.add(p.until, func() { e.expire(u, p) })
		return
	}
	e.log.Info("a phone's registration ran out", "user", u.aor, "contact", p.uri.Addr())
	e.remove(u, p)
	e.changed(u)
	e.save()
}
