package media

import (
	"context"

	"p2psip/overlay"
)

// Manager anchors the calls of a node. All methods may be called by any goroutine.
type Manager struct {
	cfg Config
}

// New starts a Manager. Close ends it.
func New(cfg Config) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Manager{cfg: cfg.withDefaults()}, nil
}

// Open is asked for every request between a phone beside this node and elsewhere that may carry a description (INVITE,
// UPDATE, PRACK), in the order in which they pass. nil: its bodies pass untouched.
func (m *Manager) Open(d Dialog) Exchange { return nil }

// Find gives the exchange that an ACK belongs to, or a response whose transaction has ended; nil where there is none.
func (m *Manager) Find(d Dialog) Exchange { return nil }

// End says that a dialog is over: BYE was answered, or the INVITE failed. Unknown dialogs are ignored.
func (m *Manager) End(callID, fromTag, toTag string) {}

// Warm gathers candidates before they are needed; called when a phone registers.
func (m *Manager) Warm() {}

// Renegotiated takes an offer to restart ICE that a node sent over its authenticated stream, and gives the answer.
func (m *Manager) Renegotiated(ctx context.Context, node overlay.NodeID, token string, offer []byte) ([]byte, error) {
	return nil, errNoSession
}

// AddressesChanged makes the Manager look at the addresses of this machine now instead of within half a second.
func (m *Manager) AddressesChanged() {}

// Status tells how every call is.
func (m *Manager) Status() Status { return Status{} }

// Close ends all sessions and waits for every goroutine.
func (m *Manager) Close() {}
