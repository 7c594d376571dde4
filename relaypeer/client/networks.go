package client

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// headStart is how much longer than the transport before it one is tried: long enough for a round trip to most of the
	// world, short enough not to be noticed (in the manner of RFC 8305).
	headStart = 300 * time.Millisecond
	// stagger is between two addresses with the same transport, as those of both families.
	stagger = 100 * time.Millisecond
	// rememberUDP and rememberStream are how long it is remembered what works in a network. That UDP does not is forgotten
	// sooner, because it costs more to be wrong about.
	rememberUDP    = 24 * time.Hour
	rememberStream = 20 * time.Minute
)

// networks remembers which transport got through from which network this machine has been in. It is guarded by Pool.mu.
type networks struct {
	list []network // the one seen last first
}

type network struct {
	key       string // the machine's addresses
	transport Transport
	until     time.Time
	udp       time.Time // when UDP last got through
}

// networkKey tells networks apart by the addresses that this machine has in them.
func networkKey(addrs []netip.Addr) string {
	list := make([]string, len(addrs))
	for i, a := range addrs {
		if a.Is6() && !a.Is4In6() { // privacy addresses change while the network stays
			if p, err := a.Prefix(64); err == nil {
				a = p.Addr()
			}
		}
		list[i] = a.String()
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " ")
}

// worked notes that a transport got through.
func (n *networks) worked(key string, t Transport, now time.Time) {
	x := network{key: key}
	if i := n.index(key); i >= 0 {
		x = n.list[i]
		n.list = slices.Delete(n.list, i, i+1)
	}
	switch {
	case t == UDP:
		x.transport, x.udp, x.until = UDP, now, now.Add(rememberUDP)
	case !x.udp.IsZero() && now.Sub(x.udp) < rememberStream:
		// UDP gets through here; it is this relay peer's that does not.
	case x.transport != t || !now.Before(x.until): // not for longer while it works: UDP is tried again
		x.transport, x.until = t, now.Add(rememberStream)
	}
	n.list = slices.Insert(n.list, 0, x)
	if len(n.list) > maxNetworks {
		n.list = n.list[:maxNetworks]
	}
}

func (n *networks) index(key string) int {
	return slices.IndexFunc(n.list, func(x network) bool { return x.key == key })
}

// best gives the transport that is remembered for a network, "" if there is none.
func (n *networks) best(key string, now time.Time) Transport {
	if i := n.index(key); i >= 0 && now.Before(n.list[i].until) {
		return n.list[i].transport
	}
	return ""
}

// heat is one endpoint in a race, and how long after the first it starts unless all before it have failed.
type heat struct {
	endpoint
	after time.Duration
}

// lineup puts endpoints in the order of a race: what works in this network first, then UDP, TCP and TLS.
func lineup(ends []endpoint, first Transport) (out []heat) {
	order := transports()
	if i := slices.Index(order, first); i > 0 {
		order = append([]Transport{first}, slices.Delete(order, i, i+1)...)
	}
	start := time.Duration(0)
	for _, t := range order {
		n := 0
		for _, e := range ends {
			if e.transport == t {
				out = append(out, heat{e, start + time.Duration(n)*stagger})
				n++
			}
		}
		if n > 0 {
			start += headStart
		}
	}
	return out
}
