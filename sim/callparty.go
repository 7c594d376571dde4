package sim

import (
	"math/rand/v2"

	"p2psip/interwork/phone"
)

// The draft's call flows, by its sections.
const (
	flowOverlay = "5.1" // caller and callee within the overlay
	flowOut     = "5.2" // callee within a public SIP network
	flowIn      = "5.3" // caller within a public SIP network
	flowHome    = "5.4" // callee registered in a public network from the overlay
)

// flowNames gives them in words.
var flowNames = map[string]string{
	flowOverlay: "5.1 within the overlay", flowOut: "5.2 out of the overlay",
	flowIn: "5.3 into the overlay", flowHome: "5.4 by a public address",
}

var _ party = (*user)(nil)

func (u *user) present() *phone.Phone {
	u.node.mu.Lock()
	defer u.node.mu.Unlock()
	return u.phone
}

func (u *user) uri() string { return u.aor.String() }

func (u *user) keeps(callID string) bool {
	u.node.mu.Lock()
	full := u.node.full
	u.node.mu.Unlock()
	if full == nil {
		return false
	}
	for _, c := range full.Calls() {
		if c.CallID == callID {
			return true
		}
	}
	return false
}

// userOf gives the user of the overlay at an end of a call, nil for others.
func userOf(p party) *user {
	switch p := p.(type) {
	case *user:
		return p
	case homed:
		return p.user
	}
	return nil
}

// parties draws the two ends of a call: a caller who is at home, and a callee who may be; nil while there are none. The
// number of draws is always the same.
func (r *run) parties(d *rand.Rand, flow string) (from, to party) {
	x, y := d.Float64(), d.Float64()
	k := r.calls
	r.mu.Lock()
	defer r.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(r.registered) == 0 || len(k.book) < 2 {
		return nil, nil
	}
	caller := r.registered[int(x*float64(len(r.registered)))]
	at := int(y * float64(len(k.book)))
	callee := k.book[at]
	switch flow {
	case flowOut:
		return caller, r.border.any(y)
	case flowIn:
		return r.border.any(x), callee
	case flowHome:
		return r.border.any(x), homed{callee, r.border}
	}
	if callee == caller {
		callee = k.book[(at+1)%len(k.book)]
	}
	return caller, callee
}
