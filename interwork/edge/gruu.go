package edge

import (
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

// publicGRUU is the address of one device of a user (RFC 5627 §3.1): "sip:alice@OID;gr=urn:uuid:…". It is good for ever.
func publicGRUU(aor overlay.AOR, device string) sip.Uri {
	return sip.Uri{
		Scheme: "sip", User: aor.User(), Host: string(aor.Host()),
		UriParams: sip.HeaderParams{{K: "gr", V: device}},
	}
}

// temporaryGRUU makes an address around a user part made by temps.
func (e *Edge) temporaryGRUU(user string) sip.Uri {
	return sip.Uri{Scheme: "sip", User: user, Host: string(e.c.OID), UriParams: sip.HeaderParams{{K: "gr"}}}
}

// gruuParams gives what the Contact of a registered phone carries in the 200 to a phone that supports GRUUs (RFC 5627
// §5.3). The temporary one is another one each time. Callers hold mu.
func (e *Edge) gruuParams(u *user, p *phone) sip.HeaderParams {
	if p.instance == "" {
		return nil
	}
	pub := publicGRUU(u.aor, p.id)
	ps := sip.HeaderParams{{K: "pub-gruu", V: `"` + pub.String() + `"`}}
	if t := e.temps.registration(p.ref); t != "" {
		uri := e.temporaryGRUU(t)
		ps = append(ps, sip.HeaderKV{K: "temp-gruu", V: `"` + uri.String() + `"`})
	}
	return ps
}

// GRUU gives the address to put in the place of the Contact in a message from the phone of a user at the far end of f: one
// that every proxy peer can route to that phone. For a registered phone that is its public GRUU; a Contact that is a GRUU
// of the user already comes back as it is; for a phone that is not registered it is a temporary one that leads to its
// address for a day. The zero aor stands for whichever user has registered from there. ok is false when f leads to no
// phone, or no GRUU can be made. It implements proxy.GRUUs.
func (e *Edge) GRUU(aor overlay.AOR, f flow.Flow, contact sip.Uri) (sip.Uri, bool) {
	if f == nil || !f.Edge() {
		return sip.Uri{}, false
	}
	if e.owned(aor, contact) {
		return contact, true
	}
	contact.Headers = nil
	at, now := proxy.EndpointOf(f), e.c.Now()
	var uri sip.Uri
	if p := e.phoneAt(aor, at, contact, now); p != nil {
		uri = publicGRUU(p.user, p.id)
	} else if t := e.temps.place(at, now); t != "" {
		uri = e.temporaryGRUU(t)
	} else {
		return uri, false
	}
	if contact.Scheme == "sips" {
		uri.Scheme = "sips"
	}
	return uri, true
}

// owned says that a contact is a GRUU already, of this user or of one of this node's.
func (e *Edge) owned(aor overlay.AOR, contact sip.Uri) bool {
	g, ok := e.ReadGRUU(contact)
	if !ok || g.Node != "" {
		return false
	}
	return g.Place != nil || g.AOR == aor || aor.IsZero() && e.Owns(g.AOR)
}

// phoneAt finds the registered phone that uses a contact at an address: best the one that has registered both, then the
// newest of those at the address, then one behind another port of the same host.
func (e *Edge) phoneAt(aor overlay.AOR, at proxy.Endpoint, contact sip.Uri, now time.Time) *phone {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found *phone
	best := 0
	look := func(u *user) {
		for _, p := range u.phones {
			here := p.source.Transport == at.Transport && p.source.Remote == at.Remote || p.reach.Transport == at.Transport && p.reach.Remote == at.Remote
			same := equalURI(p.plain(), contact)
			rank := 0
			switch {
			case !now.Before(p.until):
			case here && same:
				rank = 3
			case here:
				rank = 2
			case same && p.reach.Remote.Host == at.Remote.Host: // else somebody else with the same private address
				rank = 1
			}
			if rank > best || rank > 0 && rank == best && p.registered().After(found.registered()) {
				found, best = p, rank
			}
		}
	}
	if !aor.IsZero() {
		if u := e.users[aor]; u != nil {
			look(u)
		}
		return found
	}
	for _, u := range e.users {
		look(u)
	}
	return found
}

// ReadGRUU says what a GRUU of the overlay stands for; ok is false when it is none, or stands for nothing any more. It
// implements proxy.GRUUs.
func (e *Edge) ReadGRUU(uri sip.Uri) (g proxy.GRUU, ok bool) {
	gr, has := param(uri.UriParams, "gr")
	if !has || !e.domain(uri.Host) {
		return g, false
	}
	if gr != "" {
		aor, err := e.c.OID.AOR(uri.User)
		if err != nil || len(gr) > 3*maxInstance {
			return g, false
		}
		g = proxy.GRUU{AOR: aor, Device: strings.ToLower(unescape(gr))}
		e.mu.Lock()
		defer e.mu.Unlock()
		g.Known = e.knows(aor, g.Device)
		return g, true
	}
	node, payload, ok := e.temps.open(uri.User)
	switch {
	case !ok:
		return g, false
	case node != e.temps.self:
		return proxy.GRUU{Node: node}, true
	}
	if at, ok := readPlace(payload, e.c.Now()); ok {
		to, _ := at.Remote.AddrPort()
		t := proxy.Target{URI: sip.Uri{Scheme: uri.Scheme, Host: to.Addr().String(), Port: int(to.Port())}, Q: 1000}
		if to.Addr().Is6() {
			t.URI.Host = "[" + t.URI.Host + "]"
		}
		if at.Transport != flow.TransportUDP {
			t.URI.UriParams = sip.HeaderParams{{K: "transport", V: strings.ToLower(string(at.Transport))}}
		}
		t.Flow, _ = e.c.Flows.Flow(at)
		return proxy.GRUU{Place: &t}, true
	}
	if len(payload) != 1+tempRef || payload[0] != tempRegistration {
		return g, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.refs[ref(payload[1:])]
	if p == nil {
		return g, false
	}
	return proxy.GRUU{AOR: p.user, Device: p.id, Known: true, Local: true}, true
}
