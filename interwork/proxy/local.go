package proxy

import "github.com/emiago/sipgo/sip"

// allow lists what this node answers itself. Everything else is carried.
const allow = "OPTIONS, REGISTER"

// serve answers a request for this node itself: no user part, nothing to route to (§16.3 and §11).
func (c *Core) serve(r *request) {
	switch r.method {
	case sip.OPTIONS:
		c.answer(r, 200, "OK",
			sip.NewHeader("Allow", allow),
			sip.NewHeader("Accept", "application/sdp"),
			sip.NewHeader("Supported", "gruu, outbound"))
	case sip.BYE, sip.INFO, sip.UPDATE, sip.PRACK, sip.NOTIFY:
		c.answer(r, 481, "Call/Transaction Does Not Exist")
	default:
		if r.toTag != "" {
			c.answer(r, 481, "Call/Transaction Does Not Exist")
			return
		}
		c.answer(r, 404, "Not Found", c.warning("the address has no user part"))
	}
}
