package node

import (
	"context"

	"p2psip/interwork/edge"
	"p2psip/interwork/proxy"
	"p2psip/overlay"
)

// publisher puts what the phones have registered into the overlay.
type publisher struct {
	overlay *overlay.Peer
	phones  func() // hears that there are some
}

var _ edge.Publisher = publisher{}

func (p publisher) Publish(ctx context.Context, aor overlay.AOR, devices []overlay.Device) error {
	if len(devices) > 0 {
		p.phones()
	}
	return p.overlay.Registrations().Set(ctx, aor, devices)
}

// retire takes out of the overlay who was registered when the node last ran and has no phone any more. It must be called
// before a phone can register; it does not wait for the overlay.
func (p publisher) retire(e *edge.Edge) {
	has := map[overlay.AOR]bool{}
	for aor := range e.Registered() {
		has[aor] = true
	}
	past, cancel := context.WithCancel(context.Background())
	cancel() // Set takes the change in and goes on in the background
	for _, aor := range p.overlay.Registrations().Remembered() {
		if !has[aor] {
			_ = p.overlay.Registrations().Set(past, aor, nil)
		}
	}
}

// locator finds users.
type locator struct{ overlay *overlay.Peer }

var (
	_ proxy.Locator = locator{}
	_ proxy.Search  = (*overlay.Lookup)(nil)
)

func (l locator) Locate(ctx context.Context, aor overlay.AOR) proxy.Search {
	return l.overlay.Lookup(ctx, aor)
}
