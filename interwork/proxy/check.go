package proxy

import (
	"strings"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/overlay"
)

// check is the validation of §16.3 beyond what package message has done. It answers what it refuses.
func (c *Core) check(r *request) bool {
	switch {
	case !sipScheme(r.req.Recipient.Scheme) && r.kind != flow.KindEdge:
		c.answer(r, 403, "Forbidden", c.warning("nobody here calls a telephone number for others"))
	case !sipScheme(r.req.Recipient.Scheme):
		c.answer(r, 416, "Unsupported URI Scheme")
	case r.maxForwards == 0:
		c.stats.loops.Add(1)
		c.answer(r, 483, "Too Many Hops")
	case len(r.proxyRequire) > 0: // no extension is known that a proxy has to take part in
		c.answer(r, 420, "Bad Extension", sip.NewHeader("Unsupported", strings.Join(r.proxyRequire, ", ")))
	default:
		return true
	}
	c.stats.refused.Add(1)
	return false
}

func sipScheme(s string) bool { return s == "sip" || s == "sips" || s == "" }

// admitPeer checks the From of a request that arrived from another node: one of the overlay's users has to be covered by
// the credential of the node that speaks for him. The exception is a request inside a dialog whose token vouches for
// the From: a call that was passed on is answered by a node that is not the one of the address called. A From of another
// domain takes a credential that permits the role of a proxy peer.
func (c *Core) admitPeer(r *request) bool {
	if r.enters {
		return true // the proxy peer that it came through has judged it
	}
	from := r.req.From()
	if r.trusted && r.toTag != "" && r.party == partyOf(&from.Address) {
		return true
	}
	if !c.own.domain(from.Address.Host) {
		// Who is not of this overlay comes in through a proxy peer.
		return r.mayAssert()
	}
	aor, err := c.cfg.OID.AOR(from.Address.User)
	if err != nil {
		return false
	}
	return c.entitled(r, aor)
}

// mayAssert says whether the sender's word about who calls counts: that of a node whose credential permits the role of a
// proxy peer. Phones and other nodes prove a From, and nothing beside it.
func (r *request) mayAssert() bool {
	peer, ok := r.flow.Peer().(interface{ Permits(overlay.Role) bool })
	return ok && peer.Permits(overlay.RoleProxy)
}

// asserts says whether a header field states an identity that the next element would trust (RFC 3325 §9).
func asserts(name string) bool {
	return strings.EqualFold(name, "P-Asserted-Identity") || strings.EqualFold(name, "P-Preferred-Identity")
}

func (c *Core) entitled(r *request, aor overlay.AOR) bool {
	peer, ok := r.flow.Peer().(Entitled)
	return ok && peer.Entitled(aor)
}
