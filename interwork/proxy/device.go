package proxy

import (
	"slices"
	"time"

	"p2psip/overlay"
)

// A GRUU names one device (RFC 5627 §3): a request for it never goes to two places at a time, and goes to a second one only
// when the device was not at the first. An address that names no device the overlay knows is answered 404, one of a device
// that is away 480.

// decideGRUU finds the way of a request for a URI of the overlay with a gr parameter.
func (c *Core) decideGRUU(r *request, lookup bool) way {
	g, ok := c.cfg.Edge.ReadGRUU(r.uri)
	switch {
	case !ok:
		return way{kind: refuse, status: 404, reason: "Not Found", warning: "no device of this overlay has or still has this address"}
	case g.Node != "" && !lookup:
		return way{kind: refuse, status: 404, reason: "Not Found", warning: "the address is another node's"}
	case g.Node != "":
		return way{kind: toTarget, target: Target{Node: g.Node}}
	case g.Place != nil && g.Place.Flow == nil:
		return way{kind: refuse, status: 480, reason: "Temporarily Unavailable", warning: "the flow to the phone has ended"}
	case g.Place != nil:
		return way{kind: toTarget, target: *g.Place}
	}
	return way{kind: toUser, aor: g.AOR, gruu: g.Device, hasGRUU: true, known: g.Known, lookup: lookup && !g.Local}
}

// device keeps the one target that a GRUU names.
func (w *way) device(targets []Target) []Target {
	if !w.hasGRUU {
		return targets
	}
	i := slices.IndexFunc(targets, func(t Target) bool { return t.ID == w.gruu })
	if i < 0 {
		return nil
	}
	return targets[i : i+1]
}

// deviceNodes gives the nodes of a record to ask for the device of a GRUU, one after the other: first those that say they
// have it, the newest in front. The others are asked too: they know whether they ever had it. Called under x.mu.
func (x *responseContext) deviceNodes(rec overlay.Record, now time.Time) (targets []Target) {
	add := func(has bool, top uint16) {
		for _, n := range rec.Live(now) {
			here := slices.ContainsFunc(n.Devices, func(d overlay.Device) bool { return d.ID == x.w.gruu })
			if here == has && n.Node != x.c.self && !slices.Contains(x.nodes, n.Node) {
				x.nodes = append(x.nodes, n.Node)
				targets = append(targets, Target{Node: n.Node, Addrs: n.Addrs, Q: top - uint16(min(len(x.nodes), topQ/2-1))})
			}
		}
	}
	add(true, topQ+1)
	add(false, topQ/2)
	return targets
}

// absent says that a response does not come from the device that was asked for, but from a place where it is not.
func absent(status int) bool {
	switch status {
	case 404, 408, 410, 430, 480, 500, 503:
		return true
	}
	return false
}
