package node

import (
	"context"
	"time"

	"p2psip/proxypeer"
)

// Binding is what the DNS makes of the overlay's identifier, as this proxy peer sees it. Nothing depends on it: a proxy peer
// without a binding carries calls out.
type Binding struct {
	Asked time.Time `json:"asked"`
	Bound bool      `json:"bound"` // calls from outside find this proxy peer
	Known bool      `json:"known"` // the name servers gave an answer
	Why   string    `json:"why"`
	Hint  string    `json:"hint,omitempty"`
}

const (
	// boundFor is how long a binding that is there is not looked at again, and unboundFor one that is not.
	boundFor   = time.Hour
	unboundFor = 5 * time.Minute
	// bindingTime is what one look may take.
	bindingTime = 20 * time.Second
)

// watchBinding looks at the overlay's binding in the DNS now and then until ctx ends.
func (n *Node) watchBinding(ctx context.Context) {
	c := n.cfg.ProxyPeer
	if c.Unlisted || c.Locator != nil || len(c.DNS) == 0 && n.border.Loopback() {
		return // not wanted, or there is no DNS, or nobody outside can reach this machine whatever it says
	}
	for ctx.Err() == nil {
		b := n.lookAtBinding(ctx)
		wait := unboundFor
		if b.Bound {
			wait = boundFor
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		case <-n.rebind:
		}
	}
}

func (n *Node) lookAtBinding(ctx context.Context) proxypeer.Binding {
	ask, cancel := context.WithTimeout(ctx, bindingTime)
	defer cancel()
	b := n.border.Binding(ask, n.cfg.Now())
	if ctx.Err() != nil {
		return b
	}
	last := n.binding.Swap(&Binding{b.Asked.UTC(), b.Bound, b.Known, b.Why, b.Hint})
	if last == nil || last.Bound != b.Bound || last.Known != b.Known {
		if b.Bound {
			n.log.Info("calls from outside find this proxy peer", "dns", b.Why)
		} else {
			n.log.Warn("calls from outside do not find this proxy peer", "dns", b.Why, "hint", b.Hint)
		}
	}
	return b
}

// bindingProblems warns of a proxy peer that nobody outside finds.
func bindingProblems(b *Binding) []Problem {
	if b == nil || b.Bound {
		return nil
	}
	return []Problem{{b.Why, b.Hint}}
}
