package sim

import (
	"p2psip/interwork/phone"
)

// The draft's call flows, by its sections.
const flowOverlay = "5.1" // caller and callee within the overlay

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
