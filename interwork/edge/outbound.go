package edge

import (
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"p2psip/interwork/flow"
	"p2psip/interwork/message"
	"p2psip/interwork/proxy"
)

// Client-initiated connections (RFC 5626): a phone that sends reg-id with its instance is reached over the very flow that
// it registered on, whatever its Contact says. It may keep several such flows; the newest that lives is used. What keeps a
// flow open, CRLF over connections and STUN over UDP, is answered by package flow.

// flowTimer is how often a phone has to let hear of itself over a flow (RFC 5626 §4.4, the upper bound for UDP, where
// NATs forget first).
const flowTimer = 29 * time.Second

// extension says whether the registrar knows an option tag.
func extension(tag string) bool {
	return strings.EqualFold(tag, "gruu") || strings.EqualFold(tag, "outbound")
}

// reachOver says where requests go that are to take the flow itself.
func reachOver(f flow.Flow) proxy.Endpoint {
	e := proxy.EndpointOf(f)
	if f.Reliable() {
		e.Remote.Port = 0 // the far port of a connection accepts none
	}
	return e
}

// firstHop refuses a phone that asks for an outbound flow from behind another proxy (RFC 5626 §6): the flow would be that
// proxy's, and it cannot say which of its own leads to the phone, as this registrar does not take a Path.
func firstHop(req *sip.Request) *refusal {
	if !hasTag(req, "supported", "outbound") || len(req.GetHeaders("via")) < 2 {
		return nil
	}
	for _, h := range message.Contacts(req) {
		if _, ok := param(h.Params, "reg-id"); ok {
			return refuse(439, "First Hop Lacks Outbound Support", "there is another proxy between the phone and this node; let the phone register with the node itself, or without reg-id")
		}
	}
	return nil
}

// flows checks what the phone asks for with reg-id, and drops it where it is not to be had (RFC 5626 §6).
func flows(req *sip.Request, claims []claim) *refusal {
	supported := hasTag(req, "supported", "outbound") || hasTag(req, "require", "outbound")
	n := 0
	for i := range claims {
		c := &claims[i]
		if !supported {
			c.regID = 0
		}
		if c.regID > 0 && c.expires > 0 {
			n++
		}
	}
	if n > 0 && len(claims) > 1 {
		return refuse(400, "Several Contacts with reg-id", "a REGISTER with reg-id has one contact")
	}
	return nil
}

// replaces says that a contact of the device id takes the place of a binding. Flows of one instance stand beside one
// another, told apart by reg-id alone; a phone that has begun to use them has no other binding (RFC 5626 §6).
func replaces(id string, c *claim, p *phone) bool {
	switch {
	case p.id == id:
		return p.regID == c.regID || p.regID == 0 || c.regID == 0
	case c.regID > 0 && p.instance != "", p.regID > 0:
		return false
	}
	return equalURI(p.uri, c.uri)
}
